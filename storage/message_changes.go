package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	findChanges = "SELECT conversation, actor, client_change_id, change_no, seq, outcome, request_hash FROM message_changes WHERE "
	findChange  = "(conversation = ? AND actor = ? AND client_change_id = ?)"
	findReacted = "SELECT conversation, seq, user_id, reaction FROM reactions WHERE "
	reactedRow  = "(conversation = ? AND seq = ? AND user_id = ? AND reaction = ?)"
	placeRow    = "(conversation = ? AND seq = ?)"
)

// ChangeBasis reads what a strand must know to decide changes: first the last change
// of each key's conversation, then the rest, so that whatever is written in between
// makes a number given from it clash [S2].
func (db *DB) ChangeBasis(ctx context.Context, keys []im.ChangeKey, places []im.Place, reactions []im.ReactionKey) (b im.ChangeBasis, err error) {
	ctx, done := db.begin(ctx, "change_basis")
	defer done(&err)
	if b.Last, err = db.lastChanges(ctx, keys); err != nil {
		return b, err
	}
	if b.Known, err = db.findChanges(ctx, keys); err != nil {
		return b, err
	}
	b.Messages = make(map[im.Place]im.Message, len(places))
	for part := range slices.Chunk(places, findKeys) {
		rows, err := queryAll(ctx, db.r, scanRow, repeat(lastMessages, lastMessagesRow, " OR ", len(part), ""), placeArgs(part)...)
		if err != nil {
			return b, err
		}
		for _, m := range rows {
			b.Messages[im.Place{Conversation: m.Conversation, Seq: m.Seq}] = m
		}
	}
	b.Reacted = make(map[im.ReactionKey]bool, len(reactions))
	for part := range slices.Chunk(reactions, findKeys) {
		args := make([]any, 0, 4*len(part))
		for _, k := range part {
			args = append(args, k.Conversation, k.Seq, k.User, k.Reaction)
		}
		rows, err := queryAll(ctx, db.r, scanReactionKey, repeat(findReacted, reactedRow, " OR ", len(part), ""), args...)
		if err != nil {
			return b, err
		}
		for _, k := range rows {
			b.Reacted[k] = true
		}
	}
	return b, nil
}

func scanReactionKey(rows *sql.Rows) (k im.ReactionKey, err error) {
	return k, rows.Scan(&k.Conversation, &k.Seq, &k.User, &k.Reaction)
}

func placeArgs(places []im.Place) []any {
	args := make([]any, 0, 2*len(places))
	for _, p := range places {
		args = append(args, p.Conversation, p.Seq)
	}
	return args
}

func (db *DB) lastChanges(ctx context.Context, keys []im.ChangeKey) (map[im.ConversationID]uint64, error) {
	convs := make([]im.ConversationID, len(keys))
	for i, k := range keys {
		convs[i] = k.Conversation
	}
	slices.Sort(convs)
	convs = slices.Compact(convs)
	last := make(map[im.ConversationID]uint64, len(convs))
	for part := range slices.Chunk(convs, findKeys) {
		args := make([]any, len(part))
		for i, c := range part {
			args[i] = db.d.key(string(c))
		}
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var c im.ConversationID
			var n uint64
			err := rows.Scan(&c, &n)
			last[c] = n
			return err
		}, repeat(db.d.lastChanges, db.d.lastsRow, db.d.rowJoin, len(part), db.d.lastChangesEnd), args...)
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

func (db *DB) findChanges(ctx context.Context, keys []im.ChangeKey) (map[im.ChangeKey]im.ChangeRef, error) {
	found := make(map[im.ChangeKey]im.ChangeRef)
	for part := range slices.Chunk(keys, findKeys) {
		args := make([]any, 0, 3*len(part))
		for _, k := range part {
			args = append(args, k.Conversation, k.Actor, k.ClientChangeID)
		}
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var k im.ChangeKey
			var ref im.ChangeRef
			var hash sql.RawBytes
			err := rows.Scan(&k.Conversation, &k.Actor, &k.ClientChangeID, &ref.Change, &ref.Seq, &ref.Outcome, &hash)
			copy(ref.Hash[:], hash)
			found[k] = ref
			return err
		}, repeat(findChanges, findChange, " OR ", len(part), ""), args...)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// ApplyChanges writes a batch's changes in one transaction, whole or not at all. Their
