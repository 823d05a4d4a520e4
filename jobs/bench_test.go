package jobs

import (
	"context"
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// still takes everything and does nothing.
type still struct{ nowhere }

func (*still) InsertMessages(context.Context, []im.Message) error { return nil }
func (*still) Lasts(context.Context, []im.ConversationID) (map[im.ConversationID]im.LastRef, error) {
	return nil, nil
}
func (*still) FindStored(context.Context, []im.SendKey) (map[im.SendKey]im.StoredRef, error) {
	return nil, nil
}
func (*still) ChangeBasis(context.Context, []im.ChangeKey, []im.Place, []im.ReactionKey) (im.ChangeBasis, error) {
	return im.ChangeBasis{}, nil
}
func (*still) Rosters(context.Context, []im.ConversationID) (map[im.ConversationID]im.Roster, error) {
	return nil, nil
}
func (*still) RosterPage(context.Context, im.ConversationID, im.UserID, int) ([]im.RosterMember, error) {
	return nil, nil
}
func (*still) Moved(context.Context, im.ConversationID, im.Seq, []im.UserID, im.UserID, int) ([]im.Member, error) {
	return nil, nil
}
func (*still) Authors(context.Context, im.ConversationID, im.Seq, im.Seq) ([]im.UserID, error) {
	return nil, nil
}
func (*still) ChannelEnds(context.Context, []im.ConversationID) (map[im.ConversationID]im.ChannelEnd, error) {
	return nil, nil
}
func (*still) Member(context.Context, im.ConversationID, im.UserID) (im.Member, error) {
	return im.Member{}, im.ErrNotFound
}
func (*still) GroupSize(context.Context, im.GroupID) (int, error)              { return 0, nil }
func (*still) ApplyChanges(context.Context, im.ChangeSet) error                { return nil }
func (*still) HideMessages(context.Context, im.Hide) ([]im.Hidden, error)      { return nil, nil }
func (*still) EnsureConversations(context.Context, []im.NewConversation) error { return nil }
func (*still) MoveCursors(context.Context, []im.CursorMove) error              { return nil }
func (*still) Park(context.Context, im.DeadLetter) error                       { return nil }
func (*still) NoteDoubt(context.Context, string) error                         { return nil }

// BenchmarkRecord is the share of the strand's step that is the test's own making.
func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		task := text("d1-2", 1, 7)
		buf, _ = queue.AppendTask(buf[:0], &task)
	}
}

// BenchmarkRoom is a strand's way for a batch of messages to one channel, without the
// stores: written for its members, or merged at read.
func BenchmarkRoom(b *testing.B) {
	const members = 500
	for _, mode := range []struct {
		name  string
		above int
	}{{"written", members}, {"merged", -1}} {
		for _, size := range []int{1, 100, 500} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode.name, size), func(b *testing.B) {
				w := newWorld(1)
				online(w, 1, "phone", "n1")
				w.rooms["c5"] = []im.NodeID{"n0", "n1"}
				r := newTestRunner(b, Config{MergeAbove: mode.above}, w, nil)
				room := &fullRoom{merged: mode.above < 0}
				for u := range im.UserID(members) {
					room.members = append(room.members, im.RosterMember{User: u + 1, First: 1})
				}
				r.deps.Archive, r.deps.Projector, r.deps.Bus = room, room, room
				p := &partition{r: r, src: &joined{l: newLogbook(w, 0)}, work: context.Background()}
				p.moves.init()
				s := newScribe(p)
				n := 0
				b.ReportAllocs()
				for b.Loop() {
					items := make([]*item, size)
					for i := range items {
						task := text("c5", 1, n)
						value, _ := queue.AppendTask(nil, &task)
						items[i] = newItem(queue.Record{Value: value}, r.work)
						n++
					}
					if err := s.handle(context.Background(), items); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
			})
		}
	}
}

// fullRoom is a channel that is there.
type fullRoom struct {
	still
	merged  bool
	members []im.RosterMember
}

func (f *fullRoom) Rosters(_ context.Context, convs []im.ConversationID) (map[im.ConversationID]im.Roster, error) {
	r := im.Roster{Version: 1, Merged: f.merged}
	if !f.merged {
		r.Members = f.members
	}
	return map[im.ConversationID]im.Roster{convs[0]: r}, nil
}
