package storage

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestUsers(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"CreateUser_TakenHandleIsAConflict":          testCreateUser,
		"CreateUser_NicknameComesBackAsItWas":        testNickname,
		"UpsertExternal_CreatesUpdatesAndKeepsOrder": testUpsertExternal,
		"UpsertExternal_ForeignHandleChangesNothing": testUpsertForeignHandle,
		"UpdateProfile_NilLeavesAlone":               testUpdateProfile,
		"ProfilesByID_UnknownIsLeftOut":              testProfilesByID,
		"SetPassword_EndsEveryToken":                 testSetPassword,
		"Blocks_TwiceIsFine":                         testBlocks,
		"Peer_UnknownBannedAndBlocking":              testPeer,
	})
}

func testCreateUser(t *testing.T, db *DB) {
	handle := fmt.Sprintf("taken%d", number.Add(1))
	p, err := db.CreateUser(t.Context(), im.NewUser{Handle: handle, Nickname: "A", Avatar: "https://a", PasswordHash: "$argon2id$x"})
	must(t, err)
	if want := (im.Profile{ID: p.ID, Handle: handle, Nickname: "A", Avatar: "https://a"}); p != want || p.ID == 0 {
		t.Errorf("got %+v, want %+v", p, want)
	}
	if _, err := db.CreateUser(t.Context(), im.NewUser{Handle: handle}); !errors.Is(err, im.ErrConflict) {
		t.Errorf("taken handle: %v", err)
	}
	acc, err := db.AccountByHandle(t.Context(), handle)
	must(t, err)
	if acc.Profile != p || acc.PasswordHash != "$argon2id$x" || !acc.Active {
		t.Errorf("account %+v", acc)
	}
	if u, err := db.HandleID(t.Context(), handle); err != nil || u != p.ID {
		t.Errorf("HandleID = %d, %v", u, err)
	}
	for _, unknown := range []string{strings.ToUpper(handle), handle + " ", "", "nobody"} {
		if _, err := db.AccountByHandle(t.Context(), unknown); err != im.ErrNotFound {
			t.Errorf("AccountByHandle(%q): %v", unknown, err)
		}
		if _, err := db.HandleID(t.Context(), unknown); err != im.ErrNotFound {
			t.Errorf("HandleID(%q): %v", unknown, err)
		}
	}
}

func testNickname(t *testing.T, db *DB) {
	for _, nick := range []string{"\\'\"; DROP TABLE users; --", "👩‍👩‍👧", "a\x00b", " trailing ", strings.Repeat("𝛼", 255), "%_"} {
		p, err := db.CreateUser(t.Context(), im.NewUser{Handle: fmt.Sprintf("nick%d", number.Add(1)), Nickname: nick})
		must(t, err)
		found, err := db.ProfilesByID(t.Context(), []im.UserID{p.ID})
		if err != nil || found[p.ID].Nickname != nick {
			t.Errorf("%q came back as %q, %v", nick, found[p.ID].Nickname, err)
		}
	}
	if _, err := db.CreateUser(t.Context(), im.NewUser{Handle: "toolong", Nickname: strings.Repeat("ü", 256)}); !errors.Is(err, im.ErrUnstorable) {
		t.Errorf("nickname of 256: %v", err)
	}
}

