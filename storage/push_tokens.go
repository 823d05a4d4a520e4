package storage

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// noPush is what a device without a push token has.
const noPush = "push_provider = '', push_token = '', push_hash = NULL"

// notifyPage bounds the devices of one answer of NotifyTargets.
const notifyPage = 1000

// pushHash finds a token: one of them reaches one device.
func pushHash(provider, token string) []byte {
	sum := sha256.Sum256([]byte(provider + "\x00" + token))
	return sum[:16]
}

// SetPushToken says how a device is reached while it is not connected. The device that
// had the token before, another user's perhaps, has it no longer. im.ErrNotFound where
// the user has no such device.
func (db *DB) SetPushToken(ctx context.Context, t im.PushTarget) (err error) {
	ctx, done := db.begin(ctx, "set_push_token")
	defer done(&err)
	hash := pushHash(t.Provider, t.Token)
	for try := 0; ; try++ {
		err := db.transact(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "UPDATE devices SET "+noPush+" WHERE push_hash = ? AND NOT (user_id = ? AND device = ?)",
				hash, t.User, t.Device); err != nil {
				return err
			}
			known, err := execOne(ctx, tx, "UPDATE devices SET push_provider = ?, push_token = ?, push_hash = ?"+
				" WHERE user_id = ? AND device = ? AND revoked_at = 0", t.Provider, t.Token, hash, t.User, t.Device)
			if err == nil && !known {
				err = im.ErrNotFound
			}
			return err
		})
		// Two devices that take one token at the same moment: the later has it.
		var dup *im.DuplicateError
		if !errors.As(classify(err), &dup) || try == 2 {
			return err
		}
	}
}

// ClearPushToken ends that.
func (db *DB) ClearPushToken(ctx context.Context, u im.UserID, d im.DeviceID) (err error) {
	ctx, done := db.begin(ctx, "clear_push_token")
	defer done(&err)
	_, err = db.w.ExecContext(ctx, "UPDATE devices SET "+noPush+" WHERE user_id = ? AND device = ?", u, d)
	return err
}

// DropPushTokens removes tokens that their provider knows no longer, from the devices
// that still have them.
func (db *DB) DropPushTokens(ctx context.Context, gone []im.PushTarget) (err error) {
	ctx, done := db.begin(ctx, "drop_push_tokens")
	defer done(&err)
	for _, t := range gone {
		if _, err := db.w.ExecContext(ctx, "UPDATE devices SET "+noPush+" WHERE push_hash = ? AND user_id = ? AND device = ?",
			pushHash(t.Provider, t.Token), t.User, t.Device); err != nil {
			return err
		}
	}
	return nil
}

// NotifyTargets are the devices with a push token that a message is to be told to, by
// (user, device); nobody where it was recalled. One range of the members' key, or a seek
// for each user that is named, with a few seeks for each who is in the conversation.
func (db *DB) NotifyTargets(ctx context.Context, q im.NotifyQuery) (all []im.PushTarget, more bool, err error) {
	ctx, done := db.begin(ctx, "notify_targets")
	defer done(&err)
	limit := min(max(q.Limit, 1), notifyPage)
	only, args := "", []any{q.Conversation, q.Conversation}
	if len(q.Users) > 0 {
		only, args = " AND m.user_id IN "+in(len(q.Users)), append(args, anyOf(q.Users)...)
	}
	args = append(args, q.Sender, q.Seq, q.Seq, q.Seq, q.AfterUser, q.AfterUser, q.AfterDevice, userActive, q.Conversation, q.Seq, limit+1)
	all, err = queryAll(ctx, db.r, func(rows *sql.Rows) (t im.PushTarget, err error) {
		return t, rows.Scan(&t.User, &t.Device, &t.Provider, &t.Token)
	}, "SELECT m.user_id, d.device, d.push_provider, d.push_token FROM members m JOIN users u ON u.id = m.user_id"+
		" JOIN devices d ON d.user_id = m.user_id AND d.push_hash IS NOT NULL AND d.revoked_at = 0"+
		" LEFT JOIN conversation_settings s ON s.user_id = m.user_id AND s.conversation = ?"+
		" WHERE m.conversation = ?"+only+" AND m.user_id <> ? AND m.leave_seq <= m.joined_seq AND m.join_seq <= ? AND m.read_seq < ?"+
		" AND m.floor_seq < ? AND m.user_id >= ? AND (m.user_id > ? OR d.device > ?)"+
		" AND u.state = ? AND COALESCE(s.muted_until, 0) <= "+db.d.now+
		" AND NOT EXISTS (SELECT 1 FROM messages x WHERE x.conversation = ? AND x.seq = ? AND x.recalled_at > 0)"+
		" ORDER BY m.user_id, d.device LIMIT ?", args...)
	all, more = page(all, limit)
	return all, more, err
}
