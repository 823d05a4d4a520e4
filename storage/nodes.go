package storage

import (
	"context"
	"database/sql"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// AcquireNode takes the node number of message IDs that has been free for longest,
// by the database's clock; im.ErrConflict where all 32 are taken.
func (db *DB) AcquireNode(ctx context.Context, holder string, ttl time.Duration) (node int, err error) {
	ctx, done := db.begin(ctx, "acquire_node")
	defer done(&err)
	free, err := queryAll(ctx, db.r, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) },
		"SELECT node FROM node_leases WHERE expires_at <= "+db.d.now+" ORDER BY expires_at, node")
	if err != nil {
		return 0, err
	}
	for _, n := range free { // another may be quicker to one of them
		taken, err := execOne(ctx, db.w, "UPDATE node_leases SET holder = ?, expires_at = "+db.d.now+" + ?"+
			" WHERE node = ? AND expires_at <= "+db.d.now, holder, ttl.Milliseconds(), n)
		if err != nil || taken {
			return n, err
		}
	}
	return 0, im.ErrConflict
}

// RenewNode prolongs the lease from now on; im.ErrConflict where it was lost, also
// by having expired.
func (db *DB) RenewNode(ctx context.Context, node int, holder string, ttl time.Duration) (err error) {
	ctx, done := db.begin(ctx, "renew_node")
	defer done(&err)
	held, err := execOne(ctx, db.w, "UPDATE node_leases SET expires_at = "+db.d.now+" + ?"+
		" WHERE node = ? AND holder = ? AND expires_at > "+db.d.now, ttl.Milliseconds(), node, holder)
	if err == nil && !held {
		err = im.ErrConflict
	}
	return err
}

// ReleaseNode frees the number if holder still has it.
func (db *DB) ReleaseNode(ctx context.Context, node int, holder string) (err error) {
	ctx, done := db.begin(ctx, "release_node")
	defer done(&err)
	_, err = execOne(ctx, db.w, "UPDATE node_leases SET holder = '', expires_at = "+db.d.now+
		" WHERE node = ? AND holder = ?", node, holder)
	return err
}
