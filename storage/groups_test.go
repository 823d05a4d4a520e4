package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestGroups(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"a new group has its owner and members, and one notice to its main channel": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			change, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: u[1], Members: []im.UserID{u[2], u[0], u[2], u[1]},
				Name: "Finches", Avatar: "https://example.org/f.png", JoinPolicy: im.JoinRequest, HistoryVisible: true})
			must(t, err)
			g := change.Group
			if g.ID == 0 || g.Name != "Finches" || g.Owner != u[1] || g.Members != 3 || g.Version != 1 || g.Main == "" || g.CreatedAt == 0 || !g.HistoryVisible || g.MutedAll {
				t.Errorf("%+v", g)
			}
			if len(change.Ops) != 1 {
				t.Fatalf("%+v", change.Ops)
			}
			op := change.Ops[0]
			if op.ID == 0 || op.Conversation != g.Main || op.Notice.Kind != im.NoticeCreated || op.Notice.Count != 2 || op.Notice.Actor.ID != u[1] ||
				op.Notice.Actor.Nickname == "" || op.Notice.Name != "Finches" || op.Membership.Op != op.ID || !slices.Equal(op.Membership.Join, u) || !op.Membership.History {
				t.Errorf("%+v", op)
			}
			v, err := db.Group(t.Context(), u[1], g.ID)
			must(t, err)
			want := im.GroupView{Group: g, Role: im.RoleOwner, Channels: []im.Channel{{ID: g.Main, Group: g.ID, CreatedAt: g.CreatedAt}}}
			if !reflect.DeepEqual(v, want) {
				t.Errorf("view %+v, want %+v", v, want)
			}
			members, more, err := db.GroupMembers(t.Context(), u[0], g.ID, 0, 2)
			must(t, err)
			if len(members) != 2 || !more || members[0].User != u[0] || members[1].Role != im.RoleOwner || members[0].JoinedAt == 0 {
				t.Errorf("members %+v, %v", members, more)
			}
			rest, more, err := db.GroupMembers(t.Context(), u[0], g.ID, u[1], 2)
			must(t, err)
			if len(rest) != 1 || more || rest[0].User != u[2] {
				t.Errorf("the rest %+v, %v", rest, more)
			}
			infos, err := db.ChannelInfos(t.Context(), []im.ConversationID{g.Main, "c999999", "d1-2"})
			must(t, err)
			if i := infos[g.Main]; len(infos) != 1 || i.GroupName != "Finches" || i.GroupAvatar != g.Avatar || i.GroupMain != g.Main || i.Group != g.ID {
				t.Errorf("infos %+v", infos)
			}
		},
		"made again with the same client group ID it is the one that was made": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 2)
			n := im.NewGroup{Owner: u[0], Members: u[1:], Name: "once", JoinPolicy: im.JoinOpen, ClientGroupID: "group-0001"}
			first, err := db.CreateGroup(t.Context(), n)
			must(t, err)
			again, err := db.CreateGroup(t.Context(), n)
			must(t, err)
			if !reflect.DeepEqual(first, again) {
				t.Errorf("first %+v\nagain %+v", first, again)
			}
			storeOps(t, db, first)
			_, err = db.SetBlock(t.Context(), u[1], u[0], true) // since
			must(t, err)
			if again, err := db.CreateGroup(t.Context(), n); err != nil || again.Group != first.Group || len(again.Ops) != 0 {
				t.Errorf("stored: %+v, %v", again, err)
			}
			n.Owner = u[1]
			if other, err := db.CreateGroup(t.Context(), n); err != nil || other.Group.ID == first.Group.ID {
				t.Errorf("somebody else's: %+v, %v", other, err)
			}
		},
		"who blocked the actor is not brought in, who does not exist neither": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0]})
			_, err := db.SetBlock(t.Context(), u[1], u[0], true)
			must(t, err)
			_, err = db.SetBlock(t.Context(), u[0], u[2], true) // the other way does not matter
			must(t, err)
			for _, c := range []struct {
				users []im.UserID
				want  error
			}{{u[1:], im.ErrBlocked}, {[]im.UserID{u[2], 1 << 40}, im.ErrNotFound}, {[]im.UserID{im.SystemUser}, im.ErrNotFound}, {u[2:], nil}} {
				if _, err := db.AddMembers(t.Context(), u[0], g.ID, c.users); !errors.Is(err, c.want) {
					t.Errorf("%v: %v, want %v", c.users, err, c.want)
				}
				if _, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Members: c.users, Name: "x", JoinPolicy: im.JoinOpen}); !errors.Is(err, c.want) {
					t.Errorf("create with %v: %v, want %v", c.users, err, c.want)
				}
			}
		},
		"who takes messages from contacts only is brought in by those, and comes themselves": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 4)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[3:], JoinPolicy: im.JoinOpen})
			for _, shy := range u[1:] {
				must(t, db.SetMessagePolicy(t.Context(), shy, im.MessagesFromContacts))
			}
			befriend(t, db, u[0], u[2])
			for _, c := range []struct {
				users []im.UserID
				want  error
			}{{u[1:], im.ErrNotContact}, {u[1:2], im.ErrNotContact}, {u[2:3], nil}, {u[3:], nil}} { // the last is in it already
				if _, err := db.AddMembers(t.Context(), u[0], g.ID, c.users); !errors.Is(err, c.want) {
					t.Errorf("%v: %v, want %v", c.users, err, c.want)
				}
			}
			for _, c := range []struct {
				users []im.UserID
				want  error
			}{{u[1:2], im.ErrNotContact}, {u[2:3], nil}} {
				if _, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Members: c.users, Name: "x", JoinPolicy: im.JoinOpen}); !errors.Is(err, c.want) {
					t.Errorf("create with %v: %v, want %v", c.users, err, c.want)
				}
			}
			if change, _, err := db.AskToJoin(t.Context(), u[1], g.ID, ""); err != nil || change.Group.Members != 4 {
				t.Errorf("by themselves: %+v, %v", change, err)
			}
		},
		"changes are told to the main channel, and what is so already to nobody": testGroupNotices,
		"who joins or leaves is told to all their channels": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 4)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:3]})
			public := newChannel(t, db, u[0], g.ID, im.NewChannel{})
			private := newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true, Members: u[1:2]})
			newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true})
			told := func(change im.GroupChange, err error) (convs []im.ConversationID) {
				t.Helper()
				must(t, err)
				for _, op := range change.Ops {
					convs = append(convs, op.Conversation)
				}
				storeOps(t, db, change)
				return convs
			}
			if got := told(db.AddMembers(t.Context(), u[0], g.ID, u[3:])); !slices.Equal(got, []im.ConversationID{g.Main, public}) {
				t.Errorf("joined: %v", got)
			}
			change, err := db.RemoveMember(t.Context(), u[0], g.ID, u[1])
			if got := told(change, err); !slices.Equal(got, []im.ConversationID{g.Main, public, private}) || change.Ops[2].Notice.Kind != im.NoticeRemoved {
				t.Errorf("removed: %v", got)
			}
			if _, err := db.Seat(t.Context(), u[1], private); err != nil {
				t.Errorf("who was in it: %v", err)
			}
			change, err = db.AddMembers(t.Context(), u[0], g.ID, u[1:2])
			told(change, err)
			if s, err := db.Seat(t.Context(), u[1], private); err != nil || s.In { // who comes back is not in it again
				t.Errorf("%+v, %v", s, err)
			}
			change, err = db.DissolveGroup(t.Context(), u[0], g.ID)
			must(t, err)
			if len(change.Ops) != 4 || !change.Ops[3].Membership.LeaveAll || !change.Group.Dissolved || change.Group.Members != 0 {
				t.Errorf("dissolved: %+v", change)
			}
			for _, who := range u {
				if s, err := db.Seat(t.Context(), who, g.Main); err != nil || s.In {
					t.Errorf("%d after the end: %+v, %v", who, s, err)
				}
			}
			storeOps(t, db, change)
			if _, err := db.Group(t.Context(), u[0], g.ID); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("a dissolved group: %v", err)
			}
			if all, _, err := db.GroupsOf(t.Context(), u[0], 0, 10); err != nil || len(all) != 0 {
				t.Errorf("%+v, %v", all, err)
			}
			if infos, err := db.ChannelInfos(t.Context(), []im.ConversationID{g.Main}); err != nil || infos[g.Main].GroupName != g.Name {
				t.Errorf("its name is gone: %+v, %v", infos, err)
			}
		},
		"lists of groups are by ID, with the channels that one sees": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 2)
			var ids []im.GroupID
			var private im.ConversationID
			for range 3 {
				g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:]})
				private = newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true})
				ids = append(ids, g.ID)
			}
			all, more, err := db.GroupsOf(t.Context(), u[1], 0, 2)
			must(t, err)
			if len(all) != 2 || !more || all[0].ID != ids[0] || all[1].ID != ids[1] || len(all[0].Channels) != 1 || all[0].Role != im.RoleMember {
				t.Errorf("%+v, %v", all, more)
			}
			rest, more, err := db.GroupsOf(t.Context(), u[0], ids[1], 2)
			must(t, err)
			if len(rest) != 1 || more || len(rest[0].Channels) != 2 || rest[0].Channels[1].ID != private || !rest[0].Channels[1].Private {
				t.Errorf("%+v, %v", rest, more)
			}
		},
		"a notice of many long names stays far below what a message may hold": func(t *testing.T, db *DB) {
			var users []im.UserID
			for range 30 {
				p, err := db.CreateUser(t.Context(), im.NewUser{Handle: fmt.Sprintf("user%d", number.Add(1)), Nickname: strings.Repeat("<", 64), PasswordHash: "h"})
				must(t, err)
				users = append(users, p.ID)
			}
			change, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: users[0], Members: users[1:], Name: strings.Repeat("<", 255), JoinPolicy: im.JoinOpen})
			must(t, err)
			n := change.Ops[0].Notice
			content, err := json.Marshal(n)
			must(t, err)
			if n.Count != 29 || len(n.Users) != im.MaxNoticeNames || len(content) > im.MaxContentBytes*3/4 {
				t.Errorf("%d names of %d in %d bytes", len(n.Users), n.Count, len(content))
			}
		},
	})
}

