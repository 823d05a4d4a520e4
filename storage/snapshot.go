package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// stateQuery reads a user's conversations as the projection holds them: for each
// one seeks to the end of the conversation, to the other side's row, to the last
// uncounted row, change and mention, and to the settings. For who has left a channel it
// ends with the notice of that.
func (d *dialect) stateQuery() string {
	return `SELECT m.conversation, m.join_seq, m.joined_seq, m.leave_seq, m.delivered_seq, m.read_seq, m.floor_seq,
	COALESCE(k.merged, 0), COALESCE(p.delivered_seq, 0), COALESCE(p.read_seq, 0),
	CASE WHEN m.leave_seq <= m.joined_seq THEN ` + lastOf("seq", "m.conversation", d.byPrimary) + ` ELSE m.leave_seq END,
	CASE WHEN m.leave_seq <= m.joined_seq THEN ` + lastOf("id", "m.conversation", d.byPrimary) + ` ELSE COALESCE((SELECT l.id FROM messages l
		WHERE l.conversation = m.conversation AND l.seq = m.leave_seq), 0) END,
	COALESCE((SELECT n.seq FROM uncounted n WHERE n.conversation = m.conversation AND n.user_id IN (0, m.user_id)
		ORDER BY n.seq DESC LIMIT 1), 0),
	` + lastChange("m.conversation", d.byPrimary) + `,
	` + mentionOf("m.user_id") + `, CASE WHEN SUBSTR(m.conversation, 1, 1) = 'c' THEN ` + mentionOf("0") + ` ELSE 0 END, m.deletions,
	COALESCE(s.version, 0), COALESCE(s.pinned_at, 0), COALESCE(s.muted_until, 0), COALESCE(s.marked_seq, 0),
	COALESCE(s.hidden_seq, 0), COALESCE(s.draft_at, 0)
FROM members m
LEFT JOIN conversation_settings s ON s.user_id = m.user_id AND s.conversation = m.conversation
LEFT JOIN conversations k ON k.id = CASE WHEN SUBSTR(m.conversation, 1, 1) = 'c' THEN m.conversation END
LEFT JOIN members p ON p.conversation = CASE WHEN SUBSTR(m.conversation, 1, 1) = 'd' THEN m.conversation END AND p.user_id <> m.user_id
WHERE m.user_id = ?`
}

// mentionOf selects the last mention of a user, or of all (0), that m may see.
func mentionOf(user string) string {
	return `COALESCE((SELECT t.seq FROM mentions t WHERE t.user_id = ` + user + ` AND t.conversation = m.conversation
		AND (m.leave_seq <= m.joined_seq OR t.seq <= m.leave_seq) ORDER BY t.seq DESC LIMIT 1), 0)`
}

// UserStates reads every conversation of u, complete, in no order, from which the
// projection in Redis is rebuilt. Unread is not filled in.
func (db *DB) UserStates(ctx context.Context, u im.UserID) (states []im.ConversationState, err error) {
	ctx, done := db.begin(ctx, "user_states")
	defer done(&err)
	return queryAll(ctx, db.r, scanState(u), db.d.stateQuery(), u)
}

// UserState reads one conversation of u; im.ErrNotFound where they were never in it.
func (db *DB) UserState(ctx context.Context, u im.UserID, c im.ConversationID) (state im.ConversationState, err error) {
	ctx, done := db.begin(ctx, "user_state")
	defer done(&err)
	states, err := queryAll(ctx, db.r, scanState(u), db.d.stateQuery()+" AND m.conversation = ?", u, c)
	if err == nil && len(states) == 0 {
		err = im.ErrNotFound
	}
	if err != nil {
		return im.ConversationState{}, err
	}
	return states[0], nil
}

func scanState(u im.UserID) func(*sql.Rows) (im.ConversationState, error) {
	return func(rows *sql.Rows) (s im.ConversationState, err error) {
		var all im.Seq
		err = rows.Scan(&s.Conversation, &s.Join, &s.Joined, &s.Leave, &s.Delivered, &s.Read, &s.Floor,
			&s.Merged, &s.PeerDelivered, &s.PeerRead, &s.LastSeq, &s.LastID, &s.LastUncounted,
			&s.LastChange, &s.LastMention, &all, &s.Deletions, &s.Settings.Version, &s.Settings.PinnedAt,
			&s.Settings.MutedUntil, &s.Settings.Marked, &s.Settings.Hidden, &s.Settings.DraftAt)
		s.LastMention = max(s.LastMention, all)
		if peer, ok := s.Conversation.Peer(u); ok && peer == u { // writing to oneself: one row is both sides
			s.PeerDelivered, s.PeerRead = s.Delivered, s.Read
		}
		return s, err
	}
}

// Undelivered returns the newest limit messages of c after a seq that u did not
// send, newest first.
func (db *DB) Undelivered(ctx context.Context, u im.UserID, c im.ConversationID, after im.Seq, limit int) (entries []im.OfflineEntry, err error) {
	ctx, done := db.begin(ctx, "undelivered")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (e im.OfflineEntry, err error) {
		err = rows.Scan(&e.Seq, &e.ID)
		return e, err
	}, "SELECT seq, id FROM messages"+db.d.byPrimary+" WHERE conversation = ? AND seq > ? AND sender <> ? ORDER BY seq DESC LIMIT ?", c, after, u, limit)
}

// CountUncounted counts the seqs of c in (after, upTo] that do not count for u.
func (db *DB) CountUncounted(ctx context.Context, c im.ConversationID, u im.UserID, after, upTo im.Seq) (n uint64, err error) {
	ctx, done := db.begin(ctx, "count_uncounted")
	defer done(&err)
	err = db.r.QueryRowContext(ctx, "SELECT COUNT(DISTINCT seq) FROM uncounted"+
		" WHERE conversation = ? AND seq > ? AND seq <= ? AND user_id IN (0, ?)", c, after, upTo, u).Scan(&n)
	return n, err
}

// UncountedSeqs returns the newest limit uncounted rows of c, newest first.
func (db *DB) UncountedSeqs(ctx context.Context, c im.ConversationID, limit int) (seqs []im.UncountedSeq, err error) {
	ctx, done := db.begin(ctx, "uncounted_seqs")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (s im.UncountedSeq, err error) {
		s.Conversation = c
		err = rows.Scan(&s.Seq, &s.User)
		return s, err
	}, "SELECT seq, user_id FROM uncounted WHERE conversation = ? ORDER BY seq DESC, user_id DESC LIMIT ?", c, limit)
}
