package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// States of a row in contacts; their names are im's.
const (
	stateNone = iota
	stateContact
	stateOutgoing
	stateIncoming
	stateRefused
)

var contactStates = [...]im.ContactState{im.ContactNone, im.ContactYes, im.ContactOutgoing, im.ContactIncoming, im.ContactRefused}

const (
	contactRows = `SELECT c.user_id, c.peer_id, c.state, c.request_id, COALESCE(q.message, ''), c.remark, c.version, c.changed_at
FROM contacts c`
	contactRequest = " LEFT JOIN contact_requests q ON q.id = c.request_id AND q.accepted = 0"
	contactsSince  = contactRows + contactRequest + " WHERE c.user_id = ? AND c.version > ? ORDER BY c.version LIMIT ?"
)

// contactsQuery reads in the order of the primary key: what has ended is skipped on
// the way, since the index by state would have to be sorted.
func (d *dialect) contactsQuery() string {
	return contactRows + d.byPrimary + contactRequest +
		" WHERE c.user_id = ? AND c.peer_id > ? AND c.state IN (?, ?, ?) ORDER BY c.peer_id LIMIT ?"
}

func contactRequests(incoming bool) string {
	mine, theirs := "from_id", "to_id"
	if incoming {
		mine, theirs = theirs, mine
	}
	return "SELECT c.user_id, c.peer_id, c.state, c.request_id, q.message, c.remark, c.version, c.changed_at FROM contact_requests q" +
		" JOIN contacts c ON c.user_id = q." + mine + " AND c.peer_id = q." + theirs +
		" WHERE q." + mine + " = ? AND q.accepted = 0 AND q.id < ? ORDER BY q.id DESC LIMIT ?"
}

func scanContact(rows *sql.Rows) (c im.Contact, err error) {
	var state int
	err = rows.Scan(&c.User, &c.Peer, &state, &c.Request, &c.Message, &c.Remark, &c.Version, &c.ChangedAt)
	if err == nil {
		c.State = contactStates[state]
	}
	return c, err
}

// Contacts is a page of u's contacts and pending requests, by peer, from above after
// (0: from the top, with the version to keep).
func (db *DB) Contacts(ctx context.Context, u, after im.UserID, limit int) (page im.ContactPage, err error) {
	ctx, done := db.begin(ctx, "contacts")
	defer done(&err)
	page.Full = true
	if after == 0 { // noted before the rows are read: what changes meanwhile is seen again
		if page.Version, _, err = db.contactsVersion(ctx, u); err != nil {
			return im.ContactPage{}, err
		}
	}
	page.Items, err = queryAll(ctx, db.r, scanContact, db.d.contactsQuery(), u, after, stateContact, stateOutgoing, stateIncoming, limit+1)
	page.Items, page.HasMore = pageOf(page.Items, limit)
	return page, err
}

// ContactsSince is what changed after a version, what has ended among it. A version
// that is unknown here, or before which endings were forgotten, is answered with the
// top of the full list.
func (db *DB) ContactsSince(ctx context.Context, u im.UserID, since uint64, limit int) (page im.ContactPage, err error) {
	page, known, err := db.contactsSince(ctx, u, since, limit)
	if err != nil || known {
		return page, err
	}
	return db.Contacts(ctx, u, 0, limit)
}

func (db *DB) contactsSince(ctx context.Context, u im.UserID, since uint64, limit int) (page im.ContactPage, known bool, err error) {
	ctx, done := db.begin(ctx, "contacts_since")
	defer done(&err)
	page.Items, err = queryAll(ctx, db.r, scanContact, contactsSince, u, since, limit+1)
	if err != nil {
		return im.ContactPage{}, false, err
	}
	page.Items, page.HasMore = pageOf(page.Items, limit)
	page.Version = since
	if n := len(page.Items); n > 0 {
		page.Version = page.Items[n-1].Version
	}
	// After the rows, so that nothing was forgotten between the two.
	version, floor, err := db.contactsVersion(ctx, u)
	return page, err == nil && since >= floor && since <= version, err
}

// ContactRequests is a page of u's pending requests, the latest first, from below
// before (0: from the top).
func (db *DB) ContactRequests(ctx context.Context, u im.UserID, incoming bool, before im.ContactRequestID, limit int) (items []im.Contact, more bool, err error) {
	ctx, done := db.begin(ctx, "contact_requests")
	defer done(&err)
	if before == 0 {
		before = im.MaxID
	}
	items, err = queryAll(ctx, db.r, scanContact, contactRequests(incoming), u, before, limit+1)
	items, more = pageOf(items, limit)
	return items, more, err
}

// ContactsVersion is how far u's contacts have come; 0 where nothing ever happened.
func (db *DB) ContactsVersion(ctx context.Context, u im.UserID) (version uint64, err error) {
	ctx, done := db.begin(ctx, "contacts_version")
	defer done(&err)
	version, _, err = db.contactsVersion(ctx, u)
	return version, err
}

func (db *DB) contactsVersion(ctx context.Context, u im.UserID) (version, floor uint64, err error) {
	err = db.r.QueryRowContext(ctx, "SELECT contacts_version, contacts_floor FROM people WHERE user_id = ?", u).Scan(&version, &floor)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return version, floor, err
}

// pageOf is at most limit of the items, and whether there are more.
func pageOf[T any](items []T, limit int) ([]T, bool) {
	if len(items) > limit {
		return items[:limit], true
	}
	return items, false
}
