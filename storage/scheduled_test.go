package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const claimAgain = 30 * time.Second

// later is a message of from's for a time.
func later(c im.ConversationID, from im.UserID, dueAt int64) im.Scheduled {
	n := number.Add(1)
	request := json.RawMessage(fmt.Sprintf(`{"client_msg_id":"later-%06d","content":{"text":"it's \"%d\" 🐦"}}`, n, n))
	return im.Scheduled{Conversation: c, Sender: from, ClientMsgID: im.ClientMsgID(fmt.Sprintf("later-%06d", n)), Request: request,
		Hash: im.HashContent(im.TypeText, request), DueAt: dueAt}
}

func schedule(t testing.TB, db *DB, s im.Scheduled, partition int) im.Scheduled {
	t.Helper()
	row, err := db.Schedule(t.Context(), s, partition, 0)
	must(t, err)
	return row
}

func nowOf(t testing.TB, db *DB) int64 {
	t.Helper()
	now, err := db.NowMilli(t.Context())
	must(t, err)
	return now
}

// everything is a bound that all rows of a conversation are below.
var everything = im.FireTask{Schedule: im.MaxID, DueAt: im.MaxID}

func TestScheduled(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"is read as it was written":               scheduledIsReadBack,
		"one ID is one row":                       scheduledOnce,
		"a user has a bound":                      scheduledBound,
		"lists by due time":                       scheduledList,
		"changes and is cancelled while pending":  scheduledChanges,
		"comes due in order":                      scheduledDue,
		"is claimed up to a row, and decided":     scheduledClaim,
		"is cancelled or claimed, not both":       scheduledRace,
		"is not queued before it is due":          scheduledMoved,
		"is forgotten when it is final for long":  scheduledForgotten,
		"is looked at again after a while queued": scheduledAgain,
	})
}

func scheduledIsReadBack(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	now := nowOf(t, db)
	s := later(c, a, now+60_000)
	s.ByServer = true
	row := schedule(t, db, s, 3)
	if row.CreatedAt < now || row.ID == 0 {
		t.Errorf("%+v", row)
	}
	s.ID, s.CreatedAt, s.UpdatedAt = row.ID, row.CreatedAt, row.CreatedAt
	for what, find := range map[string]func() (im.Scheduled, error){
		"by ID": func() (im.Scheduled, error) { return db.Scheduled(t.Context(), row.ID) },
		"by client message ID": func() (im.Scheduled, error) {
			return db.ScheduledAs(t.Context(), im.SendKey{Conversation: c, Sender: a, ClientMsgID: s.ClientMsgID})
		},
	} {
		found, err := find()
		must(t, err)
		if fmt.Sprint(found) != fmt.Sprint(s) {
			t.Errorf("%s: %+v, want %+v", what, found, s)
		}
	}
	if _, err := db.Scheduled(t.Context(), 1<<50); !errors.Is(err, im.ErrNotFound) {
		t.Error(err)
	}
	if past := schedule(t, db, later(c, a, 5), 3); past.DueAt != past.CreatedAt {
		t.Errorf("due at %d, scheduled at %d", past.DueAt, past.CreatedAt)
	}
}

func scheduledOnce(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	s := later(c, a, nowOf(t, db)+60_000)
	first := schedule(t, db, s, 0)
	s.DueAt, s.Request = s.DueAt+5, json.RawMessage(`{}`)
	if again := schedule(t, db, s, 0); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("again: %+v, first %+v", again, first)
	}
	s.Sender = b
	if other := schedule(t, db, s, 0); other.ID == first.ID {
		t.Error("another sender's is taken for it")
	}
}

func scheduledBound(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { _, errs[i] = db.Schedule(t.Context(), later(c, a, nowOf(t, db)+60_000), 0, 3) })
	}
	wg.Wait()
	full := 0
	for _, err := range errs {
		var e *im.FullError
		if errors.As(err, &e) && e.Limit == "scheduled" && e.Max == 3 {
			full++
		} else {
			must(t, err)
		}
	}
	if full != 3 {
		t.Errorf("%d of 6 were one too many", full)
	}
	b, _, d := newPair(t, db)
	s := later(d, b, nowOf(t, db)+60_000)
	row, err := db.Schedule(t.Context(), s, 0, 1)
	must(t, err)
	if again, err := db.Schedule(t.Context(), s, 0, 1); err != nil || again.ID != row.ID { // it is kept: not refused
		t.Errorf("the last again: %+v %v", again, err)
	}
}

