package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/segmentio/kafka-go"
)

func TestAway_IsABrokerThatDidNotAnswer(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "dial", Err: errors.New("connection refused")}, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF,
		kafka.RequestTimedOut, kafka.BrokerNotAvailable, kafka.NotController,
	} {
		if !Away(fmt.Errorf("read topics: %w", err)) {
			t.Errorf("%v is an answer", err)
		}
	}
	for _, err := range []error{
		nil, errors.New("topic im.realtime has 4 partitions"), context.Canceled,
		kafka.UnknownTopicOrPartition, kafka.TopicAuthorizationFailed, kafka.LeaderNotAvailable,
	} {
		if err == nil && Away(nil) || err != nil && Away(fmt.Errorf("topic: %w", err)) {
			t.Errorf("%v is no answer", err)
		}
	}
}
