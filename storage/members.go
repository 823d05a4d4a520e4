package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const memberRows = "SELECT conversation, join_seq, joined_seq, leave_seq, delivered_seq, read_seq, floor_seq, deletions FROM members" +
	" WHERE user_id = ? AND conversation "

// Member returns im.ErrNotFound where u was never in c. Who has left has Leave set.
func (db *DB) Member(ctx context.Context, c im.ConversationID, u im.UserID) (m im.Member, err error) {
	ctx, done := db.begin(ctx, "member")
	defer done(&err)
	m = im.Member{Conversation: c, User: u}
	err = db.r.QueryRowContext(ctx, memberRows+"= ?", u, c).Scan(memberFields(&m)...)
	return m, notFound(err)
}

// memberFields are where memberRows go.
func memberFields(m *im.Member) []any {
	return []any{&m.Conversation, &m.Join, &m.Joined, &m.Leave, &m.Delivered, &m.Read, &m.Floor, &m.Deletions}
}

// Members are u's rows in convs; where they were never in one, it is left out.
func (db *DB) Members(ctx context.Context, u im.UserID, convs []im.ConversationID) (found map[im.ConversationID]im.Member, err error) {
	ctx, done := db.begin(ctx, "members")
	defer done(&err)
	found = make(map[im.ConversationID]im.Member, len(convs))
	for part := range slices.Chunk(convs, findKeys) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			m := im.Member{User: u}
			err := rows.Scan(memberFields(&m)...)
			found[m.Conversation] = m
			return err
		}, memberRows+"IN "+in(len(part)), append([]any{u}, anyOf(part)...)...)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// notFound turns "no row" into im.ErrNotFound.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return im.ErrNotFound
	}
	return err
}