func testUpsertExternal(t *testing.T, db *DB) {
	n := number.Add(1)
	var users []im.ExternalUser
	for i := range 20 {
		users = append(users, im.ExternalUser{ExternalID: fmt.Sprintf("Ext-%d-%d", n, 20-i), Handle: fmt.Sprintf("e%d-%d", n, i), Nickname: "N"})
	}
	first, err := db.UpsertExternal(t.Context(), users)
	must(t, err)
	users[3].Nickname, users[4].Avatar = "changed", "https://b"
	users = append(users, im.ExternalUser{ExternalID: fmt.Sprintf("new-%d", n), Handle: fmt.Sprintf("new%d", n)},
		im.ExternalUser{ExternalID: strings.ToLower(users[0].ExternalID), Handle: fmt.Sprintf("lower%d", n)}) // another user
	second, err := db.UpsertExternal(t.Context(), users)
	must(t, err)
	ids := map[im.UserID]bool{}
	for i, p := range second {
		if want := (im.Profile{ID: p.ID, Handle: users[i].Handle, Nickname: users[i].Nickname, Avatar: users[i].Avatar}); p != want {
			t.Errorf("user %d: %+v, want %+v", i, p, want)
		}
		if i < len(first) && first[i].ID != p.ID {
			t.Errorf("user %d was %d, is %d", i, first[i].ID, p.ID)
		}
		ids[p.ID] = true
	}
	if len(ids) != len(users) {
		t.Errorf("%d users have %d IDs", len(users), len(ids))
	}
	if u, err := db.UserByExternalID(t.Context(), users[7].ExternalID); err != nil || u != second[7].ID {
		t.Errorf("UserByExternalID = %d, %v", u, err)
	}
	if _, err := db.UserByExternalID(t.Context(), "unknown"); err != im.ErrNotFound {
		t.Errorf("unknown external ID: %v", err)
	}
	if none, err := db.UpsertExternal(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("of nobody: %v, %v", none, err)
	}
}

func testUpsertForeignHandle(t *testing.T, db *DB) {
	u := newUser(t, db)
	taken := mustProfile(t, db, u)
	n := number.Add(1)
	_, err := db.UpsertExternal(t.Context(), []im.ExternalUser{
		{ExternalID: fmt.Sprintf("x%d", n), Handle: fmt.Sprintf("x%d", n)}, {ExternalID: fmt.Sprintf("y%d", n), Handle: taken.Handle, Nickname: "thief"}})
	if !errors.Is(err, im.ErrConflict) || !strings.Contains(err.Error(), taken.Handle) {
		t.Fatalf("foreign handle: %v", err)
	}
	if now := mustProfile(t, db, u); now != taken {
		t.Errorf("the owner became %+v", now)
	}
	if _, err := db.UserByExternalID(t.Context(), fmt.Sprintf("x%d", n)); err != im.ErrNotFound {
		t.Errorf("part of the batch was kept: %v", err)
	}
}

func mustProfile(t *testing.T, db *DB, u im.UserID) im.Profile {
	t.Helper()
	found, err := db.ProfilesByID(t.Context(), []im.UserID{u})
	must(t, err)
	return found[u]
}

func testUpdateProfile(t *testing.T, db *DB) {
	u := newUser(t, db)
	before := mustProfile(t, db, u)
	nick, avatar := "New 🐦", "https://c"
	p, err := db.UpdateProfile(t.Context(), u, &nick, nil)
	must(t, err)
	if p.Nickname != nick || p.Avatar != before.Avatar || p.Handle != before.Handle {
		t.Errorf("after the nickname: %+v", p)
	}
	p, err = db.UpdateProfile(t.Context(), u, nil, &avatar)
	must(t, err)
	if p.Nickname != nick || p.Avatar != avatar || p != mustProfile(t, db, u) {
		t.Errorf("after the avatar: %+v", p)
	}
	if _, err := db.UpdateProfile(t.Context(), im.MaxID, &nick, nil); err != im.ErrNotFound {
		t.Errorf("unknown user: %v", err)
	}
}

func testProfilesByID(t *testing.T, db *DB) {
	a, b := newUser(t, db), newUser(t, db)
	found, err := db.ProfilesByID(t.Context(), []im.UserID{a, im.MaxID, b, a, im.SystemUser})
	must(t, err)
	want := map[im.UserID]im.Profile{a: mustProfile(t, db, a), b: mustProfile(t, db, b)}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
}

