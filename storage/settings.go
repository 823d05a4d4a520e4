package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// settingsRow is one user's settings for one conversation under lock, in one
// transaction.
type settingsRow struct {
	im.SettingsRow
	member im.Member // only whether they are in it, and where they left
	now    int64     // the database's
}

// ChangeSettings changes what u has set for c and counts its version up; what is so
// already stays as it is. doubtful says that Redis will not learn of it: the doubt is
// noted in the same transaction. Returns im.ErrNotFound where u was never in c,
// im.ErrConflict where the settings are at another version than was expected,
// im.FullError where im.MaxPinned are pinned.
func (db *DB) ChangeSettings(ctx context.Context, u im.UserID, c im.ConversationID, ch im.SettingsChange, doubtful bool) (im.SettingsRow, error) {
	return db.settle(ctx, "change_settings", u, c, doubtful, func(ctx context.Context, tx *sql.Tx, r *settingsRow) error {
		s := &r.Settings
		if ch.Version != nil && *ch.Version != s.Version {
			return im.ErrConflict
		}
		if ch.Pinned != nil {
			if err := db.pin(ctx, tx, u, *ch.Pinned, r); err != nil {
				return err
			}
		}
		if ch.MutedUntil != nil {
			s.MutedUntil = *ch.MutedUntil
		}
		if ch.MarkedUnread != nil || ch.Hidden != nil {
			top, err := lastSeq(ctx, tx, db.d, c, r.member)
			if err != nil {
				return err
			}
			if ch.MarkedUnread != nil {
				s.Marked = 0
				if *ch.MarkedUnread {
					s.Marked = top + 1
				}
			}
			if ch.Hidden != nil {
				s.Hidden = min(*ch.Hidden, top)
			}
		}
		if ch.Draft != nil && *ch.Draft != r.Draft.Text {
			r.Draft = im.Draft{}
			if *ch.Draft != "" {
				r.Draft = im.Draft{Text: *ch.Draft, Device: ch.Device, ChangedAt: r.now}
			}
			s.DraftAt = r.Draft.ChangedAt
		}
		return nil
	})
}

// DeleteConversation deletes c for u up to a seq, at most the last: the floor rises and
// never falls. Pin, mark and draft go with it; it stays muted. doubtful is as with
// ChangeSettings. Returns im.ErrNotFound where u was never in c.
func (db *DB) DeleteConversation(ctx context.Context, u im.UserID, c im.ConversationID, upTo im.Seq, doubtful bool) (im.SettingsRow, error) {
	return db.settle(ctx, "delete_conversation", u, c, doubtful, func(ctx context.Context, tx *sql.Tx, r *settingsRow) error {
		top, err := lastSeq(ctx, tx, db.d, c, r.member)
		if err != nil {
			return err
		}
		upTo = min(upTo, top)
		if upTo <= r.Floor {
			return nil
		}
		r.Floor = upTo
		r.Settings.PinnedAt, r.Settings.Marked, r.Settings.DraftAt, r.Draft = 0, 0, 0, im.Draft{}
		_, err = tx.ExecContext(ctx, "UPDATE members SET floor_seq = ? WHERE user_id = ? AND conversation = ?", upTo, u, c)
		return err
	})
}

// settle runs do on u's locked row for c and writes what it changed, all or nothing.
func (db *DB) settle(ctx context.Context, op string, u im.UserID, c im.ConversationID, doubtful bool,
	do func(context.Context, *sql.Tx, *settingsRow) error) (row im.SettingsRow, err error) {
	ctx, done := db.begin(ctx, op)
	defer done(&err)
	err = db.transact(ctx, func(tx *sql.Tx) error {
		r := settingsRow{SettingsRow: im.SettingsRow{Conversation: c}}
		if err := r.lock(ctx, tx, db.d, u); err != nil {
			return err
		}
		before := r
		if err := do(ctx, tx, &r); err != nil {
			return err
		}
		if r != before {
			r.Changed = true
			r.Settings.Version++
			if err := r.write(ctx, tx, u); err != nil {
				return err
			}
			if doubtful {
				if err := db.noteDoubt(ctx, tx, "settings of a conversation were not projected"); err != nil {
					return err
				}
			}
		}
		row = r.SettingsRow
		return nil
	})
	if err != nil {
		return im.SettingsRow{}, err
	}
	return row, nil
}