// numbers come first: a number or a client change ID that is taken is an
// im.DuplicateError, and nothing is written.
func (db *DB) ApplyChanges(ctx context.Context, set im.ChangeSet) (err error) {
	ctx, done := db.begin(ctx, "apply_changes")
	defer done(&err)
	return db.once(ctx, func(tx *sql.Tx) error {
		err := insertAll(ctx, tx, "INSERT INTO message_changes (conversation, change_no, seq, kind, actor, client_change_id, request_hash, outcome, changed_at) VALUES ",
			9, len(set.Changes), "", func(args []any, i int) []any {
				c := &set.Changes[i]
				return append(args, c.Conversation, c.Change, c.Seq, c.Kind, c.Actor, c.ClientChangeID, c.Hash[:], c.Outcome, c.At)
			})
		if err != nil {
			return err
		}
		if err := db.clearRecalled(ctx, tx, set.Recalled); err != nil {
			return err
		}
		for i := range set.Messages {
			if err := updateMessage(ctx, tx, &set.Messages[i]); err != nil {
				return err
			}
		}
		err = insertAll(ctx, tx, "INSERT INTO message_edits (conversation, seq, change_no, content, said_at) VALUES ", 5, len(set.Former), "",
			func(args []any, i int) []any {
				f := &set.Former[i]
				return append(args, f.Conversation, f.Seq, f.Change, []byte(f.Content), f.At)
			})
		if err != nil {
			return err
		}
		for part := range slices.Chunk(set.Unreact, findKeys) {
			args := make([]any, 0, 4*len(part))
			for _, k := range part {
				args = append(args, k.Conversation, k.Seq, k.User, k.Reaction)
			}
			if _, err := tx.ExecContext(ctx, repeat("DELETE FROM reactions WHERE ", reactedRow, " OR ", len(part), ""), args...); err != nil {
				return err
			}
		}
		return insertAll(ctx, tx, "INSERT INTO reactions (conversation, seq, user_id, reaction, change_no) VALUES ", 5, len(set.React), "",
			func(args []any, i int) []any {
				k := &set.React[i]
				return append(args, k.Conversation, k.Seq, k.User, k.Reaction, set.Reacted[i])
			})
	})
}

// clearRecalled takes away what else was said in the place of recalled messages, and
// uncounts them for all.
func (db *DB) clearRecalled(ctx context.Context, tx *sql.Tx, places []im.Place) error {
	for part := range slices.Chunk(places, findKeys) {
		for _, table := range [...]string{"message_edits", "reactions"} {
			if _, err := tx.ExecContext(ctx, repeat("DELETE FROM "+table+" WHERE ", placeRow, " OR ", len(part), ""), placeArgs(part)...); err != nil {
				return err
			}
		}
	}
	return insertAll(ctx, tx, "INSERT INTO uncounted (conversation, seq, user_id) VALUES ", 3, len(places), db.d.keepUncounted,
		func(args []any, i int) []any {
			return append(args, places[i].Conversation, places[i].Seq, im.SystemUser)
		})
}

func updateMessage(ctx context.Context, tx *sql.Tx, m *im.Message) error {
	about, err := packAbout(&m.About)
	if err != nil {
		return err
	}
	var reactions []byte
	if len(m.Reactions) > 0 {
		if reactions, err = json.Marshal(m.Reactions); err != nil {
			return fmt.Errorf("pack reactions: %w", err)
		}
	}
	_, err = tx.ExecContext(ctx, "UPDATE messages SET content = ?, about = ?, change_no = ?, edited_at = ?, recalled_at = ?, edits = ?, edit_change = ?, reactions = ?"+
		" WHERE conversation = ? AND seq = ? AND change_no < ?",
		[]byte(m.Content), about, m.Change, m.EditedAt, m.RecalledAt, m.Edits, m.EditChange, reactions, m.Conversation, m.Seq, m.Change)
	return err
}

// packAbout is nil for nothing.
func packAbout(a *im.About) ([]byte, error) {
	if a.Empty() {
		return nil, nil
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("pack what a message is about: %w", err)
	}
	return b, nil
}
