package connector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// both runs a test on either way of moving bytes.
func both(t *testing.T, f func(t *testing.T, k kind)) {
	for _, k := range []kind{byDefault, goroutines} {
		t.Run(string(k), func(t *testing.T) { f(t, k) })
	}
}

func (b *bench) publish(ds ...protocol.Delivery) {
	b.t.Helper()
	var batch []byte
	for i := range ds {
		batch = protocol.AppendDelivery(batch, &ds[i])
	}
	b.deliver(batch)
}

func (b *bench) deliver(batch []byte) {
	b.t.Helper()
	<-b.pusher.heard // the node listens
	b.dir.mu.Lock()
	to := b.dir.batches[b.node]
	b.dir.mu.Unlock()
	to(batch)
}

func TestRun_AcceptsNobodyBeforeItHearsPushes(t *testing.T) {
	dir := newDirectory()
	dir.deaf = make(chan struct{})
	b := startNode(t, byDefault, unlimited(), dir, "n1")
	c := b.dial()
	c.write(join2([]byte(request+"\r\n"), masked(ws.OpText, true, []byte("connect 1 d"))))
	eventually(t, "it asks for itself", func() bool {
		dir.mu.Lock()
		defer dir.mu.Unlock()
		return dir.published > 1
	})
	if n := dir.registered(); n != 0 {
		t.Errorf("%d sessions are routed to a node that hears nothing", n)
	}
	close(dir.deaf)
	c.response()
	c.expect("connected")
}

func TestListen_AnAddressInUseIsAnError(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		cfg := unlimited()
		cfg.Listen = b.addr
		s, err := New(cfg, "n2", b.up, b.dir, b.dir, b.dir, b.dir, b.log, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Listen(); err == nil || !strings.Contains(err.Error(), "connector.listen") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestConnect_RefusedIsAnsweredAndClosed(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		c := start(t, k, unlimited()).upgraded()
		c.text("hello")
		c.expect("refused")
		if reason := c.expectClose(protocol.CloseUnauthenticated); reason != "no" {
			t.Errorf("reason %q", reason)
		}
	})
}

func TestConnect_SilenceIsClosed4408(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.AuthTimeout = 500 * time.Millisecond
		b := start(t, k, cfg)
		c := b.upgraded()
		c.write(masked(ws.OpPing, true, nil)) // no message
		c.expectClose(protocol.CloseAuthTimeout)
		eventually(t, "the connection is gone", func() bool { return b.live.Load() == 0 })
	})
}

func TestConnect_IsRegisteredBeforeItIsAnswered(t *testing.T) {
	b := start(t, byDefault, unlimited())
	for i := range 20 {
		b.connected(i, "d")
		if n := b.dir.registered(); n != i+1 {
			t.Fatalf("%d routes when session %d was answered", n, i+1)
		}
	}
}

func TestConnect_TogetherAreRegisteredTogether(t *testing.T) {
	b := start(t, byDefault, unlimited())
	<-b.pusher.heard
	b.dir.mu.Lock() // the first batch is held up; the rest gathers
	var cs []*client
	for i := range 50 {
		c := b.upgraded()
		c.text(fmt.Sprintf("connect %d d", i))
		cs = append(cs, c)
	}
	eventually(t, "49 wait", func() bool {
		b.routing.mu.Lock()
		defer b.routing.mu.Unlock()
		return len(b.routing.joins) >= 49
	})
	b.dir.mu.Unlock()
	for _, c := range cs {
		c.expect("connected")
	}
	b.dir.set(func() {
		if len(b.dir.calls) > 3 {
			t.Errorf("batches of %v", b.dir.calls)
		}
	})
}

func TestConnect_IsAcceptedWhileTheRoutesAreAway(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.set(func() { b.dir.away = true })
	c := b.connected(7, "d")
	c.text("hi")
	c.expect("=hi")
	b.dir.set(func() { b.dir.away = false })
	eventually(t, "the session is entered after all", func() bool { return b.dir.registered() == 1 })
}

func TestRoutes_AreReassertedOnANewGeneration(t *testing.T) {
	b := start(t, byDefault, unlimited())
	for i := range 1200 { // more than one batch
		b.connected(i, "d")
	}
	b.dir.set(func() {
		clear(b.dir.sessions)
		close(b.dir.changed)
		b.dir.changed = make(chan struct{})
	})
	eventually(t, "all are entered again", func() bool { return b.dir.registered() == 1200 })
}

