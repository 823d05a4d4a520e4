package logic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// schedule notes a send for its time. All that would refuse it now refuses it now, and
// all of it is asked again when it is due ([L13]).
func (s *Service) schedule(ctx context.Context, a author, req *protocol.Send) (protocol.Sent, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	now := s.now()
	if err := checkDue(req.DeliverAt, now); err != nil {
		return protocol.Sent{}, err
	}
	w, err := s.word(ctx, a, req)
	if err != nil {
		return protocol.Sent{}, err
	}
	if err := s.countWord(ctx, a, &w); err != nil {
		return protocol.Sent{}, err
	}
	// A retry is answered as what it repeats, whatever has been forbidden since: that
	// waits for its time, and refused means that it never appears ([L1]).
	if sent, err := s.scheduledBefore(ctx, &w); err != nil || sent != nil {
		return deref(sent), err
	}
	_, _, stored, err := s.judge(ctx, a, req, &w, now)
	switch {
	case err != nil:
		return protocol.Sent{}, err
	case stored != nil:
		return storedAnswer(w.sent(), *stored), nil
	}
	request, err := encodeRequest(req, &w)
	if err != nil {
		return protocol.Sent{}, err
	}
	most := s.cfg.MaxScheduled
	if a.byServer {
		most = 0
	}
	row, err := s.deps.Schedules.Schedule(ctx, im.Scheduled{
		Conversation: w.key.Conversation, Sender: w.key.Sender, ClientMsgID: w.key.ClientMsgID, ByServer: a.byServer,
		Request: request, Hash: w.hash, DueAt: req.DeliverAt,
	}, s.deps.Partition(w.key.Conversation), most)
	switch {
	case err == nil:
		return w.scheduled(&row)
	case away(err): // it may be committed all the same
		err = fmt.Errorf("%w: %w", im.ErrUnknownOutcome, storeError(err))
	}
	return protocol.Sent{}, fmt.Errorf("schedule: %w", err)
}

// checkDue takes a time that is not too far ahead.
func checkDue(at int64, now time.Time) error {
	if at < 1 || at > now.Add(im.ScheduleAhead).UnixMilli() {
		return im.Invalid("deliver_at", "must be Unix milliseconds at most 366 days ahead")
	}
	return nil
}

// scheduledBefore is the answer to what is stored, or scheduled, under the same ID; nil
// where nothing is.
func (s *Service) scheduledBefore(ctx context.Context, w *word) (*protocol.Sent, error) {
	found, err := s.deps.Records.FindStored(ctx, []im.SendKey{w.key})
	if err != nil {
		return nil, fmt.Errorf("look for a repeat: %w", storeError(err))
	}
	if ref, stored := found[w.key]; stored {
		if err := outcome(ref, w.hash); err != nil {
			return nil, err
		}
		sent := storedAnswer(w.sent(), ref)
		return &sent, nil
	}
	row, err := s.deps.Schedules.ScheduledAs(ctx, w.key)
	switch {
	case isNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for a repeat: %w", storeError(err))
	}
	sent, err := w.scheduled(&row)
	return &sent, err
}

func (w *word) sent() protocol.Sent {
	return protocol.Sent{ConversationID: w.key.Conversation, ClientMsgID: w.key.ClientMsgID}
}

// scheduled answers with the row that has the word's name.
func (w *word) scheduled(row *im.Scheduled) (protocol.Sent, error) {
	switch {
	case row.Hash != w.hash:
		return protocol.Sent{}, im.ErrMsgIDConflict
	case row.State == im.ScheduleFailed || row.State == im.ScheduleCancelled:
		return protocol.Sent{}, im.ErrScheduleFinal
	}
	sent := w.sent()
	sent.State, sent.ScheduleID, sent.DeliverAt = protocol.StateScheduled, &row.ID, row.DueAt
	return sent, nil
}

// request is what is kept of a scheduled send: what was asked for, and once it was due
// what was decided.
type request struct {
	protocol.Send
	Task *im.SendTask `json:"task,omitempty"`
}

// encodeRequest keeps a send by the name of its conversation, in its one form, and
// without what its type does not know.
func encodeRequest(req *protocol.Send, w *word) (json.RawMessage, error) {
	r := request{Send: *req}
	r.To, r.DeliverAt = protocol.To{ConversationID: w.key.Conversation}, 0
	if w.kind != forwarding {
		r.Type, r.Content = w.kind, w.content
	}
	return protocol.EncodeJSON(r)
}

func decodeRequest(row *im.Scheduled) (r request, err error) {
	if err = json.Unmarshal(row.Request, &r); err != nil {
		err = fmt.Errorf("request of scheduled message %s: %w", row.ID, err)
	}
	return r, err
}

// Decide says what becomes of a scheduled message that is due: the task that sends it,
// and its request with that in it, so that once kept, deciding again decides the same;
// nil where that was kept, or where it is stored already (no task either). What may not
// be said any more is an *im.RejectedError; any other error says nothing yet.
func (s *Service) Decide(ctx context.Context, row im.Scheduled) (*im.SendTask, json.RawMessage, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	r, err := decodeRequest(&row)
	if err != nil || row.Decided {
		return r.Task, nil, err
	}
	a := author{user: row.Sender, byServer: row.ByServer, away: true}
	w, err := s.word(ctx, a, &r.Send)
	if err != nil {
		return nil, nil, refused(err)
	}
	w.hash = row.Hash
	_, task, stored, err := s.judge(ctx, a, &r.Send, &w, s.now())
	switch {
	case err != nil:
		return nil, nil, refused(err)
	case stored != nil:
		return nil, nil, nil
	}
	r.Task = task
	keep, err := protocol.EncodeJSON(r)
	return task, keep, err
}

// refused marks an error that would be the same another time.
func refused(err error) error {
	if errors.Is(err, im.ErrUnauthenticated) { // the author is no more
		err = im.ErrNotFound
	}
	if c := protocol.CodeOf(err); c.Retryable || c.Name == "internal" {
		return err
	}
	return &im.RejectedError{Cause: err}
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
