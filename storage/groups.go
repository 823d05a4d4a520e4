package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// CreateGroup makes a group with its main channel. With the ClientGroupID of one that
// its owner has made it returns that one, and what the log has not stored of its
// beginning; im.ErrConflict where they are no longer in it. Users that are not there are
// im.ErrNotFound, one who has blocked the owner im.ErrBlocked, one who takes messages
// from contacts only, and the owner is none, im.ErrNotContact.
func (db *DB) CreateGroup(ctx context.Context, n im.NewGroup) (change im.GroupChange, err error) {
	ctx, done := db.begin(ctx, "create_group")
	defer done(&err)
	users := append(slices.Clone(n.Members), n.Owner)
	slices.Sort(users)
	users = slices.Compact(users)
	err = db.transact(ctx, func(tx *sql.Tx) (err error) {
		t := &groupTx{db: db, tx: tx, Group: im.Group{
			Name: n.Name, Avatar: n.Avatar, Owner: n.Owner, JoinPolicy: n.JoinPolicy, HistoryVisible: n.HistoryVisible,
		}}
		if n.ClientGroupID != "" {
			// The owner's lock keeps a second call with the same ID waiting. What has changed
			// about the members since the first does not matter.
			if _, err := db.lockUsers(ctx, tx, users...); err != nil {
				return err
			}
			made, err := t.made(ctx, n.Owner, n.ClientGroupID)
			if err == nil {
				change = made
			}
			if !errors.Is(err, im.ErrNotFound) {
				return err
			}
		}
		if err := t.lockJoiners(ctx, n.Owner, users); err != nil {
			return err
		}
		if err := t.mayBring(ctx, n.Owner, users); err != nil {
			return err
		}
		if err := t.roomForMore(ctx, users); err != nil {
			return err
		}
		if err := t.create(ctx, n.ClientGroupID, users); err != nil {
			return err
		}
		change, err = t.finish(ctx)
		return err
	})
	if err != nil {
		return im.GroupChange{}, err
	}
	return change, nil
}

// made finds the group that its creator made before.
func (t *groupTx) made(ctx context.Context, creator im.UserID, id im.ClientMsgID) (change im.GroupChange, err error) {
	found, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (im.Group, error) { return scanGroup(rows) },
		"SELECT "+groupColumns+" FROM chat_groups g WHERE g.creator = ? AND g.client_group_id = ?", creator, id)
	if err == nil && len(found) == 0 {
		err = im.ErrNotFound
	}
	if err != nil {
		return change, err
	}
	made := groupTx{db: t.db, tx: t.tx, Group: found[0]}
	seats, err := made.seats(ctx, creator)
	if err == nil && !seats[creator].in {
		err = im.ErrConflict
	}
	if err != nil {
		return change, err
	}
	ops, err := queryAll(ctx, t.tx, scanOp, opColumns+"group_id = ? AND version = 1 ORDER BY id", made.ID)
	return im.GroupChange{Group: made.Group, Ops: ops}, err
}

// create writes the rows of a new group; finish makes it version 1.
func (t *groupTx) create(ctx context.Context, id im.ClientMsgID, users []im.UserID) error {
	err := t.tx.QueryRowContext(ctx, "SELECT "+t.db.d.now).Scan(&t.now)
	if err != nil {
		return err
	}
	t.CreatedAt, t.Members = t.now, len(users)
	res, err := t.tx.ExecContext(ctx, "INSERT INTO chat_groups (name, avatar, owner, creator, client_group_id, main_channel, join_policy,"+
		" history_visible, muted_all, members, admins, channels, version, created_at) VALUES (?, ?, ?, ?, ?, 0, ?, ?, 0, 0, 0, 0, 0, ?)",
		t.Name, t.Avatar, t.Owner, t.Owner, sql.NullString{String: string(id), Valid: id != ""}, t.JoinPolicy, t.HistoryVisible, t.CreatedAt)
	if err != nil {
		return err
	}
	group, err := res.LastInsertId()
	if err != nil {
		return err
	}
	t.ID = im.GroupID(group)
	main, err := t.insertChannel(ctx, "", false)
	if err != nil {
		return err
	}
	t.Main = main.ID
	number, _ := main.ID.Channel()
	if _, err := t.tx.ExecContext(ctx, "UPDATE chat_groups SET main_channel = ? WHERE id = ?", number, t.ID); err != nil {
		return err
	}
	if err := t.insertMembers(ctx, users); err != nil {
		return err
	}
	_, err = t.tx.ExecContext(ctx, "UPDATE group_members SET role = ? WHERE user_id = ? AND group_id = ?", roleNumber(im.RoleOwner), t.Owner, t.ID)
	if err != nil {
		return err
	}
	notice, err := t.notice(ctx, im.NoticeCreated, t.Owner, slices.DeleteFunc(slices.Clone(users), func(u im.UserID) bool { return u == t.Owner })...)
	if err != nil {
		return err
	}
	notice.Name = t.Name
	t.tell(t.Main, notice, im.Membership{Join: users, History: t.HistoryVisible})
	return nil
}

