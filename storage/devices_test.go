package storage

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestDevices(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"SaveLogin_RenewsTheDeviceAndEndsItsOldRefreshToken": testSaveLogin,
		"SaveLogin_ForgetsTheDeviceNotSeenForLongest":        testTooManyDevices,
		"RotateRefresh_OnceThenRevokes":                      testRotateRefresh,
		"RotateRefresh_ALostAnswerIsGivenAgain":              testRotateAgain,
		"RotateRefresh_TwoHoldersEndTheDevice":               testRotateStolen,
		"RotateRefresh_ExpiredOrBannedIsRefused":             testRotateRefused,
		"RotateRefresh_AtTheSameMomentTheLastHolds":          testRotateRace,
		"RevokeDevice_RaisesTheVersionOnce":                  testRevokeDevice,
		"SaveLogin_ByAPasswordThatWasReplacedIsRefused":      testSaveLoginPassword,
		"AuthState_UnknownUserIsNotActive":                   testAuthStateUnknown,
		"AuthState_ThoseWhoAskTogetherGetTheirOwn":           testAuthStateTogether,
	})
}

func token() [32]byte { return [32]byte([]byte(fmt.Sprintf("%032d", number.Add(1)))) }

func login(u im.UserID, d im.DeviceID) im.Login {
	return im.Login{User: u, Device: d, Platform: "web", RefreshHash: token(), RefreshExpires: im.MaxID}
}

func testSaveLoginPassword(t *testing.T, db *DB) {
	u := newUser(t, db)
	must(t, db.SetPassword(t.Context(), u, "new"))
	l := login(u, "phone")
	l.PasswordHash = "old"
	if _, err := db.SaveLogin(t.Context(), l); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("by the old one: %v", err)
	}
	if _, _, err := db.RotateRefresh(t.Context(), l.RefreshHash, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("its refresh token: %v", err)
	}
	l.PasswordHash = "new"
	_, err := db.SaveLogin(t.Context(), l)
	must(t, err)
}

func testSaveLogin(t *testing.T, db *DB) {
	u := newUser(t, db)
	first := login(u, "phone")
	s, err := db.SaveLogin(t.Context(), first)
	must(t, err)
	if !s.Active || !s.DeviceKnown || s.DeviceVersion == 0 {
		t.Fatalf("first login: %+v", s)
	}
	again := login(u, "phone")
	again.Platform = "ios"
	s2, err := db.SaveLogin(t.Context(), again)
	must(t, err)
	if s2 != s {
		t.Errorf("second login: %+v, was %+v", s2, s)
	}
	if _, _, err := db.RotateRefresh(t.Context(), first.RefreshHash, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("the first login's refresh token: %v", err)
	}
	l, _, err := db.RotateRefresh(t.Context(), again.RefreshHash, token(), im.MaxID)
	if err != nil || l.User != u || l.Device != "phone" || l.Platform != "ios" {
		t.Errorf("the second login's refresh token: %+v, %v", l, err)
	}
	_, err = db.SaveLogin(t.Context(), login(u, "Phone")) // another device
	must(t, err)
	list, err := db.Devices(t.Context(), u)
	must(t, err)
	if len(list) != 2 || list[0].CreatedAt == 0 || list[0].SeenAt < list[0].CreatedAt {
		t.Errorf("devices %+v", list)
	}
	if _, err := db.SaveLogin(t.Context(), login(im.MaxID, "phone")); err != im.ErrNotFound {
		t.Errorf("unknown user: %v", err)
	}
}

func testTooManyDevices(t *testing.T, db *DB) {
	u := newUser(t, db)
	for i := range maxDevices + 3 {
		_, err := db.SaveLogin(t.Context(), login(u, im.DeviceID(fmt.Sprintf("d%03d", i))))
		must(t, err)
		// Seen a second apart: no clock is waited for.
		_, err = db.w.Exec("UPDATE devices SET seen_at = ? WHERE user_id = ? AND device = ?", int64(i)*1000, u, fmt.Sprintf("d%03d", i))
		must(t, err)
	}
	var n int
	must(t, db.r.QueryRow("SELECT COUNT(*) FROM devices WHERE user_id = ?", u).Scan(&n))
	s, err := db.AuthState(t.Context(), u, "d000")
	if n > maxDevices || err != nil || s.DeviceKnown {
		t.Errorf("%d devices; the oldest: %+v, %v", n, s, err)
	}
}

