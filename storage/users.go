package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	userActive  = 0 // 1 banned, 2 deleted
	profileRows = "SELECT id, handle, nickname, avatar FROM users WHERE "
)

// CreateUser returns im.ErrConflict where the handle is taken.
func (db *DB) CreateUser(ctx context.Context, u im.NewUser) (p im.Profile, err error) {
	ctx, done := db.begin(ctx, "create_user")
	defer done(&err)
	res, err := db.w.ExecContext(ctx, "INSERT INTO users (handle, nickname, avatar, password_hash, created_at, updated_at)"+
		" VALUES (?, ?, ?, ?, "+db.d.now+", "+db.d.now+")", u.Handle, u.Nickname, u.Avatar, u.PasswordHash)
	if violates(err, "users_handle", "users.handle") {
		return im.Profile{}, handleTaken(u.Handle)
	}
	if err != nil {
		return im.Profile{}, err
	}
	id, err := res.LastInsertId()
	return im.Profile{ID: im.UserID(id), Handle: u.Handle, Nickname: u.Nickname, Avatar: u.Avatar}, err
}

func handleTaken(handle string) error {
	return fmt.Errorf("handle %q is taken: %w", handle, im.ErrConflict)
}

// UpsertExternal creates or updates users known by external ID, all or none, and
// returns their profiles in order. Of an external ID given twice the last counts.
// im.ErrConflict names a handle of somebody else.
func (db *DB) UpsertExternal(ctx context.Context, users []im.ExternalUser) (profiles []im.Profile, err error) {
	ctx, done := db.begin(ctx, "upsert_external")
	defer done(&err)
	wanted := make(map[string]im.ExternalUser, len(users))
	for _, u := range users {
		wanted[u.ExternalID] = u
	}
	var known map[string]im.Profile
	for range 5 {
		err = db.transact(ctx, func(tx *sql.Tx) (err error) {
			known, err = db.upsert(ctx, tx, wanted)
			return err
		})
		// Either the handle is somebody else's or another call created the user at this
		// moment, and it is an update now.
		if !violates(err, "users_", "users.") {
			break
		}
	}
	if violates(err, "users_", "users.") {
		return nil, db.whoseHandle(ctx, wanted, err)
	}
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		profiles = append(profiles, known[u.ExternalID])
	}
	return profiles, nil
}

func (db *DB) upsert(ctx context.Context, tx *sql.Tx, wanted map[string]im.ExternalUser) (map[string]im.Profile, error) {
	ids := make([]string, 0, len(wanted))
	for id := range wanted {
		ids = append(ids, id)
	}
	slices.Sort(ids) // everybody locks in this order
	known, err := db.byExternal(ctx, tx, ids, db.d.forUpdate)
	if err != nil {
		return nil, err
	}
	var fresh []string
	for _, id := range ids {
		u, p := wanted[id], known[id]
		if p.ID == 0 {
			fresh = append(fresh, id)
		} else if p.Handle != u.Handle || p.Nickname != u.Nickname || p.Avatar != u.Avatar {
			_, err := tx.ExecContext(ctx, "UPDATE users SET handle = ?, nickname = ?, avatar = ?, updated_at = "+db.d.now+" WHERE id = ?",
				u.Handle, u.Nickname, u.Avatar, p.ID)
			if err != nil {
				return nil, err
			}
			known[id] = im.Profile{ID: p.ID, Handle: u.Handle, Nickname: u.Nickname, Avatar: u.Avatar}
		}
	}
	if len(fresh) == 0 {
		return known, nil
	}
	for part := range slices.Chunk(fresh, insertRows) {
		args := make([]any, 0, 4*len(part))
		for _, id := range part {
			u := wanted[id]
			args = append(args, u.ExternalID, u.Handle, u.Nickname, u.Avatar)
		}
		query := repeat("INSERT INTO users (external_id, handle, nickname, avatar, password_hash, created_at, updated_at) VALUES ",
			"(?, ?, ?, ?, '', "+db.d.now+", "+db.d.now+")", ", ", len(part), "")
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return nil, err
		}
	}
	created, err := db.byExternal(ctx, tx, fresh, "")
	for id, p := range created {
		known[id] = p
	}
	return known, err
}

