package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const messageColumns = "conversation, seq, id, sender, client_msg_id, sender_handle, sender_nickname, sender_avatar, " +
	"type, content, content_hash, stored_at"

// readColumns are messageColumns, what a message refers to, and what changes write.
const readColumns = messageColumns + ", about, change_no, edited_at, recalled_at, edits, edit_change, reactions"

const (
	findStored      = "SELECT conversation, sender, client_msg_id, seq, id, stored_at, content_hash FROM messages WHERE "
	findParked      = "SELECT conversation, sender, client_msg_id, 0, 0, 0, content_hash FROM dead WHERE state IN (0, 3) AND ("
	findStoredRow   = "(conversation = ? AND sender = ? AND client_msg_id = ?)"
	lastMessages    = "SELECT " + readColumns + " FROM messages WHERE "
	lastMessagesRow = "(conversation = ? AND seq = ?)"
)

// findKeys bounds the keys looked up by one statement: SQLite takes expressions
// 1,000 deep.
const findKeys = 200

// Lasts returns the end of each conversation, a few index seeks each; an empty one is
// left out.
func (db *DB) Lasts(ctx context.Context, convs []im.ConversationID) (lasts map[im.ConversationID]im.LastRef, err error) {
	ctx, done := db.begin(ctx, "lasts")
	defer done(&err)
	lasts = make(map[im.ConversationID]im.LastRef, len(convs))
	for part := range slices.Chunk(convs, findKeys) {
		args := make([]any, len(part))
		for i, c := range part {
			args[i] = db.d.key(string(c))
		}
		rows, err := queryAll(ctx, db.r, func(rows *sql.Rows) (ref struct {
			conv im.ConversationID
			last im.LastRef
		}, err error) {
			err = rows.Scan(&ref.conv, &ref.last.Seq, &ref.last.ID)
			return ref, err
		}, repeat(db.d.lasts, db.d.lastsRow, db.d.rowJoin, len(part), db.d.lastsEnd), args...)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.last.Seq > 0 {
				lasts[r.conv] = r.last
			}
		}
	}
	return lasts, nil
}

// FindStored finds which of the keys are stored already; of the rest, which are
// parked in dead and not replayed. Unknown keys are left out.
func (db *DB) FindStored(ctx context.Context, keys []im.SendKey) (found map[im.SendKey]im.StoredRef, err error) {
	ctx, done := db.begin(ctx, "find_stored")
	defer done(&err)
	found = make(map[im.SendKey]im.StoredRef)
	if err := db.findKeys(ctx, keys, found, false); err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(slices.Clone(keys), func(k im.SendKey) bool { _, ok := found[k]; return ok })
	if err := db.findKeys(ctx, rest, found, true); err != nil {
		return nil, err
	}
	return found, nil
}

func (db *DB) findKeys(ctx context.Context, keys []im.SendKey, found map[im.SendKey]im.StoredRef, parked bool) error {
	query, end := findStored, ""
	if parked {
		query, end = findParked, ")"
	}
	for part := range slices.Chunk(keys, findKeys) {
		args := make([]any, 0, 3*len(part))
		for _, k := range part {
			args = append(args, k.Conversation, k.Sender, k.ClientMsgID)
		}
		rows, err := db.r.QueryContext(ctx,
			repeat(query, findStoredRow, " OR ", len(part), end), args...)
		if err != nil {
			return err
		}
		for rows.Next() {
			var k im.SendKey
			var hash sql.RawBytes
			ref := im.StoredRef{Parked: parked}
			if err := rows.Scan(&k.Conversation, &k.Sender, &k.ClientMsgID, &ref.Seq, &ref.ID, &ref.StoredAt, &hash); err != nil {
				rows.Close()
				return err
			}
			copy(ref.Hash[:], hash)
			found[k] = ref
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

// LastMessages returns the message at each of the given places; a missing one is
// left out.
func (db *DB) LastMessages(ctx context.Context, at map[im.ConversationID]im.Seq) (found map[im.ConversationID]im.Message, err error) {
	ctx, done := db.begin(ctx, "last_messages")
	defer done(&err)
	found = make(map[im.ConversationID]im.Message, len(at))
	args := make([]any, 0, 2*len(at))
	for c, seq := range at {
		args = append(args, c, seq)
	}
	for part := range slices.Chunk(args, 2*findKeys) {
		messages, err := queryAll(ctx, db.r, scanRow,
			repeat(lastMessages, lastMessagesRow, " OR ", len(part)/2, ""), part...)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			found[m.Conversation] = m
		}
	}
	return found, nil
}

// scanRow reads a row of readColumns.
func scanRow(rows *sql.Rows) (im.Message, error) { return scanMessage(rows) }

// scanMessage reads readColumns and what stands after them.
func scanMessage(rows *sql.Rows, more ...any) (m im.Message, err error) {
	var hash, about, reactions sql.RawBytes
	var content []byte
	err = rows.Scan(append([]any{&m.Conversation, &m.Seq, &m.ID, &m.Sender.ID, &m.ClientMsgID, &m.Sender.Handle, &m.Sender.Nickname,
		&m.Sender.Avatar, &m.Type, &content, &hash, &m.StoredAt, &about,
		&m.Change, &m.EditedAt, &m.RecalledAt, &m.Edits, &m.EditChange, &reactions}, more...)...)
	if err == nil && len(hash) != len(m.Hash) {
		err = fmt.Errorf("message %d of %s: hash of %d bytes", m.Seq, m.Conversation, len(hash))
	}
	copy(m.Hash[:], hash)
	m.Content = json.RawMessage(content)
	if err == nil && len(about) > 0 {
		err = json.Unmarshal(about, &m.About)
	}
	if err == nil && len(reactions) > 0 {
		err = json.Unmarshal(reactions, &m.Reactions)
	}
	return m, err
}

const authorsLimit = 512

// Authors are the senders of the messages first to last, in their order; at most 512.
func (db *DB) Authors(ctx context.Context, c im.ConversationID, first, last im.Seq) (senders []im.UserID, err error) {
	ctx, done := db.begin(ctx, "authors")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (u im.UserID, err error) { return u, rows.Scan(&u) },
		"SELECT sender FROM messages"+db.d.byPrimary+" WHERE conversation = ? AND seq >= ? AND seq <= ? ORDER BY seq LIMIT ?", c, first, last, authorsLimit)
}
