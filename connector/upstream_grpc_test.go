package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/logic/im"
)

// upLogic accepts everybody, notes what it handles and answers as told.
type upLogic struct {
	mu     sync.Mutex
	order  map[im.SessionID][]int
	users  map[im.SessionID]im.UserID
	held   []func(protocol.Answer)
	hold   atomic.Bool // answers nothing
	refuse atomic.Bool // connects
	active map[im.SessionID]int
	double atomic.Bool // two messages of one connection at once
	left   []im.SessionID
	revoke func([]im.Revocation)
}

func newUpLogic() *upLogic {
	return &upLogic{order: map[im.SessionID][]int{}, users: map[im.SessionID]im.UserID{}, active: map[im.SessionID]int{}}
}

func (f *upLogic) Connect(_ context.Context, h protocol.Hello, m []byte, answer func(protocol.ConnectAnswer)) {
	if f.refuse.Load() {
		answer(protocol.ConnectAnswer{Frame: []byte("no"), Close: protocol.Close{Code: protocol.CloseUnauthenticated, Reason: "why"}})
		return
	}
	s := &im.Session{ID: h.Session, Node: h.Node, IP: h.IP, Identity: im.Identity{User: 7, Device: "d", Platform: "p", ExpiresAt: 99, TokenVersion: 3, DeviceVersion: 4}}
	answer(protocol.ConnectAnswer{Session: s, Frame: append([]byte("hi "), m...)})
}

func (f *upLogic) Handle(_ context.Context, s *im.Session, m []byte, answer func(protocol.Answer)) {
	f.mu.Lock()
	if f.active[s.ID]++; f.active[s.ID] > 1 {
		f.double.Store(true)
	}
	f.mu.Unlock()
	var req struct{ Data struct{ N int } }
	_ = json.Unmarshal(m, &req)
	f.mu.Lock()
	f.order[s.ID] = append(f.order[s.ID], req.Data.N)
	f.users[s.ID] = s.User
	f.active[s.ID]--
	if f.hold.Load() {
		f.held = append(f.held, answer)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	answer(protocol.Answer{Frame: m})
}

func (f *upLogic) Left(s *im.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, s.ID)
}

func (f *upLogic) OnRevoked(tell func([]im.Revocation)) { f.revoke = tell }

func (f *upLogic) handled(id im.SessionID) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.order[id])
}

func (f *upLogic) heldCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held)
}

func upSend(n int) []byte {
	return fmt.Appendf(nil, `{"id":"%d","cmd":"send","data":{"n":%d}}`, n, n)
}

// bridgeServer is one logic process that can be stopped and killed.
type bridgeServer struct {
	addr string
	stop func() // gracefully; waits
}

func startBridge(t testing.TB, addr string, h logic.GRPCHandler, token string) bridgeServer {
	t.Helper()
	return startBridgeFor(t, addr, h, newDirectory(), token)
}

