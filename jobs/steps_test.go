package jobs

import (
	"context"
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest/counts"
)

// tally counts the calls that a strand makes to the stores.
type tally struct {
	still
	inserts, projections, publishes, looks int
}

func (a *tally) InsertMessages(context.Context, []im.Message) error { a.inserts++; return nil }
func (a *tally) Project(context.Context, im.Projection) error       { a.projections++; return nil }
func (a *tally) Publish(context.Context, map[im.NodeID][]byte) error {
	a.publishes++
	return nil
}

type countedSessions struct {
	*tally
	of Sessions
}

func (c countedSessions) Sessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	c.looks++
	return c.of.Sessions(ctx, users)
}

// strandStep is one strand's way for a batch, without the stores: decode, number, insert,
// project, look for sessions, encode, publish. The ends of the hundred conversations are
// known.
func strandStep(tb testing.TB, size int) (step func(), a *tally) {
	w := newWorld(1)
	for u := im.UserID(1); u <= 200; u++ {
		online(w, u, "phone", fmt.Sprintf("n%d", u%2))
	}
	r := newTestRunner(tb, Config{}, w, nil)
	a = &tally{}
	r.deps.Archive, r.deps.Projector, r.deps.Bus, r.deps.Sessions = a, a, a, countedSessions{a, r.deps.Sessions}
	r.inserts = joinInserts(a, &r.cfg)
	p := &partition{r: r, src: &joined{l: newLogbook(w, 0)}, work: context.Background()}
	p.moves.init()
	s := newScribe(p)
	n := 0
	batch := func(size int) {
		items := make([]*item, size)
		for i := range items {
			from := im.UserID(1 + 2*(n%100))
			task := text(im.DirectConversation(from, from+1), from, n)
			value, _ := queue.AppendTask(nil, &task)
			items[i] = newItem(queue.Record{Value: value}, r.work)
			n++
		}
		if err := s.handle(context.Background(), items); err != nil {
			tb.Fatal(err)
		}
	}
	batch(100)
	*a = tally{}
	return func() { batch(size) }, a
}

func BenchmarkStep(b *testing.B) {
	for _, size := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprintf("Strand/batch=%d", size), func(b *testing.B) {
			step, a := strandStep(b, size)
			m := counts.Start(b)
			for b.Loop() {
				step()
			}
			m.Report(b.N * size)
			b.ReportMetric(float64(a.inserts)/float64(b.N), "inserts/batch")
			b.ReportMetric(float64(a.projections)/float64(b.N), "projections/batch")
			b.ReportMetric(float64(a.publishes)/float64(b.N), "publishes/batch")
		})
	}
}

// A batch is one insert, one projection, one look for sessions and one publish, whatever
// its size.
func TestStep_AStrandAsksOnceABatch(t *testing.T) {
	for _, size := range []int{1, 100, 500} {
		step, a := strandStep(t, size)
		step()
		if a.inserts != 1 || a.projections != 1 || a.looks != 1 || a.publishes != 1 {
			t.Errorf("%d records: %d inserts, %d projections, %d looks for sessions, %d publishes", size, a.inserts, a.projections, a.looks, a.publishes)
		}
	}
}

// The record's encoding, which the step makes itself, is among them.
func TestStep_AStrandAllocatesNoMoreThanItDid(t *testing.T) {
	for size, most := range map[int]int{1: 85, 100: 2650} {
		step, _ := strandStep(t, size)
		counts.Allocs(t, most, step)
	}
}
