package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// ChangeSettings of the fake takes what is given and knows no bounds.
func (f *fakeRecord) ChangeSettings(_ context.Context, u im.UserID, c im.ConversationID, ch im.SettingsChange, doubtful bool) (im.SettingsRow, error) {
	return f.settle(u, c, doubtful, func(s *im.Settings, _ *im.Member, last im.Seq) {
		if ch.Pinned != nil {
			s.PinnedAt = 0
			if *ch.Pinned {
				s.PinnedAt = 5
			}
		}
		if ch.MutedUntil != nil {
			s.MutedUntil = *ch.MutedUntil
		}
		if ch.MarkedUnread != nil {
			s.Marked = 0
			if *ch.MarkedUnread {
				s.Marked = last + 1
			}
		}
		if ch.Hidden != nil {
			s.Hidden = min(*ch.Hidden, last)
		}
	})
}

func (f *fakeRecord) DeleteConversation(_ context.Context, u im.UserID, c im.ConversationID, upTo im.Seq, doubtful bool) (im.SettingsRow, error) {
	return f.settle(u, c, doubtful, func(s *im.Settings, m *im.Member, last im.Seq) {
		if upTo = min(upTo, last); upTo > m.Floor {
			m.Floor, s.PinnedAt, s.Marked, s.DraftAt = upTo, 0, 0, 0
		}
	})
}

func (f *fakeRecord) Drafts(context.Context, im.UserID, []im.ConversationID) (map[im.ConversationID]im.Draft, error) {
	return nil, nil
}

func (f *fakeRecord) settle(u im.UserID, c im.ConversationID, doubtful bool, do func(s *im.Settings, m *im.Member, last im.Seq)) (im.SettingsRow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return im.SettingsRow{}, f.fail
	}
	m := f.cursors[u][c]
	if m == nil {
		return im.SettingsRow{}, im.ErrNotFound
	}
	s, floor := f.settings[u][c], m.Floor
	before := s
	do(&s, m, im.Seq(len(f.convs[c])))
	row := im.SettingsRow{Conversation: c, Settings: s, Floor: m.Floor, Changed: s != before || m.Floor != floor}
	if row.Changed {
		row.Settings.Version++
		if f.settings[u] == nil {
			f.settings[u] = map[im.ConversationID]im.Settings{}
		}
		f.settings[u][c] = row.Settings
		if doubtful {
			f.doubt++
		}
	}
	return row, nil
}

// cutShort makes a change in the record and dies before it is projected; its time is
// over when ago is not below openFor.
func cutShort(t testing.TB, r *Redis, f *fakeRecord, u im.UserID, c im.ConversationID, ago time.Duration, change im.SettingsChange) {
	t.Helper()
	begun := time.Now().Add(-ago)
	cmd := eval(t.Context(), openScript, []string{settingsKey(u)}, fmt.Sprintf("dead%d", rand.IntN(1000)), milli(begun), milli(begun.Add(openFor)))
	must(t, r.exec(t.Context(), cmd))
	_, err := f.ChangeSettings(t.Context(), u, c, change, false)
	must(t, err)
}

func change(t testing.TB, s *Settings, u im.UserID, c im.ConversationID, ch im.SettingsChange) im.SettingsRow {
	t.Helper()
	row, err := s.ChangeSettings(t.Context(), u, c, ch)
	must(t, err)
	return row
}