func testSetPassword(t *testing.T, db *DB) {
	u := newUser(t, db)
	refresh := [32]byte{byte(u), byte(u >> 8), 1}
	s, err := db.SaveLogin(t.Context(), im.Login{User: u, Device: "phone", RefreshHash: refresh, RefreshExpires: im.MaxID})
	must(t, err)
	must(t, db.SetPassword(t.Context(), u, "next"))
	now, err := db.AuthState(t.Context(), u, "phone")
	must(t, err)
	if now.TokenVersion <= s.TokenVersion || !now.Active || !now.DeviceKnown {
		t.Errorf("was %+v, is %+v", s, now)
	}
	if _, _, err := db.RotateRefresh(t.Context(), refresh, [32]byte{9}, im.MaxID); !errors.Is(err, im.ErrUnauthenticated) {
		t.Errorf("refresh token after a password change: %v", err)
	}
	if err := db.SetPassword(t.Context(), im.MaxID, "x"); err != im.ErrNotFound {
		t.Errorf("unknown user: %v", err)
	}
}

func testBlocks(t *testing.T, db *DB) {
	a, b, c := newUser(t, db), newUser(t, db), newUser(t, db)
	for range 2 {
		mustBlock(t, db, a, c, true)
		mustBlock(t, db, a, b, true)
	}
	if list, err := db.Blocks(t.Context(), a); err != nil || !reflect.DeepEqual(list, []im.UserID{b, c}) {
		t.Errorf("blocks %v, %v", list, err)
	}
	for range 2 {
		mustBlock(t, db, a, b, false)
	}
	if list, err := db.Blocks(t.Context(), a); err != nil || !reflect.DeepEqual(list, []im.UserID{c}) {
		t.Errorf("blocks %v, %v", list, err)
	}
	if list, err := db.Blocks(t.Context(), c); err != nil || len(list) != 0 {
		t.Errorf("the blocked one's blocks %v, %v", list, err)
	}
}

func mustBlock(t *testing.T, db *DB, u, blocked im.UserID, on bool) {
	t.Helper()
	_, err := db.SetBlock(t.Context(), u, blocked, on)
	must(t, err)
}

func testPeer(t *testing.T, db *DB) {
	a, b, banned := newUser(t, db), newUser(t, db), newUser(t, db)
	mustBlock(t, db, b, a, true)
	friend := newUser(t, db)
	befriend(t, db, a, friend)
	must(t, db.SetMessagePolicy(t.Context(), friend, im.MessagesFromContacts))
	_, err := db.w.Exec("UPDATE users SET state = 1 WHERE id = ?", banned)
	must(t, err)
	rows := []struct {
		from, to im.UserID
		want     im.Peer
	}{
		{a, b, im.Peer{Exists: true, Blocked: true}},
		{b, a, im.Peer{Exists: true}},
		{a, a, im.Peer{Exists: true}},
		{a, friend, im.Peer{Exists: true, Contact: true, ContactsOnly: true}},
		{friend, a, im.Peer{Exists: true, Contact: true}},
		{b, friend, im.Peer{Exists: true, ContactsOnly: true}},
		{a, banned, im.Peer{}},
		{a, im.MaxID, im.Peer{}},
		{im.SystemUser, a, im.Peer{Exists: true}},
		{a, im.SystemUser, im.Peer{}},
	}
	var together []peerKey
	for _, row := range rows {
		together = append(together, peerKey{row.from, row.to})
		if got, err := db.Peer(t.Context(), row.from, row.to); err != nil || got != row.want {
			t.Errorf("Peer(%d, %d) = %+v, %v, want %+v", row.from, row.to, got, err, row.want)
		}
	}
	found, err := db.readPeers(t.Context(), together)
	must(t, err)
	for _, row := range rows {
		if got := found[peerKey{row.from, row.to}]; got != row.want {
			t.Errorf("asked together, %d of %d: %+v, want %+v", row.from, row.to, got, row.want)
		}
	}
	if s, err := db.AuthState(t.Context(), banned, "d"); err != nil || s.Active {
		t.Errorf("banned: %+v, %v", s, err)
	}
}
