package storage

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// BenchmarkInsertMessages stores batches of 100-byte texts of 50 conversations; one
// allocation a row is the benchmark's own (the client message ID).
func BenchmarkInsertMessages(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		convs := make([]im.ConversationID, 50)
		seqs := make([]im.Seq, len(convs))
		for i := range convs {
			_, _, convs[i] = newPair(b, db)
		}
		for _, n := range []int{1, 100, 500} {
			b.Run(fmt.Sprint(n), func(b *testing.B) {
				rows := make([]im.Message, n)
				for i := range rows {
					rows[i] = message(convs[i%len(convs)], 0, im.UserID(1000+i))
					rows[i].Content = fmt.Appendf(nil, `{"text":%q}`, fmt.Sprintf("%0100d", i))
				}
				b.ReportAllocs()
				cpu := processCPU()
				for b.Loop() {
					for i := range rows {
						k := i % len(convs)
						seqs[k]++
						id := number.Add(1)
						rows[i].Seq, rows[i].ID, rows[i].ClientMsgID = seqs[k], im.MessageID(1<<40+id), im.ClientMsgID(fmt.Sprint(1<<40+id))
					}
					if err := db.InsertMessages(b.Context(), rows); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(processCPU()-cpu)/1e3/float64(b.N*n), "cpu-µs/row")
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	})
}

// processCPU is what this process has used so far, in nanoseconds: the client's
// share, without the server's.
func processCPU() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkHistory reads pages of 50 from the middle of conversations of two sizes:
// the cost must be the same.
func BenchmarkHistory(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		for _, n := range []int{10_000, 200_000} {
			u, peer, c := newPair(b, db)
			fill(b, db, c, n, u, peer)
			b.Run(fmt.Sprint(n), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					page, err := db.History(b.Context(), im.HistoryQuery{Conversation: c, Before: im.Seq(100 + i*7919%(n-100)), Limit: 50})
					if err != nil || len(page.Items) != 50 {
						b.Fatal(len(page.Items), err)
					}
				}
			})
		}
	})
}

// BenchmarkUserStates reads what a rebuild of one user's projection reads: 1,000
// conversations of 20 messages.
func BenchmarkUserStates(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		u := newUser(b, db)
		for range 1000 {
			peer := newUser(b, db)
			c := im.DirectConversation(u, peer)
			if err := db.EnsureConversations(b.Context(), []im.NewConversation{{ID: c, Members: []im.UserID{u, peer}}}); err != nil {
				b.Fatal(err)
			}
			fill(b, db, c, 20, u, peer)
		}
		b.ReportAllocs()
		for b.Loop() {
			states, err := db.UserStates(b.Context(), u)
			if err != nil || len(states) != 1000 {
				b.Fatal(len(states), err)
			}
		}
	})
}

// BenchmarkMoveCursors raises 100 cursors by one statement.
func BenchmarkMoveCursors(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		var moves []im.CursorMove
		for range 50 {
			u, peer, c := newPair(b, db)
			moves = append(moves, im.CursorMove{Conversation: c, User: u}, im.CursorMove{Conversation: c, User: peer})
		}
		b.ReportAllocs()
		for seq := im.Seq(1); b.Loop(); seq++ {
			for i := range moves {
				moves[i].Delivered, moves[i].Read = seq, seq
			}
			if err := db.MoveCursors(b.Context(), moves); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func onEachBench(b *testing.B, bench func(b *testing.B, db *DB)) {
	b.Run(SQLite, func(b *testing.B) { bench(b, newSQLite(b)) })
	b.Run(MySQL, func(b *testing.B) { bench(b, newMySQL(b)) })
}
