package storage

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// The fence under two owners: SQLite's single writer hides these races, MariaDB
// does not.
func TestRaces(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"InsertMessages_TwoOwnersLeaveNoHoleAndNoDouble": testTwoOwners,
		"InsertMessages_SameNextSeqOneWins":              testSameNextSeq,
		"InsertMessages_BatchesThatCrossDoNotHalfCommit": testCrossingBatches,
		"UpsertExternal_AtTheSameMoment":                 testUpsertRace,
	})
}

// testTwoOwners lets several writers store overlapping streams the way a strand
// does: last seqs from a cache, everything forgotten after any error.
func testTwoOwners(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	_, _, d := newPair(t, db)
	const n = 120
	var stream []im.Message // both conversations, as the log has them
	for range n {
		stream = append(stream, message(c, 0, a), message(d, 0, b))
	}
	var ids sync.Mutex
	freshID := func() im.MessageID { ids.Lock(); defer ids.Unlock(); return im.MessageID(1<<41 + number.Add(1)) }
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for from := 0; from < len(stream); from += 10 + w {
				batch := stream[from:min(from+10+w, len(stream))]
				if err := storeLikeAStrand(t, db, batch, freshID); err != nil {
					t.Errorf("owner %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, conv := range []im.ConversationID{c, d} {
		page, err := db.History(t.Context(), im.HistoryQuery{Conversation: conv, Limit: 1000})
		must(t, err)
		if len(page.Items) != n {
			t.Fatalf("%s has %d messages, want %d", conv, len(page.Items), n)
		}
		at := 0
		for i, m := range page.Items {
			for stream[at].Conversation != conv {
				at++
			}
			if m.Seq != im.Seq(i+1) || m.ClientMsgID != stream[at].ClientMsgID {
				t.Fatalf("%s at %d: seq %d, %s, want %s", conv, i, m.Seq, m.ClientMsgID, stream[at].ClientMsgID)
			}
			at++
		}
	}
}

func storeLikeAStrand(t *testing.T, db *DB, batch []im.Message, freshID func() im.MessageID) error {
	for range 1000 {
		var keys []im.SendKey
		convs := map[im.ConversationID]im.Seq{}
		for _, m := range batch {
			keys = append(keys, im.SendKey{Conversation: m.Conversation, Sender: m.Sender.ID, ClientMsgID: m.ClientMsgID})
			convs[m.Conversation] = 0
		}
		found, err := db.FindStored(t.Context(), keys)
		if err != nil {
			return err
		}
		var list []im.ConversationID
		for c := range maps.Keys(convs) {
			list = append(list, c)
		}
		lasts, err := db.Lasts(t.Context(), list)
		if err != nil {
			return err
		}
		for c := range convs {
			convs[c] = lasts[c].Seq
		}
		var rest []im.Message
		for i, m := range batch {
			if _, ok := found[keys[i]]; !ok {
				convs[m.Conversation]++
				m.Seq, m.ID = convs[m.Conversation], freshID()
				rest = append(rest, m)
			}
		}
		err = db.InsertMessages(t.Context(), rest)
		var dup *im.DuplicateError
		if err == nil {
			return nil
		}
		if !errors.As(err, &dup) && !errors.Is(err, im.ErrStore) { // ErrStore: a deadlock between the two
			return err
		}
	}
	return errors.New("no end in 1,000 rounds")
}

func testSameNextSeq(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	for round := range im.Seq(20) {
		var wg sync.WaitGroup
		results := make([]error, 4)
		for i := range results {
			m := message(c, round+1, a)
			wg.Go(func() { results[i] = db.InsertMessages(t.Context(), []im.Message{m}) })
		}
		wg.Wait()
		won := 0
		for _, err := range results {
			var dup *im.DuplicateError
			if err == nil {
				won++
			} else if !errors.As(err, &dup) || dup.Key != im.DuplicateSeq {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Fatalf("seq %d was given %d times", round+1, won)
		}
	}
}

// testCrossingBatches inserts the same seqs of two conversations in opposite order:
// whatever the locks decide, a batch is there whole or not at all.
func testCrossingBatches(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	_, _, d := newPair(t, db)
	for round := range im.Seq(20) {
		one := []im.Message{message(c, round+1, a), message(d, round+1, a)}
		two := []im.Message{message(d, round+1, a), message(c, round+1, a)}
		var wg sync.WaitGroup
		var err1, err2 error
		wg.Go(func() { err1 = db.InsertMessages(t.Context(), one) })
		wg.Go(func() { err2 = db.InsertMessages(t.Context(), two) })
		wg.Wait()
		if (err1 == nil) == (err2 == nil) {
			t.Fatalf("round %d: %v and %v", round, err1, err2)
		}
		winner := one
		if err2 == nil {
			winner = two
		}
		found, err := db.LastMessages(t.Context(), map[im.ConversationID]im.Seq{c: round + 1, d: round + 1})
		must(t, err)
		for _, m := range winner {
			if found[m.Conversation].ID != m.ID {
				t.Fatalf("round %d: %s has another's message", round, m.Conversation)
			}
		}
	}
}

func testUpsertRace(t *testing.T, db *DB) {
	n := number.Add(1)
	var wg sync.WaitGroup
	results := make([][]im.Profile, 6)
	for w := range results {
		var users []im.ExternalUser
		for i := range 30 {
			k := (i + 5*w) % 30 // each in an order of its own
			users = append(users, im.ExternalUser{ExternalID: fmt.Sprintf("r%d-%02d", n, k), Handle: fmt.Sprintf("r%d-%02d", n, k)})
		}
		wg.Go(func() {
			var err error
			if results[w], err = db.UpsertExternal(t.Context(), users); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ids := map[string]im.UserID{}
	for _, profiles := range results {
		for _, p := range profiles {
			if id, ok := ids[p.Handle]; ok && id != p.ID {
				t.Errorf("%s is %d and %d", p.Handle, id, p.ID)
			}
			ids[p.Handle] = p.ID
		}
	}
	if len(ids) != 30 && !t.Failed() {
		t.Errorf("%d users, want 30", len(ids))
	}
}
