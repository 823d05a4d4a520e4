package connector

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Server holds the connections of one node.
type Server struct {
	cfg       Config
	node      im.NodeID
	up        Upstream
	routes    Routes
	bus       Bus
	gens      Generations
	directory Directory
	log       *slog.Logger
	metrics   *metrics
	proxies   []netip.Prefix

	wheel     *wheel
	admission *admission
	sessions  *registry
	routing   *routing
	pusher    *pusher
	presence  *presence
	rooms     *rooms
	revoked   *revocations
	readers   *crew // hands messages to logic
	poller    poller

	work     context.Context // of what was taken: outlives Run's context by the drain
	calls    atomic.Pointer[callWindow]
	live     atomic.Int64 // connections
	draining atomic.Bool
	listens  bool
}

// poller accepts connections and moves their bytes.
type poller interface {
	listen(addr string) (net.Addr, error)
	// run serves until stop.
	run()
	// refuse closes the listeners; what is connected stays.
	refuse()
	// each calls f for every connection, the unfinished ones too.
	each(f func(*conn))
	// stop ends run; connections still there are cut.
	stop()
}

// New checks cfg. node is this life of this process: it names the channel that pushes
// come by and the lease that routes stand on.
func New(cfg Config, node im.NodeID, up Upstream, routes Routes, bus Bus, gens Generations, directory Directory,
	log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	def(&cfg.Loops, runtime.GOMAXPROCS(0))
	def(&cfg.MaxConnections, descriptorLimit()/10*9)
	s := &Server{cfg: cfg, node: node, up: up, routes: routes, bus: bus, gens: gens, directory: directory, log: log,
		wheel: newWheel(), sessions: newRegistry()}
	for _, p := range cfg.TrustedProxies {
		n, err := parseNetwork(p)
		if err != nil {
			return nil, err
		}
		s.proxies = append(s.proxies, n)
	}
	s.admission = newAdmission(&s.cfg)
	s.routing = newRouting(s)
	s.presence = newPresence(s)
	s.rooms = newRooms(s)
	s.revoked = &revocations{s: s}
	if r, ok := up.(Revoker); ok {
		r.OnRevoked(s.revoked.take)
	}
	s.pusher = &pusher{s: s, fence: newFence(fenceSize), heard: make(chan struct{})}
	var err error
	if s.metrics, err = newMetrics(reg); err != nil {
		return nil, fmt.Errorf("connector metrics: %w", err)
	}
	if s.poller, err = newPoller(s); err != nil {
		return nil, err
	}
	return s, nil
}

// Listen binds the address and returns it, resolved; Run serves there. An address
// that another process listens on is an error.
func (s *Server) Listen() (net.Addr, error) {
	a, err := s.poller.listen(s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("connector.listen: %w", err)
	}
	s.listens = true
	return a, nil
}

// Run serves, after Listen, until ctx ends, then drains [P10] and returns when all it
// started is done: at most DrainTime, one CallTimeout and a few seconds later.
func (s *Server) Run(ctx context.Context) error {
	if !s.listens {
		return errors.New("connector: Run before Listen")
	}
	var err error
	if s.readers, err = newCrew(s.cfg.Workers, (*conn).turn); err != nil {
		return fmt.Errorf("connector workers: %w", err)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.work = work

	var own, routing, rooms sync.WaitGroup
	routed, routedDone := context.WithCancel(work)
	defer routedDone()
	entered, enteredDone := context.WithCancel(work)
	defer enteredDone()
	own.Go(func() { s.wheel.run(work, s.look) })
	own.Go(func() { s.pusher.run(work) })
	own.Go(func() { s.routing.renew(work) })
	own.Go(func() { s.presence.run(work) })
	own.Go(func() { s.rooms.run(work) })
	own.Go(func() { s.rooms.sweep(work) })
	own.Go(func() { s.rooms.recheck(work) })
	rooms.Go(func() { s.rooms.keep(entered) })
	routing.Go(func() { s.routing.run(routed) })
	s.pusher.subscribed(ctx)
	own.Go(s.poller.run)

	<-ctx.Done()
	s.drain()
	s.poller.stop()
	err = s.readers.stop(s.cfg.CallTimeout + time.Second)
	routedDone() // after the last leave
	routing.Wait()
	enteredDone()
	rooms.Wait()
	stop()
	own.Wait()
	return err
}

// drain stops accepting, sends every session away over DrainTime, and waits for
// them to go.
func (s *Server) drain() {
	s.draining.Store(true)
	s.poller.refuse()
	var all []*conn
	s.poller.each(func(c *conn) { all = append(all, c) })
	s.log.Info("connector drains", "connections", len(all))
	mrand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	start, spread := time.Now(), max(0, s.cfg.DrainTime)
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	limit := spread + s.cfg.CallTimeout + lingerTime
	late := spread
	for sent := 0; s.live.Load() > 0 && time.Since(start) < limit; <-t.C {
		due := len(all)
		past := time.Since(start)
		if past < spread {
			due = int(float64(len(all)) * float64(past) / float64(spread))
		}
		for ; sent < due; sent++ {
			all[sent].retire()
			all[sent] = nil
		}
		if past > late { // who was let in at the very last moment
			late = past + time.Second
			s.poller.each(func(c *conn) { all = append(all, c) })
		}
	}
}

// comeBack is within what a node's clients spread their return after it went, in
// milliseconds.
const comeBack = 5000

// farewell tells a client to come back, each at another moment.
func farewell() protocol.Close {
	return protocol.Close{Code: protocol.CloseRestart, Reason: fmt.Sprintf(`{"retry_after_ms":%d}`, mrand.IntN(comeBack))}
}

// accept counts in a new connection from a peer; nil says there is no room.
func (s *Server) accept(w wire, ip string) *conn {
	direct := !s.trusted(ip)
	if s.live.Add(1) > int64(s.cfg.MaxConnections) || s.draining.Load() || direct && !s.admission.arrive(ip) {
		s.live.Add(-1)
		s.metrics.handshakes.WithLabelValues("503").Inc()
		return nil
	}
	s.metrics.connections.Inc()
	c := &conn{s: s, wire: w, ip: ip, id: newSessionID(), arrived: direct}
	c.heard.Store(s.wheel.now())
	c.beginPart(s.cfg.HandshakeTimeout)
	return c
}

// release tells an upstream that keeps something per session, as one over the network
// does, that the session has ended.
func (s *Server) release(id im.SessionID) {
	if r, ok := s.up.(interface{ Release(im.SessionID) }); ok {
		r.Release(id)
	}
}

// callWindow is the context of the calls that begin within one tickTime: a context and
// a timer for each message would cost more than parsing it.
type callWindow struct {
	ctx    context.Context
	cancel context.CancelFunc // never called: others still use it, and it ends by itself
	begun  time.Time
}

// callContext ends CallTimeout from now, or up to a tickTime earlier.
func (s *Server) callContext() context.Context {
	now := time.Now()
	if w := s.calls.Load(); w != nil && now.Sub(w.begun) < tickTime {
		return w.ctx
	}
	w := &callWindow{begun: now}
	w.ctx, w.cancel = context.WithTimeout(s.work, s.cfg.CallTimeout)
	s.calls.Store(w)
	return w.ctx
}

// wakeAll has the connections' outboxes written.
func (s *Server) wakeAll(cs []*conn) {
	for _, c := range cs {
		c.wire.wake(c)
	}
}

// newSessionID is 120 random bits: unique over all nodes and lives.
func newSessionID() im.SessionID {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return im.SessionID(base64.RawURLEncoding.EncodeToString(b[:]))
}
