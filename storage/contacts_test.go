package storage

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestContacts(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"Request_AcceptedMakesBothContacts":        testContactAccepted,
		"Request_RefusedAndWithdrawnLeaveNothing":  testContactEnded,
		"Request_CrossingIsAccepted":               testContactCrossing,
		"Request_AgainIsTheSameRequest":            testContactAgain,
		"Request_OfOthersIsAsOneThatIsNot":         testContactForeign,
		"Request_AcrossABlockIsRefused":            testContactBlocked,
		"Block_EndsAPendingRequest":                testBlockEndsRequest,
		"Remove_BothSidesAndTwice":                 testContactRemoved,
		"Remark_IsPrivate":                         testContactRemark,
		"Contacts_PagesAndDifferences":             testContactPages,
		"ContactRequests_Pages":                    testContactRequestPages,
		"ContactsSince_AnUnknownVersionStartsOver": testContactStartOver,
		"MessagePolicy_EveryoneAtFirst":            testMessagePolicy,
		"Limits_AreNamed":                          testContactLimits,
	})
}

func TestContactRaces(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"TwoAccepts":                 raceTwoAccepts,
		"AcceptAgainstWithdraw":      raceAcceptWithdraw,
		"CrossingRequests":           raceCrossing,
		"RequestAgainstBlock":        raceRequestBlock,
		"RemoveAgainstRemove":        raceRemove,
		"EverybodyAtOnce_IsComplete": raceEverybody,
	})
}

func mustRequest(t testing.TB, db *DB, from, to im.UserID) im.ContactRequestID {
	t.Helper()
	c, err := db.RequestContact(t.Context(), from, to, "it's me 🐦")
	must(t, err)
	return c.Mine.Request
}

func befriend(t testing.TB, db *DB, a, b im.UserID) {
	t.Helper()
	_, err := db.AcceptContact(t.Context(), b, mustRequest(t, db, a, b))
	must(t, err)
}

// entryOf is u's entry about peer, none where there is none.
func entryOf(t testing.TB, db *DB, u, peer im.UserID) im.Contact {
	t.Helper()
	page, err := db.ContactsSince(t.Context(), u, 0, 10_000)
	must(t, err)
	for _, c := range page.Items {
		if c.Peer == peer {
			return c
		}
	}
	return im.Contact{User: u, Peer: peer, State: im.ContactNone}
}

func wantStates(t *testing.T, db *DB, a, b im.UserID, mine, theirs im.ContactState) {
	t.Helper()
	if m, o := entryOf(t, db, a, b).State, entryOf(t, db, b, a).State; m != mine || o != theirs {
		t.Errorf("states %s and %s, want %s and %s", m, o, mine, theirs)
	}
}

func testContactAccepted(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	c, err := db.RequestContact(t.Context(), a, b, "it's me 🐦")
	must(t, err)
	id := c.Mine.Request
	if c.Event != im.ContactRequested || id == 0 || c.Mine.State != im.ContactOutgoing || c.Theirs.State != im.ContactIncoming ||
		c.Theirs.Message != "it's me 🐦" || c.Theirs.Request != id || c.Mine.Version != 1 || c.Theirs.Version != 1 || c.Mine.ChangedAt == 0 {
		t.Fatalf("requested: %+v", c)
	}
	if got := entryOf(t, db, b, a); got != c.Theirs {
		t.Errorf("listed %+v, said %+v", got, c.Theirs)
	}
	c, err = db.AcceptContact(t.Context(), b, id)
	must(t, err)
	if c.Event != im.ContactAccepted || c.Mine.State != im.ContactYes || c.Theirs.State != im.ContactYes || c.Mine.Message != "" || c.Theirs.Version != 2 {
		t.Errorf("accepted: %+v", c)
	}
	again, err := db.AcceptContact(t.Context(), b, id)
	if err != nil || again.Event != "" || again.Mine != c.Mine || again.Theirs.Version != 0 {
		t.Errorf("accepted again: %+v, %v", again, err)
	}
	if _, err := db.RefuseContact(t.Context(), b, id); !errors.Is(err, im.ErrConflict) {
		t.Errorf("refused after it was accepted: %v", err)
	}
	if _, err := db.WithdrawContact(t.Context(), a, id); !errors.Is(err, im.ErrConflict) {
		t.Errorf("withdrawn after it was accepted: %v", err)
	}
	if again, err := db.RequestContact(t.Context(), b, a, ""); err != nil || again.Event != "" || again.Mine.State != im.ContactYes {
		t.Errorf("requested by a contact: %+v, %v", again, err)
	}
	wantStates(t, db, a, b, im.ContactYes, im.ContactYes)
}

