package logic

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// presencePerMinute bounds the questions of one user about presence (a client that
// watches the most it can asks five times when it connects).
const presencePerMinute = 120

// Presence is the present state of users, each once. Whom the caller may not see (a
// stranger, who has blocked them, nobody) is offline and never seen ([L9]).
func (s *Service) Presence(ctx context.Context, who im.Identity, users []im.UserID) (protocol.Presences, error) {
	shown, _, err := s.presence(ctx, who, users)
	return shown, err
}

// presence also returns what the visible ones may be watched from.
func (s *Service) presence(ctx context.Context, who im.Identity, users []im.UserID) (shown protocol.Presences, visible []protocol.Watch, err error) {
	if users, err = askedFor(users); err != nil {
		return shown, nil, err
	}
	if err := s.asks.take(ctx, "presence", "u:"+who.User.String(), presencePerMinute); err != nil {
		return shown, nil, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	seen, err := s.deps.Sight.Visible(ctx, who.User, users)
	if err != nil {
		return shown, nil, fmt.Errorf("whom they may see: %w", storeError(err))
	}
	var all map[im.UserID]im.Presence
	if len(seen) > 0 {
		may := make([]im.UserID, 0, len(seen))
		for u := range seen {
			may = append(may, u)
		}
		if all, err = s.deps.Presences.Presence(ctx, may); err != nil {
			return shown, nil, fmt.Errorf("presence: %w", err)
		}
	}
	shown.Items = make([]protocol.Presence, len(users))
	for i, u := range users {
		p := all[u]
		p.User = u
		if at, may := seen[u]; may {
			p.SeenAt = min(max(p.SeenAt, at), s.now().UnixMilli())
			visible = append(visible, protocol.Watch{User: u, State: p.State()})
		}
		shown.Items[i] = protocol.ShowPresence(&p)
	}
	return shown, visible, nil
}

// askedFor checks a list of users and leaves each in it once.
func askedFor(users []im.UserID) ([]im.UserID, error) {
	if len(users) == 0 || len(users) > im.MaxPresenceAsked {
		return nil, im.Invalid("users", fmt.Sprintf("must be 1 to %d user IDs", im.MaxPresenceAsked))
	}
	once := make([]im.UserID, 0, len(users))
	known := make(map[im.UserID]bool, len(users))
	for _, u := range users {
		if !known[u] {
			known[u] = true
			once = append(once, u)
		}
	}
	return once, nil
}

func (s *Service) handlePresence(ctx context.Context, session *im.Session, req protocol.Request, answer func(protocol.Answer)) {
	var ask protocol.AskPresence
	err := protocol.DecodeData(req.Data, &ask)
	var shown protocol.Presences
	var watch []protocol.Watch
	if err == nil {
		shown, watch, err = s.presence(ctx, session.Identity, ask.Users)
	}
	switch {
	case err != nil || ask.Subscribe == nil:
		watch = nil
	case !*ask.Subscribe:
		watch = watch[:0]
		for _, p := range shown.Items { // also whom they see no longer
			watch = append(watch, protocol.Watch{User: p.UserID, End: true})
		}
	}
	s.answer(req, shown, err, func(a protocol.Answer) {
		a.Watch = watch
		answer(a)
	})
}

// sights is a copy of who may see whom, as old as one of a membership may be.
type sights struct {
	sight Sight
	now   func() time.Time
	ttl   time.Duration
	pairs *lru.Cache[pair, sightCopy]
}

type sightCopy struct {
	may bool
	at  time.Time
}

func newSights(cfg Config, deps Deps) *sights {
	pairs, _ := lru.New[pair, sightCopy](cfg.Copies) // fails for a size below 1 only
	return &sights{sight: deps.Sight, now: deps.Now, ttl: cfg.MembershipTTL, pairs: pairs}
}

// may says whether viewer may see u.
func (s *sights) may(ctx context.Context, viewer, u im.UserID) (bool, error) {
	k, now := pair{viewer, u}, s.now()
	if known, found := s.pairs.Get(k); found && now.Sub(known.at) < s.ttl {
		return known.may, nil
	}
	seen, err := s.sight.Visible(ctx, viewer, []im.UserID{u})
	if err != nil {
		return false, fmt.Errorf("who may see: %w", err)
	}
	_, may := seen[u]
	s.pairs.Add(k, sightCopy{may, now})
	return may, nil
}
