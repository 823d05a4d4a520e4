package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// Peer says what from must know of to before a message is accepted, in one query.
func (db *DB) Peer(ctx context.Context, from, to im.UserID) (p im.Peer, err error) {
	ctx, done := db.begin(ctx, "peer")
	defer done(&err)
	var state int
	err = db.r.QueryRowContext(ctx, peerQuery, from, stateContact, from, to).
		Scan(&state, &p.Blocked, &p.Contact, &p.ContactsOnly)
	if errors.Is(err, sql.ErrNoRows) {
		return im.Peer{}, nil
	}
	p.Exists = err == nil && state == userActive
	return p, err
}

const peerQuery = `SELECT u.state,
	EXISTS (SELECT 1 FROM blocks b WHERE b.user_id = u.id AND b.blocked_id = ?),
	EXISTS (SELECT 1 FROM contacts c WHERE c.user_id = u.id AND c.state = ? AND c.peer_id = ?),
	COALESCE((SELECT p.message_policy FROM people p WHERE p.user_id = u.id), 0)
FROM users u WHERE u.id = ?`

// MessagePolicy is who may send u messages, as u has set it: everyone at first.
func (db *DB) MessagePolicy(ctx context.Context, u im.UserID) (policy im.MessagePolicy, err error) {
	ctx, done := db.begin(ctx, "message_policy")
	defer done(&err)
	var contactsOnly bool
	err = db.r.QueryRowContext(ctx, "SELECT message_policy FROM people WHERE user_id = ?", u).Scan(&contactsOnly)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if contactsOnly {
		return im.MessagesFromContacts, err
	}
	return im.MessagesFromEveryone, err
}

// SetMessagePolicy returns im.ErrNotFound for an unknown user.
func (db *DB) SetMessagePolicy(ctx context.Context, u im.UserID, policy im.MessagePolicy) (err error) {
	ctx, done := db.begin(ctx, "set_message_policy")
	defer done(&err)
	return db.transact(ctx, func(tx *sql.Tx) error {
		users, err := db.lockUsers(ctx, tx, u, u)
		if err != nil {
			return err
		}
		if _, known := users[u]; !known {
			return im.ErrNotFound
		}
		return putPerson(ctx, tx, u, "message_policy", policy == im.MessagesFromContacts)
	})
}

// lockUsers keeps every other change of contacts, blocks, policies and the number of
// groups they are in away from users until the transaction ends, and says which of them
// are there and active. All lock in the order of the IDs, so they wait for each other and
// do not deadlock.
func (db *DB) lockUsers(ctx context.Context, tx *sql.Tx, users ...im.UserID) (map[im.UserID]bool, error) {
	active := make(map[im.UserID]bool, len(users))
	err := queryEach(ctx, tx, func(rows *sql.Rows) error {
		var u im.UserID
		var state int
		err := rows.Scan(&u, &state)
		active[u] = state == userActive
		return err
	}, "SELECT id, state FROM users WHERE id IN "+in(len(users))+" ORDER BY id"+db.d.forUpdate, anyOf(users)...)
	return active, err
}

// putPerson sets one column of a user's row in people, which is made where it is not
// there yet. The user is locked.
func putPerson(ctx context.Context, tx *sql.Tx, u im.UserID, column string, value any) error {
	var there bool
	err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM people WHERE user_id = ?)", u).Scan(&there)
	if err != nil {
		return err
	}
	query := "INSERT INTO people (" + column + ", user_id) VALUES (?, ?)"
	if there {
		query = "UPDATE people SET " + column + " = ? WHERE user_id = ?"
	}
	_, err = tx.ExecContext(ctx, query, value, u)
	return err
}
