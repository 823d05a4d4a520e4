package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/storage"
)

// orderBus holds what is pushed against the order of its conversation.
type orderBus struct {
	mu    sync.Mutex
	last  map[im.ConversationID]im.Seq
	wrong []string
}

func (b *orderBus) Publish(_ context.Context, batches map[im.NodeID][]byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, batch := range batches {
		all, err := protocol.DecodeDeliveries(batch)
		if err != nil {
			return err
		}
		for _, d := range all {
			if d.Seq == 0 {
				continue
			}
			if d.Seq < b.last[d.Conversation] {
				b.wrong = append(b.wrong, fmt.Sprintf("%s: %d pushed after %d", d.Conversation, d.Seq, b.last[d.Conversation]))
			}
			b.last[d.Conversation] = d.Seq
		}
	}
	return nil
}

// [J1], [J2] whatever operators do: every knob is turned at random while four partitions
// are under load.
func TestPools_EveryKnobTurnedUnderLoadLosesAndReordersNothing(t *testing.T) {
	onEachStore(t, func(t *testing.T, db *storage.DB) {
		const partitions, each, chunk = 4, 1500, 60
		w := newWorld(11)
		for u := im.UserID(1); u <= 60; u++ {
			online(w, u, "phone", "n1")
		}
		r := onStore(t, quickConfig(), w, db, nil, nil)
		bus := &orderBus{last: make(map[im.ConversationID]im.Seq)}
		r.deps.Bus = bus
		logs, assigned := make([]*logbook, partitions), make([]*joined, partitions)
		for i := range logs {
			logs[i] = newLogbook(w, i)
			logs[i].fetchMax = 200
			assigned[i] = logs[i].join()
			assigned[i].trust = true
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- live(ctx, r, assigned...) }()
		turns := 0
		var tasks []im.Task
		for n := 0; n < each; n += chunk {
			for i, l := range logs {
				var some []im.Task
				for k := range chunk {
					peer := im.UserID(2 + i + partitions*((n+k)%7))
					some = append(some, text(im.DirectConversation(1, peer), 1, (n+k)*partitions+i))
				}
				tasks = append(tasks, some...)
				l.append(some...)
				for range 3 {
					r.turn(w.chance.patch())
					turns++
				}
			}
			if n%(5*chunk) == 0 { // or everything is in the log before the first turn has shown
				limit, done := context.WithTimeout(t.Context(), time.Minute)
				_ = logs[0].await(limit)
				done()
			}
		}
		limit, done := context.WithTimeout(t.Context(), 2*time.Minute)
		defer done()
		for again := true; again; {
			again = false
			for _, l := range logs {
				short, done := context.WithTimeout(limit, 5*time.Millisecond)
				again = l.await(short) != nil && limit.Err() == nil || again
				done()
			}
			r.turn(w.chance.patch())
			turns++
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		checkStored(t, db, tasks)
		for _, what := range bus.wrong {
			t.Error(what)
		}
		t.Logf("%d records in %d partitions, %d turns of some of the 8 knobs", len(tasks), partitions, turns)
	})
}

// book is a PoolBook.
type book struct {
	mu      sync.Mutex
	patches map[im.Lane]im.PoolPatch
	err     error
	asked   int
	reports []im.PoolReport
	forgot  string
}

func (b *book) PoolPatches(context.Context, string) (map[im.Lane]im.PoolPatch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return b.patches, b.err
}

func (b *book) ReportPools(_ context.Context, reports []im.PoolReport) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = reports
	return im.ErrCache
}

func (b *book) ForgetProcess(_ context.Context, process string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgot = process
	return nil
}

// set has the pool do what patches say, and returns when it was asked for twice.
func (b *book) set(w *world, t *testing.T, patch im.PoolPatch, err error) {
	t.Helper()
	b.mu.Lock()
	b.patches, b.err = map[im.Lane]im.PoolPatch{im.LaneRealtime: patch}, err
	from := b.asked
	b.mu.Unlock()
	w.eventually(t, "the book is read", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.asked >= from+2
	})
}

