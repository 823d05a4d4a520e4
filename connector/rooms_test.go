package connector

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const nudged = `{"push":"nudge","data":{}}`

func TestRooms_APushReachesWhoIsInAndSeesIt(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1, 2)
		b.dir.joins("c1", 5, 3)
		b.dir.joins("c2", 1, 4)
		phone, desktop := b.connected(1, "phone"), b.connected(1, "desktop")
		two, three, four := b.connected(2, "d"), b.connected(3, "d"), b.connected(4, "d")
		var id im.SessionID
		for _, c := range b.sessions.of(1, nil) {
			if c.session.Load().Device == "phone" {
				id = c.id
			}
		}
		early, except, own, typing := says("c1", 4, 5, "early"), says("c1", 6, 5, "not to two"), says("c1", 7, 5, "not to the phone"), says("c1", 0, 0, "typing")
		except.ExceptUser, own.Except = 2, id
		typing.Seq = 0
		b.publish(early, except, own, says("c9", 1, 1, "elsewhere"), typing)
		for _, f := range []string{"early", "not to two", "typing"} {
			phone.expect(f)
		}
		for _, f := range []string{"early", "not to two", "not to the phone", "typing"} {
			desktop.expect(f)
		}
		for _, f := range []string{"early", "not to the phone", "typing"} {
			two.expect(f)
		}
		for _, f := range []string{"not to two", "not to the phone", "typing"} {
			three.expect(f)
		}
		for _, c := range []*client{phone, desktop, two, three, four} {
			c.quiet()
		}
		if got := b.dir.questions(); slices.ContainsFunc(got, func(q string) bool { return strings.HasPrefix(q, "room") }) {
			t.Errorf("asked %v", got)
		}
	})
}

// A receipt is for some of a room: for none of them who has left.
func TestRooms_APushToSomeReachesThoseWhoAreIn(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1, 2, 3)
		one, two, three := b.connected(1, "d"), b.connected(2, "d"), b.connected(3, "d")
		receipt := func(text string) protocol.Delivery {
			d := says("c1", 0, 0, text)
			d.Seq, d.Users = 0, []im.UserID{1, 2}
			return d
		}
		b.dir.leaves("c1", 5, 2)
		b.publish(receipt("read 3"), notice("c1", 1, 5, nil, []im.UserID{2}), receipt("read 5"))
		for _, f := range []string{"read 3", "notice 5", "read 5"} {
			one.expect(f)
		}
		two.expect("read 3")
		two.expect("notice 5")
		three.expect("notice 5")
		for _, c := range []*client{one, two, three} {
			c.quiet()
		}
	})
}

func TestRooms_WhoJoinsAndLeavesByNotices(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1, 2)
		one, two, three := b.connected(1, "d"), b.connected(2, "d"), b.connected(3, "d")
		b.dir.joins("c1", 5, 3, 9)
		b.publish(notice("c1", 1, 5, []im.UserID{3, 9}, nil), says("c1", 6, 5, "hello three"))
		b.dir.leaves("c1", 7, 2)
		b.publish(notice("c1", 5, 7, nil, []im.UserID{2}), says("c1", 8, 7, "without two"))
		for _, c := range []*client{one, three} {
			for _, f := range []string{"notice 5", "hello three", "notice 7", "without two"} {
				c.expect(f)
			}
		}
		for _, f := range []string{"notice 5", "hello three", "notice 7"} {
			two.expect(f)
		}
		two.quiet()
		b.answered(3)
		end := notice("c1", 7, 9, nil, nil)
		end.LeaveAll = true
		b.dir.leaves("c1", 9, 1, 3, 9)
		b.publish(end, says("c1", 10, 9, "nobody hears this"))
		one.expect("notice 9")
		three.expect("notice 9")
		one.quiet()
		three.quiet()
		eventually(t, "the node has left", func() bool { return !b.dir.inRegistry("c1", "n1") && value(t, b.metrics.rooms) == 0 })
	})
}

