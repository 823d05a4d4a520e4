package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestMessages(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"InsertMessages_ReadsBackByteForByte":            testReadsBack,
		"InsertMessages_NamesTheViolatedKey":             testNamesViolatedKey,
		"InsertMessages_AllOrNone":                       testAllOrNone,
		"InsertMessages_UncountedIsOneTransaction":       testUncountedTransaction,
		"InsertMessages_TooLargeForOneStatementIsWhole":  testLargeBatch,
		"InsertMessages_WhatTheTableRefusesIsUnstorable": testUnstorable,
		"InsertMessages_KeysAreComparedByteByByte":       testBinaryKeys,
		"Lasts_EmptyConversationIsLeftOut":               testLasts,
		"FindStored_StoredThenParkedThenUnknown":         testFindStored,
		"LastMessages_MissingIsLeftOut":                  testLastMessages,
	})
}

func testReadsBack(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	want := fill(t, db, c, 3, a, b)
	all := make([]byte, 0, 260) // every byte, and what quoting could stumble over
	for i := range 256 {
		all = append(all, byte(i))
	}
	odd := message(c, 4, b)
	odd.Content = append(all, "';--\\'\"\x1a\x00"...)
	odd.Sender.Nickname = "\x00'\"\\ %_ 👩‍👩‍👧 \u202e\ufeff"
	odd.Type = im.TypeCustom
	quotes := message(c, 5, a) // without a backslash it is written another way
	quotes.Content, quotes.Sender.Nickname = []byte("''a'\x00\n\x1a\xff'"), "O'Neil's 🐦 '); --"
	empty := message(c, 6, a)
	empty.Content, empty.Sender.Avatar = []byte{}, ""
	must(t, db.InsertMessages(t.Context(), []im.Message{odd, quotes, empty}))
	page, err := db.History(t.Context(), im.HistoryQuery{Conversation: c, Limit: 10})
	must(t, err)
	for i := range page.Items {
		if len(page.Items[i].Content) == 0 {
			page.Items[i].Content = []byte{} // nil from one driver
		}
	}
	if want = append(want, odd, quotes, empty); !reflect.DeepEqual(page.Items, want) {
		t.Errorf("read\n%+v\nwant\n%+v", page.Items, want)
	}
}

func testNamesViolatedKey(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	old := fill(t, db, c, 2, a, b)
	sameSeq, sameClient, sameID := message(c, 2, a), message(c, 3, a), message(c, 3, a)
	sameClient.ClientMsgID = old[0].ClientMsgID
	sameID.ID = old[1].ID
	for key, m := range map[im.DuplicateKey]im.Message{
		im.DuplicateSeq: sameSeq, im.DuplicateClientMsgID: sameClient, im.DuplicateMessageID: sameID,
	} {
		var dup *im.DuplicateError
		err := db.InsertMessages(t.Context(), []im.Message{m})
		if !errors.As(err, &dup) || dup.Key != key {
			t.Errorf("%s: got %v", key, err)
		}
	}
	// A client message ID that looks like a key's name must not mislead.
	liar := message(c, 2, a)
	liar.ClientMsgID = "messages_id"
	var dup *im.DuplicateError
	if err := db.InsertMessages(t.Context(), []im.Message{liar}); !errors.As(err, &dup) || dup.Key != im.DuplicateSeq {
		t.Errorf("with a key's name in its data: %v", err)
	}
}

func testAllOrNone(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 2, a, b)
	err := db.InsertMessages(t.Context(), []im.Message{message(c, 3, a), message(c, 4, a), message(c, 2, a)})
	var dup *im.DuplicateError
	if !errors.As(err, &dup) {
		t.Fatalf("got %v", err)
	}
	lasts, err := db.Lasts(t.Context(), []im.ConversationID{c})
	must(t, err)
	if lasts[c].Seq != 2 {
		t.Errorf("last seq %d after a failed batch, want 2", lasts[c].Seq)
	}
}

func testUncountedTransaction(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	sys, behalf := message(c, 1, im.SystemUser), message(c, 2, a)
	sys.Uncounted, behalf.Uncounted = im.UncountedForAll, im.UncountedForSender
	bad := []im.Message{sys, behalf, message(c, 2, b)}
	if err := db.InsertMessages(t.Context(), bad); err == nil {
		t.Fatal("the same seq twice was stored")
	}
	if seqs, err := db.UncountedSeqs(t.Context(), c, 10); err != nil || len(seqs) != 0 {
		t.Fatalf("uncounted rows of a batch that failed: %v, %v", seqs, err)
	}
	must(t, db.InsertMessages(t.Context(), bad[:2]))
	seqs, err := db.UncountedSeqs(t.Context(), c, 10)
	must(t, err)
	want := []im.UncountedSeq{{Conversation: c, Seq: 2, User: a}, {Conversation: c, Seq: 1, User: im.SystemUser}}
	if !reflect.DeepEqual(seqs, want) {
		t.Errorf("got %v, want %v", seqs, want)
	}
	for _, row := range []struct {
		user        im.UserID
		after, upTo im.Seq
		want        uint64
	}{{a, 0, 2, 2}, {b, 0, 2, 1}, {a, 1, 2, 1}, {a, 0, 1, 1}, {b, 1, 2, 0}} {
		if n, err := db.CountUncounted(t.Context(), c, row.user, row.after, row.upTo); err != nil || n != row.want {
			t.Errorf("CountUncounted(%d, %d, %d) = %d, %v, want %d", row.user, row.after, row.upTo, n, err, row.want)
		}
	}
}