func scheduledList(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	peer := newUser(t, db)
	other := im.DirectConversation(a, peer)
	now := nowOf(t, db)
	var ids []im.ScheduleID
	for i := range 5 {
		ids = append(ids, schedule(t, db, later(c, a, now+60_000+int64(i/2)), 0).ID) // pairs at the same time
	}
	elsewhere := schedule(t, db, later(other, a, now+50_000), 0)
	schedule(t, db, later(c, peer, now+50_000), 0)
	q := im.ScheduledQuery{Sender: a, Conversation: c, Limit: 2}
	var seen []im.ScheduleID
	for {
		page, more, err := db.ScheduledOf(t.Context(), q)
		must(t, err)
		for _, s := range page {
			seen = append(seen, s.ID)
			q.After = im.FireTask{Schedule: s.ID, DueAt: s.DueAt}
		}
		if !more {
			break
		}
	}
	if !slices.Equal(seen, ids) {
		t.Errorf("%v, want %v", seen, ids)
	}
	all, more, err := db.ScheduledOf(t.Context(), im.ScheduledQuery{Sender: a, Limit: 10})
	must(t, err)
	if len(all) != 6 || more || all[0].ID != elsewhere.ID {
		t.Errorf("%v %v", all, more)
	}
	_, err = db.ChangeScheduled(t.Context(), ids[1], im.SchedulePatch{Cancel: true})
	must(t, err)
	cancelled, _, err := db.ScheduledOf(t.Context(), im.ScheduledQuery{Sender: a, State: im.ScheduleCancelled, Limit: 10})
	must(t, err)
	if len(cancelled) != 1 || cancelled[0].ID != ids[1] {
		t.Errorf("cancelled: %v", cancelled)
	}
}

func scheduledChanges(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	now := nowOf(t, db)
	row := schedule(t, db, later(c, a, now+60_000), 7)
	soon := int64(12)
	changed, err := db.ChangeScheduled(t.Context(), row.ID, im.SchedulePatch{Request: json.RawMessage(`{"x":1}`), DueAt: &soon})
	must(t, err)
	if string(changed.Request) != `{"x":1}` || changed.DueAt < now || changed.DueAt > nowOf(t, db) || changed.Hash != row.Hash {
		t.Errorf("%+v", changed)
	}
	due, err := db.DueScheduled(t.Context(), 7, im.SchedulePending, 0, 9)
	must(t, err)
	if len(due) != 1 || due[0].DueAt != changed.DueAt {
		t.Errorf("due: %+v", due)
	}
	for range 2 { // a cancel may be repeated
		gone, err := db.ChangeScheduled(t.Context(), row.ID, im.SchedulePatch{Cancel: true})
		must(t, err)
		if gone.State != im.ScheduleCancelled {
			t.Errorf("%+v", gone)
		}
	}
	if _, err := db.ChangeScheduled(t.Context(), row.ID, im.SchedulePatch{DueAt: &soon}); !errors.Is(err, im.ErrScheduleFinal) {
		t.Error(err)
	}
	if _, err := db.ChangeScheduled(t.Context(), 1<<50, im.SchedulePatch{Cancel: true}); !errors.Is(err, im.ErrNotFound) {
		t.Error(err)
	}
	if due, err := db.DueScheduled(t.Context(), 7, im.SchedulePending, time.Hour, 9); err != nil || len(due) > 0 {
		t.Errorf("due though cancelled: %+v %v", due, err)
	}
}

func scheduledDue(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	now := nowOf(t, db)
	third := schedule(t, db, later(c, a, now+600_000), 11)
	first := schedule(t, db, later(c, a, 1), 11)
	second := schedule(t, db, later(c, a, 1), 11)
	schedule(t, db, later(c, a, 1), 12)
	due, err := db.DueScheduled(t.Context(), 11, im.SchedulePending, 0, 9)
	must(t, err)
	if len(due) != 2 || due[0].ID != first.ID || due[1].ID != second.ID || due[0].Conversation != c || due[0].In > 0 {
		t.Errorf("%+v", due)
	}
	due, err = db.DueScheduled(t.Context(), 11, im.SchedulePending, time.Hour, 9)
	must(t, err)
	if len(due) != 3 || due[2].ID != third.ID || due[2].In < 500_000 || due[2].In > 600_000 {
		t.Errorf("%+v", due)
	}
	if due, err = db.DueScheduled(t.Context(), 11, im.SchedulePending, time.Hour, 1); err != nil || len(due) != 1 {
		t.Errorf("%+v %v", due, err)
	}
}

