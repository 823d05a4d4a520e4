package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// AskToJoin joins an open group, and asks to join one that admins approve for
// (pending). A closed one is im.ErrNotFound. Who asks again says something else.
func (db *DB) AskToJoin(ctx context.Context, user im.UserID, g im.GroupID, message string) (change im.GroupChange, pending bool, err error) {
	change, err = db.changeGroup(ctx, "ask_to_join", user, g, func(ctx context.Context, t *groupTx) error {
		pending = false
		switch {
		case t.me.in:
			t.again = append(t.again, t.me.moved)
			return nil
		case t.JoinPolicy == im.JoinOpen:
			return t.join(ctx, user, user)
		case t.JoinPolicy != im.JoinRequest:
			return im.ErrNotFound
		}
		pending = true
		return t.ask(ctx, user, message)
	})
	return change, pending && err == nil, err
}

func (t *groupTx) ask(ctx context.Context, user im.UserID, message string) error {
	var waiting, mine int
	err := t.tx.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(user_id = ?), 0) FROM join_requests WHERE group_id = ?", user, t.ID).Scan(&waiting, &mine)
	switch {
	case err != nil:
		return err
	case mine > 0:
		_, err = t.tx.ExecContext(ctx, "UPDATE join_requests SET message = ? WHERE group_id = ? AND user_id = ?", message, t.ID, user)
		return err
	case waiting >= im.MaxPendingRequests:
		return &im.FullError{Limit: "join_requests", Max: im.MaxPendingRequests}
	}
	_, err = t.tx.ExecContext(ctx, "INSERT INTO join_requests (group_id, user_id, message, asked_at) VALUES (?, ?, ?, ?)", t.ID, user, message, t.now)
	return err
}

// WithdrawJoin takes a request back; im.ErrNotFound where there is none.
func (db *DB) WithdrawJoin(ctx context.Context, user im.UserID, g im.GroupID) (err error) {
	ctx, done := db.begin(ctx, "withdraw_join")
	defer done(&err)
	return db.transact(ctx, func(tx *sql.Tx) error { return endRequest(ctx, tx, g, user) })
}

// endRequest returns im.ErrNotFound where there is none; of two that end it one does.
func endRequest(ctx context.Context, tx *sql.Tx, g im.GroupID, user im.UserID) error {
	there, err := execOne(ctx, tx, "DELETE FROM join_requests WHERE group_id = ? AND user_id = ?", g, user)
	if err == nil && !there {
		err = im.ErrNotFound
	}
	return err
}

// DecideJoin accepts or refuses a request: admins may.
func (db *DB) DecideJoin(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, accept bool) (im.GroupChange, error) {
	return db.changeGroup(ctx, "decide_join", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.manages(); err != nil {
			return err
		}
		if err := endRequest(ctx, t.tx, t.ID, user); err != nil || !accept {
			return err
		}
		return t.join(ctx, actor, user)
	})
}

// JoinRequests are those that wait, by user, from above after: admins may.
func (db *DB) JoinRequests(ctx context.Context, actor im.UserID, g im.GroupID, after im.UserID, limit int) (all []im.JoinRequestRow, more bool, err error) {
	ctx, done := db.begin(ctx, "join_requests")
	defer done(&err)
	view, err := db.ownView(ctx, actor, g)
	switch {
	case err != nil:
		return nil, false, err
	case !view.Role.Manages():
		return nil, false, im.ErrForbidden
	}
	all, err = queryAll(ctx, db.r, func(rows *sql.Rows) (r im.JoinRequestRow, err error) {
		return r, rows.Scan(&r.User, &r.Message, &r.AskedAt)
	}, "SELECT user_id, message, asked_at FROM join_requests WHERE group_id = ? AND user_id > ? ORDER BY user_id LIMIT ?", g, after, limit+1)
	all, more = page(all, limit)
	return all, more, err
}
