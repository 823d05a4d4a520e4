package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/logic/im"
)

// Record is one fetched record of a partition.
type Record struct {
	Offset int64
	Time   time.Time // of Produce
	Value  []byte
}

// ErrMissing says that records which should be in the log are not: retention
// outran the group, or the broker lost data. Nothing is skipped ([Q4]).
var ErrMissing = errors.New("records are missing from the log")

// Handler works on one partition for the time of one assignment. It takes records by
// Assignment.Fetch under ctx, which ends with the generation, finishes what it took
// within the rebalance timeout, commits, and returns. One that returns earlier keeps its
// partition, unhandled, until the generation ends.
type Handler func(ctx context.Context, a *Assignment)

// Consumer is one member of a lane's consumer group.
type Consumer struct {
	c      *Cluster
	lane   im.Lane
	group  string
	handle Handler
	log    *slog.Logger
}

// NewConsumer prepares a member; Run joins.
func NewConsumer(c *Cluster, lane im.Lane, handle Handler) *Consumer {
	group := c.group(lane)
	return &Consumer{c: c, lane: lane, group: group, handle: handle, log: c.log.With("lane", lane, "group", group)}
}

// Run joins the group, has each assigned partition handled, and joins again after a
// rebalance, until ctx ends; then it leaves the group, so that others need not wait
// for the session timeout, and returns when all handlers have.
func (c *Consumer) Run(ctx context.Context) error {
	cfg := &c.c.cfg
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: c.group, Brokers: cfg.Brokers, Topics: []string{c.c.Topic(c.lane)},
		Dialer:            &kafka.Dialer{ClientID: clientID(), Timeout: 3 * time.Second, DualStack: true},
		GroupBalancers:    []kafka.GroupBalancer{shares{cfg.Partitions, slices.Index(turns, c.lane)}},
		HeartbeatInterval: cfg.Heartbeat, SessionTimeout: cfg.SessionTimeout,
		RebalanceTimeout: cfg.RebalanceTimeout, JoinGroupBackoff: cfg.JoinBackoff,
		StartOffset: kafka.FirstOffset,
	})
	if err != nil {
		return fmt.Errorf("consumer group %s: %w", c.group, err)
	}
	var member string
	defer func() {
		group.Close()
		c.leave(member)
	}()
	for {
		gen, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			c.c.m.errors.WithLabelValues(string(c.lane), "join").Inc()
			c.log.Warn("join the group", "err", err)
			continue
		}
		member = gen.MemberID
		c.c.m.rebalances.WithLabelValues(string(c.lane)).Inc()
		parts := gen.Assignments[c.c.Topic(c.lane)]
		c.log.Info("partitions assigned", "generation", gen.ID, "partitions", len(parts))
		f := &fetcher{c: c.c, lane: c.lane, log: c.log}
		for _, p := range parts {
			if p.ID >= cfg.Partitions { // the group's leader is of a version that would
				c.log.Error("assigned a partition beyond queue.partitions: left alone ([Q6])", "partition", p.ID)
				continue
			}
			a := c.c.assign(c.lane, gen, p)
			f.all = append(f.all, a)
			start(ctx, gen, func(ctx context.Context) { a.run(ctx, c.handle) })
		}
		if len(f.all) > 0 { // a group may have more members than partitions
			start(ctx, gen, f.run)
		}
	}
}

// start runs f until the generation or ctx ends; when f returns, the generation ends.
// (The library's own context carries neither values nor a parent.)
func start(ctx context.Context, gen *kafka.Generation, f func(context.Context)) {
	gen.Start(func(gctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(gctx, cancel)
		defer stop()
		f(ctx)
	})
}

// leave says goodbye once more: the library does not where it was closed while the
// group rebalanced, and the others would wait for this member until their timeout.
func (c *Consumer) leave(member string) {
	if member == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Mostly the broker has forgotten the member already, and says so.
	_, _ = c.c.client.LeaveGroup(ctx, &kafka.LeaveGroupRequest{
		GroupID: c.group, Members: []kafka.LeaveGroupRequestMember{{ID: member}},
	})
}

// Place names a partition.
type Place struct {
	Topic     string
	Partition int
}

