package storage

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// moveMembers writes what the notices among rows change about who is in their
// conversations [S19]. Conversations come in their order and users in theirs, so that two
// seldom deadlock; the notices of one conversation stay in the order of their seqs.
func (db *DB) moveMembers(ctx context.Context, tx *sql.Tx, rows []im.Message) error {
	var notices []*im.Message
	var ops []any
	for i := range rows {
		if rows[i].Membership != nil {
			notices, ops = append(notices, &rows[i]), append(ops, rows[i].Membership.Op)
		}
	}
	slices.SortFunc(notices, func(a, b *im.Message) int {
		return cmp.Or(cmp.Compare(a.Conversation, b.Conversation), cmp.Compare(a.Seq, b.Seq))
	})
	for _, n := range notices {
		if err := db.moveBy(ctx, tx, n.Conversation, n.Seq, n.Membership); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(ops, findKeys) {
		if _, err := tx.ExecContext(ctx, "DELETE FROM group_ops WHERE id IN "+in(len(part)), part...); err != nil {
			return err
		}
	}
	return nil
}

// moveBy writes what one notice changes. Who is in already stays as they are, who is out
// stays out.
func (db *DB) moveBy(ctx context.Context, tx *sql.Tx, c im.ConversationID, seq im.Seq, m *im.Membership) error {
	first := seq
	if m.History {
		first = 1
	}
	join := slices.Sorted(slices.Values(m.Join))
	err := insertAll(ctx, tx, "INSERT INTO members (user_id, conversation, join_seq, joined_seq, delivered_seq, read_seq) VALUES ", 6, len(join), db.d.rejoin,
		func(args []any, i int) []any { return append(args, join[i], c, first, seq, seq, seq) })
	if err != nil {
		return err
	}
	if m.JoinAll {
		_, err := tx.ExecContext(ctx, "INSERT INTO members (user_id, conversation, join_seq, joined_seq, delivered_seq, read_seq)"+
			" SELECT g.user_id, ?, ?, ?, ?, ? FROM group_members g WHERE g.group_id = ? AND g.state = ? ORDER BY g.user_id"+db.d.rejoin,
			db.d.key(string(c)), first, seq, seq, seq, m.Group, memberIn)
		if err != nil {
			return err
		}
	}
	leave := slices.Sorted(slices.Values(m.Leave))
	for part := range slices.Chunk(leave, insertRows) {
		_, err := tx.ExecContext(ctx, "UPDATE members SET leave_seq = ? WHERE conversation = ? AND leave_seq <= joined_seq AND user_id IN "+in(len(part)),
			append([]any{seq, c}, anyOf(part)...)...)
		if err != nil {
			return err
		}
	}
	set, args := "member_ver = ?", []any{seq}
	if m.LeaveAll {
		if _, err := tx.ExecContext(ctx, "UPDATE members SET leave_seq = ? WHERE conversation = ? AND leave_seq <= joined_seq", seq, c); err != nil {
			return err
		}
		set, args = set+", closed_seq = ?", append(args, seq)
	}
	if m.Merge {
		set += ", merged = 1"
	}
	if !m.Moves() {
		return nil
	}
	_, err = tx.ExecContext(ctx, "UPDATE conversations SET "+set+" WHERE id = ?", append(args, c)...)
	return err
}
