package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// follower is a client that only follows Changes, in small pages, and reads the list
// where its position is void.
type follower struct {
	user  im.UserID
	at    im.Position
	known map[im.ConversationID]im.ConversationState
}

func (w *follower) follow(t testing.TB, x *Index) {
	t.Helper()
	for {
		ch, err := x.Changes(t.Context(), w.user, w.at, 3)
		if err != nil || ch.Degraded {
			t.Fatalf("changes of %s: %+v, %v", w.user, ch, err)
		}
		if len(ch.States) > 3 {
			t.Fatalf("%d changes in a page of 3", len(ch.States))
		}
		if ch.Void {
			w.startOver(t, x)
			continue
		}
		for _, s := range ch.States {
			w.known[s.Conversation] = visible(s)
		}
		if w.at = ch.Position; !ch.HasMore {
			return
		}
	}
}

func (w *follower) startOver(t testing.TB, x *Index) {
	t.Helper()
	w.known = map[im.ConversationID]im.ConversationState{}
	var before im.MessageID
	for first := true; ; first = false {
		page, err := x.List(t.Context(), w.user, before, 3)
		if err != nil {
			t.Fatalf("list of %s: %v", w.user, err)
		}
		if first {
			w.at = page.Position
		}
		for _, s := range page.States {
			w.known[s.Conversation] = visible(s)
			before = s.LastID
		}
		if !page.HasMore {
			return
		}
	}
}

