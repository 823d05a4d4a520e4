package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const membersOf = "SELECT conversation, join_seq, joined_seq, leave_seq, delivered_seq, read_seq, floor_seq, deletions FROM members" +
	" WHERE user_id = ? AND conversation IN ("

// Members are u's rows in convs; where they were never in one, it is left out.
func (db *DB) Members(ctx context.Context, u im.UserID, convs []im.ConversationID) (found map[im.ConversationID]im.Member, err error) {
	ctx, done := db.begin(ctx, "members")
	defer done(&err)
	found = make(map[im.ConversationID]im.Member, len(convs))
	scan := func(rows *sql.Rows) (m im.Member, err error) {
		m.User = u
		err = rows.Scan(&m.Conversation, &m.Join, &m.Joined, &m.Leave, &m.Delivered, &m.Read, &m.Floor, &m.Deletions)
		return m, err
	}
	for part := range slices.Chunk(convs, findKeys) {
		args := []any{u}
		for _, c := range part {
			args = append(args, c)
		}
		all, err := queryAll(ctx, db.r, scan, repeat(membersOf, "?", ", ", len(part), ")"), args...)
		if err != nil {
			return nil, err
		}
		for _, m := range all {
			found[m.Conversation] = m
		}
	}
	return found, nil
}
