package storage

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

// NoteDoubt says that Redis may have missed something; whoever reaches Redis next
// sets a new generation. Doubt is one row with two numbers, noted and cleared: it
// needs no room, and a doubt noted while an older one is being cleared stands.
func (db *DB) NoteDoubt(ctx context.Context, reason string) (err error) {
	ctx, done := db.begin(ctx, "note_doubt")
	defer done(&err)
	return db.noteDoubt(ctx, db.w, reason)
}

func (db *DB) noteDoubt(ctx context.Context, q querier, reason string) error {
	noted, err := execOne(ctx, q, "UPDATE doubt SET noted = noted + 1, reason = ?, noted_at = "+db.d.now+" WHERE id = 1",
		cut(reason, reasonBytes))
	if err == nil && !noted {
		err = fmt.Errorf("the row of doubt is missing: %w", im.ErrStore) // somebody emptied the table: hold on until it is mended
	}
	return err
}

// Doubts says whether any doubt stands, and up to which number it goes: what
// ClearDoubts is given once a new generation is set.
func (db *DB) Doubts(ctx context.Context) (upTo uint64, any bool, err error) {
	ctx, done := db.begin(ctx, "doubts")
	defer done(&err)
	var cleared uint64
	err = db.r.QueryRowContext(ctx, "SELECT noted, cleared FROM doubt WHERE id = 1").Scan(&upTo, &cleared)
	return upTo, upTo > cleared, err
}

// ClearDoubts lays to rest the doubts up to the given number; later ones stand.
func (db *DB) ClearDoubts(ctx context.Context, upTo uint64) (err error) {
	ctx, done := db.begin(ctx, "clear_doubts")
	defer done(&err)
	_, err = db.w.ExecContext(ctx, "UPDATE doubt SET cleared = ? WHERE id = 1 AND cleared < ?", upTo, upTo)
	return err
}
