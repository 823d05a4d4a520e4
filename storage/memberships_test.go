package storage

import (
	"errors"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestMemberships(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"who joins begins at the notice, has nothing unread, and is told no more once out": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2]})
			say(t, db, g.Main, u[0]) // 2
			change, err := db.AddMembers(t.Context(), u[0], g.ID, u[2:])
			done(t, db, change, err) // 3
			if m := member(t, db, g.Main, u[2]); m.Join != 3 || m.Joined != 3 || m.Read != 3 || m.Delivered != 3 || !m.In() {
				t.Errorf("joined: %+v", m)
			}
			if m := member(t, db, g.Main, u[0]); m.Join != 1 || m.Joined != 1 || m.Read != 1 {
				t.Errorf("the owner: %+v", m)
			}
			say(t, db, g.Main, u[2]) // 4
			change, err = db.RemoveMember(t.Context(), u[2], g.ID, u[2])
			done(t, db, change, err) // 5
			last := say(t, db, g.Main, u[0])
			if m := member(t, db, g.Main, u[2]); m.Leave != 5 || m.In() {
				t.Errorf("left: %+v", m)
			}
			s, err := db.UserState(t.Context(), u[2], g.Main)
			must(t, err)
			if s.LastSeq != 5 || s.LastID == 0 || s.LastID == last.ID || s.Top() != 5 || s.Join != 3 {
				t.Errorf("their state: %+v", s)
			}
			change, err = db.AddMembers(t.Context(), u[0], g.ID, u[2:])
			done(t, db, change, err) // 7
			if m := member(t, db, g.Main, u[2]); m.Join != 7 || m.Joined != 7 || m.Read != 7 || m.Leave != 5 || !m.In() {
				t.Errorf("back: %+v", m)
			}
			if s, err := db.UserState(t.Context(), u[2], g.Main); err != nil || s.LastSeq != 7 || s.Joined != 7 || !s.In() {
				t.Errorf("back: %+v, %v", s, err)
			}
		},
		"visible history begins at 1 for who is new, and where it began for who returns": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2]})
			say(t, db, g.Main, u[0])
			change, err := db.AddMembers(t.Context(), u[0], g.ID, u[2:])
			done(t, db, change, err) // 3
			change, err = db.RemoveMember(t.Context(), u[0], g.ID, u[2])
			done(t, db, change, err) // 4
			yes := true
			change, err = db.UpdateGroup(t.Context(), u[0], g.ID, im.GroupPatch{HistoryVisible: &yes})
			done(t, db, change, err) // 5
			fresh := newUser(t, db)
			change, err = db.AddMembers(t.Context(), u[0], g.ID, []im.UserID{u[2], fresh})
			done(t, db, change, err) // 6
			if m := member(t, db, g.Main, u[2]); m.Join != 3 || m.Joined != 6 || m.Read != 6 {
				t.Errorf("back: %+v", m)
			}
			if m := member(t, db, g.Main, fresh); m.Join != 1 || m.Joined != 6 || m.Read != 6 {
				t.Errorf("new: %+v", m)
			}
		},
		"who is in stays as they are, who is out stays out": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2]})
			before := member(t, db, g.Main, u[1])
			for seq, m := range []im.Membership{{Group: g.ID, Join: u[:2]}, {Group: g.ID, JoinAll: true, History: true}, {Group: g.ID, Leave: u[2:]}} {
				op := im.GroupOp{ID: im.OpID(900_000_000 + number.Add(1)), Conversation: g.Main, Membership: m}
				must(t, db.InsertMessages(t.Context(), []im.Message{opMessage(t, op, im.Seq(seq+2))}))
			}
			if after := member(t, db, g.Main, u[1]); after != before {
				t.Errorf("from %+v to %+v", before, after)
			}
			if _, err := db.Member(t.Context(), g.Main, u[2]); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("who was never in it: %v", err)
			}
		},
		"everyone joins a public channel, everyone leaves one that is no more": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 4)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:3]})
			c := newChannel(t, db, u[0], g.ID, im.NewChannel{})
			for _, who := range u[:3] {
				if m := member(t, db, c, who); m.Join != 1 || m.Read != 1 || !m.In() {
					t.Errorf("%d: %+v", who, m)
				}
			}
			change, err := db.AddMembers(t.Context(), u[0], g.ID, u[3:])
			done(t, db, change, err)
			if len(change.Ops) != 2 || member(t, db, c, u[3]).Join != 2 {
				t.Errorf("%d channels told", len(change.Ops))
			}
			change, err = db.RemoveChannel(t.Context(), u[0], g.ID, c)
			done(t, db, change, err)
			for _, who := range u {
				if m := member(t, db, c, who); m.Leave != 3 || m.In() {
					t.Errorf("%d: %+v", who, m)
				}
				if m := member(t, db, g.Main, who); !m.In() {
					t.Errorf("%d is out of the main channel", who)
				}
			}
			ends, err := db.ChannelEnds(t.Context(), []im.ConversationID{c, g.Main, "c999999"})
			must(t, err)
			if e := ends[c]; len(ends) != 2 || e.Closed != 3 || e.LastSeq != 3 || e.LastID == 0 || e.LastUncounted != 3 {
				t.Errorf("ends %+v", ends)
			}
			if e := ends[g.Main]; e.Closed != 0 || e.LastSeq != 2 {
				t.Errorf("the main one's end %+v", e)
			}
		},
		"a notice is stored with what it changes and ends its operation, or nothing is": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 2)
			change, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Members: u[1:], Name: "g", JoinPolicy: im.JoinOpen})
			must(t, err)
			c := change.Group.Main
			notice := opMessage(t, change.Ops[0], 1)
			clash := message(c, 1, u[0])
			var dup *im.DuplicateError
			if err := db.InsertMessages(t.Context(), []im.Message{notice, clash}); !errors.As(err, &dup) {
				t.Fatalf("a clash gives %v", err)
			}
			if _, err := db.Member(t.Context(), c, u[0]); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("a member by a notice that was not stored: %v", err)
			}
			if n := count(t, db, "SELECT COUNT(*) FROM group_ops WHERE group_id = ?", change.Group.ID); n != 1 {
				t.Errorf("%d operations", n)
			}
			must(t, db.InsertMessages(t.Context(), []im.Message{notice}))
			if err := db.InsertMessages(t.Context(), []im.Message{notice}); !errors.As(err, &dup) { // a replay
				t.Errorf("again gives %v", err)
			}
			if n := count(t, db, "SELECT COUNT(*) FROM group_ops WHERE group_id = ?", change.Group.ID); n != 0 {
				t.Errorf("%d operations", n)
			}
			if m := member(t, db, c, u[1]); m.Join != 1 || !m.In() {
				t.Errorf("%+v", m)
			}
		},
		"several notices in one batch hold in their order": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 2)
			g := newGroup(t, db, im.NewGroup{Owner: u[0]})
			var batch []im.Message
			for i, m := range []im.Membership{{Join: u[1:]}, {Leave: u[1:]}, {Join: u[1:], Merge: true}, {}} {
				m.Group = g.ID
				op := im.GroupOp{ID: im.OpID(900_000_000 + number.Add(1)), Conversation: g.Main, Membership: m}
				batch = append(batch, opMessage(t, op, im.Seq(2+i)))
			}
			slices.Reverse(batch)
			must(t, db.InsertMessages(t.Context(), batch))
			if m := member(t, db, g.Main, u[1]); m.Join != 4 || m.Joined != 4 || m.Leave != 3 || !m.In() {
				t.Errorf("%+v", m)
			}
			rosters, err := db.Rosters(t.Context(), []im.ConversationID{g.Main})
			must(t, err)
			if r := rosters[g.Main]; r.Version != 4 || !r.Merged || len(r.Members) != 0 {
				t.Errorf("roster %+v", r)
			}
			if s, err := db.UserState(t.Context(), u[1], g.Main); err != nil || !s.Merged {
				t.Errorf("state %+v, %v", s, err)
			}
		},
		"a channel that the record has not seen gets no members": func(t *testing.T, db *DB) {
			u := newUser(t, db)
			c := im.ChannelConversation(9_000_000 + number.Add(1))
			must(t, db.EnsureConversations(t.Context(), []im.NewConversation{{ID: c, Members: []im.UserID{u}}}))
			if n := count(t, db, "SELECT COUNT(*) FROM members WHERE conversation = ?", string(c)); n != 0 {
				t.Errorf("%d members", n)
			}
		},
		"a mention of all is everyone's who may see it": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 3)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:]})
			all := message(g.Main, 2, u[0])
			all.MentionsAll = true
			must(t, db.InsertMessages(t.Context(), []im.Message{all}))
			change, err := db.RemoveMember(t.Context(), u[0], g.ID, u[2])
			done(t, db, change, err) // 3
			all = message(g.Main, 4, u[0])
			all.MentionsAll, all.Mentions = true, []im.UserID{u[2]}
			must(t, db.InsertMessages(t.Context(), []im.Message{all}))
			if s, err := db.UserState(t.Context(), u[1], g.Main); err != nil || s.LastMention != 4 || s.Mentioned() != 4 {
				t.Errorf("who is in it: %+v, %v", s, err)
			}
			if s, err := db.UserState(t.Context(), u[2], g.Main); err != nil || s.LastMention != 2 {
				t.Errorf("who has left: %+v, %v", s, err)
			}
			if ends, err := db.ChannelEnds(t.Context(), []im.ConversationID{g.Main}); err != nil || ends[g.Main].LastMention != 4 {
				t.Errorf("%+v, %v", ends, err)
			}
		},
	})
}

