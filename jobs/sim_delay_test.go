package jobs

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// life is one process that owns the partition, until ctx ends or it crashes.
func (f *shelf) life(ctx context.Context, t *testing.T, steps func(string) error) {
	r := newTestRunner(t, quickConfig(), f.w, steps)
	d := &delay{r: r, schedules: f, decider: f,
		lane:     f.produceTo(func(t im.Task) { f.fires = append(f.fires, t) }),
		realtime: f.produceTo(func(t im.Task) { f.sent = append(f.sent, landed{t, f.now}) }),
	}
	var wg sync.WaitGroup
	ctx, crash := context.WithCancel(ctx)
	defer crash()
	f.mu.Lock()
	at := f.done
	f.mu.Unlock()
	wg.Go(func() {
		l := looker{d: d, inHand: func() int { return 0 }}
		for ctx.Err() == nil {
			l.again = time.Time{}
			if _, err := l.look(ctx); errors.Is(err, errCrash) {
				crash()
			}
			f.store(false)
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			f.mu.Lock()
			upTo := min(at+f.w.chance.intn(5), len(f.fires))
			last := make(map[im.ConversationID]im.FireTask)
			for _, t := range f.fires[at:upTo] {
				raiseFire(last, t.Conversation, *t.Fire)
			}
			if len(last) == 0 {
				f.now++
			}
			f.mu.Unlock()
			if err := d.fireAll(ctx, last, func() {}); err != nil {
				crash()
				return
			}
			at = upTo
			f.mu.Lock()
			f.done = max(f.done, at)
			f.mu.Unlock()
		}
	})
	wg.Wait()
}

// ended says that nothing is left to do.
func (f *shelf) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range f.rows {
		if row.State == im.SchedulePending || row.State == im.ScheduleQueued {
			return false
		}
	}
	return f.done == len(f.fires)
}

func (f *shelf) check(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := make(map[im.ClientMsgID]*landed)
	last := make(map[im.ConversationID]int64)
	byID := make(map[im.ClientMsgID]*im.Scheduled)
	for _, row := range f.rows {
		byID[row.ClientMsgID] = row
	}
	for i := range f.sent {
		l := &f.sent[i]
		row := byID[l.task.Send.ClientMsgID]
		if before := first[row.ClientMsgID]; before != nil {
			if string(before.task.Send.Content) != string(l.task.Send.Content) {
				t.Errorf("%s: sent as %s and as %s", row.ID, before.task.Send.Content, l.task.Send.Content)
			}
			continue
		}
		first[row.ClientMsgID] = l
		if l.at < row.DueAt {
			t.Errorf("%s: due at %d, sent at %d", row.ID, row.DueAt, l.at)
		}
		if row.DueAt < last[row.Conversation] {
			t.Errorf("%s: due at %d, sent after one due at %d", row.ID, row.DueAt, last[row.Conversation])
		}
		last[row.Conversation] = row.DueAt
	}
	for id, row := range f.rows {
		if in := first[row.ClientMsgID] != nil; in != (row.State == im.ScheduleSent) || f.cancelled[id] != (row.State == im.ScheduleCancelled) ||
			f.broken[id] && row.State == im.ScheduleSent {
			t.Errorf("%s is %s %s, in the log %v, cancelled %v, broken %v", id, row.State, row.Reason, in, f.cancelled[id], f.broken[id])
		}
	}
}

// TestDelaySimulation_AnyInterleavingFiresOnce is one seeded life after the other: owners
// that die between any two steps, two at once, a store and a log that fail before and
// after the deed, authors who change their mind, a logic that changes its own. Seeds as in
// TestSimulation_AnyInterleavingLosesNothing. [J10]
func TestDelaySimulation_AnyInterleavingFiresOnce(t *testing.T) {
	from, n := uint64(1), uint64(60)
	if one, err := strconv.ParseUint(os.Getenv("CURLEW_SIM_SEED"), 10, 64); err == nil {
		from, n = one, 1
	} else if many, err := strconv.ParseUint(os.Getenv("CURLEW_SIM_SEEDS"), 10, 64); err == nil {
		n = many
	}
	for seed := from; seed < from+n && !t.Failed(); seed++ {
		simulateDelay(t, seed)
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}
}

func simulateDelay(t *testing.T, seed uint64) {
	w := newWorld(seed)
	c := w.chance
	if c.intn(3) > 0 {
		w.faults = float64(c.intn(20)) / 100
	}
	f := newShelf(w)
	f.refuses = float64(c.intn(3)) / 5
	convs := []im.ConversationID{"d1-2", "d1-3", "c5"}
	rows := 5 + c.intn(40)
	for range rows {
		id := f.put(convs[c.intn(len(convs))], 1, f.now+int64(c.intn(80)))
		f.broken[id] = c.intn(20) == 0
	}
	author := make(chan struct{})
	go func() {
		defer close(author)
		for range 3 * rows {
			f.change(im.ScheduleID(1+c.intn(rows)), c.intn(6)) // half of them nothing
			time.Sleep(time.Duration(c.intn(20)) * time.Microsecond)
		}
	}()
	var lives sync.WaitGroup
	for range 1 + c.intn(6) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		ended := make(chan struct{})
		lives.Go(func() {
			defer cancel()
			defer close(ended)
			f.life(ctx, t, func(string) error {
				if c.hits(0.05) {
					return errCrash
				}
				return nil
			})
		})
		if c.intn(3) > 0 {
			<-ended
		}
	}
	lives.Wait()
	<-author
	c.stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := make(chan struct{})
	go func() {
		defer close(last)
		f.life(ctx, t, nil)
	}()
	for end := time.Now().Add(20 * time.Second); !f.ended(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("not everything ends")
			break
		}
		f.mu.Lock()
		f.now += queuedFor.Milliseconds() / 4
		f.mu.Unlock()
	}
	cancel()
	<-last
	f.check(t)
}
