package connector

import (
	"fmt"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestPush_ReachesTheConnectionsThatAreMeant(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		phone, desktop, other := b.connected(1, "phone"), b.connected(1, "desktop"), b.connected(2, "phone")
		var id im.SessionID
		for _, c := range b.sessions.of(1, nil) {
			if c.session.Load().Device == "phone" {
				id = c.id
			}
		}
		b.publish(
			protocol.Delivery{Users: []im.UserID{1, 2, 3}, Frame: []byte("all")},
			protocol.Delivery{Users: []im.UserID{1}, Only: id, Frame: []byte("phone only")},
			protocol.Delivery{Users: []im.UserID{1}, Except: id, Frame: []byte("not the phone")},
			protocol.Delivery{Users: []im.UserID{1}, Request: "r1", Frame: []byte("for a waiter")},
			protocol.Delivery{Users: []im.UserID{2}, Frame: []byte("bye"), Close: protocol.Close{Code: protocol.CloseForbidden, Reason: "banned"}},
		)
		phone.expect("all")
		phone.expect("phone only")
		desktop.expect("all")
		desktop.expect("not the phone")
		other.expect("all")
		other.expect("bye")
		if reason := other.expectClose(protocol.CloseForbidden); reason != "banned" {
			t.Errorf("reason %q", reason)
		}
		for _, c := range []*client{phone, desktop} {
			c.text("hi")
			c.expect("=hi")
		}
	})
}

func TestPush_AnUnreadableBatchIsPassedOver(t *testing.T) {
	b := start(t, byDefault, unlimited())
	c := b.connected(1, "d")
	b.deliver([]byte{0xff, 0xff})
	b.publish(protocol.Delivery{Users: []im.UserID{1}, Frame: []byte("good")})
	c.expect("good")
}

func TestPush_BeforeTheConnectIsAnsweredIsNotSent(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.publish(protocol.Delivery{Users: []im.UserID{1}, Frame: []byte("early")})
	c := b.upgraded()
	c.write(masked(ws.OpPing, true, nil))
	c.expectFrame(ws.OpPong, "")
	b.publish(protocol.Delivery{Users: []im.UserID{1}, Frame: []byte("early")})
	c.text("connect 1 d")
	c.expect("connected")
}

func TestPush_LateFramesAreDropped(t *testing.T) {
	b := start(t, byDefault, unlimited())
	c := b.connected(1, "d")
	d := func(seq im.Seq, form string) protocol.Delivery {
		return protocol.Delivery{Users: []im.UserID{1}, Conversation: "d1-2", Seq: seq, Frame: fmt.Appendf(nil, "%d%s", seq, form)}
	}
	b.publish(d(4, ""), d(5, ""), d(4, "'"), d(5, "'")) // two forms of each, in one batch
	b.publish(d(5, " again"), d(3, " late"), d(6, ""))
	other := d(1, " elsewhere")
	other.Conversation = "d1-3"
	b.publish(other)
	for _, want := range []string{"4", "5", "4'", "5'", "6", "1 elsewhere"} {
		c.expect(want)
	}
}

func TestFence_IsBounded(t *testing.T) {
	f := newFence(10)
	for i := range 1000 {
		f.begin()
		f.pass(im.ConversationID(fmt.Sprint("c", i)), 5)
		if n := len(f.cur) + len(f.prev); n > 20 {
			t.Fatalf("%d conversations are remembered", n)
		}
		f.begin()
		if i > 5 && f.pass(im.ConversationID(fmt.Sprint("c", i-5)), 5) {
			t.Fatal("a recent conversation is forgotten")
		}
	}
}

func TestPush_OneBatchLeavesInOneWrite(t *testing.T) {
	b := start(t, byDefault, unlimited())
	c := b.connected(1, "d")
	eventually(t, "the connect is written", func() bool { return value(t, b.metrics.frames) == 2 })
	writes := value(t, b.metrics.writes)
	var ds []protocol.Delivery
	for i := range 20 {
		ds = append(ds, protocol.Delivery{Users: []im.UserID{1}, Frame: fmt.Append(nil, i)})
	}
	b.publish(ds...)
	for i := range 20 {
		c.expect(fmt.Sprint(i))
	}
	eventually(t, "all are counted", func() bool { return value(t, b.metrics.frames) == 22 })
	if n := value(t, b.metrics.writes) - writes; n != 1 {
		t.Errorf("%v writes", n)
	}
}

func TestPush_AnInterruptedSubscriptionNudgesEverybody(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c, d := b.connected(1, "d"), b.connected(2, "d")
		b.publish()
		b.dir.set(func() { clear(b.dir.sessions) })
		b.dir.lost["n1"]()
		c.expect(`{"push":"nudge","data":{}}`)
		d.expect(`{"push":"nudge","data":{}}`)
		eventually(t, "the routes are whole again", func() bool { return b.dir.registered() == 2 })
	})
}

// fill pushes to user 1, who does not read, until pushes are dropped.
func (b *bench) fill() {
	b.t.Helper()
	frame := repeat("x", 64<<10)
	eventually(b.t, "pushes are dropped", func() bool {
		b.publish(protocol.Delivery{Users: []im.UserID{1}, Frame: frame})
		return b.refusedPushes() > 0
	})
}

func (b *bench) refusedPushes() float64 {
	return value(b.t, b.metrics.refused.WithLabelValues("push"))
}

