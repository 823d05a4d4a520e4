package storage

import (
	"errors"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// cast is a group with one of each, a fresh one for every question.
type cast struct {
	owner, admin, admin2, member, member2, left, stranger im.UserID
	g                                                     im.Group
	public, private                                       im.ConversationID // member2 is in the private one
}

func newCast(t testing.TB, db *DB, policy im.JoinPolicy) cast {
	t.Helper()
	u := newUsers(t, db, 7)
	c := cast{owner: u[0], admin: u[1], admin2: u[2], member: u[3], member2: u[4], left: u[5], stranger: u[6]}
	c.g = newGroup(t, db, im.NewGroup{Owner: c.owner, Members: u[1:6], JoinPolicy: policy})
	for _, a := range u[1:3] {
		change, err := db.SetRole(t.Context(), c.owner, c.g.ID, a, im.RoleAdmin)
		done(t, db, change, err)
	}
	c.public = newChannel(t, db, c.owner, c.g.ID, im.NewChannel{})
	c.private = newChannel(t, db, c.owner, c.g.ID, im.NewChannel{Private: true, Members: []im.UserID{c.member2}})
	change, err := db.RemoveMember(t.Context(), c.left, c.g.ID, c.left)
	done(t, db, change, err)
	return c
}

// question is one thing to do and what it comes to for each actor, in the order owner,
// admin, member, left, stranger.
type question struct {
	name string
	do   func(c cast, actor im.UserID) error
	want [5]error
}

func TestGroupRights(t *testing.T) {
	var ok error
	no, none, conflict := im.ErrForbidden, im.ErrNotFound, im.ErrConflict
	onEachStore(t, map[string]func(t *testing.T, db *DB){"of each role": func(t *testing.T, db *DB) {
		ctx, yes := t.Context(), true
		only := func(_ im.GroupChange, err error) error { return err }
		for _, q := range []question{
			{"update", func(c cast, a im.UserID) error {
				return only(db.UpdateGroup(ctx, a, c.g.ID, im.GroupPatch{MutedAll: &yes}))
			}, [5]error{ok, ok, no, none, none}},
			{"dissolve", func(c cast, a im.UserID) error { return only(db.DissolveGroup(ctx, a, c.g.ID)) }, [5]error{ok, no, no, none, none}},
			{"invite", func(c cast, a im.UserID) error {
				return only(db.AddMembers(ctx, a, c.g.ID, []im.UserID{newUser(t, db)}))
			}, [5]error{ok, ok, no, none, none}},
			{"remove a member", func(c cast, a im.UserID) error { return only(db.RemoveMember(ctx, a, c.g.ID, c.member2)) }, [5]error{ok, ok, no, none, none}},
			{"remove an admin", func(c cast, a im.UserID) error { return only(db.RemoveMember(ctx, a, c.g.ID, c.admin2)) }, [5]error{ok, no, no, none, none}},
			{"remove the owner", func(c cast, a im.UserID) error { return only(db.RemoveMember(ctx, a, c.g.ID, c.owner)) }, [5]error{conflict, no, no, none, none}},
			{"leave", func(c cast, a im.UserID) error { return only(db.RemoveMember(ctx, a, c.g.ID, a)) }, [5]error{conflict, ok, ok, none, none}},
			{"make an admin", func(c cast, a im.UserID) error {
				return only(db.SetRole(ctx, a, c.g.ID, c.member2, im.RoleAdmin))
			}, [5]error{ok, no, no, none, none}},
			{"make an admin of who is not in it", func(c cast, a im.UserID) error {
				return only(db.SetRole(ctx, a, c.g.ID, c.stranger, im.RoleAdmin))
			}, [5]error{none, no, no, none, none}},
			{"make the owner a member", func(c cast, a im.UserID) error {
				return only(db.SetRole(ctx, a, c.g.ID, c.owner, im.RoleMember))
			}, [5]error{conflict, no, no, none, none}},
			{"transfer", func(c cast, a im.UserID) error { return only(db.TransferGroup(ctx, a, c.g.ID, c.member2)) }, [5]error{ok, no, no, none, none}},
			{"transfer to who is not in it", func(c cast, a im.UserID) error { return only(db.TransferGroup(ctx, a, c.g.ID, c.left)) }, [5]error{none, no, no, none, none}},
			{"mute a member", func(c cast, a im.UserID) error { return only(db.MuteMember(ctx, a, c.g.ID, c.member2, 1<<45)) }, [5]error{ok, ok, no, none, none}},
			{"mute an admin", func(c cast, a im.UserID) error { return only(db.MuteMember(ctx, a, c.g.ID, c.admin2, 1<<45)) }, [5]error{ok, no, no, none, none}},
			{"mute the owner", func(c cast, a im.UserID) error { return only(db.MuteMember(ctx, a, c.g.ID, c.owner, 1<<45)) }, [5]error{no, no, no, none, none}},
			{"create a channel", func(c cast, a im.UserID) error {
				_, _, err := db.CreateChannel(ctx, a, c.g.ID, im.NewChannel{Name: "x", Private: true, Members: []im.UserID{c.member2}})
				return err
			}, [5]error{ok, ok, no, none, none}},
			{"create a channel with a stranger", func(c cast, a im.UserID) error {
				_, _, err := db.CreateChannel(ctx, a, c.g.ID, im.NewChannel{Name: "x", Private: true, Members: []im.UserID{c.stranger}})
				return err
			}, [5]error{none, none, no, none, none}},
			{"rename a channel", func(c cast, a im.UserID) error { return only(db.RenameChannel(ctx, a, c.g.ID, c.public, "y")) }, [5]error{ok, ok, no, none, none}},
			{"rename a private channel", func(c cast, a im.UserID) error { return only(db.RenameChannel(ctx, a, c.g.ID, c.private, "y")) }, [5]error{ok, ok, none, none, none}},
			{"rename the main channel", func(c cast, a im.UserID) error { return only(db.RenameChannel(ctx, a, c.g.ID, c.g.Main, "y")) }, [5]error{conflict, conflict, no, none, none}},
			{"remove a channel", func(c cast, a im.UserID) error { return only(db.RemoveChannel(ctx, a, c.g.ID, c.public)) }, [5]error{ok, ok, no, none, none}},
			{"remove the main channel", func(c cast, a im.UserID) error { return only(db.RemoveChannel(ctx, a, c.g.ID, c.g.Main)) }, [5]error{conflict, conflict, no, none, none}},
			{"remove another group's channel", func(c cast, a im.UserID) error {
				return only(db.RemoveChannel(ctx, a, c.g.ID, newCast(t, db, im.JoinOpen).public))
			}, [5]error{none, none, none, none, none}},
			{"add to a private channel", func(c cast, a im.UserID) error {
				return only(db.AddToChannel(ctx, a, c.g.ID, c.private, []im.UserID{c.member}))
			}, [5]error{ok, ok, none, none, none}},
			{"add a stranger to a private channel", func(c cast, a im.UserID) error {
				return only(db.AddToChannel(ctx, a, c.g.ID, c.private, []im.UserID{c.stranger}))
			}, [5]error{none, none, none, none, none}},
			{"add to a public channel", func(c cast, a im.UserID) error {
				return only(db.AddToChannel(ctx, a, c.g.ID, c.public, []im.UserID{c.member}))
			}, [5]error{conflict, conflict, no, none, none}},
			{"take out of a private channel", func(c cast, a im.UserID) error {
				return only(db.RemoveFromChannel(ctx, a, c.g.ID, c.private, c.member2))
			}, [5]error{ok, ok, none, none, none}},
			{"take an admin out of a private channel", func(c cast, a im.UserID) error {
				return only(db.RemoveFromChannel(ctx, a, c.g.ID, c.private, c.admin))
			}, [5]error{ok, ok, none, none, none}}, // it is themselves that the admin takes out
			{"take the owner out of a private channel", func(c cast, a im.UserID) error {
				return only(db.RemoveFromChannel(ctx, a, c.g.ID, c.private, c.owner))
			}, [5]error{ok, no, none, none, none}},
			{"take out of a public channel", func(c cast, a im.UserID) error {
				return only(db.RemoveFromChannel(ctx, a, c.g.ID, c.public, c.member2))
			}, [5]error{conflict, conflict, no, none, none}},
			{"look at it", func(c cast, a im.UserID) error { _, err := db.Group(ctx, a, c.g.ID); return err }, [5]error{ok, ok, ok, none, none}},
			{"list its members", func(c cast, a im.UserID) error { _, _, err := db.GroupMembers(ctx, a, c.g.ID, 0, 9); return err }, [5]error{ok, ok, ok, none, none}},
			{"list a channel's members", func(c cast, a im.UserID) error {
				_, _, err := db.ChannelMembers(ctx, a, c.g.ID, c.public, 0, 9)
				return err
			}, [5]error{ok, ok, ok, none, none}},
			{"list a private channel's members", func(c cast, a im.UserID) error {
				_, _, err := db.ChannelMembers(ctx, a, c.g.ID, c.private, 0, 9)
				return err
			}, [5]error{ok, ok, none, none, none}},
			{"list requests", func(c cast, a im.UserID) error { _, _, err := db.JoinRequests(ctx, a, c.g.ID, 0, 9); return err }, [5]error{ok, ok, no, none, none}},
			{"join", func(c cast, a im.UserID) error { _, _, err := db.AskToJoin(ctx, a, c.g.ID, ""); return err }, [5]error{ok, ok, ok, none, none}},
			{"decide", func(c cast, a im.UserID) error { return only(db.DecideJoin(ctx, a, c.g.ID, c.stranger, true)) }, [5]error{none, none, no, none, none}},
		} {
			c := newCast(t, db, im.JoinClosed)
			for i, role := range []string{"owner", "admin", "member", "left", "stranger"} {
				if i > 0 && q.want[i-1] == nil { // the last one did it
					c = newCast(t, db, im.JoinClosed)
				}
				actor := []im.UserID{c.owner, c.admin, c.member, c.left, c.stranger}[i]
				if err := q.do(c, actor); !errors.Is(err, q.want[i]) {
					t.Errorf("%s by %s: %v, want %v", q.name, role, err, q.want[i])
				}
			}
			if n := count(t, db, "SELECT COUNT(*) FROM group_members WHERE group_id = ? AND state = 0 AND role = 2", c.g.ID); n > 1 {
				t.Errorf("%s: %d owners", q.name, n)
			}
		}
	}, "of who is in a private channel": func(t *testing.T, db *DB) {
		c := newCast(t, db, im.JoinClosed)
		if _, err := db.RemoveFromChannel(t.Context(), c.member2, c.g.ID, c.private, c.owner); !errors.Is(err, im.ErrForbidden) {
			t.Errorf("takes another out: %v", err)
		}
		if all, _, err := db.ChannelMembers(t.Context(), c.member2, c.g.ID, c.private, 0, 9); err != nil || len(all) != 2 || all[0].Role != im.RoleOwner {
			t.Errorf("lists: %+v, %v", all, err)
		}
		change, err := db.RemoveFromChannel(t.Context(), c.member2, c.g.ID, c.private, c.member2)
		done(t, db, change, err)
		if v, err := db.Group(t.Context(), c.member2, c.g.ID); err != nil || slices.ContainsFunc(v.Channels, func(ch im.Channel) bool { return ch.ID == c.private }) {
			t.Errorf("sees it still: %+v, %v", v.Channels, err)
		}
		if v, err := db.Group(t.Context(), c.admin, c.g.ID); err != nil || len(v.Channels) != 3 {
			t.Errorf("an admin sees %+v, %v", v.Channels, err)
		}
		if _, err := db.Seat(t.Context(), c.admin, c.private); !errors.Is(err, im.ErrNotFound) {
			t.Errorf("an admin who was never in it: %v", err)
		}
	}, "of what is no group": func(t *testing.T, db *DB) {
		c := newCast(t, db, im.JoinOpen)
		change, err := db.DissolveGroup(t.Context(), c.owner, c.g.ID)
		done(t, db, change, err)
		for _, g := range []im.GroupID{c.g.ID, 1 << 40} {
			if _, err := db.UpdateGroup(t.Context(), c.owner, g, im.GroupPatch{}); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("change: %v", err)
			}
			if _, _, err := db.AskToJoin(t.Context(), c.stranger, g, ""); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("join: %v", err)
			}
			if _, err := db.Group(t.Context(), c.owner, g); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("look: %v", err)
			}
		}
		for _, conv := range []im.ConversationID{"c999999", im.DirectConversation(c.owner, c.admin), "c18446744073709551616"} {
			if _, err := db.Seat(t.Context(), c.owner, conv); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("a seat in %s: %v", conv, err)
			}
		}
	}})
}

