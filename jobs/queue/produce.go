package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	produceAPI "github.com/segmentio/kafka-go/protocol/produce"

	"github.com/curlew-im/curlew/logic/im"
)

// send makes one attempt for batches whose partitions have one leader, in one request
// (kafka.Client.Produce is this for a single partition), and answers those whose end
// is known or whose budget is spent. The others are returned, to be sent again.
func (p *Producer) send(batches []*batch) (left []*batch) {
	deadline := time.Now().Add(p.c.cfg.ProduceAttempt)
	for _, b := range batches {
		if b.deadline.Before(deadline) {
			deadline = b.deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()

	start, written := time.Now(), p.c.written.now()
	results, err := p.c.produce(ctx, p.topic, batches, time.Until(deadline))
	p.c.m.produceTime.WithLabelValues(string(p.lane)).Observe(time.Since(start).Seconds())
	silent := err != nil && p.c.written.now() == written
	p.c.m.batchRecords.WithLabelValues(string(p.lane)).Observe(float64(recordsIn(batches)))

	for _, b := range batches {
		cause := err
		if cause == nil {
			cause = results[b.partition]
		}
		if cause == nil {
			p.finish(b, nil)
			continue
		}
		p.c.m.errors.WithLabelValues(string(p.lane), "produce").Inc()
		unwritten, final := classify(cause)
		b.maybe = b.maybe || !unwritten && !silent
		switch {
		case !final && time.Now().Before(b.deadline):
			left = append(left, b)
		case b.maybe:
			p.log.Warn("produce: outcome unknown", "partition", b.partition, "records", len(b.items), "err", cause)
			p.finish(b, fmt.Errorf("%w: %w", im.ErrUnknownOutcome, cause))
		default:
			p.log.Warn("produce: refused", "partition", b.partition, "records", len(b.items), "err", cause)
			p.finish(b, fmt.Errorf("%w: %w", im.ErrQueue, cause))
		}
	}
	return left
}

// produce is one request with acks=all. The error is of the whole request; results
// has one per partition, nil where the log has the batch.
func (c *Cluster) produce(ctx context.Context, topic string, batches []*batch, patience time.Duration) (map[int]error, error) {
	req := &produceAPI.Request{
		Acks: int16(kafka.RequireAll),
		// The broker gives up waiting for its replicas a little before we do, so that
		// its answer still reaches us.
		Timeout: int32(max(patience*9/10, time.Millisecond) / time.Millisecond),
		Topics:  []produceAPI.RequestTopic{{Topic: topic, Partitions: make([]produceAPI.RequestPartition, len(batches))}},
	}
	for i, b := range batches {
		records := make([]kafka.Record, len(b.items))
		for j := range b.items {
			it := &b.items[j]
			records[j] = kafka.Record{Time: it.at, Key: kafka.NewBytes(it.key), Value: kafka.NewBytes(it.value)}
		}
		var attributes protocol.Attributes
		if b.bytes >= c.cfg.CompressAbove {
			attributes = protocol.Attributes(kafka.Lz4) & 0x7
		}
		req.Topics[0].Partitions[i] = produceAPI.RequestPartition{
			Partition: int32(b.partition),
			RecordSet: protocol.RecordSet{Attributes: attributes, Records: kafka.NewRecordReader(records...)},
		}
	}
	msg, err := c.transport.RoundTrip(ctx, c.client.Addr, req)
	if err != nil {
		return nil, err
	}
	results := make(map[int]error, len(batches))
	for _, b := range batches {
		results[b.partition] = errNoAnswer
	}
	for _, t := range msg.(*produceAPI.Response).Topics {
		for _, part := range t.Partitions {
			results[int(part.Partition)] = nil
			if part.ErrorCode != 0 {
				results[int(part.Partition)] = kafka.Error(part.ErrorCode)
			}
		}
	}
	return results, nil
}

var errNoAnswer = errors.New("the broker's answer left the partition out")

// classify says whether an attempt surely wrote nothing, and whether another one
// would end the same way.
func classify(err error) (unwritten, final bool) {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return true, false
	}
	var routing *produceAPI.Error // no leader known: the request was not sent
	if errors.As(err, &routing) {
		return true, false
	}
	var code kafka.Error
	if !errors.As(err, &code) {
		return false, false
	}
	switch code {
	case kafka.NotLeaderForPartition, kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable,
		kafka.BrokerNotAvailable, kafka.NotEnoughReplicas, kafka.ThrottlingQuotaExceeded, kafka.FencedLeaderEpoch:
		return true, false
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed,
		kafka.InvalidMessage, kafka.InvalidTopic, kafka.PolicyViolation, kafka.InvalidRecord, kafka.InvalidRequiredAcks,
		kafka.UnsupportedVersion, kafka.UnsupportedForMessageFormat, kafka.InvalidTimestamp:
		return true, true
	}
	return false, false // among them RequestTimedOut, NotEnoughReplicasAfterAppend
}

// leaders returns who leads each partition of a topic, -1 where nobody does.
func (c *Cluster) leaders(ctx context.Context, topic string) (map[int]int, error) {
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	leaders := make(map[int]int)
	for _, t := range meta.Topics {
		if t.Name != topic {
			continue
		}
		for _, part := range t.Partitions {
			leaders[part.ID] = part.Leader.ID
			if part.Leader.Host == "" {
				leaders[part.ID] = -1
			}
		}
	}
	return leaders, nil
}
