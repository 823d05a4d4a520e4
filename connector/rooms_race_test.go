package connector

import (
	"slices"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// questionHeld has the next question answered as of now, but only when release is
// called. ask makes it be asked.
func (b *bench) questionHeld(question string, ask func()) (release func()) {
	b.t.Helper()
	gate := make(chan struct{})
	b.dir.set(func() { b.dir.gate, b.dir.asked = gate, nil })
	ask()
	eventually(b.t, question+" is asked", func() bool { return slices.Contains(b.dir.questions(), question) })
	b.dir.set(func() { b.dir.gate = nil })
	return func() { close(gate) }
}

// connecting is a client that has asked to connect.
func (b *bench) connecting(user string) *client {
	c := b.upgraded()
	c.text("connect " + user + " d")
	return c
}

// answered waits until nothing is asked about a user who is in some room.
func (b *bench) answered(u im.UserID) {
	b.t.Helper()
	eventually(b.t, "what was asked is answered", func() bool {
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		g := b.rooms.guests[u]
		return g != nil && g.ask == nil
	})
}

// Who is found to have left before the notice of it comes is not in the room any more
// when it does, and is told to look.
func TestRooms_WhoIsFoundToHaveLeftIsNudged(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1, 2)
	one, two := b.connected(1, "d"), b.connected(2, "d")
	b.dir.leaves("c1", 5, 2)
	b.publish()
	b.dir.lost["n1"]()
	eventually(t, "they are out", func() bool { return !b.rooms.holds("c1", 2) })
	b.publish(notice("c1", 1, 5, nil, []im.UserID{2}))
	one.past(nudged, "notice 5")
	two.expect(nudged)
	two.expect(nudged)
	two.quiet()
}

func TestRooms_WhoIsRemovedWhileTheyConnectIsNotLetIn(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1, 2)
	one := b.connected(1, "d")
	var two *client
	release := b.questionHeld("users 1", func() { two = b.connecting("2") })
	b.dir.leaves("c1", 5, 2)
	b.publish(notice("c1", 1, 5, nil, []im.UserID{2}))
	one.expect("notice 5")
	release()
	two.expect("connected")
	b.publish(says("c1", 6, 5, "six"))
	one.expect("six")
	two.quiet()
}

func TestRooms_WhoJoinsWhileTheyConnectIsLetIn(t *testing.T) {
	for name, tell := range map[string]func(b *bench){
		"by a notice":    func(b *bench) { b.publish(notice("c1", 1, 5, []im.UserID{2}, nil)) },
		"by a lost one":  func(b *bench) { b.dir.lost["n1"]() },
		"by a late one":  func(b *bench) { b.publish(says("c1", 6, 5, "x")); b.publish(notice("c1", 1, 5, []im.UserID{2}, nil)) },
		"to a room here": func(b *bench) { b.connected(1, "d"); b.publish(notice("c1", 1, 5, []im.UserID{2}, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, byDefault, unlimited())
			b.dir.joins("c1", 1, 1)
			b.publish()
			release := b.questionHeld("users 1", func() { b.connecting("2") })
			b.dir.joins("c1", 5, 2)
			tell(b)
			release()
			eventually(t, "they are in", func() bool {
				b.rooms.mu.Lock()
				defer b.rooms.mu.Unlock()
				g := b.rooms.guests[2]
				return g != nil && g.ask == nil && len(g.rooms) == 1 && g.rooms[0].in
			})
		})
	}
}

func TestRooms_WhoLeavesWhileTheNodeIsEnteredLeavesNothing(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1)
	gate := make(chan struct{})
	b.dir.set(func() { b.dir.moveGate = gate })
	c := b.connecting("1")
	eventually(t, "the node is being entered", func() bool {
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		return len(b.rooms.moving) == 1
	})
	c.nc.Close()
	eventually(t, "they have left", func() bool { return !b.rooms.holds("c1", 1) })
	b.dir.set(func() { b.dir.moveGate = nil })
	close(gate)
	eventually(t, "the node has left", func() bool { return !b.dir.inRegistry("c1", "n1") && value(t, b.metrics.rooms) == 0 })
}

// A room asks, and meanwhile somebody gets in by an answer that is older than the
// room's: it does not count.
func TestRooms_AnOlderAnswerLetsNobodyBackIn(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1, 2)
	one := b.connected(1, "d")
	var two *client
	older := b.questionHeld("users 1", func() { two = b.connecting("2") })
	b.dir.leaves("c1", 5, 2) // and no notice comes
	newer := b.questionHeld("room c1 1", func() { b.publish(says("c1", 6, 5, "six")) })
	older()
	two.expect("connected")
	newer()
	one.expect("six")
	two.quiet()
}

// The other way round: they left and returned, and the room's answer is from between.
func TestRooms_AnOlderAnswerPutsNobodyOut(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1, 2)
	one, two := b.connected(1, "d"), b.connected(2, "d")
	b.dir.leaves("c1", 5, 2)
	release := b.questionHeld("room c1 2", func() { b.publish(says("c1", 6, 5, "six")) })
	two.nc.Close()
	eventually(t, "they have left", func() bool { return !b.rooms.holds("c1", 2) })
	b.dir.joins("c1", 7, 2)
	two = b.connected(2, "d")
	release()
	one.expect("six")
	b.publish(says("c1", 8, 7, "eight"))
	one.expect("eight")
	two.expect("eight")
}

func TestRooms_OneOfTwoDevicesLeaves(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1)
		phone, desktop := b.connected(1, "phone"), b.connected(1, "desktop")
		phone.nc.Close()
		eventually(t, "it is gone", func() bool { return value(t, b.metrics.sessions) == 1 })
		b.publish(says("c1", 2, 1, "two"))
		desktop.expect("two")
	})
}

// The last one here leaves by a notice, and with them all that the node knew of the
// room; an answer from before does not bring it back.
func TestRooms_AnOlderAnswerOpensNoRoomAgain(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1)
	one := b.connected(1, "d")
	release := b.questionHeld("users 1", func() { b.publish(); b.dir.lost["n1"]() })
	b.dir.leaves("c1", 5, 1)
	b.publish(notice("c1", 1, 5, nil, []im.UserID{1}))
	one.past(nudged, "notice 5")
	eventually(t, "the room is gone", func() bool { return value(t, b.metrics.rooms) == 0 })
	release()
	eventually(t, "all is answered", func() bool {
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		return len(b.rooms.guests) == 0
	})
	if n := value(t, b.metrics.rooms); n != 0 {
		t.Errorf("%v rooms", n)
	}
}
