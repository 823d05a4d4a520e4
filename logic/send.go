package logic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// author is for whom a message is sent.
type author struct {
	user im.UserID
	// byServer says that a backend sends, for the user or as the system: it has no
	// limit of its own, and is nobody's stranger.
	byServer bool
	// away says that nobody is there as it is sent: it was scheduled.
	away bool
	// settled says that the connection has been there for longer than retriedWithin.
	settled bool
}

// retriedWithin is for how long a new connection may bring again what another one has
// taken. Later nobody looks whether a message was stored before: there is nothing to find,
// and the strand knows a repeat by itself.
const retriedWithin = 15 * time.Second

// absent says that the user has not read up to there (contract 7).
func (a author) absent() bool { return a.byServer || a.away }

// uncounted says for whom the message does not raise the unread count.
func (a author) uncounted(t im.MessageType) im.Uncounted {
	switch {
	case t == im.TypeSystem:
		return im.UncountedForAll
	case a.absent() && a.user != im.SystemUser:
		return im.UncountedForSender
	}
	return im.CountedForAll
}

// Send takes a message from a connection. It returns when the log has been given the
// message, or the message was refused; done is called exactly once, with accepted when
// the log has it, with stored where a retry is recognised, else with an error: refused
// ([L1]) unless it is im.ErrUnknownOutcome. Calls in order are messages in order ([L2]).
func (s *Service) Send(ctx context.Context, session *im.Session, req protocol.Send, done func(protocol.Sent, error)) {
	a := author{user: session.User, settled: s.now().UnixMilli()-session.Since > retriedWithin.Milliseconds()}
	s.send(ctx, a, im.Origin{Node: session.Node, Session: session.ID}, &req, done)
}

func (s *Service) send(ctx context.Context, a author, from im.Origin, req *protocol.Send, done func(protocol.Sent, error)) {
	start := s.now()
	if req.DeliverAt != 0 {
		sent, err := s.schedule(ctx, a, req)
		if err != nil {
			s.refuse(err)
		}
		done(sent, err)
		return
	}
	conv, task, stored, err := s.decide(ctx, a, req, start)
	if err != nil {
		s.refuse(err)
		done(protocol.Sent{}, err)
		return
	}
	sent := protocol.Sent{State: protocol.StateAccepted, ConversationID: conv, ClientMsgID: req.ClientMsgID}
	if stored != nil {
		done(storedAnswer(sent, *stored), nil)
		return
	}
	task.Origin = from
	s.deps.Queue.Produce(im.Task{Conversation: conv, Send: task}, func(err error) {
		if err != nil {
			s.refuse(err)
			done(protocol.Sent{}, fmt.Errorf("enqueue: %w", err))
			return
		}
		s.metrics.send.Observe(s.now().Sub(start).Seconds())
		done(sent, nil)
	})
}

func (s *Service) refuse(err error) {
	s.metrics.refused.WithLabelValues(protocol.CodeOf(err).Name).Inc()
}

// decide is everything before the log, in the order that DESIGN.md gives. It answers
// with the task, or with what is stored already under the same client message ID.
func (s *Service) decide(ctx context.Context, a author, req *protocol.Send, now time.Time) (im.ConversationID, *im.SendTask, *im.StoredRef, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	w, err := s.word(ctx, a, req)
	if err != nil {
		return "", nil, nil, err
	}
	if err := s.countWord(ctx, a, &w); err != nil {
		return "", nil, nil, err
	}
	if err := s.room(w.key.Conversation); err != nil {
		return s.unlessSaid(ctx, w.key, w.hash, err)
	}
	return s.judge(ctx, a, req, &w, now)
}

// word is a send that can be read: what it says, where to, and under which name.
type word struct {
	body
	key     im.SendKey
	hash    im.ContentHash
	counted bool // against its sender's limit
}

func (s *Service) word(ctx context.Context, a author, req *protocol.Send) (w word, err error) {
	// 1. Size and shape.
	if w.body, err = s.readBody(req, a.user); err != nil {
		return w, err
	}
	// Who asks for a name is counted first: else handles could be guessed without end.
	w.counted = a.absent()
	if req.To.Handle != "" || req.To.ExternalID != "" {
		if err := s.countWord(ctx, a, &w); err != nil {
			return w, err
		}
	}
	// 2. Where to. The hash is of what the client sent, so that a retry under another
	// word list is still the same message.
	conv, err := s.destination(ctx, a.user, &req.To)
	if err != nil {
		return w, err
	}
	w.key, w.hash = im.SendKey{Conversation: conv, Sender: a.user, ClientMsgID: req.ClientMsgID}, w.body.hash()
	return w, nil
}

// countWord spends one token of the author's, once.
func (s *Service) countWord(ctx context.Context, a author, w *word) error {
	if w.counted {
		return nil
	}
	w.counted = true
	return s.limit.Take(ctx, a.user)
}

