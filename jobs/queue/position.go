package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/logic/im"
)

// Position is where a lane's group stands in one partition.
type Position struct {
	Partition  int
	Start, End int64 // of the log: the first offset there is, and the next to be written
	Committed  int64 // the next to be done; -1 where nothing was ever committed
	// Oldest is when the record at Committed was produced; zero where nothing waits.
	Oldest time.Time
	// err says why neither Start nor End is known: mostly that nobody leads the partition.
	err error
}

// Records is how many wait.
func (p *Position) Records() int64 { return max(p.End-max(p.Committed, p.Start), 0) }

// Missing says that records are gone which were not done, or that some are done which
// the log does not have: no consumer goes on from here ([Q4]).
func (p *Position) Missing() bool {
	if p.err != nil {
		return false
	}
	return p.Committed < 0 && p.Start > 0 || p.Committed >= 0 && (p.Committed < p.Start || p.Committed > p.End)
}

// positions asks Kafka where a lane's group stands in each pinned partition, and fails
// where one of them is not known. Oldest is not filled.
func (c *Cluster) positions(ctx context.Context, lane im.Lane) ([]Position, error) {
	all, err := c.somePositions(ctx, lane)
	for i := range all {
		if all[i].err != nil {
			return nil, all[i].err
		}
	}
	return all, err
}

// somePositions is positions as far as they are known.
func (c *Cluster) somePositions(ctx context.Context, lane im.Lane) ([]Position, error) {
	topic, n := c.Topic(lane), c.cfg.Partitions
	partitions, offsets := make([]int, n), make([]kafka.OffsetRequest, 0, 2*n)
	for i := range n {
		partitions[i] = i
		offsets = append(offsets, kafka.FirstOffsetOf(i), kafka.LastOffsetOf(i))
	}
	// What is committed is asked first: the ends only grow, so it is never above them.
	committed, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: c.group(lane), Topics: map[string][]int{topic: partitions},
	})
	if err == nil {
		err = committed.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) { // nobody has joined it yet
		committed, err = &kafka.OffsetFetchResponse{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("committed offsets of %s: %w", lane, err)
	}
	log, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: offsets}})
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", topic, err)
	}
	all := make([]Position, n)
	for i := range all {
		all[i] = Position{Partition: i, Committed: -1, err: fmt.Errorf("offsets of %s/%d: not in the answer", topic, i)}
	}
	for _, p := range log.Topics[topic] {
		at := &all[p.Partition]
		if at.err = p.Error; p.Error == nil {
			at.Start, at.End = p.FirstOffset, p.LastOffset
		}
	}
	for _, p := range committed.Topics[topic] {
		at := &all[p.Partition]
		at.Committed, at.err = p.CommittedOffset, errors.Join(at.err, p.Error)
	}
	return all, nil
}

// produced is when the record at an offset, or the first after it, was produced.
func (c *Cluster) produced(ctx context.Context, lane im.Lane, partition int, offset int64) (time.Time, error) {
	res, err := c.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: c.Topic(lane), Partition: partition, Offset: offset, MinBytes: 1, MaxWait: 100 * time.Millisecond,
		MaxBytes: 1, // one batch: a broker gives the first whole, however large
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read %s/%d at %d: %w", lane, partition, offset, err)
	}
	for {
		r, err := res.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("read %s/%d at %d: %w", lane, partition, offset, err)
		}
		if r.Key != nil {
			r.Key.Close()
		}
		if r.Value != nil {
			r.Value.Close()
		}
		if r.Offset >= offset {
			return r.Time, nil
		}
	}
}

// group is the name of a lane's consumer group.
func (c *Cluster) group(lane im.Lane) string { return c.cfg.GroupPrefix + string(lane) }

// owners are the members of a lane's group, by partition, as the broker knows them.
func (c *Cluster) owners(ctx context.Context, lane im.Lane) (map[int]string, error) {
	group, topic := c.group(lane), c.Topic(lane)
	res, err := c.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return nil, fmt.Errorf("members of %s: %w", group, err)
	}
	owners := make(map[int]string)
	for _, g := range res.Groups {
		if g.Error != nil && !errors.Is(g.Error, kafka.GroupIdNotFound) {
			return nil, fmt.Errorf("members of %s: %w", group, g.Error)
		}
		for _, m := range g.Members {
			for _, t := range m.MemberAssignments.Topics {
				for _, p := range t.Partitions {
					if t.Topic == topic {
						owners[p] = m.ClientID
					}
				}
			}
		}
	}
	return owners, nil
}