func testGroupNotices(t *testing.T, db *DB) {
	u := newUsers(t, db, 3)
	g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:]})
	version := g.Version
	ptr := func(s string) *string { return &s }
	yes, open := true, im.JoinOpen
	steps := []struct {
		name string
		do   func() (im.GroupChange, error)
		want []im.NoticeKind
	}{
		{"rename", func() (im.GroupChange, error) {
			return db.UpdateGroup(t.Context(), u[0], g.ID, im.GroupPatch{Name: ptr("Tits"), JoinPolicy: &open})
		}, []im.NoticeKind{im.NoticeUpdated}},
		{"avatar and mute all", func() (im.GroupChange, error) {
			return db.UpdateGroup(t.Context(), u[0], g.ID, im.GroupPatch{Avatar: ptr("a"), MutedAll: &yes})
		}, []im.NoticeKind{im.NoticeUpdated, im.NoticeMutedAll}},
		{"admin", func() (im.GroupChange, error) { return db.SetRole(t.Context(), u[0], g.ID, u[1], im.RoleAdmin) }, []im.NoticeKind{im.NoticeRole}},
		{"mute", func() (im.GroupChange, error) { return db.MuteMember(t.Context(), u[1], g.ID, u[2], 1<<45) }, []im.NoticeKind{im.NoticeMuted}},
		{"unmute", func() (im.GroupChange, error) { return db.MuteMember(t.Context(), u[1], g.ID, u[2], 0) }, []im.NoticeKind{im.NoticeUnmuted}},
		{"add who is in it", func() (im.GroupChange, error) { return db.AddMembers(t.Context(), u[1], g.ID, u) }, nil},
		{"remove who is not", func() (im.GroupChange, error) { return db.RemoveMember(t.Context(), u[1], g.ID, 1<<40) }, nil},
		{"transfer to oneself", func() (im.GroupChange, error) { return db.TransferGroup(t.Context(), u[0], g.ID, u[0]) }, nil},
		{"transfer", func() (im.GroupChange, error) { return db.TransferGroup(t.Context(), u[0], g.ID, u[2]) }, []im.NoticeKind{im.NoticeTransferred}},
	}
	for _, s := range steps {
		for again := range 2 {
			change, err := s.do()
			if again == 1 && s.name == "transfer" {
				if !errors.Is(err, im.ErrForbidden) {
					t.Errorf("who has transferred it: %v", err)
				}
				continue
			}
			must(t, err)
			var kinds []im.NoticeKind
			for _, op := range change.Ops {
				kinds = append(kinds, op.Notice.Kind)
				if op.Conversation != g.Main || op.Membership.Moves() || op.ID == 0 {
					t.Errorf("%s: %+v", s.name, op)
				}
			}
			if want := s.want[:len(s.want)*(1-again)]; !slices.Equal(kinds, want) {
				t.Errorf("%s: %v, want %v", s.name, kinds, want)
			}
			if len(kinds) > 0 {
				version++
			}
			if change.Group.Version != version {
				t.Errorf("%s: version %d, want %d", s.name, change.Group.Version, version)
			}
			storeOps(t, db, change)
		}
	}
	v, err := db.Group(t.Context(), u[0], g.ID)
	must(t, err)
	if v.Name != "Tits" || v.Avatar != "a" || v.JoinPolicy != im.JoinOpen || !v.MutedAll || v.Owner != u[2] || v.Role != im.RoleAdmin {
		t.Errorf("%+v", v)
	}
}

