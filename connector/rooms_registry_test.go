package connector

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestRooms_AreEnteredBeforeTheConnectIsAnswered(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1)
		gate := make(chan struct{})
		b.dir.set(func() { b.dir.moveGate = gate })
		c := b.upgraded()
		c.text("connect 1 d")
		eventually(t, "the registry is asked to enter", func() bool {
			b.rooms.mu.Lock()
			defer b.rooms.mu.Unlock()
			return len(b.rooms.moving) == 1
		})
		c.write(masked(ws.OpPing, true, []byte("?")))
		c.expectFrame(ws.OpPong, "?")
		close(gate)
		c.expect("connected")
		if !b.dir.inRegistry("c1", "n1") {
			t.Error("the node is not in the registry")
		}
	})
}

func TestRooms_AreEnteredWithTheFirstAndLeftWithTheLast(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1, 2)
		b.dir.joins("c2", 1, 2)
		phone := b.connected(1, "phone")
		desktop := b.connected(1, "desktop")
		again := b.connected(1, "phone") // in its own place
		phone.expect(string(kicked))
		phone.expectClose(protocol.CloseReplaced)
		if got := b.dir.questions(); !slices.Equal(got, []string{"users 1"}) {
			t.Errorf("asked %v", got)
		}
		two := b.connected(2, "d")
		for _, c := range []*client{again, desktop} {
			c.nc.Close()
		}
		eventually(t, "user 1 is gone", func() bool { return value(t, b.metrics.sessions) == 1 })
		if !b.dir.inRegistry("c1", "n1") || !b.dir.inRegistry("c2", "n1") {
			t.Error("the node has left with somebody in it")
		}
		b.publish(says("c1", 2, 1, "two"))
		two.expect("two")
		two.nc.Close()
		eventually(t, "the node has left", func() bool {
			return !b.dir.inRegistry("c1", "n1") && !b.dir.inRegistry("c2", "n1") && value(t, b.metrics.rooms) == 0 && value(t, b.metrics.entered) == 0
		})
		b.connected(1, "phone")
		if !b.dir.inRegistry("c1", "n1") || b.dir.inRegistry("c2", "n1") {
			t.Error("the node is not in the registry as it should be")
		}
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		if len(b.rooms.guests) != 1 || len(b.rooms.rooms) != 1 {
			t.Errorf("%d users in %d rooms", len(b.rooms.guests), len(b.rooms.rooms))
		}
	})
}

func TestRooms_WhoLeavesAndReturnsWhileTheNodeLeavesIsIn(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1)
	c := b.connected(1, "d")
	gate := make(chan struct{})
	b.dir.set(func() { b.dir.moveGate = gate })
	c.nc.Close()
	eventually(t, "the node is about to leave", func() bool {
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		return len(b.rooms.moving) == 1
	})
	c = b.upgraded()
	c.text("connect 1 d")
	eventually(t, "they are back", func() bool { return value(t, b.metrics.rooms) == 1 && b.rooms.holds("c1", 1) })
	b.dir.set(func() { b.dir.moveGate = nil })
	close(gate)
	c.expect("connected")
	if !b.dir.inRegistry("c1", "n1") {
		t.Error("the node is not in the registry")
	}
}

// holds says whether a user is in a room.
func (rs *rooms) holds(c im.ConversationID, u im.UserID) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.rooms[c] != nil && rs.rooms[c].has(u)
}

func TestRooms_SessionsAreAcceptedThoughAStoreIsAway(t *testing.T) {
	for name, away := range map[string]func(d *directory, away bool){
		"nobody says who is in which channel": func(d *directory, away bool) { d.noSQL = away },
		"the registry is away":                func(d *directory, away bool) { d.away = away },
		"both are":                            func(d *directory, away bool) { d.noSQL, d.away = away, away },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, byDefault, unlimited())
			b.dir.joins("c1", 1, 1, 2)
			b.dir.set(func() { away(b.dir, true) })
			one, two := b.connected(1, "d"), b.connected(2, "d")
			one.quiet()
			b.dir.set(func() { away(b.dir, false) })
			one.expect(nudged)
			two.expect(nudged)
			if !b.dir.inRegistry("c1", "n1") {
				t.Error("nudged before the node is in the registry")
			}
			b.publish(says("c1", 2, 1, "two"))
			one.past(nudged, "two")
			two.past(nudged, "two")
		})
	}
}