// judge says whether a word that has been counted may be said, and makes the task of it.
func (s *Service) judge(ctx context.Context, a author, req *protocol.Send, w *word, now time.Time) (im.ConversationID, *im.SendTask, *im.StoredRef, error) {
	// 3. May they.
	conv, key, hash := w.key.Conversation, w.key, w.hash
	err := s.members.MaySend(ctx, a.user, conv)
	if err != nil && !(a.byServer && errors.Is(err, im.ErrNotContact)) { // a backend is nobody's stranger
		return s.unlessSaid(ctx, key, hash, err)
	}
	// 4. What it refers to, and what it says.
	b, about, err := s.refer(ctx, a.user, conv, req, w.body)
	if err != nil {
		return s.unlessSaid(ctx, key, hash, err)
	}
	if b, err = s.filter(ctx, b); err != nil {
		return s.unlessSaid(ctx, key, hash, err)
	}
	// 5. Who says it.
	profile, err := s.senders.Profile(ctx, a.user)
	if err != nil {
		return "", nil, nil, err
	}
	// 6. Has it been said before? A hint that is lost or late costs nothing: the
	// strand decides.
	if !a.settled {
		if ref, err := s.said(ctx, key, hash); err != nil || ref != nil {
			return conv, nil, ref, err
		}
	}
	return conv, &im.SendTask{
		Sender:      profile.Sender(),
		ClientMsgID: req.ClientMsgID,
		Type:        b.kind,
		Content:     b.content,
		About:       about,
		Hash:        hash,
		Uncounted:   a.uncounted(b.kind),
		AdvanceRead: !a.absent(),
		AcceptedAt:  now.UnixMilli(),
	}, nil, nil
}

// said is what was stored under the same client message ID, as far as is known; nil
// where nothing was.
func (s *Service) said(ctx context.Context, key im.SendKey, hash im.ContentHash) (*im.StoredRef, error) {
	ref, known, err := s.deps.Hints.Probe(ctx, key)
	if err != nil || !known {
		return nil, nil
	}
	if err := outcome(ref, hash); err != nil {
		return nil, err
	}
	return &ref, nil
}

// unlessSaid refuses a message, except one that is a retry of what is stored already:
// its sender may have been blocked or a word listed in between, but refused means that
// it never appears ([L1]).
func (s *Service) unlessSaid(ctx context.Context, key im.SendKey, hash im.ContentHash, refusal error) (im.ConversationID, *im.SendTask, *im.StoredRef, error) {
	if ref, err := s.said(ctx, key, hash); err == nil && ref != nil {
		return key.Conversation, nil, ref, nil
	}
	return "", nil, nil, refusal
}

// destination resolves To to the one name of a conversation.
func (s *Service) destination(ctx context.Context, from im.UserID, to *protocol.To) (im.ConversationID, error) {
	given := 0
	for _, set := range [...]bool{to.UserID != nil, to.Handle != "", to.ExternalID != "", to.ConversationID != ""} {
		if set {
			given++
		}
	}
	if given != 1 {
		return "", im.Invalid("to", "give exactly one of user_id, handle, external_id and conversation_id")
	}
	var peer im.UserID
	var err error
	switch {
	case to.ConversationID != "":
		return to.ConversationID, nil
	case to.UserID != nil:
		peer = *to.UserID
	case to.Handle != "":
		var handle string
		if handle, err = NormalizeHandle(to.Handle); err != nil {
			return "", err
		}
		peer, err = s.deps.Profiles.UserByHandle(ctx, handle)
	default:
		peer, err = s.deps.Accounts.UserByExternalID(ctx, to.ExternalID)
	}
	if err != nil {
		return "", fmt.Errorf("look up recipient: %w", storeError(err))
	}
	return im.DirectConversation(from, peer), nil
}

// filter runs the rules over a text, or a name. What a custom message carries is not
// understood, and what the system says is not filtered.
func (s *Service) filter(ctx context.Context, b body) (body, error) {
	if b.text == "" || b.kind == im.TypeSystem {
		return b, nil
	}
	text, err := s.deps.Filter.Apply(ctx, b.text)
	if err != nil {
		return body{}, fmt.Errorf("filter: %w", err)
	}
	if text == b.text {
		return b, nil
	}
	return b.say(text)
}

// outcome is what a stored or parked record under the same ID means for a message.
func outcome(ref im.StoredRef, hash im.ContentHash) error {
	switch {
	case ref.Hash != hash:
		return im.ErrMsgIDConflict
	case ref.Parked:
		return &im.RejectedError{Cause: im.ErrUnstorable}
	}
	return nil
}

func storedAnswer(sent protocol.Sent, ref im.StoredRef) protocol.Sent {
	sent.State = protocol.StateStored
	sent.Seq, sent.MessageID, sent.StoredAt = ref.Seq, &ref.ID, ref.StoredAt
	return sent
}

// ServerSend sends for a backend: as the system, or on behalf of a user, who then has
// neither read the conversation nor anything to count.
func (s *Service) ServerSend(ctx context.Context, req protocol.ServerSend, wait bool) (protocol.Sent, error) {
	a := author{user: im.SystemUser, byServer: true}
	if req.From != nil {
		a.user = *req.From
	}
	sent, err := s.sendAndWait(ctx, a, &req.Send, wait)
	if errors.Is(err, im.ErrUnauthenticated) { // the author is unknown, not the caller
		err = im.ErrNotFound
	}
	return sent, err
}
