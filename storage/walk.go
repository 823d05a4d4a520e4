package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// UserIDs are the users from above after, in order.
func (db *DB) UserIDs(ctx context.Context, after im.UserID, limit int) (ids []im.UserID, err error) {
	ctx, done := db.begin(ctx, "user_ids")
	defer done(&err)
	return queryAll(ctx, db.r, scanUserID, "SELECT id FROM users WHERE id > ? ORDER BY id LIMIT ?", after, limit)
}

// LastUser is the highest user there is; 0 where there is none.
func (db *DB) LastUser(ctx context.Context) (u im.UserID, err error) {
	ctx, done := db.begin(ctx, "last_user")
	defer done(&err)
	err = db.r.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM users").Scan(&u)
	return u, err
}

// lastSenders reads the end of the messages by ID, and no more than that.
const lastSenders = "SELECT m.conversation, m.sender FROM messages m ORDER BY m.id DESC LIMIT ?"

// ActiveUsers are who sent the last messages, and whom they wrote to one-to-one; of so
// many messages, each user once, in the order of the last message.
func (db *DB) ActiveUsers(ctx context.Context, messages int) (ids []im.UserID, err error) {
	ctx, done := db.begin(ctx, "active_users")
	defer done(&err)
	seen := map[im.UserID]bool{im.SystemUser: true}
	add := func(u im.UserID) {
		if !seen[u] {
			seen[u] = true
			ids = append(ids, u)
		}
	}
	err = queryEach(ctx, db.r, func(rows *sql.Rows) error {
		var c im.ConversationID
		var sender im.UserID
		if err := rows.Scan(&c, &sender); err != nil {
			return err
		}
		add(sender)
		if peer, direct := c.Peer(sender); direct {
			add(peer)
		}
		return nil
	}, lastSenders, messages)
	return ids, err
}

func scanUserID(rows *sql.Rows) (u im.UserID, err error) { return u, rows.Scan(&u) }
