package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	ann im.UserID = 7
	bob im.UserID = 9
	eve im.UserID = 1<<53 - 1
)

func TestIndex_FollowsTheRecord(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, ann, bob)
		c := im.DirectConversation(ann, bob)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		project(t, p, f.store(bob, ann, im.CountedForAll))
		project(t, p, f.store(ann, ann, im.CountedForAll))
		project(t, p, f.store(im.SystemUser, bob, im.UncountedForAll))
		for range 5 {
			project(t, p, f.store(eve, bob, im.CountedForAll))
		}
		agree(t, x, f, ann, bob, eve)
		project(t, p, f.ack(bob, c, 1, 0))
		agree(t, x, f, ann, bob)
		project(t, p, f.ack(ann, c, 2, 2))
		agree(t, x, f, ann, bob)
		reads := f.reads
		agree(t, x, f, ann, bob, eve)
		if f.reads != reads {
			t.Errorf("a sealed projection was read from the record %d times", f.reads-reads)
		}
		st, err := x.Row(t.Context(), ann, c)
		if err != nil || st.Unread != 0 || st.PeerDelivered != 1 || st.PeerRead != 2 {
			t.Errorf("state %+v %v", st, err)
		}
		if _, err := x.State(t.Context(), ann, im.DirectConversation(bob, eve)); !errors.Is(err, im.ErrNotFound) {
			t.Errorf("a stranger's conversation: %v", err)
		}
		if n, degraded, err := x.UnreadTotal(t.Context(), bob); err != nil || degraded || n.All != f.want(bob).Total {
			t.Errorf("total %+v %v %v", n, degraded, err)
		}
	})
}

func TestProjector_ReplayChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, ann, bob)
		var log []im.Projection
		for i := range 20 {
			from, to := ann, bob
			if i%3 == 0 {
				from, to = bob, ann
			}
			pr := f.store(from, to, im.Uncounted(i%3))
			pr.Hints = []im.Hint{{Key: im.SendKey{Conversation: "d7-9", Sender: from, ClientMsgID: "abcdefgh"}, Ref: im.StoredRef{Seq: im.Seq(i)}}}
			log = append(log, pr)
		}
		log = append(log, f.ack(bob, "d7-9", 4, 2))
		for _, pr := range log {
			project(t, p, pr)
		}
		before := contents(t, s)
		for range 10 {
			for _, i := range rand.Perm(len(log)) {
				log[i].Hints = nil
				project(t, p, log[i])
			}
		}
		if after := contents(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("after replay\n got %v\nwant %v", after, before)
		}
		agree(t, x, f, ann, bob)
	})
}

// A wipe and then one message make a list of one that looks whole.
func TestIndex_ListOfOneAfterWipeIsNotTrusted(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		for u := range im.UserID(12) {
			project(t, p, f.store(u+100, bob, im.UncountedForSender))
		}
		agree(t, x, f, bob)
		s.flush(t)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, bob, ann)
	})
}

func TestIndex_WipeDuringRebuildIsNotTrusted(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		for u := range im.UserID(12) {
			f.store(u+100, bob, im.CountedForAll)
		}
		f.afterRead = func() {
			f.mu.Lock()
			f.afterRead = nil
			f.mu.Unlock()
			s.flush(t)
			project(t, p, f.store(ann, bob, im.CountedForAll))
		}
		if g, w := got(t, x, bob), f.want(bob); fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", w) {
			t.Fatalf("got %+v\nwant %+v", g, w)
		}
		agree(t, x, f, bob, ann)
	})
}

