package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

const scheduledColumns = "id, conversation, sender, client_msg_id, by_server, request, content_hash, due_at, state, reason, created_at, updated_at"

const (
	findScheduled     = "SELECT " + scheduledColumns + " FROM scheduled WHERE id = ?"
	findScheduledAs   = "SELECT " + scheduledColumns + " FROM scheduled WHERE conversation = ? AND sender = ? AND client_msg_id = ?"
	scheduledOf       = "SELECT " + scheduledColumns + " FROM scheduled WHERE sender = ? AND state = ? AND due_at >= ? AND (due_at > ? OR id > ?)"
	scheduledOfIn     = " AND conversation = ?"
	scheduledOfOrder  = " ORDER BY due_at, id LIMIT ?"
	countScheduled    = "(SELECT COUNT(*) FROM (SELECT 1 FROM scheduled WHERE sender = ? AND state = 0 LIMIT ?) x)"
	insertScheduled   = "INSERT INTO scheduled (conversation, partition_no, sender, client_msg_id, by_server, request, content_hash, due_at, next_at, created_at, updated_at) VALUES "
	forgettable       = "SELECT id FROM scheduled WHERE state = ? AND updated_at < "
	forgettableOrder  = " ORDER BY updated_at LIMIT ?"
	scheduledUnique   = "scheduled_client_msg_id"
	scheduledUniqueIn = "scheduled.client_msg_id"
)

func scanScheduled(rows *sql.Rows) (s im.Scheduled, err error) {
	var request, hash []byte
	err = rows.Scan(&s.ID, &s.Conversation, &s.Sender, &s.ClientMsgID, &s.ByServer, &request, &hash, &s.DueAt, &s.State, &s.Reason,
		&s.CreatedAt, &s.UpdatedAt)
	s.Request = request
	copy(s.Hash[:], hash)
	if s.State == im.ScheduleQueued {
		s.Decided, s.Reason = s.Reason == decided, ""
	}
	return s, err
}

// decided stands for the reason of a row in queue whose request holds what was decided.
const decided = "decided"

// oneScheduled is the one row of a query; im.ErrNotFound where there is none.
func oneScheduled(ctx context.Context, q querier, query string, args ...any) (im.Scheduled, error) {
	all, err := queryAll(ctx, q, scanScheduled, query, args...)
	switch {
	case err != nil:
		return im.Scheduled{}, err
	case len(all) == 0:
		return im.Scheduled{}, im.ErrNotFound
	}
	return all[0], nil
}

// Schedule notes a message for its time and returns its row, or the one that is there
// under its client message ID, whatever that says. What is past is due now, by the
// database's clock. im.FullError where most (0: no bound) of the sender's are pending.
func (db *DB) Schedule(ctx context.Context, s im.Scheduled, partition, most int) (row im.Scheduled, err error) {
	ctx, done := db.begin(ctx, "schedule")
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		row = s
		if most > 0 { // one at a time, so that two cannot both take the last place
			if _, err := db.lockUsers(ctx, tx, s.Sender); err != nil {
				return err
			}
		}
		var pending int
		err := tx.QueryRowContext(ctx, "SELECT "+db.d.now+", "+countScheduled, s.Sender, most).Scan(&row.CreatedAt, &pending)
		switch {
		case err != nil:
			return err
		case most > 0 && pending >= most:
			// The one that took the last place may be this one's first try.
			if row, err = oneScheduled(ctx, tx, findScheduledAs, s.Conversation, s.Sender, s.ClientMsgID); errors.Is(err, im.ErrNotFound) {
				err = &im.FullError{Limit: "scheduled", Max: most}
			}
			return err
		}
		row.DueAt, row.UpdatedAt = max(s.DueAt, row.CreatedAt), row.CreatedAt
		res, err := tx.ExecContext(ctx, insertScheduled+in(11), s.Conversation, partition, s.Sender, s.ClientMsgID, s.ByServer,
			[]byte(s.Request), s.Hash[:], row.DueAt, row.DueAt, row.CreatedAt, row.CreatedAt)
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		row.ID = im.ScheduleID(id)
		return err
	})
	if violates(err, scheduledUnique, scheduledUniqueIn) {
		return oneScheduled(ctx, db.w, findScheduledAs, s.Conversation, s.Sender, s.ClientMsgID)
	}
	return row, err
}

// Scheduled returns im.ErrNotFound where there is no such row.
func (db *DB) Scheduled(ctx context.Context, id im.ScheduleID) (row im.Scheduled, err error) {
	ctx, done := db.begin(ctx, "scheduled")
	defer done(&err)
	return oneScheduled(ctx, db.r, findScheduled, id)
}

// ScheduledAs finds what is scheduled under a client message ID; im.ErrNotFound.
func (db *DB) ScheduledAs(ctx context.Context, k im.SendKey) (row im.Scheduled, err error) {
	ctx, done := db.begin(ctx, "scheduled_as")
	defer done(&err)
	return oneScheduled(ctx, db.r, findScheduledAs, k.Conversation, k.Sender, k.ClientMsgID)
}

// ScheduledOf is a page of a user's scheduled messages, by due time: a range read of
// theirs in that state.
func (db *DB) ScheduledOf(ctx context.Context, q im.ScheduledQuery) (all []im.Scheduled, more bool, err error) {
	ctx, done := db.begin(ctx, "scheduled_of")
	defer done(&err)
	query, args := scheduledOf, []any{q.Sender, q.State, q.After.DueAt, q.After.DueAt, q.After.Schedule}
	if q.Conversation != "" {
		query, args = query+scheduledOfIn, append(args, q.Conversation)
	}
	all, err = queryAll(ctx, db.r, scanScheduled, query+scheduledOfOrder, append(args, q.Limit+1)...)
	all, more = page(all, q.Limit)
	return all, more, err
}

// ChangeScheduled changes or cancels a pending message and returns its row. im.ErrNotFound;
// im.ErrScheduleFinal where it is pending no more, except that what is cancelled already
// may be cancelled again.
func (db *DB) ChangeScheduled(ctx context.Context, id im.ScheduleID, p im.SchedulePatch) (row im.Scheduled, err error) {
	ctx, done := db.begin(ctx, "change_scheduled")
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) (err error) {
		if row, err = oneScheduled(ctx, tx, findScheduled+db.d.forUpdate, id); err != nil {
			return err
		}
		switch {
		case p.Cancel && row.State == im.ScheduleCancelled:
			return nil
		case row.State != im.SchedulePending:
			return im.ErrScheduleFinal
		}
		if err := tx.QueryRowContext(ctx, "SELECT "+db.d.now).Scan(&row.UpdatedAt); err != nil {
			return err
		}
		if p.Request != nil {
			row.Request = p.Request
		}
		if p.DueAt != nil {
			row.DueAt = max(*p.DueAt, row.UpdatedAt)
		}
		if p.Cancel {
			row.State = im.ScheduleCancelled
		}
		_, err = tx.ExecContext(ctx, "UPDATE scheduled SET request = ?, due_at = ?, next_at = ?, state = ?, updated_at = ? WHERE id = ?",
			[]byte(row.Request), row.DueAt, row.DueAt, row.State, row.UpdatedAt, id)
		return err
	})
	return row, err
}