func TestJoinRequests(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"an open group is joined at once, a closed one is not there": func(t *testing.T, db *DB) {
			open, closed, u := newCast(t, db, im.JoinOpen), newCast(t, db, im.JoinClosed), newUser(t, db)
			if v, err := db.Group(t.Context(), u, open.g.ID); err != nil || v.Role != "" || v.Channels != nil || v.Members != 5 {
				t.Errorf("from outside: %+v, %v", v, err)
			}
			change, pending, err := db.AskToJoin(t.Context(), u, open.g.ID, "hello")
			done(t, db, change, err)
			if n := change.Ops[0].Notice; pending || n.Kind != im.NoticeJoined || n.Actor.ID != u || len(n.Users) != 1 || n.Users[0].ID != u || change.Group.Members != 6 {
				t.Errorf("%v %+v", pending, change)
			}
			if again, pending, err := db.AskToJoin(t.Context(), u, open.g.ID, ""); err != nil || pending || len(again.Ops) != 0 {
				t.Errorf("again: %+v, %v, %v", again, pending, err)
			}
			if _, _, err := db.AskToJoin(t.Context(), u, closed.g.ID, ""); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("closed: %v", err)
			}
		},
		"a request waits, is changed by asking again, withdrawn, refused, accepted once": func(t *testing.T, db *DB) {
			c, u := newCast(t, db, im.JoinRequest), newUsers(t, db, 3)
			for _, message := range []string{"let me in", "please 🐦"} {
				change, pending, err := db.AskToJoin(t.Context(), u[0], c.g.ID, message)
				must(t, err)
				if !pending || len(change.Ops) != 0 || change.Group.Name != c.g.Name {
					t.Errorf("%v %+v", pending, change)
				}
			}
			if v, err := db.Group(t.Context(), u[0], c.g.ID); err != nil || !v.Requested || v.Role != "" {
				t.Errorf("%+v, %v", v, err)
			}
			for _, who := range u[1:] {
				_, _, err := db.AskToJoin(t.Context(), who, c.g.ID, "")
				must(t, err)
			}
			all, more, err := db.JoinRequests(t.Context(), c.admin, c.g.ID, 0, 2)
			must(t, err)
			if len(all) != 2 || !more || all[0].User != u[0] || all[0].Message != "please 🐦" || all[0].AskedAt == 0 {
				t.Errorf("%+v, %v", all, more)
			}
			must(t, db.WithdrawJoin(t.Context(), u[1], c.g.ID))
			if err := db.WithdrawJoin(t.Context(), u[1], c.g.ID); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("withdrawn twice: %v", err)
			}
			if _, err := db.DecideJoin(t.Context(), c.admin, c.g.ID, u[1], true); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("accepted what was withdrawn: %v", err)
			}
			if change, err := db.DecideJoin(t.Context(), c.admin, c.g.ID, u[2], false); err != nil || len(change.Ops) != 0 {
				t.Errorf("refused: %+v, %v", change, err)
			}
			change, err := db.DecideJoin(t.Context(), c.admin, c.g.ID, u[0], true)
			done(t, db, change, err)
			if n := change.Ops[0].Notice; len(change.Ops) != 2 || n.Actor.ID != c.admin || n.Users[0].ID != u[0] {
				t.Errorf("accepted: %+v", change)
			}
			if s, err := db.Seat(t.Context(), u[0], c.public); err != nil || !s.In {
				t.Errorf("%+v, %v", s, err)
			}
			if n := count(t, db, "SELECT COUNT(*) FROM join_requests WHERE group_id = ?", c.g.ID); n != 0 {
				t.Errorf("%d requests are left", n)
			}
		},
		"an invitation ends the request": func(t *testing.T, db *DB) {
			c, u := newCast(t, db, im.JoinRequest), newUser(t, db)
			_, _, err := db.AskToJoin(t.Context(), u, c.g.ID, "")
			must(t, err)
			change, err := db.AddMembers(t.Context(), c.owner, c.g.ID, []im.UserID{u})
			done(t, db, change, err)
			if err := db.WithdrawJoin(t.Context(), u, c.g.ID); !errors.Is(err, im.ErrNotFound) {
				t.Error(err)
			}
		},
		"who was muted is so when they are back": func(t *testing.T, db *DB) {
			c := newCast(t, db, im.JoinOpen)
			change, err := db.MuteMember(t.Context(), c.owner, c.g.ID, c.member, 1<<45)
			done(t, db, change, err)
			change, err = db.RemoveMember(t.Context(), c.member, c.g.ID, c.member)
			done(t, db, change, err)
			change, _, err = db.AskToJoin(t.Context(), c.member, c.g.ID, "")
			done(t, db, change, err)
			if s, err := db.Seat(t.Context(), c.member, c.g.Main); err != nil || !s.In || s.MutedUntil != 1<<45 {
				t.Errorf("%+v, %v", s, err)
			}
		},
	})
}
