package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// Every change of a group holds its row: what must hold of a group holds whoever
// changes it at the same moment.
func TestGroupRaces(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"there is one owner, whoever transfers, leaves and is removed": testOneOwner,
		"no bound is passed by calls that cross":                       testBoundsRace,
		"who joins and is removed at once is in or out everywhere":     testJoinRemoveRace,
		"a group made twice at once is one":                            testCreateRace,
		"nobody is in more groups than may be":                         testGroupsRace,
		"notices and cursors do not get in each other's way":           testNoticesAndCursors,
	})
}

// together runs all at the same moment and returns their errors.
func together(do ...func() error) []error {
	errs := make([]error, len(do))
	var wg sync.WaitGroup
	for i, f := range do {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errs
}

// refused fails the test on an error that is none of those that a race may end with.
func refused(t *testing.T, errs []error, may ...error) (succeeded int) {
	t.Helper()
next:
	for _, err := range errs {
		if err == nil {
			succeeded++
			continue
		}
		for _, m := range may {
			if errors.Is(err, m) {
				continue next
			}
		}
		var full *im.FullError
		if !errors.As(err, &full) {
			t.Errorf("ended with %v", err)
		}
	}
	return succeeded
}

// checkGroup says that the counts of a group are those of its rows.
func checkGroup(t *testing.T, db *DB, g im.GroupID) {
	t.Helper()
	var members, admins, channels, owner int
	must(t, db.r.QueryRowContext(t.Context(), "SELECT members, admins, channels, owner FROM chat_groups WHERE id = ?", g).Scan(&members, &admins, &channels, &owner))
	for name, want := range map[string][2]int{
		"members":       {members, count(t, db, "SELECT COUNT(*) FROM group_members WHERE group_id = ? AND state = 0", g)},
		"admins":        {admins, count(t, db, "SELECT COUNT(*) FROM group_members WHERE group_id = ? AND state = 0 AND role = 1", g)},
		"channels":      {channels, count(t, db, "SELECT COUNT(*) FROM channels WHERE group_id = ? AND removed = 0", g)},
		"owners":        {1, count(t, db, "SELECT COUNT(*) FROM group_members WHERE group_id = ? AND state = 0 AND role = 2", g)},
		"its owner":     {1, count(t, db, "SELECT COUNT(*) FROM group_members WHERE group_id = ? AND state = 0 AND role = 2 AND user_id = ?", g, owner)},
		"roles of left": {0, count(t, db, "SELECT COUNT(*) FROM group_members WHERE group_id = ? AND state = 1 AND role > 0", g)},
	} {
		if want[0] != want[1] {
			t.Errorf("group %d: %s: %d, %d in the rows", g, name, want[0], want[1])
		}
	}
}

func testOneOwner(t *testing.T, db *DB) {
	for range 10 {
		u := newUsers(t, db, 5)
		g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:]})
		ctx := t.Context()
		only := func(_ im.GroupChange, err error) error { return err }
		refused(t, together(
			func() error { return only(db.TransferGroup(ctx, u[0], g.ID, u[1])) },
			func() error { return only(db.TransferGroup(ctx, u[0], g.ID, u[2])) },
			func() error { return only(db.RemoveMember(ctx, u[1], g.ID, u[1])) },
			func() error { return only(db.RemoveMember(ctx, u[0], g.ID, u[0])) },
			func() error { return only(db.RemoveMember(ctx, u[0], g.ID, u[2])) },
			func() error { return only(db.SetRole(ctx, u[0], g.ID, u[3], im.RoleAdmin)) },
			func() error { return only(db.TransferGroup(ctx, u[1], g.ID, u[3])) },
			func() error { return only(db.SetRole(ctx, u[2], g.ID, u[0], im.RoleMember)) },
		), im.ErrForbidden, im.ErrNotFound, im.ErrConflict)
		checkGroup(t, db, g.ID)
	}
}

