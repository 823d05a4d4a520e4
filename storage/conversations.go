package storage

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	kindDirect  = 1
	kindChannel = 2
)

// EnsureConversations creates the rows of conversations and their members that are
// not there yet, in one transaction, so a conversation is there with its members or
// not at all. Members begin at seq 1; those of channels come by notices only.
func (db *DB) EnsureConversations(ctx context.Context, convs []im.NewConversation) (err error) {
	ctx, done := db.begin(ctx, "ensure_conversations")
	defer done(&err)
	convs = slices.Clone(convs)
	slices.SortFunc(convs, func(a, b im.NewConversation) int { return cmp.Compare(a.ID, b.ID) })
	for part := range slices.Chunk(convs, findKeys) {
		if err := db.ensure(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) ensure(ctx context.Context, convs []im.NewConversation) error {
	ids := make([]any, len(convs))
	for i, c := range convs {
		ids[i] = c.ID
	}
	known, err := queryAll(ctx, db.r, func(rows *sql.Rows) (c im.ConversationID, err error) { return c, rows.Scan(&c) },
		"SELECT id FROM conversations WHERE id IN "+in(len(ids)), ids...)
	if err != nil {
		return err
	}
	type member struct {
		user im.UserID
		conv im.ConversationID
	}
	var newConvs []any
	var members []member
	for _, c := range convs {
		if slices.Contains(known, c.ID) {
			continue
		}
		if _, _, direct := c.ID.Direct(); !direct {
			newConvs = append(newConvs, c.ID, kindChannel)
			continue
		}
		newConvs = append(newConvs, c.ID, kindDirect)
		for _, u := range c.Members {
			members = append(members, member{u, c.ID})
		}
	}
	if len(newConvs) == 0 {
		return nil
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.conv, b.conv)) })
	members = slices.Compact(members)
	return db.transact(ctx, func(tx *sql.Tx) error {
		query := repeat("INSERT INTO conversations (id, kind, created_at) VALUES ", "(?, ?, "+db.d.now+")", ", ",
			len(newConvs)/2, db.d.keepConversation)
		if _, err := tx.ExecContext(ctx, query, newConvs...); err != nil {
			return err
		}
		for part := range slices.Chunk(members, insertRows) {
			args := make([]any, 0, 2*len(part))
			for _, m := range part {
				args = append(args, m.user, m.conv)
			}
			query := repeat("INSERT INTO members (user_id, conversation, join_seq) VALUES ", "(?, ?, 1)", ", ", len(part), db.d.keepMember)
			if _, err := tx.ExecContext(ctx, query, args...); err != nil {
				return err
			}
		}
		return nil
	})
}