func TestSettings_ListFollowsWhatIsSet(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
		for u := range im.UserID(6) {
			project(t, p, f.store(u+100, bob, im.CountedForAll))
			project(t, p, f.store(u+100, bob, im.CountedForAll))
		}
		agree(t, x, f, bob)
		reads := f.reads
		a, b, c := im.DirectConversation(100, bob), im.DirectConversation(101, bob), im.DirectConversation(102, bob)
		change(t, set, bob, a, im.SettingsChange{Pinned: ptr(true), MutedUntil: ptr(im.MutedForever)})
		change(t, set, bob, b, im.SettingsChange{Hidden: ptr(im.Seq(2))})
		change(t, set, bob, c, im.SettingsChange{MarkedUnread: ptr(true)})
		agree(t, x, f, bob)
		page, err := x.List(t.Context(), bob, 0, 100)
		if err != nil || len(page.States) != 5 || page.UnreadTotal != 10 || page.UnreadBadge != 8 {
			t.Errorf("%d in the list, %d unread, badge %d, %v", len(page.States), page.UnreadTotal, page.UnreadBadge, err)
		}
		if n, _, err := x.UnreadTotal(t.Context(), bob); err != nil || n != (im.UnreadTotal{All: 10, Badge: 8}) {
			t.Errorf("%+v, %v", n, err)
		}
		project(t, p, f.ack(bob, im.DirectConversation(103, bob), 2, 2))
		project(t, p, f.ack(bob, c, 2, 2)) // and marked
		for only, want := range map[im.ListFilter]int{im.ListPinned: 1, im.ListUnread: 4, im.ListAll: 5} {
			seen := map[im.ConversationID]bool{}
			var before im.MessageID
			for more := true; more; {
				page, err := x.ListOnly(t.Context(), bob, only, before, 2)
				if err != nil || page.UnreadTotal != 6 || page.UnreadBadge != 4 || len(page.States) == 0 {
					t.Fatalf("only %q: %+v, %v", only, page, err)
				}
				for _, st := range page.States {
					if seen[st.Conversation] = true; only == im.ListPinned && st.Conversation != a || before != 0 && st.LastID >= before {
						t.Errorf("only %q: %+v", only, st)
					}
					before = st.LastID
				}
				more = page.HasMore
			}
			if len(seen) != want {
				t.Errorf("only %q: %v", only, seen)
			}
		}
		agree(t, x, f, bob)
		if st, err := x.State(t.Context(), bob, c); err != nil || !st.MarkedUnread() {
			t.Errorf("%+v, %v", st, err)
		}
		project(t, p, f.store(101, bob, im.CountedForAll)) // hidden no longer
		project(t, p, f.store(102, bob, im.CountedForAll))
		project(t, p, f.ack(bob, c, 0, 3)) // read beyond the mark
		agree(t, x, f, bob)
		if st, err := x.State(t.Context(), bob, c); err != nil || st.MarkedUnread() {
			t.Errorf("%+v, %v", st, err)
		}
		if f.reads != reads {
			t.Errorf("a sealed projection was read from the record %d times", f.reads-reads)
		}
		if _, err := set.ChangeSettings(t.Context(), bob, "d1-2", im.SettingsChange{Pinned: ptr(true)}); !errors.Is(err, im.ErrNotFound) {
			t.Errorf("a stranger's conversation: %v", err)
		}
		if open := s.admin.HGet(t.Context(), settingsKey(bob), fieldOpen).Val(); open != "" {
			t.Errorf("still under way: %q", open)
		}
	})
}

func TestSettings_DeletedIsGoneEverywhere(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
		c := im.DirectConversation(ann, bob)
		agree(t, x, f, bob, ann)
		for range 10 {
			project(t, p, f.store(ann, bob, im.CountedForAll))
		}
		agree(t, x, f, bob, ann)
		reads := f.reads
		for _, upTo := range []im.Seq{4, 10} {
			_, err := set.DeleteConversation(t.Context(), bob, c, upTo)
			must(t, err)
			agree(t, x, f, bob, ann)
		}
		if v := got(t, x, bob); len(v.List)+len(v.Offline) != 0 || v.Total != 0 {
			t.Errorf("left of it: %+v", v)
		}
		if s.admin.Exists(t.Context(), offlineListKey(bob, c)).Val() != 0 {
			t.Error("an empty list is kept")
		}
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, bob, ann)
		if v := got(t, x, bob); len(v.List) != 1 || v.Total != 1 || len(v.Offline) != 1 || v.Offline[0].Count != 1 {
			t.Errorf("after the next message: %+v", v)
		}
		if f.reads != reads {
			t.Error("a sealed projection was read from the record")
		}
		s.flush(t)
		agree(t, x, f, bob, ann)
	})
}