func testBoundsRace(t *testing.T, db *DB) {
	ctx := t.Context()
	owner := newUser(t, db)
	g := newGroup(t, db, im.NewGroup{Owner: owner, Members: newUsers(t, db, 12), JoinPolicy: im.JoinOpen})
	members, _, err := db.GroupMembers(ctx, owner, g.ID, owner, 12)
	must(t, err)
	_, err = db.w.Exec("UPDATE chat_groups SET members = ?, admins = ?, channels = ? WHERE id = ?", im.MaxGroupMembers-3, im.MaxGroupAdmins-3, im.MaxChannels-3, g.ID)
	must(t, err)
	invites, joins, admins, channels := make([]func() error, 4), make([]func() error, 4), make([]func() error, 8), make([]func() error, 8)
	for i := range invites {
		u, v := newUser(t, db), newUser(t, db)
		invites[i] = func() error { _, err := db.AddMembers(ctx, owner, g.ID, []im.UserID{u}); return err }
		joins[i] = func() error { _, _, err := db.AskToJoin(ctx, v, g.ID, ""); return err }
	}
	for i := range admins {
		admins[i] = func() error { _, err := db.SetRole(ctx, owner, g.ID, members[i].User, im.RoleAdmin); return err }
		channels[i] = func() error {
			_, _, err := db.CreateChannel(ctx, owner, g.ID, im.NewChannel{Name: fmt.Sprint(i), Private: i%2 == 0})
			return err
		}
	}
	var all []func() error
	for _, part := range [][]func() error{invites, joins, admins, channels} {
		all = append(all, part...)
	}
	errs := together(all...)
	for i, part := range [][]error{errs[:8], errs[8:16], errs[16:]} {
		if n := refused(t, part); n != 3 {
			t.Errorf("%s: %d got in, want 3", []string{"members", "admins", "channels"}[i], n)
		}
	}
	_, err = db.w.Exec("UPDATE chat_groups SET members = members - ?, admins = admins - ?, channels = channels - ? WHERE id = ?",
		im.MaxGroupMembers-3-13, im.MaxGroupAdmins-3, im.MaxChannels-3-1, g.ID)
	must(t, err)
	checkGroup(t, db, g.ID)
}

// testJoinRemoveRace lets some bring users in and take them out, and others store the
// notices, each conversation's in the order of its operations.
func testJoinRemoveRace(t *testing.T, db *DB) {
	ctx := t.Context()
	u := newUsers(t, db, 6)
	g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:2], JoinPolicy: im.JoinOpen})
	change, err := db.SetRole(ctx, u[0], g.ID, u[1], im.RoleAdmin)
	done(t, db, change, err)
	convs := []im.ConversationID{g.Main, newChannel(t, db, u[0], g.ID, im.NewChannel{}), newChannel(t, db, u[0], g.ID, im.NewChannel{Private: true})}
	logs := map[im.ConversationID]chan im.GroupOp{}
	var strands, askers sync.WaitGroup
	for _, c := range convs {
		ops := make(chan im.GroupOp, 1000)
		logs[c] = ops
		strands.Go(func() {
			stored := map[im.OpID]bool{} // told again by who asked for what was so already
			for op := range ops {
				for !stored[op.ID] {
					err := db.InsertMessages(ctx, []im.Message{opMessage(t, op, nextSeq(t, db, c))})
					if stored[op.ID] = err == nil; stored[op.ID] {
						break
					}
					if !errors.Is(err, im.ErrStore) {
						t.Errorf("strand: %v", err)
						return
					}
				}
			}
		})
	}
	tell := func(change im.GroupChange, err error) {
		refused(t, []error{err}, im.ErrPending, im.ErrNotFound, im.ErrConflict)
		for _, op := range change.Ops {
			logs[op.Conversation] <- op
		}
	}
	for who := range 2 {
		askers.Go(func() {
			for i := range 40 {
				target := u[2+(i+who)%4]
				switch (i + 2*who) % 5 {
				case 0, 3:
					tell(db.AddMembers(ctx, u[who], g.ID, []im.UserID{target}))
				case 1:
					tell(db.RemoveMember(ctx, u[who], g.ID, target))
				case 2:
					tell(db.AddToChannel(ctx, u[who], g.ID, convs[2], []im.UserID{target}))
				case 4:
					tell(db.RemoveMember(ctx, target, g.ID, target))
				}
			}
		})
	}
	askers.Wait()
	for _, ops := range logs {
		close(ops)
	}
	strands.Wait()
	checkGroup(t, db, g.ID)
	if n := count(t, db, "SELECT COUNT(*) FROM group_ops WHERE group_id = ?", g.ID); n != 0 {
		t.Errorf("%d operations are left", n)
	}
	for _, who := range u {
		for i, c := range convs {
			wanted := count(t, db, "SELECT COUNT(*) FROM group_members WHERE user_id = ? AND group_id = ? AND state = 0", who, g.ID) == 1
			if i == 2 {
				number, _ := c.Channel()
				private := count(t, db, "SELECT COUNT(*) FROM channel_members WHERE user_id = ? AND channel = ? AND state = 0", who, number) == 1
				if private && !wanted {
					t.Errorf("%d is in a channel of a group that they are not in", who)
				}
				wanted = private
			}
			if m, err := db.Member(context.Background(), c, who); (err == nil && m.In()) != wanted {
				t.Errorf("%d in %s: %+v, %v, wanted in: %v", who, c, m, err, wanted)
			}
		}
	}
}

