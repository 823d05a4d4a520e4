package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// stops are the assignments of this process that stand still.
type stops struct {
	mu  sync.Mutex // guards all
	all map[Place]*Assignment
}

func (s *stops) add(a *Assignment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[Place]*Assignment)
	}
	s.all[a.place] = a
}

func (s *stops) remove(a *Assignment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[a.place] == a {
		delete(s.all, a.place)
	}
}

func (s *stops) at(p Place) *Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[p]
}

// UnsoundError names what is wrong with the log; nothing of it is secret.
type UnsoundError struct{ What string }

func (e *UnsoundError) Error() string { return e.What }

// State is shown to who asks whether the process is ready.
func (e *UnsoundError) State() string { return e.What }

// Sound fails with an *UnsoundError where partitions of this process are stopped, or a
// topic has another partition count than pinned.
func (c *Cluster) Sound(context.Context) error {
	var wrong []string
	c.stops.mu.Lock()
	for p := range c.stops.all {
		wrong = append(wrong, fmt.Sprintf("%s/%d is stopped", p.Topic, p.Partition))
	}
	c.stops.mu.Unlock()
	slices.Sort(wrong)
	if m := c.miscount.Load(); m != nil {
		wrong = append(wrong, *m)
	}
	if len(wrong) == 0 {
		return nil
	}
	return &UnsoundError{What: strings.Join(wrong, ", ")}
}

// resumption is an operator's word on where a stopped partition goes on.
type resumption struct {
	at   int64
	done chan error // capacity 1
}

// Resume has a stopped partition go on at an offset of the log, or at one end of it
// (im.OffsetEarliest, im.OffsetLatest), and returns that offset. What it passes over is
// never done; what was done already changes nothing when it is done again. im.ErrConflict
// where no such partition stands still in this process: only who owns it may speak for it.
func (c *Cluster) Resume(ctx context.Context, lane im.Lane, partition int, at int64) (int64, error) {
	a := c.stops.at(Place{Topic: c.Topic(lane), Partition: partition})
	if a == nil {
		return 0, im.ErrConflict
	}
	all, err := c.positions(ctx, lane)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", im.ErrQueue, err)
	}
	p := all[partition]
	switch at {
	case im.OffsetEarliest:
		at = p.Start
	case im.OffsetLatest:
		at = p.End
	}
	if at < p.Start || at > p.End {
		return 0, im.Invalid("offset", fmt.Sprintf("must be within %d and %d, where the log begins and ends", p.Start, p.End))
	}
	r := &resumption{at: at, done: make(chan error, 1)}
	a.mu.Lock()
	taken := a.resume != nil
	if !taken {
		a.resume = r
	}
	a.mu.Unlock()
	if taken {
		return 0, im.ErrConflict
	}
	a.log.Warn("partition resumed by an operator", "committed", p.Committed, "start", p.Start, "end", p.End, "at", at)
	a.quit()
	select {
	case err := <-r.done:
		if err != nil {
			return 0, fmt.Errorf("%w: %w", im.ErrQueue, err)
		}
		return at, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: the workers do not let go: %w", im.ErrQueue, ctx.Err())
	}
}

// goOn commits what an operator has said.
func (a *Assignment) goOn() {
	a.mu.Lock()
	r := a.resume
	a.mu.Unlock()
	if r != nil {
		r.done <- a.Commit(r.at)
	}
}

// lagWait bounds Lag.
const lagWait = 4 * time.Second

// Lag is where the groups of all lanes stand in each partition, and which process owns
// it. im.ErrQueue while Kafka is away.
func (c *Cluster) Lag(ctx context.Context) ([]im.PartitionLag, error) {
	ctx, cancel := context.WithTimeout(ctx, lagWait)
	defer cancel()
	lanes := c.lanes()
	found, errs := make([][]im.PartitionLag, len(lanes)), make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() { found[i], errs[i] = c.laneLag(ctx, lane) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", im.ErrQueue, err)
	}
	return slices.Concat(found...), nil
}

func (c *Cluster) laneLag(ctx context.Context, lane im.Lane) ([]im.PartitionLag, error) {
	all, err := c.somePositions(ctx, lane)
	if err != nil {
		return nil, err
	}
	owners, err := c.owners(ctx, lane)
	if err != nil {
		return nil, err
	}
	rows, now := make([]im.PartitionLag, len(all)), time.Now()
	for i := range all {
		p := &all[i]
		row := &rows[i]
		*row = im.PartitionLag{Lane: lane, Partition: i, Start: p.Start, Committed: p.Committed, End: p.End, Records: p.Records(),
			Owner: owners[i], Missing: p.Missing(), Stopped: c.stops.at(Place{Topic: c.Topic(lane), Partition: i}) != nil}
		if row.Records == 0 {
			row.Unknown = p.err != nil
			continue
		}
		oldest, err := c.produced(ctx, lane, i, max(p.Committed, p.Start))
		row.Unknown = err != nil
		if !oldest.IsZero() {
			row.Age = max(now.Sub(oldest), 0)
		}
	}
	return rows, nil
}
