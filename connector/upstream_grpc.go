package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// GRPCUpstreamConfig says where logic is, when it is in other processes.
type GRPCUpstreamConfig struct {
	// Addresses of logic processes, host:port. New connections take turns among those
	// that answer. No default.
	Addresses []string
	// Token is shown to logic, which asks for it unless it listens on loopback only.
	Token string
	// Streams to each address (default 2): one is enough for a core.
	Streams int
	// MaxPendingBytes bounds what waits for an answer on one stream, and with it the
	// memory for it (default 16 MiB, at least 1 MiB). Beyond it callers wait, then are
	// told overloaded.
	MaxPendingBytes int64
}

// Validate names the first bad field.
func (c GRPCUpstreamConfig) Validate() error {
	if len(c.Addresses) == 0 {
		return errors.New("connector.upstream.addresses: is empty")
	}
	for i, a := range c.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("connector.upstream.addresses[%d]: %q is not host:port", i, a)
		}
	}
	if c.Streams < 0 || c.Streams > 64 {
		return fmt.Errorf("connector.upstream.streams: %d is not between 0 and 64", c.Streams)
	}
	if c.MaxPendingBytes != 0 && c.MaxPendingBytes < 1<<20 {
		return fmt.Errorf("connector.upstream.max_pending_bytes: %d is below 1048576", c.MaxPendingBytes)
	}
	return nil
}

func (c GRPCUpstreamConfig) withDefaults() GRPCUpstreamConfig {
	if c.Streams == 0 {
		c.Streams = 2
	}
	if c.MaxPendingBytes == 0 {
		c.MaxPendingBytes = 16 << 20
	}
	return c
}

const (
	// bridgeTimeout is when an unanswered message is answered by us; with bridgeSweep it
	// stays below the 5 s in which every send is answered (contract 1).
	bridgeTimeout = 4800 * time.Millisecond
	bridgeSweep   = 100 * time.Millisecond

	bridgeRedialMin = 100 * time.Millisecond
	bridgeRedialMax = 3 * time.Second
)

// GRPCUpstream is an Upstream that is reached over the network, in batches: what is
// waiting travels together, nothing waits for company. A connection keeps to one
// stream, so its messages stay in order; when that breaks, it goes on over another.
// Everything is answered within 5 s: what may have reached logic as unknown, what
// cannot have as refused.
type GRPCUpstream struct {
	cfg     GRPCUpstreamConfig
	log     *slog.Logger
	timeout time.Duration
	links   []*link
	turn    atomic.Uint32
	met     *upstreamMetrics
	tell    atomic.Pointer[func([]im.Revocation)]

	mu   sync.RWMutex // guards pins
	pins map[im.SessionID]*pin
}

// link keeps one stream to one address open.
type link struct {
	address string
	carrier atomic.Pointer[carrier] // nil while there is none
}

// pin is where a session's messages go. One Handle at a time changes it.
type pin struct {
	pending atomic.Int64

	mu      sync.Mutex // guards what follows against Release
	carrier *carrier
	conn    uint64
	known   *im.Session // as logic has it on this carrier
}

// route chooses the stream for the next message; nil: there is none. While something
// is pending on a stream that still works it stays there, since it could be overtaken
// on another.
func (p *pin) route(u *GRPCUpstream, s *im.Session) (c *carrier, conn uint64, introduce bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.carrier == nil || p.carrier.dead() || (!p.carrier.open.Load() && p.pending.Load() == 0) {
		if p.carrier = u.pick(); p.carrier == nil {
			return nil, 0, false
		}
		p.conn, p.known = p.carrier.number(), nil
	}
	return p.carrier, p.conn, p.known != s
}

// NewGRPCUpstream returns an upstream that refuses everything until Run has reached
// somebody.
func NewGRPCUpstream(cfg GRPCUpstreamConfig, log *slog.Logger, reg prometheus.Registerer) (*GRPCUpstream, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	u := &GRPCUpstream{cfg: cfg, log: log, timeout: bridgeTimeout, pins: map[im.SessionID]*pin{}}
	for range cfg.Streams { // neighbours in turn are different processes
		for _, a := range cfg.Addresses {
			u.links = append(u.links, &link{address: a})
		}
	}
	u.met = newUpstreamMetrics(reg, u)
	return u, nil
}

