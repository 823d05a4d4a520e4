package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// maxDevices bounds the devices of one user. Their IDs are chosen by clients: beyond
// it the one not seen for longest is forgotten, and its tokens end.
const maxDevices = 100

// SaveLogin creates or renews the device and returns the versions that its tokens
// must carry. A renewed device keeps its version: access tokens given before last
// until they expire; its former refresh token ends. im.ErrNotFound for an unknown user,
// im.ErrUnauthenticated where the password that was compared has been replaced since.
func (db *DB) SaveLogin(ctx context.Context, l im.Login) (s im.AuthState, err error) {
	ctx, done := db.begin(ctx, "save_login")
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		// The user's row is locked first: logins of one user come one after the other.
		var password string
		err := tx.QueryRowContext(ctx, "SELECT password_hash FROM users WHERE id = ?"+db.d.forUpdate, l.User).Scan(&password)
		if err != nil {
			return notFound(err)
		}
		if l.PasswordHash != "" && l.PasswordHash != password {
			return im.ErrUnauthenticated
		}
		known, err := execOne(ctx, tx, "UPDATE devices SET platform = ?, refresh_hash = ?, prev_refresh_hash = NULL,"+
			" spare_refresh_hash = NULL, refresh_expires = ?, revoked_at = 0, seen_at = "+db.d.now+" WHERE user_id = ? AND device = ?",
			l.Platform, l.RefreshHash[:], l.RefreshExpires, l.User, l.Device)
		if err != nil {
			return err
		}
		if !known {
			_, err := tx.ExecContext(ctx, "INSERT INTO devices (user_id, device, platform, device_version, refresh_hash,"+
				" refresh_expires, created_at, seen_at) VALUES (?, ?, ?, "+db.d.now+" / 1000, ?, ?, "+db.d.now+", "+db.d.now+")",
				l.User, l.Device, l.Platform, l.RefreshHash[:], l.RefreshExpires)
			if err != nil {
				return err
			}
			if err := db.forgetDevices(ctx, tx, l.User); err != nil {
				return err
			}
		}
		s, err = authState(ctx, tx, l.User, l.Device)
		return err
	})
	return s, err
}

// forgetDevices deletes what is beyond maxDevices.
func (db *DB) forgetDevices(ctx context.Context, tx *sql.Tx, u im.UserID) error {
	old, err := queryAll(ctx, tx, func(rows *sql.Rows) (d any, err error) {
		var id im.DeviceID
		err = rows.Scan(&id)
		return id, err
	}, "SELECT device FROM devices WHERE user_id = ? ORDER BY seen_at DESC, created_at DESC LIMIT ? OFFSET ?", u, maxDevices, maxDevices)
	if err != nil || len(old) == 0 {
		return err
	}
	where, args := "user_id = ? AND device IN "+in(len(old)), append([]any{u}, old...)
	if err := db.noteDevices(ctx, tx, 1, where, args...); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM devices WHERE "+where, args...)
	return err
}

// refreshAgain is for how long an exchanged refresh token is taken once more: the answer
// may have been lost, and its device tries again within the minute.
const refreshAgain = 60_000

// RotateRefresh exchanges a refresh token for the next, once [S6]; the one exchanged last
// for another next within a minute, which ends the first. A token that is unknown or
// expired gives im.ErrUnauthenticated; the one exchanged last, after that minute, and a
// next that was ended so also revoke the device, since two hold it.
func (db *DB) RotateRefresh(ctx context.Context, old, next [32]byte, expires int64) (l im.Login, s im.AuthState, err error) {
	ctx, done := db.begin(ctx, "rotate_refresh")
	defer done(&err)
	refused := false // after the commit: a revocation must stand
	err = db.transact(ctx, func(tx *sql.Tx) error {
		l, refused = im.Login{RefreshHash: next, RefreshExpires: expires}, false
		swapped, err := db.swapRefresh(ctx, tx, old, next, expires)
		if err != nil {
			return err
		}
		if !swapped {
			refused = true
			return db.revokeStolen(ctx, tx, old)
		}
		err = tx.QueryRowContext(ctx, "SELECT user_id, device, platform FROM devices WHERE refresh_hash = ?", next[:]).
			Scan(&l.User, &l.Device, &l.Platform)
		if err != nil {
			return err
		}
		s, err = authState(ctx, tx, l.User, l.Device)
		refused = !s.Active
		return err
	})
	if err == nil && refused {
		err = im.ErrUnauthenticated
	}
	if err != nil {
		return im.Login{}, im.AuthState{}, err
	}
	return l, s, nil
}

// swapRefresh puts next in the place of old, or of what old was exchanged for just now.
func (db *DB) swapRefresh(ctx context.Context, tx *sql.Tx, old, next [32]byte, expires int64) (swapped bool, err error) {
	now := db.d.now
	good := " AND refresh_expires > " + now + " AND revoked_at = 0"
	swapped, err = execOne(ctx, tx, "UPDATE devices SET prev_refresh_hash = refresh_hash, refresh_hash = ?, refresh_expires = ?,"+
		" seen_at = "+now+", refreshed_at = "+now+" WHERE refresh_hash = ?"+good, next[:], expires, old[:])
	if err != nil || swapped {
		return swapped, err
	}
	return execOne(ctx, tx, "UPDATE devices SET spare_refresh_hash = refresh_hash, refresh_hash = ?, refresh_expires = ?,"+
		" seen_at = "+now+" WHERE prev_refresh_hash = ? AND refreshed_at > "+now+" - ?"+good, next[:], expires, old[:], refreshAgain)
}

