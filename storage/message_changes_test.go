package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestChanges(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"ApplyChanges_EditIsReadBackWithItsHistory":  testEditReadBack,
		"ApplyChanges_TakenNumberOrIDWritesNothing":  testChangeFence,
		"ApplyChanges_RecallLeavesATombstone":        testRecall,
		"ApplyChanges_ReactionsAreCountedAndNamed":   testReactions,
		"Changed_EachMessageOnceInPages":             testChangedPages,
		"HideMessages_NumbersOnceForOneUser":         testHide,
		"InsertMessages_MentionsAndRefsAreKept":      testAbout,
		"ChangeBasis_ManyKeysAndPlaces":              testManyKeys,
		"HideMessages_OfAStrangerIsNothing":          testHideStranger,
		"UserState_KnowsChangesMentionsAndDeletions": testStateOfChanges,
	})
}

// applied is a change of a stored message as a strand would write it.
func applied(c im.ConversationID, n uint64, seq im.Seq, actor im.UserID, kind im.ChangeKind) im.StoredChange {
	id := im.ClientChangeID(fmt.Sprintf("change-%d", number.Add(1)))
	return im.StoredChange{ChangeKey: im.ChangeKey{Conversation: c, Actor: actor, ClientChangeID: id},
		ChangeRef: im.ChangeRef{Change: n, Seq: seq, Hash: im.ContentHash{byte(n), 1}}, Kind: kind, At: 1767225600000 + int64(n)}
}

func at(c im.ConversationID, seq im.Seq) im.Place { return im.Place{Conversation: c, Seq: seq} }

func edited(m im.Message, n uint64, content string) im.Message {
	m.Content, m.Change, m.EditChange, m.EditedAt = json.RawMessage(content), n, n, 1767225600000+int64(n)
	m.Edits++
	return m
}

func testEditReadBack(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 3, a, b)
	first, second := applied(c, 1, 1, a, im.ChangeEdit), applied(c, 2, 1, a, im.ChangeEdit)
	once := edited(rows[0], 1, `{"text":"once"}`)
	twice := edited(once, 2, `{"text":"it's 'twice' \\ 🐦"}`)
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{first, second}, Messages: []im.Message{twice},
		Former: []im.FormerContent{{Place: at(c, 1), Change: 1, Content: rows[0].Content, At: 5}, {Place: at(c, 1), Change: 2, Content: once.Content, At: 6}}}))
	page, err := db.History(t.Context(), im.HistoryQuery{Conversation: c, Limit: 10})
	must(t, err)
	if want := []im.Message{twice, rows[1], rows[2]}; !reflect.DeepEqual(page.Items, want) {
		t.Errorf("read\n%+v\nwant\n%+v", page.Items, want)
	}
	former, err := db.FormerContents(t.Context(), at(c, 1))
	must(t, err)
	if len(former) != 2 || string(former[0].Content) != string(rows[0].Content) || former[0].At != 5 || former[1].Change != 2 {
		t.Errorf("former contents %+v", former)
	}
	ref, err := db.FindChange(t.Context(), second.ChangeKey)
	if err != nil || ref != second.ChangeRef {
		t.Errorf("found %+v, %v; want %+v", ref, err, second.ChangeRef)
	}
	if _, err := db.FindChange(t.Context(), im.ChangeKey{Conversation: c, Actor: b, ClientChangeID: second.ClientChangeID}); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("another actor's: %v", err)
	}
	// What is older than the row changes nothing.
	late := applied(c, 3, 2, b, im.ChangeEdit)
	stale := twice
	stale.Change, stale.Content = 1, json.RawMessage(`{"text":"stale"}`)
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{late}, Messages: []im.Message{stale}}))
	if found, err := db.LastMessages(t.Context(), map[im.ConversationID]im.Seq{c: 1}); err != nil || string(found[c].Content) != string(twice.Content) {
		t.Errorf("a lower change was applied: %s, %v", found[c].Content, err)
	}
}

