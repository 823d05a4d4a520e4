package storage

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"unsafe"

	"github.com/curlew-im/curlew/logic/im"
)

const insertHead = "INSERT INTO messages (" + messageColumns + ", about) VALUES "

const (
	// insertRows and insertBytes bound one INSERT, below SQLite's 32,766 placeholders
	// and the smallest default max_allowed_packet (16 MiB in MariaDB; escaping can
	// double the content).
	insertRows  = 1000
	insertBytes = 4 << 20
	// rowBytes is what a row takes beside its content, most of the time.
	rowBytes = 320
)

// InsertMessages writes the rows as one plain multi-row INSERT, autocommitted, all
// or none [S1]; a batch too large for one statement, or with uncounted rows, mentions or
// memberships in it, is one transaction, rolled back on any error. Memberships open and
// close their users' intervals at the notice's seq, and end their operation.
func (db *DB) InsertMessages(ctx context.Context, rows []im.Message) (err error) {
	if len(rows) == 0 {
		return nil
	}
	ctx, done := db.begin(ctx, "insert_messages")
	defer done(&err)
	chunks := insertChunks(rows)
	notices := false
	plain := len(chunks) == 1
	for i := range rows {
		m := &rows[i]
		notices = notices || m.Membership != nil
		plain = plain && m.Uncounted == im.CountedForAll && len(m.Mentions) == 0 && !m.MentionsAll
	}
	if plain && !notices {
		return db.insertChunk(ctx, db.w, rows)
	}
	if notices { // they touch rows of members, as others do
		return db.transact(ctx, func(tx *sql.Tx) error { return db.insertBatch(ctx, tx, chunks, rows) })
	}
	return db.once(ctx, func(tx *sql.Tx) error { return db.insertBatch(ctx, tx, chunks, rows) })
}

// insertBatch is InsertMessages in a transaction.
func (db *DB) insertBatch(ctx context.Context, tx *sql.Tx, chunks [][]im.Message, rows []im.Message) error {
	for _, chunk := range chunks {
		if err := db.insertChunk(ctx, tx, chunk); err != nil {
			return err
		}
	}
	if err := insertUncounted(ctx, tx, rows); err != nil {
		return err
	}
	if err := insertMentions(ctx, tx, rows); err != nil {
		return err
	}
	return db.moveMembers(ctx, tx, rows)
}

// insertChunks splits rows at insertRows and insertBytes.
func insertChunks(rows []im.Message) [][]im.Message {
	var chunks [][]im.Message
	from, size := 0, 0
	for i := range rows {
		n := len(rows[i].Content) + rowBytes
		if i > from && (i-from == insertRows || size+n > insertBytes) {
			chunks = append(chunks, rows[from:i])
			from, size = i, 0
		}
		size += n
	}
	return append(chunks, rows[from:])
}

func (db *DB) insertChunk(ctx context.Context, q querier, rows []im.Message) error {
	if db.d.name == MySQL {
		text, err := insertText(rows)
		if err == nil {
			_, err = q.ExecContext(ctx, text)
		}
		return err
	}
	args := make([]any, 0, len(rows)*13)
	for i := range rows {
		m := &rows[i]
		about, err := packAbout(&m.About)
		if err != nil {
			return err
		}
		args = append(args, string(m.Conversation), int64(m.Seq), int64(m.ID), int64(m.Sender.ID), string(m.ClientMsgID),
			m.Sender.Handle, m.Sender.Nickname, m.Sender.Avatar, string(m.Type), []byte(m.Content), m.Hash[:], m.StoredAt, about)
	}
	_, err := q.ExecContext(ctx, repeat(insertHead, "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", ", ", len(rows), ""), args...)
	return err
}

