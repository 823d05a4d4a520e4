package storage

import (
	"context"
	"database/sql"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// A revocation is written in the transaction of what it tells of. Its ID is given
// before that commits, so a reader looks some seconds back.

const insertRevocation = "INSERT INTO revocations (user_id, device, token_version, device_version, hidden_id, at) "

// noteDevices tells that the logins of a device below its version, raised by above,
// have ended. where selects the devices.
func (db *DB) noteDevices(ctx context.Context, q querier, above int, where string, args ...any) error {
	_, err := q.ExecContext(ctx, insertRevocation+"SELECT user_id, device, 0, device_version + ?, 0, "+db.d.now+
		" FROM devices WHERE "+where, append([]any{above}, args...)...)
	return err
}

// noteUser tells that all logins of a user below its token version have ended.
func (db *DB) noteUser(ctx context.Context, q querier, u im.UserID) error {
	_, err := q.ExecContext(ctx, insertRevocation+"SELECT id, '', token_version, 0, 0, "+db.d.now+" FROM users WHERE id = ?", u)
	return err
}

// noteHidden tells that u sees hidden no longer, who has blocked them.
func (db *DB) noteHidden(ctx context.Context, q querier, u, hidden im.UserID) error {
	_, err := q.ExecContext(ctx, insertRevocation+"VALUES (?, '', 0, 0, ?, "+db.d.now+")", u, hidden)
	return err
}

// noteParted tells two that they are strangers again, unless a conversation or a small
// group is left to them.
func (db *DB) noteParted(ctx context.Context, tx *sql.Tx, a, b im.UserID) error {
	var shared bool
	err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM members WHERE user_id = ? AND conversation = ?) OR EXISTS ("+smallGroup+" AND b.user_id = ?)",
		a, im.DirectConversation(a, b), a, b).Scan(&shared)
	if err != nil || shared {
		return err
	}
	if err := db.noteHidden(ctx, tx, a, b); err != nil {
		return err
	}
	return db.noteHidden(ctx, tx, b, a)
}

// Revocations are those above an ID, in its order, at most limit.
func (db *DB) Revocations(ctx context.Context, after uint64, limit int) (all []im.Revocation, err error) {
	ctx, done := db.begin(ctx, "revocations")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (r im.Revocation, err error) {
		return r, rows.Scan(&r.ID, &r.User, &r.Device, &r.TokenVersion, &r.DeviceVersion, &r.Hidden)
	}, "SELECT id, user_id, device, token_version, device_version, hidden_id FROM revocations WHERE id > ? ORDER BY id LIMIT ?", after, limit)
}

// LastRevocation is the ID of the newest; 0 where there is none.
func (db *DB) LastRevocation(ctx context.Context) (id uint64, err error) {
	ctx, done := db.begin(ctx, "last_revocation")
	defer done(&err)
	return id, db.r.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM revocations").Scan(&id)
}

// ForgetRevocations deletes those older than age, which every session has learned or
// will find out by asking.
func (db *DB) ForgetRevocations(ctx context.Context, age time.Duration) (err error) {
	ctx, done := db.begin(ctx, "forget_revocations")
	defer done(&err)
	_, err = db.w.ExecContext(ctx, "DELETE FROM revocations WHERE at < "+db.d.now+" - ?", age.Milliseconds())
	return err
}