func testChangeFence(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 2, a, b)
	first := applied(c, 1, 1, a, im.ChangeEdit)
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{first}, Messages: []im.Message{edited(rows[0], 1, `{"text":"1"}`)}}))
	sameID := applied(c, 3, 1, a, im.ChangeEdit)
	sameID.ClientChangeID = first.ClientChangeID
	for what, set := range map[string]im.ChangeSet{
		"a taken number":         {Changes: []im.StoredChange{applied(c, 1, 1, a, im.ChangeEdit)}, Messages: []im.Message{edited(rows[0], 9, `{"text":"no"}`)}},
		"a taken ID in a batch":  {Changes: []im.StoredChange{applied(c, 2, 2, b, im.ChangeRecall), sameID}, Recalled: []im.Place{at(c, 2)}},
		"a second one of its ID": {Changes: []im.StoredChange{sameID, sameID}},
	} {
		var dup *im.DuplicateError
		if err := db.ApplyChanges(t.Context(), set); !errors.As(err, &dup) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b2, err := db.ChangeBasis(t.Context(), []im.ChangeKey{first.ChangeKey}, []im.Place{at(c, 1), at(c, 9)}, nil)
	must(t, err)
	if b2.Last[c] != 1 || len(b2.Messages) != 1 || b2.Known[first.ChangeKey] != first.ChangeRef || string(b2.Messages[at(c, 1)].Content) != `{"text":"1"}` {
		t.Errorf("after refused changes: %+v", b2)
	}
	if seqs, err := db.UncountedSeqs(t.Context(), c, 10); err != nil || len(seqs) != 0 {
		t.Errorf("uncounted %v, %v", seqs, err)
	}
}

func testRecall(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 2, a, b)
	mine := im.ReactionKey{Place: at(c, 1), User: b, Reaction: "👍"}
	said := edited(rows[0], 2, `{"text":"2"}`)
	said.Reactions = []im.Reaction{{Reaction: "👍", Count: 1}}
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{
		Changes:  []im.StoredChange{applied(c, 1, 1, b, im.ChangeReact), applied(c, 2, 1, a, im.ChangeEdit)},
		Messages: []im.Message{said}, React: []im.ReactionKey{mine}, Reacted: []uint64{1},
		Former: []im.FormerContent{{Place: at(c, 1), Change: 2, Content: rows[0].Content}},
	}))
	gone := said
	gone.Recall(3, 77)
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{applied(c, 3, 1, a, im.ChangeRecall)},
		Messages: []im.Message{gone}, Recalled: []im.Place{at(c, 1)}}))
	found, err := db.LastMessages(t.Context(), map[im.ConversationID]im.Seq{c: 1})
	must(t, err)
	if !reflect.DeepEqual(found[c], gone) || found[c].Hash != rows[0].Hash {
		t.Errorf("tombstone %+v, want %+v", found[c], gone)
	}
	former, err := db.FormerContents(t.Context(), at(c, 1))
	must(t, err)
	who, _, err := db.Reactors(t.Context(), at(c, 1), "👍", 0, 10)
	must(t, err)
	recalled, err := db.RecalledAmong(t.Context(), []im.Place{at(c, 1), at(c, 2)})
	must(t, err)
	if len(former) != 0 || len(who) != 0 || len(recalled) != 1 || !recalled[at(c, 1)] {
		t.Errorf("left behind: %v, %v; recalled %v", former, who, recalled)
	}
	if n, err := db.CountUncounted(t.Context(), c, b, 0, 2); err != nil || n != 1 {
		t.Errorf("%d uncounted, %v", n, err)
	}
}

