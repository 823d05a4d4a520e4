package connector

import (
	"net/netip"
	"sync"
	"time"
)

// admission lets new connections in no faster than they can be served, and no more
// of one address than its share.
type admission struct {
	cfg *Config

	mu     sync.Mutex // guards the rest
	global rate
	byIP   map[netip.Addr]*origin
	swept  time.Time
}

// origin is one address: what it holds open and how fast it opens more. It is kept
// while it holds something or its bucket is not full yet, so that the map is bounded
// by the connections and by a second's worth of handshakes.
type origin struct {
	open    int
	shaking int // connected, and the handshake is not over
	rate    rate
}

// rate is a token bucket: perSecond tokens a second, and as many at most.
type rate struct {
	tokens float64
	at     time.Time
}

// has refills the bucket and says whether a token is there, else how long until.
func (r *rate) has(now time.Time, perSecond int) (ok bool, wait time.Duration) {
	if perSecond < 0 {
		return true, 0
	}
	if r.at.IsZero() {
		r.tokens = float64(perSecond)
	} else {
		r.tokens = min(r.tokens+now.Sub(r.at).Seconds()*float64(perSecond), float64(perSecond))
	}
	r.at = now
	if r.tokens < 1 {
		return false, time.Duration((1 - r.tokens) / float64(perSecond) * float64(time.Second))
	}
	return true, 0
}

func newAdmission(cfg *Config) *admission {
	return &admission{cfg: cfg, byIP: make(map[netip.Addr]*origin)}
}

// arrive counts in a connection that has said nothing yet, or says that its address has
// its share already: a handshake that never ends takes a place, too. A trusted proxy
// has many clients' and is not counted here.
func (a *admission) arrive(ip string) bool {
	key := networkOf(ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.byIP[key]
	if o == nil {
		o = &origin{}
		a.byIP[key] = o
	}
	if a.cfg.ConnectionsPerIP >= 0 && o.open+o.shaking >= a.cfg.ConnectionsPerIP {
		return false
	}
	o.shaking++
	return true
}

// shook counts out one that arrived: its handshake is over, or it has ended.
func (a *admission) shook(ip string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := networkOf(ip)
	o := a.byIP[key]
	if o == nil {
		return
	}
	o.shaking--
	// Who asked for nothing leaves nothing: only those who ask have others swept.
	if o.open <= 0 && o.shaking <= 0 && o.rate.at.IsZero() {
		delete(a.byIP, key)
	}
}

// admit counts a connection of ip in, or says after how long to try again. An
// admitted one is released when it ends.
func (a *admission) admit(ip string, now time.Time) (ok bool, retryAfter time.Duration) {
	key := networkOf(ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep(now)
	o := a.byIP[key]
	if o == nil {
		o = &origin{}
		a.byIP[key] = o
	}
	if a.cfg.ConnectionsPerIP >= 0 && o.open >= a.cfg.ConnectionsPerIP {
		return false, 5 * time.Second
	}
	if ok, wait := o.rate.has(now, a.cfg.ConnectsPerIP); !ok {
		return false, wait
	}
	if ok, wait := a.global.has(now, a.cfg.HandshakesPerSecond); !ok {
		return false, wait
	}
	o.rate.tokens--
	a.global.tokens--
	o.open++
	return true, 0
}

func (a *admission) release(ip string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.byIP[networkOf(ip)]; o != nil {
		o.open--
	}
}

// sweep forgets, each second, the addresses that hold nothing and may again do
// everything. With mu held.
func (a *admission) sweep(now time.Time) {
	if now.Sub(a.swept) < time.Second {
		return
	}
	a.swept = now
	for k, o := range a.byIP {
		if o.open <= 0 && o.shaking <= 0 && now.Sub(o.rate.at) > time.Second {
			delete(a.byIP, k)
		}
	}
}

// networkOf is what counts as one address: an IPv6 customer has a whole /64.
func networkOf(ip string) netip.Addr {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Addr{}
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
