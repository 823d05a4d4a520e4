package storage

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

func logIn(t *testing.T, db *DB, u im.UserID, d im.DeviceID) im.AuthState {
	t.Helper()
	s, err := db.SaveLogin(t.Context(), im.Login{User: u, Device: d, Platform: "ios", RefreshHash: [32]byte{byte(number.Add(1)), byte(u), byte(u >> 8), d[0]}, RefreshExpires: 1 << 50})
	must(t, err)
	return s
}

func TestSight(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"contacts, who one talks to and oneself are visible, nobody else": func(t *testing.T, db *DB) {
			me, peer, _ := newPair(t, db)
			contact, stranger, asked := newUser(t, db), newUser(t, db), newUser(t, db)
			_, err := db.RequestContact(t.Context(), me, asked, "")
			must(t, err)
			change, err := db.RequestContact(t.Context(), me, contact, "")
			must(t, err)
			_, err = db.AcceptContact(t.Context(), contact, change.Mine.Request)
			must(t, err)
			logIn(t, db, peer, "phone")
			all := []im.UserID{me, peer, contact, stranger, asked, 1 << 40, im.SystemUser}
			seen, err := db.Visible(t.Context(), me, all)
			must(t, err)
			if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, []im.UserID{me, peer, contact}) {
				t.Errorf("%v sees %v", me, got)
			}
			if seen[peer] == 0 || seen[contact] != 0 {
				t.Errorf("seen at %v", seen)
			}
			if seen, err := db.Visible(t.Context(), stranger, all[:3]); err != nil || len(seen) != 0 {
				t.Errorf("a stranger sees %v (%v)", seen, err)
			}
		},
		"who shares a small group is visible, until one of the two leaves it": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 4)
			small := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:3]})
			crowd := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[3:]})
			_, err := db.w.Exec("UPDATE chat_groups SET members = 501 WHERE id = ?", crowd.ID)
			must(t, err)
			see := func(want ...im.UserID) {
				t.Helper()
				seen, err := db.Visible(t.Context(), u[1], u)
				must(t, err)
				if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
					t.Errorf("sees %v, want %v", got, want)
				}
			}
			see(u[:3]...)
			change, err := db.RemoveMember(t.Context(), u[0], small.ID, u[2])
			done(t, db, change, err)
			see(u[:2]...)
			change, err = db.RemoveMember(t.Context(), u[1], small.ID, u[1])
			done(t, db, change, err)
			see(u[1])
		},
		"whom one has blocked sees nothing, and is told": func(t *testing.T, db *DB) {
			me, peer, _ := newPair(t, db)
			last, err := db.LastRevocation(t.Context())
			must(t, err)
			for range 2 { // again is as once
				_, err = db.SetBlock(t.Context(), me, peer, true)
				must(t, err)
			}
			if seen, err := db.Visible(t.Context(), peer, []im.UserID{me}); err != nil || len(seen) != 0 {
				t.Errorf("the blocked sees %v (%v)", seen, err)
			}
			if seen, err := db.Visible(t.Context(), me, []im.UserID{peer}); err != nil || len(seen) != 1 {
				t.Errorf("the blocker sees %v (%v)", seen, err)
			}
			told, err := db.Revocations(t.Context(), last, 10)
			must(t, err)
			if len(told) != 1 || told[0].User != peer || told[0].Hidden != me {
				t.Errorf("told %+v", told)
			}
		},
		"who is a contact no more is a stranger, but for a conversation": func(t *testing.T, db *DB) {
			for _, talked := range []bool{false, true} {
				a, b := newUser(t, db), newUser(t, db)
				if talked {
					a, b, _ = newPair(t, db)
				}
				change, err := db.RequestContact(t.Context(), a, b, "")
				must(t, err)
				_, err = db.AcceptContact(t.Context(), b, change.Mine.Request)
				must(t, err)
				last, err := db.LastRevocation(t.Context())
				must(t, err)
				_, err = db.RemoveContact(t.Context(), a, b)
				must(t, err)
				seen, err := db.Visible(t.Context(), a, []im.UserID{b})
				must(t, err)
				told, err := db.Revocations(t.Context(), last, 10)
				must(t, err)
				if (len(seen) == 1) != talked || (len(told) == 0) != talked {
					t.Errorf("talked=%v: sees %v, told %+v", talked, seen, told)
				}
			}
		},
		"when seen is raised, never lowered and never in the future": func(t *testing.T, db *DB) {
			u := newUser(t, db)
			logIn(t, db, u, "phone")
			logIn(t, db, u, "web")
			before, err := db.Visible(t.Context(), u, []im.UserID{u})
			must(t, err)
			must(t, db.MarkSeen(t.Context(), []im.DeviceSeen{{User: u, Device: "web", At: 5}, {User: u, Device: "phone", At: 6}, {User: u, Device: "none", At: 7}, {User: 1 << 40, Device: "x", At: 8}}))
			if after, err := db.Visible(t.Context(), u, []im.UserID{u}); err != nil || after[u] != before[u] {
				t.Errorf("from %d to %d (%v)", before[u], after[u], err)
			}
			must(t, db.MarkSeen(t.Context(), []im.DeviceSeen{{User: u, Device: "web", At: 1 << 50}}))
			after, err := db.Visible(t.Context(), u, []im.UserID{u})
			must(t, err)
			if after[u] < before[u] || after[u] > time.Now().Add(time.Minute).UnixMilli() {
				t.Errorf("from %d to %d", before[u], after[u])
			}
			many := make([]im.DeviceSeen, 1200)
			for i := range many {
				many[i] = im.DeviceSeen{User: u, Device: im.DeviceID(fmt.Sprint("d", i)), At: int64(i)}
			}
			must(t, db.MarkSeen(t.Context(), many))
		},
	})
}

