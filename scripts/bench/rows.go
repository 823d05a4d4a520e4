package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// row is one message to be put into a table directly.
type row struct {
	conv string
	seq  int
	from uint64
}

const (
	rowHead = " (conversation, seq, id, sender, client_msg_id, sender_handle, sender_nickname, sender_avatar," +
		" type, content, content_hash, stored_at, about) VALUES "
	rowMarks = "(?, ?, ?, ?, ?, 'bench', 'bench', '', 'text', ?, ?, ?, '')"
)

// fill inserts rows, several a statement, above the IDs that are there.
func fill(ctx context.Context, conn *sql.Conn, table string, rows func(yield func(row) bool), each int) error {
	var id uint64
	if err := conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM "+table).Scan(&id); err != nil {
		return err
	}
	content := fmt.Sprintf(`{"text":"%s"}`, strings.Repeat("x", textBytes))
	hash := make([]byte, 16)
	args := make([]any, 0, 8*each)
	insert := func() error {
		n := len(args) / 8
		if n == 0 {
			return nil
		}
		_, err := conn.ExecContext(ctx, "INSERT INTO "+table+rowHead+strings.TrimSuffix(strings.Repeat(rowMarks+",", n), ","), args...)
		args = args[:0]
		return err
	}
	for r := range rows {
		id++
		args = append(args, r.conv, r.seq, id, r.from, fmt.Sprint("fill-", r.seq), content, hash, time.Now().UnixMilli())
		if len(args) == cap(args) {
			if err := insert(); err != nil {
				return err
			}
		}
	}
	return insert()
}

// floorRows are messages of a hundred conversations, a batch of them from each in turn.
func floorRows(batch int) func(yield func(row) bool) {
	return func(yield func(row) bool) {
		seqs := make([]int, 100)
		for n := range floorMessages {
			c := n / batch % len(seqs)
			seqs[c]++
			if !yield(row{fmt.Sprintf("d%d-%d", 2*c+1, 2*c+2), seqs[c], uint64(2*c + 1)}) {
				return
			}
		}
	}
}