func TestRooms_AreEnteredAnewWhereTheRegistryMayHaveForgotten(t *testing.T) {
	for name, cause := range map[string]func(b *bench){
		"a new generation": func(b *bench) {
			b.dir.set(func() {
				close(b.dir.changed)
				b.dir.changed = make(chan struct{})
			})
		},
		"the lease was gone": func(b *bench) {
			b.dir.set(func() { b.dir.lapsed = true })
			wakeUp(b.routing.doubt)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, byDefault, unlimited())
			b.dir.joins("c1", 1, 1)
			one, two := b.connected(1, "d"), b.connected(2, "d")
			b.dir.set(func() { clear(b.dir.channels["c1"].nodes) })
			b.dir.joins("c2", 5, 2) // and the node is not told
			cause(b)
			eventually(t, "the node is in again", func() bool { return b.dir.inRegistry("c1", "n1") && b.dir.inRegistry("c2", "n1") })
			two.expect(nudged)
			b.publish(says("c1", 2, 1, "two"), says("c2", 6, 5, "six"))
			one.past(nudged, "two")
			two.past(nudged, "six")
		})
	}
}

func TestRooms_ADrainLeavesAll(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		for _, c := range []im.ConversationID{"c1", "c2", "c3"} {
			b.dir.joins(c, 1, 1, 2)
		}
		one := b.connected(1, "d")
		b.connected(2, "d")
		if !b.dir.inRegistry("c3", "n1") {
			t.Fatal("not in the registry")
		}
		go b.stop()
		one.expectClose(protocol.CloseRestart)
		b.stop()
		for _, c := range []im.ConversationID{"c1", "c2", "c3"} {
			if b.dir.inRegistry(c, "n1") {
				t.Errorf("still in the registry of %s", c)
			}
		}
	})
}

func TestRooms_DeadNodesAreSwept(t *testing.T) {
	cfg := unlimited()
	cfg.RenewInterval = 20 * time.Millisecond
	dir := newDirectory()
	dir.set(func() {
		dir.dead["dead"] = true
		for _, c := range []im.ConversationID{"c1", "c2", "c3"} {
			dir.channel(c).nodes["dead"] = true
		}
	})
	startNode(t, byDefault, cfg, dir, "n1")
	eventually(t, "it is out of all", func() bool {
		return !dir.inRegistry("c1", "dead") && !dir.inRegistry("c2", "dead") && !dir.inRegistry("c3", "dead")
	})
}

func TestRooms_ThroughLogicInAnotherProcess(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	dir := newDirectory()
	dir.joins("c1", 3, 7, 8)
	srv := startBridgeFor(t, "127.0.0.1:0", newUpLogic(), dir, token)
	u := startUpstream(t, 0, GRPCUpstreamConfig{Addresses: []string{srv.addr}, Token: token, Streams: 1})
	eventually(t, "logic is reached", u.Ready)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rooms, err := u.RoomsOf(ctx, []im.UserID{7, 9})
	if err != nil || len(rooms) != 1 || len(rooms[7]) != 1 || rooms[7][0] != (im.Room{Conversation: "c1", Version: 3, First: 3}) {
		t.Fatalf("%+v, %v", rooms, err)
	}
	version, first, err := u.RoomMembers(ctx, "c1", []im.UserID{8, 9})
	if err != nil || version != 3 || len(first) != 1 || first[8] != 3 {
		t.Fatalf("%d %v, %v", version, first, err)
	}

	// A connector that has nothing else.
	s, err := New(unlimited(), "n1", u, dir, dir, dir, u, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	b := serve(t, s, byDefault, dir)
	c := b.upgraded()
	c.write(masked(ws.OpText, true, []byte("x"))) // user 7
	c.expect("hi x")
	b.publish(says("c1", 4, 3, "four"))
	c.expect("four")

	dir.set(func() { dir.noSQL = true })
	if _, err := u.RoomsOf(ctx, []im.UserID{7}); !errors.Is(err, im.ErrStore) {
		t.Errorf("without MySQL: %v", err)
	}
	srv.stop()
	eventually(t, "logic is away", func() bool { return !u.Ready() })
	if _, _, err := u.RoomMembers(ctx, "c1", []im.UserID{7}); !errors.Is(err, im.ErrStore) {
		t.Errorf("without logic: %v", err)
	}
}
