package storage

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

func roomNodes(t *testing.T, r *Routes, c im.ConversationID) []im.NodeID {
	t.Helper()
	all, err := r.RoomNodes(t.Context(), []im.ConversationID{c, "c999"})
	if err != nil {
		t.Fatal(err)
	}
	if len(all["c999"]) != 0 {
		t.Fatal("somebody is in c999:", all)
	}
	return slices.Sorted(slices.Values(all[c]))
}

func renewNode(t *testing.T, r *Routes, n im.NodeID) im.RouteChange {
	t.Helper()
	c, err := r.Renew(t.Context(), n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func moveRooms(t *testing.T, r *Routes, n im.NodeID, enter, leave []im.ConversationID) {
	t.Helper()
	if err := r.MoveRooms(t.Context(), n, enter, leave); err != nil {
		t.Fatal(err)
	}
}

// endLease is time passing for a node that does not renew.
func endLease(t *testing.T, s *redisServer, n im.NodeID) {
	t.Helper()
	if err := s.admin.ZAddArgs(t.Context(), keyNodes, zaddOne(1, string(n))).Err(); err != nil {
		t.Fatal(err)
	}
}

func rooms(first, n int) (all []im.ConversationID) {
	for i := range n {
		all = append(all, im.ChannelConversation(uint64(first+i)))
	}
	return all
}

func TestRooms_EnterAndLeave(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		renewNode(t, r, "n1")
		renewNode(t, r, "n2")
		all := rooms(1, 600) // several round trips
		moveRooms(t, r, "n1", all, nil)
		moveRooms(t, r, "n2", all[:2], nil)
		moveRooms(t, r, "n2", nil, all[:1])
		moveRooms(t, r, "n2", nil, all[:1])
		for c, want := range map[im.ConversationID][]im.NodeID{"c1": {"n1"}, "c2": {"n1", "n2"}, "c600": {"n1"}} {
			if got := roomNodes(t, r, c); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", c, got, want)
			}
		}
		moveRooms(t, r, "n2", nil, all[1:2])
		moveRooms(t, r, "n1", nil, all)
		for k := range contents(t, s) {
			if k != keyGeneration && k != keyNodes && k != keyRooms {
				t.Errorf("%s is left", k)
			}
		}
	})
}

func TestRooms_DeadNodeIsIgnoredAndSwept(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		redis := s.open(t)
		r := NewRoutes(redis)
		renewNode(t, r, "dead")
		renewNode(t, r, "live")
		moveRooms(t, r, "dead", rooms(1, sweepRooms+300), nil)
		moveRooms(t, r, "live", rooms(1, 2), nil)
		if n, err := r.SweepRooms(t.Context()); n != 0 || err != nil {
			t.Fatal("a live node was swept:", n, err)
		}
		endLease(t, s, "dead")
		if got := roomNodes(t, NewRoutes(redis), "c1"); !slices.Equal(got, []im.NodeID{"live"}) {
			t.Fatalf("got %v", got)
		}
		if n, err := NewRoutes(redis).SweepRooms(t.Context()); n != sweepRooms || err != nil {
			t.Fatalf("%d swept in one call, want %d (%v)", n, sweepRooms, err)
		}
		if n, err := NewRoutes(redis).SweepRooms(t.Context()); n != 300 || err != nil {
			t.Fatalf("%d swept in the second call, want 300 (%v)", n, err)
		}
		if n, err := NewRoutes(redis).SweepRooms(t.Context()); n != 0 || err != nil {
			t.Fatalf("%d swept where nothing is left (%v)", n, err)
		}
		if all := s.keys(t); len(all) != 6 {
			t.Fatalf("left are %v", all)
		}
	})
}

func TestRooms_PeersSweepAtOnceWhatANodeEntersAnewStays(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		redis := s.open(t)
		r := NewRoutes(redis)
		if !renewNode(t, r, "n").Lapsed {
			t.Fatal("a node's first lease is a new one")
		}
		if renewNode(t, r, "n").Lapsed {
			t.Fatal("it was renewed in time")
		}
		all := rooms(1, 900)
		moveRooms(t, r, "n", all, nil)
		for range 5 {
			endLease(t, s, "n")
			var peers sync.WaitGroup
			for range 4 {
				peers.Go(func() {
					if _, err := NewRoutes(redis).SweepRooms(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			if !renewNode(t, r, "n").Lapsed {
				t.Fatal("the node is not told that its lease ran out")
			}
			moveRooms(t, r, "n", all, nil)
			peers.Wait()
			got, err := r.RoomNodes(t.Context(), all)
			if err != nil || len(got) != len(all) {
				t.Fatalf("%d of %d rooms are left (%v)", len(got), len(all), err)
			}
			if n := s.admin.ZCard(t.Context(), nodeRoomsKey("n")).Val(); int(n) != len(all) {
				t.Fatalf("%d of %d rooms are on the node's list", n, len(all))
			}
			if s.admin.ZScore(t.Context(), keyRooms, "n").Err() != nil {
				t.Fatal("nobody would sweep the node")
			}
		}
	})
}

// The clock of a sweep is read before the leases: what a node enters between the two
// stays, though the sweep found it dead.
func TestRooms_EntryYoungerThanTheSweepStays(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		moveRooms(t, r, "n", rooms(1, 2), nil)
		before, err := r.microseconds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		moveRooms(t, r, "n", rooms(2, 2), nil)
		if n, all, err := r.sweepNode(t.Context(), "n", before); n != 1 || !all || err != nil {
			t.Fatal(n, all, err)
		}
		renewNode(t, r, "n")
		for c, want := range map[im.ConversationID]int{"c1": 0, "c2": 1, "c3": 1} {
			if got := roomNodes(t, r, c); len(got) != want {
				t.Errorf("%s: got %v, want %d", c, got, want)
			}
		}
		left := s.admin.ZRange(t.Context(), nodeRoomsKey("n"), 0, -1).Val()
		if slices.Sort(left); fmt.Sprint(left) != "[c2 c3]" {
			t.Errorf("the node's list is %v", left)
		}
	})
}

func TestRooms_EnteredAnewAfterAFlush(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		renewNode(t, r, "n")
		moveRooms(t, r, "n", rooms(1, 3), nil)
		s.flush(t)
		if !renewNode(t, r, "n").Lapsed {
			t.Fatal("the node is not told that it was forgotten")
		}
		if got := roomNodes(t, r, "c1"); len(got) != 0 {
			t.Fatalf("got %v", got)
		}
		moveRooms(t, r, "n", rooms(1, 3), nil)
		if got := roomNodes(t, r, "c1"); !slices.Equal(got, []im.NodeID{"n"}) {
			t.Fatalf("got %v", got)
		}
	})
}

// A room of which nothing is on a list, and a list of which a sweeper left the half,
// are no errors.
func TestRooms_SweepIsResumed(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		moveRooms(t, r, "n", rooms(1, 3), nil)
		if err := s.admin.ZRem(t.Context(), roomKey("c2"), "n").Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.admin.ZAddArgs(t.Context(), keyRooms, redis.ZAddArgs{Members: []redis.Z{{Score: 1, Member: "gone"}}}).Err(); err != nil {
			t.Fatal(err)
		}
		if n, err := r.SweepRooms(t.Context()); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		var left int64
		for _, key := range []string{keyRooms, nodeRoomsKey("n"), roomKey("c1"), roomKey("c3")} {
			left += s.admin.Exists(t.Context(), key).Val()
		}
		if left != 0 {
			t.Fatalf("%d keys are left", left)
		}
	})
}
