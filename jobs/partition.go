package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
)

// source is one partition in one generation: *queue.Assignment, or a test's log.
type source interface {
	Place() queue.Place
	Horizon() int64
	Fetch(ctx context.Context) ([]queue.Record, error)
	Commit(next int64) error
	Progress(next int64, oldest time.Time)
	Behind(next int64) int64
}

// partition is one assignment at work: it takes records into strands, and commits the
// contiguous finished prefix.
type partition struct {
	r       *Pool
	src     source
	work    context.Context // under which taken records are finished
	stop    context.CancelFunc
	strands []*strand
	moves   moveBook
	dirty   chan struct{} // something finished

	mu       sync.Mutex // guards what follows, and strands
	changed  sync.Cond  // room, or idle
	water    *queue.Watermark
	taken    []time.Time // when each record from water.Next() on was produced
	records  int         // taken and not finished
	bytes    int
	busy     int // strands lingering, in the line or at work
	kept     int // records whose end comes after their batch's
	held     heldItems
	release  *time.Timer // of the first of held
	over     bool        // nothing more is taken
	ended    bool        // nothing is done any more
	crashed  bool        // by a test: nothing is committed any more either
	failed   error       // why nothing more is fetched
	progress time.Time
}

// assign handles one assignment: takes under ctx, finishes under a context of its own,
// commits, and returns.
func (r *Pool) assign(ctx context.Context, src source) {
	p := &partition{r: r, src: src, dirty: make(chan struct{}, 1), progress: time.Now()}
	p.changed.L = &p.mu
	p.work, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer p.stop()
	given := context.AfterFunc(p.work, p.wakeAll)
	defer given()
	p.moves.init()
	p.split(r.set().Strands)
	r.assignedTo(p, true)
	defer r.assignedTo(p, false)
	var commits, attended sync.WaitGroup
	taking, taken := context.WithCancel(p.work)
	defer taken()
	commits.Go(func() { p.commitLoop(taking) })
	attended.Go(func() { r.work.attend(ctx, p) })

	p.take(ctx)
	drain := time.AfterFunc(r.cfg.DrainTimeout, p.stop)
	defer drain.Stop()
	p.idle()
	taken()
	commits.Wait()
	p.last()
	<-ctx.Done() // returning earlier would end the generation for all partitions
	attended.Wait()
}

// assignedTo notes which partitions the pool has.
func (p *Pool) assignedTo(part *partition, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		p.assigned[part] = true
	} else {
		delete(p.assigned, part)
	}
}

// take fetches and hands out until ctx ends or records are missing.
func (p *partition) take(ctx context.Context) {
	wake := context.AfterFunc(ctx, p.wakeAll)
	defer wake()
	for p.room(ctx) {
		records, err := p.src.Fetch(ctx)
		if err != nil {
			p.mu.Lock()
			p.failed = err
			p.mu.Unlock()
			return
		}
		if !p.resplit(ctx) {
			return
		}
		p.hand(records)
	}
}

// split makes the strands anew; nothing is queued in the old ones.
func (p *partition) split(n int) {
	p.strands = make([]*strand, n)
	for i := range p.strands {
		p.strands[i] = &strand{p: p, worker: p.r.work.newWorker(p)}
	}
}

// resplit changes the number of strands, where that was asked for, once all of them have
// drained: a conversation may be in another one then. False where the taking ends first;
// what was fetched is taken by nobody then.
func (p *partition) resplit(ctx context.Context) bool {
	n := p.r.set().Strands
	p.mu.Lock()
	defer p.mu.Unlock()
	if n == len(p.strands) {
		return true
	}
	p.hasten()
	for ctx.Err() == nil && p.work.Err() == nil && p.busy+p.kept > 0 {
		p.changed.Wait()
	}
	if ctx.Err() != nil || p.work.Err() != nil {
		return false
	}
	p.split(n)
	return true
}

// room waits until the window has some.
func (p *partition) room(ctx context.Context) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ctx.Err() == nil && !p.ended && (p.records >= p.r.set().WindowRecords || p.bytes >= p.r.cfg.WindowBytes || p.moves.full(p.r.cfg.CursorsWaiting)) {
		p.hasten() // no batch becomes any fuller
		p.changed.Wait()
	}
	return ctx.Err() == nil && !p.ended
}