func testLargeBatch(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := make([]im.Message, insertRows+200)
	for i := range rows {
		rows[i] = message(c, im.Seq(i+1), a)
		rows[i].Content = json.RawMessage(bytes.Repeat([]byte(`'`), 16<<10)) // doubles when quoted
	}
	rows[len(rows)-1].Seq = 1
	if err := db.InsertMessages(t.Context(), rows); err == nil {
		t.Fatal("the same seq twice was stored")
	}
	if lasts, err := db.Lasts(t.Context(), []im.ConversationID{c}); err != nil || len(lasts) != 0 {
		t.Fatalf("part of a batch was stored: %v, %v", lasts, err)
	}
	rows[len(rows)-1].Seq = im.Seq(len(rows))
	must(t, db.InsertMessages(t.Context(), rows))
	if lasts, err := db.Lasts(t.Context(), []im.ConversationID{c}); err != nil || lasts[c].Seq != im.Seq(len(rows)) {
		t.Errorf("lasts %v, %v", lasts, err)
	}
	_ = b
}

func testUnstorable(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	for what, spoil := range map[string]func(m *im.Message){
		"client message ID": func(m *im.Message) { m.ClientMsgID = im.ClientMsgID(strings.Repeat("x", 65)) },
		"nickname":          func(m *im.Message) { m.Sender.Nickname = strings.Repeat("ü", 256) },
		"conversation":      func(m *im.Message) { m.Conversation = im.ConversationID(strings.Repeat("1", 41)) },
	} {
		m := message(c, 1, a)
		spoil(&m)
		if err := db.InsertMessages(t.Context(), []im.Message{m}); !errors.Is(err, im.ErrUnstorable) {
			t.Errorf("%s too long: %v", what, err)
		}
	}
}

func testBinaryKeys(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	low, high, space := message(c, 1, a), message(c, 2, a), message(c, 3, a)
	low.ClientMsgID, high.ClientMsgID, space.ClientMsgID = "same-id-a", "same-id-A", "same-id-a "
	must(t, db.InsertMessages(t.Context(), []im.Message{low, high, space}))
	found, err := db.FindStored(t.Context(), []im.SendKey{{Conversation: c, Sender: a, ClientMsgID: "same-id-A"}})
	must(t, err)
	if len(found) != 1 || found[im.SendKey{Conversation: c, Sender: a, ClientMsgID: "same-id-A"}].Seq != 2 {
		t.Errorf("found %v", found)
	}
}

func testLasts(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	_, _, empty := newPair(t, db)
	rows := fill(t, db, c, 5, a, b)
	convs := []im.ConversationID{c, empty, "c404"}
	for range 2 * findKeys { // more than one statement holds
		convs = append(convs, "c405")
	}
	lasts, err := db.Lasts(t.Context(), convs)
	must(t, err)
	if want := (map[im.ConversationID]im.LastRef{c: {Seq: 5, ID: rows[4].ID}}); !reflect.DeepEqual(lasts, want) {
		t.Errorf("got %v, want %v", lasts, want)
	}
	lasts, err = db.Lasts(t.Context(), nil)
	if err != nil || len(lasts) != 0 {
		t.Errorf("of nothing: %v, %v", lasts, err)
	}
}

func testFindStored(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, 2*findKeys+5, a, b)
	keys := []im.SendKey{{Conversation: c, Sender: a, ClientMsgID: "unknown-id"}}
	want := map[im.SendKey]im.StoredRef{}
	for _, m := range rows {
		k := im.SendKey{Conversation: c, Sender: m.Sender.ID, ClientMsgID: m.ClientMsgID}
		keys = append(keys, k)
		want[k] = im.StoredRef{Seq: m.Seq, ID: m.ID, StoredAt: m.StoredAt, Hash: m.Hash}
	}
	dead := im.SendKey{Conversation: c, Sender: b, ClientMsgID: "parked-id"}
	letter := im.DeadLetter{Topic: "im.realtime", Partition: 3, Offset: int64(number.Add(1)), Key: dead,
		Hash: im.ContentHash{1, 2}, Reason: "no such column", Payload: []byte{0, 255}, ParkedAt: 7}
	must(t, db.Park(t.Context(), letter))
	must(t, db.Park(t.Context(), letter)) // read again after a crash
	want[dead] = im.StoredRef{Hash: letter.Hash, Parked: true}
	// Stored wins over parked, whatever came first.
	both := letter
	both.Offset, both.Key = int64(number.Add(1)), keys[1]
	must(t, db.Park(t.Context(), both))
	found, err := db.FindStored(t.Context(), append(keys, dead))
	must(t, err)
	if !reflect.DeepEqual(found, want) {
		t.Errorf("found %d, want %d; dead: %+v", len(found), len(want), found[dead])
	}
	var n int
	must(t, db.r.QueryRow("SELECT COUNT(*) FROM dead WHERE client_msg_id = ?", "parked-id").Scan(&n))
	if n != 1 {
		t.Errorf("parked twice: %d rows", n)
	}
}

func testLastMessages(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	_, _, empty := newPair(t, db)
	rows := fill(t, db, c, 4, a, b)
	found, err := db.LastMessages(t.Context(), map[im.ConversationID]im.Seq{c: 4, empty: 1, "c404": 9})
	must(t, err)
	if want := (map[im.ConversationID]im.Message{c: rows[3]}); !reflect.DeepEqual(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
}