func TestRooms_TheFirstToJoinIsToldOnceTheNodeIsEntered(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		one := b.connected(1, "d")
		gate := make(chan struct{})
		b.dir.set(func() { b.dir.moveGate = gate })
		b.dir.joins("c1", 5, 1)
		own := says("c1", 7, 5, "to their other device")
		own.Room, own.Users = "", []im.UserID{1}
		b.publish(notice("c1", 4, 5, []im.UserID{1}, nil), says("c1", 6, 5, "hello"), own)
		one.quiet()
		b.dir.set(func() { b.dir.moveGate = nil })
		close(gate)
		for _, f := range []string{"notice 5", "hello", "to their other device"} {
			one.expect(f)
		}
		if !b.dir.inRegistry("c1", "n1") {
			t.Error("the node is not in the registry")
		}
	})
}

func TestRooms_AnOlderRosterAsksAndKeepsTheOrder(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		b := start(t, k, unlimited())
		b.dir.joins("c1", 1, 1, 2)
		b.dir.joins("c2", 1, 1, 2)
		one, two, three := b.connected(1, "d"), b.connected(2, "d"), b.connected(3, "d")
		gate := make(chan struct{})
		b.dir.set(func() { b.dir.gate = gate })
		b.dir.leaves("c1", 5, 2) // and nobody tells
		b.publish(says("c1", 6, 5, "six"))
		b.publish(says("c2", 3, 1, "elsewhere"))
		own := says("c1", 7, 5, "seven")
		own.Room, own.Users = "", []im.UserID{1}
		b.publish(own)
		b.publish(says("c1", 8, 5, "eight"), says("c1", 7, 5, "late"))
		b.dir.joins("c1", 9, 3)
		b.publish(notice("c1", 5, 9, []im.UserID{3}, nil))
		one.expect("elsewhere")
		two.expect("elsewhere")
		one.quiet()
		b.dir.set(func() { b.dir.gate = nil })
		close(gate)
		for _, f := range []string{"six", "seven", "eight", "notice 9"} {
			one.expect(f)
		}
		three.expect("notice 9")
		two.quiet()
	})
}

func TestRooms_WhoLeftByALostNoticeSeesNothingLater(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1, 2, 3)
	one, two, three := b.connected(1, "d"), b.connected(2, "d"), b.connected(3, "d")
	gate := make(chan struct{})
	b.dir.set(func() { b.dir.gate = gate })
	b.dir.leaves("c1", 5, 3)
	b.dir.leaves("c1", 6, 2)
	b.publish(notice("c1", 5, 6, nil, []im.UserID{2}), says("c1", 7, 6, "seven")) // 5 is lost
	b.dir.set(func() { b.dir.gate = nil })
	close(gate)
	one.expect("notice 6")
	one.expect("seven")
	two.expect("notice 6") // the last that they see
	two.quiet()
	three.quiet()
}

func TestRooms_ANoticeThatIsLateStillLetsIn(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1)
	one, two := b.connected(1, "d"), b.connected(2, "d")
	b.dir.joins("c1", 5, 2)
	b.publish(says("c1", 6, 5, "six"))
	one.expect("six")
	b.publish(notice("c1", 1, 5, []im.UserID{2}, nil)) // overtaken
	b.publish(says("c1", 7, 5, "seven"))
	one.expect("seven")
	two.expect("seven")
}