// Run keeps the streams open until ctx ends, then waits for what is pending.
func (u *GRPCUpstream) Run(ctx context.Context) error {
	conns := map[string]*grpc.ClientConn{}
	for _, a := range u.cfg.Addresses {
		conn, err := grpc.NewClient(a,
			grpc.WithTransportCredentials(insecure.NewCredentials()), // a private network, and a token
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 4 * time.Second, PermitWithoutStream: true}),
			grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(protocol.BridgeCodec{}), grpc.MaxCallRecvMsgSize(64<<20)),
		)
		if err != nil {
			return fmt.Errorf("connector.upstream.addresses: %s: %w", a, err)
		}
		defer conn.Close()
		conns[a] = conn
	}
	var wg sync.WaitGroup
	for _, l := range u.links {
		wg.Go(func() { u.keep(ctx, l, conns[l.address]) })
	}
	wg.Wait()
	return nil
}

// Ready says whether any logic process is reached.
func (u *GRPCUpstream) Ready() bool { return u.pick() != nil }

// keep opens the stream of a link again and again.
func (u *GRPCUpstream) keep(ctx context.Context, l *link, conn *grpc.ClientConn) {
	wait := bridgeRedialMin
	for ctx.Err() == nil {
		opened, err := u.serve(ctx, l, conn)
		if ctx.Err() != nil {
			return
		}
		if opened {
			wait = bridgeRedialMin
		}
		if status.Code(err) == codes.Unauthenticated {
			u.log.Error("logic refuses our token", "address", l.address)
		} else {
			u.log.Warn("stream to logic ended, opening another", "address", l.address, "err", err)
		}
		conn.ResetConnectBackoff() // our own waiting is enough
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, bridgeRedialMax)
	}
}

// serve is one life of a link's stream.
func (u *GRPCUpstream) serve(ctx context.Context, l *link, conn *grpc.ClientConn) (opened bool, err error) {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if u.cfg.Token != "" {
		streamCtx = metadata.AppendToOutgoingContext(streamCtx, "authorization", "Bearer "+u.cfg.Token)
	}
	give := time.AfterFunc(u.timeout, cancel) // opening has a deadline; what follows has none
	defer give.Stop()
	stop := context.AfterFunc(ctx, cancel)
	stream, err := conn.NewStream(streamCtx, &grpc.StreamDesc{StreamName: protocol.BridgeStream,
		ClientStreams: true, ServerStreams: true}, protocol.BridgeMethod)
	if err != nil {
		return false, err
	}
	if md, err := stream.Header(); err != nil || md == nil { // logic has taken it on
		if err == nil {
			err = stream.RecvMsg(new([]byte)) // tells why not
		}
		return false, err
	}
	if !give.Stop() || !stop() {
		return false, im.ErrTimeout
	}
	c := newCarrier(u, stream, conn, cancel)
	l.carrier.Store(c)
	defer l.carrier.Store(nil)
	u.log.Info("stream to logic open", "address", l.address)
	return true, c.run(ctx)
}

// pick takes turns among the streams that take new connections; nil: there is none.
func (u *GRPCUpstream) pick() *carrier {
	start := int(u.turn.Add(1))
	for i := range u.links {
		if c := u.links[(start+i)%len(u.links)].carrier.Load(); c != nil && c.open.Load() {
			return c
		}
	}
	return nil
}

// Connect implements Upstream. Where logic is away the connection is closed with
// 1013: come back later.
func (u *GRPCUpstream) Connect(ctx context.Context, hello protocol.Hello, message []byte, answer func(protocol.ConnectAnswer)) {
	p := &pin{} // known from now on, so that Release may come before the answer
	u.mu.Lock()
	u.pins[hello.Session] = p
	u.mu.Unlock()
	call := &call{message: message, pin: p, session: hello.Session, connect: answer}
	for {
		c, conn, _ := p.route(u, nil)
		if c == nil {
			u.met.failed.WithLabelValues("away").Inc()
			u.drop(hello.Session, p)
			call.fail(im.ErrOverloaded)
			return
		}
		call.conn = conn
		p.pending.Add(1)
		err := c.ask(ctx, call, &protocol.Ask{Conn: conn, Hello: &hello, Message: message})
		if err == nil {
			return
		}
		p.pending.Add(-1)
		if !errors.Is(err, errCarrierClosed) {
			u.met.failed.WithLabelValues("full").Inc()
			u.drop(hello.Session, p)
			call.fail(im.ErrOverloaded)
			return
		}
	}
}

