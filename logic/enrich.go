package logic

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/curlew-im/curlew/logic/im"
)

// systemProfile is how the system is shown; it has no row.
var systemProfile = im.Profile{ID: im.SystemUser, Handle: "system", Nickname: "System"}

// senders copies who sends into their messages. It asks Profiles each time, which
// is cached there and forgotten when the profile changes; what was last seen here
// stands in while neither store answers, since a name does not keep a message back; nor
// does a store that is frozen, which one send a second waits for.
type senders struct {
	profiles Profiles
	metrics  *metrics
	seen     *lru.Cache[im.UserID, im.Profile]
	breaker  breaker
}

func newSenders(cfg Config, deps Deps, m *metrics) (*senders, error) {
	seen, err := lru.New[im.UserID, im.Profile](cfg.Copies)
	if err != nil {
		return nil, fmt.Errorf("senders: %w", err)
	}
	return &senders{profiles: deps.Profiles, metrics: m, seen: seen, breaker: breaker{now: deps.Now}}, nil
}

// Profile returns im.ErrUnauthenticated for a user who is no more.
func (s *senders) Profile(ctx context.Context, u im.UserID) (im.Profile, error) {
	if u == im.SystemUser {
		return systemProfile, nil
	}
	known, found := s.seen.Get(u)
	if !s.breaker.allow() && found {
		s.metrics.stale.Inc()
		return known, nil
	}
	all, err := s.profiles.Profiles(ctx, []im.UserID{u})
	s.breaker.done(err == nil || !away(err))
	if err != nil {
		if found && away(err) {
			s.metrics.stale.Inc()
			return known, nil
		}
		return im.Profile{}, fmt.Errorf("look up sender: %w", storeError(err))
	}
	p, ok := all[u]
	if !ok {
		s.seen.Remove(u)
		return im.Profile{}, im.ErrUnauthenticated
	}
	if p != known {
		s.seen.Add(u, p)
	}
	return p, nil
}