func testContactEnded(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	id := mustRequest(t, db, a, b)
	c, err := db.RefuseContact(t.Context(), b, id)
	must(t, err)
	if c.Event != im.ContactDeclined || c.Mine.State != im.ContactNone || c.Theirs.State != im.ContactRefused || c.Theirs.Request != 0 {
		t.Errorf("refused: %+v", c)
	}
	for name, do := range map[string]func() (im.ContactChange, error){
		"accept":   func() (im.ContactChange, error) { return db.AcceptContact(t.Context(), b, id) },
		"refuse":   func() (im.ContactChange, error) { return db.RefuseContact(t.Context(), b, id) },
		"withdraw": func() (im.ContactChange, error) { return db.WithdrawContact(t.Context(), a, id) },
	} {
		if _, err := do(); err != im.ErrNotFound {
			t.Errorf("%s what has ended: %v", name, err)
		}
	}
	next := mustRequest(t, db, a, b)
	if next == id {
		t.Error("a new request has the old one's ID")
	}
	c, err = db.WithdrawContact(t.Context(), a, next)
	must(t, err)
	if c.Event != im.ContactWithdrawn || c.Mine.State != im.ContactNone || c.Theirs.State != im.ContactNone {
		t.Errorf("withdrawn: %+v", c)
	}
	wantStates(t, db, a, b, im.ContactNone, im.ContactNone)
	befriend(t, db, b, a) // in the other direction
	wantStates(t, db, a, b, im.ContactYes, im.ContactYes)
}

func testContactCrossing(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	mustRequest(t, db, a, b)
	c, err := db.RequestContact(t.Context(), b, a, "me too")
	if err != nil || c.Event != im.ContactAccepted {
		t.Fatalf("%+v, %v", c, err)
	}
	wantStates(t, db, a, b, im.ContactYes, im.ContactYes)
}

func testContactAgain(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	id := mustRequest(t, db, a, b)
	c, err := db.RequestContact(t.Context(), a, b, "please")
	if err != nil || c.Event != "" || c.Mine.Request != id || c.Mine.Message != "it's me 🐦" || c.Mine.Version != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, gone := range []im.UserID{im.MaxID, im.SystemUser} {
		if _, err := db.RequestContact(t.Context(), a, gone, ""); err != im.ErrNotFound {
			t.Errorf("request to %d: %v", gone, err)
		}
	}
}

// [L5]: who is not on that side of a request learns nothing of it.
func testContactForeign(t *testing.T, db *DB) {
	a, b, eve := newUser(t, db), newUser(t, db), newUser(t, db)
	for _, id := range []im.ContactRequestID{mustRequest(t, db, a, b), im.MaxID, 0} {
		for name, do := range map[string]func() (im.ContactChange, error){
			"accept a stranger's":   func() (im.ContactChange, error) { return db.AcceptContact(t.Context(), eve, id) },
			"accept one's own":      func() (im.ContactChange, error) { return db.AcceptContact(t.Context(), a, id) },
			"refuse a stranger's":   func() (im.ContactChange, error) { return db.RefuseContact(t.Context(), eve, id) },
			"refuse one's own":      func() (im.ContactChange, error) { return db.RefuseContact(t.Context(), a, id) },
			"withdraw a stranger's": func() (im.ContactChange, error) { return db.WithdrawContact(t.Context(), eve, id) },
			"withdraw a received":   func() (im.ContactChange, error) { return db.WithdrawContact(t.Context(), b, id) },
		} {
			if _, err := do(); err != im.ErrNotFound {
				t.Errorf("%s (%d): %v", name, id, err)
			}
		}
	}
	wantStates(t, db, a, b, im.ContactOutgoing, im.ContactIncoming)
}

