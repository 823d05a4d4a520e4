package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// settle puts conversations into the tables, each with some messages of its first end:
// a million of them by the protocol would take minutes. The lists in Redis are built
// as the engine touches them.
func (s *stores) settle(ctx context.Context, threads []thread, messages int) error {
	conn, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "USE "+s.database); err != nil {
		return err
	}
	err = insertRows(ctx, conn, "INSERT INTO conversations (id, kind, created_at) VALUES ", "(?, 1, 0)", len(threads), func(i int, args []any) []any {
		return append(args, string(threads[i].id()))
	})
	if err != nil {
		return fmt.Errorf("conversations: %w", err)
	}
	err = insertRows(ctx, conn, "INSERT INTO members (user_id, conversation, join_seq) VALUES ", "(?, ?, 1)", 2*len(threads), func(i int, args []any) []any {
		return append(args, uint64(threads[i/2].ends[i%2]), string(threads[i/2].id()))
	})
	if err != nil {
		return fmt.Errorf("members: %w", err)
	}
	return fill(ctx, conn, "messages", func(yield func(row) bool) {
		for i := range threads {
			for seq := 1; seq <= messages; seq++ {
				if !yield(row{string(threads[i].id()), seq, uint64(threads[i].ends[0])}) {
					return
				}
			}
		}
	}, 2000)
}

// insertRows inserts n rows, two thousand a statement; values appends those of the i-th.
func insertRows(ctx context.Context, conn *sql.Conn, head, marks string, n int, values func(i int, args []any) []any) error {
	const each = 2000
	var args []any
	for at := 0; at < n; at += each {
		args = args[:0]
		end := min(at+each, n)
		for i := at; i < end; i++ {
			args = values(i, args)
		}
		if _, err := conn.ExecContext(ctx, head+strings.TrimSuffix(strings.Repeat(marks+",", end-at), ","), args...); err != nil {
			return err
		}
	}
	return nil
}
