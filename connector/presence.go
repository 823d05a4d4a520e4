package connector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// offlineGrace is how long somebody must be away before it is told: who reconnects
	// was never gone.
	offlineGrace = 2 * time.Second
	// presencePause is between two pushes about one user, and readPause between two
	// reads: who comes and goes all the time costs no more.
	presencePause = time.Second
	readPause     = 200 * time.Millisecond
	// settleTime is how long all nodes together need to enter their sessions anew when
	// Redis has forgotten them; nobody is read before.
	settleTime = 3 * time.Second
	// longDead is who was seen last so long ago that a node has died, not a connection.
	longDead = 10 * time.Second

	presenceTick = 100 * time.Millisecond
	nodesCheck   = time.Second
	readBatch    = 1000
)

// presence tells connections of the presence of others. A user whom connections of
// this node watch is a target, and the node is entered in the routes as watching them;
// whoever changes a target's sessions says so to the node, which reads them and tells
// what differs from what it has told [P12]. What is kept is bounded by the connections
// (im.MaxWatched each); what is in the routes ends by itself unless it is renewed.
type presence struct {
	s    *Server
	wake chan struct{} // capacity 1: something to do now

	mu      sync.Mutex // guards what follows, the targets and conn.watched
	targets map[im.UserID]*target
	fresh   []*target   // to be entered in the routes
	empty   []im.UserID // to be taken out of them
	due     map[*target]struct{}
	hides   []im.Revocation
	settled time.Time // nobody is read before

	// The loop's own.
	failing bool
	retry   time.Time // the routes are left alone before
	nodes   map[im.NodeID]bool
	nodesAt time.Time
	renewAt time.Time
	round   int
}

// target is one user who is watched here.
type target struct {
	user    im.UserID
	watches []watch
	state   string      // as read last
	nodes   []im.NodeID // that held the sessions then
	at      time.Time   // when to read again
	read    time.Time
	told    time.Time
	away    time.Time // since when they were read offline and not yet told so
	entered bool
}

// watch is one connection that watches, and what it was told last.
type watch struct {
	c     *conn
	state string
}

func newPresence(s *Server) *presence {
	return &presence{s: s, wake: make(chan struct{}, 1), targets: make(map[im.UserID]*target), due: make(map[*target]struct{})}
}

// apply begins and ends watches of c. What has changed between logic's reading and
// the moment from which this node is told is found by reading once more.
func (p *presence) apply(c *conn, all []protocol.Watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.over.Load() {
		return // drop has been, or comes
	}
	now := time.Now()
	for _, w := range all {
		if w.End {
			p.end(c, w.User)
			continue
		}
		t := p.targets[w.User]
		if t == nil {
			t = &target{user: w.User}
			p.targets[w.User] = t
			p.fresh = append(p.fresh, t)
			p.s.metrics.watched.Inc()
		}
		if i := slices.Index(c.watched, w.User); i >= 0 {
			c.watched = append(slices.Delete(c.watched, i, i+1), w.User)
			t.watches[t.index(c)].state = w.State
		} else {
			c.watched = append(c.watched, w.User)
			t.watches = append(t.watches, watch{c, w.State})
		}
		p.mark(t, now)
		if len(c.watched) > im.MaxWatched {
			p.end(c, c.watched[0])
		}
	}
	wakeUp(p.wake)
}

// drop ends all watches of a connection that has ended.
func (p *presence) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(c.watched) > 0 {
		p.end(c, c.watched[len(c.watched)-1])
	}
}

// end ends one watch and says whether there was one, and what it was told. With mu held.
func (p *presence) end(c *conn, u im.UserID) (state string, was bool) {
	i := slices.Index(c.watched, u)
	if i < 0 {
		return "", false
	}
	c.watched = slices.Delete(c.watched, i, i+1)
	if len(c.watched) == 0 {
		c.watched = nil
	}
	t := p.targets[u]
	i = t.index(c)
	state = t.watches[i].state
	last := len(t.watches) - 1
	t.watches[i] = t.watches[last]
	t.watches[last] = watch{}
	if t.watches = t.watches[:last]; last == 0 {
		delete(p.targets, u)
		delete(p.due, t)
		p.empty = append(p.empty, u)
		p.s.metrics.watched.Dec()
		wakeUp(p.wake)
	}
	return state, true
}