func testContactBlocked(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	mustBlock(t, db, b, a, true)
	if _, err := db.RequestContact(t.Context(), a, b, ""); !errors.Is(err, im.ErrBlocked) {
		t.Errorf("request of the blocked: %v", err)
	}
	if _, err := db.RequestContact(t.Context(), b, a, ""); !errors.Is(err, im.ErrConflict) {
		t.Errorf("request to the blocked: %v", err)
	}
	mustBlock(t, db, a, b, true)
	if _, err := db.RequestContact(t.Context(), a, b, ""); !errors.Is(err, im.ErrBlocked) {
		t.Errorf("both have blocked: %v", err)
	}
	if _, err := db.SetBlock(t.Context(), a, im.MaxID, true); err != im.ErrNotFound {
		t.Errorf("block of nobody: %v", err)
	}
	mustBlock(t, db, a, im.MaxID, false)
}

func testBlockEndsRequest(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	id := mustRequest(t, db, a, b)
	c, err := db.SetBlock(t.Context(), b, a, true)
	if err != nil || c.Event != im.ContactDeclined || c.Theirs.State != im.ContactRefused {
		t.Errorf("block of who asks: %+v, %v", c, err)
	}
	if _, err := db.AcceptContact(t.Context(), b, id); err != im.ErrNotFound {
		t.Errorf("accept after the block: %v", err)
	}
	mustBlock(t, db, b, a, false)
	mustRequest(t, db, a, b)
	c, err = db.SetBlock(t.Context(), a, b, true)
	if err != nil || c.Event != im.ContactWithdrawn || c.Theirs.State != im.ContactNone {
		t.Errorf("block of who was asked: %+v, %v", c, err)
	}
	wantStates(t, db, a, b, im.ContactNone, im.ContactNone)

	friend := newUser(t, db)
	befriend(t, db, a, friend)
	if c, err := db.SetBlock(t.Context(), a, friend, true); err != nil || c.Event != "" {
		t.Errorf("block of a contact: %+v, %v", c, err)
	}
	wantStates(t, db, a, friend, im.ContactYes, im.ContactYes)
}

func testContactRemoved(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	befriend(t, db, a, b)
	_, err := db.SetRemark(t.Context(), a, b, "old friend")
	must(t, err)
	c, err := db.RemoveContact(t.Context(), b, a)
	if err != nil || c.Event != im.ContactRemoved || c.Mine.State != im.ContactNone || c.Theirs.State != im.ContactNone || c.Theirs.Remark != "" {
		t.Errorf("removed: %+v, %v", c, err)
	}
	for _, u := range []im.UserID{a, im.MaxID} {
		if c, err := db.RemoveContact(t.Context(), b, u); err != nil || c.Event != "" || c.Theirs.Version != 0 {
			t.Errorf("removed again: %+v, %v", c, err)
		}
	}
	befriend(t, db, b, a)
	if got := entryOf(t, db, a, b); got.State != im.ContactYes || got.Remark != "" {
		t.Errorf("contacts again: %+v", got)
	}
}