func testRotateRefresh(t *testing.T, db *DB) {
	u := newUser(t, db)
	l := login(u, "phone")
	s, err := db.SaveLogin(t.Context(), l)
	must(t, err)
	next := token()
	got, s2, err := db.RotateRefresh(t.Context(), l.RefreshHash, next, 1<<50)
	must(t, err)
	if want := (im.Login{User: u, Device: "phone", Platform: "web", RefreshHash: next, RefreshExpires: 1 << 50}); got != want || s2 != s {
		t.Errorf("got %+v %+v, want %+v %+v", got, s2, want, s)
	}
	if _, _, err := db.RotateRefresh(t.Context(), token(), token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("unknown token: %v", err)
	}
	minuteLater(t, db, u)
	if _, _, err := db.RotateRefresh(t.Context(), l.RefreshHash, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("exchanged token: %v", err)
	}
	if now, err := db.AuthState(t.Context(), u, "phone"); err != nil || now.DeviceKnown || now.DeviceVersion <= s.DeviceVersion {
		t.Errorf("after reuse: %+v, %v", now, err)
	}
	if _, _, err := db.RotateRefresh(t.Context(), next, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("the other holder's token: %v", err)
	}
	back, err := db.SaveLogin(t.Context(), login(u, "phone"))
	if err != nil || !back.DeviceKnown || back.DeviceVersion <= s.DeviceVersion {
		t.Errorf("logged in again: %+v, %v", back, err)
	}
}

// minuteLater moves the last exchange of a user's tokens back: no clock is waited for.
func minuteLater(t *testing.T, db *DB, u im.UserID) {
	t.Helper()
	_, err := db.w.Exec("UPDATE devices SET refreshed_at = refreshed_at - 60000 WHERE user_id = ?", u)
	must(t, err)
}

func testRotateAgain(t *testing.T, db *DB) {
	u := newUser(t, db)
	l := login(u, "phone")
	s, err := db.SaveLogin(t.Context(), l)
	must(t, err)
	held := l.RefreshHash
	for range 3 { // each exchange loses two answers
		var next [32]byte
		for range 3 {
			next = token()
			got, s2, err := db.RotateRefresh(t.Context(), held, next, im.MaxID)
			if err != nil || got.User != u || got.Device != "phone" || got.RefreshHash != next || s2 != s {
				t.Fatalf("%+v %+v, %v", got, s2, err)
			}
		}
		held = next
		minuteLater(t, db, u)
	}
	if now, err := db.AuthState(t.Context(), u, "phone"); err != nil || now != s {
		t.Errorf("%+v, %v", now, err)
	}
	must(t, db.SetPassword(t.Context(), u, "new"))
	last := held
	if _, _, err := db.RotateRefresh(t.Context(), last, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("after a new password: %v", err)
	}
}

