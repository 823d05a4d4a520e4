package logic

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// typingPause is between two pushes of one connection's typing in one conversation;
	// what is said meanwhile is told at its end, if it is news.
	typingPause = time.Second
	// typingLate bounds what waits for that; beyond it the last state is not told, and
	// ends by itself.
	typingLate  = 10_000
	typingFlush = 200 * time.Millisecond
)

// typing keeps how often somebody is told that somebody types.
type typing struct {
	mu    sync.Mutex // guards what follows
	told  *lru.Cache[typingKey, typingTold]
	later map[typingKey]typingSaid
}

type typingKey struct {
	session im.SessionID
	conv    im.ConversationID
}

type typingTold struct {
	on bool
	at time.Time
}

type typingSaid struct {
	from im.UserID
	on   bool
	due  time.Time
}

func newTyping(size int) *typing {
	told, _ := lru.New[typingKey, typingTold](size) // fails for a size below 1 only
	return &typing{told: told, later: make(map[typingKey]typingSaid)}
}

// say says whether to tell it now. Later sayings within the pause are kept, the last
// of them.
func (t *typing) say(k typingKey, from im.UserID, on bool, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, known := t.told.Get(k)
	news := on != (known && last.on)
	switch wait := last.at.Add(typingPause).Sub(now); {
	case known && wait > 0 && news:
		if _, there := t.later[k]; there || len(t.later) < typingLate {
			t.later[k] = typingSaid{from, on, now.Add(wait)}
		}
		return false
	case known && wait > 0:
		delete(t.later, k)
		return false
	case !news && !on:
		return false
	}
	delete(t.later, k)
	t.told.Add(k, typingTold{on, now})
	return true
}

// due takes what is to be told now.
func (t *typing) due(now time.Time) map[typingKey]typingSaid {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all map[typingKey]typingSaid
	for k, said := range t.later {
		if now.Before(said.due) {
			continue
		}
		if all == nil {
			all = make(map[typingKey]typingSaid)
		}
		all[k] = said
		delete(t.later, k)
		t.told.Add(k, typingTold{said.on, now})
	}
	return all
}

// types tells the others that the session's user types in a conversation, or has
// stopped. It is refused where a send would be, and one-to-one not told to strangers: who
// may not see the user's presence does not see this either ([L9]). In a channel everyone
// is told who is connected, but in one that is merged at read nobody: somebody always
// types there. Best effort, never stored.
func (s *Service) types(ctx context.Context, session *im.Session, r protocol.Typing) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.members.MaySend(ctx, session.User, r.ConversationID); err != nil {
		return fmt.Errorf("typing: %w", err)
	}
	k := typingKey{session.ID, r.ConversationID}
	if s.typing.say(k, session.User, r.On, s.now()) {
		s.tellTyping(ctx, k.conv, session.User, r.On)
	}
	return nil
}

func (s *Service) runTyping(ctx context.Context) {
	tick := time.NewTicker(typingFlush)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for k, said := range s.typing.due(s.now()) {
			ctx, cancel := s.within(ctx)
			s.tellTyping(ctx, k.conv, said.from, said.on)
			cancel()
		}
	}
}

func (s *Service) tellTyping(ctx context.Context, conv im.ConversationID, from im.UserID, on bool) {
	if err := s.pushTyping(ctx, conv, from, on); err != nil {
		s.metrics.untyped.Inc()
		if !away(err) {
			s.log.Warn("typing not told", "user", from, "conv", conv, "err", err)
		}
	}
}

func (s *Service) pushTyping(ctx context.Context, conv im.ConversationID, from im.UserID, on bool) error {
	if _, channel := conv.Channel(); channel {
		return s.pushTypingIn(ctx, conv, from, on)
	}
	peer, direct := conv.Peer(from)
	if !direct || peer == from {
		return nil
	}
	if may, err := s.sights.may(ctx, peer, from); err != nil || !may {
		return err
	}
	sessions, err := s.deps.Sessions.Sessions(ctx, []im.UserID{peer})
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	frame, err := typingFrame(conv, from, on)
	if err != nil {
		return err
	}
	batches := make(map[im.NodeID][]byte)
	for _, ref := range sessions[peer] {
		if batches[ref.Node] == nil {
			batches[ref.Node] = protocol.AppendDelivery(nil, &protocol.Delivery{Users: []im.UserID{peer}, Frame: frame})
		}
	}
	if len(batches) == 0 {
		return nil
	}
	return s.deps.Bus.Publish(ctx, batches)
}

// pushTypingIn tells the members of a channel, once for each node that has some.
func (s *Service) pushTypingIn(ctx context.Context, conv im.ConversationID, from im.UserID, on bool) error {
	state, err := s.deps.Index.State(ctx, from, conv)
	switch {
	case isNotFound(err) || err == nil && (state.Merged || !state.In()):
		return nil
	case err != nil:
		return fmt.Errorf("state of %s: %w", conv, storeError(err))
	}
	nodes, err := s.deps.Rooms.RoomNodes(ctx, []im.ConversationID{conv})
	if err != nil {
		return fmt.Errorf("nodes of %s: %w", conv, err)
	}
	if len(nodes[conv]) == 0 {
		return nil
	}
	frame, err := typingFrame(conv, from, on)
	if err != nil {
		return err
	}
	batch := protocol.AppendDelivery(nil, &protocol.Delivery{Room: conv, ExceptUser: from, Frame: frame})
	batches := make(map[im.NodeID][]byte, len(nodes[conv]))
	for _, node := range nodes[conv] {
		batches[node] = batch
	}
	return s.deps.Bus.Publish(ctx, batches)
}

func typingFrame(conv im.ConversationID, from im.UserID, on bool) ([]byte, error) {
	return protocol.EncodePush(protocol.PushFrame{Push: protocol.PushTyping, Data: protocol.TypingNow{
		ConversationID: conv, UserID: from, On: on, ExpiresMS: protocol.TypingExpires}})
}
