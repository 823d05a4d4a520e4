package connector

import (
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// revokedFor is how long a revocation is held against new sessions: a logic process
	// may trust its copy of a token's state for 5 s, and a connect take as long.
	revokedFor = 15 * time.Second
	// revokedMost bounds them; beyond it the oldest goes, and such a session ends at its
	// next ping.
	revokedMost = 10_000
)

// revocations ends sessions whose login has ended, though their kick was lost, and
// those that were being accepted at that moment [P13].
type revocations struct {
	s *Server

	mu     sync.Mutex // guards what follows
	recent []revoked
	known  map[uint64]bool // the IDs in recent
}

type revoked struct {
	im.Revocation
	at time.Time
}

// take acts on what logic tells; each of its processes may tell it.
func (r *revocations) take(all []im.Revocation) {
	all = r.remember(all, time.Now())
	var found []*conn
	for i := range all {
		if all[i].Hidden != 0 {
			r.s.presence.hide(all[i])
			continue
		}
		found = r.s.sessions.of(all[i].User, found[:0])
		for _, c := range found {
			if all[i].Ends(&c.session.Load().Identity) {
				r.s.metrics.revoked.Inc()
				c.write(textFrame(ended), reply)
				c.close(closeRevoked)
			}
		}
	}
}

// remember leaves out what was told before.
func (r *revocations) remember(all []im.Revocation, now time.Time) (news []im.Revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[uint64]bool)
	}
	for _, what := range all {
		if !r.known[what.ID] {
			r.known[what.ID] = true
			r.recent = append(r.recent, revoked{what, now})
			news = append(news, what)
		}
	}
	r.forget(now)
	return news
}

// check says how a session ends that may not begin.
func (r *revocations) check(s *im.Session) protocol.Close {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	for i := range r.recent {
		if r.recent[i].User == s.User && r.recent[i].Ends(&s.Identity) {
			return closeRevoked
		}
	}
	return open
}

// forget drops what is old or too much. With mu held.
func (r *revocations) forget(now time.Time) {
	old := max(0, len(r.recent)-revokedMost)
	for old < len(r.recent) && now.Sub(r.recent[old].at) > revokedFor {
		old++
	}
	for _, what := range r.recent[:old] {
		delete(r.known, what.ID)
	}
	if r.recent = r.recent[old:]; len(r.recent) == 0 {
		r.recent = nil
	}
}

var (
	closeRevoked = protocol.Close{Code: protocol.CloseUnauthenticated, Reason: "revoked"}
	ended        = encode(protocol.PushKicked, protocol.Kicked{Code: "unauthenticated", Reason: "the token was revoked"})
)