func TestPools_StandAsTheBookSays(t *testing.T) {
	t.Parallel() // it waits for the second in which the book is read
	w, b := newWorld(1), &book{}
	r := newTestRunner(t, Config{}, w, nil)
	r.deps.Pools, r.deps.Process = b, "jobs-a"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, r, newLogbook(w, 3).join()) }()

	b.set(w, t, im.PoolPatch{Size: new(3), Batch: new(7)}, nil)
	if s := r.set(); s.Size != 3 || s.Batch != 7 || r.ants.Cap() != 3 || s.Strands != 1 {
		t.Errorf("set to %+v, the pool holds %d", s, r.ants.Cap())
	}
	b.set(w, t, im.PoolPatch{Size: new(0)}, nil)
	if s := r.set(); s.Size != 3 || s.Batch != 7 {
		t.Errorf("after what is not valid: %+v", s)
	}
	b.set(w, t, im.PoolPatch{}, im.ErrStore)
	if s := r.set(); s.Size != 3 || s.Batch != 7 {
		t.Errorf("without MySQL: %+v", s)
	}
	b.set(w, t, im.PoolPatch{}, nil)
	if s, want := *r.set(), im.PoolSettings(r.cfg.Realtime); s != want || r.ants.Cap() != want.Size {
		t.Errorf("reset to %+v, want %+v", s, want)
	}
	w.eventually(t, "reported", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.reports) == 1 && b.reports[0].Process == "jobs-a" && b.reports[0].Lane == im.LaneRealtime &&
			slices.Equal(b.reports[0].Partitions, []int{3}) && b.reports[0].Settings.Size == 16
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if b.forgot != "jobs-a" {
		t.Errorf("forgot %q", b.forgot)
	}
}

// slowed is a world whose stores take their time.
type slowed struct {
	*world
	insert, project, publish time.Duration
}

func (s *slowed) InsertMessages(ctx context.Context, rows []im.Message) error {
	time.Sleep(s.insert) // the fault
	return s.world.InsertMessages(ctx, rows)
}

func (s *slowed) Project(ctx context.Context, p im.Projection) error {
	time.Sleep(s.project)
	return s.world.Project(ctx, p)
}

func (s *slowed) Publish(ctx context.Context, batches map[im.NodeID][]byte) error {
	time.Sleep(s.publish)
	return s.world.Publish(ctx, batches)
}

