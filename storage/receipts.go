package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// Who received a message are the members it found: joined by a notice not above it, and
// not gone below it. Join is not asked, since who joins a group with visible history sees
// what was said before and was no recipient of it.

// ReceiptCounts counts for each seq the members who were there when it was sent, its
// sender left out, and how many of them have received and read it. A seq without a
// message is left out. One read of the members, however many seqs.
func (db *DB) ReceiptCounts(ctx context.Context, c im.ConversationID, seqs []im.Seq) (counts []im.ReceiptCount, err error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	ctx, done := db.begin(ctx, "receipt_counts")
	defer done(&err)
	var senders []im.UserID
	counts, err = queryAll(ctx, db.r, func(rows *sql.Rows) (n im.ReceiptCount, err error) {
		var sender im.UserID
		err = rows.Scan(&n.Seq, &sender)
		senders = append(senders, sender)
		return n, err
	}, "SELECT seq, sender FROM messages"+db.d.byPrimary+" WHERE conversation = ? AND seq IN "+in(len(seqs))+" ORDER BY seq",
		append([]any{c}, anyOf(seqs)...)...)
	if err != nil || len(counts) == 0 {
		return nil, err
	}
	err = queryEach(ctx, db.r, func(rows *sql.Rows) error {
		var u im.UserID
		var joined, leave, delivered, read im.Seq
		err := rows.Scan(&u, &joined, &leave, &delivered, &read)
		for i := range counts {
			n := &counts[i]
			if u == senders[i] || joined > n.Seq || leave > joined && leave < n.Seq {
				continue
			}
			n.Recipients++
			if max(delivered, read) >= n.Seq {
				n.Delivered++
			}
			if read >= n.Seq {
				n.Read++
			}
		}
		return err
	}, "SELECT user_id, joined_seq, leave_seq, delivered_seq, read_seq FROM members WHERE conversation = ?", c)
	return counts, err
}

// Receipts are the recipients of one message in a state, by user, from above after;
// im.ErrNotFound where there is no such message.
func (db *DB) Receipts(ctx context.Context, c im.ConversationID, seq im.Seq, state im.ReceiptState, after im.UserID, limit int) (all []im.MemberCursors, more bool, err error) {
	ctx, done := db.begin(ctx, "receipts")
	defer done(&err)
	var sender im.UserID
	err = db.r.QueryRowContext(ctx, "SELECT sender FROM messages WHERE conversation = ? AND seq = ?", c, seq).Scan(&sender)
	if err != nil {
		return nil, false, notFound(err)
	}
	where := map[im.ReceiptState]string{
		im.ReceiptRead:        "read_seq >= ?",
		im.ReceiptDelivered:   "? <= CASE WHEN read_seq > delivered_seq THEN read_seq ELSE delivered_seq END",
		im.ReceiptUndelivered: "? > CASE WHEN read_seq > delivered_seq THEN read_seq ELSE delivered_seq END",
	}[state]
	all, err = queryAll(ctx, db.r, func(rows *sql.Rows) (m im.MemberCursors, err error) {
		err = rows.Scan(&m.User, &m.Delivered, &m.Read)
		m.Delivered = max(m.Delivered, m.Read)
		return m, err
	}, receiptsQuery+where+" ORDER BY user_id LIMIT ?", c, after, sender, seq, seq, seq, limit+1)
	all, more = page(all, limit)
	return all, more, err
}

const receiptsQuery = `SELECT user_id, delivered_seq, read_seq FROM members
WHERE conversation = ? AND user_id > ? AND user_id <> ? AND joined_seq <= ? AND (leave_seq <= joined_seq OR leave_seq >= ?) AND `
