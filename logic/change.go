package logic

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Change takes a change of a stored message from a connection. As Send: done is called
// exactly once, with accepted when the log has the change, with stored where it is a
// retry of one that is stored, else with an error: refused ([L1]) unless it is
// im.ErrUnknownOutcome, after which the same client change ID may be tried again. A
// change that turns out too late for another is told by a rejected push.
func (s *Service) Change(ctx context.Context, who im.Identity, from im.Origin, req protocol.Change, done func(protocol.ChangeAnswer, error)) {
	answer := protocol.ChangeAnswer{State: protocol.StateAccepted, ConversationID: req.ConversationID, ClientChangeID: req.ClientChangeID}
	task, known, err := s.decideChange(ctx, who.User, &req)
	switch {
	case err != nil:
		done(protocol.ChangeAnswer{}, err)
		return
	case known != nil:
		answer.State, answer.Change = protocol.StateStored, known.Change
		done(answer, nil)
		return
	}
	task.Origin = from
	s.deps.Queue.Produce(im.Task{Conversation: req.ConversationID, Change: task}, func(err error) {
		if err != nil {
			done(protocol.ChangeAnswer{}, fmt.Errorf("enqueue change: %w", err))
			return
		}
		done(answer, nil)
	})
}

// decideChange is everything before the log. It answers with the task, or with what is
// stored already under the same client change ID.
func (s *Service) decideChange(ctx context.Context, u im.UserID, req *protocol.Change) (*im.ChangeTask, *im.ChangeRef, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	task, text, err := readChange(u, req)
	if err != nil {
		return nil, nil, err
	}
	if err := s.limit.Take(ctx, u); err != nil {
		return nil, nil, err
	}
	full := s.room(req.ConversationID)
	refusal := full
	if full == nil {
		if refusal = s.mayChange(ctx, u, req, task, text); refusal != nil && away(refusal) {
			return nil, nil, refusal
		}
	}
	// A retry is known by its ID, and looked up last: the first may be what refuses it.
	key := im.ChangeKey{Conversation: req.ConversationID, Actor: u, ClientChangeID: req.ClientChangeID}
	ref, err := s.deps.Records.FindChange(ctx, key)
	switch {
	case isNotFound(err):
		return task, nil, refusal
	case err != nil && full != nil:
		return nil, nil, full
	case err != nil:
		return nil, nil, fmt.Errorf("look up change: %w", storeError(err))
	}
	return nil, &ref, changeOutcome(ref, task.Hash)
}

// changeOutcome is what a stored change means for a request under the same ID.
func changeOutcome(ref im.ChangeRef, hash im.ContentHash) error {
	if ref.Hash != hash {
		return im.ErrChangeIDConflict
	}
	if err := ref.Outcome.Err(); err != nil {
		return &im.RejectedError{Cause: err}
	}
	return nil
}

// readChange checks the shape of a change, whose hash is of what the client sent.
func readChange(u im.UserID, req *protocol.Change) (task *im.ChangeTask, text string, err error) {
	if err := req.ClientChangeID.Validate(); err != nil {
		return nil, "", err
	}
	task = &im.ChangeTask{Actor: u, ClientChangeID: req.ClientChangeID, Kind: req.Kind, Seq: req.Seq}
	if req.Seq == 0 {
		return nil, "", im.Invalid("seq", "must be at least 1")
	}
	switch req.Kind {
	case im.ChangeRecall:
	case im.ChangeEdit:
		b, err := readText(im.TypeText, req.Content)
		if err != nil {
			return nil, "", err
		}
		task.Content, task.Base, text = b.content, req.BaseChange, b.text
	case im.ChangeReact, im.ChangeUnreact:
		if err := im.ValidateReaction(req.Reaction); err != nil {
			return nil, "", err
		}
		task.Reaction = req.Reaction
	default:
		return nil, "", im.Invalid("kind", "must be recall, edit, react or unreact")
	}
	task.Hash = im.HashChange(task.Seq, task.Kind, task.Content, task.Base, task.Reaction)
	return task, text, nil
}

