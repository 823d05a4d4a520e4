package jobs

import (
	"context"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// lookEvery is how often the owner of a partition looks for what is due, where nothing
	// that it knows of is due earlier: a message scheduled for less than that from now, or
	// sent at once, is late by as much.
	lookEvery = 500 * time.Millisecond
	// lookRows bounds what one look takes; where as many are due the next follows at once,
	// while fewer than firesInHand are on their way.
	lookRows = 200
	// queuedFor is how long a row may be in queue before it is told again: the log has a
	// record of it, unless that was lost.
	queuedFor  = 30 * time.Second
	againEvery = 5 * time.Second
	// firesInHand is with how many records of its own unfinished a partition looks for no
	// more: what is due waits in MySQL, and what a rebalance must wait for stays little. (With
	// 1,000 each used up its 8 s.)
	firesInHand = 100
	// finalFor is how long rows are kept that are final; sweepEvery and sweepRows how many
	// are removed at once.
	finalFor   = 30 * 24 * time.Hour
	sweepEvery = time.Minute
	sweepRows  = 1000
)

// looker finds what is due in one partition, for as long as this process owns it.
type looker struct {
	d         *delay
	partition int
	inHand    func() int // records of the partition taken and not finished
	again     time.Time  // when rows in queue are looked at
	sweep     time.Time
	failed    int // looks in a row
}

// run looks until ctx ends.
func (l *looker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait, err := l.look(ctx)
		switch {
		case err == nil:
			l.failed = 0
		case ctx.Err() != nil:
			return
		default:
			if l.failed == 0 {
				l.d.r.log.Warn("look for what is due", "partition", l.partition, "err", err)
			}
			l.failed++
			wait = lookEvery << min(l.failed, 2)
		}
		timer.Reset(wait)
	}
}

// look tells the log of what is due and returns how long there is nothing more to do.
func (l *looker) look(ctx context.Context) (time.Duration, error) {
	inHand := l.inHand()
	if inHand >= firesInHand {
		return lookEvery, nil
	}
	now := time.Now()
	if inHand == 0 && now.After(l.again) { // what waits for its turn is not lost
		l.again = now.Add(againEvery)
		lost, err := l.d.due(ctx, l.partition, im.ScheduleQueued, 0)
		if err == nil {
			err = l.d.tell(ctx, lost)
		}
		if err != nil {
			return 0, err
		}
	}
	rows, err := l.d.due(ctx, l.partition, im.SchedulePending, lookEvery)
	if err != nil {
		return 0, err
	}
	due := 0
	for due < len(rows) && rows[due].In <= 0 {
		due++
	}
	if err := l.d.tell(ctx, rows[:due]); err != nil {
		return 0, err
	}
	switch {
	case due == lookRows:
		return 0, nil
	case due < len(rows):
		return time.Duration(rows[due].In) * time.Millisecond, nil
	}
	if l.partition == 0 && now.After(l.sweep) {
		l.sweep = now.Add(sweepEvery)
		_, err := callStore(ctx, l.d.r, "forget_scheduled", func(ctx context.Context) (int, error) {
			return l.d.schedules.ForgetScheduled(ctx, finalFor, sweepRows)
		})
		if err != nil {
			return 0, err
		}
	}
	return lookEvery, nil
}

func (d *delay) due(ctx context.Context, partition int, state im.ScheduleState, ahead time.Duration) ([]im.DueSchedule, error) {
	return callStore(ctx, d.r, "due_scheduled", func(ctx context.Context) ([]im.DueSchedule, error) {
		return d.schedules.DueScheduled(ctx, partition, state, ahead, lookRows)
	})
}

// tell puts one record for each conversation into the log, up to the last of its rows, and
// then notes that they are in queue. Who dies in between leaves them pending, to be told
// again: a record too many finds nothing to do, one too few would be a message late. The
// log's refusal likewise leaves them pending.
func (d *delay) tell(ctx context.Context, rows []im.DueSchedule) error {
	if len(rows) == 0 {
		return nil
	}
	if err := d.r.step("due"); err != nil {
		return err
	}
	last := make(map[im.ConversationID]im.FireTask)
	for _, row := range rows { // by due time, but of those in queue by when they were told
		raiseFire(last, row.Conversation, im.FireTask{Schedule: row.ID, DueAt: row.DueAt})
	}
	type told struct {
		conv im.ConversationID
		err  error
	}
	answers := make(chan told, len(last))
	for c, to := range last {
		d.lane.Produce(im.Task{Conversation: c, Fire: &to}, func(err error) { answers <- told{c, err} })
	}
	var failed error
	for range len(last) {
		a := <-answers // each comes within 5 s
		if a.err != nil {
			delete(last, a.conv)
			failed = a.err
		}
	}
	d.r.m.fires.Add(float64(len(last)))
	if err := d.r.step("told"); err != nil {
		return err
	}
	ids := make([]im.ScheduleID, 0, len(rows))
	for _, row := range rows {
		if _, ok := last[row.Conversation]; ok {
			ids = append(ids, row.ID)
		}
	}
	if len(ids) > 0 {
		if _, err := callStore(ctx, d.r, "queue_scheduled", func(ctx context.Context) (struct{}, error) {
			return struct{}{}, d.schedules.QueueScheduled(ctx, ids, queuedFor)
		}); err != nil {
			return err
		}
	}
	return failed
}