func TestRosters(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"name who is in, by user, as of the last notice that moved anybody": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 5)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:4]})
			side := newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true, Members: u[1:2]})
			change, err := db.RemoveMember(t.Context(), u[0], g.ID, u[2])
			done(t, db, change, err) // 2
			change, err = db.AddMembers(t.Context(), u[0], g.ID, u[4:])
			done(t, db, change, err) // 3
			say(t, db, g.Main, u[0])
			rosters, err := db.Rosters(t.Context(), []im.ConversationID{g.Main, side, "c999999"})
			must(t, err)
			want := []im.RosterMember{{User: u[0], First: 1}, {User: u[1], First: 1}, {User: u[3], First: 1}, {User: u[4], First: 3}}
			if r := rosters[g.Main]; len(rosters) != 2 || r.Version != 3 || r.Merged || !slices.Equal(r.Members, want) {
				t.Errorf("%+v", rosters)
			}
			if r := rosters[side]; r.Version != 1 || !slices.Equal(r.Members, want[:2]) {
				t.Errorf("the private one %+v", r)
			}
			page, err := db.RosterPage(t.Context(), g.Main, u[0], 2)
			must(t, err)
			if !slices.Equal(page, want[1:3]) {
				t.Errorf("a page %+v", page)
			}
			version, first, err := db.RoomMembers(t.Context(), g.Main, u)
			must(t, err)
			if version != 3 || len(first) != 4 || first[u[4]] != 3 || first[u[2]] != 0 {
				t.Errorf("version %d, %v", version, first)
			}
			if version, first, err := db.RoomMembers(t.Context(), side, u[3:]); err != nil || version != 1 || len(first) != 0 {
				t.Errorf("nobody of those: %d, %v, %v", version, first, err)
			}
			if version, first, err := db.RoomMembers(t.Context(), "c999999", u); err != nil || version != 0 || len(first) != 0 {
				t.Errorf("a channel that is not there: %d, %v, %v", version, first, err)
			}
			rooms, err := db.RoomsOf(t.Context(), append(u, 1<<40))
			must(t, err)
			if len(rooms) != 4 || len(rooms[u[1]]) != 2 || len(rooms[u[2]]) != 0 || rooms[u[4]][0] != (im.Room{Conversation: g.Main, Version: 3, First: 3}) {
				t.Errorf("rooms %+v", rooms)
			}
			among, err := db.MembersAmong(t.Context(), g.Main, append(u, 1<<40))
			must(t, err)
			if len(among) != 4 || among[u[2]] {
				t.Errorf("among %v", among)
			}
			authors, err := db.Authors(t.Context(), g.Main, 3, 9)
			must(t, err)
			if !slices.Equal(authors, []im.UserID{im.SystemUser, u[0]}) {
				t.Errorf("authors %v", authors)
			}
		},
	})
}