func TestAdvisor_NamesTheBottleneckThatWasPutThere(t *testing.T) {
	const slow, quick = 60 * time.Millisecond, 3 * time.Millisecond
	for _, c := range []struct {
		name       string
		size       int
		partitions int // that have work
		stores     slowed
		cpu        bool
		want, knob string
	}{
		{"a slow archive", 8, 2, slowed{insert: slow}, false, "commit", "batch, linger"},
		{"a slow projector", 8, 2, slowed{project: slow}, false, "redis", "batch, strands"},
		{"a slow bus", 8, 2, slowed{publish: slow}, false, "fanout", "batch, jobs.merge_above"},
		{"a busy processor", 8, 2, slowed{insert: slow}, true, "cpu", "processes"},
		{"one hot partition", 8, 1, slowed{insert: quick, project: quick, publish: quick}, false, "partitions", "strands, queue.partitions"},
		{"a pool of one", 1, 4, slowed{insert: quick, project: quick, publish: quick}, false, "pool", "size"},
		{"nothing to do", 8, 0, slowed{}, false, "none", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(1)
			for u := im.UserID(1); u <= 8; u++ {
				online(w, u, "phone", "n1")
			}
			var assigned []*joined
			for i := range 4 {
				l := newLogbook(w, i)
				if i < c.partitions {
					var tasks []im.Task
					for n := range 6000 {
						low := im.UserID(1 + 2*i)
						tasks = append(tasks, text(im.DirectConversation(low, low+1), low, n))
					}
					l.append(tasks...)
					for n := range l.records {
						l.records[n].Time = time.Now().Add(-time.Minute)
					}
				}
				j := l.join()
				j.trust = true
				assigned = append(assigned, j)
			}
			cfg := quickConfig()
			cfg.Realtime.Size, cfg.Realtime.Strands, cfg.Realtime.WindowRecords = c.size, 1, 100
			r := newTestRunner(t, cfg, w, nil)
			stores := c.stores
			stores.world = w
			r.deps.Archive, r.deps.Projector, r.deps.Bus = &stores, &stores, &stores
			if began := time.Now(); c.cpu {
				r.cpu = func() time.Duration { return time.Since(began) * time.Duration(runtime.GOMAXPROCS(0)) }
			} else {
				r.cpu = func() time.Duration { return 0 }
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- live(ctx, r, assigned...) }()
			var got im.Advice
			w.eventually(t, c.name+" is named", func() bool {
				rep := r.PoolReports()[0]
				got = *rep.Advice
				return got.Bottleneck == c.want && (c.partitions == 0 || rep.Steps["archive"].Count > 10) && len(rep.Partitions) == 4
			})
			if got.Knob != c.knob {
				t.Errorf("%+v", got)
			}
			t.Logf("%s: %s (%s)", got.Bottleneck, got.Knob, got.Why)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// handled is a lane that notes its batches.
type handled struct {
	mu      sync.Mutex
	batches [][]int64
	fail    error
}

func (h *handled) newWorker(*partition) worker { return h }

func (h *handled) attend(context.Context, *partition) {}

func (h *handled) accepts(*im.Task) error { return nil }

func (h *handled) handle(_ context.Context, items []*item) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var offsets []int64
	for _, it := range items {
		offsets = append(offsets, it.record.Offset)
	}
	h.batches = append(h.batches, offsets)
	return h.fail
}

func (h *handled) eventually(t *testing.T, w *world, want string) {
	t.Helper()
	w.eventually(t, "handled "+want, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return fmt.Sprint(h.batches) == want
	})
}

func TestPartition_LingersForAFullBatchAndNotWhenItEnds(t *testing.T) {
	w, h := newWorld(1), &handled{}
	cfg := quickConfig()
	cfg.Realtime.Strands, cfg.Realtime.Batch = 1, 4
	r := newTestRunner(t, cfg, w, nil)
	long := *r.set()
	long.Linger = time.Hour
	r.settings.Store(&long)
	r.work = h
	l := newLogbook(w, 0)
	assigned := l.join()
	assigned.trust = true
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, r, assigned) }()
	for n := range 4 {
		l.append(text("d1-2", 1, n))
	}
	h.eventually(t, w, "[[0 1 2 3]]")
	l.append(text("d1-2", 1, 4), text("d1-2", 1, 5))
	w.eventually(t, "the rest is taken", func() bool {
		all := r.PoolReports()
		return len(all) == 1 && all[0].InFlight == 2
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(h.batches); got != "[[0 1 2 3] [4 5]]" || l.committed != 6 {
		t.Errorf("handled %s, committed %d", got, l.committed)
	}
}

// A lane whose worker fails leaves everything to the next owner.
func TestPartition_CommitsNothingOfAFailedBatch(t *testing.T) {
	w, h := newWorld(1), &handled{fail: &endedError{errors.New("crash")}}
	r := newTestRunner(t, quickConfig(), w, nil)
	r.work = h
	l := newLogbook(w, 0)
	l.append(text("d1-2", 1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, r, l.join()) }()
	h.eventually(t, w, "[[0]]")
	cancel()
	<-ended
	if l.committed != 0 {
		t.Errorf("committed %d", l.committed)
	}
}
