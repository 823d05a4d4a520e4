package logic

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// When a request that waits for stored looks into MySQL itself, since a note may be
// lost, and when it answers accepted; from its arrival. acceptedBy is for a log that
// breaks its word.
const (
	firstLook  = 1 * time.Second
	secondLook = 3 * time.Second
	answerBy   = 4500 * time.Millisecond
	acceptedBy = 4900 * time.Millisecond
)

// SendAndWait is Send for HTTP: it returns once the message is accepted, or with wait
// once it is stored; accepted after 4.5 s. An accepted message that cannot be stored
// returns an *im.RejectedError. im.ErrOverloaded says that too many wait already.
func (s *Service) SendAndWait(ctx context.Context, who im.Identity, req protocol.Send, wait bool) (protocol.Sent, error) {
	return s.sendAndWait(ctx, author{user: who.User}, &req, wait)
}

func (s *Service) sendAndWait(ctx context.Context, a author, req *protocol.Send, wait bool) (protocol.Sent, error) {
	start := time.Now()
	var from im.Origin
	var notes <-chan note
	if wait {
		request, ch, err := s.waiters.enter()
		if err != nil {
			s.refuse(err)
			return protocol.Sent{}, err
		}
		defer s.waiters.leave(request)
		from, notes = im.Origin{Node: s.deps.Node, Request: request}, ch
	}
	sent, err := awaitAccepted(ctx, start, func(done func(protocol.Sent, error)) { s.send(ctx, a, from, req, done) })
	if err != nil || !wait || sent.State != protocol.StateAccepted {
		return sent, err
	}
	return s.awaitStored(ctx, start, a, req, sent, notes)
}

// awaitAccepted waits for the one call of done, though not beyond acceptedBy.
func awaitAccepted[T any](ctx context.Context, start time.Time, ask func(done func(T, error))) (T, error) {
	type result struct {
		answer T
		err    error
	}
	var none T
	accepted := make(chan result, 1)
	ask(func(answer T, err error) { accepted <- result{answer, err} })
	deadline := time.NewTimer(time.Until(start.Add(acceptedBy)))
	defer deadline.Stop()
	select {
	case r := <-accepted:
		return r.answer, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", im.ErrUnknownOutcome, ctx.Err())
	case <-deadline.C:
		return none, im.ErrUnknownOutcome
	}
}

// awaitStored waits for the note about an accepted message.
func (s *Service) awaitStored(ctx context.Context, start time.Time, a author, req *protocol.Send, sent protocol.Sent, notes <-chan note) (protocol.Sent, error) {
	b, err := s.readBody(req, a.user)
	if err != nil { // it was read before it was accepted
		return sent, err
	}
	hash := b.hash()
	for _, look := range [...]time.Duration{firstLook, secondLook, answerBy} {
		timer := time.NewTimer(time.Until(start.Add(look)))
		select {
		case n := <-notes:
			timer.Stop()
			if n.err != nil {
				return protocol.Sent{}, n.err
			}
			return storedAnswer(sent, n.ref), nil
		case <-ctx.Done():
			timer.Stop()
			return sent, nil // nobody is there to hear more
		case <-timer.C:
		}
		if look == answerBy {
			break
		}
		if ref, found := s.findStored(ctx, im.SendKey{Conversation: sent.ConversationID, Sender: a.user, ClientMsgID: req.ClientMsgID}); found {
			if err := outcome(ref, hash); err != nil {
				return protocol.Sent{}, &im.RejectedError{Cause: err}
			}
			return storedAnswer(sent, ref), nil
		}
	}
	s.metrics.late.Inc()
	return sent, nil
}

// findStored looks one message up; a store that is away has not found it.
func (s *Service) findStored(ctx context.Context, k im.SendKey) (im.StoredRef, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	refs, err := s.deps.Records.FindStored(ctx, []im.SendKey{k})
	if err != nil {
		return im.StoredRef{}, false
	}
	ref, found := refs[k]
	return ref, found
}

// note is what a worker said about a waiter's message.
type note struct {
	ref    im.StoredRef
	change uint64 // of a change
	err    error
}

// waiters are the requests that wait for their message to be stored.
type waiters struct {
	metrics *metrics
	bound   int

	mu    sync.Mutex // guards next and notes
	next  uint64
	notes map[string]chan note
}

func newWaiters(bound int, m *metrics) *waiters {
	return &waiters{metrics: m, bound: bound, notes: make(map[string]chan note)}
}

func (w *waiters) enter() (request string, notes <-chan note, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.notes) >= w.bound {
		return "", nil, im.ErrOverloaded
	}
	w.next++
	request = strconv.FormatUint(w.next, 36)
	ch := make(chan note, 1)
	w.notes[request] = ch
	w.metrics.waiters.Set(float64(len(w.notes)))
	return request, ch, nil
}

func (w *waiters) leave(request string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.notes, request)
	w.metrics.waiters.Set(float64(len(w.notes)))
}

// hear takes a batch of this node's channel. What cannot be read is as good as lost.
func (w *waiters) hear(batch []byte) {
	all, err := protocol.DecodeDeliveries(batch)
	if err != nil {
		return
	}
	for _, d := range all {
		w.mu.Lock()
		ch := w.notes[d.Request]
		w.mu.Unlock()
		if ch == nil {
			continue
		}
		if n, ok := readNote(d.Frame); ok {
			select {
			case ch <- n:
			default: // the note came twice
			}
		}
	}
}

// readNote reads a stored, changed or rejected push.
func readNote(frame []byte) (note, bool) {
	var push struct {
		Push protocol.Push   `json:"push"`
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(frame, &push) != nil {
		return note{}, false
	}
	switch push.Push {
	case protocol.PushStored:
		var stored protocol.Stored
		err := json.Unmarshal(push.Data, &stored)
		return note{ref: im.StoredRef{Seq: stored.Seq, ID: stored.MessageID, StoredAt: stored.StoredAt}}, err == nil
	case protocol.PushChanged:
		var changed protocol.Changed
		err := json.Unmarshal(push.Data, &changed)
		return note{change: changed.Change}, err == nil
	case protocol.PushRejected:
		var rejected protocol.Rejected
		err := json.Unmarshal(push.Data, &rejected)
		cause := im.ErrUnstorable
		if rejected.Code == "client_msg_id_conflict" {
			cause = im.ErrMsgIDConflict
		}
		return note{err: &im.RejectedError{Cause: cause}}, err == nil
	}
	return note{}, false
}
