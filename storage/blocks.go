package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

const maxBlocks = 10_000 // of one user, as listed

// SetBlock blocks or unblocks; either twice is fine. That blocked exists is for the
// caller to have seen.
func (db *DB) SetBlock(ctx context.Context, u, blocked im.UserID, on bool) (err error) {
	ctx, done := db.begin(ctx, "set_block")
	defer done(&err)
	if on {
		_, err = db.w.ExecContext(ctx, "INSERT INTO blocks (user_id, blocked_id, created_at) VALUES (?, ?, "+db.d.now+")"+
			db.d.keepBlock, u, blocked)
		return err
	}
	_, err = db.w.ExecContext(ctx, "DELETE FROM blocks WHERE user_id = ? AND blocked_id = ?", u, blocked)
	return err
}

// Blocks lists whom u has blocked, by ID, at most 10,000.
func (db *DB) Blocks(ctx context.Context, u im.UserID) (blocked []im.UserID, err error) {
	ctx, done := db.begin(ctx, "blocks")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (b im.UserID, err error) { return b, rows.Scan(&b) },
		"SELECT blocked_id FROM blocks WHERE user_id = ? ORDER BY blocked_id LIMIT ?", u, maxBlocks)
}

// Peer says whether to exists and is active, and whether it has blocked from.
func (db *DB) Peer(ctx context.Context, from, to im.UserID) (exists, blocked bool, err error) {
	ctx, done := db.begin(ctx, "peer")
	defer done(&err)
	var state int
	err = db.r.QueryRowContext(ctx, "SELECT state, EXISTS (SELECT 1 FROM blocks WHERE user_id = ? AND blocked_id = ?)"+
		" FROM users WHERE id = ?", to, from, to).Scan(&state, &blocked)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	return err == nil && state == userActive, blocked, err
}
