package storage

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestPushTokens(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"AToken_ReachesOneDevice":           testPushTokenMoves,
		"AToken_EndsWithItsLogin":           testPushTokenEnds,
		"AToken_TakenByManyAtOnceHasOne":    testPushTokenRace,
		"GoneTokens_AreDroppedWhereTheyAre": testDropPushTokens,
		"NotifyTargets_AreWhoIsToBeTold":    testNotifyTargets,
		"NotifyTargets_ArePaged":            testNotifyPages,
	})
}

func newDevice(t testing.TB, db *DB, u im.UserID, d im.DeviceID) {
	t.Helper()
	_, err := db.SaveLogin(t.Context(), login(u, d))
	must(t, err)
}

// reachable is a device with a token of its own.
func reachable(t testing.TB, db *DB, u im.UserID, d im.DeviceID) im.PushTarget {
	t.Helper()
	newDevice(t, db, u, d)
	target := im.PushTarget{User: u, Device: d, Provider: "fcm", Token: fmt.Sprintf("token-%d", number.Add(1))}
	must(t, db.SetPushToken(t.Context(), target))
	return target
}

func pushTokens(t testing.TB, db *DB, u im.UserID) []im.PushTarget {
	t.Helper()
	all, err := queryAll(t.Context(), db.r, func(rows *sql.Rows) (p im.PushTarget, err error) {
		return p, rows.Scan(&p.User, &p.Device, &p.Provider, &p.Token)
	}, "SELECT user_id, device, push_provider, push_token FROM devices WHERE user_id = ? AND push_hash IS NOT NULL ORDER BY device", u)
	must(t, err)
	return all
}

func testPushTokenMoves(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	first := reachable(t, db, a, "phone")
	must(t, db.SetPushToken(t.Context(), first)) // again
	if got := pushTokens(t, db, a); !slices.Equal(got, []im.PushTarget{first}) {
		t.Errorf("%+v", got)
	}
	newDevice(t, db, b, "tablet")
	moved := first
	moved.User, moved.Device = b, "tablet"
	must(t, db.SetPushToken(t.Context(), moved))
	if got := append(pushTokens(t, db, a), pushTokens(t, db, b)...); !slices.Equal(got, []im.PushTarget{moved}) {
		t.Errorf("after another took it: %+v", got)
	}
	must(t, db.ClearPushToken(t.Context(), b, "tablet"))
	if got := pushTokens(t, db, b); len(got) > 0 {
		t.Errorf("cleared: %+v", got)
	}
	moved.Device = "unknown"
	if err := db.SetPushToken(t.Context(), moved); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("an unknown device: %v", err)
	}
	long := im.PushTarget{User: b, Device: "tablet", Provider: strings.Repeat("p", im.MaxPushProviderBytes), Token: strings.Repeat("t", im.MaxPushTokenBytes)}
	must(t, db.SetPushToken(t.Context(), long))
	if got := pushTokens(t, db, b); !slices.Equal(got, []im.PushTarget{long}) {
		t.Errorf("the longest: %+v", got)
	}
}

func testPushTokenEnds(t *testing.T, db *DB) {
	u := newUser(t, db)
	reachable(t, db, u, "a")
	reachable(t, db, u, "b")
	must(t, db.RevokeDevice(t.Context(), u, "a"))
	if got := pushTokens(t, db, u); len(got) != 1 || got[0].Device != "b" {
		t.Errorf("after a was revoked: %+v", got)
	}
	if err := db.SetPushToken(t.Context(), im.PushTarget{User: u, Device: "a", Provider: "fcm", Token: "x"}); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("of a revoked device: %v", err)
	}
	newDevice(t, db, u, "b")
	if got := pushTokens(t, db, u); len(got) != 1 {
		t.Errorf("after b logged in anew: %+v", got)
	}
	must(t, db.SetPassword(t.Context(), u, "new"))
	if got := pushTokens(t, db, u); len(got) != 0 {
		t.Errorf("after the password was changed: %+v", got)
	}
}