func TestGroupPending(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"who is being let in or out is not moved again before that is stored": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2], JoinPolicy: im.JoinOpen})
			newChannel(t, db, u[0], g.ID, im.NewChannel{})
			joined, err := db.AddMembers(t.Context(), u[0], g.ID, u[2:])
			must(t, err)
			pending := func(err error) {
				t.Helper()
				if !errors.Is(err, im.ErrPending) {
					t.Errorf("%v, want pending", err)
				}
			}
			_, err = db.RemoveMember(t.Context(), u[2], g.ID, u[2])
			pending(err)
			_, err = db.DissolveGroup(t.Context(), u[0], g.ID)
			pending(err)
			if s, err := db.Seat(t.Context(), u[2], g.Main); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("a seat before the notice: %+v, %v", s, err)
			}
			one := joined
			one.Ops = joined.Ops[:1] // one channel of two has stored it
			storeOps(t, db, one)
			_, err = db.RemoveMember(t.Context(), u[2], g.ID, u[2])
			pending(err)
			if s, err := db.Seat(t.Context(), u[2], g.Main); err != nil || !s.In || s.Role != im.RoleMember || s.Group != g.ID {
				t.Errorf("a seat: %+v, %v", s, err)
			}
			one.Ops = joined.Ops[1:]
			storeOps(t, db, one)
			left, err := db.RemoveMember(t.Context(), u[2], g.ID, u[2])
			must(t, err)
			if s, err := db.Seat(t.Context(), u[2], g.Main); err != nil || s.In || s.Role != "" { // at once, not when it is stored
				t.Errorf("a seat of who leaves: %+v, %v", s, err)
			}
			_, _, err = db.AskToJoin(t.Context(), u[2], g.ID, "")
			pending(err)
			change, err := db.RemoveMember(t.Context(), u[0], g.ID, u[1]) // others are not in the way
			must(t, err)
			storeOps(t, db, left)
			storeOps(t, db, change)
			change, _, err = db.AskToJoin(t.Context(), u[2], g.ID, "")
			done(t, db, change, err)
		},
		"who asks once more has what is not stored yet": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2], JoinPolicy: im.JoinOpen})
			c := newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true})
			again := func(what string, do func() (im.GroupChange, error)) {
				t.Helper()
				first, err := do()
				must(t, err)
				name := "somebody else's change" // is nothing to them
				_, err = db.UpdateGroup(t.Context(), u[0], g.ID, im.GroupPatch{Name: &name})
				must(t, err)
				second, err := do()
				if err != nil || len(second.Ops) == 0 || !reflect.DeepEqual(second.Ops, first.Ops) {
					t.Errorf("%s, once more: %+v, %v, first %+v", what, second.Ops, err, first.Ops)
				}
				storeOps(t, db, first)
				if third, err := do(); err != nil || len(third.Ops) > 0 {
					t.Errorf("%s, and once more: %+v, %v", what, third.Ops, err)
				}
			}
			again("joined", func() (im.GroupChange, error) {
				change, _, err := db.AskToJoin(t.Context(), u[2], g.ID, "")
				return change, err
			})
			again("into the channel", func() (im.GroupChange, error) { return db.AddToChannel(t.Context(), u[0], g.ID, c, u[2:]) })
			again("out of the channel", func() (im.GroupChange, error) { return db.RemoveFromChannel(t.Context(), u[0], g.ID, c, u[2]) })
			again("removed", func() (im.GroupChange, error) { return db.RemoveMember(t.Context(), u[0], g.ID, u[2]) })
			again("invited", func() (im.GroupChange, error) { return db.AddMembers(t.Context(), u[0], g.ID, u[1:]) })
		},
		"likewise in a private channel, and out of the group with it": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 2)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:]})
			c := newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true})
			added, err := db.AddToChannel(t.Context(), u[0], g.ID, c, u[1:])
			must(t, err)
			for name, do := range map[string]func() (im.GroupChange, error){
				"out of the channel": func() (im.GroupChange, error) { return db.RemoveFromChannel(t.Context(), u[0], g.ID, c, u[1]) },
				"out of the group":   func() (im.GroupChange, error) { return db.RemoveMember(t.Context(), u[0], g.ID, u[1]) },
				"the channel's end":  func() (im.GroupChange, error) { return db.RemoveChannel(t.Context(), u[0], g.ID, c) },
			} {
				if _, err := do(); !errors.Is(err, im.ErrPending) {
					t.Errorf("%s: %v", name, err)
				}
			}
			storeOps(t, db, added)
			change, err := db.RemoveFromChannel(t.Context(), u[1], g.ID, c, u[1])
			must(t, err)
			if len(change.Ops) != 1 || change.Ops[0].Notice.Kind != im.NoticeLeft || change.Ops[0].Conversation != c {
				t.Errorf("%+v", change.Ops)
			}
			if s, err := db.Seat(t.Context(), u[1], c); err != nil || s.In {
				t.Errorf("%+v, %v", s, err)
			}
			if s, err := db.Seat(t.Context(), u[1], g.Main); err != nil || !s.In {
				t.Errorf("%+v, %v", s, err)
			}
			if _, err := db.AddToChannel(t.Context(), u[0], g.ID, c, u[1:]); !errors.Is(err, im.ErrPending) {
				t.Errorf("back before they are out: %v", err)
			}
		},
		"what nobody told is told again, and what is stored is not": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 2)
			change, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Members: u[1:], Name: "g", JoinPolicy: im.JoinOpen})
			must(t, err)
			if ops, err := db.PendingOps(t.Context(), 1<<40, 1000); err != nil || len(ops) != 0 {
				t.Errorf("told a moment ago: %+v, %v", ops, err)
			}
			_, err = db.w.Exec("UPDATE group_ops SET told_at = told_at - 6000 WHERE group_id = ?", change.Group.ID)
			must(t, err)
			ops, err := db.PendingOps(t.Context(), 5_000_000_000, 1000)
			must(t, err)
			if !reflect.DeepEqual(ops, change.Ops) {
				t.Errorf("%+v, want %+v", ops, change.Ops)
			}
			if ops, err := db.PendingOps(t.Context(), 5_000_000_000, 1000); err != nil || len(ops) != 0 {
				t.Errorf("again at once: %+v, %v", ops, err)
			}
			again := func(after, ago int) bool {
				_, err := db.w.Exec("UPDATE group_ops SET told_at = "+db.d.now+" - ?, at = "+db.d.now+" - ? WHERE group_id = ?", ago, ago+after, change.Group.ID)
				must(t, err)
				ops, err := db.PendingOps(t.Context(), 5_000_000_000, 1000)
				must(t, err)
				return slices.ContainsFunc(ops, func(op im.GroupOp) bool { return op.ID == change.Ops[0].ID })
			}
			for name, c := range map[string]struct {
				after, ago int
				want       bool
			}{
				"told at 20 s, now it is 35 s": {20_000, 15_000, false},
				"told at 20 s, now it is 40 s": {20_000, 20_000, true},
				"an hour old, a minute ago":    {3_600_000, slowest, true},
				"an hour old, half a minute":   {3_600_000, slowest / 2, false},
			} {
				if got := again(c.after, c.ago); got != c.want {
					t.Errorf("%s: told again: %t", name, got)
				}
			}
			storeOps(t, db, change)
			if again(0, slowest) {
				t.Error("stored, and told again")
			}
		},
	})
}