// list is what the client shows.
func (w *follower) list() []im.ConversationState {
	out := []im.ConversationState{}
	for _, s := range w.known {
		if s.LastID > 0 && !s.Hidden() {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, newestFirst)
	return told(out)
}

// told is a list without what nobody tells those who have left: that one of the messages
// that they see was recalled since.
func told(list []im.ConversationState) []im.ConversationState {
	for i := range list {
		if !list[i].In() {
			list[i].Unread = 0
		}
	}
	return list
}

// The modes that a channel can be in: what its members see is the same.
const (
	written = iota
	merged
	crossing // becomes merged in the middle
)

// channelTrace lives a random history of one-to-ones and channels. What is drawn does not
// depend on the mode. It returns what everybody sees in the end.
func channelTrace(t *testing.T, s *redisServer, seed uint64, mode int) []string {
	rnd := rand.New(rand.NewPCG(2, seed))
	s.flush(t)
	f := newFakeRecord()
	r := s.open(t)
	x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
	users := []im.UserID{ann, bob, eve, 21, 22}
	channels := []im.ConversationID{"c1", "c2", "c3", "c4", "c5"}
	var late []im.Projection
	send := func(pr im.Projection) {
		switch rnd.IntN(6) {
		case 0: // arrives out of order, but for what does not count: that comes before its message
			project(t, p, im.Projection{Uncounted: pr.Uncounted})
			late = append(late, pr)
		case 1:
			project(t, p, pr)
			late = append(late, pr) // arrives twice
		default:
			project(t, p, pr)
		}
	}
	for _, c := range channels {
		f.channel(c, mode == merged)
		send(f.join(c, false, users[:3+rnd.IntN(3)]...))
	}
	followers := []*follower{{user: ann}, {user: bob}}
	for step := range 150 {
		u, c, n := users[rnd.IntN(len(users))], channels[rnd.IntN(len(channels))], rnd.IntN(40)
		roster, closed := f.members(c), f.channels[c].closed > 0
		if mode == crossing && step%30 == 29 {
			project(t, p, f.cross(channels[step/30]))
		}
		switch {
		case n < 12:
			counted, mention := im.Uncounted(rnd.IntN(3)), []im.UserID{im.SystemUser, 1, 1, 1, users[rnd.IntN(len(users))]}[rnd.IntN(5)]
			if !closed && slices.Contains(roster, u) {
				send(f.say(c, u, counted, mention))
			}
		case n < 15:
			send(f.store(users[rnd.IntN(len(users))], u, im.Uncounted(rnd.IntN(3))))
		case n < 17:
			if seq := im.Seq(1 + rnd.IntN(len(f.convs[c]))); !closed {
				send(f.recall(c, seq))
			}
		case n < 19:
			if !closed && slices.Contains(roster, u) {
				send(f.leave(c, u))
			}
		case n < 22:
			if history := rnd.IntN(2) == 0; !closed {
				send(f.join(c, history, u, users[rnd.IntN(len(users))]))
			}
		case n == 22:
			if rnd.IntN(4) == 0 && !closed {
				send(f.dissolve(c))
			}
		case n < 32:
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
			c = convs[rnd.IntN(len(convs))]
			f.mu.Lock()
			top := f.state(u, c).Top()
			f.mu.Unlock()
			if n >= 29 {
				setSomething(t, rnd, r, set, f, u, c, int(top))
				continue
			}
			d := im.Seq(rnd.IntN(int(top) + 1))
			send(f.ack(u, c, d, im.Seq(rnd.IntN(int(d)+1))))
		case n == 32:
			s.flush(t)
		case n == 33:
			which := int(rnd.Uint32())
			if keys := s.keys(t); len(keys) > 0 {
				slices.Sort(keys)
				s.admin.Del(t.Context(), keys[which%len(keys)])
			}
		case n == 34:
			if err := r.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
		case n < 38:
			followers[n%2].follow(t, x)
		default:
			got(t, x, u) // a read in the middle, sealing what is there
		}
	}
	for _, i := range rnd.Perm(len(late)) {
		project(t, p, late[i])
	}
	var sights []string
	for _, w := range followers {
		w.follow(t, x)
		if g, want := fmt.Sprintf("%+v", w.list()), fmt.Sprintf("%+v", told(f.want(w.user).List)); g != want {
			t.Fatalf("user %s follows changes\n got %s\nwant %s", w.user, g, want)
		}
	}
	agree(t, x, f, users...)
	agree(t, x, f, users...)
	for _, u := range users {
		sights = append(sights, fmt.Sprintf("%+v", got(t, x, u)))
	}
	return sights
}

// Whatever happens in whatever order, the index says what the record says; and the same
// history shows the same, be channels written for each member or merged at read [S20].
func TestIndex_ChannelsAreTheSameWrittenAndMerged(t *testing.T) {
	run := func(t *testing.T, s *redisServer, seeds int) {
		for seed := range uint64(seeds) {
			t.Logf("seed %d", seed)
			want := channelTrace(t, s, seed, written)
			for _, mode := range []int{merged, crossing} {
				if got := channelTrace(t, s, seed, mode); !slices.Equal(got, want) {
					t.Fatalf("mode %d\n got %s\nwant %s", mode, got, want)
				}
			}
		}
	}
	t.Run("mini", func(t *testing.T) { run(t, miniServer(t), 10) })
	t.Run("real", func(t *testing.T) { run(t, realServer(t), 30) })
}

// channelWorld is a channel of three and an index that has been read.
func channelWorld(t *testing.T, s *redisServer, mode int) (*Index, *Projector, *fakeRecord) {
	r, f := s.open(t), newFakeRecord()
	x, p := NewIndex(r, f), NewProjector(r)
	f.channel("c1", mode == merged)
	project(t, p, f.join("c1", false, ann, bob, eve))
	agree(t, x, f, ann, bob, eve)
	return x, p, f
}

func TestIndex_MergedChannelRaisesOnlyItsEnd(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, p, f := channelWorld(t, s, merged)
		reads := f.reads
		before := s.admin.HGet(t.Context(), stateKey(bob), "c1").Val()
		for range 20 {
			pr := f.say("c1", ann, im.CountedForAll, im.SystemUser)
			if len(pr.Users) != 1 || pr.Users[0].User != ann {
				t.Fatalf("raised %+v", pr.Users)
			}
			project(t, p, pr)
		}
		if after := s.admin.HGet(t.Context(), stateKey(bob), "c1").Val(); after != before {
			t.Errorf("bob's state became %s", after)
		}
		agree(t, x, f, ann, bob, eve)
		st, err := x.Row(t.Context(), bob, "c1")
		if err != nil || st.Unread != 20 || st.LastSeq != 21 || st.Mentioned() != 21 {
			t.Errorf("%+v, %v", st, err)
		}
		if f.reads != reads || f.endReads > 1 { // the first read completed it
			t.Errorf("the record was read: %d users, %d ends", f.reads-reads, f.endReads)
		}
	})
}

// A lost end is read from the record once, and its members learn of it again.
func TestIndex_LostEndIsCompletedAndTold(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, p, f := channelWorld(t, s, merged)
		w := &follower{user: bob}
		w.follow(t, x)
		project(t, p, f.say("c1", ann, im.CountedForAll, 1))
		if err := s.admin.Del(t.Context(), endKey("c1")).Err(); err != nil {
			t.Fatal(err)
		}
		reads := f.endReads
		w.follow(t, x)
		if g := w.known["c1"]; g.LastSeq != 2 || g.Unread != 1 {
			t.Errorf("bob knows %+v", g)
		}
		agree(t, x, f, ann, bob, eve)
		if f.endReads != reads+1 {
			t.Errorf("the end was read %d times", f.endReads-reads)
		}
		// What a writer puts there first is not all there is.
		if err := s.admin.Del(t.Context(), endKey("c1")).Err(); err != nil {
			t.Fatal(err)
		}
		project(t, p, im.Projection{Ends: []im.ChannelEnd{{Conversation: "c1", LastSeq: 1}}})
		agree(t, x, f, bob)
	})
}