func startBridgeFor(t testing.TB, addr string, h logic.GRPCHandler, dir logic.Directory, token string) bridgeServer {
	t.Helper()
	var s *logic.GRPCServer
	upEventually(t, "the address is free", func() (ok bool) {
		var err error
		s, err = logic.NewGRPCServer(logic.GRPCServerConfig{Listen: addr, Token: token, DrainTimeout: time.Second},
			h, dir, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		return err == nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(stop)
	return bridgeServer{s.Addr().String(), stop}
}

func startUpstream(t testing.TB, timeout time.Duration, cfg GRPCUpstreamConfig) *GRPCUpstream {
	t.Helper()
	u, err := NewGRPCUpstream(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if timeout != 0 {
		u.timeout = timeout
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("upstream: %v", err)
		}
	})
	return u
}

func upEventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (u *GRPCUpstream) openStreams() (n int) {
	for _, l := range u.links {
		if c := l.carrier.Load(); c != nil && c.open.Load() {
			n++
		}
	}
	return n
}

func upConnect(t testing.TB, u Upstream, id im.SessionID) *im.Session {
	t.Helper()
	got := make(chan protocol.ConnectAnswer, 1)
	u.Connect(t.Context(), protocol.Hello{Session: id, Node: "n1", IP: "1.2.3.4"}, []byte("hello"), func(a protocol.ConnectAnswer) { got <- a })
	a := <-got
	if a.Session == nil {
		t.Fatalf("connect refused: %+v", a)
	}
	return a.Session
}

func upHandle(t testing.TB, u Upstream, s *im.Session, m []byte) protocol.Answer {
	t.Helper()
	got := make(chan protocol.Answer, 1)
	u.Handle(t.Context(), s, m, func(a protocol.Answer) { got <- a })
	return <-got
}

func upError(t testing.TB, a protocol.Answer) protocol.Error {
	t.Helper()
	var r struct{ Error *protocol.Error }
	if err := json.Unmarshal(a.Frame, &r); err != nil || r.Error == nil {
		t.Fatalf("not an error reply: %s", a.Frame)
	}
	return *r.Error
}

func TestGRPCUpstream_SessionTravelsWhole(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := newUpLogic()
	func() {
		srv := startBridge(t, "127.0.0.1:0", f, "")
		u, err := NewGRPCUpstream(GRPCUpstreamConfig{Addresses: []string{srv.addr}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- u.Run(ctx) }()
		upEventually(t, "streams open", u.Ready)
		s := upConnect(t, u, "s1")
		want := im.Session{ID: "s1", Node: "n1", IP: "1.2.3.4", Identity: im.Identity{User: 7, Device: "d", Platform: "p", ExpiresAt: 99, TokenVersion: 3, DeviceVersion: 4}}
		if *s != want {
			t.Errorf("session %+v, want %+v", *s, want)
		}
		if a := upHandle(t, u, s, upSend(1)); string(a.Frame) != string(upSend(1)) {
			t.Errorf("answer %s", a.Frame)
		}
		newer := *s // a refreshed token
		newer.User = 8
		upHandle(t, u, &newer, upSend(2))
		f.mu.Lock()
		if f.users["s1"] != 8 {
			t.Errorf("logic handled as user %d, want the newer session's 8", f.users["s1"])
		}
		f.mu.Unlock()
		f.refuse.Store(true)
		got := make(chan protocol.ConnectAnswer, 1)
		u.Connect(t.Context(), protocol.Hello{Session: "s2"}, nil, func(a protocol.ConnectAnswer) { got <- a })
		if a := <-got; a.Session != nil || string(a.Frame) != "no" || a.Close != (protocol.Close{Code: 4401, Reason: "why"}) {
			t.Errorf("refused connect: %+v", a)
		}
		u.Release("s1")
		u.mu.Lock()
		if len(u.pins) != 0 {
			t.Errorf("%d sessions kept after release and refusal", len(u.pins))
		}
		u.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		srv.stop()
	}()
}

func TestGRPCUpstream_OrderUnderLoad(t *testing.T) {
	f := newUpLogic()
	srv := startBridge(t, "127.0.0.1:0", f, "")
	u := startUpstream(t, 0, GRPCUpstreamConfig{Addresses: []string{srv.addr}, Streams: 3, MaxPendingBytes: 1 << 20})
	upEventually(t, "streams open", func() bool { return u.openStreams() == 3 })
	const conns, each = 50, 400
	var wg sync.WaitGroup
	for c := range conns {
		s := upConnect(t, u, im.SessionID(fmt.Sprint("s", c)))
		wg.Go(func() {
			var answers sync.WaitGroup
			for n := range each {
				answers.Add(1)
				u.Handle(t.Context(), s, upSend(n), func(a protocol.Answer) {
					if string(a.Frame) != string(upSend(n)) {
						t.Errorf("answer of %d is %s", n, a.Frame)
					}
					answers.Done()
				})
			}
			answers.Wait()
		})
	}
	wg.Wait()
	for c := range conns {
		got := f.handled(im.SessionID(fmt.Sprint("s", c)))
		if len(got) != each || !slices.IsSorted(got) {
			t.Errorf("connection %d: %d messages, sorted %v", c, len(got), slices.IsSorted(got))
		}
	}
	if f.double.Load() {
		t.Error("two messages of one connection handled at once")
	}
}

// upRelay stands between, so that the network can be cut without anybody being told.
type upRelay struct {
	net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
	cut   atomic.Bool
}

func startUpRelay(t testing.TB, to string) *upRelay {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &upRelay{Listener: lis, to: to}
	go func() {
		for {
			a, err := lis.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil || r.cut.Load() {
				a.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, a, b)
			r.mu.Unlock()
			pipe := func(dst, src net.Conn) {
				buf := make([]byte, 32<<10)
				for {
					n, err := src.Read(buf)
					if err != nil {
						dst.Close()
						return
					}
					if _, err := dst.Write(buf[:n]); err != nil {
						return
					}
				}
			}
			go pipe(a, b)
			go pipe(b, a)
		}
	}()
	t.Cleanup(func() { lis.Close(); r.kill() })
	return r
}

// kill resets every connection, as the death of the other side does.
func (r *upRelay) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetLinger(0)
		}
		c.Close()
	}
	r.conns = nil
}

