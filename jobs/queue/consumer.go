package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

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
// within the rebalance timeout, commits, and returns. Returning before ctx has ended
// makes the group rebalance.
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
	group := c.cfg.GroupPrefix + string(lane)
	return &Consumer{c: c, lane: lane, group: group, handle: handle, log: c.log.With("lane", lane, "group", group)}
}

// Run joins the group, has each assigned partition handled, and joins again after a
// rebalance, until ctx ends; then it leaves the group, so that others need not wait
// for the session timeout, and returns when all handlers have.
func (c *Consumer) Run(ctx context.Context) error {
	cfg := &c.c.cfg
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: c.group, Brokers: cfg.Brokers, Topics: []string{c.c.Topic(c.lane)},
		Dialer:            &kafka.Dialer{ClientID: "curlew", Timeout: 3 * time.Second, DualStack: true},
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
		for _, p := range parts {
			a := c.c.assign(c.lane, gen, p)
			gen.Start(func(gctx context.Context) {
				defer a.end()
				// The library's context carries neither values nor a cause.
				hctx, cancel := context.WithCancel(ctx)
				defer cancel()
				stop := context.AfterFunc(gctx, cancel)
				defer stop()
				c.handle(hctx, a)
			})
		}
	}
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

	c       *Cluster
	gen     *kafka.Generation
	log     *slog.Logger
	label   string
	next    int64 // offset of the next record to hand out; -1: the first there is
	first   bool  // next is where the group stood, so older records may have been handed out before
	horizon int64
	lag     lag
}

func (c *Cluster) assign(lane im.Lane, gen *kafka.Generation, p kafka.PartitionAssignment) *Assignment {
	a := &Assignment{
		place: Place{Topic: c.Topic(lane), Partition: p.ID}, lane: lane,
		c: c, gen: gen, label: strconv.Itoa(p.ID), next: p.Offset, first: true,
		log: c.log.With("lane", lane, "partition", p.ID, "generation", gen.ID),
	}
	if p.Offset < 0 {
		a.next = -1
	}
	return a
}

func (a *Assignment) end() {
	a.c.m.stopped.DeleteLabelValues(string(a.lane), a.label)
	a.lag.forget(a)
}

// Place is the partition's name.
func (a *Assignment) Place() Place { return a.place }

// Horizon is the end of the log when the first records were fetched. What lies below
// may have been handled before, by whoever had the partition then.
func (a *Assignment) Horizon() int64 { return a.horizon }

// Fetch returns the next records, at least one, in order and without holes. It tries
// until ctx ends. ErrMissing means that this partition stands still until an operator
// decides: the caller waits for the end of its context.
func (a *Assignment) Fetch(ctx context.Context) ([]Record, error) {
	pause := 5 * time.Millisecond
	for {
		records, err := a.fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, ErrMissing):
			a.c.m.stopped.WithLabelValues(string(a.lane), a.label).Set(1)
			a.log.Error("partition stopped: records are missing from the log; find out why, then set the group's offset", "offset", a.next, "err", err)
			return nil, err
		case err != nil:
			a.c.m.errors.WithLabelValues(string(a.lane), "fetch").Inc()
			a.log.Warn("fetch", "offset", a.next, "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			pause = min(2*pause, 500*time.Millisecond)
		case len(records) > 0:
			a.c.m.fetched.WithLabelValues(string(a.lane)).Add(float64(len(records)))
			return records, nil
		}
	}
}

func (a *Assignment) fetch(ctx context.Context) ([]Record, error) {
	cfg := &a.c.cfg
	// Without a deadline a connection whose broker is gone would be waited for by the
	// library for ever.
	ctx, cancel := context.WithTimeout(ctx, cfg.FetchWait+5*time.Second)
	defer cancel()
	offset := a.next
	if offset < 0 {
		offset = kafka.FirstOffset
	}
	res, err := a.c.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: a.place.Topic, Partition: a.place.Partition, Offset: offset,
		MinBytes: 1, MaxBytes: int64(cfg.FetchBytes), MaxWait: cfg.FetchWait,
	})
	if err != nil {
		return nil, err
	}
	if errors.Is(res.Error, kafka.OffsetOutOfRange) {
		return nil, fmt.Errorf("offset %d is not in the log: %w", a.next, ErrMissing)
	}
	if res.Error != nil {
		return nil, res.Error
	}
	if a.first {
		a.first = false
		a.horizon = res.HighWatermark
	}
	a.lag.end.Store(res.HighWatermark)
	return a.read(res.Records)
}

// read takes the records at and after the wanted offset; the broker's batches may
// start before it.
func (a *Assignment) read(from protocol.RecordReader) ([]Record, error) {
	var records []Record
	for {
		r, err := from.ReadRecord()
		if errors.Is(err, io.EOF) || err != nil && len(records) > 0 {
			return records, nil // what could not be read is fetched again
		}
		if err != nil {
			return nil, err
		}
		value, err := readBytes(r.Value)
		if r.Key != nil {
			r.Key.Close()
		}
		switch {
		case err != nil && len(records) > 0:
			return records, nil
		case err != nil:
			return nil, err
		case a.next < 0:
		case r.Offset < a.next:
			continue
		case r.Offset > a.next:
			if len(records) > 0 {
				return records, nil // the hole is met again, alone, by the next fetch
			}
			return nil, fmt.Errorf("offset %d follows %d: %w", r.Offset, a.next-1, ErrMissing)
		}
		a.next = r.Offset + 1
		records = append(records, Record{Offset: r.Offset, Time: r.Time, Value: value})
	}
}

func readBytes(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	value := make([]byte, b.Len())
	_, err := io.ReadFull(b, value)
	return value, err
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
