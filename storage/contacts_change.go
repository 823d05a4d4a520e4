package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// RequestContact asks to for becoming from's contact, or accepts where to has asked
// already. Asked or contacts already: no event, and the entry as it is. Returns
// im.ErrNotFound where to is not there, im.ErrBlocked where to has blocked from,
// im.ErrConflict where from has blocked to, im.FullError.
func (db *DB) RequestContact(ctx context.Context, from, to im.UserID, message string) (im.ContactChange, error) {
	return db.changeContact(ctx, "request_contact", from, to, func(ctx context.Context, p *contactPair) error {
		if !p.active[from] || !p.active[to] {
			return im.ErrNotFound
		}
		if err := p.checkBlocks(ctx); err != nil {
			return err
		}
		switch p.mine.State {
		case im.ContactYes, im.ContactOutgoing:
			return nil
		case im.ContactIncoming:
			return p.accept(ctx)
		}
		for _, c := range []struct {
			user  im.UserID
			state int
			limit string
			most  int
		}{{from, stateContact, "contacts", im.MaxContacts}, {from, stateOutgoing, "contact_requests", im.MaxContactRequests},
			{to, stateIncoming, "contact_requests", im.MaxContactRequests}} {
			if err := p.room(ctx, c.user, c.state, c.limit, c.most); err != nil {
				return err
			}
		}
		res, err := p.tx.ExecContext(ctx, "INSERT INTO contact_requests (from_id, to_id, message, created_at) VALUES (?, ?, ?, "+p.db.d.now+")",
			from, to, message)
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		request := im.ContactRequestID(id)
		return p.put(ctx, im.ContactRequested, entry{state: stateOutgoing, request: request}, entry{state: stateIncoming, request: request})
	})
}

// AcceptContact makes u and who asked each other's contacts, both or neither. Accepted
// already: no event. Returns im.ErrNotFound for what is not a request to u,
// im.FullError.
func (db *DB) AcceptContact(ctx context.Context, u im.UserID, id im.ContactRequestID) (im.ContactChange, error) {
	return db.answerRequest(ctx, "accept_contact", u, id, true, func(ctx context.Context, p *contactPair, accepted bool) error {
		if accepted {
			return nil
		}
		return p.accept(ctx)
	})
}

// RefuseContact ends a request to u. Returns im.ErrNotFound for what is not a request
// to u, im.ErrConflict where it was accepted.
func (db *DB) RefuseContact(ctx context.Context, u im.UserID, id im.ContactRequestID) (im.ContactChange, error) {
	return db.answerRequest(ctx, "refuse_contact", u, id, true, func(ctx context.Context, p *contactPair, accepted bool) error {
		if accepted {
			return im.ErrConflict
		}
		return p.end(ctx, im.ContactDeclined, stateNone, stateRefused)
	})
}

// WithdrawContact ends a request of u's own. Returns im.ErrNotFound for what is not a
// request of u's, im.ErrConflict where it was accepted.
func (db *DB) WithdrawContact(ctx context.Context, u im.UserID, id im.ContactRequestID) (im.ContactChange, error) {
	return db.answerRequest(ctx, "withdraw_contact", u, id, false, func(ctx context.Context, p *contactPair, accepted bool) error {
		if accepted {
			return im.ErrConflict
		}
		return p.end(ctx, im.ContactWithdrawn, stateNone, stateNone)
	})
}

// RemoveContact ends a contact on both sides. Who is none: no event.
func (db *DB) RemoveContact(ctx context.Context, u, peer im.UserID) (im.ContactChange, error) {
	return db.changeContact(ctx, "remove_contact", u, peer, func(ctx context.Context, p *contactPair) error {
		if p.mine.State != im.ContactYes {
			return nil
		}
		if err := db.noteParted(ctx, p.tx, u, peer); err != nil {
			return err
		}
		return p.end(ctx, im.ContactRemoved, stateNone, stateNone)
	})
}