// Another device learns of each change from its position, and of no other.
func TestSettings_MoveThePosition(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
		a, b := im.DirectConversation(ann, bob), im.DirectConversation(eve, bob)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		project(t, p, f.store(eve, bob, im.CountedForAll))
		page, err := x.List(t.Context(), bob, 0, 100)
		must(t, err)
		at := page.Position
		for _, step := range []struct {
			name string
			do   func()
			want []im.ConversationID
		}{
			{"nothing", func() {}, nil},
			{"pin", func() { change(t, set, bob, a, im.SettingsChange{Pinned: ptr(true)}) }, []im.ConversationID{a}},
			{"what is so", func() { change(t, set, bob, a, im.SettingsChange{Pinned: ptr(true)}) }, nil},
			{"delete", func() { _, err := set.DeleteConversation(t.Context(), bob, b, 1); must(t, err) }, []im.ConversationID{b}},
			{"both", func() {
				change(t, set, bob, b, im.SettingsChange{MutedUntil: ptr(int64(7))})
				change(t, set, bob, a, im.SettingsChange{Pinned: ptr(false)})
			}, []im.ConversationID{b, a}},
		} {
			step.do()
			ch, err := x.Changes(t.Context(), bob, at, 10)
			if err != nil || ch.Void {
				t.Fatalf("%s: %+v, %v", step.name, ch, err)
			}
			var moved []im.ConversationID
			for _, st := range ch.States {
				moved = append(moved, st.Conversation)
				f.mu.Lock()
				want := f.state(bob, st.Conversation)
				f.mu.Unlock()
				want.Unread = st.Unread
				if st != want {
					t.Errorf("%s:\n got %+v\nwant %+v", step.name, st, want)
				}
			}
			if !slices.Equal(moved, step.want) {
				t.Errorf("%s moved %v, want %v", step.name, moved, step.want)
			}
			at = ch.Position
		}
	})
}

// Of two the higher version holds, in whatever order they arrive and how often.
func TestSettings_HigherVersionHolds(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
		c := im.DirectConversation(ann, bob)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		var all []im.Settings
		for i := range 12 { // also over a power of ten
			all = append(all, change(t, set, bob, c, im.SettingsChange{MutedUntil: ptr(int64(20 - i)), Pinned: ptr(i%2 == 0)}).Settings)
		}
		agree(t, x, f, bob)
		before := contents(t, s)
		for _, i := range rand.Perm(len(all)) {
			must(t, r.exec(t.Context(), mergeSettings(t.Context(), bob, []im.ConversationState{{Conversation: c, Settings: all[i]}}, settling{})))
		}
		if after := contents(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("after replay\n got %v\nwant %v", after, before)
		}
		s.flush(t)
		for _, i := range rand.Perm(len(all)) {
			must(t, r.exec(t.Context(), mergeSettings(t.Context(), bob, []im.ConversationState{{Conversation: c, Settings: all[i]}}, settling{})))
		}
		agree(t, x, f, bob)
	})
}

