package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// fireRows is how many rows of a conversation are read at once.
	fireRows = 100
	// fireConversations is how many conversations of a batch are sent to at once: mostly
	// they wait for the log.
	fireConversations = 16
)

// fire sends what is due in a conversation up to a row, in due order. The order of the
// effects is the contract ([J10]):
//
//  1. claim: the rows are in queue, so that nobody changes or cancels them any more
//  2. decide, and keep what was decided: of two who decide the first counts, and who does
//     this again sends what was decided then; what fails ends here, and its author is told
//  3. produce, one after the other, each until the log has it, under the row's own client
//     message ID; then they are sent
//
// Who dies anywhere leaves rows in queue and the record in the log: it is done again, and
// what is in the log twice is stored once. It fails only where the assignment has ended.
func (d *delay) fire(ctx context.Context, c im.ConversationID, to im.FireTask, advance func()) error {
	for {
		rows, err := insist(ctx, d.r, "claim_scheduled", func(ctx context.Context) ([]im.Scheduled, error) {
			return d.schedules.ClaimScheduled(ctx, c, to, queuedFor, fireRows)
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := d.r.step("claim"); err != nil {
			return &endedError{err}
		}
		advance()
		todo := undecided(rows)
		if len(todo) > 0 {
			err = d.decide(ctx, c, todo) // and read what then stands
		} else {
			err = d.send(ctx, c, rows)
		}
		if err != nil {
			return err
		}
	}
}

func undecided(rows []im.Scheduled) []*im.Scheduled {
	var all []*im.Scheduled
	for i := range rows {
		if !rows[i].Decided {
			all = append(all, &rows[i])
		}
	}
	return all
}

// decide says what becomes of rows: what is stored under their name already ends here, by
// what that says, the others as logic decides.
func (d *delay) decide(ctx context.Context, c im.ConversationID, rows []*im.Scheduled) error {
	keys := make([]im.SendKey, len(rows))
	for i, row := range rows {
		keys[i] = im.SendKey{Conversation: c, Sender: row.Sender, ClientMsgID: row.ClientMsgID}
	}
	stored, err := insist(ctx, d.r, "find_stored", func(ctx context.Context) (map[im.SendKey]im.StoredRef, error) {
		return d.r.deps.Archive.FindStored(ctx, keys)
	})
	if err != nil {
		return err
	}
	var said []im.ScheduleID
	var decisions []im.ScheduleDecision
	refusals := make(map[im.ScheduleID]error)
	for i, row := range rows {
		ref, there := stored[keys[i]]
		var task *im.SendTask
		var request []byte
		var refusal error
		switch {
		case there && ref.Hash != row.Hash:
			refusal = im.ErrMsgIDConflict
		case there && ref.Parked:
			refusal = im.ErrUnstorable
		case !there:
			if task, request, refusal, err = d.ask(ctx, row); err != nil {
				return err
			}
		}
		switch {
		case refusal != nil:
			refusals[row.ID] = refusal
			decisions = append(decisions, im.ScheduleDecision{ID: row.ID, Refused: protocol.CodeOf(refusal).Name})
		case task != nil:
			decisions = append(decisions, im.ScheduleDecision{ID: row.ID, Request: request})
		default:
			said = append(said, row.ID)
		}
	}
	failed, err := insist(ctx, d.r, "keep_decisions", func(ctx context.Context) ([]im.ScheduleID, error) {
		return d.schedules.KeepDecisions(ctx, decisions)
	})
	if err != nil {
		return err
	}
	if err := d.r.step("keep"); err != nil {
		return &endedError{err}
	}
	for _, row := range rows {
		for _, id := range failed {
			if id == row.ID {
				d.failed(ctx, row, refusals[id])
			}
		}
	}
	return d.sent(ctx, said, "duplicate")
}

// ask has logic decide: a task and the request with that in it, or a refusal, or neither
// where it is stored. While it cannot say, this waits; what it fails at though nothing is
// away is refused after as many attempts as a batch has. The error is of the assignment,
// which has ended.
func (d *delay) ask(ctx context.Context, row *im.Scheduled) (task *im.SendTask, request []byte, refusal, err error) {
	for try, unknown := 0, 0; ; try++ {
		task, request, err := d.decider.Decide(ctx, *row)
		var no *im.RejectedError
		switch {
		case err == nil:
			return task, request, nil, nil
		case ctx.Err() != nil:
			return nil, nil, nil, ctx.Err()
		case errors.As(err, &no):
			return nil, nil, no.Cause, nil
		case protocol.CodeOf(err).Name == "internal":
			if unknown++; unknown >= d.r.set().Attempts {
				d.r.log.Error("a scheduled message cannot be decided", "conv", row.Conversation, "schedule", row.ID, "err", err)
				return nil, nil, err, nil
			}
		}
		if err := d.r.backoff(ctx, "decide", try, err); err != nil {
			return nil, nil, nil, err
		}
	}
}

// failed tells the author.
func (d *delay) failed(ctx context.Context, row *im.Scheduled, cause error) {
	d.r.m.scheduled.WithLabelValues("failed").Inc()
	p := d.r.newPusher(ctx, []im.UserID{row.Sender})
	p.rejected(row.Conversation, &im.SendTask{Sender: im.Sender{ID: row.Sender}, ClientMsgID: row.ClientMsgID}, cause)
	p.publish(ctx)
}

// send puts what was decided into the log. Each is waited for before the next is handed
// over: one that the log refuses while it takes the next would change their order.
func (d *delay) send(ctx context.Context, c im.ConversationID, rows []im.Scheduled) error {
	ids := make([]im.ScheduleID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
		task, _, refusal, err := d.ask(ctx, &rows[i])
		if err != nil {
			return err
		}
		if refusal != nil || task == nil { // what was kept cannot be read: a bug
			d.r.log.Error("what was decided of a scheduled message cannot be sent", "conv", c, "schedule", rows[i].ID, "err", refusal)
			continue
		}
		if err := d.produce(ctx, im.Task{Conversation: c, Send: task}); err != nil {
			return err
		}
		d.r.m.scheduledLate.Observe(time.Since(time.UnixMilli(rows[i].DueAt)).Seconds())
		if err := d.r.step("produce"); err != nil {
			return &endedError{err}
		}
	}
	return d.sent(ctx, ids, "sent")
}

// produce returns when the log has the task, or with the error of ctx.
func (d *delay) produce(ctx context.Context, t im.Task) error {
	for try := 0; ; try++ {
		answer := make(chan error, 1)
		d.realtime.Produce(t, func(err error) { answer <- err })
		err := <-answer // within 5 s
		if err == nil {
			return nil
		}
		if err := d.r.backoff(ctx, "produce", try, err); err != nil {
			return err
		}
	}
}

func (d *delay) sent(ctx context.Context, ids []im.ScheduleID, result string) error {
	if len(ids) == 0 {
		return nil
	}
	if _, err := insist(ctx, d.r, "sent_scheduled", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, d.schedules.SentScheduled(ctx, ids)
	}); err != nil {
		return err
	}
	d.r.m.scheduled.WithLabelValues(result).Add(float64(len(ids)))
	if err := d.r.step("sent"); err != nil {
		return &endedError{err}
	}
	return nil
}