func testCreateRace(t *testing.T, db *DB) {
	for range 5 {
		u := newUsers(t, db, 3)
		made := make([]im.GroupChange, 6)
		do := make([]func() error, len(made))
		for i := range do {
			do[i] = func() (err error) {
				made[i], err = db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Members: u[1:], Name: "once", JoinPolicy: im.JoinOpen, ClientGroupID: "group-0001"})
				return err
			}
		}
		if n := refused(t, together(do...)); n != len(do) {
			t.Errorf("%d of %d succeeded", n, len(do))
		}
		for _, m := range made {
			if m.Group != made[0].Group || len(m.Ops) != 1 || m.Ops[0].ID != made[0].Ops[0].ID {
				t.Errorf("%+v and %+v", m, made[0])
			}
		}
	}
}

func testGroupsRace(t *testing.T, db *DB) {
	u := newUser(t, db)
	var args []any
	for i := range im.MaxGroupsPerUser - 1 {
		args = append(args, u, 1<<40+i)
	}
	_, err := db.w.Exec(repeat("INSERT INTO group_members (user_id, group_id, state, role, muted_until, joined_at, moved) VALUES ", "(?, ?, 0, 0, 0, 0, 0)", ", ", len(args)/2, ""), args...)
	must(t, err)
	var do []func() error
	for i := range 6 {
		owner := newUser(t, db)
		g := newGroup(t, db, im.NewGroup{Owner: owner, JoinPolicy: im.JoinOpen})
		do = append(do, func() error {
			switch i % 3 {
			case 0:
				_, err := db.AddMembers(t.Context(), owner, g.ID, []im.UserID{u})
				return err
			case 1:
				_, _, err := db.AskToJoin(t.Context(), u, g.ID, "")
				return err
			}
			_, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: owner, Members: []im.UserID{u}, Name: "x", JoinPolicy: im.JoinOpen})
			return err
		})
	}
	if n := refused(t, together(do...)); n != 1 {
		t.Errorf("%d groups let them in, want 1", n)
	}
}

// testNoticesAndCursors stores notices that move many members of many channels while
// those members' cursors move, and writes no error to either.
func testNoticesAndCursors(t *testing.T, db *DB) {
	ctx := t.Context()
	u := newUsers(t, db, 20)
	g := newGroup(t, db, im.NewGroup{Owner: u[0], Members: u[1:]})
	convs := []im.ConversationID{g.Main}
	for range 5 {
		convs = append(convs, newChannel(t, db, u[0], g.ID, im.NewChannel{}))
	}
	seqs := map[im.ConversationID]im.Seq{}
	for _, c := range convs {
		seqs[c] = nextSeq(t, db, c)
	}
	ended := make(chan struct{})
	errs := together(func() error {
		defer close(ended)
		for round := range 30 {
			var batch []im.Message
			for i := range convs {
				c := convs[(i+round)%len(convs)]
				m := im.Membership{Group: g.ID, Leave: u[1:10]}
				if round%2 == 1 {
					m = im.Membership{Group: g.ID, Join: u[1:15], JoinAll: round%3 == 0}
				}
				op := im.GroupOp{ID: im.OpID(900_000_000 + number.Add(1)), Conversation: c, Membership: m}
				batch = append(batch, opMessage(t, op, seqs[c]))
				seqs[c]++
			}
			if err := db.InsertMessages(ctx, batch); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for seq := im.Seq(1); ; seq++ {
			select {
			case <-ended:
				return nil
			default:
			}
			var moves []im.CursorMove
			for _, who := range u {
				for _, c := range convs {
					moves = append(moves, im.CursorMove{Conversation: c, User: who, Delivered: seq, Read: seq})
				}
			}
			if err := db.MoveCursors(ctx, moves); err != nil {
				return err
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}
