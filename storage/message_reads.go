package storage

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/logic/im"
)

// changedQuery joins a range of changes with their messages. Whether a message still
// stands at that change is not asked here, so that a page reads no more than itself.
var changedQuery = "SELECT m." + strings.ReplaceAll(readColumns, ", ", ", m.") + ", x.change_no FROM message_changes x" +
	" JOIN messages m ON m.conversation = x.conversation AND m.seq = x.seq" +
	" WHERE x.conversation = ? AND x.change_no > ? ORDER BY x.change_no LIMIT ?"

// Changed reads what was changed after a change, each message once, at its last
// change. One range read of the changes, with a seek for each.
func (db *DB) Changed(ctx context.Context, q im.ChangedQuery) (page im.ChangedPage, err error) {
	ctx, done := db.begin(ctx, "changed")
	defer done(&err)
	limit := min(max(q.Limit, 1), historyLimit)
	last := q.Last
	if last == 0 {
		last = im.MaxID
	}
	type changed struct {
		change uint64
		m      im.Message
	}
	rows, err := queryAll(ctx, db.r, func(rows *sql.Rows) (c changed, err error) {
		c.m, err = scanMessage(rows, &c.change)
		return c, err
	}, changedQuery, q.Conversation, q.After, limit+1)
	if err != nil {
		return page, err
	}
	page.UpTo = q.After
	if len(rows) > limit {
		page.HasMore, rows = true, rows[:limit]
	}
	for _, r := range rows {
		page.UpTo = r.change
		if r.m.Change == r.change && r.m.Seq >= q.First && r.m.Seq <= last {
			page.Items = append(page.Items, r.m)
		}
	}
	return page, nil
}

// FindChange returns im.ErrNotFound where no such change is stored.
func (db *DB) FindChange(ctx context.Context, k im.ChangeKey) (ref im.ChangeRef, err error) {
	ctx, done := db.begin(ctx, "find_change")
	defer done(&err)
	found, err := db.findChanges(ctx, []im.ChangeKey{k})
	if err != nil {
		return ref, err
	}
	ref, ok := found[k]
	if !ok {
		return ref, im.ErrNotFound
	}
	return ref, nil
}

// FormerContents returns what a message said before each of its edits, the first first;
// at most im.MaxEdits.
func (db *DB) FormerContents(ctx context.Context, p im.Place) (all []im.FormerContent, err error) {
	ctx, done := db.begin(ctx, "former_contents")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (f im.FormerContent, err error) {
		f.Place = p
		var content []byte
		err = rows.Scan(&f.Change, &content, &f.At)
		f.Content = content
		return f, err
	}, "SELECT change_no, content, said_at FROM message_edits WHERE conversation = ? AND seq = ? ORDER BY change_no LIMIT ?",
		p.Conversation, p.Seq, im.MaxEdits)
}

// Reactors returns who reacted to a message in one way, by change, after a change.
func (db *DB) Reactors(ctx context.Context, p im.Place, reaction string, after uint64, limit int) (all []im.Reactor, more bool, err error) {
	ctx, done := db.begin(ctx, "reactors")
	defer done(&err)
	all, err = queryAll(ctx, db.r, func(rows *sql.Rows) (r im.Reactor, err error) {
		r.Reaction = reaction
		return r, rows.Scan(&r.User, &r.Change)
	}, "SELECT user_id, change_no FROM reactions WHERE conversation = ? AND seq = ? AND reaction = ? AND change_no > ? ORDER BY change_no LIMIT ?",
		p.Conversation, p.Seq, reaction, after, limit+1)
	all, more = page(all, limit)
	return all, more, err
}

// RecalledAmong returns which of the places hold recalled messages.
func (db *DB) RecalledAmong(ctx context.Context, places []im.Place) (found map[im.Place]bool, err error) {
	ctx, done := db.begin(ctx, "recalled_among")
	defer done(&err)
	return db.placesAmong(ctx, "SELECT conversation, seq FROM messages WHERE ", "(conversation = ? AND seq = ? AND recalled_at > 0)", nil, places)
}

func (db *DB) placesAmong(ctx context.Context, query, row string, u *im.UserID, places []im.Place) (map[im.Place]bool, error) {
	found := make(map[im.Place]bool)
	for part := range slices.Chunk(places, findKeys) {
		var args []any
		for _, p := range part {
			if u != nil {
				args = append(args, *u)
			}
			args = append(args, p.Conversation, p.Seq)
		}
		rows, err := queryAll(ctx, db.r, func(rows *sql.Rows) (p im.Place, err error) { return p, rows.Scan(&p.Conversation, &p.Seq) },
			repeat(query, row, " OR ", len(part), ""), args...)
		if err != nil {
			return nil, err
		}
		for _, p := range rows {
			found[p] = true
		}
	}
	return found, nil
}

// OwnReactions returns u's own reactions to the messages at the places.
func (db *DB) OwnReactions(ctx context.Context, u im.UserID, places []im.Place) (own map[im.ReactionKey]bool, err error) {
	ctx, done := db.begin(ctx, "own_reactions")
	defer done(&err)
	own = make(map[im.ReactionKey]bool)
	for part := range slices.Chunk(places, findKeys) {
		var args []any
		for _, p := range part {
			args = append(args, p.Conversation, p.Seq, u)
		}
		rows, err := queryAll(ctx, db.r, scanReactionKey,
			repeat(findReacted, "(conversation = ? AND seq = ? AND user_id = ?)", " OR ", len(part), ""), args...)
		if err != nil {
			return nil, err
		}
		for _, k := range rows {
			own[k] = true
		}
	}
	return own, nil
}