func TestRevocations(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"name what ends and nothing newer": func(t *testing.T, db *DB) {
			u := newUser(t, db)
			phone := logIn(t, db, u, "phone")
			web := logIn(t, db, u, "web")
			last, err := db.LastRevocation(t.Context())
			must(t, err)
			must(t, db.RevokeDevice(t.Context(), u, "phone"))
			anew := logIn(t, db, u, "phone")
			must(t, db.SetPassword(t.Context(), u, "hash"))
			told, err := db.Revocations(t.Context(), last, 10)
			must(t, err)
			if len(told) != 2 {
				t.Fatalf("told %+v", told)
			}
			who := func(d im.DeviceID, s im.AuthState) *im.Identity {
				return &im.Identity{User: u, Device: d, TokenVersion: s.TokenVersion, DeviceVersion: s.DeviceVersion}
			}
			if r := told[0]; !r.Ends(who("phone", phone)) || r.Ends(who("phone", anew)) || r.Ends(who("web", web)) {
				t.Errorf("the device: %+v", r)
			}
			if r := told[1]; !r.Ends(who("phone", anew)) || !r.Ends(who("web", web)) {
				t.Errorf("the password: %+v", r)
			}
			if r := told[1]; r.Ends(who("web", logIn(t, db, u, "web"))) {
				t.Errorf("a login after it: %+v", r)
			}
			if more, err := db.Revocations(t.Context(), told[1].ID, 10); err != nil || len(more) != 0 {
				t.Errorf("behind the last: %+v (%v)", more, err)
			}
			if one, err := db.Revocations(t.Context(), last, 1); err != nil || len(one) != 1 || one[0].ID != told[0].ID {
				t.Errorf("a page: %+v (%v)", one, err)
			}
			must(t, db.ForgetRevocations(t.Context(), time.Hour))
			if still, err := db.Revocations(t.Context(), last, 10); err != nil || len(still) != 2 {
				t.Errorf("forgotten before their time: %+v (%v)", still, err)
			}
			must(t, db.ForgetRevocations(t.Context(), -time.Minute))
			if none, err := db.Revocations(t.Context(), 0, 10); err != nil || len(none) != 0 {
				t.Errorf("not forgotten: %+v (%v)", none, err)
			}
		},
		"are written for a refresh token shown twice and for a device too many": func(t *testing.T, db *DB) {
			u := newUser(t, db)
			last, err := db.LastRevocation(t.Context())
			must(t, err)
			for i := range maxDevices + 1 {
				logIn(t, db, u, im.DeviceID(fmt.Sprintf("d%03d", i)))
			}
			told, err := db.Revocations(t.Context(), last, 10)
			must(t, err)
			if len(told) != 1 || told[0].User != u || told[0].Device == "" || told[0].DeviceVersion == 0 {
				t.Errorf("told %+v", told)
			}
		},
	})
}

