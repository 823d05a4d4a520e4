package jobs

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/logic/im"
)

// delay is what the lane of scheduled messages does with its records.
type delay struct {
	r         *Pool
	schedules Schedules
	decider   Decider
	lane      Producer // where the log is told of what is due
	realtime  Producer // where messages go
}

func newDelay(p *Pool) *delay {
	d := &p.deps
	return &delay{r: p, schedules: d.Schedules, decider: d.Decider, lane: d.Producers[im.LaneDelay], realtime: d.Producers[im.LaneRealtime]}
}

func (d *delay) accepts(t *im.Task) error { return belongs(t, im.LaneDelay) }

// attend looks for what is due, for as long as the partition is this process's.
func (d *delay) attend(ctx context.Context, p *partition) {
	l := &looker{d: d, partition: p.src.Place().Partition, inHand: p.inHand}
	l.run(ctx)
}

func (d *delay) newWorker(p *partition) worker { return &firing{d, p} }

// inHand is how many records are taken and not finished.
func (p *partition) inHand() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records
}

// advance notes that there is progress inside a record.
func (p *partition) advance() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = time.Now()
}

// firing works on one strand of the lane.
type firing struct {
	d *delay
	p *partition
}

// handle fires some conversations of a batch at once, each as far as its last record says.
func (f *firing) handle(ctx context.Context, items []*item) error {
	last := make(map[im.ConversationID]im.FireTask, len(items))
	for _, it := range items {
		if it.poison != nil {
			if err := f.p.bury(ctx, it, it.poison); err != nil {
				return err
			}
			continue
		}
		raiseFire(last, it.task.Conversation, *it.task.Fire)
	}
	return f.d.fireAll(ctx, last, f.p.advance)
}

// fireAll tells advance of each step forwards: many messages may be due in a conversation,
// and a partition that stands still for long is given up.
func (d *delay) fireAll(ctx context.Context, last map[im.ConversationID]im.FireTask, advance func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fireConversations)
	for c, to := range last {
		g.Go(func() error { return d.guarded(ctx, c, to, advance) })
	}
	return g.Wait()
}

// guarded is fire. A bug that panics ends this record and not the process: what it leaves
// in queue is told again when it has been there for a while.
func (d *delay) guarded(ctx context.Context, c im.ConversationID, to im.FireTask, advance func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.r.log.Error("firing scheduled messages panicked", "conv", c, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = nil
		}
	}()
	return d.fire(ctx, c, to, advance)
}

// raiseFire notes how far a conversation is to be fired.
func raiseFire(last map[im.ConversationID]im.FireTask, c im.ConversationID, to im.FireTask) {
	if before := last[c]; to.DueAt > before.DueAt || to.DueAt == before.DueAt && to.Schedule > before.Schedule {
		last[c] = to
	}
}
