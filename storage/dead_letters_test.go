package storage

import (
	"errors"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestDeadLetters(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"ArePagedByStateAndTopic":          testDeadPages,
		"AreReplayedOnceOrDiscarded":       testDeadMoves,
		"SameContent_IsFoundSinceATime":    testSameContent,
		"SameContent_ReadsBeyondOneStep":   testSameContentFar,
		"Replayed_IsParkedNoLonger":        testReplayedNotParked,
		"ANameThatIsNotThereIsNotFound":    testDeadUnknown,
		"ALetterKeepsAllThatWasSaidOfIt":   testDeadKept,
		"ReplayThatDidNotEnd_IsBegunAgain": testReplayAgain,
	})
}

func letter(topic string, key im.SendKey) im.DeadLetter {
	return im.DeadLetter{Topic: topic, Partition: 3, Offset: int64(number.Add(1)), Key: key, Hash: im.ContentHash{1, 2},
		Reason: "no such column", Attempts: 7, Payload: []byte{0, 255}, ParkedAt: 1767225600000}
}

// parked puts letters in and returns them with their IDs.
func parked(t *testing.T, db *DB, letters ...im.DeadLetter) []im.DeadLetter {
	t.Helper()
	for i, d := range letters {
		must(t, db.Park(t.Context(), d))
		must(t, db.r.QueryRow("SELECT id FROM dead WHERE topic = ? AND partition_no = ? AND record_offset = ?", d.Topic, d.Partition, d.Offset).
			Scan(&letters[i].ID))
	}
	return letters
}

