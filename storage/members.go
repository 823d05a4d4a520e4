package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// Member returns im.ErrNotFound where u was never in c. Who has left has Leave set.
func (db *DB) Member(ctx context.Context, c im.ConversationID, u im.UserID) (m im.Member, err error) {
	ctx, done := db.begin(ctx, "member")
	defer done(&err)
	m = im.Member{Conversation: c, User: u}
	err = db.r.QueryRowContext(ctx, "SELECT join_seq, joined_seq, leave_seq, delivered_seq, read_seq, floor_seq, deletions FROM members"+
		" WHERE user_id = ? AND conversation = ?", u, c).Scan(&m.Join, &m.Joined, &m.Leave, &m.Delivered, &m.Read, &m.Floor, &m.Deletions)
	return m, notFound(err)
}

// notFound turns "no row" into im.ErrNotFound.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return im.ErrNotFound
	}
	return err
}