// An end that was read before a message is committed, and sealed after the message was
// projected, has the message.
func TestIndex_EndKeepsConcurrentWrites(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, p, f := channelWorld(t, s, merged)
		gen := im.Generation(s.admin.HGet(t.Context(), keyGeneration, "token").Val())
		stale, err := f.ChannelEnds(t.Context(), []im.ConversationID{"c1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.admin.Del(t.Context(), endKey("c1")).Err(); err != nil {
			t.Fatal(err)
		}
		project(t, p, f.say("c1", ann, im.CountedForAll, 1))
		e := stale["c1"]
		must(t, x.redis.exec(t.Context(), raiseEnd(t.Context(), &e, gen)))
		agree(t, x, f, ann, bob, eve)
	})
}

// A reader that Redis fails between the states and the ends has them from the record; a
// position from such a read is told all merged channels.
func TestIndex_EndsWithoutRedisComeFromTheRecord(t *testing.T) {
	s := miniServer(t)
	x, p, f := channelWorld(t, s, merged)
	for range 3 {
		project(t, p, f.say("c1", ann, im.CountedForAll, 1))
	}
	s.mini.SetError("OOM")
	all, at, err := x.ends(t.Context(), "G", []im.ConversationID{"c1"})
	s.mini.SetError("")
	if err != nil || at != 0 || all["c1"].LastSeq != 4 || all["c1"].MovedAt != 0 {
		t.Fatal(all, at, err)
	}
	s.mini.SetError("OOM")
	since := im.Position{Epoch: "G", Version: 5, MergedAt: 6}
	ch, err := x.addMerged(t.Context(), bob, "G", im.Changes{Position: im.Position{Epoch: "G", Version: 7}}, []im.ConversationID{"c1"}, since, 3)
	s.mini.SetError("")
	if err != nil || !ch.Degraded || ch.Position != since {
		t.Fatal(ch, err)
	}
	f.fail = im.ErrStore
	if _, _, err := x.ends(t.Context(), "other", []im.ConversationID{"c1"}); !errors.Is(err, im.ErrStore) {
		t.Fatalf("an end that nobody knows: %v", err)
	}
}

// While nothing moves nothing is told, once the time that clocks may differ is over; who
// has no time of merged channels is told all of them, page by page.
func TestIndex_ChangesOfMergedChannels(t *testing.T) {
	s := miniServer(t)
	x, p, f := channelWorld(t, s, merged)
	for i := range 7 {
		c := im.ChannelConversation(uint64(10 + i))
		f.channel(c, true)
		project(t, p, f.join(c, false, ann, bob))
	}
	page, err := x.List(t.Context(), bob, 0, 100)
	if err != nil || len(page.States) != 8 || page.Position.MergedAt == 0 {
		t.Fatal(page, err)
	}
	changes := func(at im.Position) im.Changes {
		t.Helper()
		ch, err := x.Changes(t.Context(), bob, at, 3)
		if err != nil || ch.Void || ch.Degraded {
			t.Fatal(ch, err)
		}
		return ch
	}
	later := page.Position
	later.MergedAt += endSlack
	if ch := changes(later); len(ch.States) != 0 || ch.HasMore {
		t.Errorf("nothing moved: %+v", ch)
	}
	none := page.Position
	none.MergedAt = 0
	seen := map[im.ConversationID]bool{}
	for more := true; more; {
		ch := changes(none)
		for _, st := range ch.States {
			if seen[st.Conversation] {
				t.Errorf("%s is told twice", st.Conversation)
			}
			seen[st.Conversation] = true
		}
		none, more = ch.Position, ch.HasMore
	}
	if len(seen) != 8 {
		t.Errorf("%d of 8 are told", len(seen))
	}
	project(t, p, f.say("c12", ann, im.CountedForAll, 1))
	if ch := changes(later); len(ch.States) != 0 && ch.States[0].Conversation != "c12" {
		t.Errorf("%+v", ch)
	}
	if ch := changes(page.Position); !slices.ContainsFunc(ch.States, func(st im.ConversationState) bool { return st.Conversation == "c12" && st.Unread == 1 }) && !ch.HasMore {
		t.Errorf("what moved is not told: %+v", ch)
	}
	// What moves versions goes first, and takes nothing of the time with it.
	s.mini.SetTime(time.Now().Add(time.Hour))
	for u := range im.UserID(7) {
		project(t, p, f.store(100+u, bob, im.CountedForAll))
	}
	w := &follower{user: bob, at: page.Position, known: map[im.ConversationID]im.ConversationState{}}
	if w.follow(t, x); w.known["c12"].Unread != 1 {
		t.Errorf("bob knows %+v", w.known["c12"])
	}
	// A user who is in none has no such time.
	project(t, p, f.store(ann, 21, im.CountedForAll))
	if page, err := x.List(t.Context(), 21, 0, 100); err != nil || page.Position.MergedAt != 0 {
		t.Error(page, err)
	}
}