// insertText is the whole statement for MySQL with its values in it. The driver
// would write the same text (interpolateParams), by way of thirteen boxed values a row.
func insertText(rows []im.Message) (string, error) {
	var b strings.Builder
	size := len(insertHead)
	for i := range rows {
		size += len(rows[i].Content)*9/8 + rowBytes
	}
	b.Grow(size)
	b.WriteString(insertHead)
	var number [20]byte
	integer := func(n uint64) {
		b.WriteByte(',')
		b.Write(strconv.AppendUint(number[:0], n, 10))
	}
	for i := range rows {
		m := &rows[i]
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		quote(&b, string(m.Conversation))
		integer(uint64(m.Seq))
		integer(uint64(m.ID))
		integer(uint64(m.Sender.ID))
		for _, s := range [...]string{string(m.ClientMsgID), m.Sender.Handle, m.Sender.Nickname, m.Sender.Avatar, string(m.Type)} {
			b.WriteByte(',')
			quote(&b, s)
		}
		quoteBytes(&b, m.Content)
		quoteBytes(&b, m.Hash[:])
		b.WriteByte(',')
		b.Write(strconv.AppendInt(number[:0], m.StoredAt, 10))
		about, err := packAbout(&m.About)
		if err != nil {
			return "", err
		}
		if about == nil {
			b.WriteString(",NULL)")
			continue
		}
		quoteBytes(&b, about)
		b.WriteByte(')')
	}
	return b.String(), nil
}

// quote writes s as a MySQL literal that means the same in every sql_mode: whether
// the backslash escapes is a setting, so what has one in it is written in hex. The
// connection is utf8mb4, where no byte of a longer character looks like a quote.
func quote(b *strings.Builder, s string) {
	if strings.IndexByte(s, '\\') >= 0 {
		b.WriteString("x'")
		for i := range len(s) {
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		}
		b.WriteByte('\'')
		return
	}
	b.WriteByte('\'')
	for {
		i := strings.IndexByte(s, '\'')
		if i < 0 {
			break
		}
		b.WriteString(s[:i+1])
		b.WriteByte('\'')
		s = s[i+1:]
	}
	b.WriteString(s)
	b.WriteByte('\'')
}

const hexDigits = "0123456789abcdef"

// quoteBytes is quote for what need not be text; p is only read.
func quoteBytes(b *strings.Builder, p []byte) {
	b.WriteString(", _binary ")
	quote(b, unsafe.String(unsafe.SliceData(p), len(p)))
}

func insertUncounted(ctx context.Context, q querier, rows []im.Message) error {
	var seqs []im.UncountedSeq
	for i := range rows {
		m := &rows[i]
		switch m.Uncounted {
		case im.UncountedForSender:
			seqs = append(seqs, im.UncountedSeq{Conversation: m.Conversation, Seq: m.Seq, User: m.Sender.ID})
		case im.UncountedForAll:
			seqs = append(seqs, im.UncountedSeq{Conversation: m.Conversation, Seq: m.Seq, User: im.SystemUser})
		}
	}
	return insertAll(ctx, q, "INSERT INTO uncounted (conversation, seq, user_id) VALUES ", 3, len(seqs), "",
		func(args []any, i int) []any { return append(args, seqs[i].Conversation, seqs[i].Seq, seqs[i].User) })
}

// insertMentions notes who is mentioned, user 0 for all; the sender's own name is not.
func insertMentions(ctx context.Context, q querier, rows []im.Message) error {
	type mention struct {
		user im.UserID
		in   *im.Message
	}
	var all []mention
	for i := range rows {
		m := &rows[i]
		if m.MentionsAll {
			all = append(all, mention{im.SystemUser, m})
		}
		for _, u := range m.Mentions {
			if u != m.Sender.ID {
				all = append(all, mention{u, m})
			}
		}
	}
	return insertAll(ctx, q, "INSERT INTO mentions (user_id, conversation, seq) VALUES ", 3, len(all), "",
		func(args []any, i int) []any { return append(args, all[i].user, all[i].in.Conversation, all[i].in.Seq) })
}
