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

// lookTimeout bounds one look at the log from outside of the group.
const lookTimeout = 5 * time.Second

// Positions asks Kafka where a lane's group stands in each partition; Oldest is not filled.
func (c *Cluster) Positions(ctx context.Context, lane im.Lane) ([]Position, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return c.positions(ctx, lane)
}

// Look reads records of a partition from an offset on, below another, as many as one
// answer holds. It moves nothing.
func (c *Cluster) Look(ctx context.Context, lane im.Lane, partition int, from, below int64) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	res, err := c.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: c.Topic(lane), Partition: partition, Offset: from, MinBytes: 1, MaxBytes: int64(c.cfg.FetchBytes), MaxWait: time.Second,
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s/%d from %d: %w", c.Topic(lane), partition, from, err)
	}
	var records []Record
	for {
		r, err := readRecord(res.Records)
		switch {
		case errors.Is(err, io.EOF) || err != nil && len(records) > 0:
			return records, nil
		case err != nil:
			return nil, fmt.Errorf("look at %s/%d from %d: %w", c.Topic(lane), partition, from, err)
		case r.Offset >= below:
			return records, nil
		case r.Offset >= from:
			records = append(records, r)
		}
	}
}
