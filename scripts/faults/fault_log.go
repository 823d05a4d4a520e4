package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// logFaults are of the log's readers, and of what they read.
var logFaults = []fault{
	{name: "F19", about: "records that can never be stored are put straight into the log", full: 20, hold: time.Second, inject: poisonLog},
	{name: "F20", about: "a worker leaves in good order and another comes, all the time", full: 20, hold: 4 * time.Second, inject: churn},
}

// poisonLog puts a few into each partition, beside everybody's messages.
func poisonLog(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	nowhere, err := queue.AppendTask(nil, &im.Task{Conversation: im.ChannelConversation(1 << 40), Send: &im.SendTask{
		Sender: im.Sender{ID: 1, Handle: "nobody"}, ClientMsgID: im.ClientMsgID("poison-" + random()), Type: im.TypeText, Content: text("x"),
	}})
	if err != nil {
		return nil, err
	}
	noise := make([]byte, 300)
	crand.Read(noise)
	poison := [][]byte{nil, noise, bytes.Repeat([]byte{1}, 60<<10), append([]byte{1}, nowhere[1:len(nowhere)/2]...), nowhere}
	client := &kafka.Client{Addr: kafka.TCP(strings.Split(c.stores.addr("kafka"), ",")...), Timeout: 10 * time.Second}
	for part := range (queue.Config{}).WithDefaults().Partitions {
		records := make([]kafka.Record, len(poison))
		for i, value := range poison {
			records[i] = kafka.Record{Time: time.Now(), Key: kafka.NewBytes([]byte("poison")), Value: kafka.NewBytes(value)}
		}
		res, err := client.Produce(ctx, &kafka.ProduceRequest{
			Topic: "im.realtime", Partition: part, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
		})
		if err == nil {
			err = errors.Join(res.Error, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("poison partition %d: %w", part, err)
		}
	}
	return nil, nil
}

func churn(_ context.Context, c *cluster) (func(context.Context) error, error) {
	p := c.any("jobs")
	p.terminate()
	return func(context.Context) error { return p.start() }, nil
}