func TestSettings_ChangeCutShortShows(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
		c := im.DirectConversation(ann, bob)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, bob)
		page, err := x.List(t.Context(), bob, 0, 100)
		must(t, err)

		// While its time is not over it may still be on its way, and nobody asks MySQL.
		cutShort(t, r, f, bob, c, 0, im.SettingsChange{Pinned: ptr(true)})
		reads := f.reads
		if st, err := x.State(t.Context(), bob, c); err != nil || st.Settings.Version != 0 || f.reads != reads {
			t.Errorf("under way: %+v, %v", st, err)
		}
		cutShort(t, r, f, bob, c, openFor, im.SettingsChange{MutedUntil: ptr(im.MutedForever)})
		f.fail = im.ErrStore
		for range 2 { // MySQL is away: what Redis has is shown
			if st, err := x.State(t.Context(), bob, c); err != nil || st.Settings.Version != 0 {
				t.Errorf("with MySQL away: %+v, %v", st, err)
			}
			if l, err := x.List(t.Context(), bob, 0, 100); err != nil || len(l.States) != 1 || l.Degraded {
				t.Errorf("with MySQL away: %+v, %v", l, err)
			}
		}
		f.fail = nil
		ch, err := x.Changes(t.Context(), bob, page.Position, 10)
		if err != nil || ch.Void || len(ch.States) != 1 || ch.States[0].Settings != f.settings[bob][c] {
			t.Errorf("%+v, %v", ch, err)
		}
		agree(t, x, f, bob)

		// Many that died leave one note; others under way stay.
		for range 5 {
			cutShort(t, r, f, bob, c, 2*openFor, im.SettingsChange{MutedUntil: ptr(rand.Int64N(1000) + 1)})
		}
		change(t, set, bob, c, im.SettingsChange{Pinned: ptr(false)})
		agree(t, x, f, bob)
		open := s.admin.HGet(t.Context(), settingsKey(bob), fieldOpen).Val()
		var token string
		var due int64
		if n, err := fmt.Sscan(open, &token, &due); n != 2 || err != nil || due < time.Now().UnixMilli() {
			t.Errorf("under way: %q", open)
		}
	})
}

// What Redis could not be told is a doubt: with the change, or not at all.
func TestSettings_RedisAwayIsADoubt(t *testing.T) {
	s := realServer(t)
	f := newFakeRecord()
	r := s.openAs(t, f, func(c *RedisConfig) { c.Timeout = 200 * time.Millisecond })
	x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
	c := im.DirectConversation(ann, bob)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, bob)
	s.real.pause()
	row, err := set.ChangeSettings(t.Context(), bob, c, im.SettingsChange{Pinned: ptr(true)})
	if err != nil || !row.Changed || f.doubt != 1 {
		t.Errorf("%+v, %d doubts, %v", row, f.doubt, err)
	}
	if l, err := x.List(t.Context(), bob, 0, 10); err != nil || !l.Degraded || len(l.States) != 1 || l.States[0].Settings != row.Settings {
		t.Errorf("from the record: %+v, %v", l, err)
	}
	s.real.resume()
	eventually(t, "the doubt is acted on", func() bool { _, any, _ := f.Doubts(t.Context()); return !any })
	agree(t, x, f, bob)
}

// A commit of which nobody knows is looked for in MySQL; what was surely not made is not.
func TestSettings_OnlyAnUnknownEndKeepsItsNote(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		set := NewSettings(r, f)
		f.store(ann, bob, im.CountedForAll)
		for _, c := range []struct {
			err  error
			kept bool
		}{{im.ErrStore, false}, {im.ErrConflict, false}, {fmt.Errorf("%w: %w", im.ErrStore, &commitError{context.DeadlineExceeded}), true}} {
			f.fail = c.err
			if _, err := set.ChangeSettings(t.Context(), bob, im.DirectConversation(ann, bob), im.SettingsChange{Pinned: ptr(true)}); !errors.Is(err, c.err) {
				t.Error(err)
			}
			if kept := s.admin.HExists(t.Context(), settingsKey(bob), fieldOpen).Val(); kept != c.kept {
				t.Errorf("%v: note kept %v", c.err, kept)
			}
		}
	})
}