// UpdateGroup changes what is not nil: admins may.
func (db *DB) UpdateGroup(ctx context.Context, actor im.UserID, g im.GroupID, p im.GroupPatch) (im.GroupChange, error) {
	return db.changeGroup(ctx, "update_group", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.manages(); err != nil {
			return err
		}
		before := t.Group
		patch(&t.Name, p.Name)
		patch(&t.Avatar, p.Avatar)
		patch(&t.JoinPolicy, p.JoinPolicy)
		patch(&t.HistoryVisible, p.HistoryVisible)
		if t.Group != before {
			notice, err := t.notice(ctx, im.NoticeUpdated, actor)
			if err != nil {
				return err
			}
			notice.Name = t.Name
			t.tellMain(notice)
		}
		if patch(&t.MutedAll, p.MutedAll); t.MutedAll == before.MutedAll {
			return nil
		}
		kind := im.NoticeUnmutedAll
		if t.MutedAll {
			kind = im.NoticeMutedAll
		}
		notice, err := t.notice(ctx, kind, actor)
		t.tellMain(notice)
		return err
	})
}

func patch[T any](field *T, to *T) {
	if to != nil {
		*field = *to
	}
}

// DissolveGroup ends a group and everyone's membership: the owner may. im.ErrPending
// while a channel has not stored an earlier notice, which must not come after the last.
func (db *DB) DissolveGroup(ctx context.Context, actor im.UserID, g im.GroupID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "dissolve_group", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.owns(); err != nil {
			return err
		}
		if err := t.noOps(ctx, "1 = 1"); err != nil {
			return err
		}
		channels, err := queryAll(ctx, t.tx, scanChannelID, "SELECT id FROM channels WHERE group_id = ? AND removed = 0 ORDER BY id", t.ID)
		if err != nil {
			return err
		}
		notice, err := t.notice(ctx, im.NoticeDissolved, actor)
		if err != nil {
			return err
		}
		notice.Name = t.Name
		for _, c := range channels {
			t.tell(c, notice, im.Membership{LeaveAll: true})
		}
		t.Dissolved, t.Members, t.admins = true, 0, 0
		_, err = t.tx.ExecContext(ctx, "UPDATE group_members SET state = ?, role = 0, moved = ? WHERE group_id = ? AND state = ?",
			memberLeft, t.next(), t.ID, memberIn)
		if err != nil {
			return err
		}
		if _, err := t.tx.ExecContext(ctx, "DELETE FROM channel_members WHERE channel IN (SELECT id FROM channels WHERE group_id = ?)", t.ID); err != nil {
			return err
		}
		_, err = t.tx.ExecContext(ctx, "DELETE FROM join_requests WHERE group_id = ?", t.ID)
		return err
	})
}

// TransferGroup makes user the owner and the owner an admin. im.ErrNotFound where user
// is not in the group, im.FullError where there are as many admins as may be.
func (db *DB) TransferGroup(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "transfer_group", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.owns(); err != nil {
			return err
		}
		if user == actor {
			return nil
		}
		heir, err := t.seat(ctx, user)
		if err != nil {
			return err
		}
		if heir.role != im.RoleAdmin {
			if err := t.roomForAdmin(); err != nil {
				return err
			}
			t.admins++
		}
		if err := t.setRole(ctx, actor, im.RoleAdmin); err != nil {
			return err
		}
		if err := t.setRole(ctx, user, im.RoleOwner); err != nil {
			return err
		}
		t.Owner = user
		notice, err := t.notice(ctx, im.NoticeTransferred, actor, user)
		notice.Role = im.RoleOwner
		t.tellMain(notice)
		return err
	})
}
