package jobs

import (
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// item is one record on its way through a strand.
type item struct {
	record    queue.Record
	task      im.Task
	poison    error     // not nil: the record is no task, or one that can never be done
	notBefore time.Time // held until then, however clocks step meanwhile; zero: not held
	kept      bool      // its end comes after its batch's
}

// age is when a record was produced; unknown times count as now.
func (it *item) age() time.Time {
	if it.record.Time.IsZero() {
		return time.Now()
	}
	return it.record.Time
}

// strand is some conversations of one partition: one of them is never in two strands, and
// its batches are worked on one at a time, in the order of the log.
type strand struct {
	p      *partition
	worker worker
	lined  time.Time // when it was last lined up; of whoever has it

	pending   []*item     // guarded by p.mu
	scheduled bool        // guarded by p.mu: lingering, in the line, or at work
	linger    *time.Timer // guarded by p.mu: not nil while it waits for a fuller batch
}

// run takes what is queued, up to a batch, and works on it. More than that lines up
// again, so that no strand starves the others.
func (s *strand) run() {
	pool := s.p.r
	start := pool.meter.begin(s.lined)
	items := s.p.next(s)
	if len(items) > 0 {
		pool.meter.records(len(items))
		if err := s.worker.handle(s.p.work, items); err != nil {
			s.p.abandon(err)
		} else {
			s.p.finish(items)
		}
	}
	pool.meter.end(start)
	if s.p.again(s) {
		pool.enqueue(s)
	}
}

// newItem reads a record; what is no task of the lane goes on as poison, to be parked in
// its turn.
func newItem(rec queue.Record, work laneWork) *item {
	it := &item{record: rec}
	it.task, it.poison = queue.DecodeTask(rec.Value)
	if it.poison == nil {
		it.poison = work.accepts(&it.task)
	}
	return it
}

// await sets until when a record is held: its time, which is of the clock of whoever
// produced it, and most at most, or clocks that differ would hold it for as long as they do.
func (it *item) await(now time.Time, most time.Duration) {
	if n := it.task.Notify; n != nil {
		it.notBefore = now.Add(min(time.UnixMilli(n.NotBefore).Sub(now), most))
	}
}