// A message committed after the rebuild has read the record is in Redis already
// when the rebuild writes, or comes after: neither may lose it.
func TestIndex_RebuildKeepsConcurrentWrites(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		f.afterRead = func() {
			for range 3 {
				project(t, p, f.store(ann, bob, im.UncountedForSender))
			}
			project(t, p, f.store(eve, bob, im.CountedForAll))
			project(t, p, f.ack(bob, "d7-9", 2, 1))
		}
		for i := range 4 {
			if i%2 == 0 {
				s.flush(t) // what is written meanwhile finds nothing sealed
			} else if err := r.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			got(t, x, bob)
			got(t, x, ann)
		}
		f.mu.Lock()
		f.afterRead = nil
		f.mu.Unlock()
		agree(t, x, f, ann, bob, eve)
	})
}

func TestIndex_SingleLostKeyIsNoticed(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, bob)
		fill := func() {
			for u := range im.UserID(4) {
				project(t, p, f.store(u+100, bob, im.UncountedForAll))
				project(t, p, f.store(u+100, bob, im.CountedForAll))
			}
		}
		fill()
		change(t, NewSettings(r, f), bob, im.DirectConversation(100, bob), im.SettingsChange{Pinned: ptr(true), MutedUntil: ptr(int64(1))})
		agree(t, x, f, bob)
		for k := range contents(t, s) {
			for _, more := range []bool{false, true} {
				page, err := x.List(t.Context(), bob, 0, 100)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.admin.Del(t.Context(), k).Err(); err != nil {
					t.Fatal(err)
				}
				if more {
					fill()
				}
				ch, err := x.Changes(t.Context(), bob, page.Position, 100)
				if err != nil {
					t.Fatal(err)
				}
				if more && !ch.Void && len(ch.States) != 4 {
					t.Errorf("%s deleted: %d of 4 changes", k, len(ch.States))
				}
				agree(t, x, f, bob)
			}
		}
	})
}

func TestIndex_OfflineGoesByAckOnly(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, bob)
		c := im.DirectConversation(ann, bob)
		for range 10 {
			project(t, p, f.store(ann, bob, im.CountedForAll))
		}
		for range 3 { // the pull itself clears nothing
			agree(t, x, f, bob)
		}
		for _, seq := range []im.Seq{4, 2, 9} {
			project(t, p, f.ack(bob, c, seq, 0))
			agree(t, x, f, bob)
		}
		if n := s.admin.ZCard(t.Context(), offlineListKey(bob, c)).Val(); n != 2 { // one and the seal
			t.Errorf("%d members left", n)
		}
		project(t, p, f.ack(bob, c, 10, 10))
		agree(t, x, f, bob)
		if s.admin.Exists(t.Context(), offlineListKey(bob, c)).Val() != 0 {
			t.Error("an empty list is kept")
		}
		late := im.Projection{Users: []im.UserRaise{{User: bob, State: im.ConversationState{Conversation: c, LastSeq: 3},
			Offline: []im.OfflineEntry{{Seq: 3, ID: 3}}}}}
		project(t, p, late)
		agree(t, x, f, bob)
		reads := f.reads
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, bob)
		if f.reads != reads {
			t.Error("a list that began under a complete index was not trusted")
		}
	})
}

func TestIndex_OfflineKeepsTheNewest(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, bob)
		for range 30 {
			var all im.Projection
			for range 50 {
				all.Users = append(all.Users, f.store(ann, bob, im.CountedForAll).Users...)
			}
			project(t, p, all)
		}
		agree(t, x, f, bob)
		list := offlineListKey(bob, im.DirectConversation(ann, bob))
		if n := s.admin.ZCard(t.Context(), list).Val(); n > offlineKeep+65 {
			t.Errorf("%d members", n)
		}
		s.flush(t)
		agree(t, x, f, bob)
		if n := s.admin.ZCard(t.Context(), list).Val(); n != offlineKeep+1 {
			t.Errorf("%d members after rebuild", n)
		}
	})
}