// Writers on several conversations and the same one, readers, wipes: it ends as the
// record has it, and who follows Changes ends there too.
func TestSettings_ConcurrentWritersAndWipes(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p, set := NewIndex(r, f), NewProjector(r), NewSettings(r, f)
		var convs []im.ConversationID
		for u := range im.UserID(5) {
			project(t, p, f.store(100+u, bob, im.CountedForAll))
			convs = append(convs, im.DirectConversation(100+u, bob))
		}
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(2, uint64(w)))
				for i := range 60 {
					c := convs[rnd.IntN(len(convs))]
					var err error
					switch rnd.IntN(5) {
					case 0:
						_, err = set.DeleteConversation(t.Context(), bob, c, im.Seq(1+rnd.IntN(40)))
					case 1:
						_, err = set.ChangeSettings(t.Context(), bob, c, im.SettingsChange{Hidden: ptr(im.Seq(rnd.IntN(40)))})
					case 2:
						project(t, p, f.store(100+im.UserID(rnd.IntN(5)), bob, im.Uncounted(rnd.IntN(3))))
					default:
						_, err = set.ChangeSettings(t.Context(), bob, c, im.SettingsChange{MutedUntil: ptr(int64(i)), Pinned: ptr(rnd.IntN(2) == 0)})
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		known := map[im.ConversationID]im.ConversationState{}
		var at im.Position
		follow := func() {
			for more := true; more; {
				ch, err := x.Changes(t.Context(), bob, at, 2)
				if err != nil {
					t.Fatal(err)
				}
				if ch.Void { // start over
					f.mu.Lock()
					for c := range f.cursors[bob] {
						known[c] = im.ConversationState{}
					}
					f.mu.Unlock()
					page, err := x.List(t.Context(), bob, 0, 1)
					if err != nil {
						t.Fatal(err)
					}
					at = page.Position
					for c := range known {
						if known[c], err = x.Row(t.Context(), bob, c); err != nil {
							t.Fatal(err)
						}
					}
					continue
				}
				for _, st := range ch.States {
					known[st.Conversation] = st
				}
				at, more = ch.Position, ch.HasMore
			}
		}
		for round, running := 0, true; running; round++ {
			select {
			case <-done:
				running = false
			default:
			}
			if round%40 == 20 {
				s.flush(t)
			}
			follow()
		}
		follow()
		agree(t, x, f, bob)
		f.mu.Lock()
		defer f.mu.Unlock()
		for c := range f.cursors[bob] {
			want, have := f.state(bob, c), known[c]
			have.Unread = 0
			if have != want {
				t.Errorf("%s by changes\n got %+v\nwant %+v", c, have, want)
			}
		}
	})
}

func TestSettings_PackAndUnpack(t *testing.T) {
	all := im.Settings{Version: 10, PinnedAt: 2, MutedUntil: im.MutedForever, Marked: 4, Hidden: 5, DraftAt: 6}
	for _, s := range []im.Settings{{}, all} {
		if got, err := unpackSettings(packSettings(s)); err != nil || got != s {
			t.Errorf("%+v became %+v (%v)", s, got, err)
		}
	}
	if got, err := unpackSettings(""); err != nil || got != (im.Settings{}) {
		t.Errorf("none became %+v (%v)", got, err)
	}
	for _, bad := range []string{"1", "1 2 3 4 5", "1 2 3 4 5 6 7", "1 2 3 4 5 ", " 1 2 3 4 5", "1 2 3 4 5 -6"} {
		if _, err := unpackSettings(bad); !errors.Is(err, errUntrusted) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// BenchmarkSettings_Change is the projection of one change: two round trips.
func BenchmarkSettings_Change(b *testing.B) {
	s := realServer(b)
	r, f := s.open(b), newFakeRecord()
	set := NewSettings(r, f)
	if err := NewProjector(r).Project(b.Context(), f.store(ann, bob, im.CountedForAll)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	muted := int64(0)
	for b.Loop() {
		muted++
		if _, err := set.ChangeSettings(b.Context(), bob, "d7-9", im.SettingsChange{MutedUntil: &muted}); err != nil {
			b.Fatal(err)
		}
	}
}
