package connector

import (
	"context"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// routeBatch bounds the sessions in one call to the routes.
const routeBatch = 500

// routesWaiting bounds who waits to be entered, and likewise who waits to be removed:
// more than a process has descriptors, and so many wait only where Redis answers nothing
// while crowds come and go. Who would come on top is told to try later; who leaves on top
// expires in Redis, as nobody renews them.
const routesWaiting = 20_000

// routing keeps the routes to this node's sessions: it registers those that arrive
// at the same moment together, removes those that left, and re-asserts all of them
// where they may have been forgotten. What waits here is bounded by routesWaiting.
type routing struct {
	s *Server

	mu      sync.Mutex // guards joins and leaves
	joins   []join
	leaves  []*conn
	changed chan struct{} // capacity 1: something to do
	doubt   chan struct{} // capacity 1: re-assert everything
}

type join struct {
	c     *conn
	frame []byte
}

func newRouting(s *Server) *routing {
	r := &routing{s: s, changed: make(chan struct{}, 1), doubt: make(chan struct{}, 1)}
	wakeUp(r.doubt) // the lease, before the first session
	return r
}

func wakeUp(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // already awake
	}
}

// join registers c and then writes frame to it.
func (r *routing) join(c *conn, frame []byte) {
	r.mu.Lock()
	full := len(r.joins) >= routesWaiting
	if !full {
		r.joins = append(r.joins, join{c, frame})
	}
	r.mu.Unlock()
	if full {
		r.s.metrics.routes.WithLabelValues("full").Inc()
		c.close(protocol.Close{Code: protocol.CloseTryLater, Reason: "overloaded"})
		return
	}
	wakeUp(r.changed)
}

// left has who is gone removed from the routes.
func (r *routing) left(gone ...*conn) {
	r.mu.Lock()
	room := min(routesWaiting-len(r.leaves), len(gone))
	r.leaves = append(r.leaves, gone[:room]...)
	r.mu.Unlock()
	if room < len(gone) {
		r.s.metrics.routes.WithLabelValues("full").Add(float64(len(gone) - room))
	}
	wakeUp(r.changed)
}

func (r *routing) leave(c *conn) {
	r.forget(c)
	r.s.presence.drop(c)
	if l, ok := r.s.up.(Leaver); ok {
		l.Left(c.session.Load())
	}
	r.left(c)
}

// forget has c found no more and says whether it could be.
func (r *routing) forget(c *conn) bool {
	if !r.s.sessions.remove(c) {
		return false
	}
	r.s.metrics.sessions.Dec()
	r.s.rooms.gone(c.session.Load().User)
	return true
}

// run does what join and leave ask for, until ctx ends and nothing is left.
func (r *routing) run(ctx context.Context) {
	for {
		select {
		case <-r.changed:
			r.flush()
		case <-ctx.Done():
			r.flush()
			return
		}
	}
}

func (r *routing) flush() {
	for {
		r.mu.Lock()
		joins, leaves := r.joins, r.leaves
		joins = joins[:min(len(joins), routeBatch)]
		leaves = leaves[:min(len(leaves), routeBatch)]
		r.joins, r.leaves = r.joins[len(joins):], r.leaves[len(leaves):]
		r.mu.Unlock()
		if len(joins)+len(leaves) == 0 {
			return
		}
		if len(joins) > 0 {
			r.register(joins)
		}
		if len(leaves) > 0 {
			r.remove(leaves)
		}
	}
}

// register enters sessions here, in the routes and in their rooms, and answers them.
// While the routes or the directory are away they are accepted all the same, and
// entered later [P4].
func (r *routing) register(joins []join) {
	entered := joins[:0]
	refs := make([]im.SessionRef, 0, len(joins))
	for _, j := range joins {
		if j.c.over.Load() { // takes nobody's place
			continue
		}
		replaced, ok := r.s.sessions.add(j.c, r.s.cfg.SessionsPerUser)
		switch {
		case !ok:
			j.c.close(tooManySessions)
			continue
		case replaced != nil:
			replaced.kick()
		default:
			r.s.metrics.sessions.Inc()
		}
		why := r.s.revoked.check(j.c.session.Load()) // after it can be found
		if why != open {
			j.c.close(why)
		}
		if why != open || j.c.over.Load() { // gone meanwhile; leave may have come before add
			r.forget(j.c)
			continue
		}
		entered = append(entered, j)
		refs = append(refs, j.c.session.Load().Ref())
	}
	if len(refs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.s.cfg.RouteTimeout)
	defer cancel()
	change, err := r.s.routes.Register(ctx, refs, r.s.cfg.SessionsPerUser)
	if err != nil {
		r.failed("register", err)
		wakeUp(r.doubt)
	}
	for _, ref := range change.Refused {
		for _, j := range entered {
			if j.c.id == ref.Session && r.forget(j.c) {
				j.c.close(tooManySessions)
			}
		}
	}
	r.kickReplaced(ctx, change.Replaced)
	r.notify(ctx, change.Watchers)
	users := make([]im.UserID, len(refs))
	for i := range refs {
		users[i] = refs[i].User
	}
	r.s.rooms.enter(users, err == nil) // after their routes: a notice that came before is in the answer
	for _, j := range entered {
		j.c.welcome(j.frame) // a closing one takes no more frames
	}
}

