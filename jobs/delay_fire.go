package jobs

import (
	"context"
	"errors"
	"maps"
	"slices"
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
		shots, err := d.decide(ctx, rows, advance)
		if err != nil {
			return err
		}
		if err := d.send(ctx, c, shots, advance); err != nil {
			return err
		}
		if len(shots) == len(rows) && len(rows) < fireRows {
			return nil // there is no more
		}
	}
}

// shot is a row with what was decided of it.
type shot struct {
	row  *im.Scheduled
	task *im.SendTask // nil: it has ended
}

// decide says what becomes of rows: what is stored under their name already ends here, by
// what that says, the others as logic decides, or has. It returns those of whom that
// stands, up to the first that somebody else has decided meanwhile: it is to be read
// again, and goes out before what is due after it.
func (d *delay) decide(ctx context.Context, rows []im.Scheduled, advance func()) ([]shot, error) {
	stored, err := d.stored(ctx, rows)
	if err != nil {
		return nil, err
	}
	shots := make([]shot, len(rows))
	var said []im.ScheduleID
	var decisions []im.ScheduleDecision
	refusals := make(map[im.ScheduleID]error)
	for i := range rows {
		row := &rows[i]
		var request []byte
		var refusal error
		shots[i].row = row
		switch ref, there := stored[nameOf(row)]; {
		case !there:
			if shots[i].task, request, refusal, err = d.ask(ctx, row); err != nil {
				return nil, err
			}
		case ref.Hash != row.Hash:
			refusal = im.ErrMsgIDConflict
		case ref.Parked:
			refusal = im.ErrUnstorable
		}
		advance() // of a slow store each may take seconds
		switch {
		case row.Decided && shots[i].task != nil:
		case row.Decided: // what was kept cannot be read: a bug
			d.r.log.Error("what was decided of a scheduled message cannot be sent", "conv", row.Conversation, "schedule", row.ID, "err", refusal)
			said = append(said, row.ID)
		case refusal != nil:
			refusals[row.ID] = refusal
			decisions = append(decisions, im.ScheduleDecision{ID: row.ID, Refused: protocol.CodeOf(refusal).Name})
		case shots[i].task != nil:
			decisions = append(decisions, im.ScheduleDecision{ID: row.ID, Request: request})
		default:
			said = append(said, row.ID)
		}
	}
	if len(decisions) > 0 {
		if shots, err = d.keep(ctx, shots, decisions, refusals, advance); err != nil {
			return nil, err
		}
	}
	return shots, d.sent(ctx, said, "duplicate")
}

func nameOf(row *im.Scheduled) im.SendKey {
	return im.SendKey{Conversation: row.Conversation, Sender: row.Sender, ClientMsgID: row.ClientMsgID}
}

// stored is what is in the table under the names of rows that are not decided yet.
func (d *delay) stored(ctx context.Context, rows []im.Scheduled) (map[im.SendKey]im.StoredRef, error) {
	var keys []im.SendKey
	for i := range rows {
		if !rows[i].Decided {
			keys = append(keys, nameOf(&rows[i]))
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return insist(ctx, d.r, "find_stored", func(ctx context.Context) (map[im.SendKey]im.StoredRef, error) {
		return d.r.deps.Archive.FindStored(ctx, keys)
	})
}

// keep keeps what was decided, before anything is sent, and tells the authors of what
// fails. What it returns ends before the first row of which something else stands. What
// was kept before a store failed is not asked again: one that is slow gets to the end.
func (d *delay) keep(ctx context.Context, shots []shot, decisions []im.ScheduleDecision, refusals map[im.ScheduleID]error,
	advance func()) ([]shot, error) {
	stand := make(map[im.ScheduleID]bool, len(decisions))
	if _, err := insist(ctx, d.r, "keep_decisions", func(ctx context.Context) (struct{}, error) {
		some, err := d.schedules.KeepDecisions(ctx, decisions)
		if len(some) > 0 {
			maps.Copy(stand, some)
			decisions = slices.DeleteFunc(decisions, func(d im.ScheduleDecision) bool { _, said := some[d.ID]; return said })
			advance()
		}
		return struct{}{}, err
	}); err != nil {
		return nil, err
	}
	if err := d.r.step("keep"); err != nil {
		return nil, &endedError{err}
	}
	upTo := len(shots)
	for i, s := range shots {
		stands, asked := stand[s.row.ID]
		switch refusal := refusals[s.row.ID]; {
		case asked && !stands:
			upTo = min(upTo, i)
		case refusal != nil:
			d.failed(ctx, s.row, refusal)
		}
	}
	return shots[:upTo], nil
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
func (d *delay) send(ctx context.Context, c im.ConversationID, shots []shot, advance func()) error {
	ids := make([]im.ScheduleID, 0, len(shots))
	for _, s := range shots {
		if s.task == nil {
			continue
		}
		if err := d.produce(ctx, im.Task{Conversation: c, Send: s.task}); err != nil {
			return err
		}
		advance()
		ids = append(ids, s.row.ID)
		d.r.m.scheduledLate.Observe(time.Since(time.UnixMilli(s.row.DueAt)).Seconds())
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