// Handle implements Upstream. Where logic is away a send is refused at once: it will
// never appear.
func (u *GRPCUpstream) Handle(ctx context.Context, s *im.Session, message []byte, answer func(protocol.Answer)) {
	u.mu.RLock()
	p := u.pins[s.ID]
	u.mu.RUnlock()
	if p == nil { // released: the caller breaks its word, or asks after the end
		p = &pin{}
	}
	call := &call{message: message, handle: answer, pin: p}
	for {
		c, conn, introduce := p.route(u, s)
		if c == nil {
			u.met.failed.WithLabelValues("away").Inc()
			call.fail(im.ErrOverloaded)
			return
		}
		ask := &protocol.Ask{Conn: conn, Message: message}
		if introduce {
			ask.Session = s
		}
		p.pending.Add(1)
		err := c.ask(ctx, call, ask)
		if err == nil {
			p.mu.Lock()
			p.known = s
			p.mu.Unlock()
			return
		}
		p.pending.Add(-1)
		if !errors.Is(err, errCarrierClosed) {
			u.met.failed.WithLabelValues("full").Inc()
			call.fail(im.ErrOverloaded)
			return
		}
	}
}

// OnRevoked implements Revoker.
func (u *GRPCUpstream) OnRevoked(tell func([]im.Revocation)) { u.tell.Store(&tell) }

func (u *GRPCUpstream) revoked(all []im.Revocation) {
	if tell := u.tell.Load(); tell != nil {
		(*tell)(all)
	}
}

// Release implements Releaser: it forgets a session, here and at logic.
func (u *GRPCUpstream) Release(id im.SessionID) {
	u.mu.Lock()
	p := u.pins[id]
	delete(u.pins, id)
	u.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	c, conn := p.carrier, p.conn
	p.mu.Unlock()
	if c != nil {
		c.gone(conn)
	}
}

// accepted notes that logic knows the session; false: it was released meanwhile.
func (u *GRPCUpstream) accepted(s *im.Session, p *pin) bool {
	u.mu.RLock()
	held := u.pins[s.ID] == p
	u.mu.RUnlock()
	p.mu.Lock()
	p.known = s
	p.mu.Unlock()
	return held
}

// drop forgets a session that was not accepted.
func (u *GRPCUpstream) drop(id im.SessionID, p *pin) {
	u.mu.Lock()
	if u.pins[id] == p {
		delete(u.pins, id)
	}
	u.mu.Unlock()
}

// upstreamMetrics says how the bridge does.
type upstreamMetrics struct {
	failed   *prometheus.CounterVec
	batches  prometheus.Counter
	messages prometheus.Counter
}

func newUpstreamMetrics(reg prometheus.Registerer, u *GRPCUpstream) *upstreamMetrics {
	m := &upstreamMetrics{
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "curlew_connector_upstream_failed_total",
			Help: "Messages answered here because logic did not: away, broken, timeout or full."}, []string{"reason"}),
		batches: prometheus.NewCounter(prometheus.CounterOpts{Name: "curlew_connector_upstream_batches_total",
			Help: "Batches sent to logic."}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{Name: "curlew_connector_upstream_messages_total",
			Help: "Messages sent to logic."}),
	}
	reg.MustRegister(m.failed, m.batches, m.messages,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "curlew_connector_upstream_streams",
			Help: "Streams to logic that take new connections."}, func() (n float64) {
			for _, l := range u.links {
				if c := l.carrier.Load(); c != nil && c.open.Load() {
					n++
				}
			}
			return n
		}))
	return m
}