// mayChange says whether u may do that now, as far as is known; the strand, which sees
// the changes in their order, has the last word. An edit is filtered on the way.
func (s *Service) mayChange(ctx context.Context, u im.UserID, req *protocol.Change, task *im.ChangeTask, text string) error {
	m, err := s.visible(ctx, u, im.Place{Conversation: req.ConversationID, Seq: req.Seq})
	if err != nil {
		return err
	}
	own, age := m.Sender.ID == u, s.now().Sub(time.UnixMilli(m.StoredAt))
	if _, channel := req.ConversationID.Channel(); channel {
		seat, err := s.members.Seat(ctx, u, req.ConversationID) // who has left changes nothing any more
		if err != nil {
			return err
		}
		task.Manages = req.Kind == im.ChangeRecall && !own && seat.Role.Manages() && !isSystem(m.Type)
	}
	switch {
	case !own && !task.Manages && (req.Kind == im.ChangeRecall || req.Kind == im.ChangeEdit):
		return im.ErrForbidden
	case m.RecalledAt != 0:
		return im.ErrRecalled
	case req.Kind == im.ChangeUnreact, task.Manages:
		return nil
	case req.Kind == im.ChangeRecall:
		if age > s.cfg.RecallWithin {
			return im.ErrTooLate
		}
		return nil
	}
	// What brings something new to the others must be welcome to them.
	if err := s.members.MaySend(ctx, u, req.ConversationID); err != nil {
		return err
	}
	if req.Kind == im.ChangeReact {
		if len(m.Reactions) >= im.MaxReactions && !hasReaction(m.Reactions, req.Reaction) {
			return im.ChangeTooManyKinds.Err()
		}
		return nil
	}
	switch base := req.BaseChange; {
	case m.Type != im.TypeText:
		return im.Invalid("kind", "only text can be edited")
	case m.ForwardedFrom != nil:
		return im.ErrForbidden // it is somebody else's word
	case age > s.cfg.EditWithin:
		return im.ErrTooLate
	case base != nil && *base > m.Change:
		return im.Invalid("base_change", "not a change of this message")
	case base != nil && *base < m.EditChange:
		return im.ErrEditConflict
	case m.Edits >= im.MaxEdits:
		return im.ChangeTooManyEdits.Err()
	}
	b, err := s.filter(ctx, body{kind: im.TypeText, text: text, content: task.Content})
	task.Content = b.content
	return err
}

// isSystem says that a type is what the system alone says.
func isSystem(t im.MessageType) bool { return t == im.TypeSystem || t == im.TypeNotice }

func hasReaction(all []im.Reaction, reaction string) bool {
	for _, r := range all {
		if r.Reaction == reaction {
			return true
		}
	}
	return false
}

// visible is a message that u can see; im.ErrNotFound where there is none for them.
func (s *Service) visible(ctx context.Context, u im.UserID, p im.Place) (im.Message, error) {
	w := window{first: 1}
	if u != im.SystemUser { // who has no row, and sees what it says
		var err error
		if w, err = s.members.MaySee(ctx, u, p.Conversation); err != nil {
			return im.Message{}, err
		}
	} else if err := s.members.systemIn(ctx, p.Conversation); err != nil {
		return im.Message{}, err
	}
	if !w.holds(p.Seq) {
		return im.Message{}, im.ErrNotFound
	}
	found, err := s.deps.Records.LastMessages(ctx, map[im.ConversationID]im.Seq{p.Conversation: p.Seq})
	if err != nil {
		return im.Message{}, fmt.Errorf("look up message: %w", storeError(err))
	}
	m, ok := found[p.Conversation]
	if !ok {
		return im.Message{}, im.ErrNotFound
	}
	if w, err = s.members.again(ctx, u, p.Conversation, w); err != nil {
		return im.Message{}, err
	}
	if !w.holds(p.Seq) { // removed in between ([L12])
		return im.Message{}, im.ErrNotFound
	}
	if w.deletions > 0 {
		hidden, err := s.deps.Records.HiddenAmong(ctx, u, []im.Place{p})
		if err != nil {
			return im.Message{}, fmt.Errorf("look up deletion: %w", storeError(err))
		}
		if hidden[p] {
			return im.Message{}, im.ErrNotFound
		}
	}
	return m, nil
}
