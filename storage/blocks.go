package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// Blocks lists whom u has blocked, by ID, at most im.MaxBlocks.
func (db *DB) Blocks(ctx context.Context, u im.UserID) (blocked []im.UserID, err error) {
	ctx, done := db.begin(ctx, "blocks")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (b im.UserID, err error) { return b, rows.Scan(&b) },
		"SELECT blocked_id FROM blocks WHERE user_id = ? ORDER BY blocked_id LIMIT ?", u, im.MaxBlocks)
}