// However many contacts, conversations and blocks there are, a question costs a few
// seeks for each user in it.
func TestSight_TouchesAFewRowsOfEachUser(t *testing.T) {
	db := newMySQL(t)
	me := newUser(t, db)
	var asked []any
	for i := range 400 {
		peer := newUser(t, db)
		c := im.DirectConversation(me, peer)
		must(t, db.EnsureConversations(t.Context(), []im.NewConversation{{ID: c, Members: []im.UserID{me, peer}}}))
		change, err := db.RequestContact(t.Context(), me, peer, "")
		must(t, err)
		_, err = db.AcceptContact(t.Context(), peer, change.Mine.Request)
		must(t, err)
		_, err = db.SetBlock(t.Context(), peer, im.UserID(2+i%7), true)
		must(t, err)
		logIn(t, db, peer, "phone")
		if i%20 == 0 {
			asked = append(asked, uint64(peer), db.d.key(string(c)))
		}
	}
	for _, table := range []string{"users", "devices", "members", "contacts", "blocks"} {
		_, err := db.w.Exec("ANALYZE TABLE " + table)
		must(t, err)
	}
	conn, err := db.r.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	n, mine := len(asked)/2, uint64(me)
	query := repeat(db.d.sight, db.d.sightRow, db.d.rowJoin, n, db.d.sightEnd) + visibleWhere
	before := handlerReads(t, conn)
	rows, err := conn.QueryContext(t.Context(), query, append(asked, userActive, mine, mine, mine, stateContact, mine, mine)...)
	must(t, err)
	found := 0
	for rows.Next() {
		found++
	}
	must(t, rows.Close())
	if touched := handlerReads(t, conn) - before; found != n || touched > int64(10*n) {
		t.Errorf("%d users of %d found, %d rows touched", found, n, touched)
	}
}

// Nor does it matter how large the groups are in which nobody is found.
func TestSight_SharedGroupsAreSeeks(t *testing.T) {
	db := newMySQL(t)
	me := newUser(t, db)
	groups := make([]im.Group, 20)
	for i := range groups {
		groups[i] = newGroup(t, db, im.NewGroup{Owner: me, Members: newUsers(t, db, 20)})
	}
	var asked []any
	members, _, err := db.GroupMembers(t.Context(), me, groups[7].ID, me, 10)
	must(t, err)
	for _, m := range members {
		asked = append(asked, uint64(m.User), db.d.key("d1-1"), uint64(newUser(t, db)), db.d.key("d1-1"))
	}
	for _, table := range []string{"users", "group_members", "chat_groups"} {
		_, err := db.w.Exec("ANALYZE TABLE " + table)
		must(t, err)
	}
	conn, err := db.r.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	n, mine := len(asked)/2, uint64(me)
	query := repeat(db.d.sight, db.d.sightRow, db.d.rowJoin, n, db.d.sightEnd) + visibleWhere
	before := handlerReads(t, conn)
	rows, err := conn.QueryContext(t.Context(), query, append(asked, userActive, mine, mine, mine, stateContact, mine, mine)...)
	must(t, err)
	found := 0
	for rows.Next() {
		found++
	}
	must(t, rows.Close())
	if touched := handlerReads(t, conn) - before; found != n/2 || touched > int64(15*n) {
		t.Errorf("%d users of %d found, %d rows touched", found, n, touched)
	}
}