func testReactions(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 1, a)
	m := rows[0]
	m.Change, m.Reactions = 3, []im.Reaction{{Reaction: "👍", Count: 2}, {Reaction: "🎉", Count: 1}}
	key := func(u im.UserID, r string) im.ReactionKey {
		return im.ReactionKey{Place: at(c, 1), User: u, Reaction: r}
	}
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{
		Changes:  []im.StoredChange{applied(c, 1, 1, a, im.ChangeReact), applied(c, 2, 1, b, im.ChangeReact), applied(c, 3, 1, b, im.ChangeReact)},
		Messages: []im.Message{m}, React: []im.ReactionKey{key(a, "👍"), key(b, "👍"), key(b, "🎉")}, Reacted: []uint64{1, 2, 3},
	}))
	who, more, err := db.Reactors(t.Context(), at(c, 1), "👍", 0, 1)
	if err != nil || !more || len(who) != 1 || who[0].User != a {
		t.Errorf("first page %v %v %v", who, more, err)
	}
	who, more, err = db.Reactors(t.Context(), at(c, 1), "👍", who[0].Change, 1)
	if err != nil || more || len(who) != 1 || who[0].User != b || who[0].Change != 2 {
		t.Errorf("second page %v %v %v", who, more, err)
	}
	own, err := db.OwnReactions(t.Context(), b, []im.Place{at(c, 1), at(c, 2)})
	if err != nil || len(own) != 2 || !own[key(b, "🎉")] {
		t.Errorf("own %v %v", own, err)
	}
	m.Change, m.Reactions = 4, m.Reactions[:1]
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{applied(c, 4, 1, b, im.ChangeUnreact)}, Messages: []im.Message{m},
		Unreact: []im.ReactionKey{key(b, "🎉"), key(b, "👍")}, React: []im.ReactionKey{key(b, "👍")}, Reacted: []uint64{4}}))
	basis, err := db.ChangeBasis(t.Context(), nil, []im.Place{at(c, 1)}, []im.ReactionKey{key(a, "👍"), key(b, "👍"), key(b, "🎉")})
	must(t, err)
	if len(basis.Reacted) != 2 || basis.Reacted[key(b, "🎉")] || !reflect.DeepEqual(basis.Messages[at(c, 1)], m) {
		t.Errorf("after taking it away: %+v", basis)
	}
}

func testChangedPages(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 6, a, b)
	for n, seq := range []im.Seq{2, 4, 2, 6, 5, 4} { // 2 stands at 3, 4 at 6
		m := edited(rows[seq-1], uint64(n+1), fmt.Sprintf(`{"text":"%d"}`, n))
		must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{applied(c, uint64(n+1), seq, a, im.ChangeEdit)}, Messages: []im.Message{m}}))
	}
	for _, limit := range []int{1, 2, 3, 100} {
		var seen []im.Seq
		after := uint64(0)
		for more := true; more; {
			page, err := db.Changed(t.Context(), im.ChangedQuery{Conversation: c, After: after, Limit: limit, First: 1})
			must(t, err)
			for _, m := range page.Items {
				seen = append(seen, m.Seq)
			}
			after, more = page.UpTo, page.HasMore
		}
		if want := []im.Seq{2, 6, 5, 4}; !slices.Equal(seen, want) || after != 6 {
			t.Errorf("limit %d: %v up to %d, want %v up to 6", limit, seen, after, want)
		}
	}
	page, err := db.Changed(t.Context(), im.ChangedQuery{Conversation: c, After: 2, Limit: 10, First: 4, Last: 5})
	if err != nil || page.UpTo != 6 || len(page.Items) != 2 || page.Items[0].Seq != 5 {
		t.Errorf("clipped: %+v, %v", page, err)
	}
	if page, err := db.Changed(t.Context(), im.ChangedQuery{Conversation: c, After: 6, Limit: 10, First: 1}); err != nil || page.UpTo != 6 || len(page.Items) != 0 || page.HasMore {
		t.Errorf("at the end: %+v, %v", page, err)
	}
}

func testHide(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 9, a, b)
	first, err := db.HideMessages(t.Context(), im.Hide{Conversation: c, User: b, Seqs: []im.Seq{3, 1, 3}})
	must(t, err)
	second, err := db.HideMessages(t.Context(), im.Hide{Conversation: c, User: b, Seqs: []im.Seq{5, 3}})
	must(t, err)
	want := [2][]im.Hidden{{{Seq: 1, Deletion: 1}, {Seq: 3, Deletion: 2}}, {{Seq: 3, Deletion: 2}, {Seq: 5, Deletion: 3}}}
	if got := [2][]im.Hidden{first, second}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	page, more, err := db.Deletions(t.Context(), b, c, 1, 1)
	if err != nil || !more || !reflect.DeepEqual(page, want[1][:1]) {
		t.Errorf("page %v %v %v", page, more, err)
	}
	hidden, err := db.HiddenAmong(t.Context(), b, []im.Place{at(c, 1), at(c, 2), at(c, 5)})
	if err != nil || len(hidden) != 2 || hidden[at(c, 2)] {
		t.Errorf("hidden %v, %v", hidden, err)
	}
	for u, n := range map[im.UserID]uint64{a: 0, b: 3} {
		m, err := db.Member(t.Context(), c, u)
		must(t, err)
		uncounted, err := db.CountUncounted(t.Context(), c, u, 0, 9)
		if err != nil || m.Deletions != n || uncounted != n {
			t.Errorf("user %s: %d deletions, %d uncounted, %v", u, m.Deletions, uncounted, err)
		}
	}
}

