package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// AddMembers invites: admins may. Who is in it already is passed over. im.ErrNotFound
// for one who is not there, im.ErrBlocked for one who has blocked the actor,
// im.ErrNotContact for one who takes messages from contacts only and has not the actor
// among them.
func (db *DB) AddMembers(ctx context.Context, actor im.UserID, g im.GroupID, users []im.UserID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "add_members", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.manages(); err != nil {
			return err
		}
		if err := t.mayBring(ctx, actor, users); err != nil {
			return err
		}
		return t.join(ctx, actor, users...)
	})
}

// mayBring says whether users would take messages from who brings them, without having
// asked: a group is no way around that. Who is in it already is.
func (t *groupTx) mayBring(ctx context.Context, actor im.UserID, users []im.UserID) error {
	strangers, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (u im.UserID, err error) { return u, rows.Scan(&u) },
		"SELECT p.user_id FROM people p WHERE p.message_policy = 1 AND p.user_id <> ? AND p.user_id IN "+in(len(users))+
			" AND NOT EXISTS (SELECT 1 FROM contacts c WHERE c.user_id = p.user_id AND c.peer_id = ? AND c.state = ?)"+
			" AND NOT EXISTS (SELECT 1 FROM group_members m WHERE m.user_id = p.user_id AND m.group_id = ? AND m.state = ?)",
		append(append([]any{actor}, anyOf(users)...), actor, stateContact, t.ID, memberIn)...)
	if err == nil && len(strangers) > 0 {
		err = im.ErrNotContact
	}
	return err
}

// join lets users in whom actor brings, or who come by themselves.
func (t *groupTx) join(ctx context.Context, actor im.UserID, users ...im.UserID) error {
	seats, err := t.seats(ctx, users...)
	if err != nil {
		return err
	}
	users = t.newcomers(users, func(u im.UserID) (bool, uint64) { return seats[u].in, seats[u].moved })
	if len(users) == 0 {
		return nil
	}
	var moved []uint64
	for _, u := range users {
		if s, ok := seats[u]; ok {
			moved = append(moved, s.moved)
		}
	}
	if err := t.settled(ctx, moved...); err != nil {
		return err
	}
	if t.Members+len(users) > im.MaxGroupMembers {
		return &im.FullError{Limit: "group_members", Max: im.MaxGroupMembers}
	}
	if err := t.lockJoiners(ctx, actor, users); err != nil {
		return err
	}
	if err := t.roomForMore(ctx, users); err != nil {
		return err
	}
	if err := t.insertMembers(ctx, users); err != nil {
		return err
	}
	t.Members += len(users)
	_, err = t.tx.ExecContext(ctx, "DELETE FROM join_requests WHERE group_id = ? AND user_id IN "+in(len(users)), append([]any{t.ID}, anyOf(users)...)...)
	if err != nil {
		return err
	}
	notice, err := t.notice(ctx, im.NoticeJoined, actor, users...)
	if err != nil {
		return err
	}
	channels, err := t.publicChannels(ctx)
	for _, c := range channels {
		t.tell(c, notice, im.Membership{Join: users, History: t.HistoryVisible})
	}
	return err
}

// newcomers are those of users who are not in it already, in order and each once; of the
// others it remembers by which change they came.
func (t *groupTx) newcomers(users []im.UserID, seat func(im.UserID) (in bool, moved uint64)) []im.UserID {
	users = slices.DeleteFunc(slices.Clone(users), func(u im.UserID) bool {
		in, moved := seat(u)
		if in {
			t.again = append(t.again, moved)
		}
		return in
	})
	slices.Sort(users)
	return slices.Compact(users)
}

// lockJoiners keeps users from joining other groups and from blocking meanwhile:
// im.ErrNotFound where one is not there, im.ErrBlocked where one has blocked actor.
func (t *groupTx) lockJoiners(ctx context.Context, actor im.UserID, users []im.UserID) error {
	active, err := t.db.lockUsers(ctx, t.tx, users...)
	if err != nil {
		return err
	}
	for _, u := range users {
		if !active[u] {
			return im.ErrNotFound
		}
	}
	by, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (u im.UserID, err error) { return u, rows.Scan(&u) },
		"SELECT user_id FROM blocks WHERE blocked_id = ? AND user_id IN "+in(len(users)), append([]any{actor}, anyOf(users)...)...)
	if err == nil && len(by) > 0 {
		err = im.ErrBlocked
	}
	return err
}

// roomForMore says whether each of the locked users may be in one group more.
func (t *groupTx) roomForMore(ctx context.Context, users []im.UserID) error {
	full, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (u im.UserID, err error) { return u, rows.Scan(&u) },
		"SELECT user_id FROM group_members WHERE state = ? AND user_id IN "+in(len(users))+" GROUP BY user_id HAVING COUNT(*) >= ?",
		append(append([]any{memberIn}, anyOf(users)...), im.MaxGroupsPerUser)...)
	if err == nil && len(full) > 0 {
		err = &im.FullError{Limit: "groups", Max: im.MaxGroupsPerUser}
	}
	return err
}

