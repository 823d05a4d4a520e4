package connector

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// patience is how long a test waits for a fact before it fails.
const patience = 10 * time.Second

func eventually(t testing.TB, fact string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not in %s: %s", patience, fact)
}

// echo is logic for tests: "connect <user> <device>" is accepted, "refuse" is not,
// and what follows is answered with itself behind an equals sign.
type echo struct {
	mu      sync.Mutex
	policy  im.DevicePolicy
	left    []im.SessionID
	revoke  func([]im.Revocation)
	gate    chan struct{} // where set, Handle waits for it
	handled []string
	expires int64
	keeper  *keeper // where set, it has what follows
}

func (e *echo) Connect(_ context.Context, h protocol.Hello, m []byte, answer func(protocol.ConnectAnswer)) {
	var user uint64
	var device string
	if _, err := fmt.Sscanf(string(m), "connect %d %s", &user, &device); err != nil {
		answer(protocol.ConnectAnswer{Frame: []byte("refused"), Close: protocol.Close{Code: protocol.CloseUnauthenticated, Reason: "no"}})
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	answer(protocol.ConnectAnswer{Frame: []byte("connected"), Session: &im.Session{
		Identity: im.Identity{User: im.UserID(user), Device: im.DeviceID(device), ExpiresAt: e.expires},
		ID:       h.Session, Node: h.Node, IP: h.IP, Policy: e.policy,
	}})
}

func (e *echo) Left(s *im.Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = append(e.left, s.ID)
}

func (e *echo) OnRevoked(tell func([]im.Revocation)) { e.revoke = tell }

func (e *echo) Handle(ctx context.Context, s *im.Session, m []byte, answer func(protocol.Answer)) {
	e.mu.Lock()
	gate, keeper := e.gate, e.keeper
	if len(m) < 100 {
		e.handled = append(e.handled, string(m))
	}
	e.mu.Unlock()
	if keeper != nil {
		keeper.take(answer)
		return
	}
	if gate != nil {
		<-gate
	}
	switch {
	case bytes.HasPrefix(m, []byte("later ")):
		go answer(protocol.Answer{Frame: m})
	case bytes.HasPrefix(m, []byte("close ")):
		code, _ := strconv.Atoi(string(m[6:]))
		answer(protocol.Answer{Frame: m, Close: protocol.Close{Code: protocol.CloseCode(code), Reason: "asked"}})
	case bytes.HasPrefix(m, []byte("watch ")): // watch [-]<user>[=<state>] …
		var all []protocol.Watch
		for _, f := range strings.Fields(string(m[6:])) {
			who, state, _ := strings.Cut(f, "=")
			n, _ := strconv.Atoi(strings.TrimPrefix(who, "-"))
			all = append(all, protocol.Watch{User: im.UserID(n), State: state, End: who[0] == '-'})
		}
		answer(protocol.Answer{Frame: []byte("watching"), Watch: all})
	case bytes.HasPrefix(m, []byte("refresh ")):
		at, _ := strconv.ParseInt(string(m[8:]), 10, 64)
		id := s.Identity
		id.ExpiresAt = at
		answer(protocol.Answer{Frame: m, Identity: &id})
	case string(m) == "panic":
		panic("asked")
	case bytes.HasPrefix(m, []byte("big ")):
		n, _ := strconv.Atoi(string(m[4:]))
		answer(protocol.Answer{Frame: bytes.Repeat([]byte{'x'}, n)})
	case string(m) == "silence":
		answer(protocol.Answer{})
	default:
		answer(protocol.Answer{Frame: append([]byte("="), m...)})
	}
}

func (e *echo) Release(im.SessionID) {
	e.mu.Lock()
	keeper := e.keeper
	e.mu.Unlock()
	if keeper != nil {
		keeper.release()
	}
}

// directory is the routes, the bus and the generations of any number of nodes.
type directory struct {
	mu       sync.Mutex
	away     bool
	sessions map[im.SessionID]im.SessionRef
	renewed  int
	batches  map[im.NodeID]func([]byte)
	lost     map[im.NodeID]func()
	changed  chan struct{}
	calls    []int // sizes of Register

	watchers map[im.UserID]map[im.NodeID]bool
	dead     map[im.NodeID]bool // whose lease has ended
	reads    int                // of presence, per user
	checks   int                // of who is alive

	channels map[im.ConversationID]*channel
	moves    []string // of MoveRooms
	sweeps   int
	lapsed   bool          // the next renewal says so
	noSQL    bool          // nobody can say who is in which channel
	asked    []string      // questions of who is
	gate     chan struct{} // where set, answers wait for it
	moveGate chan struct{} // likewise MoveRooms

	deaf      chan struct{} // where set, subscriptions begin when it is closed
	published int
}

func newDirectory() *directory {
	return &directory{sessions: map[im.SessionID]im.SessionRef{}, batches: map[im.NodeID]func([]byte){},
		lost: map[im.NodeID]func(){}, changed: make(chan struct{}),
		watchers: map[im.UserID]map[im.NodeID]bool{}, dead: map[im.NodeID]bool{}, channels: map[im.ConversationID]*channel{}}
}

func (d *directory) Register(_ context.Context, refs []im.SessionRef, perUser int) (c im.RouteChange, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, len(refs))
	if d.away {
		return c, im.ErrCache
	}
	c.Watchers = map[im.NodeID][]im.UserID{}
	for _, r := range refs {
		others := 0
		for _, o := range d.sessions {
			if o.User != r.User || o.Session == r.Session {
				continue
			}
			if o.Device == r.Device || r.Policy == im.DevicesOne {
				c.Replaced = append(c.Replaced, o)
				delete(d.sessions, o.Session)
			} else {
				others++
			}
		}
		if perUser > 0 && others >= perUser {
			c.Refused = append(c.Refused, r)
			continue
		}
		d.sessions[r.Session] = r
		d.tell(c.Watchers, r.User)
	}
	return c, nil
}