func TestIndex_UnreadFollowsTheFormula(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		c := im.DirectConversation(ann, bob)
		agree(t, x, f, ann, bob)
		for i := range 40 {
			from, to := ann, bob
			if i%7 == 3 {
				from, to = bob, ann
			}
			project(t, p, f.store(from, to, im.Uncounted(i%3)))
			agree(t, x, f, ann, bob)
		}
		for _, m := range []im.Member{{Join: 5}, {Join: 5, Floor: 9}, {Join: 5, Floor: 9, Leave: 30}, {Join: 5, Floor: 9, Leave: 30, Read: 29}, {Read: 40}} {
			f.mu.Lock()
			row := f.member(bob, c)
			row.Join, row.Floor, row.Leave, row.Read = max(row.Join, m.Join), max(row.Floor, m.Floor), max(row.Leave, m.Leave), max(row.Read, m.Read)
			state := f.state(bob, c)
			f.mu.Unlock()
			project(t, p, im.Projection{Users: []im.UserRaise{{User: bob, State: state}}})
			g, err := x.Row(t.Context(), bob, c)
			if err != nil || g.Unread != f.want(bob).Total {
				t.Errorf("%+v: unread %d, want %d (%v)", m, g.Unread, f.want(bob).Total, err)
			}
		}
	})
}

func TestIndex_MoreUncountedThanKept(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, bob)
		for range 25 {
			var all im.Projection
			for i := range 60 {
				kind := im.UncountedForAll
				if i%20 == 0 {
					kind = im.CountedForAll
				}
				pr := f.store(ann, bob, kind)
				all.Users, all.Uncounted = append(all.Users, pr.Users...), append(all.Uncounted, pr.Uncounted...)
			}
			project(t, p, all)
		}
		agree(t, x, f, bob)
		project(t, p, f.ack(bob, "d7-9", 0, 1000))
		agree(t, x, f, bob)
		s.flush(t)
		agree(t, x, f, bob)
		if n := s.admin.ZCard(t.Context(), uncountedKey("d7-9")).Val(); n > uncountedKeep+65 {
			t.Errorf("%d members", n)
		}
	})
}

// A client that only follows Changes, in small pages, ends up with what List says,
// whatever is written in the meantime.
func TestIndex_ChangesMissNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		const writers, messages = 6, 60
		var wg sync.WaitGroup
		done := make(chan struct{})
		for w := range im.UserID(writers) {
			wg.Go(func() {
				for i := range messages {
					project(t, p, f.store(100+w*10+im.UserID(i%10), bob, im.UncountedForSender))
				}
			})
		}
		go func() { wg.Wait(); close(done) }()

		known := map[im.ConversationID]im.ConversationState{}
		var at im.Position
		voids := 0
		follow := func() {
			for {
				ch, err := x.Changes(t.Context(), bob, at, 3)
				if err != nil {
					t.Fatal(err)
				}
				if ch.Void {
					voids++
					var before im.MessageID
					for first := true; ; first = false {
						page, err := x.List(t.Context(), bob, before, 4)
						if err != nil {
							t.Fatal(err)
						}
						if first {
							at = page.Position // noted before the states: what moved since comes again
						}
						for _, st := range page.States {
							known[st.Conversation] = st
						}
						if !page.HasMore {
							break
						}
						before = page.States[len(page.States)-1].LastID
					}
					continue
				}
				for _, st := range ch.States {
					known[st.Conversation] = st
				}
				at = ch.Position
				if !ch.HasMore {
					return
				}
			}
		}
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			follow()
		}
		follow()
		want := f.want(bob)
		if len(known) != len(want.List) {
			t.Fatalf("%d conversations, want %d", len(known), len(want.List))
		}
		for _, w := range want.List {
			if known[w.Conversation] != w {
				t.Errorf("got %+v\nwant %+v", known[w.Conversation], w)
			}
		}
		if voids != 1 {
			t.Errorf("started over %d times", voids)
		}
		if ch, _ := x.Changes(t.Context(), bob, im.Position{Epoch: at.Epoch, Version: at.Version + 1000}, 3); !ch.Void {
			t.Error("a position from the future is accepted")
		}
	})
}

