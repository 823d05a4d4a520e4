package logic

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// stateFresh is how long a copy of the versions stands; a revocation takes effect
	// everywhere within it.
	stateFresh = 5 * time.Second
	// stateRefused is the same for a copy that refuses: who logs in again elsewhere
	// should not wait for long.
	stateRefused = time.Second
	// stateStale is how old a copy may be while MySQL is away (contract 9).
	stateStale = 60 * time.Second
	// stateTimeout bounds one question; every request that waits for it has more.
	stateTimeout = time.Second
)

type stateKey struct {
	user   im.UserID
	device im.DeviceID
}

type stateEntry struct {
	im.AuthState
	at time.Time
}

// authStates is a bounded copy of the versions that make tokens good.
type authStates struct {
	accounts Accounts
	clock    func() time.Time
	entries  *lru.Cache[stateKey, stateEntry]
	flight   singleflight.Group
	breaker  breaker
}

func newAuthStates(size int, accounts Accounts, clock func() time.Time) *authStates {
	entries, _ := lru.New[stateKey, stateEntry](size) // fails for a size below 1 only
	return &authStates{accounts: accounts, clock: clock, entries: entries, breaker: breaker{now: clock}}
}

// check returns im.ErrUnauthenticated where the versions have moved on, by a copy that
// is no older than fresh; im.ErrStore where nobody can say.
func (s *authStates) check(ctx context.Context, id im.Identity, fresh time.Duration) error {
	key := stateKey{id.User, id.Device}
	e, ok := s.entries.Get(key)
	if !ok || !s.usable(e, id, fresh) {
		asked, err := s.load(ctx, key)
		switch {
		case err == nil:
			e = asked
		case ok && away(err) && s.clock().Sub(e.at) <= stateStale && !newer(id, e):
			// the copy will do
		default:
			return storeError(err)
		}
	}
	if !e.Active || !e.DeviceKnown || e.TokenVersion != id.TokenVersion || e.DeviceVersion != id.DeviceVersion {
		return im.ErrUnauthenticated
	}
	return nil
}

// usable says whether a copy decides without asking MySQL. It does not for a token
// newer than the copy: the user has logged in again, on another node.
func (s *authStates) usable(e stateEntry, id im.Identity, fresh time.Duration) bool {
	age := s.clock().Sub(e.at)
	if !e.Active || !e.DeviceKnown {
		return age <= stateRefused
	}
	return age <= fresh && !newer(id, e)
}

// newer says that the token was made after the copy: the copy cannot refuse it.
func newer(id im.Identity, e stateEntry) bool {
	return id.TokenVersion > e.TokenVersion || id.DeviceVersion > e.DeviceVersion
}

func (s *authStates) load(ctx context.Context, key stateKey) (stateEntry, error) {
	if !s.breaker.allow() {
		return stateEntry{}, fmt.Errorf("auth state: not asked again yet: %w", im.ErrStore)
	}
	ch := s.flight.DoChan(key.user.String()+"/"+string(key.device), func() (any, error) {
		// One caller's deadline must not end the question of the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout)
		defer cancel()
		e := stateEntry{at: s.clock()} // before the question, so never younger than the answer
		state, err := s.accounts.AuthState(ctx, key.user, key.device)
		s.breaker.done(err == nil || !away(err))
		if err != nil && !errors.Is(err, im.ErrNotFound) {
			return e, fmt.Errorf("auth state: %w", err)
		}
		e.AuthState = state
		s.keep(key, e)
		return e, nil
	})
	select {
	case r := <-ch:
		e, _ := r.Val.(stateEntry)
		return e, r.Err
	case <-ctx.Done():
		return stateEntry{}, ctx.Err()
	}
}

// keep stores an answer unless a younger one is there: a question asked before a
// logout may be answered after it.
func (s *authStates) keep(key stateKey, e stateEntry) {
	if prev, ok := s.entries.Peek(key); ok && prev.at.After(e.at) {
		return
	}
	s.entries.Add(key, e)
}

// put notes what a login has just returned.
func (s *authStates) put(u im.UserID, d im.DeviceID, state im.AuthState) {
	s.entries.Add(stateKey{u, d}, stateEntry{state, s.clock()})
}

// revoke notes that a device of the user is logged out, so that this process refuses
// its tokens at once; the others do within stateFresh.
func (s *authStates) revoke(u im.UserID, d im.DeviceID) {
	s.entries.Add(stateKey{u, d}, stateEntry{at: s.clock()})
	s.flight.Forget(u.String() + "/" + string(d))
}

// forget has MySQL asked next time.
func (s *authStates) forget(k stateKey) {
	s.flight.Forget(k.user.String() + "/" + string(k.device))
	s.entries.Remove(k)
}

// forgetUser refuses all of a user's devices, after a password change. It walks the whole
// copy, some milliseconds, which so rare an act may cost.
func (s *authStates) forgetUser(u im.UserID) {
	for _, key := range s.entries.Keys() {
		if key.user == u {
			s.revoke(key.user, key.device)
		}
	}
}
