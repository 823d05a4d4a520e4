package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// Producer puts tasks on one lane. It gathers by itself: a request takes whatever is
// waiting and leaves at once, so a lone task waits for nothing; in a crowd a sender rests
// after it (rest.go), so that more share the next round trip. (The library's Writer holds a partial batch until its timer.) A partition
// is in one request at a time, which keeps its order ([Q1]).
type Producer struct {
	c     *Cluster
	lane  im.Lane
	topic string
	log   *slog.Logger

	waiting prometheus.Gauge

	mu      sync.Mutex // guards what follows
	work    sync.Cond  // something to send, or closed
	parts   []partitionQueue
	next    int // partition to look at first, so that none starves
	records int // taken and not answered
	bytes   int
	closed  bool
	leaders []int // by partition; -1 unknown
	senders sync.WaitGroup

	sweeper sync.WaitGroup
	end     func() // of the sweeper
}

// partitionQueue is what waits for one partition.
type partitionQueue struct {
	items []item
	busy  bool // in a request; the next must wait for its end
}

// item is one task on its way.
type item struct {
	key, value []byte
	at         time.Time // of Produce
	done       func(error)
}

func (i *item) size() int { return len(i.key) + len(i.value) }

// NewProducer starts to take tasks for a lane. Close ends it.
func NewProducer(c *Cluster, lane im.Lane) *Producer {
	p := &Producer{
		c: c, lane: lane, topic: c.Topic(lane), log: c.log.With("lane", lane),
		waiting: c.m.waiting.WithLabelValues(string(lane)),
		parts:   make([]partitionQueue, c.cfg.Partitions),
		leaders: make([]int, c.cfg.Partitions),
	}
	p.work.L = &p.mu
	for i := range p.leaders {
		p.leaders[i] = -1
	}
	ended := make(chan struct{})
	p.end = sync.OnceFunc(func() { close(ended) })
	p.sweeper.Go(func() { p.sweep(ended) })
	p.senders.Go(p.learnLeaders)
	for range c.cfg.ProduceInFlight {
		p.senders.Go(p.run)
	}
	return p
}

// Produce enqueues t and returns at once; done is called exactly once, from another
// goroutine, within Config.ProduceBudget ([Q2], [Q3]). It must not block: the tasks
// answered with it wait.
func (p *Producer) Produce(t im.Task, done func(error)) {
	value, err := AppendTask(nil, &t)
	if err == nil && len(value) > MaxTaskBytes {
		err = fmt.Errorf("task of %d bytes: %w", len(value), im.ErrTooLarge)
	}
	if err != nil {
		p.refuse(done, err)
		return
	}
	it := item{key: []byte(t.Conversation), value: value, at: time.Now(), done: done}
	part := Partition(t.Conversation, len(p.parts))

	p.mu.Lock()
	switch {
	case p.closed:
		err = fmt.Errorf("%w: %w", im.ErrQueue, im.ErrShuttingDown)
	case p.records >= p.c.cfg.WaitingRecords || p.bytes+it.size() > p.c.cfg.WaitingBytes:
		err = fmt.Errorf("%d records wait to be produced: %w", p.records, im.ErrOverloaded)
	}
	if err != nil {
		p.mu.Unlock()
		p.refuse(done, err)
		return
	}
	p.records++
	p.bytes += it.size()
	q := &p.parts[part]
	q.items = append(q.items, it)
	if !q.busy {
		p.work.Signal()
	}
	p.mu.Unlock()
	p.waiting.Inc()
}

// Close refuses new tasks, sends what waits and returns when everything is answered,
// which takes one budget at most. Closing twice is fine.
func (p *Producer) Close() {
	p.mu.Lock()
	p.closed = true
	p.work.Broadcast()
	p.mu.Unlock()
	p.senders.Wait()
	p.end()
	p.sweeper.Wait()
}

// patience is how long a task may wait to be handed over: the rest of its budget is for
// the broker.
func (p *Producer) patience() time.Duration { return p.c.cfg.ProduceBudget * 2 / 3 }

// sweep answers what has waited too long, also where every sender waits for a broker that
// does not answer, or the partition is in a request ([Q3]).
func (p *Producer) sweep(ended <-chan struct{}) {
	tick := time.NewTicker(p.c.cfg.ProduceBudget / 15)
	defer tick.Stop()
	for {
		var now time.Time
		select {
		case <-ended:
			return
		case now = <-tick.C:
		}
		var expired []item
		p.mu.Lock()
		for i := range p.parts {
			expired = append(expired, p.parts[i].expired(now, p.patience())...)
		}
		p.mu.Unlock()
		if len(expired) > 0 {
			p.expire(expired)
		}
	}
}

// batch is one partition's share of a request.
type batch struct {
	partition int
	items     []item
	bytes     int
	deadline  time.Time // of its oldest task
	maybe     bool      // an attempt ended without a word: the log may have it
}

// run is one sender: it takes what waits, sends it, and takes again.
func (p *Producer) run() {
	for {
		batches, expired := p.take()
		if len(expired) > 0 {
			p.expire(expired)
		}
		if batches == nil {
			if len(expired) == 0 {
				return
			}
			continue
		}
		start, records := time.Now(), recordsIn(batches)
		left := p.send(batches)
		if len(left) > 0 {
			// Their partitions are in trouble; the others need not wait for them. At
			// most one such goroutine per partition.
			p.senders.Go(func() { p.retry(left) })
		}
		restSince(start, records*p.c.cfg.ProduceInFlight)
	}
}

