package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	fetchAPI "github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/curlew-im/curlew/logic/im"
)

// fetcher fills the inboxes of one generation's partitions, with one request for all
// that have the same leader: at a thousand records a second, a request for each
// partition brings about one record at a time.
type fetcher struct {
	c    *Cluster
	lane im.Lane
	all  []*Assignment
	log  *slog.Logger
}

// responseBytes bounds one answer for several partitions, in bytes.
const responseBytes = 8 << 20

// crowdedWait is how long the broker may hold a request in which a partition is
// missing because its inbox is full, so that it is asked for soon after there is room.
const crowdedWait = 10 * time.Millisecond

// fetchPause is the first pause after a failure; it doubles up to 500 ms.
const fetchPause = 10 * time.Millisecond

var errRegroup = errors.New("a partition has another leader")

// run fetches until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	pause := fetchPause
	for ctx.Err() == nil {
		start := time.Now()
		err := f.fetchAll(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) >= regroupAfter { // it went well for a while
			pause = fetchPause
		}
		f.c.m.errors.WithLabelValues(string(f.lane), "fetch").Inc()
		f.log.Warn("fetch", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, 500*time.Millisecond)
	}
}

// regroupAfter is how long partitions that could not be fetched wait for the next try.
const regroupAfter = time.Second

// fetchAll runs one loop for each leader until one of them fails. A partition that
// has no leader, or whose leader does not answer, is left out for regroupAfter: the
// others do not wait for it.
func (f *fetcher) fetchAll(ctx context.Context) error {
	leaders, err := f.c.leaders(ctx, f.c.Topic(f.lane))
	if err != nil {
		return err
	}
	errs := make([]error, len(f.all))
	var located sync.WaitGroup
	for i, a := range f.all {
		if l, known := leaders[a.place.Partition]; !known || l < 0 {
			errs[i] = fmt.Errorf("partition %d has no leader", a.place.Partition)
			continue
		}
		located.Go(func() { errs[i] = a.locate(ctx) })
	}
	located.Wait()
	groups := make(map[int][]*Assignment)
	for i, a := range f.all {
		if errs[i] == nil {
			l := leaders[a.place.Partition]
			groups[l] = append(groups[l], a)
		}
	}
	left := errors.Join(errs...)
	if len(groups) == 0 {
		return left
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if left != nil {
		again := time.AfterFunc(regroupAfter, func() { cancel(left) })
		defer again.Stop()
	}
	var loops sync.WaitGroup
	for _, group := range groups {
		loops.Go(func() { cancel(f.fetchGroup(ctx, group)) })
	}
	loops.Wait()
	return context.Cause(ctx)
}

// fetchGroup fetches for partitions with one leader until ctx ends or a request fails.
func (f *fetcher) fetchGroup(ctx context.Context, group []*Assignment) error {
	room := make(chan struct{}, 1)
	for _, a := range group {
		a.onRoom(room)
	}
	for ctx.Err() == nil {
		hungry, crowded := group[:0:0], false
		for _, a := range group {
			switch a.appetite() {
			case hasRoom:
				hungry = append(hungry, a)
			case isFull:
				crowded = true
			}
		}
		if len(hungry) == 0 {
			select {
			case <-room:
			case <-ctx.Done():
			}
			continue
		}
		wait := f.c.cfg.FetchWait
		if crowded {
			wait = min(wait, crowdedWait)
		}
		start := time.Now()
		records, err := f.fetch(ctx, hungry, wait)
		if err != nil {
			return err
		}
		restSince(start, records)
	}
	return ctx.Err()
}

// fetch is one request; it returns how many records it brought.
func (f *fetcher) fetch(ctx context.Context, group []*Assignment, wait time.Duration) (records int, err error) {
	// Without a deadline a connection whose broker is gone would be waited for by the
	// library for ever.
	ctx, cancel := context.WithTimeout(ctx, wait+5*time.Second)
	defer cancel()
	req := &fetchAPI.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait / time.Millisecond), MinBytes: 1, MaxBytes: responseBytes,
		SessionID: -1, SessionEpoch: -1,
		Topics: []fetchAPI.RequestTopic{{Topic: f.c.Topic(f.lane), Partitions: make([]fetchAPI.RequestPartition, len(group))}},
	}
	of := make(map[int32]*Assignment, len(group))
	for i, a := range group {
		of[int32(a.place.Partition)] = a
		req.Topics[0].Partitions[i] = fetchAPI.RequestPartition{
			Partition: int32(a.place.Partition), CurrentLeaderEpoch: -1, FetchOffset: a.next, LogStartOffset: -1,
			PartitionMaxBytes: int32(f.c.cfg.FetchBytes),
		}
	}
	msg, err := f.c.transport.RoundTrip(ctx, f.c.client.Addr, req)
	if err != nil {
		return 0, err
	}
	res := msg.(*fetchAPI.Response)
	if res.ErrorCode != 0 {
		return 0, kafka.Error(res.ErrorCode)
	}
	for i := range res.Topics {
		for j := range res.Topics[i].Partitions {
			part := &res.Topics[i].Partitions[j]
			a := of[part.Partition]
			if a == nil {
				continue
			}
			n, err := a.answered(part)
			if err != nil {
				return records, err
			}
			records += n
		}
	}
	return records, nil
}