func testHideStranger(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 1, a, b)
	if got, err := db.HideMessages(t.Context(), im.Hide{Conversation: c, User: newUser(t, db), Seqs: []im.Seq{1}}); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func testAbout(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	m := message(c, 1, a)
	m.About = im.About{ReplyTo: &im.Quote{Seq: 7, Sender: im.Sender{ID: b, Handle: "b", Nickname: "B's \\"}, Type: im.TypeText, Text: "it's 🐦"},
		ForwardedFrom: &im.ForwardedFrom{Nickname: "O'Neil"}, Mentions: []im.UserID{a, b}}
	plain := message(c, 2, b)
	must(t, db.InsertMessages(t.Context(), []im.Message{m, plain}))
	page, err := db.History(t.Context(), im.HistoryQuery{Conversation: c, Limit: 10})
	must(t, err)
	if want := []im.Message{m, plain}; !reflect.DeepEqual(page.Items, want) {
		t.Errorf("read\n%+v\nwant\n%+v", page.Items, want)
	}
	bad := message(c, 3, b)
	bad.Mentions = []im.UserID{a}
	if err := db.InsertMessages(t.Context(), []im.Message{bad, message(c, 3, a)}); err == nil {
		t.Fatal("the same seq twice was stored")
	}
	st, err := db.UserState(t.Context(), a, c)
	if err != nil || st.LastMention != 0 {
		t.Errorf("the sender's own name, or a batch that failed, marks: %+v %v", st, err)
	}
}

func testManyKeys(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	n := 2*findKeys + 3
	rows := fill(t, db, c, n, a, b)
	var set im.ChangeSet
	var keys []im.ChangeKey
	var places []im.Place
	for i := range rows {
		ch := applied(c, uint64(i+1), rows[i].Seq, rows[i].Sender.ID, im.ChangeEdit)
		set.Changes = append(set.Changes, ch)
		set.Messages = append(set.Messages, edited(rows[i], ch.Change, `{"text":"x"}`))
		keys, places = append(keys, ch.ChangeKey), append(places, at(c, rows[i].Seq))
	}
	must(t, db.ApplyChanges(t.Context(), set))
	basis, err := db.ChangeBasis(t.Context(), keys, places, nil)
	must(t, err)
	if len(basis.Known) != n || len(basis.Messages) != n || basis.Last[c] != uint64(n) {
		t.Errorf("%d known, %d messages, last %d", len(basis.Known), len(basis.Messages), basis.Last[c])
	}
}

func testStateOfChanges(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	m := message(c, 1, a)
	m.Mentions = []im.UserID{b}
	must(t, db.InsertMessages(t.Context(), []im.Message{m}))
	must(t, db.ApplyChanges(t.Context(), im.ChangeSet{Changes: []im.StoredChange{applied(c, 1, 9, a, im.ChangeReact)}}))
	_, err := db.HideMessages(t.Context(), im.Hide{Conversation: c, User: b, Seqs: []im.Seq{1}})
	must(t, err)
	for u, want := range map[im.UserID]im.ConversationState{a: {LastChange: 1}, b: {LastChange: 1, LastMention: 1, Deletions: 1, LastUncounted: 1}} {
		st, err := db.UserState(t.Context(), u, c)
		if err != nil || st.LastChange != want.LastChange || st.LastMention != want.LastMention || st.Deletions != want.Deletions || st.LastUncounted != want.LastUncounted {
			t.Errorf("user %s: %+v, %v", u, st, err)
		}
	}
}

