package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

const movedQuery = `SELECT user_id, join_seq, joined_seq, leave_seq, delivered_seq, read_seq FROM members
WHERE conversation = ? AND user_id > ? AND (joined_seq = ? OR leave_seq = ?)`

// Moved are the members whom the notice at seq let in or out, as their rows are now, by
// user, from above after; of users only, where some are named.
func (db *DB) Moved(ctx context.Context, c im.ConversationID, seq im.Seq, users []im.UserID, after im.UserID, limit int) (moved []im.Member, err error) {
	ctx, done := db.begin(ctx, "moved")
	defer done(&err)
	query, args := movedQuery, []any{c, after, seq, seq}
	if len(users) > 0 {
		query, args = query+" AND user_id IN "+in(len(users)), append(args, anyOf(users)...)
	}
	return queryAll(ctx, db.r, func(rows *sql.Rows) (im.Member, error) {
		m := im.Member{Conversation: c}
		err := rows.Scan(&m.User, &m.Join, &m.Joined, &m.Leave, &m.Delivered, &m.Read)
		return m, err
	}, query+" ORDER BY user_id LIMIT ?", append(args, limit)...)
}

// GroupSize is how many members a group has; 0 where there is none.
func (db *DB) GroupSize(ctx context.Context, g im.GroupID) (n int, err error) {
	ctx, done := db.begin(ctx, "group_size")
	defer done(&err)
	err = db.r.QueryRowContext(ctx, "SELECT COALESCE(SUM(members), 0) FROM chat_groups WHERE id = ?", g).Scan(&n)
	return n, err
}