func TestRoutes_AreRemovedWhenTheClientLeaves(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c := b.connected(1, "a")
		d := b.connected(1, "b")
		c.write(closing(1000, ""))
		c.expectClose(protocol.CloseNormal)
		eventually(t, "one is left", func() bool { return b.dir.registered() == 1 && b.live.Load() == 1 })
		d.nc.Close() // no word
		eventually(t, "none is left", func() bool { return b.dir.registered() == 0 && b.live.Load() == 0 })
		if n := len(b.sessions.of(1, nil)); n != 0 {
			t.Errorf("%d connections are still in the registry", n)
		}
		if n := value(t, b.metrics.sessions); n != 0 {
			t.Errorf("the gauge says %v sessions", n)
		}
	})
}

func TestTakeover_OnTheSameNode(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		old, other := b.connected(1, "phone"), b.connected(1, "desktop")
		newer := b.connected(1, "phone")
		old.expect(string(kicked))
		old.expectClose(protocol.CloseReplaced)
		eventually(t, "the old one is gone", func() bool { return b.live.Load() == 2 })
		if n := b.dir.registered(); n != 2 {
			t.Errorf("%d routes, want 2", n)
		}
		for _, c := range []*client{other, newer} {
			c.text("hi")
			c.expect("=hi")
		}
		if n := value(t, b.metrics.sessions); n != 2 {
			t.Errorf("the gauge says %v sessions", n)
		}
	})
}

func TestTakeover_OnAnotherNode(t *testing.T) {
	dir := newDirectory()
	n1 := startNode(t, byDefault, unlimited(), dir, "n1")
	n2 := startNode(t, byDefault, unlimited(), dir, "n2")
	n1.deliver(nil)
	n2.deliver(nil)
	old := n1.connected(1, "phone")
	newer := n2.connected(1, "phone")
	old.expect(string(kicked))
	old.expectClose(protocol.CloseReplaced)
	eventually(t, "the old one is gone", func() bool { return n1.live.Load() == 0 })
	newer.text("hi")
	newer.expect("=hi")
	if n := dir.registered(); n != 1 {
		t.Errorf("%d routes, want 1", n)
	}
}

func TestMessages_ReachLogicInOrderWithoutWaitingForAnswers(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c := b.connected(1, "d")
		var all []byte
		for i := range 500 {
			all = append(all, masked(ws.OpText, true, fmt.Appendf(nil, "later %d", i))...)
		}
		go c.tryWrite(all)
		for range 500 {
			if _, err := c.frame(); err != nil {
				t.Fatal(err)
			}
		}
		b.up.mu.Lock()
		defer b.up.mu.Unlock()
		for i, m := range b.up.handled {
			if m != fmt.Sprintf("later %d", i) {
				t.Fatalf("message %d is %q", i, m)
			}
		}
	})
}

func TestMessages_BeforeACloseAreHandled(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c := b.connected(1, "d")
		c.write(join2(masked(ws.OpText, true, []byte("later a")), masked(ws.OpText, true, []byte("b")), closing(1000, "")))
		got := map[string]bool{}
		for range 2 {
			f, err := c.frame()
			if err != nil {
				t.Fatal(err)
			}
			got[string(f.Payload)] = true
		}
		if !got["later a"] || !got["=b"] {
			t.Errorf("answers %v", got)
		}
		c.expectClose(protocol.CloseNormal)
	})
}

