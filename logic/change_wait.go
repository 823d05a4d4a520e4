package logic

import (
	"context"
	"errors"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// ChangeAndWait is Change for HTTP: it returns once the change is accepted, or with
// wait once it is stored, with its number; accepted after 4.5 s. An accepted change
// that could not be made any more returns an *im.RejectedError.
func (s *Service) ChangeAndWait(ctx context.Context, who im.Identity, req protocol.Change, wait bool) (protocol.ChangeAnswer, error) {
	start := time.Now()
	var from im.Origin
	var notes <-chan note
	if wait {
		request, ch, err := s.waiters.enter()
		if err != nil {
			return protocol.ChangeAnswer{}, err
		}
		defer s.waiters.leave(request)
		from, notes = im.Origin{Node: s.deps.Node, Request: request}, ch
	}
	answer, err := awaitAccepted(ctx, start, func(done func(protocol.ChangeAnswer, error)) { s.Change(ctx, who, from, req, done) })
	if err != nil || !wait || answer.State == protocol.StateStored {
		return answer, err
	}
	task, _, err := readChange(who.User, &req)
	if err != nil { // it was read before it was accepted
		return answer, err
	}
	key := im.ChangeKey{Conversation: req.ConversationID, Actor: who.User, ClientChangeID: req.ClientChangeID}
	for _, look := range [...]time.Duration{firstLook, secondLook, answerBy} {
		timer := time.NewTimer(time.Until(start.Add(look)))
		select {
		case n := <-notes:
			timer.Stop()
			if n.err == nil {
				answer.State, answer.Change = protocol.StateStored, n.change
				return answer, nil
			}
			notes = nil // it says that something is amiss; the table says what
		case <-ctx.Done():
			timer.Stop()
			return answer, nil // nobody is there to hear more
		case <-timer.C:
		}
		if look == answerBy {
			break
		}
		if ref, found := s.findChange(ctx, key); found {
			if err := changeOutcome(ref, task.Hash); err != nil {
				if errors.Is(err, im.ErrChangeIDConflict) {
					err = &im.RejectedError{Cause: err}
				}
				return protocol.ChangeAnswer{}, err
			}
			answer.State, answer.Change = protocol.StateStored, ref.Change
			return answer, nil
		}
	}
	s.metrics.late.Inc()
	return answer, nil
}

// findChange looks one change up; a store that is away has not found it.
func (s *Service) findChange(ctx context.Context, k im.ChangeKey) (im.ChangeRef, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ref, err := s.deps.Records.FindChange(ctx, k)
	return ref, err == nil
}
