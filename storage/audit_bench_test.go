package storage

import (
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// BenchmarkAudit compares and rebuilds a user of 50 one-to-ones, in ten of which 20
// messages wait: on a Redis and a database of their own, one user at a time.
func BenchmarkAudit(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		s := realServer(b)
		x := NewIndex(s.open(b), db)
		u := newUser(b, db)
		for i := range 50 {
			peer := newUser(b, db)
			c := im.DirectConversation(u, peer)
			if err := db.EnsureConversations(b.Context(), []im.NewConversation{{ID: c, Members: []im.UserID{u, peer}}}); err != nil {
				b.Fatal(err)
			}
			n := 1
			if i < 10 {
				n = 20
			}
			fill(b, db, c, n, peer)
			if i >= 10 {
				if err := db.MoveCursors(b.Context(), []im.CursorMove{{Conversation: c, User: u, Delivered: 1, Read: 1}}); err != nil {
					b.Fatal(err)
				}
			}
		}
		rebuilt := func() {
			if err := x.rebuildFromNothing(b.Context(), u); err != nil {
				b.Fatal(err)
			}
		}
		rebuilt()
		b.Run("compare", func(b *testing.B) {
			for b.Loop() {
				if c := compare(b, x, u); !c.Sealed || len(c.Drift) > 0 {
					b.Fatalf("%+v", c)
				}
			}
		})
		b.Run("rebuild", func(b *testing.B) {
			for b.Loop() {
				rebuilt()
			}
		})
	})
}
