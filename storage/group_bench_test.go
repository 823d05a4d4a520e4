package storage

import (
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// BenchmarkNotices stores notices by which all of 10,000 leave a channel, and join it
// again: one strand does nothing else meanwhile.
func BenchmarkNotices(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		g := newGroup(b, db, im.NewGroup{Owner: newUser(b, db)})
		for part := range im.MaxGroupMembers / 1000 {
			args := make([]any, 0, 2000)
			for u := range 1000 {
				args = append(args, 1<<40+1000*part+u, g.ID)
			}
			_, err := db.w.Exec(repeat("INSERT INTO group_members (user_id, group_id, state, role, muted_until, joined_at, moved) VALUES ",
				"(?, ?, 0, 0, 0, 0, 0)", ", ", len(args)/2, ""), args...)
			must(b, err)
		}
		seq := im.Seq(2)
		for name, m := range map[string]im.Membership{"JoinAll": {Group: g.ID, JoinAll: true}, "LeaveAll": {Group: g.ID, LeaveAll: true}} {
			other := im.Membership{Group: g.ID, JoinAll: m.LeaveAll, LeaveAll: m.JoinAll}
			notice := func(m im.Membership) {
				must(b, db.InsertMessages(b.Context(), []im.Message{opMessage(b, im.GroupOp{ID: im.OpID(900_000_000 + number.Add(1)), Conversation: g.Main, Membership: m}, seq)}))
				seq++
			}
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					notice(other)
					b.StartTimer()
					notice(m)
				}
			})
		}
	})
}

// BenchmarkSeat is what each send to a channel asks, were there no copy.
func BenchmarkSeat(b *testing.B) {
	onEachBench(b, func(b *testing.B, db *DB) {
		u := newUser(b, db)
		g := newGroup(b, db, im.NewGroup{Owner: u})
		for b.Loop() {
			if s, err := db.Seat(b.Context(), u, g.Main); err != nil || !s.In {
				b.Fatal(s, err)
			}
		}
	})
}