func TestMessages_ALaggingLogicStopsTheReading(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c, other := b.connected(1, "d"), b.connected(2, "d")
		gate := make(chan struct{})
		b.up.mu.Lock()
		b.up.gate = gate
		b.up.mu.Unlock()
		message := masked(ws.OpText, true, repeat("x", 16<<10))
		sent := 0
		for { // until the kernel's buffers are full too
			_ = c.nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := c.nc.Write(message)
			if err != nil {
				message = message[n:]
				break
			}
			sent++
			if sent > 4000 {
				t.Fatal("64 MB were taken in")
			}
		}
		held := 0
		b.poller.each(func(c *conn) {
			c.in.Lock()
			held += c.inboxBytes
			c.in.Unlock()
		})
		if held > inboxBytes+readSizeForTest {
			t.Errorf("%d bytes wait for logic", held)
		}
		b.up.mu.Lock()
		b.up.gate = nil
		b.up.mu.Unlock()
		other.text("hi") // was never in the way
		other.expect("=hi")
		close(gate)
		go c.tryWrite(message)
		for range sent + 1 {
			if _, err := c.frame(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestMessages_ABugInLogicEndsOneConnection(t *testing.T) {
	b := start(t, byDefault, unlimited())
	c, other := b.connected(1, "d"), b.connected(2, "d")
	c.text("panic")
	c.expectClose(protocol.CloseInternal)
	other.text("hi")
	other.expect("=hi")
}

func TestRate_TooManyMessages(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.MessagesPerSecond, cfg.MessageBurst = 2, 5
		c := start(t, k, cfg).connected(1, "d")
		c.write(bytes.Repeat(masked(ws.OpText, true, []byte("hi")), 20))
		if reason := c.expectClose(protocol.CloseRateLimited); reason != "rate_limited" {
			t.Errorf("reason %q", reason)
		}
	})
}

func TestRate_TooManyPings(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.ControlsPerSecond = 5
		c := start(t, k, cfg).connected(1, "d")
		c.write(bytes.Repeat(masked(ws.OpPing, true, []byte("p")), 50))
		for range 10 {
			c.expectFrame(ws.OpPong, "p")
		}
		c.expectClose(protocol.CloseRateLimited)
	})
}

func TestSessions_OfOneUserAreBounded(t *testing.T) {
	cfg := unlimited()
	cfg.SessionsPerUser = 2
	b := start(t, byDefault, cfg)
	b.connected(1, "a")
	b.connected(1, "b")
	c := b.upgraded()
	c.text("connect 1 c")
	c.expectClose(protocol.ClosePolicy)
	b.connected(1, "b") // replaces
}

func TestSlowWriter_IsEnded(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.FrameTimeout = time.Second
		b := start(t, k, cfg)
		c := b.connected(1, "d")
		m := masked(ws.OpText, false, repeat("x", 10))
		c.write(m[:5])
		done := make(chan struct{})
		go func() { // bytes keep coming, and pings between; the message does not end
			defer close(done)
			for _, x := range m[5:] {
				time.Sleep(100 * time.Millisecond) // the client's own slowness
				if c.tryWrite([]byte{x}) != nil {
					return
				}
			}
			for c.tryWrite(masked(ws.OpPing, true, nil)) == nil {
				time.Sleep(100 * time.Millisecond)
			}
		}()
		if reason := c.expectClose(protocol.ClosePolicy); reason != "message_timeout" {
			t.Errorf("reason %q", reason)
		}
		c.nc.Close()
		<-done
	})
}

func TestIdle_IsEnded(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.Heartbeat = 400 * time.Millisecond
		c := start(t, k, cfg).connected(1, "d")
		for range 5 { // a ping each interval keeps it
			time.Sleep(cfg.Heartbeat)
			c.text("hi")
			c.expect("=hi")
		}
		if reason := c.expectClose(protocol.CloseGoingAway); reason != "idle" {
			t.Errorf("reason %q", reason)
		}
	})
}

// A client that is cut off is offline within a minute: its silence, the wait for an
// answer to the close frame, the ticks at which both are looked at, and a second for
// those who watch.
func TestSilence_OfTheDefaultsIsUnderAMinute(t *testing.T) {
	s := &Server{cfg: Config{}.withDefaults()}
	if offline := s.silence() + lingerTime + 4*tickTime + time.Second; offline > time.Minute {
		t.Errorf("offline after %s", offline)
	}
	if s.silence() < 2*s.cfg.Heartbeat {
		t.Error("two heartbeats may be missed")
	}
}

func TestToken_ExpiresUnlessRefreshed(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.up.mu.Lock()
		b.up.expires = time.Now().Add(1200 * time.Millisecond).UnixMilli()
		b.up.mu.Unlock()
		short, long := b.connected(1, "d"), b.connected(2, "d")
		m := fmt.Sprintf("refresh %d", time.Now().Add(time.Hour).UnixMilli())
		long.text(m)
		long.expect(m)
		if reason := short.expectClose(protocol.CloseUnauthenticated); reason != "token_expired" {
			t.Errorf("reason %q", reason)
		}
		long.text("hi")
		long.expect("=hi")
		m = fmt.Sprintf("refresh %d", time.Now().Add(-time.Hour).UnixMilli())
		long.text(m)
		long.expectClose(protocol.CloseUnauthenticated)
	})
}

