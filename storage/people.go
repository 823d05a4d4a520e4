package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// Peer says what from must know of to before a message is accepted. Those who ask at the
// same time are answered together: each pair asks once in 2 s, most of whose talk is slower
// than that, with each message.
func (db *DB) Peer(ctx context.Context, from, to im.UserID) (im.Peer, error) {
	k := peerKey{from, to}
	found, err := db.peers.Do(ctx, []peerKey{k})
	return found[k], err
}

// peerKey is who asks, and for whom.
type peerKey struct{ from, to im.UserID }

// readPeers leaves out pairs whose other side does not exist.
func (db *DB) readPeers(ctx context.Context, keys []peerKey) (found map[peerKey]im.Peer, err error) {
	ctx, done := db.begin(ctx, "peer")
	defer done(&err)
	// What a derived table costs is not worth it for one.
	query, args := peerQuery, []any{keys[0].from, keys[0].from, stateContact, keys[0].from, keys[0].to}
	if len(keys) > 1 {
		query, args = repeat(peersHead, peersRow, peersJoin, len(keys), peersEnd), []any{stateContact}
		for _, k := range keys {
			args = append(args, k.from, k.to)
		}
	}
	found = make(map[peerKey]im.Peer, len(keys))
	_, err = queryAll(ctx, db.r, func(rows *sql.Rows) (k peerKey, err error) {
		var p im.Peer
		var state int
		err = rows.Scan(&k.from, &k.to, &state, &p.Blocked, &p.Contact, &p.ContactsOnly)
		p.Exists = state == userActive
		found[k] = p
		return k, err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// peerColumns are what is read, for whom who names.
func peerColumns(who string) string {
	return who + ` AS asks, u.id, u.state,
	EXISTS (SELECT 1 FROM blocks b WHERE b.user_id = u.id AND b.blocked_id = ` + who + `),
	EXISTS (SELECT 1 FROM contacts c WHERE c.user_id = u.id AND c.state = ? AND c.peer_id = ` + who + `),
	COALESCE((SELECT p.message_policy FROM people p WHERE p.user_id = u.id), 0)`
}

var (
	peerQuery = "SELECT " + peerColumns("?") + " FROM users u WHERE u.id = ?"
	peersHead = "SELECT " + peerColumns("asked.who") + " FROM (SELECT 0 AS who, 0 AS whom UNION ALL "
)

const (
	peersRow  = "SELECT ?, ?"
	peersJoin = " UNION ALL "
	peersEnd  = ") asked JOIN users u ON u.id = asked.whom"
)

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
