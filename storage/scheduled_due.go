package storage

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// dueScheduled reads the front of a partition's rows in one state, by the key
// scheduled_next.
func (d *dialect) dueScheduled() string {
	return "SELECT id, conversation, due_at, next_at - " + d.now + " FROM scheduled" + d.byNext + " WHERE partition_no = ? AND state = ? AND next_at <= " + d.now +
		" + ? ORDER BY next_at, id LIMIT ?"
}

const (
	queueScheduled    = "UPDATE scheduled SET state = 1, next_at = %now + ?, updated_at = %now WHERE id IN "
	queueScheduledEnd = " AND (state = 1 OR state = 0 AND due_at <= %now)"
	upTo              = " AND due_at <= ? AND (due_at < ? OR id <= ?)"
	claimScheduled    = "UPDATE scheduled SET state = 1, next_at = %now + ?, updated_at = %now WHERE conversation = ? AND state = 0" + upTo + " AND due_at <= %now"
	claimedScheduled  = "SELECT " + scheduledColumns + " FROM scheduled WHERE conversation = ? AND state = 1" + upTo + " ORDER BY due_at, id LIMIT ?"
)

// DueScheduled is the front of a partition's rows that are pending, or in queue: those to
// be looked at by now, or within ahead, in that order, by the database's clock. One range
// read of an index, however many wait.
func (db *DB) DueScheduled(ctx context.Context, partition int, state im.ScheduleState, ahead time.Duration, limit int) (rows []im.DueSchedule, err error) {
	ctx, done := db.begin(ctx, "due_scheduled")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (s im.DueSchedule, err error) {
		return s, rows.Scan(&s.ID, &s.Conversation, &s.DueAt, &s.In)
	}, db.d.dueScheduled(), partition, state, ahead.Milliseconds(), limit)
}

// QueueScheduled notes that the log has been told of rows: those that are due are in
// queue, and looked at again when that has lasted for again.
func (db *DB) QueueScheduled(ctx context.Context, ids []im.ScheduleID, again time.Duration) (err error) {
	ctx, done := db.begin(ctx, "queue_scheduled")
	defer done(&err)
	for part := range slices.Chunk(ids, insertRows) {
		if _, err := db.execAgain(ctx, db.d.timed(queueScheduled+in(len(part))+queueScheduledEnd),
			append([]any{again.Milliseconds()}, anyOf(part)...)...); err != nil {
			return err
		}
	}
	return nil
}

// ClaimScheduled puts the rows of a conversation that are due, up to upTo, in queue and
// returns the first of those in queue, by due time. What it returns can neither be changed
// nor cancelled any more.
func (db *DB) ClaimScheduled(ctx context.Context, c im.ConversationID, to im.FireTask, again time.Duration, limit int) (rows []im.Scheduled, err error) {
	ctx, done := db.begin(ctx, "claim_scheduled")
	defer done(&err)
	if _, err := db.execAgain(ctx, db.d.timed(claimScheduled), again.Milliseconds(), c, to.DueAt, to.DueAt, to.Schedule); err != nil {
		return nil, err
	}
	return queryAll(ctx, db.w, scanScheduled, claimedScheduled, c, to.DueAt, to.DueAt, to.Schedule, limit)
}

// KeepDecisions keeps what was decided of rows in queue, or fails them, and returns of
// whom that now stands. Of two who decide the first counts: what was decided stays. With
// an error it returns those of whom it is known.
func (db *DB) KeepDecisions(ctx context.Context, decisions []im.ScheduleDecision) (stand map[im.ScheduleID]bool, err error) {
	ctx, done := db.begin(ctx, "keep_decisions")
	defer done(&err)
	stand = make(map[im.ScheduleID]bool, len(decisions))
	for _, d := range decisions {
		query, what := "UPDATE scheduled SET request = ?, reason = '"+decided+"' WHERE id = ? AND state = 1 AND reason = ''", any([]byte(d.Request))
		if d.Refused != "" {
			query = db.d.timed("UPDATE scheduled SET state = 3, reason = ?, updated_at = %now WHERE id = ? AND state = 1 AND reason = ''")
			what = cut(d.Refused, 64)
		}
		n, err := db.execAgain(ctx, query, what, d.ID)
		if err != nil {
			return stand, err
		}
		stand[d.ID] = n == 1
	}
	return stand, nil
}

// SentScheduled ends rows in queue that the log has.
func (db *DB) SentScheduled(ctx context.Context, ids []im.ScheduleID) (err error) {
	ctx, done := db.begin(ctx, "sent_scheduled")
	defer done(&err)
	for part := range slices.Chunk(ids, insertRows) {
		if _, err := db.execAgain(ctx, db.d.timed("UPDATE scheduled SET state = 2, reason = '', updated_at = %now WHERE state = 1 AND id IN "+in(len(part))), anyOf(part)...); err != nil {
			return err
		}
	}
	return nil
}

// execAgain runs one autocommitted statement, again (twice at most) where the server
// broke a deadlock, and says how many rows it found.
func (db *DB) execAgain(ctx context.Context, query string, args ...any) (int64, error) {
	for try := 0; ; try++ {
		res, err := db.w.ExecContext(ctx, query, args...)
		if err == nil {
			return res.RowsAffected()
		}
		if try == 2 || !isDeadlock(err) {
			return 0, err
		}
	}
}

// ForgetScheduled removes final rows that have not changed for age, at most limit of each
// final state, and says how many those were.
func (db *DB) ForgetScheduled(ctx context.Context, age time.Duration, limit int) (n int, err error) {
	ctx, done := db.begin(ctx, "forget_scheduled")
	defer done(&err)
	for _, state := range []im.ScheduleState{im.ScheduleSent, im.ScheduleFailed, im.ScheduleCancelled} {
		ids, err := queryAll(ctx, db.r, func(rows *sql.Rows) (id im.ScheduleID, err error) { return id, rows.Scan(&id) },
			forgettable+db.d.now+" - ?"+forgettableOrder, state, age.Milliseconds(), limit)
		if err != nil {
			return n, err
		}
		for part := range slices.Chunk(ids, insertRows) {
			if _, err := db.w.ExecContext(ctx, "DELETE FROM scheduled WHERE id IN "+in(len(part)), anyOf(part)...); err != nil {
				return n, err
			}
			n += len(part)
		}
	}
	return n, nil
}