func TestAnswer_MayClose(t *testing.T) {
	c := start(t, byDefault, unlimited()).connected(1, "d")
	c.text("close 4403")
	c.expect("close 4403")
	if reason := c.expectClose(protocol.CloseForbidden); reason != "asked" {
		t.Errorf("reason %q", reason)
	}
}

func TestDrain_AnswersWhatWasTakenAndTellsWhenToComeBack(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.DrainTime = 200 * time.Millisecond
		b := start(t, k, cfg)
		gate := make(chan struct{})
		busy, idle, unknown, half := b.connected(1, "d"), b.connected(2, "d"), b.upgraded(), b.dial()
		half.write([]byte(request))
		eventually(t, "four are there", func() bool { return b.live.Load() == 4 })
		b.up.mu.Lock()
		b.up.gate = gate
		b.up.mu.Unlock()
		busy.text("taken")
		eventually(t, "the message is with logic", func() bool {
			b.up.mu.Lock()
			defer b.up.mu.Unlock()
			return len(b.up.handled) == 1
		})
		stopped := make(chan struct{})
		go func() { defer close(stopped); b.stop() }()
		for _, c := range []*client{idle, unknown} {
			var hint struct {
				RetryAfterMS int `json:"retry_after_ms"`
			}
			if err := json.Unmarshal([]byte(c.expectClose(protocol.CloseRestart)), &hint); err != nil || hint.RetryAfterMS < 0 || hint.RetryAfterMS >= comeBack {
				t.Errorf("hint %+v, %v", hint, err)
			}
			c.nc.Close()
		}
		if r := half.response(); r.StatusCode != 503 {
			t.Error(r.Status)
		}
		half.nc.Close()
		if _, err := net.DialTimeout("tcp", b.addr, time.Second); err == nil {
			t.Error("still accepting")
		}
		close(gate)
		busy.expect("=taken")
		busy.expectClose(protocol.CloseRestart)
		busy.nc.Close()
		<-stopped
		if n := b.dir.registered(); n != 0 {
			t.Errorf("%d routes are left", n)
		}
	})
}

func TestDrain_DoesNotWaitForTheDeaf(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.connected(1, "d") // which will not close its side
		b.stop()
		if n := b.live.Load(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// A burst of connects, each with a message, all gone at once again.
func TestBurst_LeavesNoDescriptorBehind(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	b := start(t, byDefault, unlimited())
	before := descriptors(t)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 64 {
		wg.Go(func() {
			for i := range work {
				nc, err := net.Dial("tcp", b.addr)
				if err != nil {
					t.Error(err)
					continue
				}
				_ = nc.(*net.TCPConn).SetLinger(0) // half leave by reset, and no port stays in TIME_WAIT
				c := &client{t: t, nc: nc}
				switch i % 4 {
				case 0: // says nothing
				case 1:
					_ = c.tryWrite([]byte(request + "\r\n"))
				default:
					_ = c.tryWrite(join2([]byte(request+"\r\n"), masked(ws.OpText, true, fmt.Appendf(nil, "connect %d d", i))))
					_ = nc.SetReadDeadline(time.Now().Add(patience))
					if _, err := nc.Read(make([]byte, 1)); err != nil {
						t.Error(err)
					}
				}
				nc.Close()
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	eventually(t, "all are gone", func() bool { return b.live.Load() == 0 && b.dir.registered() == 0 })
	eventually(t, "and their descriptors", func() bool { return descriptors(t) <= before })
}

func descriptors(t testing.TB) int {
	if runtime.GOOS != "linux" {
		return 0
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func TestRegistry_OneUserManyDevices(t *testing.T) {
	r := newRegistry()
	var cs []*conn
	for i := range 4 {
		c := &conn{}
		c.session.Store(&im.Session{Identity: im.Identity{User: 1, Device: im.DeviceID(fmt.Sprint(i))}})
		if replaced, ok := r.add(c, -1); replaced != nil || !ok {
			t.Fatal(replaced, ok)
		}
		cs = append(cs, c)
	}
	for i, order := range []int{1, 3, 0, 2} { // middle, head, tail, last
		if !r.remove(cs[order]) || r.remove(cs[order]) {
			t.Fatalf("removing %d", order)
		}
		if n := len(r.of(1, nil)); n != 3-i {
			t.Fatalf("%d left after %d removals", n, i+1)
		}
	}
	if len(r.shard(1).users) != 0 {
		t.Error("the user is still there")
	}
}