func TestGRPCUpstream_KilledInFlightIsUnknownThenGoesOn(t *testing.T) {
	f := newUpLogic()
	srv := startBridge(t, "127.0.0.1:0", f, "")
	r := startUpRelay(t, srv.addr)
	u := startUpstream(t, 0, GRPCUpstreamConfig{Addresses: []string{r.Addr().String()}, Streams: 1})
	upEventually(t, "stream open", u.Ready)
	s := upConnect(t, u, "s1")
	f.hold.Store(true)
	const n = 100
	answers := make(chan protocol.Answer, n+2)
	for i := range n {
		u.Handle(t.Context(), s, upSend(i), func(a protocol.Answer) { answers <- a })
	}
	u.Handle(t.Context(), s, []byte(`{"id":"p","cmd":"ping"}`), func(a protocol.Answer) {
		if e := upError(t, a); e.Code != "timeout" || e.Outcome != "" || !e.Retryable {
			t.Errorf("ping: %+v", e)
		}
	})
	upEventually(t, "logic has them", func() bool { return f.heldCount() == n+1 })
	r.cut.Store(true)
	r.kill()
	for range n {
		if e := upError(t, <-answers); e.Code != "outcome_unknown" || e.Outcome != im.OutcomeUnknown {
			t.Fatalf("pending send answered %+v", e)
		}
	}
	upEventually(t, "the loss is noticed", func() bool { return !u.Ready() })
	if e := upError(t, upHandle(t, u, s, upSend(500))); e.Outcome != im.OutcomeRefused || e.Code != "overloaded" {
		t.Errorf("send while logic is away: %+v", e)
	}
	got := make(chan protocol.ConnectAnswer, 1)
	u.Connect(t.Context(), protocol.Hello{Session: "s9"}, []byte(`{"id":"c","cmd":"connect"}`), func(a protocol.ConnectAnswer) { got <- a })
	if a := <-got; a.Close.Code != protocol.CloseTryLater || len(a.Frame) == 0 {
		t.Errorf("connect while logic is away: %+v", a)
	}
	f.hold.Store(false)
	r.cut.Store(false)
	upEventually(t, "streams return", u.Ready)
	if a := upHandle(t, u, s, upSend(501)); string(a.Frame) != string(upSend(501)) {
		t.Errorf("after the return: %s", a.Frame)
	}
	for _, late := range f.held {
		late(protocol.Answer{}) // to nobody
	}
}