// hand gives each record to the strand of its conversation, or holds it until its time.
func (p *partition) hand(records []queue.Record) {
	items := make([]*item, len(records))
	for i, rec := range records {
		items[i] = newItem(rec, p.r.work)
	}
	now, set := time.Now(), p.r.set()
	for _, it := range items {
		it.await(now, set.BackoffMax)
	}
	p.mu.Lock()
	if p.water == nil {
		p.water = queue.NewWatermark(records[0].Offset, set.WindowRecords)
	}
	if p.records == len(p.held) {
		p.progress = now // nothing was in hand until now
	}
	for _, it := range items {
		p.water.Take(it.record.Offset)
		p.taken = append(p.taken, it.age())
		p.bytes += len(it.record.Value)
	}
	p.records += len(items)
	line := p.place(items, now)
	p.mu.Unlock()
	for _, s := range line {
		p.r.enqueue(s)
	}
}

// place queues items in their strands, or holds them, and returns the strands that are to
// be lined up. p.mu is held.
func (p *partition) place(items []*item, now time.Time) (line []*strand) {
	set := p.r.set()
	for _, it := range items {
		if it.notBefore.After(now) {
			p.hold(it, now)
			continue
		}
		s := p.strands[p.index(it)]
		s.pending = append(s.pending, it)
		switch {
		case !s.scheduled:
			s.scheduled = true
			p.busy++
			if set.Linger > 0 && set.Batch > 1 {
				s.linger = time.AfterFunc(set.Linger, func() { p.ripen(s) })
				continue
			}
			line = append(line, s)
		case s.linger != nil && len(s.pending) >= set.Batch:
			s.linger.Stop()
			s.linger = nil
			line = append(line, s)
		}
	}
	return line
}

// ripen lines up a strand that has lingered long enough.
func (p *partition) ripen(s *strand) {
	p.mu.Lock()
	late := s.linger == nil
	s.linger = nil
	p.mu.Unlock()
	if !late {
		p.r.enqueue(s)
	}
}

// hasten has nobody linger. p.mu is held.
func (p *partition) hasten() {
	for _, s := range p.strands {
		if s.linger != nil {
			s.linger.Reset(0)
		}
	}
}

// index is the strand of a record: by the part of the hash that the partition, which
// is its remainder, leaves free.
func (p *partition) index(it *item) int {
	h := queue.Hash(it.task.Conversation) / uint32(max(p.r.partitions, 1))
	return int(h % uint32(len(p.strands)))
}

// next takes a strand's batch.
func (p *partition) next(s *strand) []*item {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	n := min(len(s.pending), p.r.set().Batch)
	items := s.pending[:n:n]
	s.pending = s.pending[n:]
	return items
}

// again says whether a strand has more to do; it keeps its place in the line then.
func (p *partition) again(s *strand) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(s.pending) > 0 && !p.ended {
		return true
	}
	s.scheduled = false
	p.busy--
	p.changed.Broadcast()
	return false
}

// finish notes that the records of a batch are done, but for those that are kept.
func (p *partition) finish(items []*item) { p.done(items, false) }

// keep is for a worker whose records may end after their batch, in any order: it keeps
// them before it returns, and calls finishKept when they have ended, unless it is after p.work
// has.
func (p *partition) keep(items []*item) {
	p.mu.Lock()
	p.kept += len(items)
	p.mu.Unlock()
	for _, it := range items {
		it.kept = true
	}
}

func (p *partition) finishKept(items []*item) { p.done(items, true) }

func (p *partition) done(items []*item, kept bool) {
	n := 0
	p.mu.Lock()
	before := p.water.Next()
	for _, it := range items {
		if it.kept == kept {
			p.water.Finish(it.record.Offset)
			p.bytes -= len(it.record.Value)
			n++
		}
	}
	if kept {
		p.kept -= n
	}
	p.records -= n
	p.taken = p.taken[p.water.Next()-before:]
	p.progress = time.Now()
	p.changed.Broadcast()
	p.mu.Unlock()
	p.mark()
}

func (p *partition) mark() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// abandon ends all work of the assignment: its context has ended, or a test crashed it.
func (p *partition) abandon(err error) {
	var crash *endedError
	p.mu.Lock()
	p.crashed = p.crashed || errors.As(err, &crash)
	if !p.ended {
		p.ended = true
		p.r.log.Warn("assignment given up; its next owner does the rest", "partition", p.src.Place().Partition, "records", p.records, "err", err)
		p.r.m.abandoned.Add(float64(p.records))
	}
	p.changed.Broadcast()
	p.mu.Unlock()
	p.stop()
}

func (p *partition) wakeAll() {
	p.mu.Lock()
	p.changed.Broadcast()
	p.mu.Unlock()
}

// idle ends the taking and waits until no strand has anything to do; what is held is left
// to the next owner.
func (p *partition) idle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.release != nil {
		p.release.Stop()
	}
	p.hasten()
	for p.busy > 0 || p.kept > 0 && p.work.Err() == nil {
		p.changed.Wait()
	}
}