// Replays in any order leave an end as it is, time and all.
func TestProjector_ReplayOfEndsChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, p, f := channelWorld(t, s, merged)
		var log []im.Projection
		for i := range 20 {
			log = append(log, f.say("c1", ann, im.Uncounted(i%3), im.SystemUser))
		}
		log = append(log, f.recall("c1", 3), f.leave("c1", eve), f.dissolve("c1"))
		for _, pr := range log {
			project(t, p, pr)
		}
		before := contents(t, s)
		for range 5 {
			for _, i := range rand.Perm(len(log)) {
				project(t, p, log[i])
			}
		}
		// A message that was accepted before the end, and came after it, is seen by nobody.
		project(t, p, im.Projection{Ends: []im.ChannelEnd{{Conversation: "c1", LastSeq: 100, LastID: im.MaxID}}})
		if after := contents(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("after replay\n got %v\nwant %v", after, before)
		}
		agree(t, x, f, ann, bob, eve)
	})
}

// What waits in a channel is counted from the state; nothing is kept per message.
func TestIndex_OfflineOfChannelsIsDerived(t *testing.T) {
	for mode, name := range []string{"written", "merged"} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *redisServer) {
				x, p, f := channelWorld(t, s, mode)
				offline := func(u im.UserID) im.OfflineSource {
					t.Helper()
					sources, degraded, err := x.Offline(t.Context(), u, 10)
					if err != nil || degraded || len(sources) > 1 {
						t.Fatal(sources, degraded, err)
					}
					return append(sources, im.OfflineSource{})[0]
				}
				if o := offline(bob); o.Count != 0 || o.Conversation != "" {
					t.Errorf("who has joined has nothing to receive: %+v", o)
				}
				for range 1200 {
					project(t, p, f.say("c1", ann, im.CountedForAll, 1))
				}
				project(t, p, f.recall("c1", 1201))
				if o := offline(bob); o.Count != 1000 || o.LastSeq != 1201 || o.Delivered != 1 {
					t.Errorf("%+v", o)
				}
				project(t, p, f.ack(bob, "c1", 1190, 0))
				if o := offline(bob); o.Count != 10 {
					t.Errorf("%+v", o)
				}
				project(t, p, f.ack(bob, "c1", 1190, 1195))
				if o := offline(bob); o.Count != 5 {
					t.Errorf("what is read is settled: %+v", o)
				}
				if o := offline(ann); o.Conversation != "" {
					t.Errorf("what one sends is settled: %+v", o)
				}
				project(t, p, f.leave("c1", eve))
				project(t, p, f.say("c1", ann, im.CountedForAll, 1))
				if o := offline(eve); o.LastSeq != 1202 || o.Count != 1000 {
					t.Errorf("who has left sees up to there: %+v", o)
				}
				project(t, p, f.join("c1", false, eve))
				if o := offline(eve); o.Conversation != "" {
					t.Errorf("who joins again has nothing to receive: %+v", o)
				}
				agree(t, x, f, ann, bob, eve)
				for _, k := range s.keys(t) {
					if k == offlineListKey(bob, "c1") || k == offlineListKey(eve, "c1") {
						t.Errorf("%s is kept", k)
					}
				}
			})
		})
	}
}

// Without Redis the record says the same.
func TestIndex_ChannelsWithoutRedis(t *testing.T) {
	for mode, name := range []string{"written", "merged"} {
		t.Run(name, func(t *testing.T) {
			s := miniServer(t)
			x, p, f := channelWorld(t, s, mode)
			for i := range 6 {
				project(t, p, f.say("c1", ann, im.Uncounted(i%2), 1))
				project(t, p, f.store(ann, bob, im.CountedForAll))
			}
			project(t, p, f.leave("c1", eve))
			want := got(t, x, bob)
			s.mini.SetError("ERR away")
			g := got(t, x, bob)
			s.mini.SetError("")
			if fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", want) {
				t.Errorf("\n got %+v\nwant %+v", g, want)
			}
		})
	}
}
