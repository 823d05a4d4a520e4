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
	for _, store := range []struct {
		name string
		open func(testing.TB) *DB
	}{{SQLite, newSQLite}, {MySQL, newMySQL}} {
		b.Run(store.name, func(b *testing.B) {
			db := store.open(b)
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
}

// processCPU is what this process has used so far, in nanoseconds: the client's
// share, without the server's.
func processCPU() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}
