package storage

import (
	"cmp"
	"context"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const cursorRows = 500 // of one statement

// MoveCursors raises cursors, never lowers them. Moves of who is not a member do
// nothing. One statement for each 500, in the order of the key, so that two of them
// cannot deadlock.
func (db *DB) MoveCursors(ctx context.Context, moves []im.CursorMove) (err error) {
	if len(moves) == 0 {
		return nil
	}
	ctx, done := db.begin(ctx, "move_cursors")
	defer done(&err)
	for part := range slices.Chunk(foldMoves(moves), cursorRows) {
		args := make([]any, 0, 4*len(part))
		for _, m := range part {
			args = append(args, m.User, db.d.key(string(m.Conversation)), m.Delivered, m.Read)
		}
		query := repeat(db.d.moveCursors, db.d.moveCursorsRow, db.d.rowJoin, len(part), db.d.moveCursorsEnd)
		for try := 0; ; try++ {
			_, err := db.w.ExecContext(ctx, query, args...)
			if err == nil {
				break
			}
			if try == 2 || !isDeadlock(err) {
				return err
			}
		}
	}
	return nil
}

// foldMoves leaves one move per member, the highest, sorted by the primary key.
func foldMoves(moves []im.CursorMove) []im.CursorMove {
	moves = slices.Clone(moves)
	key := func(a, b im.CursorMove) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Conversation, b.Conversation))
	}
	slices.SortFunc(moves, key)
	folded := moves[:1]
	for _, m := range moves[1:] {
		if top := &folded[len(folded)-1]; key(*top, m) == 0 {
			top.Delivered, top.Read = max(top.Delivered, m.Delivered), max(top.Read, m.Read)
		} else {
			folded = append(folded, m)
		}
	}
	return folded
}