// answered takes a partition's part of an answer, and returns how many records it
// brought. A hole ends the partition, an error the loop.
func (a *Assignment) answered(part *fetchAPI.ResponsePartition) (int, error) {
	switch code := kafka.Error(part.ErrorCode); code {
	case 0:
	case kafka.OffsetOutOfRange:
		a.put(nil, fmt.Errorf("offset %d is not in the log: %w", a.next, ErrMissing))
		return 0, nil
	case kafka.NotLeaderForPartition, kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.FencedLeaderEpoch:
		return 0, fmt.Errorf("%w: %w", errRegroup, code)
	default:
		return 0, code
	}
	a.lag.end.Store(part.HighWatermark)
	if part.RecordSet.Records == nil {
		return 0, nil
	}
	records, err := a.read(part.RecordSet.Records)
	if err != nil && !errors.Is(err, ErrMissing) {
		return 0, err
	}
	if len(records) > 0 || err != nil {
		a.put(records, err)
	}
	return len(records), nil
}

// read takes the records at and after the wanted offset; the broker's batches may
// start before it.
func (a *Assignment) read(from protocol.RecordReader) ([]Record, error) {
	var records []Record
	for {
		r, err := readRecord(from)
		switch {
		case errors.Is(err, io.EOF) || err != nil && len(records) > 0:
			return records, nil // what could not be read is fetched again
		case err != nil:
			return nil, err
		case r.Offset < a.next:
			continue
		case r.Offset > a.next && len(records) > 0:
			return records, nil // the hole is met again, alone, by the next fetch
		case r.Offset > a.next:
			return nil, fmt.Errorf("offset %d follows %d: %w", r.Offset, a.next-1, ErrMissing)
		}
		a.next = r.Offset + 1
		records = append(records, r)
	}
}

// readRecord reads the next record; io.EOF where there is none.
func readRecord(from protocol.RecordReader) (Record, error) {
	r, err := from.ReadRecord()
	if err != nil {
		return Record{}, err
	}
	value, err := readBytes(r.Value)
	if r.Key != nil {
		r.Key.Close()
	}
	return Record{Offset: r.Offset, Time: r.Time, Value: value}, err
}

func readBytes(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	value := make([]byte, b.Len())
	_, err := io.ReadFull(b, value)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // of the value, not of the records
	}
	return value, err
}

// locate finds where to begin: the first record there is, where the group has
// committed nothing yet, and the end of the log as it is now.
func (a *Assignment) locate(ctx context.Context) error {
	if a.located {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	res, err := a.c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		a.place.Topic: {kafka.FirstOffsetOf(a.place.Partition), kafka.LastOffsetOf(a.place.Partition)},
	}})
	if err != nil {
		return err
	}
	for _, p := range res.Topics[a.place.Topic] {
		if p.Error != nil {
			return p.Error
		}
		if a.next < 0 {
			if a.next = p.FirstOffset; p.FirstOffset > 0 {
				a.put(nil, fmt.Errorf("the group has committed nothing, and the log begins at %d: %w", p.FirstOffset, ErrMissing))
			}
		}
		a.horizon.Store(p.LastOffset)
		a.located = true
	}
	if !a.located {
		return fmt.Errorf("no offsets of partition %d", a.place.Partition)
	}
	return nil
}
