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

const (
	// insertRows and insertBytes bound one INSERT, far below MySQL's 65,535
	// placeholders, SQLite's 32,766 and the smallest default max_allowed_packet
	// (16 MiB in MariaDB; escaping can double the content).
	insertRows  = 1000
	insertBytes = 4 << 20
	// findKeys bounds the keys looked up by one statement: SQLite takes expressions
	// 1,000 deep.
	findKeys = 200
)

// InsertMessages writes the rows as one plain multi-row INSERT, autocommitted, all
// or none [S1]; a batch too large for one statement, or with uncounted rows in it,
// is one transaction, rolled back on any error.
func (db *DB) InsertMessages(ctx context.Context, rows []im.Message) (err error) {
	if len(rows) == 0 {
		return nil
	}
	ctx, done := db.begin(ctx, "insert_messages")
	defer done(&err)
	chunks := insertChunks(rows)
	if len(chunks) == 1 && !slices.ContainsFunc(rows, func(m im.Message) bool { return m.Uncounted != im.CountedForAll }) {
		return db.insertChunk(ctx, db.w, rows)
	}
	return db.once(ctx, func(tx *sql.Tx) error { // a deadlock is the archive's to see: it forgets its seqs
		for _, chunk := range chunks {
			if err := db.insertChunk(ctx, tx, chunk); err != nil {
				return err
			}
		}
		return insertUncounted(ctx, tx, rows)
	})
}

// insertChunks splits rows at insertRows and insertBytes.
func insertChunks(rows []im.Message) [][]im.Message {
	var chunks [][]im.Message
	from, size := 0, 0
	for i := range rows {
		n := len(rows[i].Content) + 512 // the other columns, most of the time
		if i > from && (i-from == insertRows || size+n > insertBytes) {
			chunks = append(chunks, rows[from:i])
			from, size = i, 0
		}
		size += n
	}
	return append(chunks, rows[from:])
}

func (db *DB) insertChunk(ctx context.Context, q querier, rows []im.Message) error {
	args := make([]any, 0, len(rows)*12)
	for i := range rows {
		m := &rows[i]
		args = append(args, string(m.Conversation), uint64(m.Seq), uint64(m.ID), uint64(m.Sender.ID), string(m.ClientMsgID),
			m.Sender.Handle, m.Sender.Nickname, m.Sender.Avatar, string(m.Type), []byte(m.Content), m.Hash[:], m.StoredAt)
	}
	query := repeat("INSERT INTO messages ("+messageColumns+") VALUES ", "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", ", ", len(rows), "")
	_, err := q.ExecContext(ctx, query, args...)
	return err
}

func insertUncounted(ctx context.Context, q querier, rows []im.Message) error {
	var args []any
	for _, m := range rows {
		switch m.Uncounted {
		case im.UncountedForSender:
			args = append(args, m.Conversation, m.Seq, m.Sender.ID)
		case im.UncountedForAll:
			args = append(args, m.Conversation, m.Seq, im.SystemUser)
		}
	}
	for part := range slices.Chunk(args, 3*insertRows) {
		query := repeat("INSERT INTO uncounted (conversation, seq, user_id) VALUES ", "(?, ?, ?)", ", ", len(part)/3, "")
		if _, err := q.ExecContext(ctx, query, part...); err != nil {
			return err
		}
	}
	return nil
}

// Lasts returns the end of each conversation, one index seek each; an empty one is
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
			lasts[r.conv] = r.last
		}
	}
	return lasts, nil
}

// FindStored finds which of the keys are stored already; of the rest, which are
// parked in dead. Unknown keys are left out.
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
	query := "SELECT conversation, sender, client_msg_id, seq, id, stored_at, content_hash FROM messages WHERE "
	if parked {
		query = "SELECT conversation, sender, client_msg_id, 0, 0, 0, content_hash FROM dead WHERE "
	}
	for part := range slices.Chunk(keys, findKeys) {
		args := make([]any, 0, 3*len(part))
		for _, k := range part {
			args = append(args, k.Conversation, k.Sender, k.ClientMsgID)
		}
		rows, err := db.r.QueryContext(ctx,
			repeat(query, "(conversation = ? AND sender = ? AND client_msg_id = ?)", " OR ", len(part), ""), args...)
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
		messages, err := queryAll(ctx, db.r, scanMessage,
			repeat("SELECT "+messageColumns+" FROM messages WHERE ", "(conversation = ? AND seq = ?)", " OR ", len(part)/2, ""), part...)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			found[m.Conversation] = m
		}
	}
	return found, nil
}

// scanMessage reads a row of messageColumns.
func scanMessage(rows *sql.Rows) (m im.Message, err error) {
	var hash sql.RawBytes
	var content []byte
	err = rows.Scan(&m.Conversation, &m.Seq, &m.ID, &m.Sender.ID, &m.ClientMsgID, &m.Sender.Handle, &m.Sender.Nickname,
		&m.Sender.Avatar, &m.Type, &content, &hash, &m.StoredAt)
	if err == nil && len(hash) != len(m.Hash) {
		err = fmt.Errorf("message %d of %s: hash of %d bytes", m.Seq, m.Conversation, len(hash))
	}
	copy(m.Hash[:], hash)
	m.Content = json.RawMessage(content)
	return m, err
}