// tell notes who watches u; mu is held.
func (d *directory) tell(watchers map[im.NodeID][]im.UserID, u im.UserID) {
	for node := range d.watchers[u] {
		watchers[node] = append(watchers[node], u)
	}
}

func (d *directory) Renew(_ context.Context, _ im.NodeID, refs []im.SessionRef) (c im.RouteChange, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return c, im.ErrCache
	}
	d.renewed++
	c.Lapsed, d.lapsed = d.lapsed, false
	for _, r := range refs {
		taken := false
		for _, o := range d.sessions {
			taken = taken || o.User == r.User && o.Device == r.Device && o.Session != r.Session
		}
		if taken {
			c.Refused = append(c.Refused, r)
		} else {
			d.sessions[r.Session] = r
		}
	}
	return c, nil
}

func (d *directory) Remove(_ context.Context, refs []im.SessionRef) (map[im.NodeID][]im.UserID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, im.ErrCache
	}
	watchers := map[im.NodeID][]im.UserID{}
	for _, r := range refs {
		if _, there := d.sessions[r.Session]; there {
			delete(d.sessions, r.Session)
			d.tell(watchers, r.User)
		}
	}
	return watchers, nil
}

func (d *directory) Presence(_ context.Context, users []im.UserID) (map[im.UserID]im.Presence, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, im.ErrCache
	}
	all := map[im.UserID]im.Presence{}
	for _, u := range users {
		d.reads++
		p := im.Presence{User: u}
		for _, s := range d.sessions {
			if s.User == u && !d.dead[s.Node] {
				p.Online = true
				p.Platforms = append(p.Platforms, string(s.Device))
				p.Nodes = append(p.Nodes, s.Node)
			} else if s.User == u {
				p.SeenAt = 1
			}
		}
		slices.Sort(p.Platforms)
		all[u] = p
	}
	return all, nil
}

func (d *directory) LiveNodes(context.Context) (map[im.NodeID]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, im.ErrCache
	}
	d.checks++
	live := map[im.NodeID]bool{}
	for node := range d.batches {
		live[node] = !d.dead[node]
	}
	return live, nil
}

func (d *directory) Watch(_ context.Context, node im.NodeID, users []im.UserID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return im.ErrCache
	}
	for _, u := range users {
		if d.watchers[u] == nil {
			d.watchers[u] = map[im.NodeID]bool{}
		}
		d.watchers[u][node] = true
	}
	return nil
}

func (d *directory) Unwatch(_ context.Context, node im.NodeID, users []im.UserID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range users {
		if delete(d.watchers[u], node); len(d.watchers[u]) == 0 {
			delete(d.watchers, u)
		}
	}
	return nil
}

func (d *directory) Subscribe(ctx context.Context, node im.NodeID, batch func([]byte), lost func()) error {
	if d.deaf != nil {
		<-d.deaf
	}
	d.mu.Lock()
	d.batches[node], d.lost[node] = batch, lost
	d.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (d *directory) Publish(_ context.Context, batches map[im.NodeID][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.published++
	for node, b := range batches {
		deliver := d.batches[node]
		if deliver == nil {
			return errors.New("nobody listens")
		}
		deliver(b)
	}
	return nil
}

func (d *directory) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *directory) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *directory) registered() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}

// kind is how a server moves its bytes.
type kind string

const (
	byDefault  kind = "default" // epoll on Linux
	goroutines kind = "goroutines"
	overTLS    kind = "tls"
)

// bench is a running server with its surroundings.
type bench struct {
	*Server
	t    testing.TB
	addr string
	kind kind
	dir  *directory
	up   *echo
	stop func() // and wait
}

// unlimited is a Config without the limits that a test of something else would meet.
func unlimited() Config {
	return Config{Listen: "127.0.0.1:0", HandshakesPerSecond: -1, ConnectsPerIP: -1, ConnectionsPerIP: -1,
		SessionsPerUser: -1, MessagesPerSecond: -1, ControlsPerSecond: -1, DrainTime: -1}
}