func testContactRemark(t *testing.T, db *DB) {
	a, b, eve := newUser(t, db), newUser(t, db), newUser(t, db)
	befriend(t, db, a, b)
	before := entryOf(t, db, b, a)
	c, err := db.SetRemark(t.Context(), a, b, "Müller 🐦")
	if err != nil || c.Event != im.ContactRemarked || c.Mine.Remark != "Müller 🐦" || c.Mine.Version != 3 || c.Theirs.Version != 0 {
		t.Errorf("remark: %+v, %v", c, err)
	}
	if got := entryOf(t, db, b, a); got != before {
		t.Errorf("the other side has %+v, had %+v", got, before)
	}
	if again, err := db.SetRemark(t.Context(), a, b, "Müller 🐦"); err != nil || again.Event != "" || again.Mine != c.Mine {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	mustRequest(t, db, a, eve)
	for _, u := range []im.UserID{eve, im.MaxID} {
		if _, err := db.SetRemark(t.Context(), a, u, "x"); err != im.ErrNotFound {
			t.Errorf("remark about who is no contact: %v", err)
		}
	}
}

func testContactPages(t *testing.T, db *DB) {
	u := newUser(t, db)
	peers := make([]im.UserID, 7)
	for i := range peers {
		peers[i] = newUser(t, db)
		befriend(t, db, u, peers[i])
	}
	_, err := db.RemoveContact(t.Context(), u, peers[2])
	must(t, err)
	asked := newUser(t, db)
	mustRequest(t, db, asked, u)

	var got []im.UserID
	var version uint64
	for after, pages := im.UserID(0), 0; ; pages++ {
		page, err := db.Contacts(t.Context(), u, after, 3)
		must(t, err)
		if !page.Full || len(page.Items) > 3 || (page.Version == 0) != (pages > 0) {
			t.Fatalf("page %d: %+v", pages, page)
		}
		version = max(version, page.Version)
		for _, c := range page.Items {
			got = append(got, c.Peer)
			after = c.Peer
		}
		if !page.HasMore {
			break
		}
		_, err = db.SetRemark(t.Context(), u, peers[0], fmt.Sprint("page ", pages)) // changed behind the reader's back
		must(t, err)
	}
	want := append(append(append([]im.UserID{}, peers[:2]...), peers[3:]...), asked)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	page, err := db.ContactsSince(t.Context(), u, version, 10)
	if err != nil || page.Full || len(page.Items) != 1 || page.Items[0].Remark != "page 1" || page.Version != page.Items[0].Version {
		t.Errorf("what changed meanwhile: %+v, %v", page, err)
	}

	var seen []im.Contact
	for since := uint64(0); ; {
		page, err := db.ContactsSince(t.Context(), u, since, 2)
		must(t, err)
		seen = append(seen, page.Items...)
		since = page.Version
		if !page.HasMore {
			break
		}
	}
	if len(seen) != 8 || seen[6].State != im.ContactIncoming || seen[5].State != im.ContactNone || seen[7].Peer != peers[0] {
		t.Errorf("everything since 0: %+v", seen)
	}
	if now, err := db.ContactsVersion(t.Context(), u); err != nil || now != seen[7].Version {
		t.Errorf("version %d, %v", now, err)
	}
	if now, err := db.ContactsVersion(t.Context(), im.MaxID); err != nil || now != 0 {
		t.Errorf("of nobody %d, %v", now, err)
	}
}

func testContactRequestPages(t *testing.T, db *DB) {
	u := newUser(t, db)
	var in, out []im.ContactRequestID
	for range 5 {
		other := newUser(t, db)
		in = append(in, mustRequest(t, db, other, u))
		out = append(out, mustRequest(t, db, u, newUser(t, db)))
	}
	befriend(t, db, newUser(t, db), u)
	for incoming, want := range map[bool][]im.ContactRequestID{true: in, false: out} {
		var got []im.ContactRequestID
		for before := im.ContactRequestID(0); ; {
			items, more, err := db.ContactRequests(t.Context(), u, incoming, before, 2)
			must(t, err)
			for _, c := range items {
				if c.User != u || c.Message == "" || (c.State == im.ContactIncoming) != incoming {
					t.Errorf("item %+v", c)
				}
				got = append(got, c.Request)
				before = c.Request
			}
			if !more {
				break
			}
		}
		for i, id := range got {
			if len(got) != len(want) || id != want[len(want)-1-i] {
				t.Fatalf("incoming %t: %v, want %v backwards", incoming, got, want)
			}
		}
	}
}

func testContactStartOver(t *testing.T, db *DB) {
	u, friend := newUser(t, db), newUser(t, db)
	befriend(t, db, u, friend)
	page, err := db.ContactsSince(t.Context(), u, 1000, 10) // of a database that was restored
	if err != nil || !page.Full || len(page.Items) != 1 || page.Version != 2 {
		t.Errorf("a version of the future: %+v, %v", page, err)
	}
	// More endings than are kept.
	var rows []any
	query := repeat("INSERT INTO contacts (user_id, peer_id, state, request_id, remark, version, changed_at) VALUES ",
		"(?, ?, 0, 0, '', ?, 0)", ", ", maxEndedContacts, "")
	for i := range maxEndedContacts {
		rows = append(rows, u, 1<<40+i, 3+i)
	}
	_, err = db.w.Exec(query, rows...)
	must(t, err)
	_, err = db.w.Exec("UPDATE people SET contacts_version = ? WHERE user_id = ?", 2+maxEndedContacts, u)
	must(t, err)
	if page, err := db.ContactsSince(t.Context(), u, 2, 10); err != nil || page.Full || len(page.Items) != 10 {
		t.Fatalf("before they are too many: %+v, %v", page, err)
	}
	_, err = db.RemoveContact(t.Context(), u, friend)
	must(t, err)
	if page, err := db.ContactsSince(t.Context(), u, 2, 10); err != nil || !page.Full || len(page.Items) != 0 || page.Version != 3+maxEndedContacts {
		t.Errorf("from before what was forgotten: %+v, %v", page, err)
	}
	page, err = db.ContactsSince(t.Context(), u, 2+maxEndedContacts, 10)
	if err != nil || page.Full || len(page.Items) != 1 || page.Items[0].Peer != friend {
		t.Errorf("from after it: %+v, %v", page, err)
	}
	var n int
	must(t, db.r.QueryRow("SELECT COUNT(*) FROM contacts WHERE user_id = ?", u).Scan(&n))
	if n > maxEndedContacts {
		t.Errorf("%d are kept", n)
	}
}

func testMessagePolicy(t *testing.T, db *DB) {
	u := newUser(t, db)
	for _, want := range []im.MessagePolicy{im.MessagesFromEveryone, im.MessagesFromContacts, im.MessagesFromContacts, im.MessagesFromEveryone} {
		must(t, db.SetMessagePolicy(t.Context(), u, want))
		if got, err := db.MessagePolicy(t.Context(), u); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	if got, err := db.MessagePolicy(t.Context(), newUser(t, db)); err != nil || got != im.MessagesFromEveryone {
		t.Errorf("at first %s, %v", got, err)
	}
	if err := db.SetMessagePolicy(t.Context(), im.MaxID, im.MessagesFromContacts); err != im.ErrNotFound {
		t.Errorf("of nobody: %v", err)
	}
}

func testContactLimits(t *testing.T, db *DB) {
	full := func(name, limit string, err error) {
		t.Helper()
		var e *im.FullError
		if !errors.As(err, &e) || e.Limit != limit {
			t.Errorf("%s: %v", name, err)
		}
	}
	stuff := func(u im.UserID, state, n int) {
		t.Helper()
		for from := 0; from < n; from += 1000 {
			var args []any
			for i := range 1000 {
				args = append(args, u, 1<<41+from+i, state, from+i+1)
			}
			_, err := db.w.Exec(repeat("INSERT INTO contacts (user_id, peer_id, state, request_id, remark, version, changed_at) VALUES ",
				"(?, ?, ?, 0, '', ?, 0)", ", ", 1000, ""), args...)
			must(t, err)
		}
	}
	popular, asker, sought := newUser(t, db), newUser(t, db), newUser(t, db)
	early := mustRequest(t, db, asker, popular)
	stuff(popular, stateContact, im.MaxContacts)
	stuff(asker, stateOutgoing, im.MaxContactRequests)
	stuff(sought, stateIncoming, im.MaxContactRequests)
	_, err := db.RequestContact(t.Context(), popular, newUser(t, db), "")
	full("a request of who has all contacts there may be", "contacts", err)
	_, err = db.AcceptContact(t.Context(), popular, early)
	full("an accept of theirs", "contacts", err)
	_, err = db.RequestContact(t.Context(), asker, newUser(t, db), "")
	full("a request too many", "contact_requests", err)
	_, err = db.RequestContact(t.Context(), newUser(t, db), sought, "")
	full("a request to who has too many", "contact_requests", err)
	wantStates(t, db, asker, popular, im.ContactOutgoing, im.ContactIncoming)

	blocker := newUser(t, db)
	for from := 0; from < im.MaxBlocks; from += 1000 {
		var args []any
		for i := range 1000 {
			args = append(args, blocker, 1<<41+from+i)
		}
		_, err := db.w.Exec(repeat("INSERT INTO blocks (user_id, blocked_id, created_at) VALUES ", "(?, ?, 0)", ", ", 1000, ""), args...)
		must(t, err)
	}
	_, err = db.SetBlock(t.Context(), blocker, asker, true)
	full("a block too many", "blocks", err)
	if all, err := db.Blocks(t.Context(), blocker); err != nil || len(all) != im.MaxBlocks {
		t.Errorf("%d blocks, %v", len(all), err)
	}
}

// race runs each at the same time, rounds times.
func race(rounds int, round func(n int) []func()) {
	for n := range rounds {
		var wg sync.WaitGroup
		for _, f := range round(n) {
			wg.Go(f)
		}
		wg.Wait()
	}
}

func raceTwoAccepts(t *testing.T, db *DB) {
	race(20, func(int) []func() {
		a, b := newUser(t, db), newUser(t, db)
		id := mustRequest(t, db, a, b)
		var mu sync.Mutex
		events := 0
		accept := func() {
			c, err := db.AcceptContact(t.Context(), b, id)
			if err != nil || c.Mine.State != im.ContactYes {
				t.Errorf("%+v, %v", c, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if c.Event != "" {
				events++
			}
			if events > 1 {
				t.Error("accepted twice")
			}
		}
		return []func(){accept, accept, accept}
	})
}

func raceAcceptWithdraw(t *testing.T, db *DB) {
	won := map[string]int{}
	for range 20 {
		a, b := newUser(t, db), newUser(t, db)
		id := mustRequest(t, db, a, b)
		var accepted, withdrawn error
		race(1, func(int) []func() {
			return []func(){
				func() { _, accepted = db.AcceptContact(t.Context(), b, id) },
				func() { _, withdrawn = db.WithdrawContact(t.Context(), a, id) },
			}
		})
		switch {
		case accepted == nil && errors.Is(withdrawn, im.ErrConflict):
			won["accept"]++
			wantStates(t, db, a, b, im.ContactYes, im.ContactYes)
		case errors.Is(accepted, im.ErrNotFound) && withdrawn == nil:
			won["withdraw"]++
			wantStates(t, db, a, b, im.ContactNone, im.ContactNone)
		default:
			t.Errorf("accept: %v, withdraw: %v", accepted, withdrawn)
		}
	}
	t.Log(won)
}

func raceCrossing(t *testing.T, db *DB) {
	for range 20 {
		a, b := newUser(t, db), newUser(t, db)
		race(1, func(int) []func() {
			ask := func(from, to im.UserID) func() {
				return func() {
					if _, err := db.RequestContact(t.Context(), from, to, "hi"); err != nil {
						t.Error(err)
					}
				}
			}
			return []func(){ask(a, b), ask(b, a), ask(a, b), ask(b, a)}
		})
		wantStates(t, db, a, b, im.ContactYes, im.ContactYes)
	}
}

func raceRequestBlock(t *testing.T, db *DB) {
	for range 20 {
		a, b := newUser(t, db), newUser(t, db)
		var asked error
		race(1, func(int) []func() {
			return []func(){
				func() { _, asked = db.RequestContact(t.Context(), a, b, "hi") },
				func() {
					if _, err := db.SetBlock(t.Context(), b, a, true); err != nil {
						t.Error(err)
					}
				},
			}
		})
		if asked != nil && !errors.Is(asked, im.ErrBlocked) {
			t.Error(asked)
		}
		if got := entryOf(t, db, b, a).State; got != im.ContactNone {
			t.Errorf("who has blocked is left with %s", got)
		}
	}
}

func raceRemove(t *testing.T, db *DB) {
	for range 20 {
		a, b := newUser(t, db), newUser(t, db)
		befriend(t, db, a, b)
		remove := func(u, peer im.UserID) func() {
			return func() {
				if _, err := db.RemoveContact(t.Context(), u, peer); err != nil {
					t.Error(err)
				}
			}
		}
		race(1, func(int) []func() { return []func(){remove(a, b), remove(b, a)} })
		wantStates(t, db, a, b, im.ContactNone, im.ContactNone)
		if v, err := db.ContactsVersion(t.Context(), a); err != nil || v != 3 {
			t.Errorf("removed once, version %d, %v", v, err)
		}
	}
}

// raceEverybody lets six people do everything to each other at once, while a reader
// follows one of them by version: what it knows at the end is what the table holds,
// and the two sides of each pair agree.
func raceEverybody(t *testing.T, db *DB) {
	people := make([]im.UserID, 6)
	for i := range people {
		people[i] = newUser(t, db)
	}
	watched := people[3]
	known := map[im.UserID]im.Contact{}
	var at uint64
	follow := func() {
		for {
			page, err := db.ContactsSince(t.Context(), watched, at, 3)
			if err != nil || page.Full || page.Version < at {
				t.Errorf("follow: %+v, %v", page, err)
				return
			}
			for _, c := range page.Items {
				known[c.Peer] = c
			}
			at = page.Version
			if !page.HasMore {
				return
			}
		}
	}
	var workers, reader sync.WaitGroup
	done := make(chan struct{})
	reader.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				follow()
			}
		}
	})
	for w, u := range people {
		workers.Go(func() {
			for i := range 40 {
				peer := people[(w+1+i%5)%6]
				var err error
				switch i % 4 {
				case 0, 1:
					_, err = db.RequestContact(t.Context(), u, peer, "hi")
				case 2:
					_, err = db.RemoveContact(t.Context(), u, peer)
				case 3:
					var items []im.Contact
					if items, _, err = db.ContactRequests(t.Context(), u, true, 0, 10); err == nil && len(items) > 0 {
						_, err = db.RefuseContact(t.Context(), u, items[0].Request)
					}
				}
				if err != nil && !errors.Is(err, im.ErrNotFound) && !errors.Is(err, im.ErrConflict) {
					t.Errorf("%d: %v", u, err)
				}
			}
		})
	}
	workers.Wait()
	close(done)
	reader.Wait()
	follow()
	opposite := map[im.ContactState]im.ContactState{im.ContactYes: im.ContactYes, im.ContactOutgoing: im.ContactIncoming,
		im.ContactIncoming: im.ContactOutgoing, im.ContactNone: im.ContactNone, im.ContactRefused: im.ContactNone}
	for _, a := range people {
		for _, b := range people {
			if a == b {
				continue
			}
			mine, theirs := entryOf(t, db, a, b), entryOf(t, db, b, a)
			if theirs.State != im.ContactRefused && opposite[mine.State] != theirs.State && mine.State != im.ContactRefused {
				t.Errorf("%d has %s, %d has %s", a, mine.State, b, theirs.State)
			}
			if a == watched && mine.Version > 0 && known[b] != mine {
				t.Errorf("the reader knows %+v, the table has %+v", known[b], mine)
			}
		}
	}
}