// recordsIn is how many records batches hold.
func recordsIn(batches []*batch) (n int) {
	for _, b := range batches {
		n += len(b.items)
	}
	return n
}

// take waits for something to send and takes the waiting tasks of all partitions
// that have the same leader. It returns nothing when the producer is closed and empty.
func (p *Producer) take() (batches []*batch, expired []item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Now()
		leader, room := 0, p.c.cfg.BatchBytes
		idle := true
		for i := range p.parts {
			n := (p.next + i) % len(p.parts)
			q := &p.parts[n]
			if q.busy || len(q.items) == 0 {
				idle = idle && !q.busy
				continue
			}
			idle = false
			if len(batches) > 0 && (p.leaders[n] != leader || leader < 0 || room <= 0) {
				p.work.Signal() // for another sender
				break
			}
			b, old := p.cut(q, n, now, room)
			expired = append(expired, old...)
			if b == nil {
				continue
			}
			leader, room = p.leaders[n], room-b.bytes
			q.busy = true
			batches = append(batches, b)
		}
		p.next++
		if len(batches) > 0 || len(expired) > 0 {
			return batches, expired
		}
		if p.closed && idle {
			p.work.Broadcast()
			return nil, nil
		}
		p.work.Wait()
	}
}

// cut takes what fits off the front of a queue, and what has waited so long that too
// little of its budget is left to hand it over.
func (p *Producer) cut(q *partitionQueue, partition int, now time.Time, room int) (b *batch, expired []item) {
	cfg := &p.c.cfg
	expired = q.expired(now, p.patience())
	if len(q.items) == 0 {
		return nil, expired
	}
	b = &batch{partition: partition, deadline: q.items[0].at.Add(cfg.ProduceBudget)}
	for _, it := range q.items {
		if len(b.items) == cfg.BatchRecords || len(b.items) > 0 && b.bytes+it.size() > room {
			break
		}
		b.items = append(b.items, it)
		b.bytes += it.size()
	}
	rest := q.items[len(b.items):]
	if len(rest) == 0 {
		rest = q.items[:0:0]
	}
	q.items = rest
	return b, expired
}

// expired takes off the front what has waited for longer than patience.
func (q *partitionQueue) expired(now time.Time, patience time.Duration) (old []item) {
	n := 0
	for n < len(q.items) && now.Sub(q.items[n].at) > patience {
		n++
	}
	old, q.items = q.items[:n:n], q.items[n:]
	return old
}

// finish frees a batch's partition and answers its tasks.
func (p *Producer) finish(b *batch, err error) {
	p.mu.Lock()
	p.records -= len(b.items)
	p.bytes -= b.bytes
	q := &p.parts[b.partition]
	q.busy = false
	if len(q.items) > 0 || p.closed {
		p.work.Signal()
	}
	p.mu.Unlock()
	p.answer(b.items, err)
}

// expire answers tasks that were never handed over.
func (p *Producer) expire(items []item) {
	p.mu.Lock()
	for i := range items {
		p.records--
		p.bytes -= items[i].size()
	}
	if p.closed {
		p.work.Broadcast()
	}
	p.mu.Unlock()
	p.answer(items, fmt.Errorf("waited too long to be handed over: %w", im.ErrQueue))
}

func (p *Producer) answer(items []item, err error) {
	p.waiting.Sub(float64(len(items)))
	p.count(err, len(items))
	for i := range items {
		items[i].done(err)
	}
}

func (p *Producer) refuse(done func(error), err error) {
	p.count(err, 1)
	go done(err)
}

func (p *Producer) count(err error, n int) {
	outcome := "accepted"
	switch {
	case err == nil:
	case errors.Is(err, im.ErrUnknownOutcome):
		outcome = "unknown"
	default:
		outcome = "refused"
	}
	p.c.m.produced.WithLabelValues(string(p.lane), outcome).Add(float64(n))
}

// retry sends batches again until each is answered or its budget is spent. Sending
// again what may be in the log already is harmless: the store knows a repeated
// client message ID, and until the answer nothing later of the partition is sent.
func (p *Producer) retry(batches []*batch) {
	pause := 10 * time.Millisecond
	for len(batches) > 0 {
		time.Sleep(pause)
		pause = min(2*pause, 250*time.Millisecond)
		p.learnLeaders()
		// One by one, since one leaderless partition fails a whole request.
		var left []*batch
		for _, b := range batches {
			left = append(left, p.send([]*batch{b})...)
		}
		batches = left
	}
}

// learnLeaders asks who leads the partitions now. The transport answers from its
// picture of the cluster, which it renews each second.
func (p *Producer) learnLeaders() {
	ctx, cancel := context.WithTimeout(context.Background(), p.c.cfg.ProduceAttempt)
	defer cancel()
	leaders, err := p.c.leaders(ctx, p.topic)
	if err != nil {
		p.c.m.errors.WithLabelValues(string(p.lane), "leaders").Inc()
		return
	}
	p.mu.Lock()
	for part, l := range leaders {
		if part >= 0 && part < len(p.leaders) {
			p.leaders[part] = l
		}
	}
	p.mu.Unlock()
}