// revokeStolen ends the device whose last exchanged token, or its spare, is shown again.
func (db *DB) revokeStolen(ctx context.Context, tx *sql.Tx, old [32]byte) error {
	for _, column := range [...]string{"prev_refresh_hash", "spare_refresh_hash"} {
		var u im.UserID
		var d im.DeviceID
		err := tx.QueryRowContext(ctx, "SELECT user_id, device FROM devices WHERE "+column+" = ?", old[:]).Scan(&u, &d)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err == nil {
			_, err = db.revoke(ctx, tx, u, d)
		}
		return err
	}
	return nil
}

// RevokeDevice raises the device's version and drops its refresh token.
// im.ErrNotFound where the user has no such device.
func (db *DB) RevokeDevice(ctx context.Context, u im.UserID, d im.DeviceID) (err error) {
	ctx, done := db.begin(ctx, "revoke_device")
	defer done(&err)
	return db.transact(ctx, func(tx *sql.Tx) error {
		known, err := db.revoke(ctx, tx, u, d)
		if err == nil && !known {
			err = im.ErrNotFound
		}
		return err
	})
}

func (db *DB) revoke(ctx context.Context, tx *sql.Tx, u im.UserID, d im.DeviceID) (bool, error) {
	known, err := execOne(ctx, tx, "UPDATE devices SET device_version = device_version + 1, refresh_hash = NULL,"+
		" prev_refresh_hash = NULL, spare_refresh_hash = NULL, "+noPush+", revoked_at = "+db.d.now+" WHERE user_id = ? AND device = ? AND revoked_at = 0", u, d)
	if err == nil && known {
		err = db.noteDevices(ctx, tx, 0, "user_id = ? AND device = ?", u, d)
	}
	return known, err
}

// Devices lists the devices that are logged in, the latest seen first.
func (db *DB) Devices(ctx context.Context, u im.UserID) (devices []im.Device, err error) {
	ctx, done := db.begin(ctx, "devices")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (d im.Device, err error) {
		err = rows.Scan(&d.ID, &d.Platform, &d.CreatedAt, &d.SeenAt)
		return d, err
	}, "SELECT device, platform, created_at, seen_at FROM devices WHERE user_id = ? AND revoked_at = 0"+
		" ORDER BY seen_at DESC, device LIMIT ?", u, maxDevices)
}

// AuthState is the zero value for an unknown user: not active, no device. Who connects
// asks for it, so that those who come together are answered together.
func (db *DB) AuthState(ctx context.Context, u im.UserID, d im.DeviceID) (im.AuthState, error) {
	k := deviceKey{u, d}
	found, err := db.authStates.Do(ctx, []deviceKey{k})
	return found[k], err
}

// deviceKey is one device of one user.
type deviceKey struct {
	user   im.UserID
	device im.DeviceID
}

func (db *DB) readAuthStates(ctx context.Context, keys []deviceKey) (found map[deviceKey]im.AuthState, err error) {
	ctx, done := db.begin(ctx, "auth_state")
	defer done(&err)
	return authStates(ctx, db.r, keys)
}

func authState(ctx context.Context, q querier, u im.UserID, d im.DeviceID) (im.AuthState, error) {
	k := deviceKey{u, d}
	found, err := authStates(ctx, q, []deviceKey{k})
	return found[k], err
}

// authStates leaves unknown users out.
func authStates(ctx context.Context, q querier, keys []deviceKey) (map[deviceKey]im.AuthState, error) {
	args := make([]any, 2*len(keys))
	for i, k := range keys {
		args[i], args[len(keys)+i] = k.device, k.user
	}
	users := make(map[im.UserID]im.AuthState, len(keys))
	devices := make(map[deviceKey]im.AuthState, len(keys))
	err := queryEach(ctx, q, func(rows *sql.Rows) error {
		var k deviceKey
		var s im.AuthState
		var state int
		if err := rows.Scan(&k.user, &s.TokenVersion, &state, &k.device, &s.DeviceVersion, &s.DeviceKnown); err != nil {
			return err
		}
		s.Active = state == userActive
		users[k.user] = im.AuthState{TokenVersion: s.TokenVersion, Active: s.Active}
		devices[k] = s
		return nil
	}, "SELECT u.id, u.token_version, u.state, COALESCE(d.device, ''), COALESCE(d.device_version, 0), d.device IS NOT NULL AND d.revoked_at = 0"+
		" FROM users u LEFT JOIN devices d ON d.user_id = u.id AND d.device IN "+in(len(keys))+" WHERE u.id IN "+in(len(keys)), args...)
	if err != nil {
		return nil, err
	}
	found := make(map[deviceKey]im.AuthState, len(keys))
	for _, k := range keys {
		if s, known := devices[k]; known {
			found[k] = s
		} else if s, known := users[k.user]; known {
			found[k] = s
		}
	}
	return found, nil
}