// SetRemark gives a contact a private name; empty takes it away. im.ErrNotFound where
// peer is not a contact.
func (db *DB) SetRemark(ctx context.Context, u, peer im.UserID, remark string) (im.ContactChange, error) {
	return db.changeContact(ctx, "set_remark", u, peer, func(ctx context.Context, p *contactPair) error {
		switch {
		case p.mine.State != im.ContactYes:
			return im.ErrNotFound
		case p.mine.Remark == remark:
			return nil
		}
		p.event = im.ContactRemarked
		return p.putOne(ctx, u, peer, entry{stateContact, p.mine.Request, remark})
	})
}

// SetBlock blocks or unblocks; either twice is fine. Blocking ends a request that is
// pending between the two. Returns im.ErrNotFound where blocked is not there,
// im.FullError.
func (db *DB) SetBlock(ctx context.Context, u, blocked im.UserID, on bool) (im.ContactChange, error) {
	return db.changeContact(ctx, "set_block", u, blocked, func(ctx context.Context, p *contactPair) error {
		if !on {
			_, err := p.tx.ExecContext(ctx, "DELETE FROM blocks WHERE user_id = ? AND blocked_id = ?", u, blocked)
			return err
		}
		if _, known := p.active[blocked]; !known {
			return im.ErrNotFound
		}
		var n int
		var there bool
		err := p.tx.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(MAX(blocked_id = ?), 0) FROM blocks WHERE user_id = ?", blocked, u).Scan(&n, &there)
		switch {
		case err != nil:
			return err
		case there:
			return nil
		case n >= im.MaxBlocks:
			return &im.FullError{Limit: "blocks", Max: im.MaxBlocks}
		}
		if _, err := p.tx.ExecContext(ctx, "INSERT INTO blocks (user_id, blocked_id, created_at) VALUES (?, ?, "+p.db.d.now+")", u, blocked); err != nil {
			return err
		}
		if err := db.noteHidden(ctx, p.tx, blocked, u); err != nil {
			return err
		}
		switch p.mine.State {
		case im.ContactIncoming:
			return p.end(ctx, im.ContactDeclined, stateNone, stateRefused)
		case im.ContactOutgoing:
			return p.end(ctx, im.ContactWithdrawn, stateNone, stateNone)
		}
		return nil
	})
}

// answerRequest changes what a pending or accepted request leads to; received says
// whose side u must be on. A request of others is im.ErrNotFound, as one that is not.
func (db *DB) answerRequest(ctx context.Context, op string, u im.UserID, id im.ContactRequestID, received bool,
	do func(ctx context.Context, p *contactPair, accepted bool) error) (change im.ContactChange, err error) {
	peer, err := db.otherSide(ctx, u, id, received)
	if err != nil {
		return change, err
	}
	return db.changeContact(ctx, op, u, peer, func(ctx context.Context, p *contactPair) error {
		_, _, accepted, err := findRequest(ctx, p.tx, id) // it may have ended before the lock
		if err != nil {
			return err
		}
		return do(ctx, p, accepted)
	})
}

// otherSide is who u shares the request with.
func (db *DB) otherSide(ctx context.Context, u im.UserID, id im.ContactRequestID, received bool) (peer im.UserID, err error) {
	ctx, done := db.begin(ctx, "contact_request")
	defer done(&err)
	from, to, _, err := findRequest(ctx, db.r, id)
	switch {
	case err != nil:
		return 0, err
	case received && to == u:
		return from, nil
	case !received && from == u:
		return to, nil
	}
	return 0, im.ErrNotFound
}

func findRequest(ctx context.Context, q querier, id im.ContactRequestID) (from, to im.UserID, accepted bool, err error) {
	found := false
	err = queryEach(ctx, q, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(&from, &to, &accepted)
	}, "SELECT from_id, to_id, accepted FROM contact_requests WHERE id = ?", id)
	if err == nil && !found {
		err = im.ErrNotFound
	}
	return from, to, accepted, err
}