func (t *target) index(c *conn) int {
	return slices.IndexFunc(t.watches, func(w watch) bool { return w.c == c })
}

// changed takes notice that the presence of users may have changed.
func (p *presence) changed(users []im.UserID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, u := range users {
		if t := p.targets[u]; t != nil {
			p.mark(t, now)
		}
	}
	wakeUp(p.wake)
}

// hide has a user see another no longer.
func (p *presence) hide(r im.Revocation) {
	p.mu.Lock()
	p.hides = append(p.hides, r)
	p.mu.Unlock()
	wakeUp(p.wake)
}

// doubt reads everybody again: notices may have been lost. Where Redis may have
// forgotten who watches, they are entered anew, and read when all sessions are.
func (p *presence) doubt(forgotten bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if forgotten {
		p.settled = now.Add(settleTime)
		p.fresh = p.fresh[:0]
	}
	for _, t := range p.targets {
		if forgotten {
			t.entered = false
			p.fresh = append(p.fresh, t)
		}
		p.mark(t, now)
	}
	wakeUp(p.wake)
}

// mark has t read soon. With mu held.
func (p *presence) mark(t *target, now time.Time) {
	at := now
	for _, least := range []time.Time{t.told.Add(presencePause), t.read.Add(readPause), p.settled} {
		if at.Before(least) {
			at = least
		}
	}
	if _, waits := p.due[t]; !waits || at.Before(t.at) {
		t.at = at
		p.due[t] = struct{}{}
	}
}

// run does what the others ask for, until ctx ends; then nothing is watched here.
func (p *presence) run(ctx context.Context) {
	tick := time.NewTicker(presenceTick)
	defer tick.Stop()
	changed := p.s.gens.Changed()
	for {
		select {
		case <-ctx.Done():
			p.leave(context.WithoutCancel(ctx))
			return
		case <-changed:
			changed = p.s.gens.Changed()
			p.doubt(true)
		case <-p.wake:
		case <-tick.C:
		}
		p.hidden()
		now := time.Now()
		if now.Before(p.retry) {
			continue
		}
		if err := p.work(ctx, now); err != nil && ctx.Err() == nil {
			p.s.routing.failed("presence", err)
			p.failing, p.retry = true, now.Add(time.Second)
		} else if p.failing {
			p.failing = false
			p.doubt(true) // what was entered may have run out meanwhile
		}
	}
}

// work is one round: out of the routes, into them, whose node has died, who is due.
func (p *presence) work(ctx context.Context, now time.Time) error {
	p.leave(ctx)
	if err := p.enter(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	idle := len(p.targets) == 0
	p.mu.Unlock()
	if idle {
		return nil
	}
	if now.Sub(p.nodesAt) >= nodesCheck {
		p.nodesAt = now
		if err := p.checkNodes(ctx); err != nil {
			return err
		}
	}
	if now.Sub(p.renewAt) >= p.s.cfg.RenewInterval {
		p.renewAt = now
		if err := p.renew(ctx); err != nil {
			return err
		}
	}
	for {
		more, err := p.readDue(ctx, now)
		if err != nil || !more {
			return err
		}
	}
}

// leave takes out whom nobody watches any more. What fails runs out by itself.
// enter enters the new ones that are still watched; those that could not be entered
// stay for the next round. Who is given up meanwhile is taken out by it.
// renew keeps a third of what is entered alive, in turn.
// checkNodes has those read who were on a node that has died since.
// readDue reads those whose time has come, and tells what is new.
// tell puts what t's watchers do not know yet into their outboxes. With mu held.
// hidden ends the watches of those who may not see somebody any more; to them they
// have gone offline.