// Recalls, deletions and mentions of any seq, wipes between them, and always the same
// answer from Redis as from the record.
func TestIndex_ChangesOverTheRecord(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){"": func(t *testing.T, db *DB) {
		s := miniServer(t)
		r := s.openAs(t, db, func(*RedisConfig) {})
		x, p := NewIndex(r, db), NewProjector(r)
		a, b, c := newPair(t, db)
		ctx := t.Context()
		raise := func(uncounted ...im.UncountedSeq) {
			t.Helper()
			pr := im.Projection{Uncounted: uncounted}
			for _, u := range []im.UserID{a, b} {
				st, err := db.UserState(ctx, u, c)
				must(t, err)
				st.Settings = im.Settings{}
				pr.Users = append(pr.Users, im.UserRaise{User: u, State: st})
			}
			project(t, p, pr)
		}
		rnd := rand.New(rand.NewPCG(3, 4))
		var last im.Seq
		var change uint64
		rows := map[im.Seq]im.Message{}
		for i := range 120 {
			any := im.Seq(1)
			if last > 0 {
				any += im.Seq(rnd.IntN(int(last)))
			}
			u := []im.UserID{a, b}[rnd.IntN(2)]
			switch n := rnd.IntN(8); {
			case n < 4 || last == 0:
				last++
				m := message(c, last, a)
				if n == 0 {
					m.Mentions = []im.UserID{b}
				}
				must(t, db.InsertMessages(ctx, []im.Message{m}))
				rows[last] = m
				raise()
			case n == 4:
				if m := rows[any]; m.RecalledAt == 0 {
					change++
					m.Recall(change, 1)
					rows[any] = m
					must(t, db.ApplyChanges(ctx, im.ChangeSet{Changes: []im.StoredChange{applied(c, change, any, a, im.ChangeRecall)},
						Messages: []im.Message{m}, Recalled: []im.Place{at(c, any)}}))
					raise(im.UncountedSeq{Conversation: c, Seq: any})
				}
			case n == 5:
				_, err := db.HideMessages(ctx, im.Hide{Conversation: c, User: u, Seqs: []im.Seq{any}})
				must(t, err)
				raise(im.UncountedSeq{Conversation: c, Seq: any, User: u})
			case n == 6:
				must(t, db.MoveCursors(ctx, []im.CursorMove{{Conversation: c, User: u, Read: any / 3}}))
				raise()
			default:
				s.flush(t)
			}
			for _, u := range []im.UserID{a, b} {
				fast, err := x.Row(ctx, u, c)
				must(t, err)
				slow, err := x.stateFromRecord(ctx, u, c, true)
				must(t, err)
				if fast != slow {
					t.Fatalf("step %d, user %s\nredis  %+v\nrecord %+v", i, u, fast, slow)
				}
			}
		}
	}})
}

// A set that has lost its oldest takes none below what it still has: else it would look
// as if it knew all above that one.
func TestIndex_RecallOfWhatIsBelowTheUncountedSet(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		agree(t, x, f, bob)
		for range 3 {
			project(t, p, f.store(ann, bob, im.CountedForAll)) // to be recalled late
		}
		for range 20 {
			var all im.Projection
			for range 60 {
				pr := f.store(ann, bob, im.UncountedForAll)
				all.Users, all.Uncounted = append(all.Users, pr.Users...), append(all.Uncounted, pr.Uncounted...)
			}
			project(t, p, all)
		}
		for range 10 {
			project(t, p, f.store(ann, bob, im.CountedForAll))
		}
		recall := func(seq im.Seq) {
			row := im.UncountedSeq{Conversation: "d7-9", Seq: seq}
			f.mu.Lock()
			f.uncounted["d7-9"] = append(f.uncounted["d7-9"], row)
			state := f.state(bob, "d7-9")
			f.mu.Unlock()
			project(t, p, im.Projection{Uncounted: []im.UncountedSeq{row}, Users: []im.UserRaise{{User: bob, State: state}}})
		}
		project(t, p, f.ack(bob, "d7-9", 0, 5))
		agree(t, x, f, bob)
		recall(1)
		agree(t, x, f, bob)
		s.flush(t)
		recall(2) // into an empty set, before anybody completes it
		agree(t, x, f, bob)
		recall(1207)
		agree(t, x, f, bob)
		project(t, p, f.ack(bob, "d7-9", 0, 300))
		agree(t, x, f, bob)
	})
}

func TestState_OfBeforeChangesIsRead(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		st, err := unpackState("d7-9", "1 2 3 4 5 6 7 8 9 10 11")
		if err != nil || st.LastUncounted != 11 || st.LastMention != 0 || st.Deletions != 0 {
			t.Errorf("%+v, %v", st, err)
		}
		r, f := s.open(t), newFakeRecord()
		x, p := NewIndex(r, f), NewProjector(r)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, ann, bob)
		old := s.admin.HGet(t.Context(), stateKey(bob), "d7-9").Val()
		s.admin.HSet(t.Context(), stateKey(bob), "d7-9", old[:len(old)-len(" 0 0")])
		agree(t, x, f, bob)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, ann, bob)
	})
}
