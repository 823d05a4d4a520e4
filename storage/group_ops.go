package storage

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const opColumns = "SELECT id, conversation, notice, membership, at FROM group_ops WHERE "

// tell notes that a channel must be told, with what the notice changes there.
func (t *groupTx) tell(c im.ConversationID, n im.Notice, m im.Membership) {
	t.changed = true
	m.Group = t.ID
	t.ops = append(t.ops, im.GroupOp{Conversation: c, Notice: n, Membership: m, At: t.now})
}

// tellMain notes that the main channel must be told of what moves nobody.
func (t *groupTx) tellMain(n im.Notice) { t.tell(t.Main, n, im.Membership{}) }

// notice says who did what to whom, by their names of now.
func (t *groupTx) notice(ctx context.Context, kind im.NoticeKind, actor im.UserID, users ...im.UserID) (im.Notice, error) {
	n := im.Notice{Kind: kind, GroupID: t.ID, Count: len(users)}
	users = users[:min(len(users), im.MaxNoticeNames)]
	named := append([]im.UserID{actor}, users...)
	names := make(map[im.UserID]string, len(named))
	err := queryEach(ctx, t.tx, func(rows *sql.Rows) error {
		var u im.UserID
		var name string
		err := rows.Scan(&u, &name)
		names[u] = name
		return err
	}, "SELECT id, nickname FROM users WHERE id IN "+in(len(named)), anyOf(named)...)
	n.Actor = &im.NoticeUser{ID: actor, Nickname: names[actor]}
	for _, u := range users {
		n.Users = append(n.Users, im.NoticeUser{ID: u, Nickname: names[u]})
	}
	return n, err
}

// insertOps writes the ops under the group's version and gives them their IDs.
func (t *groupTx) insertOps(ctx context.Context) error {
	type row struct{ notice, membership []byte }
	rows := make([]row, len(t.ops))
	for i, op := range t.ops {
		var err error
		if rows[i].notice, err = json.Marshal(op.Notice); err != nil {
			return fmt.Errorf("pack a notice: %w", err)
		}
		if rows[i].membership, err = json.Marshal(op.Membership); err != nil {
			return fmt.Errorf("pack a membership: %w", err)
		}
	}
	err := insertAll(ctx, t.tx, "INSERT INTO group_ops (group_id, version, conversation, notice, membership, at, told_at) VALUES ", 7, len(rows), "",
		func(args []any, i int) []any {
			return append(args, t.ID, t.Version, t.ops[i].Conversation, string(rows[i].notice), string(rows[i].membership), t.now, t.now)
		})
	if err != nil {
		return err
	}
	ids, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (id im.OpID, err error) { return id, rows.Scan(&id) },
		"SELECT id FROM group_ops WHERE group_id = ? AND version = ? ORDER BY id", t.ID, t.Version)
	if err == nil && len(ids) != len(t.ops) {
		err = fmt.Errorf("%d operations of %d were written", len(ids), len(t.ops))
	}
	if err != nil {
		return err
	}
	for i, id := range ids {
		t.ops[i].ID, t.ops[i].Membership.Op = id, id
	}
	return nil
}

// settled returns im.ErrPending where one of the group's changes has not been stored by
// all channels it told.
func (t *groupTx) settled(ctx context.Context, versions ...uint64) error {
	if len(versions) == 0 {
		return nil
	}
	return t.noOps(ctx, "version IN "+in(len(versions)), anyOf(versions)...)
}

// unstored is what the log has not stored of some of the group's changes.
func (t *groupTx) unstored(ctx context.Context, versions ...uint64) ([]im.GroupOp, error) {
	if len(versions) == 0 {
		return nil, nil
	}
	return queryAll(ctx, t.tx, scanOp, opColumns+"group_id = ? AND version IN "+in(len(versions))+" ORDER BY id",
		append([]any{t.ID}, anyOf(versions)...)...)
}

func (t *groupTx) noOps(ctx context.Context, where string, args ...any) error {
	var n int
	err := t.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM group_ops WHERE group_id = ? AND ("+where+") LIMIT 1) o",
		append([]any{t.ID}, args...)...).Scan(&n)
	if err == nil && n > 0 {
		err = im.ErrPending
	}
	return err
}

func scanOp(rows *sql.Rows) (op im.GroupOp, err error) {
	var notice, membership sql.RawBytes
	if err = rows.Scan(&op.ID, &op.Conversation, &notice, &membership, &op.At); err != nil {
		return op, err
	}
	if err = json.Unmarshal(notice, &op.Notice); err == nil {
		err = json.Unmarshal(membership, &op.Membership)
	}
	if err != nil {
		return op, fmt.Errorf("operation %d: %w", op.ID, err)
	}
	op.Membership.Op = op.ID
	return op, nil
}

// slowest is how often at least an operation is told, in milliseconds.
const slowest = 60_000

// PendingOps are those that nobody has told the log for a while, the oldest first; they
// count as told from now on. The while doubles, up to a minute: while the workers are
// away, all that is told piles up in the log. Two that ask at the same moment may both
// get them: told twice is stored once.
func (db *DB) PendingOps(ctx context.Context, quiet time.Duration, limit int) (ops []im.GroupOp, err error) {
	ctx, done := db.begin(ctx, "pending_ops")
	defer done(&err)
	ops, err = queryAll(ctx, db.r, scanOp, opColumns+"told_at <= "+db.d.now+" - ?"+
		" AND CASE WHEN told_at - at > ? THEN ? ELSE told_at - at END <= "+db.d.now+" - told_at ORDER BY told_at, id LIMIT ?",
		quiet.Milliseconds(), slowest, slowest, limit)
	if err != nil || len(ops) == 0 {
		return nil, err
	}
	slices.SortFunc(ops, func(a, b im.GroupOp) int { return cmp.Compare(a.ID, b.ID) })
	for part := range slices.Chunk(ops, findKeys) {
		ids := make([]any, len(part))
		for i, op := range part {
			ids[i] = op.ID
		}
		err := db.transact(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE group_ops SET told_at = "+db.d.now+" WHERE id IN "+in(len(ids)), ids...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return ops, nil
}
