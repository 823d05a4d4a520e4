package storage

import (
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func benchEach(b *testing.B, bench func(b *testing.B, s *redisServer)) {
	b.Run("mini", func(b *testing.B) { bench(b, miniServer(b)) })
	b.Run("real", func(b *testing.B) { bench(b, realServer(b)) })
}

// One batch of a strand's worker: 100 messages between 200 users, each raising the
// sender and the recipient, with its hint; every recipient acks the message before.
func BenchmarkProject100(b *testing.B) {
	benchEach(b, func(b *testing.B, s *redisServer) {
		r, f := s.open(b), newFakeRecord()
		p := NewProjector(r)
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			var all im.Projection
			for i := range im.UserID(100) {
				from, to := 1000+2*i, 1001+2*i
				pr := f.store(from, to, im.CountedForAll)
				c := im.DirectConversation(from, to)
				last := pr.Users[0].State.LastSeq
				all.Users = append(all.Users, pr.Users...)
				all.Users = append(all.Users, f.ack(to, c, last-1, last-1).Users...)
				all.Hints = append(all.Hints, im.Hint{
					Key: im.SendKey{Conversation: c, Sender: from, ClientMsgID: "0123456789abcdef"},
					Ref: im.StoredRef{Seq: last, ID: pr.Users[0].State.LastID, StoredAt: 1767225600000},
				})
			}
			b.StartTimer()
			if err := p.Project(b.Context(), all); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(100*b.N), "µs/msg")
	})
}

// The first page of 20 of a user with 200 conversations.
func BenchmarkListPage(b *testing.B) {
	benchEach(b, func(b *testing.B, s *redisServer) {
		r, f := s.open(b), newFakeRecord()
		x := NewIndex(r, f)
		for i := range im.UserID(200) {
			f.store(1000+i, bob, im.CountedForAll)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x.List(b.Context(), bob, 0, 20); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A heartbeat that finds nothing new.
func BenchmarkChangesNone(b *testing.B) {
	benchEach(b, func(b *testing.B, s *redisServer) {
		r, f := s.open(b), newFakeRecord()
		x := NewIndex(r, f)
		f.store(ann, bob, im.CountedForAll)
		page, err := x.List(b.Context(), bob, 0, 20)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x.Changes(b.Context(), bob, page.Position, 100); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A user's first read after a wipe: 200 conversations, 20 of them with undelivered
// messages.
func BenchmarkRebuild(b *testing.B) {
	benchEach(b, func(b *testing.B, s *redisServer) {
		r, f := s.open(b), newFakeRecord()
		x := NewIndex(r, f)
		for i := range im.UserID(200) {
			f.store(1000+i, bob, im.CountedForAll)
			if i >= 20 {
				f.ack(bob, im.DirectConversation(1000+i, bob), 1, 1)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := s.admin.FlushAll(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
			if _, _, err := x.Offline(b.Context(), bob, 100); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Probes of 64 concurrent senders, gathered.
func BenchmarkProbe(b *testing.B) {
	benchEach(b, func(b *testing.B, s *redisServer) {
		h := NewHints(s.open(b))
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, err := h.Probe(b.Context(), im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "0123456789abcdef"}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// Tokens taken by 64 concurrent senders, gathered.
func BenchmarkTake(b *testing.B) {
	benchEach(b, func(b *testing.B, s *redisServer) {
		l := NewLimits(s.open(b))
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, err := l.Take(b.Context(), "send:7", 1, 1e6, 1000); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
