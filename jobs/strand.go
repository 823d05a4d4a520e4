package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// item is one record on its way through a strand.
type item struct {
	record queue.Record
	task   im.Task
	poison error // not nil: the record is no task, or one that can never be done
}

// ending is what a strand remembers of a conversation: its end, and whose it is, where it
// is a one-to-one.
type ending struct {
	last      im.LastRef
	low, high im.UserID
}

// memberKey is one user in one conversation.
type memberKey struct {
	conv im.ConversationID
	user im.UserID
}

// strand works on some conversations of one partition, one batch at a time, in the
// order of the log; one conversation is never in two strands. What it remembers lives
// as long as the assignment, so a rebalance forgets everything.
type strand struct {
	p *partition
	r *Runner

	pending   []*item // guarded by p.mu
	scheduled bool    // guarded by p.mu: in the line, or at work

	ends    *simplelru.LRU[im.ConversationID, ending]
	cursors *simplelru.LRU[memberKey, im.CursorMove] // as far as told; absent: unknown

	// channels are of conversations in ends, and go with them: who reads an end anew must
	// read the roster after it.
	channels      *simplelru.LRU[im.ConversationID, *channel]
	held, maxHeld int // their cost together
}

func newStrand(p *partition) *strand {
	size := max(p.r.cfg.Lasts/p.r.cfg.Strands, 2*p.r.cfg.Batch) // a batch always fits
	s := &strand{p: p, r: p.r, maxHeld: p.r.cfg.RosterMembers / p.r.cfg.Strands}
	// They fail for size <= 0 only.
	s.cursors, _ = simplelru.NewLRU[memberKey, im.CursorMove](2*size, nil)
	s.channels, _ = simplelru.NewLRU(size, func(_ im.ConversationID, ch *channel) { s.held -= ch.cost() })
	s.ends, _ = simplelru.NewLRU(size, func(c im.ConversationID, _ ending) {
		if isChannel(c) {
			s.channels.Remove(c)
		}
	})
	return s
}

// run takes what is queued, up to a batch, and works on it. More than that lines up
// again, so that no strand starves the others.
func (s *strand) run() {
	s.r.m.busy.Inc()
	defer s.r.m.busy.Dec()
	items := s.p.next(s)
	if len(items) > 0 {
		s.r.m.batch.Observe(float64(len(items)))
		if err := s.handle(s.p.work, items, false); err != nil {
			s.p.abandon(err)
		} else {
			s.p.finish(items)
		}
	}
	if s.p.again(s) {
		s.r.enqueue(s)
	}
}

// handle works on a batch until each of its records is stored or parked. It fails only
// where the assignment has ended.
func (s *strand) handle(ctx context.Context, items []*item, split bool) error {
	attempts := s.r.cfg.UnknownAttempts
	if split && len(items) > 1 {
		attempts = min(attempts, 2) // the whole was tried often; one alone is again, before it is given up
	}
	careful := split || items[0].record.Offset < s.p.src.Horizon()
	for try := 1; ; try++ {
		err := s.guarded(ctx, items, careful)
		if err == nil {
			return nil
		}
		s.forget(items)
		var ended *endedError
		if ctx.Err() != nil || errors.As(err, &ended) {
			return err
		}
		if !errors.Is(err, im.ErrUnstorable) && try < attempts {
			careful = true
			if err := s.r.backoff(ctx, "batch", try-1, err); err != nil {
				return err
			}
			continue
		}
		if len(items) == 1 {
			return s.giveUp(ctx, items[0], err)
		}
		s.r.log.Warn("splitting a batch to find what cannot be stored", "partition", s.p.src.Place().Partition, "records", len(items), "err", err)
		half := len(items) / 2
		if err := s.handle(ctx, items[:half], true); err != nil {
			return err
		}
		return s.handle(ctx, items[half:], true)
	}
}

// guarded is process; a bug that panics becomes an error, so that it stops one record
// instead of the process.
func (s *strand) guarded(ctx context.Context, items []*item, careful bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			s.r.log.Error("a batch panicked", "err", err, "stack", string(debug.Stack()))
		}
	}()
	return s.process(ctx, items, careful)
}

// forget drops what the strand remembers of the batch's conversations: after an error
// it may be wrong.
func (s *strand) forget(items []*item) {
	for _, it := range items {
		s.ends.Remove(it.task.Conversation)
	}
}

// endedError is the tests' crash at a step.
type endedError struct{ cause error }

func (e *endedError) Error() string { return "ended at a step: " + e.cause.Error() }

// newItem reads a record; what is no task goes on as poison, to be parked in its turn.
func newItem(rec queue.Record) *item {
	it := &item{record: rec}
	it.task, it.poison = queue.DecodeTask(rec.Value)
	if it.poison == nil {
		it.poison = storable(&it.task)
	}
	return it
}

// age is when a record was produced; unknown times count as now.
func (it *item) age() time.Time {
	if it.record.Time.IsZero() {
		return time.Now()
	}
	return it.record.Time
}
