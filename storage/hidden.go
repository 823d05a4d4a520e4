package storage

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// HideMessages deletes messages for one user and gives each a number, the next of the
// user's in the conversation. It returns all of them by number, those deleted before
// with the number they have; nothing where the user is not in the conversation.
func (db *DB) HideMessages(ctx context.Context, h im.Hide) (hidden []im.Hidden, err error) {
	ctx, done := db.begin(ctx, "hide_messages")
	defer done(&err)
	seqs := slices.Clone(h.Seqs)
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	if len(seqs) == 0 {
		return nil, nil
	}
	err = db.transact(ctx, func(tx *sql.Tx) error {
		hidden = nil
		var last uint64
		// The row's lock gives the numbers their order, whoever else is at it.
		err := tx.QueryRowContext(ctx, "SELECT deletions FROM members WHERE user_id = ? AND conversation = ?"+db.d.forUpdate,
			h.User, h.Conversation).Scan(&last)
		if notFound(err) == im.ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if hidden, err = hiddenAmong(ctx, tx, h.User, h.Conversation, seqs); err != nil {
			return err
		}
		fresh := slices.DeleteFunc(seqs, func(s im.Seq) bool {
			return slices.ContainsFunc(hidden, func(h im.Hidden) bool { return h.Seq == s })
		})
		if len(fresh) == 0 {
			return nil
		}
		err = insertAll(ctx, tx, "INSERT INTO deleted (user_id, conversation, seq, deletion) VALUES ", 4, len(fresh), "",
			func(args []any, i int) []any {
				return append(args, h.User, h.Conversation, fresh[i], last+uint64(i)+1)
			})
		if err != nil {
			return err
		}
		err = insertAll(ctx, tx, "INSERT INTO uncounted (conversation, seq, user_id) VALUES ", 3, len(fresh), db.d.keepUncounted,
			func(args []any, i int) []any { return append(args, h.Conversation, fresh[i], h.User) })
		if err != nil {
			return err
		}
		for i, s := range fresh {
			hidden = append(hidden, im.Hidden{Seq: s, Deletion: last + uint64(i) + 1})
		}
		_, err = tx.ExecContext(ctx, "UPDATE members SET deletions = ? WHERE user_id = ? AND conversation = ?",
			last+uint64(len(fresh)), h.User, h.Conversation)
		return err
	})
	slices.SortFunc(hidden, func(a, b im.Hidden) int { return cmp.Compare(a.Deletion, b.Deletion) })
	return hidden, err
}

func hiddenAmong(ctx context.Context, q querier, u im.UserID, c im.ConversationID, seqs []im.Seq) ([]im.Hidden, error) {
	return queryAll(ctx, q, scanHidden, "SELECT seq, deletion FROM deleted WHERE user_id = ? AND conversation = ? AND seq IN "+in(len(seqs)),
		append([]any{u, c}, anyOf(seqs)...)...)
}

func scanHidden(rows *sql.Rows) (h im.Hidden, err error) { return h, rows.Scan(&h.Seq, &h.Deletion) }

// Deletions returns what u has deleted for themselves in c after a number, by number.
func (db *DB) Deletions(ctx context.Context, u im.UserID, c im.ConversationID, after uint64, limit int) (all []im.Hidden, more bool, err error) {
	ctx, done := db.begin(ctx, "deletions")
	defer done(&err)
	all, err = queryAll(ctx, db.r, scanHidden,
		"SELECT seq, deletion FROM deleted WHERE user_id = ? AND conversation = ? AND deletion > ? ORDER BY deletion LIMIT ?", u, c, after, limit+1)
	all, more = page(all, limit)
	return all, more, err
}

// HiddenAmong returns which of the places u has deleted for themselves.
func (db *DB) HiddenAmong(ctx context.Context, u im.UserID, places []im.Place) (found map[im.Place]bool, err error) {
	ctx, done := db.begin(ctx, "hidden_among")
	defer done(&err)
	return db.placesAmong(ctx, "SELECT conversation, seq FROM deleted WHERE ", "(user_id = ? AND conversation = ? AND seq = ?)", &u, places)
}
