package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/curlew-im/curlew/logic/im"
)

// scribes are what the realtime lane does with its records: each strand has one.
type scribes Pool

func (w *scribes) newWorker(p *partition) worker { return newScribe(p) }

func (w *scribes) attend(context.Context, *partition) {}

func (w *scribes) accepts(t *im.Task) error {
	if err := belongs(t, im.LaneRealtime); err != nil {
		return err
	}
	return storable(t)
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

// scribe stores, projects and pushes what its strand is given. What it remembers lives as
// long as the strand, so a rebalance forgets everything.
type scribe struct {
	p *partition
	r *Pool

	ends    *simplelru.LRU[im.ConversationID, ending]
	cursors *simplelru.LRU[memberKey, im.CursorMove] // as far as told; absent: unknown

	// channels are of conversations in ends, and go with them: who reads an end anew must
	// read the roster after it.
	channels      *simplelru.LRU[im.ConversationID, *channel]
	held, maxHeld int // their cost together
	size          int // of ends
}

func newScribe(p *partition) *scribe {
	set := p.r.set()
	size := max(p.r.cfg.Lasts/set.Strands, 2*set.Batch)
	s := &scribe{p: p, r: p.r, size: size, maxHeld: p.r.cfg.RosterMembers / set.Strands}
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

// handle stores or parks each record of a batch.
func (s *scribe) handle(ctx context.Context, items []*item) error {
	if need := 2 * len(items); need > s.size { // a batch must fit, whatever the operator has made of it
		s.size = need
		s.ends.Resize(need)
		s.cursors.Resize(2 * need)
		s.channels.Resize(need)
	}
	return s.attempt(ctx, items, false)
}

// attempt works on a batch until each of its records is stored or parked. It fails only
// where the assignment has ended.
func (s *scribe) attempt(ctx context.Context, items []*item, split bool) error {
	attempts := s.r.set().Attempts
	if split && len(items) > 1 {
		attempts = min(attempts, 2) // the whole was tried often; one alone is again, before it is given up
	}
	m := trusting
	if split || items[0].record.Offset < s.p.src.Horizon() {
		m = wary
	}
	for try := 1; ; try++ {
		err := s.guarded(ctx, items, m)
		if err == nil {
			return nil
		}
		if s.forget(items); ends(ctx, err) {
			return err
		}
		if errors.Is(err, im.ErrLocked) {
			return s.apart(ctx, items, err)
		}
		if !errors.Is(err, im.ErrUnstorable) && try < attempts {
			m = wary
			if err := s.r.backoff(ctx, "batch", try-1, err); err != nil {
				return err
			}
			continue
		}
		if len(items) == 1 {
			return s.giveUp(ctx, items[0], try, err)
		}
		s.r.log.Warn("splitting a batch to find what cannot be stored", "partition", s.p.src.Place().Partition, "records", len(items), "err", err)
		half := len(items) / 2
		if err := s.attempt(ctx, items[:half], true); err != nil {
			return err
		}
		return s.attempt(ctx, items[half:], true)
	}
}

// guarded is process; a bug that panics becomes an error, so that it stops one record
// instead of the process.
func (s *scribe) guarded(ctx context.Context, items []*item, m mood) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			s.r.log.Error("a batch panicked", "err", err, "stack", string(debug.Stack()))
		}
	}()
	return s.process(ctx, items, m)
}

// apart goes through the conversations of a batch one by one, since somebody holds rows of
// one of them: the others must not wait for as long as that lasts. Those that are held are
// waited for at last.
func (s *scribe) apart(ctx context.Context, items []*item, cause error) error {
	s.r.log.Warn("rows are locked; the conversations of a batch are stored one by one", "partition", s.p.src.Place().Partition,
		"records", len(items), "err", cause)
	var order []im.ConversationID
	of := make(map[im.ConversationID][]*item)
	for _, it := range items {
		c := it.task.Conversation
		if of[c] == nil {
			order = append(order, c)
		}
		of[c] = append(of[c], it)
	}
	var last []im.ConversationID
	for _, c := range order {
		err := s.guarded(ctx, of[c], brisk)
		if err == nil {
			continue
		}
		if s.forget(of[c]); ends(ctx, err) {
			return err
		}
		last = append(last, c)
	}
	for _, c := range last {
		if err := s.attempt(ctx, of[c], true); err != nil {
			return err
		}
	}
	return nil
}

// ends says that an assignment is over, rather than that something failed.
func ends(ctx context.Context, err error) bool {
	var ended *endedError
	return ctx.Err() != nil || errors.As(err, &ended)
}

// forget drops what the strand remembers of the batch's conversations: after an error
// it may be wrong.
func (s *scribe) forget(items []*item) {
	for _, it := range items {
		s.ends.Remove(it.task.Conversation)
	}
}

// endedError is the tests' crash at a step.
type endedError struct{ cause error }

func (e *endedError) Error() string { return "ended at a step: " + e.cause.Error() }
