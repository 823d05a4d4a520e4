package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// maxEndedContacts bounds the entries that a user keeps about who is a contact no
// more, so that a device that was away learns of it. Beyond it the older half goes,
// and a device that was away for longer reads the full list.
const maxEndedContacts = 1000

// contactPair is two users under lock in one transaction, and what their entries say.
type contactPair struct {
	db           *DB
	tx           *sql.Tx
	active       map[im.UserID]bool // without those who do not exist
	mine, theirs im.Contact
	event        im.ContactEvent
}

// entry is what a change makes of a row.
type entry struct {
	state   int
	request im.ContactRequestID
	remark  string
}

// changeContact runs do on a locked pair, all or nothing, and reads what it left.
func (db *DB) changeContact(ctx context.Context, op string, u, peer im.UserID, do func(context.Context, *contactPair) error) (change im.ContactChange, err error) {
	ctx, done := db.begin(ctx, op)
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		change = im.ContactChange{}
		p := &contactPair{db: db, tx: tx}
		var err error
		if p.active, err = db.lockUsers(ctx, tx, u, peer); err != nil {
			return err
		}
		if err := p.read(ctx, u, peer); err != nil {
			return err
		}
		before := p.theirs.Version
		if err := do(ctx, p); err != nil {
			return err
		}
		if p.event != "" {
			if err := p.read(ctx, u, peer); err != nil {
				return err
			}
		}
		change = im.ContactChange{Event: p.event, Mine: p.mine}
		if p.theirs.Version != before {
			change.Theirs = p.theirs
		}
		return nil
	})
	if err != nil {
		return im.ContactChange{}, err
	}
	return change, nil
}

// read fills in both entries; one that is not there is none at version 0.
func (p *contactPair) read(ctx context.Context, u, peer im.UserID) error {
	p.mine = im.Contact{User: u, Peer: peer, State: im.ContactNone}
	p.theirs = im.Contact{User: peer, Peer: u, State: im.ContactNone}
	rows, err := queryAll(ctx, p.tx, scanContact, contactRows+contactRequest+
		" WHERE (c.user_id = ? AND c.peer_id = ?) OR (c.user_id = ? AND c.peer_id = ?)", u, peer, peer, u)
	for _, c := range rows {
		if c.User == u {
			p.mine = c
		} else {
			p.theirs = c
		}
	}
	return err
}

// checkBlocks says whether a request may be made at all.
func (p *contactPair) checkBlocks(ctx context.Context) error {
	me, peer := p.mine.User, p.mine.Peer
	by, err := queryAll(ctx, p.tx, func(rows *sql.Rows) (u im.UserID, err error) { return u, rows.Scan(&u) },
		"SELECT user_id FROM blocks WHERE (user_id = ? AND blocked_id = ?) OR (user_id = ? AND blocked_id = ?)", me, peer, peer, me)
	switch {
	case err != nil:
		return err
	case slices.Contains(by, peer):
		return im.ErrBlocked
	case len(by) > 0:
		return im.ErrConflict // who is blocked is not asked
	}
	return nil
}

// room returns an im.FullError where a user has as many entries in a state as there
// may be.
func (p *contactPair) room(ctx context.Context, u im.UserID, state int, limit string, most int) error {
	var n int
	err := p.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM contacts WHERE user_id = ? AND state = ?", u, state).Scan(&n)
	if err == nil && n >= most {
		err = &im.FullError{Limit: limit, Max: most}
	}
	return err
}

// accept makes the two contacts by the pending request.
func (p *contactPair) accept(ctx context.Context) error {
	for _, u := range []im.UserID{p.mine.User, p.mine.Peer} {
		if err := p.room(ctx, u, stateContact, "contacts", im.MaxContacts); err != nil {
			return err
		}
	}
	if _, err := p.tx.ExecContext(ctx, "UPDATE contact_requests SET accepted = 1 WHERE id = ?", p.mine.Request); err != nil {
		return err
	}
	e := entry{state: stateContact, request: p.mine.Request}
	return p.put(ctx, im.ContactAccepted, e, e)
}

// end brings both entries to an end, and their request.
func (p *contactPair) end(ctx context.Context, event im.ContactEvent, mine, theirs int) error {
	if _, err := p.tx.ExecContext(ctx, "DELETE FROM contact_requests WHERE id = ?", p.mine.Request); err != nil {
		return err
	}
	return p.put(ctx, event, entry{state: mine}, entry{state: theirs})
}

func (p *contactPair) put(ctx context.Context, event im.ContactEvent, mine, theirs entry) error {
	p.event = event
	me, peer := p.mine.User, p.mine.Peer
	if err := p.putOne(ctx, me, peer, mine); err != nil {
		return err
	}
	return p.putOne(ctx, peer, me, theirs)
}

// putOne writes u's entry about peer under u's next version.
func (p *contactPair) putOne(ctx context.Context, u, peer im.UserID, e entry) error {
	var version uint64
	err := p.tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(contacts_version), 0) + 1 FROM people WHERE user_id = ?", u).Scan(&version)
	if err != nil {
		return err
	}
	if err := putPerson(ctx, p.tx, u, "contacts_version", version); err != nil {
		return err
	}
	known, err := execOne(ctx, p.tx, "UPDATE contacts SET state = ?, request_id = ?, remark = ?, version = ?, changed_at = "+p.db.d.now+
		" WHERE user_id = ? AND peer_id = ?", e.state, e.request, e.remark, version, u, peer)
	if err == nil && !known {
		_, err = p.tx.ExecContext(ctx, "INSERT INTO contacts (state, request_id, remark, version, changed_at, user_id, peer_id)"+
			" VALUES (?, ?, ?, ?, "+p.db.d.now+", ?, ?)", e.state, e.request, e.remark, version, u, peer)
	}
	if err != nil || e.state != stateNone && e.state != stateRefused {
		return err
	}
	return p.forget(ctx, u)
}

// forget drops the older half of u's ended entries once there are too many.
func (p *contactPair) forget(ctx context.Context, u im.UserID) error {
	versions, err := queryAll(ctx, p.tx, func(rows *sql.Rows) (v uint64, err error) { return v, rows.Scan(&v) },
		"SELECT version FROM contacts WHERE user_id = ? AND state IN (?, ?) ORDER BY version", u, stateNone, stateRefused)
	if err != nil || len(versions) <= maxEndedContacts {
		return err
	}
	floor := versions[len(versions)/2]
	if _, err := p.tx.ExecContext(ctx, "DELETE FROM contacts WHERE user_id = ? AND state IN (?, ?) AND version <= ?",
		u, stateNone, stateRefused, floor); err != nil {
		return err
	}
	return putPerson(ctx, p.tx, u, "contacts_floor", floor)
}