// Whatever a second holder does with a token, one of the two is seen sooner or later.
func testRotateStolen(t *testing.T, db *DB) {
	for name, steps := range map[string]func(rotate func(old [32]byte) (next [32]byte, err error), later func(), first [32]byte) error{
		"within the minute, the owner goes on": func(rotate func([32]byte) ([32]byte, error), later func(), first [32]byte) error {
			owners, err := rotate(first)
			must(t, err)
			_, err = rotate(first) // the thief's
			must(t, err)
			_, err = rotate(owners)
			return err
		},
		"within the minute, the thief goes on first": func(rotate func([32]byte) ([32]byte, error), later func(), first [32]byte) error {
			owners, err := rotate(first)
			must(t, err)
			thiefs, err := rotate(first)
			must(t, err)
			_, err = rotate(thiefs)
			must(t, err)
			later()
			_, err = rotate(owners)
			return err
		},
		"later": func(rotate func([32]byte) ([32]byte, error), later func(), first [32]byte) error {
			_, err := rotate(first)
			must(t, err)
			later()
			_, err = rotate(first)
			return err
		},
	} {
		u := newUser(t, db)
		l := login(u, "phone")
		_, err := db.SaveLogin(t.Context(), l)
		must(t, err)
		rotate := func(old [32]byte) (next [32]byte, err error) {
			next = token()
			_, _, err = db.RotateRefresh(t.Context(), old, next, im.MaxID)
			return next, err
		}
		if err := steps(rotate, func() { minuteLater(t, db, u) }, l.RefreshHash); !errors.Is(err, im.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := db.AuthState(t.Context(), u, "phone"); err != nil || now.DeviceKnown {
			t.Errorf("%s: the device stands: %+v, %v", name, now, err)
		}
	}
}

func testRotateRefused(t *testing.T, db *DB) {
	u := newUser(t, db)
	l := login(u, "phone")
	l.RefreshExpires = 1
	_, err := db.SaveLogin(t.Context(), l)
	must(t, err)
	if _, _, err := db.RotateRefresh(t.Context(), l.RefreshHash, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("expired: %v", err)
	}
	l = login(u, "phone")
	_, err = db.SaveLogin(t.Context(), l)
	must(t, err)
	_, err = db.w.Exec("UPDATE users SET state = 1 WHERE id = ?", u)
	must(t, err)
	if _, _, err := db.RotateRefresh(t.Context(), l.RefreshHash, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("banned: %v", err)
	}
}

func testRotateRace(t *testing.T, db *DB) {
	for range 10 {
		u := newUser(t, db)
		l := login(u, "phone")
		s, err := db.SaveLogin(t.Context(), l)
		must(t, err)
		var wg sync.WaitGroup
		nexts := make([][32]byte, 4)
		for i := range nexts {
			nexts[i] = token()
			wg.Go(func() {
				if _, _, err := db.RotateRefresh(t.Context(), l.RefreshHash, nexts[i], im.MaxID); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if now, err := db.AuthState(t.Context(), u, "phone"); err != nil || now != s {
			t.Fatalf("device %+v, was %+v, %v", now, s, err)
		}
		var held []byte
		must(t, db.r.QueryRow("SELECT refresh_hash FROM devices WHERE user_id = ?", u).Scan(&held))
		if !slices.Contains(nexts, [32]byte(held)) {
			t.Errorf("none of the answers holds")
		}
	}
}

func testRevokeDevice(t *testing.T, db *DB) {
	u := newUser(t, db)
	l := login(u, "phone")
	s, err := db.SaveLogin(t.Context(), l)
	must(t, err)
	must(t, db.RevokeDevice(t.Context(), u, "phone"))
	now, err := db.AuthState(t.Context(), u, "phone")
	if err != nil || now.DeviceKnown || now.DeviceVersion != s.DeviceVersion+1 {
		t.Errorf("was %+v, is %+v, %v", s, now, err)
	}
	if list, err := db.Devices(t.Context(), u); err != nil || len(list) != 0 {
		t.Errorf("devices %v, %v", list, err)
	}
	for _, err := range []error{db.RevokeDevice(t.Context(), u, "phone"), db.RevokeDevice(t.Context(), u, "other")} {
		if err != im.ErrNotFound {
			t.Errorf("not logged in: %v", err)
		}
	}
	if _, _, err := db.RotateRefresh(t.Context(), l.RefreshHash, token(), im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("refresh token after revocation: %v", err)
	}
}

// Who connects at the same time is answered together, each with their own.
func testAuthStateTogether(t *testing.T, db *DB) {
	type asked struct {
		user   im.UserID
		device im.DeviceID
		want   im.AuthState
	}
	var all []asked
	for i := range 20 {
		u := newUser(t, db)
		for d := range i % 3 {
			l := login(u, im.DeviceID(fmt.Sprintf("d%03d", d)))
			s, err := db.SaveLogin(t.Context(), l)
			must(t, err)
			all = append(all, asked{u, l.Device, s})
		}
		all = append(all, asked{u, "another", im.AuthState{Active: true}}, asked{u + 1<<40, "phone", im.AuthState{}})
	}
	var group sync.WaitGroup
	for range 5 {
		for _, a := range all {
			group.Go(func() {
				s, err := db.AuthState(t.Context(), a.user, a.device)
				if a.device == "another" {
					s.TokenVersion = 0
				}
				if err != nil || s != a.want {
					t.Errorf("%d %s: %+v, %v, want %+v", a.user, a.device, s, err, a.want)
				}
			})
		}
	}
	group.Wait()
}

func testAuthStateUnknown(t *testing.T, db *DB) {
	if s, err := db.AuthState(t.Context(), im.MaxID, "phone"); err != nil || s != (im.AuthState{}) {
		t.Errorf("got %+v, %v", s, err)
	}
	u := newUser(t, db)
	if s, err := db.AuthState(t.Context(), u, "phone"); err != nil || !s.Active || s.DeviceKnown || s.DeviceVersion != 0 {
		t.Errorf("unknown device: %+v, %v", s, err)
	}
}