func (db *DB) byExternal(ctx context.Context, q querier, ids []string, lock string) (map[string]im.Profile, error) {
	found := make(map[string]im.Profile, len(ids))
	for part := range slices.Chunk(ids, insertRows) {
		err := queryEach(ctx, q, func(rows *sql.Rows) error {
			var p im.Profile
			var id string
			err := rows.Scan(&id, &p.ID, &p.Handle, &p.Nickname, &p.Avatar)
			found[id] = p
			return err
		}, "SELECT external_id, id, handle, nickname, avatar FROM users WHERE external_id IN "+in(len(part))+
			" ORDER BY external_id"+lock, anyOf(part)...)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// whoseHandle names the wanted handle that is somebody else's.
func (db *DB) whoseHandle(ctx context.Context, wanted map[string]im.ExternalUser, cause error) error {
	seen := make(map[string]string, len(wanted))
	for id, u := range wanted {
		if _, twice := seen[u.Handle]; twice {
			return handleTaken(u.Handle)
		}
		seen[u.Handle] = id
		var owner sql.NullString
		err := db.r.QueryRowContext(ctx, "SELECT external_id FROM users WHERE handle = ?", u.Handle).Scan(&owner)
		switch {
		case err == nil && owner.String != id:
			return handleTaken(u.Handle)
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
	}
	return fmt.Errorf("%w: %w", im.ErrConflict, cause) // it was, a moment ago
}

// AccountByHandle returns im.ErrNotFound for an unknown handle.
func (db *DB) AccountByHandle(ctx context.Context, handle string) (a im.Account, err error) {
	ctx, done := db.begin(ctx, "account_by_handle")
	defer done(&err)
	var state int
	err = db.r.QueryRowContext(ctx, "SELECT id, handle, nickname, avatar, password_hash, state FROM users WHERE handle = ?", handle).
		Scan(&a.ID, &a.Handle, &a.Nickname, &a.Avatar, &a.PasswordHash, &state)
	a.Active = err == nil && state == userActive
	return a, notFound(err)
}

// UserByExternalID returns im.ErrNotFound for an unknown external ID.
func (db *DB) UserByExternalID(ctx context.Context, externalID string) (u im.UserID, err error) {
	ctx, done := db.begin(ctx, "user_by_external_id")
	defer done(&err)
	err = db.r.QueryRowContext(ctx, "SELECT id FROM users WHERE external_id = ?", externalID).Scan(&u)
	return u, notFound(err)
}

// HandleID returns im.ErrNotFound for an unknown handle.
func (db *DB) HandleID(ctx context.Context, handle string) (u im.UserID, err error) {
	ctx, done := db.begin(ctx, "handle_id")
	defer done(&err)
	err = db.r.QueryRowContext(ctx, "SELECT id FROM users WHERE handle = ?", handle).Scan(&u)
	return u, notFound(err)
}

// ProfilesByID leaves unknown users out of the result. It may hold others, whom somebody
// else asked for at the same time, and must not be written.
func (db *DB) ProfilesByID(ctx context.Context, ids []im.UserID) (map[im.UserID]im.Profile, error) {
	return db.profiles.Do(ctx, ids)
}

func (db *DB) readProfiles(ctx context.Context, ids []im.UserID) (found map[im.UserID]im.Profile, err error) {
	ctx, done := db.begin(ctx, "profiles_by_id")
	defer done(&err)
	found = make(map[im.UserID]im.Profile, len(ids))
	for part := range slices.Chunk(ids, insertRows) {
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id
		}
		profiles, err := queryAll(ctx, db.r, func(rows *sql.Rows) (p im.Profile, err error) {
			err = rows.Scan(&p.ID, &p.Handle, &p.Nickname, &p.Avatar)
			return p, err
		}, profileRows+"id IN "+in(len(part)), args...)
		if err != nil {
			return nil, err
		}
		for _, p := range profiles {
			found[p.ID] = p
		}
	}
	return found, nil
}

// UpdateProfile changes what is not nil and returns the profile as it is now.
// Copies in Redis are the caller's to drop, after this returned.
func (db *DB) UpdateProfile(ctx context.Context, u im.UserID, nickname, avatar *string) (p im.Profile, err error) {
	ctx, done := db.begin(ctx, "update_profile")
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE users SET nickname = COALESCE(?, nickname), avatar = COALESCE(?, avatar), updated_at = "+
			db.d.now+" WHERE id = ?", nickname, avatar, u)
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, profileRows+"id = ?", u).Scan(&p.ID, &p.Handle, &p.Nickname, &p.Avatar)
	})
	return p, notFound(err)
}

// SetPassword replaces the hash, raises the token version and drops the refresh
// tokens: every session of the user ends.
func (db *DB) SetPassword(ctx context.Context, u im.UserID, hash string) (err error) {
	ctx, done := db.begin(ctx, "set_password")
	defer done(&err)
	return db.transact(ctx, func(tx *sql.Tx) error {
		known, err := execOne(ctx, tx, "UPDATE users SET password_hash = ?, token_version = token_version + 1, updated_at = "+
			db.d.now+" WHERE id = ?", hash, u)
		if err != nil {
			return err
		}
		if !known {
			return im.ErrNotFound
		}
		if _, err := tx.ExecContext(ctx, "UPDATE devices SET refresh_hash = NULL, prev_refresh_hash = NULL, spare_refresh_hash = NULL, "+noPush+" WHERE user_id = ?", u); err != nil {
			return err
		}
		return db.noteUser(ctx, tx, u)
	})
}