// Assignment is one partition in one generation.
type Assignment struct {
	place Place
	lane  im.Lane
	c     *Cluster
	gen   *kafka.Generation
	log   *slog.Logger
	label string
	lag   lag

	// Of the fetcher alone:
	next    int64 // offset of the next record wanted; -1: the first there is
	located bool

	horizon atomic.Int64

	mu      sync.Mutex // guards what follows
	inbox   []Record   // fetched and not handed out
	bytes   int
	missing error       // the partition stands still
	resume  *resumption // an operator lets it go on
	quit    context.CancelFunc
	arrived chan struct{}   // inbox or missing is set; capacity 1
	room    chan<- struct{} // told when the inbox was emptied
}

func (c *Cluster) assign(lane im.Lane, gen *kafka.Generation, p kafka.PartitionAssignment) *Assignment {
	return &Assignment{
		place: Place{Topic: c.Topic(lane), Partition: p.ID}, lane: lane, c: c, gen: gen, label: strconv.Itoa(p.ID),
		next: max(p.Offset, -1), arrived: make(chan struct{}, 1),
		log: c.log.With("lane", lane, "partition", p.ID, "generation", gen.ID),
	}
}

// run has the partition handled until its generation ends, or an operator lets it go on
// elsewhere: that is committed after all that the handler commits, and ends the generation.
func (a *Assignment) run(ctx context.Context, handle Handler) {
	defer a.end()
	ctx, a.quit = context.WithCancel(ctx)
	defer a.quit()
	handle(ctx, a)
	<-ctx.Done()
	a.goOn()
}

func (a *Assignment) end() {
	a.c.stops.remove(a)
	a.c.m.stopped.DeleteLabelValues(string(a.lane), a.label)
	a.lag.forget(a)
}

// Place is the partition's name.
func (a *Assignment) Place() Place { return a.place }

// Horizon is the end of the log when this assignment began. What lies below may have
// been handled before, by whoever had the partition then. It is known once Fetch has
// returned.
func (a *Assignment) Horizon() int64 { return a.horizon.Load() }

// Fetch returns the next records, at least one, in order and without holes. It waits
// until there are some or ctx ends. ErrMissing means that this partition stands still
// until an operator decides: the caller waits for the end of its context.
func (a *Assignment) Fetch(ctx context.Context) ([]Record, error) {
	for {
		a.mu.Lock()
		records, missing, room := a.inbox, a.missing, a.room
		a.inbox, a.bytes = nil, 0
		a.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case len(records) > 0:
			select {
			case room <- struct{}{}:
			default:
			}
			a.c.m.fetched.WithLabelValues(string(a.lane)).Add(float64(len(records)))
			return records, nil
		case missing != nil:
			a.c.m.stopped.WithLabelValues(string(a.lane), a.label).Set(1)
			a.log.Error("partition stopped: records are missing from the log; find out why, then say where it goes on: curlew lag resume", "err", missing)
			a.c.stops.add(a)
			return nil, missing
		}
		select {
		case <-a.arrived:
		case <-ctx.Done():
		}
	}
}

// put is the fetcher's: records for the inbox, or the end of the partition.
func (a *Assignment) put(records []Record, missing error) {
	a.mu.Lock()
	if len(a.inbox) == 0 {
		a.inbox = records
	} else {
		a.inbox = append(a.inbox, records...)
	}
	for i := range records {
		a.bytes += len(records[i].Value)
	}
	a.missing = missing
	a.mu.Unlock()
	select {
	case a.arrived <- struct{}{}:
	default:
	}
}

// appetite says whether an inbox wants more.
type appetite uint8

const (
	hasRoom appetite = iota
	isFull
	isOver // nothing more is fetched: records are missing
)

func (a *Assignment) appetite() appetite {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.missing != nil:
		return isOver
	case a.bytes >= a.c.cfg.FetchBytes:
		return isFull
	}
	return hasRoom
}

func (a *Assignment) onRoom(room chan<- struct{}) {
	a.mu.Lock()
	a.room = room
	a.mu.Unlock()
}

// Commit says that everything before next is done, for good. It speaks for the
// generation of the assignment ([Q5]); the broker refuses it once another has begun.
func (a *Assignment) Commit(next int64) error {
	err := a.gen.CommitOffsets(map[string]map[int]int64{a.place.Topic: {a.place.Partition: next}})
	if err != nil {
		a.c.m.errors.WithLabelValues(string(a.lane), "commit").Inc()
		return fmt.Errorf("commit offset %d of %s/%d: %w", next, a.place.Topic, a.place.Partition, err)
	}
	return nil
}

// Progress tells the partition's lag: next is the contiguous finished prefix, oldest
// the time of the oldest unfinished record (zero: none).
func (a *Assignment) Progress(next int64, oldest time.Time) { a.lag.show(a, next, oldest) }