func start(t testing.TB, k kind, cfg Config) *bench {
	return startNode(t, k, cfg, newDirectory(), "n1")
}

func startNode(t testing.TB, k kind, cfg Config, dir *directory, node im.NodeID) *bench {
	t.Helper()
	if k == overTLS {
		cfg.TLSCertFile, cfg.TLSKeyFile = certificate(t)
	}
	up := &echo{}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s, err := New(cfg, node, up, dir, dir, dir, dir, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if k == goroutines {
		if s.poller, err = newNetPoller(s); err != nil {
			t.Fatal(err)
		}
	}
	b := serve(t, s, k, dir)
	b.up = up
	return b
}

// serve runs a server.
func serve(t testing.TB, s *Server, k kind, dir *directory) *bench {
	t.Helper()
	addr, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b := &bench{Server: s, t: t, addr: addr.String(), kind: k, dir: dir}
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(3 * patience):
			t.Error("run does not return")
		}
	})
	t.Cleanup(b.stop)
	return b
}

func certificate(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// received is how many bytes the server has read, of everybody.
func (b *bench) received() int { return int(value(b.t, b.metrics.received)) }

func value(t testing.TB, m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

// client is the other end, at the level of bytes.
type client struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader
}

func (b *bench) dial() *client {
	b.t.Helper()
	nc, err := net.DialTimeout("tcp", b.addr, patience)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.kind == overTLS {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // of this very test's certificate
	}
	b.t.Cleanup(func() { nc.Close() })
	return &client{t: b.t, nc: nc, br: bufio.NewReader(nc)}
}

const request = "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// upgraded is a connection after a plain handshake.
func (b *bench) upgraded() *client {
	b.t.Helper()
	c := b.dial()
	c.write([]byte(request + "\r\n"))
	if r := c.response(); r.StatusCode != http.StatusSwitchingProtocols {
		b.t.Fatalf("handshake: %s", r.Status)
	}
	return c
}

// connected is a session of its own user.
func (b *bench) connected(user int, device string) *client {
	b.t.Helper()
	c := b.upgraded()
	c.text(fmt.Sprintf("connect %d %s", user, device))
	c.expect("connected")
	return c
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if err := c.tryWrite(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *client) tryWrite(b []byte) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.nc.Write(b)
	return err
}

func (c *client) response() *http.Response {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	r, err := http.ReadResponse(c.br, nil)
	if err != nil {
		c.t.Fatalf("no HTTP answer: %v", err)
	}
	return r
}

func (c *client) text(s string) { c.t.Helper(); c.write(masked(ws.OpText, true, []byte(s))) }

// frame reads the next frame; io.EOF where the server has closed.
func (c *client) frame() (ws.Frame, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	h, err := ws.ReadHeader(c.br)
	if err != nil {
		return ws.Frame{}, err
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(c.br, f.Payload)
	return f, err
}

func (c *client) expectFrame(op ws.OpCode, payload string) {
	c.t.Helper()
	f, err := c.frame()
	if err != nil {
		c.t.Fatalf("want %q: %v", short(payload), err)
	}
	if err := ws.CheckHeader(f.Header, ws.StateClientSide); err != nil || !f.Header.Fin || f.Header.OpCode != op || string(f.Payload) != payload {
		c.t.Fatalf("got %+v %q (%v), want opcode %#x %q", f.Header, short(string(f.Payload)), err, op, short(payload))
	}
}

func (c *client) expect(text string) { c.t.Helper(); c.expectFrame(ws.OpText, text) }

// expectClose passes over other frames up to the close frame, and wants the end of
// the stream behind it.
func (c *client) expectClose(code protocol.CloseCode) (reason string) {
	c.t.Helper()
	for {
		f, err := c.frame()
		if err != nil {
			c.t.Fatalf("want close %d: %v", code, err)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		got, reason := ws.ParseCloseFrameData(f.Payload)
		if got != ws.StatusCode(code) {
			c.t.Fatalf("close code %d %q, want %d", got, reason, code)
		}
		if f, err := c.frame(); err == nil {
			c.t.Fatalf("a frame behind the close frame: %+v", f.Header)
		}
		c.nc.Close()
		return reason
	}
}

func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// masked is a client's frame.
func masked(op ws.OpCode, fin bool, payload []byte) []byte {
	return ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(op, fin, payload), [4]byte{0x37, 0xfa, 0x21, 0x3d}))
}

func join2(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func repeat(s string, n int) []byte { return []byte(strings.Repeat(s, n)) }

// in is b for a subtest.
func (b *bench) in(t testing.TB) *bench {
	c := *b
	c.t = t
	return &c
}

// readSizeForTest is the most that one read can bring on top of a full inbox.
const readSizeForTest = 32 << 10
