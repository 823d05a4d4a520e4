package storage

import (
	"cmp"
	"reflect"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestSnapshot(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"UserStates_EveryConversationWithBothSides": testUserStates,
		"Undelivered_NewestOfOthersAfterTheSeq":     testUndelivered,
		"Doubt_NotedWhileAnotherIsClearedStands":    testDoubt,
		"AcquireNode_LostAndReleasedOnes":           testNodes,
		"NowMilli_DoesNotGoBack":                    testNow,
	})
}

func testUserStates(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	other := newUser(t, db)
	self, empty, system := im.DirectConversation(a, a), im.DirectConversation(a, other), im.DirectConversation(im.SystemUser, a)
	must(t, db.EnsureConversations(t.Context(), []im.NewConversation{
		{ID: self, Members: []im.UserID{a, a}}, {ID: empty, Members: []im.UserID{a, other}}, {ID: system, Members: []im.UserID{a}}}))
	rows := fill(t, db, c, 6, a, b)
	own := fill(t, db, self, 2, a)
	notice := message(system, 1, im.SystemUser)
	notice.Uncounted = im.UncountedForAll
	behalf := message(c, 7, b)
	behalf.Uncounted = im.UncountedForSender
	must(t, db.InsertMessages(t.Context(), []im.Message{notice, behalf}))
	_, err := db.w.Exec("UPDATE members SET floor_seq = 2, leave_seq = 6 WHERE user_id = ? AND conversation = ?", a, string(c))
	must(t, err)
	must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: a, Delivered: 4, Read: 3},
		{Conversation: c, User: b, Delivered: 6, Read: 5}, {Conversation: self, User: a, Delivered: 1, Read: 2}}))

	want := []im.ConversationState{
		{Conversation: c, LastSeq: 6, LastID: rows[5].ID, Join: 1, Leave: 6, Floor: 2, Delivered: 4, Read: 3, PeerDelivered: 6, PeerRead: 5},
		{Conversation: self, LastSeq: 2, LastID: own[1].ID, Join: 1, Delivered: 1, Read: 2, PeerDelivered: 1, PeerRead: 2},
		{Conversation: empty, Join: 1},
		{Conversation: system, LastSeq: 1, LastID: notice.ID, Join: 1, LastUncounted: 1},
	}
	states, err := db.UserStates(t.Context(), a)
	must(t, err)
	byID := func(x, y im.ConversationState) int { return cmp.Compare(x.Conversation, y.Conversation) }
	slices.SortFunc(states, byID)
	slices.SortFunc(want, byID)
	if !reflect.DeepEqual(states, want) {
		t.Errorf("got\n%+v\nwant\n%+v", states, want)
	}
	for _, w := range want {
		if s, err := db.UserState(t.Context(), a, w.Conversation); err != nil || s != w {
			t.Errorf("UserState: %+v, %v, want %+v", s, err, w)
		}
	}
	if s, err := db.UserState(t.Context(), b, c); err != nil || s.LastUncounted != 7 || s.PeerRead != 3 {
		t.Errorf("the other side: %+v, %v", s, err)
	}
	if _, err := db.UserState(t.Context(), other, c); err != im.ErrNotFound {
		t.Errorf("a stranger: %v", err)
	}
	if states, err := db.UserStates(t.Context(), im.MaxID); err != nil || len(states) != 0 {
		t.Errorf("an unknown user: %v, %v", states, err)
	}
	_ = rows
}

func testUndelivered(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 9, a, b) // b sent 2, 4, 6, 8
	got, err := db.Undelivered(t.Context(), a, c, 2, 2)
	if want := []im.OfflineEntry{{Seq: 8, ID: rows[7].ID}, {Seq: 6, ID: rows[5].ID}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := db.Undelivered(t.Context(), a, c, 8, 5); err != nil || len(got) != 0 {
		t.Errorf("after the last: %v, %v", got, err)
	}
}

func testDoubt(t *testing.T, db *DB) {
	upTo, any, err := db.Doubts(t.Context())
	if err != nil || any {
		t.Fatalf("doubt in a new database: %d, %v, %v", upTo, any, err)
	}
	must(t, db.NoteDoubt(t.Context(), "first"))
	first, any, err := db.Doubts(t.Context())
	if err != nil || !any {
		t.Fatalf("noted: %d, %v, %v", first, any, err)
	}
	must(t, db.NoteDoubt(t.Context(), "second, while the first is being cleared"))
	must(t, db.ClearDoubts(t.Context(), first))
	second, any, err := db.Doubts(t.Context())
	if err != nil || !any || second <= first {
		t.Fatalf("second: %d, %v, %v", second, any, err)
	}
	must(t, db.ClearDoubts(t.Context(), second))
	must(t, db.ClearDoubts(t.Context(), first)) // late
	if _, any, err := db.Doubts(t.Context()); err != nil || any {
		t.Fatalf("all cleared: %v, %v", any, err)
	}
}

func testNow(t *testing.T, db *DB) {
	a, err := db.NowMilli(t.Context())
	must(t, err)
	b, err := db.NowMilli(t.Context())
	if err != nil || b < a || a < im.Epoch {
		t.Errorf("%d then %d, %v", a, b, err)
	}
}