// fullBook is a user with 3,000 contacts, 900 who are no more and 900 requests each
// way, and the queries that must not care.
func fullBook(t testing.TB, db *DB) []plannedQuery {
	u, peer := newUser(t, db), newUser(t, db)
	var contacts, requests []any
	for i := range 5700 {
		other, state := 1<<42+i, stateContact
		switch {
		case i >= 4800:
			state = stateOutgoing
			requests = append(requests, 1<<42+i, u, other)
		case i >= 3900:
			state = stateIncoming
			requests = append(requests, 1<<42+i, other, u)
		case i >= 3000:
			state = stateNone
		}
		contacts = append(contacts, u, other, state, 1<<42+i, i+1, other, u, state, 1<<42+i, 1)
	}
	insert := func(head, row string, width int, args []any) {
		t.Helper()
		for part := range slices.Chunk(args, 500*width) {
			_, err := db.w.Exec(repeat(head, row, ", ", len(part)/width, ""), part...)
			must(t, err)
		}
	}
	insert("INSERT INTO contacts (user_id, peer_id, state, request_id, version, remark, changed_at) VALUES ", "(?, ?, ?, ?, ?, '', 0)", 5, contacts)
	insert("INSERT INTO contact_requests (id, from_id, to_id, message, created_at) VALUES ", "(?, ?, ?, 'hi', 0)", 3, requests)
	must(t, db.SetMessagePolicy(t.Context(), u, im.MessagesFromContacts))
	befriend(t, db, peer, u)
	return []plannedQuery{
		{"Peer", peerQuery, []any{uint64(peer), uint64(peer), stateContact, uint64(peer), uint64(u)}, 6},
		{"Peers", repeat(peersHead, peersRow, peersJoin, 2, peersEnd), []any{stateContact, uint64(peer), uint64(u), uint64(u), uint64(peer)}, 20},
		{"Contacts", db.d.contactsQuery(), []any{uint64(u), 1<<42 + 100, stateContact, stateOutgoing, stateIncoming, 101}, 3 * 101},
		{"ContactsSince", contactsSince, []any{uint64(u), 5000, 101}, 3 * 101},
		{"ContactRequests incoming", contactRequests(true), []any{uint64(u), uint64(im.MaxID), 51}, 3 * 51},
		{"ContactRequests outgoing", contactRequests(false), []any{uint64(u), uint64(im.MaxID), 51}, 3 * 51},
	}
}

// BenchmarkPeer is what each send asks once in 2 s and recipient.
func BenchmarkPeer(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		u, peer := newUser(b, db), newUser(b, db)
		fullBook(b, db)
		befriend(b, db, u, peer)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := db.Peer(b.Context(), u, peer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