func TestOutbox_ASlowReaderIsClosed4508(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.WriteTimeout = 500 * time.Millisecond
		b := start(t, k, cfg)
		slow, other := b.connected(1, "d"), b.connected(2, "d")
		b.fill()
		other.text("hi") // unaffected
		other.expect("=hi")
		eventually(t, "the slow one is being closed", func() bool {
			return value(t, b.metrics.closes.WithLabelValues("4508")) == 1
		})
		b.poller.each(func(c *conn) {
			c.out.Lock()
			if c.box != nil && c.box.bytes > 80<<10 {
				t.Errorf("%d bytes still wait", c.box.bytes)
			}
			c.out.Unlock()
		})
		if reason := slow.expectClose(protocol.CloseSlow); reason != "slow_consumer" {
			t.Errorf("reason %q", reason)
		}
		slow.nc.Close()
		eventually(t, "it is gone", func() bool { return b.live.Load() == 1 })
	})
}

func TestOutbox_WhoNeverReadsIsCut(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.WriteTimeout = 500 * time.Millisecond
		b := start(t, k, cfg)
		b.connected(1, "d")
		b.fill()
		eventually(t, "it is gone", func() bool { return b.live.Load() == 0 && b.dir.registered() == 0 })
	})
}

func TestOutbox_WhoCatchesUpIsNudged(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c := b.connected(1, "d")
		b.fill()
		c.text("a reply finds room") // pushes make it
		missing := map[string]bool{"=a reply finds room": true, `{"push":"nudge","data":{}}`: true}
		for len(missing) > 0 {
			f, err := c.frame()
			if err != nil {
				t.Fatalf("%v missing: %v", missing, err)
			}
			delete(missing, string(f.Payload))
		}
		c.text("hi")
		c.expect("=hi")
	})
}

func TestOutbox_RepliesAreNeverDropped(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		c := b.connected(1, "d")
		m := masked(ws.OpText, true, []byte("big 300000"))
		for range 60 { // 18 MB of answers that nobody reads
			if c.tryWrite(m) != nil {
				break
			}
		}
		for n := 0; ; n++ {
			f, err := c.frame()
			if err != nil {
				t.Fatalf("after %d answers: %v", n, err)
			}
			if f.Header.OpCode == ws.OpClose {
				if code, _ := ws.ParseCloseFrameData(f.Payload); code != ws.StatusCode(protocol.CloseSlow) {
					t.Fatalf("close %d", code)
				}
				return // said so
			}
			if len(f.Payload) != 300000 {
				t.Fatalf("an answer of %d bytes", len(f.Payload))
			}
			if n == 59 {
				return // all of them
			}
		}
	})
}

func TestOutbox_AFrameLongerThanItIsWrittenAlone(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		c := start(t, k, unlimited()).connected(1, "d")
		c.text("big 5000000")
		if f, err := c.frame(); err != nil || len(f.Payload) != 5_000_000 {
			t.Fatal(len(f.Payload), err)
		}
	})
}

func TestOutbox_GathersAndAdvances(t *testing.T) {
	var b outbox
	for _, s := range []string{"abc", "defgh", "i"} {
		b.add([]byte(s), push)
	}
	scratch := make([]byte, 6)
	got := ""
	for _, take := range []int{1, 4, 1, 3} {
		w, _ := b.next(scratch)
		if len(w) > len(scratch) {
			t.Fatalf("%d bytes", len(w))
		}
		take = min(take, len(w))
		got += string(w[:take])
		b.advance(take)
	}
	if got != "abcdefghi" || len(b.frames) != 0 || b.bytes != 0 {
		t.Errorf("%q, %d frames, %d bytes left", got, len(b.frames), b.bytes)
	}
}

func TestOutbox_DropKeepsWhatIsHalfWritten(t *testing.T) {
	var b outbox
	for _, f := range []outFrame{{[]byte("half"), push}, {[]byte("push"), push}, {[]byte("reply"), reply}, {[]byte("push"), push}} {
		b.add(f.bytes, f.kind)
	}
	b.advance(2)
	if n := b.drop(func(k frameKind) bool { return k == reply }); n != 2 {
		t.Errorf("%d dropped", n)
	}
	if w, _ := b.next(make([]byte, 100)); string(w) != "lfreply" || b.bytes != 7 {
		t.Errorf("%q, %d bytes", w, b.bytes)
	}
}

func TestWheel_LooksOnceAndNotBefore(t *testing.T) {
	w := newWheel()
	c := &conn{}
	looked := uint32(0)
	look := func(_ *conn, now uint32) uint32 { looked = now; return 0 }
	w.book(c, 10)
	w.book(c, 20) // the nearer booking stands
	w.book(c, 5)  // a nearer one replaces it
	for w.now() < 4 {
		w.advance(look)
	}
	if looked != 0 {
		t.Fatalf("looked at %d", looked)
	}
	w.advance(look)
	if looked != 5 {
		t.Fatalf("looked at %d, want 5", looked)
	}
	looked = 0
	for w.now() < 30 {
		w.advance(look)
	}
	if looked != 0 {
		t.Fatalf("a stale booking was looked at, at %d", looked)
	}
	w.book(c, w.now()) // the past: next tick
	w.advance(look)
	if looked != 31 {
		t.Fatalf("looked at %d, want 31", looked)
	}
	looked = 0
	w.book(c, w.now()+10*wheelSize) // beyond what it sees: looked at before
	for range wheelSize {
		w.advance(look)
	}
	if looked == 0 {
		t.Fatal("never looked")
	}
}