func scheduledClaim(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	now := nowOf(t, db)
	var rows []im.Scheduled
	for range 4 {
		rows = append(rows, schedule(t, db, later(c, a, 1), 5))
	}
	future := schedule(t, db, later(c, a, now+60_000), 5)
	claimed, err := db.ClaimScheduled(t.Context(), c, im.FireTask{Schedule: rows[2].ID, DueAt: rows[2].DueAt}, claimAgain, 2)
	must(t, err)
	if len(claimed) != 2 || claimed[0].ID != rows[0].ID || claimed[1].ID != rows[1].ID || claimed[0].State != im.ScheduleQueued {
		t.Fatalf("%+v", claimed)
	}
	keep := func(d ...im.ScheduleDecision) (stand int) {
		kept, err := db.KeepDecisions(t.Context(), d)
		must(t, err)
		for _, it := range d {
			if kept[it.ID] {
				stand++
			}
		}
		return stand
	}
	yes := json.RawMessage(`{"d":1}`)
	if n := keep(im.ScheduleDecision{ID: rows[0].ID, Request: yes}, im.ScheduleDecision{ID: rows[1].ID, Refused: "blocked"},
		im.ScheduleDecision{ID: rows[2].ID, Request: yes}, im.ScheduleDecision{ID: rows[3].ID, Request: yes}); n != 3 { // the last is not in queue
		t.Errorf("%d stand", n)
	}
	no := json.RawMessage(`{"d":2}`)
	if n := keep(im.ScheduleDecision{ID: rows[0].ID, Refused: "muted"}, im.ScheduleDecision{ID: rows[1].ID, Request: no},
		im.ScheduleDecision{ID: rows[1].ID, Refused: "muted"}, im.ScheduleDecision{ID: rows[2].ID, Request: no}); n > 0 {
		t.Errorf("%d are decided twice", n)
	}
	must(t, db.SentScheduled(t.Context(), []im.ScheduleID{rows[2].ID, rows[1].ID, rows[3].ID}))
	for i, want := range []struct {
		state   im.ScheduleState
		reason  string
		decided bool
	}{{im.ScheduleQueued, "", true}, {im.ScheduleFailed, "blocked", false}, {im.ScheduleSent, "", false}, {im.SchedulePending, "", false}} {
		s, err := db.Scheduled(t.Context(), rows[i].ID)
		must(t, err)
		if s.State != want.state || s.Reason != want.reason || s.Decided != want.decided {
			t.Errorf("row %d is %s %q %v, want %v", i, s.State, s.Reason, s.Decided, want)
		}
		if kept := string(s.Request) == string(yes); kept != (i == 0 || i == 2) {
			t.Errorf("row %d: %s", i, s.Request)
		}
	}
	claimed, err = db.ClaimScheduled(t.Context(), c, everything, claimAgain, 9)
	must(t, err)
	if len(claimed) != 2 || claimed[0].ID != rows[0].ID || claimed[1].ID != rows[3].ID {
		t.Errorf("%+v, and %d is not due", claimed, future.ID)
	}
}

// scheduledRace has each row claimed and cancelled at the same time.
func scheduledRace(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	for range 20 {
		row := schedule(t, db, later(c, a, 1), 5)
		var claimed []im.Scheduled
		var claim, cancel, queue error
		var wg sync.WaitGroup
		wg.Go(func() { claimed, claim = db.ClaimScheduled(t.Context(), c, everything, claimAgain, 9) })
		wg.Go(func() { queue = db.QueueScheduled(t.Context(), []im.ScheduleID{row.ID}, claimAgain) })
		wg.Go(func() { _, cancel = db.ChangeScheduled(t.Context(), row.ID, im.SchedulePatch{Cancel: true}) })
		wg.Wait()
		must(t, errors.Join(claim, queue))
		if cancel != nil && !errors.Is(cancel, im.ErrScheduleFinal) {
			t.Fatal(cancel)
		}
		if fires := len(claimed) > 0; fires == (cancel == nil) {
			t.Fatalf("claimed %v, cancel %v", claimed, cancel)
		}
		if cancel != nil {
			must(t, db.SentScheduled(t.Context(), []im.ScheduleID{row.ID}))
		}
	}
}

// scheduledMoved has a row put off after it was read as due and before it is queued.
func scheduledMoved(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	row := schedule(t, db, later(c, a, 1), 5)
	hence := nowOf(t, db) + 60_000
	_, err := db.ChangeScheduled(t.Context(), row.ID, im.SchedulePatch{DueAt: &hence})
	must(t, err)
	must(t, db.QueueScheduled(t.Context(), []im.ScheduleID{row.ID}, claimAgain))
	claimed, err := db.ClaimScheduled(t.Context(), c, everything, claimAgain, 9)
	must(t, err)
	if s, err := db.Scheduled(t.Context(), row.ID); err != nil || s.State != im.SchedulePending || len(claimed) > 0 {
		t.Errorf("%+v %v %v", s, claimed, err)
	}
}

func scheduledForgotten(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	old, pending := schedule(t, db, later(c, a, 1), 5), schedule(t, db, later(c, a, nowOf(t, db)+60_000), 5)
	_, err := db.ChangeScheduled(t.Context(), old.ID, im.SchedulePatch{Cancel: true})
	must(t, err)
	if n, err := db.ForgetScheduled(t.Context(), time.Hour, 100); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := db.ForgetScheduled(t.Context(), -time.Second, 100); n == 0 || err != nil { // all that is final now
		t.Fatal(n, err)
	}
	if _, err := db.Scheduled(t.Context(), old.ID); !errors.Is(err, im.ErrNotFound) {
		t.Error(err)
	}
	_, err = db.Scheduled(t.Context(), pending.ID)
	must(t, err)
}

func scheduledAgain(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	row := schedule(t, db, later(c, a, 1), 21)
	for _, again := range []time.Duration{claimAgain, -time.Second} {
		must(t, db.QueueScheduled(t.Context(), []im.ScheduleID{row.ID}, again))
		due, err := db.DueScheduled(t.Context(), 21, im.ScheduleQueued, 0, 9)
		must(t, err)
		if lost := len(due) == 1; lost != (again < 0) {
			t.Errorf("again in %s: %+v", again, due)
		}
	}
}