var tooManySessions = protocol.Close{Code: protocol.ClosePolicy, Reason: "too_many_sessions"}

// kickReplaced closes the sessions whose place a newer one has taken, wherever they
// are [P11].
func (r *routing) kickReplaced(ctx context.Context, replaced []im.SessionRef) {
	elsewhere := make(map[im.NodeID][]byte)
	for _, ref := range replaced {
		if ref.Node != r.s.node {
			elsewhere[ref.Node] = protocol.AppendDelivery(elsewhere[ref.Node], &protocol.Delivery{
				Users: []im.UserID{ref.User}, Only: ref.Session, Frame: kicked, Close: closeReplaced,
			})
			continue
		}
		r.kickHere(ref)
	}
	r.publish(ctx, elsewhere)
}

func (r *routing) kickHere(ref im.SessionRef) {
	for _, c := range r.s.sessions.of(ref.User, nil) {
		if c.id == ref.Session {
			c.kick()
		}
	}
}

// notify tells the nodes that watch users that their presence may have changed: one
// notice a node, however many users.
func (r *routing) notify(ctx context.Context, watchers map[im.NodeID][]im.UserID) {
	elsewhere := make(map[im.NodeID][]byte)
	for node, users := range watchers {
		r.s.metrics.notices.Inc()
		if node == r.s.node {
			r.s.presence.changed(users)
			continue
		}
		elsewhere[node] = protocol.AppendDelivery(nil, &protocol.Delivery{Users: users, Presence: true})
	}
	r.publish(ctx, elsewhere)
}

func (r *routing) publish(ctx context.Context, batches map[im.NodeID][]byte) {
	if len(batches) == 0 {
		return
	}
	if err := r.s.bus.Publish(ctx, batches); err != nil {
		r.failed("publish", err)
	}
}

func (r *routing) remove(leaves []*conn) {
	refs := make([]im.SessionRef, len(leaves))
	for i, c := range leaves {
		refs[i] = c.session.Load().Ref()
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.s.cfg.RouteTimeout)
	defer cancel()
	watchers, err := r.s.routes.Remove(ctx, refs)
	if err != nil {
		r.failed("remove", err) // they expire, as nobody renews them
	}
	r.notify(ctx, watchers)
}

func (r *routing) failed(call string, err error) {
	r.s.metrics.routes.WithLabelValues(call).Inc()
	r.s.log.Warn("routes are away", "call", call, "err", err)
}

// renewals is how many rounds of the lease it takes to renew every session once.
const renewals = 3

// renew keeps the node's lease and its sessions' entries alive, and re-asserts all of
// them at once after a new generation, a failure, or an interrupted subscription.
func (r *routing) renew(ctx context.Context) {
	t := time.NewTicker(r.s.cfg.RenewInterval)
	defer t.Stop()
	retry := time.NewTimer(0)
	<-retry.C
	changed := r.s.gens.Changed()
	for round := 0; ; round++ {
		step, from := renewals, round%renewals
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-changed:
			changed, step, from = r.s.gens.Changed(), 1, 0
		case <-r.doubt:
			step, from = 1, 0
		case <-retry.C:
			step, from = 1, 0
		}
		if err := r.renewShards(ctx, from, step); err != nil && ctx.Err() == nil {
			r.failed("renew", err)
			retry.Reset(min(time.Second, r.s.cfg.RenewInterval))
		}
	}
}

// renewShards renews every step-th shard of the registry; with none of theirs there
// the lease alone.
func (r *routing) renewShards(ctx context.Context, from, step int) error {
	var conns []*conn
	for i := from; i < registryShards; i += step {
		conns = r.s.sessions.inShard(i, conns)
	}
	for first := true; first || len(conns) > 0; first = false {
		n := min(len(conns), routeBatch)
		refs := make([]im.SessionRef, n)
		for i, c := range conns[:n] {
			refs[i] = c.session.Load().Ref()
		}
		call, cancel := context.WithTimeout(ctx, r.s.cfg.RouteTimeout)
		change, err := r.s.routes.Renew(call, r.s.node, refs)
		for _, ref := range change.Refused { // its kick got lost
			r.kickHere(ref)
		}
		r.kickReplaced(call, change.Replaced)
		r.notify(call, change.Watchers)
		cancel()
		if change.Lapsed {
			r.s.rooms.anew()
		}
		r.removeAgain(conns[:n])
		conns = conns[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

// removeAgain removes the routes of sessions that left while they were renewed: the
// renewal may have come after their removal, and put them back.
func (r *routing) removeAgain(conns []*conn) {
	var gone []*conn
	for _, c := range conns {
		if c.over.Load() {
			gone = append(gone, c)
		}
	}
	if len(gone) > 0 {
		r.left(gone...)
	}
}

var closeReplaced = protocol.Close{Code: protocol.CloseReplaced, Reason: "replaced"}

// kick ends a connection whose place another has taken.
func (c *conn) kick() {
	c.write(textFrame(kicked), reply)
	c.close(closeReplaced)
}