func TestGroupBounds(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"what is beyond them is refused by name": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2], JoinPolicy: im.JoinRequest})
			set := func(column string, n int) {
				t.Helper()
				_, err := db.w.Exec("UPDATE chat_groups SET "+column+" = ? WHERE id = ?", n, g.ID)
				must(t, err)
			}
			full := func(limit string, err error) {
				t.Helper()
				var f *im.FullError
				if !errors.As(err, &f) || f.Limit != limit {
					t.Errorf("%v, want %s to be full", err, limit)
				}
			}
			set("members", im.MaxGroupMembers)
			_, err := db.AddMembers(t.Context(), u[0], g.ID, u[2:])
			full("group_members", err)
			set("members", 2)
			set("admins", im.MaxGroupAdmins)
			_, err = db.SetRole(t.Context(), u[0], g.ID, u[1], im.RoleAdmin)
			full("group_admins", err)
			_, err = db.TransferGroup(t.Context(), u[0], g.ID, u[1])
			full("group_admins", err)
			set("channels", im.MaxChannels)
			_, _, err = db.CreateChannel(t.Context(), u[0], g.ID, im.NewChannel{Name: "x"})
			full("channels", err)
			var args []any
			for i := range im.MaxPendingRequests {
				args = append(args, g.ID, 1<<40+i)
			}
			_, err = db.w.Exec(repeat("INSERT INTO join_requests (group_id, user_id, message, asked_at) VALUES ", "(?, ?, '', 0)", ", ", len(args)/2, ""), args...)
			must(t, err)
			_, _, err = db.AskToJoin(t.Context(), u[2], g.ID, "")
			full("join_requests", err)
			args = nil
			for i := range im.MaxGroupsPerUser {
				args = append(args, u[2], 1<<40+i)
			}
			_, err = db.w.Exec(repeat("INSERT INTO group_members (user_id, group_id, state, role, muted_until, joined_at, moved) VALUES ", "(?, ?, 0, 0, 0, 0, 0)", ", ", len(args)/2, ""), args...)
			must(t, err)
			_, err = db.AddMembers(t.Context(), u[0], g.ID, u[2:])
			full("groups", err)
			_, err = db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Members: u[1:], Name: "x", JoinPolicy: im.JoinOpen})
			full("groups", err)
		},
	})
}