func testPushTokenRace(t *testing.T, db *DB) {
	users := make([]im.UserID, 8)
	for i := range users {
		users[i] = newUser(t, db)
		reachable(t, db, users[i], "phone")
	}
	shared := fmt.Sprintf("shared-%d", number.Add(1))
	var wg sync.WaitGroup
	for _, u := range users {
		wg.Go(func() {
			if err := db.SetPushToken(t.Context(), im.PushTarget{User: u, Device: "phone", Provider: "fcm", Token: shared}); err != nil && !errors.Is(err, im.ErrStore) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	holders := 0
	for _, u := range users {
		for _, p := range pushTokens(t, db, u) {
			if p.Token == shared {
				holders++
			}
		}
	}
	if holders != 1 {
		t.Errorf("%d devices have it", holders)
	}
}

func testDropPushTokens(t *testing.T, db *DB) {
	u := newUser(t, db)
	old, kept := reachable(t, db, u, "a"), reachable(t, db, u, "b")
	renewed := reachable(t, db, u, "c")
	stale := renewed
	stale.Token = "before"
	must(t, db.DropPushTokens(t.Context(), []im.PushTarget{old, stale}))
	if got := pushTokens(t, db, u); !slices.Equal(got, []im.PushTarget{kept, renewed}) {
		t.Errorf("%+v", got)
	}
}

func testNotifyTargets(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	phone, tablet := reachable(t, db, b, "phone"), reachable(t, db, b, "tablet")
	newDevice(t, db, b, "web") // without a token
	reachable(t, db, a, "phone")
	fill(t, db, c, 3, a)
	q := im.NotifyQuery{Conversation: c, Seq: 2, Sender: a, Limit: 10}
	told := func(what string, want ...im.PushTarget) {
		t.Helper()
		got, more, err := db.NotifyTargets(t.Context(), q)
		must(t, err)
		if !slices.Equal(got, want) || more {
			t.Errorf("%s: %+v", what, got)
		}
	}
	set := func(query string, args ...any) {
		t.Helper()
		_, err := db.w.Exec(query, args...)
		must(t, err)
	}
	told("both devices of the other", phone, tablet)
	q.Users = []im.UserID{a, b}
	told("asked for by name", phone, tablet)
	q.Users = []im.UserID{a}
	told("the sender by name")
	q.Users = nil

	mute := im.MutedForever
	_, err := db.ChangeSettings(t.Context(), b, c, im.SettingsChange{MutedUntil: &mute}, false)
	must(t, err)
	told("who has muted it")
	mute = 1
	_, err = db.ChangeSettings(t.Context(), b, c, im.SettingsChange{MutedUntil: &mute}, false)
	must(t, err)
	told("whose mute is over", phone, tablet)

	must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: b, Read: 1}}))
	told("who has read less", phone, tablet)
	set("UPDATE messages SET recalled_at = 5 WHERE conversation = ? AND seq = 2", c)
	told("of what was recalled")
	set("UPDATE messages SET recalled_at = 0 WHERE conversation = ? AND seq = 2", c)
	set("UPDATE members SET floor_seq = 2 WHERE conversation = ? AND user_id = ?", c, b)
	told("who has deleted it")
	set("UPDATE members SET floor_seq = 0, join_seq = 3 WHERE conversation = ? AND user_id = ?", c, b)
	told("who came later")
	set("UPDATE members SET join_seq = 1, joined_seq = 1, leave_seq = 3 WHERE conversation = ? AND user_id = ?", c, b)
	told("who has left")
	set("UPDATE members SET joined_seq = 0, leave_seq = 0 WHERE conversation = ? AND user_id = ?", c, b)
	set("UPDATE users SET state = 1 WHERE id = ?", b)
	told("who is banned")
	set("UPDATE users SET state = 0 WHERE id = ?", b)
	must(t, db.RevokeDevice(t.Context(), b, "phone"))
	told("who logged out of one", tablet)
	must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: b, Read: 2}}))
	told("who has read it")
}

func testNotifyPages(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	var want []im.PushTarget
	for i := range 7 {
		want = append(want, reachable(t, db, b, im.DeviceID(fmt.Sprintf("d%d", i))))
	}
	fill(t, db, c, 1, a)
	var got []im.PushTarget
	for q := (im.NotifyQuery{Conversation: c, Seq: 1, Sender: a, Limit: 3}); ; {
		all, more, err := db.NotifyTargets(t.Context(), q)
		must(t, err)
		got = append(got, all...)
		if !more {
			break
		}
		last := all[len(all)-1]
		q.AfterUser, q.AfterDevice = last.User, last.Device
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
