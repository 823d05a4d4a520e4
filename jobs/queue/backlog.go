package queue

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// backlogEvery is how often Kafka is asked: two requests, and one more for each
	// partition that is behind.
	backlogEvery = 2 * time.Second
	// backlogKnown is for how long what was seen last stands while Kafka does not answer.
	backlogKnown = 10 * time.Second
)

// Backlog knows how far a lane's workers are behind the log, wherever they run: it asks
// Kafka alone. Its answers come from memory, and are as old as backlogEvery.
type Backlog struct {
	c    *Cluster
	lane im.Lane
	seen atomic.Pointer[backlogView]
}

// backlogView is what is known.
type backlogView struct{ parts []backlogPart }

type backlogPart struct {
	Position
	at      time.Time // of the look; zero: there was none
	read    int64     // Oldest is the time of the record here; -1: bounded, not read
	missing bool
	stopped bool // missing twice in a row: a new leader may not know its end at once
}

// NewBacklog knows nothing before Run does.
func NewBacklog(c *Cluster, lane im.Lane) *Backlog { return &Backlog{c: c, lane: lane} }

// Run looks until ctx ends.
func (b *Backlog) Run(ctx context.Context) error {
	tick := time.NewTicker(backlogEvery)
	defer tick.Stop()
	failing := false
	for {
		err := b.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			b.c.m.errors.WithLabelValues(string(b.lane), "backlog").Inc()
			if !failing {
				b.c.log.Warn("the backlog is not known", "lane", b.lane, "err", err)
			}
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks once.
func (b *Backlog) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, backlogEvery)
	defer cancel()
	now := time.Now()
	all, err := b.c.somePositions(ctx, b.lane)
	if err != nil {
		return err
	}
	v, before := &backlogView{parts: make([]backlogPart, len(all))}, b.seen.Load()
	if before == nil {
		before = &backlogView{parts: make([]backlogPart, len(all))}
	}
	var records int64
	var oldest time.Duration
	var unknown []error
	for i := range all {
		p, was := &v.parts[i], &before.parts[i]
		*p = backlogPart{Position: all[i], at: now, read: -1, missing: all[i].Missing()}
		err := p.err
		if err == nil {
			err = b.date(ctx, p, was)
		}
		if err != nil { // what was known of it stands for its time
			*p = *was
			unknown = append(unknown, err)
			continue
		}
		if p.missing && was.missing {
			p.stopped = true
			if !was.stopped {
				b.c.log.Error("records are missing from the log: what is sent there is refused until an operator resumes it",
					"lane", b.lane, "partition", i, "committed", p.Committed, "start", p.Start, "end", p.End)
			}
		}
		records += p.Records()
		if !p.Oldest.IsZero() {
			oldest = max(oldest, now.Sub(p.Oldest))
		}
	}
	b.seen.Store(v)
	b.c.m.backlogRecords.WithLabelValues(string(b.lane)).Set(float64(records))
	b.c.m.backlogAge.WithLabelValues(string(b.lane)).Set(oldest.Seconds())
	return errors.Join(unknown...)
}

// date finds the time of the oldest record that waits. What was not there at the last
// look came after it: a partition whose workers keep up is never read.
func (b *Backlog) date(ctx context.Context, p, was *backlogPart) (err error) {
	if p.Records() == 0 {
		return nil
	}
	next := max(p.Committed, p.Start)
	switch {
	case was.at.IsZero():
	case next >= was.End && p.at.Sub(was.at) < 2*backlogEvery:
		p.Oldest = was.at
		return nil
	case next == was.read: // it has not moved
		p.Oldest, p.read = was.Oldest, was.read
		return nil
	}
	p.Oldest, err = b.c.produced(ctx, b.lane, p.Partition, next)
	p.read = next
	return err
}

// Backlog is of a conversation's partition.
func (b *Backlog) Backlog(c im.ConversationID) im.Backlog {
	v := b.seen.Load()
	if v == nil {
		return im.Backlog{}
	}
	return v.of(Partition(c, len(v.parts)))
}

// Least is of the partition that is the least behind.
func (b *Backlog) Least() (least im.Backlog) {
	v := b.seen.Load()
	if v == nil {
		return im.Backlog{}
	}
	for i := range v.parts {
		l := v.of(i)
		if i == 0 {
			least = l
		}
		least.Age, least.Records = min(least.Age, l.Age), min(least.Records, l.Records)
		least.Stopped = least.Stopped && l.Stopped
	}
	return least
}

func (v *backlogView) of(partition int) im.Backlog {
	p := &v.parts[partition]
	if time.Since(p.at) > backlogKnown {
		return im.Backlog{}
	}
	l := im.Backlog{Records: p.Records(), Stopped: p.stopped}
	if !p.Oldest.IsZero() { // as it was seen: while Kafka does not answer nobody is behind it
		l.Age = max(p.at.Sub(p.Oldest), 0)
	}
	return l
}
