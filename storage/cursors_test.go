package storage

import (
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestMembers(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"EnsureConversations_TwiceChangesNothing":  testEnsureTwice,
		"EnsureConversations_AtTheSameMoment":      testEnsureRace,
		"MoveCursors_OnlyRise":                     testMoveCursors,
		"MoveCursors_StrangersGetNoRow":            testMoveStranger,
		"MoveCursors_FromManyAtOnceTheHighestWins": testMoveRace,
	})
}

func testEnsureTwice(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: a, Delivered: 5, Read: 3}}))
	self := im.DirectConversation(a, a)
	again := []im.NewConversation{{ID: self, Members: []im.UserID{a, a}}, {ID: c, Members: []im.UserID{b, a}}, {ID: self, Members: []im.UserID{a}}}
	for range 2 {
		must(t, db.EnsureConversations(t.Context(), again))
	}
	m, err := db.Member(t.Context(), c, a)
	if want := (im.Member{Conversation: c, User: a, Join: 1, Delivered: 5, Read: 3}); err != nil || m != want {
		t.Errorf("got %+v, %v, want %+v", m, err, want)
	}
	if m, err := db.Member(t.Context(), self, a); err != nil || m.Join != 1 {
		t.Errorf("with oneself: %+v, %v", m, err)
	}
	if _, err := db.Member(t.Context(), c, newUser(t, db)); err != im.ErrNotFound {
		t.Errorf("a stranger: %v", err)
	}
	must(t, db.EnsureConversations(t.Context(), nil))
}

func testEnsureRace(t *testing.T, db *DB) {
	users := make([]im.UserID, 12)
	for i := range users {
		users[i] = newUser(t, db)
	}
	var all []im.NewConversation
	for i, a := range users {
		for _, b := range users[i:] {
			all = append(all, im.NewConversation{ID: im.DirectConversation(a, b), Members: []im.UserID{b, a}})
		}
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			mine := append([]im.NewConversation(nil), all...)
			rand.New(rand.NewPCG(1, uint64(w))).Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			for len(mine) > 0 {
				n := min(20, len(mine))
				if err := db.EnsureConversations(t.Context(), mine[:n]); err != nil {
					t.Error(err)
				}
				mine = mine[n:]
			}
		})
	}
	wg.Wait()
	for _, c := range all {
		for _, u := range c.Members {
			if _, err := db.Member(t.Context(), c.ID, u); err != nil {
				t.Errorf("%d in %s: %v", u, c.ID, err)
			}
		}
	}
}

func testMoveCursors(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	_, _, other := newPair(t, db)
	moves := []im.CursorMove{
		{Conversation: c, User: a, Delivered: 7, Read: 2}, {Conversation: c, User: b, Read: 9},
		{Conversation: c, User: a, Delivered: 4, Read: 6}, {Conversation: other, User: a, Read: 50}, // not in it
	}
	for range 2 {
		must(t, db.MoveCursors(t.Context(), moves))
		must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: a, Delivered: 1, Read: 1}}))
	}
	want := []im.Member{{Conversation: c, User: a, Join: 1, Delivered: 7, Read: 6}, {Conversation: c, User: b, Join: 1, Read: 9}}
	for _, w := range want {
		if m, err := db.Member(t.Context(), c, w.User); err != nil || !reflect.DeepEqual(m, w) {
			t.Errorf("got %+v, %v, want %+v", m, err, w)
		}
	}
	must(t, db.MoveCursors(t.Context(), nil))
}

func testMoveStranger(t *testing.T, db *DB) {
	_, _, c := newPair(t, db)
	stranger := newUser(t, db)
	must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: stranger, Delivered: 1, Read: 1}}))
	if _, err := db.Member(t.Context(), c, stranger); err != im.ErrNotFound {
		t.Errorf("a stranger became a member: %v", err)
	}
}

func testMoveRace(t *testing.T, db *DB) {
	const writers, rounds = 16, 30
	var members []im.CursorMove
	for range 40 {
		a, b, c := newPair(t, db)
		members = append(members, im.CursorMove{Conversation: c, User: a}, im.CursorMove{Conversation: c, User: b})
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(w)))
			for round := range rounds {
				moves := append([]im.CursorMove(nil), members...)
				r.Shuffle(len(moves), func(i, j int) { moves[i], moves[j] = moves[j], moves[i] })
				for i := range moves {
					moves[i].Delivered, moves[i].Read = im.Seq(r.IntN(900)+1), im.Seq(r.IntN(900)+1)
				}
				if w == 0 && round == rounds/2 {
					for i := range moves {
						moves[i].Delivered, moves[i].Read = 1000, 999
					}
				}
				if err := db.MoveCursors(t.Context(), moves[:60]); err != nil {
					t.Error(err)
				}
				if w == 0 && round == rounds/2 {
					if err := db.MoveCursors(t.Context(), moves[60:]); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, m := range members {
		if got, err := db.Member(t.Context(), m.Conversation, m.User); err != nil || got.Delivered != 1000 || got.Read != 999 {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