func TestRooms_WhatWaitsIsBounded(t *testing.T) {
	for name, tc := range map[string]struct{ frames, size, kept int }{
		"frames": {heldFrames + 200, 10, heldFrames},
		"bytes":  {20, 100 << 10, 10},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := unlimited()
			cfg.OutboxFrames, cfg.OutboxBytes = 4096, 16<<20
			b := start(t, byDefault, cfg)
			b.dir.joins("c1", 1, 1)
			one, two := b.connected(1, "d"), b.connected(2, "d")
			gate := make(chan struct{})
			b.dir.set(func() { b.dir.gate = gate })
			b.dir.joins("c1", 2, 8)
			for i := range tc.frames {
				b.publish(says("c1", im.Seq(3+i), 2, fmt.Sprintf("%0*d", tc.size, i)))
			}
			if got := int(value(t, b.metrics.heldDropped)); got != tc.frames-tc.kept {
				t.Errorf("%d dropped", got)
			}
			b.dir.joins("c1", 5000, 2)
			join := notice("c1", 2, 5000, []im.UserID{2}, nil)
			join.Frame = repeat("n", tc.size) // dropped too
			b.publish(join)
			b.dir.set(func() { b.dir.gate = nil })
			close(gate)
			for i := range tc.kept {
				one.expect(fmt.Sprintf("%0*d", tc.size, i))
			}
			one.expect(nudged)
			two.expect(nudged) // twice, if they were in before the others were nudged
			b.publish(says("c1", 5001, 5000, "on"))
			one.expect("on")
			two.past(nudged, "on")
			b.rooms.mu.Lock()
			defer b.rooms.mu.Unlock()
			if b.rooms.heldSize != 0 || b.rooms.rooms["c1"].held != nil {
				t.Errorf("%d bytes still wait", b.rooms.heldSize)
			}
		})
	}
}

// past expects want, perhaps after some that are all the same.
func (c *client) past(same, want string) {
	c.t.Helper()
	for {
		f, err := c.frame()
		if err != nil {
			c.t.Fatalf("want %q: %v", want, err)
		}
		if got := string(f.Payload); got == want {
			return
		} else if got != same {
			c.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestRooms_WhatAsksWhileTheDirectoryIsAwayGoesOnLater(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1)
	one := b.connected(1, "d")
	b.dir.set(func() { b.dir.noSQL = true })
	b.dir.joins("c1", 5, 8)
	b.publish(says("c1", 6, 5, "six"))
	eventually(t, "it was asked for in vain", func() bool { return value(t, b.metrics.askFailed) > 0 })
	one.quiet()
	b.dir.set(func() { b.dir.noSQL = false })
	one.expect("six")
}

func TestRooms_AnInterruptedSubscriptionAsksForEverybody(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1, 2)
	one, two, three := b.connected(1, "d"), b.connected(2, "d"), b.connected(3, "d")
	b.publish()
	b.dir.joins("c1", 5, 3) // unheard
	b.dir.leaves("c1", 6, 2)
	b.dir.lost["n1"]()
	for _, c := range []*client{one, two, three} {
		c.expect(nudged)
	}
	two.expect(nudged)   // of the notice that it has missed
	three.expect(nudged) // of what it has missed in c1 since
	eventually(t, "who has left is out", func() bool {
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		return len(b.rooms.guests) == 2 && b.rooms.guests[2] == nil && b.rooms.guests[3].ask == nil
	})
	b.publish(protocol.Delivery{Room: "c1", Frame: []byte("typing")})
	one.past(nudged, "typing")
	three.past(nudged, "typing")
	two.quiet()
}

// The notice that lets somebody in was published to no one, and the node has never heard
// of the channel: it finds out all the same.
func TestRooms_WhoWasLetInUnheardIsFoundInTurn(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.dir.joins("c1", 1, 1)
	one, two := b.connected(1, "d"), b.connected(2, "d")
	b.dir.joins("c1", 5, 2) // unheard
	b.rooms.doubtShard(1)
	b.rooms.doubtShard(2)
	two.expect(nudged)
	b.publish(says("c1", 6, 5, "six"))
	one.expect("six")
	two.expect("six")
	one.quiet()
}

func TestRooms_AskForManyInQuestionsOf500(t *testing.T) {
	b := start(t, byDefault, unlimited())
	const n = 1100
	cs := make([]*client, n)
	for i := range n {
		cs[i] = b.connected(i+1, "d")
	}
	b.publish()
	b.dir.set(func() { b.dir.asked = nil })
	b.dir.lost["n1"]()
	eventually(t, "all are asked for", func() bool {
		b.rooms.mu.Lock()
		defer b.rooms.mu.Unlock()
		return len(b.rooms.guests) == 0
	})
	got := b.dir.questions()
	slices.Sort(got)
	if want := []string{"users 100", "users 500", "users 500"}; !slices.Equal(got, want) {
		t.Errorf("asked %v", got)
	}
}