func TestReceipts(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"count who was there when it was sent, without its sender": func(t *testing.T, db *DB) {
			u := newUsers(t, db, 6)
			g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:5]})
			c := g.Main
			say(t, db, c, u[0]) // 2: u1 u2 u3 u4
			change, err := db.RemoveMember(t.Context(), u[0], g.ID, u[4])
			done(t, db, change, err) // 3
			say(t, db, c, u[1])      // 4: u0 u2 u3
			yes := true
			change, err = db.UpdateGroup(t.Context(), u[0], g.ID, im.GroupPatch{HistoryVisible: &yes})
			done(t, db, change, err) // 5
			change, err = db.AddMembers(t.Context(), u[0], g.ID, u[5:])
			done(t, db, change, err) // 6
			say(t, db, c, u[0])      // 7: u1 u2 u3 u5
			must(t, db.MoveCursors(t.Context(), []im.CursorMove{
				{Conversation: c, User: u[0], Read: 7}, {Conversation: c, User: u[1], Delivered: 2, Read: 4},
				{Conversation: c, User: u[2], Delivered: 7, Read: 2}, {Conversation: c, User: u[4], Delivered: 2},
			}))
			counts, err := db.ReceiptCounts(t.Context(), c, []im.Seq{7, 2, 4, 99})
			must(t, err)
			if want := []im.ReceiptCount{{Seq: 2, Recipients: 4, Delivered: 3, Read: 2}, {Seq: 4, Recipients: 3, Delivered: 2, Read: 1},
				{Seq: 7, Recipients: 4, Delivered: 1}}; !slices.Equal(counts, want) {
				t.Errorf("%+v, want %+v", counts, want)
			}
			for state, want := range map[im.ReceiptState][]im.UserID{im.ReceiptRead: u[1:3], im.ReceiptDelivered: {u[1], u[2], u[4]}, im.ReceiptUndelivered: u[3:4]} {
				var got []im.UserID
				more, after := true, im.UserID(0)
				for more {
					var page []im.MemberCursors
					page, more, err = db.Receipts(t.Context(), c, 2, state, after, 2)
					must(t, err)
					for _, m := range page {
						got, after = append(got, m.User), m.User
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", state, got, want)
				}
			}
			if _, _, err := db.Receipts(t.Context(), c, 99, im.ReceiptRead, 0, 10); !errors.Is(err, im.ErrNotFound) {
				t.Errorf("no message: %v", err)
			}
		},
		"of a one-to-one are the other side's": func(t *testing.T, db *DB) {
			a, b, c := newPair(t, db)
			fill(t, db, c, 2, a, b)
			must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: b, Delivered: 1}}))
			counts, err := db.ReceiptCounts(t.Context(), c, []im.Seq{1, 2})
			must(t, err)
			if want := []im.ReceiptCount{{Seq: 1, Recipients: 1, Delivered: 1}, {Seq: 2, Recipients: 1}}; !slices.Equal(counts, want) {
				t.Errorf("%+v", counts)
			}
		},
	})
}