// lock reads the row and keeps every other change of it away until the transaction
// ends; the member's row stands for it where there is none yet.
func (r *settingsRow) lock(ctx context.Context, tx *sql.Tx, d *dialect, u im.UserID) error {
	s := &r.Settings
	err := tx.QueryRowContext(ctx, `SELECT `+d.now+`, m.joined_seq, m.leave_seq, m.floor_seq,
	COALESCE(s.version, 0), COALESCE(s.pinned_at, 0), COALESCE(s.muted_until, 0), COALESCE(s.marked_seq, 0), COALESCE(s.hidden_seq, 0),
	COALESCE(s.draft, ''), COALESCE(s.draft_device, ''), COALESCE(s.draft_at, 0)
FROM members m LEFT JOIN conversation_settings s ON s.user_id = m.user_id AND s.conversation = m.conversation
WHERE m.user_id = ? AND m.conversation = ?`+d.forUpdate, u, r.Conversation).Scan(&r.now, &r.member.Joined, &r.member.Leave, &r.Floor,
		&s.Version, &s.PinnedAt, &s.MutedUntil, &s.Marked, &s.Hidden, &r.Draft.Text, &r.Draft.Device, &s.DraftAt)
	r.Draft.ChangedAt = s.DraftAt
	return notFound(err)
}

func (r *settingsRow) write(ctx context.Context, tx *sql.Tx, u im.UserID) error {
	s := &r.Settings
	query := "UPDATE conversation_settings SET version = ?, pinned_at = ?, muted_until = ?, marked_seq = ?, hidden_seq = ?," +
		" draft = ?, draft_device = ?, draft_at = ? WHERE user_id = ? AND conversation = ?"
	if s.Version == 1 {
		query = "INSERT INTO conversation_settings (version, pinned_at, muted_until, marked_seq, hidden_seq," +
			" draft, draft_device, draft_at, user_id, conversation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	}
	_, err := tx.ExecContext(ctx, query, s.Version, s.PinnedAt, s.MutedUntil, s.Marked, s.Hidden,
		r.Draft.Text, r.Draft.Device, s.DraftAt, u, r.Conversation)
	return err
}

// pin pins or unpins. Users pin one at a time, so that two cannot both take the last
// place.
func (db *DB) pin(ctx context.Context, tx *sql.Tx, u im.UserID, on bool, r *settingsRow) error {
	switch s := &r.Settings; {
	case !on:
		s.PinnedAt = 0
		return nil
	case s.PinnedAt > 0:
		return nil
	}
	if _, err := db.lockUsers(ctx, tx, u); err != nil {
		return err
	}
	var pinned int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM conversation_settings WHERE user_id = ? AND pinned_at > 0", u).Scan(&pinned)
	switch {
	case err != nil:
		return err
	case pinned >= im.MaxPinned:
		return &im.FullError{Limit: "pinned", Max: im.MaxPinned}
	}
	r.Settings.PinnedAt = r.now
	return nil
}

// lastSeq is the last seq that the member may see.
func lastSeq(ctx context.Context, q querier, d *dialect, c im.ConversationID, m im.Member) (top im.Seq, err error) {
	tops, err := queryAll(ctx, q, func(rows *sql.Rows) (s im.Seq, err error) { return s, rows.Scan(&s) },
		"SELECT seq FROM messages"+d.byPrimary+" WHERE conversation = ? ORDER BY seq DESC LIMIT 1", c)
	if err != nil || len(tops) == 0 {
		return 0, err
	}
	return im.ConversationState{LastSeq: tops[0], Joined: m.Joined, Leave: m.Leave}.Top(), nil
}

// Drafts returns u's drafts in conversations; one without is left out.
func (db *DB) Drafts(ctx context.Context, u im.UserID, convs []im.ConversationID) (drafts map[im.ConversationID]im.Draft, err error) {
	ctx, done := db.begin(ctx, "drafts")
	defer done(&err)
	drafts = make(map[im.ConversationID]im.Draft, len(convs))
	for part := range slices.Chunk(convs, findKeys) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var c im.ConversationID
			var d im.Draft
			err := rows.Scan(&c, &d.Text, &d.Device, &d.ChangedAt)
			drafts[c] = d
			return err
		}, "SELECT conversation, draft, draft_device, draft_at FROM conversation_settings"+
			" WHERE user_id = ? AND draft_at > 0 AND conversation IN "+in(len(part)), append([]any{u}, anyOf(part)...)...)
		if err != nil {
			return nil, err
		}
	}
	return drafts, nil
}