// insertMembers makes users plain members; who has been one stays muted for as long as
// they were.
func (t *groupTx) insertMembers(ctx context.Context, users []im.UserID) error {
	return insertAll(ctx, t.tx, "INSERT INTO group_members (user_id, group_id, state, role, muted_until, joined_at, moved) VALUES ", 7, len(users), t.db.d.rejoinGroup,
		func(args []any, i int) []any {
			return append(args, users[i], t.ID, memberIn, roleNumber(im.RoleMember), 0, t.now, t.next())
		})
}

// RemoveMember takes user out, or has the actor leave where they are the same; admins
// remove members, the owner also admins. The owner may not leave: im.ErrConflict. Who
// is not in it stays out, without a notice.
func (db *DB) RemoveMember(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "remove_member", actor, g, func(ctx context.Context, t *groupTx) error {
		kind, seat := im.NoticeLeft, t.me
		switch {
		case actor != user:
			if err := t.manages(); err != nil {
				return err
			}
			seats, err := t.seats(ctx, user)
			if err != nil || !seats[user].in {
				t.again = append(t.again, seats[user].moved) // 0, which is no change, for who never was
				return err
			}
			kind, seat = im.NoticeRemoved, seats[user]
			if err := t.above(seat); err != nil {
				return err
			}
		case !seat.in:
			return im.ErrNotFound
		case seat.role == im.RoleOwner:
			return im.ErrConflict
		}
		return t.leave(ctx, kind, actor, seat)
	})
}

// above says whether the actor, an admin or the owner, may take it up with a member.
func (t *groupTx) above(s groupSeat) error {
	if s.role == im.RoleOwner || s.role == im.RoleAdmin && t.me.role != im.RoleOwner {
		return im.ErrForbidden
	}
	return nil
}

func (t *groupTx) leave(ctx context.Context, kind im.NoticeKind, actor im.UserID, s groupSeat) error {
	if err := t.settled(ctx, s.moved); err != nil {
		return err
	}
	private, err := t.privateChannels(ctx, s.user)
	if err != nil {
		return err
	}
	channels, err := t.publicChannels(ctx)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(ctx, "UPDATE group_members SET state = ?, role = 0, moved = ? WHERE user_id = ? AND group_id = ?",
		memberLeft, t.next(), s.user, t.ID)
	if err != nil {
		return err
	}
	if err := t.setChannelMembers(ctx, private, memberLeft, s.user); err != nil {
		return err
	}
	t.Members--
	if s.role == im.RoleAdmin {
		t.admins--
	}
	notice, err := t.notice(ctx, kind, actor, s.user)
	for _, c := range append(channels, private...) {
		t.tell(c, notice, im.Membership{Leave: []im.UserID{s.user}})
	}
	return err
}

// SetRole makes an admin or a member: the owner may. The owner stays the owner:
// im.ErrConflict.
func (db *DB) SetRole(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, role im.Role) (im.GroupChange, error) {
	return db.changeGroup(ctx, "set_role", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.owns(); err != nil {
			return err
		}
		if user == actor {
			return im.ErrConflict
		}
		seat, err := t.seat(ctx, user)
		if err != nil || seat.role == role {
			return err
		}
		if role == im.RoleAdmin {
			if err := t.roomForAdmin(); err != nil {
				return err
			}
			t.admins++
		} else {
			t.admins--
		}
		if err := t.setRole(ctx, user, role); err != nil {
			return err
		}
		notice, err := t.notice(ctx, im.NoticeRole, actor, user)
		notice.Role = role
		t.tellMain(notice)
		return err
	})
}

func (t *groupTx) setRole(ctx context.Context, u im.UserID, role im.Role) error {
	_, err := t.tx.ExecContext(ctx, "UPDATE group_members SET role = ? WHERE user_id = ? AND group_id = ?", roleNumber(role), u, t.ID)
	return err
}

func (t *groupTx) roomForAdmin() error {
	if t.admins >= im.MaxGroupAdmins {
		return &im.FullError{Limit: "group_admins", Max: im.MaxGroupAdmins}
	}
	return nil
}

// MuteMember mutes until a time in Unix milliseconds, 0 ends it: as RemoveMember.
func (db *DB) MuteMember(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, until int64) (im.GroupChange, error) {
	return db.changeGroup(ctx, "mute_member", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.manages(); err != nil {
			return err
		}
		seat, err := t.seat(ctx, user)
		if err != nil {
			return err
		}
		if err := t.above(seat); err != nil {
			return err
		}
		if seat.mutedUntil == until {
			return nil
		}
		_, err = t.tx.ExecContext(ctx, "UPDATE group_members SET muted_until = ? WHERE user_id = ? AND group_id = ?", until, user, t.ID)
		if err != nil {
			return err
		}
		kind := im.NoticeMuted
		if until == 0 {
			kind = im.NoticeUnmuted
		}
		notice, err := t.notice(ctx, kind, actor, user)
		notice.Until = until
		t.tellMain(notice)
		return err
	})
}
