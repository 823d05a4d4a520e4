package storage

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	deadColumns = "id, topic, partition_no, record_offset, conversation, sender, client_msg_id, content_hash, reason, attempts, payload," +
		" parked_at, state, acted_at"
	deadAgain   = 30_000 // ms after which a replay that did not end is begun anew
	deadPage    = 100
	sameRows    = 10_000 // of a conversation that one statement looks through for the same content
	sameMatches = 20
)

// DeadLetters is a page of what was given up, the oldest first.
func (db *DB) DeadLetters(ctx context.Context, q im.DeadQuery) (all []im.DeadLetter, more bool, err error) {
	ctx, done := db.begin(ctx, "dead_letters")
	defer done(&err)
	limit := min(max(q.Limit, 1), deadPage)
	where, args := "id > ?", []any{q.After}
	if q.State != nil {
		where, args = where+" AND state = ?", append(args, *q.State)
	}
	if q.Topic != "" {
		where, args = where+" AND topic = ?", append(args, q.Topic)
	}
	all, err = queryAll(ctx, db.r, scanDead, "SELECT "+deadColumns+" FROM dead WHERE "+where+" ORDER BY id LIMIT ?", append(args, limit+1)...)
	all, more = page(all, limit)
	return all, more, err
}

// DeadLetter is one; im.ErrNotFound where there is none.
func (db *DB) DeadLetter(ctx context.Context, id im.DeadID) (d im.DeadLetter, err error) {
	ctx, done := db.begin(ctx, "dead_letter")
	defer done(&err)
	return db.deadLetter(ctx, id)
}

func (db *DB) deadLetter(ctx context.Context, id im.DeadID) (im.DeadLetter, error) {
	found, err := queryAll(ctx, db.r, scanDead, "SELECT "+deadColumns+" FROM dead WHERE id = ?", id)
	if err != nil {
		return im.DeadLetter{}, err
	}
	if len(found) == 0 {
		return im.DeadLetter{}, im.ErrNotFound
	}
	return found[0], nil
}

func scanDead(rows *sql.Rows) (d im.DeadLetter, err error) {
	var hash sql.RawBytes
	err = rows.Scan(&d.ID, &d.Topic, &d.Partition, &d.Offset, &d.Key.Conversation, &d.Key.Sender, &d.Key.ClientMsgID, &hash,
		&d.Reason, &d.Attempts, &d.Payload, &d.ParkedAt, &d.State, &d.ActedAt)
	copy(d.Hash[:], hash)
	return d, err
}

// ClaimDead begins a replay: of an open letter, or of one whose replay began over 30 s
// ago and did not end. From then on its message counts as parked no longer.
// im.ErrConflict in another state, im.ErrNotFound where there is none.
func (db *DB) ClaimDead(ctx context.Context, id im.DeadID) (err error) {
	ctx, done := db.begin(ctx, "claim_dead")
	defer done(&err)
	return db.moveDead(ctx, id, im.DeadReplaying, "state = 0 OR state = 1 AND acted_at < "+db.d.now+" - ?", deadAgain)
}

// EndReplay ends a replay: replayed, or open again where the log did not take it.
func (db *DB) EndReplay(ctx context.Context, id im.DeadID, state im.DeadState) (err error) {
	ctx, done := db.begin(ctx, "end_replay")
	defer done(&err)
	return db.moveDead(ctx, id, state, "state = 1")
}

// DiscardDead ends an open letter for good, or one whose replay began over 30 s ago and
// did not end: its message stays rejected, unless that replay has stored it.
// im.ErrConflict in another state, im.ErrNotFound where there is none.
func (db *DB) DiscardDead(ctx context.Context, id im.DeadID) (err error) {
	ctx, done := db.begin(ctx, "discard_dead")
	defer done(&err)
	return db.moveDead(ctx, id, im.DeadDiscarded, "state = 0 OR state = 1 AND acted_at < "+db.d.now+" - ?", deadAgain)
}

func (db *DB) moveDead(ctx context.Context, id im.DeadID, to im.DeadState, from string, args ...any) error {
	moved, err := execOne(ctx, db.w, "UPDATE dead SET state = ?, acted_at = "+db.d.now+" WHERE id = ? AND ("+from+")",
		append([]any{to, id}, args...)...)
	if err != nil || moved {
		return err
	}
	d, err := db.deadLetter(ctx, id)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: it is %s", im.ErrConflict, d.State)
}

// SameContent finds a sender's messages of the same content stored since a time (Unix
// ms), the latest first, at most 20. It reads backwards in steps of 10,000 messages,
// until one of them is older or the deadline ends it: im.ErrStore then.
func (db *DB) SameContent(ctx context.Context, c im.ConversationID, sender im.UserID, hash im.ContentHash, since int64) (all []im.StoredCopy, err error) {
	ctx, done := db.begin(ctx, "same_content")
	defer done(&err)
	var last im.Seq
	if err := db.r.QueryRowContext(ctx, "SELECT COALESCE((SELECT seq FROM messages WHERE conversation = ? ORDER BY seq DESC LIMIT 1), 0)", c).
		Scan(&last); err != nil {
		return nil, err
	}
	for last > 0 && len(all) < sameMatches {
		first := last - min(last, sameRows)
		found, err := queryAll(ctx, db.r, func(rows *sql.Rows) (m im.StoredCopy, err error) {
			return m, rows.Scan(&m.Seq, &m.ClientMsgID, &m.StoredAt)
		}, "SELECT seq, client_msg_id, stored_at FROM messages"+db.d.byPrimary+" WHERE conversation = ? AND seq > ? AND seq <= ?"+
			" AND sender = ? AND content_hash = ? AND stored_at >= ? ORDER BY seq DESC LIMIT ?",
			c, first, last, sender, hash[:], since, sameMatches-len(all))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
		var oldest int64
		if err := db.r.QueryRowContext(ctx, "SELECT stored_at FROM messages WHERE conversation = ? AND seq = ?", c, first+1).Scan(&oldest); err != nil {
			return nil, err
		}
		if oldest < since {
			break
		}
		last = first
	}
	return all, nil
}