// Whatever happens in whatever order, the index says what the record says.
func TestIndex_AgreesAfterAnyHistory(t *testing.T) {
	run := func(t *testing.T, s *redisServer, seeds int) {
		for seed := range seeds {
			rnd := rand.New(rand.NewPCG(1, uint64(seed)))
			s.flush(t)
			f := newFakeRecord()
			r := s.open(t)
			x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
			users := []im.UserID{im.SystemUser, ann, bob, eve, 21, 22}
			var late []im.Projection
			var old []func() // settings that were overtaken
			send := func(pr im.Projection) {
				switch rnd.IntN(6) {
				case 0:
					late = append(late, pr) // arrives out of order
				case 1:
					project(t, p, pr)
					late = append(late, pr) // arrives twice
				default:
					project(t, p, pr)
				}
			}
			for range 120 {
				u := users[1+rnd.IntN(len(users)-1)]
				switch n := rnd.IntN(26); {
				case n < 9:
					send(f.store(users[rnd.IntN(len(users))], u, im.Uncounted(rnd.IntN(3))))
				case n < 13, n >= 20:
					var convs []im.ConversationID
					f.mu.Lock()
					for c := range f.cursors[u] {
						convs = append(convs, c)
					}
					f.mu.Unlock()
					if len(convs) == 0 {
						continue
					}
					slices.Sort(convs)
					c := convs[rnd.IntN(len(convs))]
					last := len(f.convs[c])
					if n >= 20 {
						old = append(old, setSomething(t, rnd, r, set, f, u, c, last))
						continue
					}
					d := im.Seq(rnd.IntN(last + 1))
					send(f.ack(u, c, d, im.Seq(rnd.IntN(int(d)+1))))
				case n == 13:
					s.flush(t)
				case n == 14:
					keys := s.keys(t)
					if len(keys) > 0 {
						slices.Sort(keys)
						s.admin.Del(t.Context(), keys[rnd.IntN(len(keys))])
					}
				case n == 15:
					if err := r.Reset(t.Context()); err != nil {
						t.Fatal(err)
					}
				default:
					got(t, x, u) // a read in the middle, sealing what is there
				}
			}
			for _, i := range rnd.Perm(len(late)) {
				project(t, p, late[i])
			}
			for _, i := range rnd.Perm(len(old))[:len(old)/4] { // not all: that alone would mend what was lost
				old[i]()
			}
			t.Logf("seed %d", seed)
			agree(t, x, f, users[1:]...)
			agree(t, x, f, users[1:]...)
		}
	}
	t.Run("mini", func(t *testing.T) { run(t, miniServer(t), 12) })
	t.Run("real", func(t *testing.T) { run(t, realServer(t), 25) })
}

// setSomething changes u's settings of c or deletes from it, now and then dying before
// the projection; the returned projects what then was once more, late.
func setSomething(t *testing.T, rnd *rand.Rand, r *Redis, set *Settings, f *fakeRecord, u im.UserID, c im.ConversationID, last int) func() {
	ch := im.SettingsChange{MutedUntil: ptr(rnd.Int64N(1000))}
	switch rnd.IntN(5) {
	case 0:
		ch.Pinned = ptr(rnd.IntN(2) == 0)
	case 1:
		ch.MarkedUnread = ptr(rnd.IntN(2) == 0)
	case 2:
		ch.Hidden = ptr(im.Seq(rnd.IntN(last + 2)))
	}
	switch rnd.IntN(6) {
	case 0:
		cutShort(t, r, f, u, c, openFor, ch)
	case 1:
		if _, err := set.DeleteConversation(t.Context(), u, c, im.Seq(rnd.IntN(last+2))); err != nil {
			t.Fatal(err)
		}
	default:
		change(t, set, u, c, ch)
	}
	f.mu.Lock()
	s := f.state(u, c)
	f.mu.Unlock()
	return func() {
		must(t, r.exec(t.Context(), mergeSettings(t.Context(), u, []im.ConversationState{s}, settling{})))
	}
}