func TestGRPCUpstream_OneDiesOtherTakesOver(t *testing.T) {
	f1, f2 := newUpLogic(), newUpLogic()
	s1, s2 := startBridge(t, "127.0.0.1:0", f1, ""), startBridge(t, "127.0.0.1:0", f2, "")
	r := startUpRelay(t, s1.addr)
	u := startUpstream(t, 0, GRPCUpstreamConfig{Addresses: []string{r.Addr().String(), s2.addr}})
	upEventually(t, "streams open", func() bool { return u.openStreams() == 4 })
	var sessions []*im.Session
	for i := range 20 {
		s := upConnect(t, u, im.SessionID(fmt.Sprint("s", i)))
		sessions = append(sessions, s)
		upHandle(t, u, s, upSend(1))
	}
	if len(f1.order) != 10 || len(f2.order) != 10 {
		t.Errorf("connections spread %d to %d", len(f1.order), len(f2.order))
	}
	r.cut.Store(true)
	r.kill()
	upEventually(t, "the loss is noticed", func() bool { return u.openStreams() == 2 })
	for _, s := range sessions {
		if a := upHandle(t, u, s, upSend(2)); string(a.Frame) != string(upSend(2)) {
			t.Errorf("%s: %s", s.ID, a.Frame)
		}
		if got := f2.handled(s.ID); got[len(got)-1] != 2 {
			t.Errorf("%s went elsewhere: %v", s.ID, got)
		}
	}
}

func TestGRPCUpstream_GracefulStopLosesNothing(t *testing.T) {
	f1, f2 := newUpLogic(), newUpLogic()
	s1, s2 := startBridge(t, "127.0.0.1:0", f1, ""), startBridge(t, "127.0.0.1:0", f2, "")
	u := startUpstream(t, 0, GRPCUpstreamConfig{Addresses: []string{s1.addr, s2.addr}})
	upEventually(t, "streams open", func() bool { return u.openStreams() == 4 })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent atomic.Int64
	for i := range 8 {
		s := upConnect(t, u, im.SessionID(fmt.Sprint("s", i)))
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if a := upHandle(t, u, s, upSend(n)); string(a.Frame) != string(upSend(n)) {
					t.Errorf("%s: %s", s.ID, a.Frame)
					return
				}
				sent.Add(1)
			}
		})
	}
	upEventually(t, "traffic", func() bool { return sent.Load() > 500 })
	s1.stop()
	before := sent.Load()
	upEventually(t, "traffic after the stop", func() bool { return sent.Load() > before+500 })
	close(stop)
	wg.Wait()
	for i := range 8 {
		id := im.SessionID(fmt.Sprint("s", i))
		all := append(f1.handled(id), f2.handled(id)...)
		if !slices.IsSorted(all) {
			t.Errorf("%s out of order over the change", id)
		}
	}
}

func TestGRPCUpstream_SilentLogicIsAnsweredForAndLeft(t *testing.T) {
	f := newUpLogic()
	srv := startBridge(t, "127.0.0.1:0", f, "")
	u := startUpstream(t, 300*time.Millisecond, GRPCUpstreamConfig{Addresses: []string{srv.addr}, Streams: 1})
	upEventually(t, "stream open", u.Ready)
	s := upConnect(t, u, "s1")
	f.hold.Store(true)
	first := u.links[0].carrier.Load()
	if e := upError(t, upHandle(t, u, s, upSend(1))); e.Outcome != im.OutcomeUnknown {
		t.Errorf("unanswered send: %+v", e)
	}
	upEventually(t, "another stream is opened", func() bool {
		c := u.links[0].carrier.Load()
		return c != nil && c != first
	})
	f.hold.Store(false)
	if a := upHandle(t, u, s, upSend(2)); string(a.Frame) != string(upSend(2)) {
		t.Errorf("on the new stream: %s", a.Frame)
	}
	f.held[0](protocol.Answer{})
}