func testDeadKept(t *testing.T, db *DB) {
	want := parked(t, db, letter("kept", im.SendKey{Conversation: "d1-2", Sender: 1, ClientMsgID: "x"}))[0]
	got, err := db.DeadLetter(t.Context(), want.ID)
	must(t, err)
	if string(got.Payload) != string(want.Payload) {
		t.Errorf("payload %x", got.Payload)
	}
	got.Payload, want.Payload = nil, nil
	if got.Key != want.Key || got.Hash != want.Hash || got.Reason != want.Reason || got.Attempts != 7 || got.ParkedAt != want.ParkedAt ||
		got.State != im.DeadOpen || got.Topic != "kept" || got.Offset != want.Offset {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func testDeadPages(t *testing.T, db *DB) {
	var letters []im.DeadLetter
	for i := range 7 {
		letters = append(letters, letter([]string{"page.a", "page.b"}[i%2], im.SendKey{}))
	}
	letters = parked(t, db, letters...)
	must(t, db.DiscardDead(t.Context(), letters[2].ID))
	before := letters[0].ID - 1
	open, discarded := im.DeadOpen, im.DeadDiscarded
	for _, c := range []struct {
		name string
		q    im.DeadQuery
		want []int
		more bool
	}{
		{"all", im.DeadQuery{Limit: 7}, []int{0, 1, 2, 3, 4, 5, 6}, false},
		{"a page", im.DeadQuery{Limit: 3}, []int{0, 1, 2}, true},
		{"the next", im.DeadQuery{Limit: 4, After: letters[2].ID}, []int{3, 4, 5, 6}, false},
		{"open", im.DeadQuery{Limit: 9, State: &open}, []int{0, 1, 3, 4, 5, 6}, false},
		{"discarded", im.DeadQuery{Limit: 9, State: &discarded}, []int{2}, false},
		{"of a topic", im.DeadQuery{Limit: 9, Topic: "page.a", State: &open}, []int{0, 4, 6}, false},
	} {
		c.q.After = max(c.q.After, before)
		got, more, err := db.DeadLetters(t.Context(), c.q)
		must(t, err)
		var ids []im.DeadID
		for _, d := range got {
			ids = append(ids, d.ID)
		}
		if len(ids) != len(c.want) || more != c.more {
			t.Errorf("%s: %v, more %v", c.name, ids, more)
			continue
		}
		for i, w := range c.want {
			if ids[i] != letters[w].ID {
				t.Errorf("%s: %v", c.name, ids)
			}
		}
	}
}

func testDeadMoves(t *testing.T, db *DB) {
	d := parked(t, db, letter("moves", im.SendKey{}), letter("moves", im.SendKey{}))
	is := func(id im.DeadID, want im.DeadState) {
		t.Helper()
		got, err := db.DeadLetter(t.Context(), id)
		must(t, err)
		if got.State != want || got.ActedAt == 0 {
			t.Errorf("%s at %d, want %s", got.State, got.ActedAt, want)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, im.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a, b := d[0].ID, d[1].ID
	must(t, db.ClaimDead(t.Context(), a))
	is(a, im.DeadReplaying)
	refused("a second replay", db.ClaimDead(t.Context(), a))
	refused("discarded while replayed", db.DiscardDead(t.Context(), a))
	must(t, db.EndReplay(t.Context(), a, im.DeadOpen))
	is(a, im.DeadOpen)
	must(t, db.ClaimDead(t.Context(), a))
	must(t, db.EndReplay(t.Context(), a, im.DeadReplayed))
	is(a, im.DeadReplayed)
	refused("replayed again", db.ClaimDead(t.Context(), a))
	refused("ended again", db.EndReplay(t.Context(), a, im.DeadOpen))
	must(t, db.DiscardDead(t.Context(), b))
	is(b, im.DeadDiscarded)
	refused("replayed after", db.ClaimDead(t.Context(), b))
	refused("discarded again", db.DiscardDead(t.Context(), b))
}

func testReplayAgain(t *testing.T, db *DB) {
	id := parked(t, db, letter("again", im.SendKey{}))[0].ID
	must(t, db.ClaimDead(t.Context(), id))
	_, err := db.w.Exec("UPDATE dead SET acted_at = acted_at - ? WHERE id = ?", deadAgain+1000, id)
	must(t, err)
	must(t, db.ClaimDead(t.Context(), id))
	if err := db.ClaimDead(t.Context(), id); !errors.Is(err, im.ErrConflict) {
		t.Errorf("at once again: %v", err)
	}
	// Or it is discarded then.
	_, err = db.w.Exec("UPDATE dead SET acted_at = acted_at - ? WHERE id = ?", deadAgain+1000, id)
	must(t, err)
	must(t, db.DiscardDead(t.Context(), id))
}

func testDeadUnknown(t *testing.T, db *DB) {
	_, err := db.DeadLetter(t.Context(), 1<<40)
	for what, err := range map[string]error{"read": err, "replay": db.ClaimDead(t.Context(), 1<<40), "discard": db.DiscardDead(t.Context(), 1<<40)} {
		if !errors.Is(err, im.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func testReplayedNotParked(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	key := im.SendKey{Conversation: c, Sender: a, ClientMsgID: "poison"}
	id := parked(t, db, letter("realtime", key))[0].ID
	parkedNow := func(want bool, when string) {
		t.Helper()
		found, err := db.FindStored(t.Context(), []im.SendKey{key})
		must(t, err)
		if found[key].Parked != want {
			t.Errorf("%s: %+v", when, found)
		}
	}
	parkedNow(true, "open")
	must(t, db.ClaimDead(t.Context(), id))
	parkedNow(false, "replaying")
	must(t, db.EndReplay(t.Context(), id, im.DeadOpen))
	parkedNow(true, "open again")
	must(t, db.ClaimDead(t.Context(), id))
	must(t, db.EndReplay(t.Context(), id, im.DeadReplayed))
	parkedNow(false, "replayed")
	second := parked(t, db, letter("realtime", key))[0].ID // poison still
	parkedNow(true, "given up again")
	must(t, db.DiscardDead(t.Context(), second))
	parkedNow(true, "discarded")
}

func testSameContent(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := []im.Message{message(c, 1, a), message(c, 2, a), message(c, 3, b), message(c, 4, a), message(c, 5, a)}
	for _, i := range []int{0, 2, 3} {
		rows[i].Content, rows[i].Hash = rows[1].Content, rows[1].Hash
	}
	must(t, db.InsertMessages(t.Context(), rows))
	ask := func(since int64) (seqs []im.Seq) {
		t.Helper()
		found, err := db.SameContent(t.Context(), c, a, rows[1].Hash, since)
		must(t, err)
		for _, m := range found {
			seqs = append(seqs, m.Seq)
			if m.ClientMsgID != rows[m.Seq-1].ClientMsgID || m.StoredAt != rows[m.Seq-1].StoredAt {
				t.Errorf("%+v", m)
			}
		}
		return seqs
	}
	for since, want := range map[int64][]im.Seq{0: {4, 2, 1}, rows[1].StoredAt: {4, 2}, rows[4].StoredAt: nil} {
		got := ask(since)
		if len(got) != len(want) {
			t.Errorf("since %d: %v, want %v", since, got, want)
		}
	}
	if found, err := db.SameContent(t.Context(), im.DirectConversation(a, newUser(t, db)), a, rows[1].Hash, 0); err != nil || len(found) > 0 {
		t.Errorf("where nothing is: %v %v", found, err)
	}
}

func testSameContentFar(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	rows := fill(t, db, c, sameRows+10, a, b)
	found, err := db.SameContent(t.Context(), c, a, rows[4].Hash, rows[4].StoredAt)
	must(t, err)
	if len(found) != 1 || found[0].Seq != 5 {
		t.Errorf("%+v", found)
	}
}
