package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// States of rows in group_members and channel_members.
const (
	memberIn   = 0
	memberLeft = 1
)

// roles are numbered as the column role has them.
var roles = [...]im.Role{im.RoleMember, im.RoleAdmin, im.RoleOwner}

func roleNumber(r im.Role) int { return slices.Index(roles[:], r) }

// groupTx is one group under lock in one transaction: as it is, and as the change
// leaves it.
type groupTx struct {
	db *DB
	tx *sql.Tx
	im.Group
	admins   int // without the owner
	channels int
	me       groupSeat // the actor's
	now      int64
	changed  bool
	again    []uint64 // versions of the changes that made so what is asked for
	ops      []im.GroupOp
}

// groupSeat is one user's row in group_members.
type groupSeat struct {
	user       im.UserID
	in         bool
	role       im.Role
	mutedUntil int64
	moved      uint64 // the group's version by which they last joined or left
}

const groupColumns = "g.id, g.name, g.avatar, g.owner, g.main_channel, g.members, g.join_policy, g.history_visible," +
	" g.muted_all, g.version, g.dissolved, g.created_at"

// scanGroup reads groupColumns and what stands after them.
func scanGroup(rows *sql.Rows, more ...any) (g im.Group, err error) {
	var main uint64
	err = rows.Scan(append([]any{&g.ID, &g.Name, &g.Avatar, &g.Owner, &main, &g.Members, &g.JoinPolicy, &g.HistoryVisible,
		&g.MutedAll, &g.Version, &g.Dissolved, &g.CreatedAt}, more...)...)
	g.Main = im.ChannelConversation(main)
	return g, err
}

// changeGroup runs do on a group under lock, all or nothing, and counts its version up
// where do says that it changed [S18]. A group that is dissolved is not found.
func (db *DB) changeGroup(ctx context.Context, op string, actor im.UserID, g im.GroupID, do func(context.Context, *groupTx) error) (change im.GroupChange, err error) {
	ctx, done := db.begin(ctx, op)
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) (err error) {
		t := &groupTx{db: db, tx: tx}
		if err := t.lock(ctx, g, actor); err != nil {
			return err
		}
		if err := do(ctx, t); err != nil {
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

func (t *groupTx) lock(ctx context.Context, g im.GroupID, actor im.UserID) error {
	found, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (im.Group, error) { return scanGroup(rows, &t.admins, &t.channels, &t.now) },
		"SELECT "+groupColumns+", g.admins, g.channels, "+t.db.d.now+" FROM chat_groups g WHERE g.id = ?"+t.db.d.forUpdate, g)
	if err == nil && (len(found) == 0 || found[0].Dissolved) {
		err = im.ErrNotFound
	}
	if err != nil {
		return err
	}
	t.Group = found[0]
	seats, err := t.seats(ctx, actor)
	t.me = seats[actor]
	return err
}

// manages says whether the actor may do what admins may, owns what only the owner may:
// im.ErrNotFound for who is not in the group, im.ErrForbidden for who may not.
func (t *groupTx) manages() error { return t.may(t.me.role.Manages()) }

func (t *groupTx) owns() error { return t.may(t.me.role == im.RoleOwner) }

func (t *groupTx) may(role bool) error {
	switch {
	case !t.me.in:
		return im.ErrNotFound
	case !role:
		return im.ErrForbidden
	}
	return nil
}

// seats reads users' rows; who was never in the group is left out.
func (t *groupTx) seats(ctx context.Context, users ...im.UserID) (map[im.UserID]groupSeat, error) {
	rows, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (s groupSeat, err error) {
		var state, role int
		err = rows.Scan(&s.user, &state, &role, &s.mutedUntil, &s.moved)
		s.in = state == memberIn
		if s.in && err == nil {
			s.role = roles[role]
		}
		return s, err
	}, "SELECT user_id, state, role, muted_until, moved FROM group_members WHERE group_id = ? AND user_id IN "+in(len(users)),
		append([]any{t.ID}, anyOf(users)...)...)
	seats := make(map[im.UserID]groupSeat, len(rows))
	for _, s := range rows {
		seats[s.user] = s
	}
	return seats, err
}

// seat is a user's who is in the group, im.ErrNotFound of others.
func (t *groupTx) seat(ctx context.Context, u im.UserID) (groupSeat, error) {
	seats, err := t.seats(ctx, u)
	if err == nil && !seats[u].in {
		err = im.ErrNotFound
	}
	return seats[u], err
}

// publicChannels are those where everyone is, the main one first.
func (t *groupTx) publicChannels(ctx context.Context) ([]im.ConversationID, error) {
	return queryAll(ctx, t.tx, scanChannelID, "SELECT id FROM channels WHERE group_id = ? AND removed = 0 AND private = 0 ORDER BY id", t.ID)
}

func scanChannelID(rows *sql.Rows) (im.ConversationID, error) {
	var n uint64
	err := rows.Scan(&n)
	return im.ChannelConversation(n), err
}

// next is the version that the change makes.
func (t *groupTx) next() uint64 { return t.Version + 1 }

// finish writes the group's row and what the log must be told. Where nothing has changed
// that is what it has not stored of the changes that made it so: who asks again is to know
// whether all is told.
func (t *groupTx) finish(ctx context.Context) (im.GroupChange, error) {
	if !t.changed {
		ops, err := t.unstored(ctx, t.again...)
		return im.GroupChange{Group: t.Group, Ops: ops}, err
	}
	t.Version = t.next()
	_, err := t.tx.ExecContext(ctx, "UPDATE chat_groups SET name = ?, avatar = ?, owner = ?, join_policy = ?, history_visible = ?,"+
		" muted_all = ?, dissolved = ?, members = ?, admins = ?, channels = ?, version = ? WHERE id = ?",
		t.Name, t.Avatar, t.Owner, t.JoinPolicy, t.HistoryVisible, t.MutedAll, t.Dissolved, t.Members, t.admins, t.channels, t.Version, t.ID)
	if err == nil {
		err = t.insertOps(ctx)
	}
	return im.GroupChange{Group: t.Group, Ops: t.ops}, err
}