func TestGRPCUpstream_FullAnswersOverloaded(t *testing.T) {
	f := newUpLogic()
	srv := startBridge(t, "127.0.0.1:0", f, "")
	u := startUpstream(t, time.Minute, GRPCUpstreamConfig{Addresses: []string{srv.addr}, Streams: 1, MaxPendingBytes: 1 << 20})
	upEventually(t, "stream open", u.Ready)
	s := upConnect(t, u, "s1")
	f.hold.Store(true)
	filled := (1 << 20) / (len(upSend(1)) + callBytes)
	for range filled {
		u.Handle(t.Context(), s, upSend(1), func(protocol.Answer) {})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // does not care to wait
	got := make(chan protocol.Answer, 1)
	u.Handle(ctx, s, upSend(2), func(a protocol.Answer) { got <- a })
	if e := upError(t, <-got); e.Code != "overloaded" || e.Outcome != im.OutcomeRefused {
		t.Errorf("beyond the bound: %+v", e)
	}
	upEventually(t, "logic has them", func() bool { return f.heldCount() == filled })
	for _, answer := range f.held {
		answer(protocol.Answer{})
	}
}

func TestGRPCServer_TokenIsAskedFor(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	f := newUpLogic()
	srv := startBridge(t, "127.0.0.1:0", f, token)
	good := startUpstream(t, 0, GRPCUpstreamConfig{Addresses: []string{srv.addr}, Token: token})
	upEventually(t, "the right token opens", good.Ready)
	refused := make(chan struct{}, 64)
	log := slog.New(upLog{slog.DiscardHandler, "logic refuses our token", refused})
	bad, err := NewGRPCUpstream(GRPCUpstreamConfig{Addresses: []string{srv.addr}, Token: token[1:] + "0"}, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- bad.Run(ctx) }()
	<-refused
	<-refused
	if bad.Ready() {
		t.Error("a wrong token opens a stream")
	}
	cancel()
	<-done
}

// upLog tells when a message is logged.
type upLog struct {
	slog.Handler
	message string
	seen    chan struct{}
}

func (l upLog) Enabled(context.Context, slog.Level) bool { return true }
func (l upLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.message {
		select {
		case l.seen <- struct{}{}:
		default:
		}
	}
	return nil
}

func BenchmarkGRPCUpstream(b *testing.B) {
	srv := startBridge(b, "127.0.0.1:0", upEcho{}, "")
	u := startUpstream(b, 0, GRPCUpstreamConfig{Addresses: []string{srv.addr}})
	upEventually(b, "streams open", func() bool { return u.openStreams() == 2 })
	var sessions []*im.Session
	for i := range 64 {
		sessions = append(sessions, upConnect(b, u, im.SessionID(fmt.Sprint("s", i))))
	}
	m := []byte(`{"id":"1","cmd":"send","data":{"client_msg_id":"aaaaaaaaaaaaaaaa","to":{"user_id":"2"},"content":{"text":"hello, how are you today?"}}}`)
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		got := make(chan struct{}, 1)
		for b.Loop() {
			u.Handle(b.Context(), sessions[0], m, func(protocol.Answer) { got <- struct{}{} })
			<-got
		}
	})
	b.Run("pipelined", func(b *testing.B) {
		b.ReportAllocs()
		var wg sync.WaitGroup
		i := 0
		for b.Loop() {
			wg.Add(1)
			u.Handle(b.Context(), sessions[i%len(sessions)], m, func(protocol.Answer) { wg.Done() })
			i++
		}
		wg.Wait()
	})
}

type upEcho struct{}

func (upEcho) Connect(_ context.Context, h protocol.Hello, _ []byte, answer func(protocol.ConnectAnswer)) {
	answer(protocol.ConnectAnswer{Session: &im.Session{ID: h.Session, Identity: im.Identity{User: 7}}})
}

func (upEcho) Left(*im.Session)                {}
func (upEcho) OnRevoked(func([]im.Revocation)) {}
func (upEcho) Handle(_ context.Context, _ *im.Session, m []byte, answer func(protocol.Answer)) {
	answer(protocol.Answer{Frame: m})
}
