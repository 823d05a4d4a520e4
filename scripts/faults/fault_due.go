package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// dueFaults are of scheduled messages, between two users who take no part in the load.
var dueFaults = []fault{
	{name: "F27", about: "the scheduler's processes are killed while messages are due", full: 10, hold: time.Second, inject: killDue},
}

// scheduledOnce is how many messages are due in one injection, over scheduledOver.
const (
	scheduledOnce = 300
	scheduledOver = 6 * time.Second
)

// killDue schedules messages, kills each worker in turn while they are due, and then holds
// what has come against what was asked: each once, none early, in the order of their
// times.
func killDue(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	ids, err := upsert(ctx, c.backend(), "due-"+random()[:8], 2)
	if err != nil {
		return nil, err
	}
	t, err := c.backend().IssueTokens(ctx, protocol.IssueTokens{UserID: &ids[0], Device: "due"})
	if err != nil {
		return nil, err
	}
	author := (&person{id: ids[0], token: t.AccessToken}).http(c.bases()[0])
	first := time.Now().Add(3 * time.Second)
	due := make([]int64, scheduledOnce)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range due {
		due[i] = first.Add(time.Duration(i) * scheduledOver / scheduledOnce).UnixMilli()
		g.Go(func() error {
			_, err := author.Send(gctx, protocol.Send{
				ClientMsgID: im.ClientMsgID(fmt.Sprintf("due-%06d", i)), To: client.ToUser(ids[1]), DeliverAt: due[i],
				Content: text(fmt.Sprint(i)),
			}, false)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	workers := c.of("jobs")
	return func(ctx context.Context) error {
		for time.Now().Before(first.Add(scheduledOver)) {
			for _, p := range workers {
				p.kill()
				if err := errors.Join(pause(ctx, 500*time.Millisecond), p.start(), pause(ctx, 1500*time.Millisecond)); err != nil {
					return err
				}
			}
		}
		return onceInTime(ctx, author, im.DirectConversation(ids[0], ids[1]), due)
	}, nil
}

// onceInTime waits until all have come, and says what is wrong with how they came.
func onceInTime(ctx context.Context, h *client.HTTP, conv im.ConversationID, due []int64) error {
	ctx, cancel := context.WithTimeout(ctx, recovering)
	defer cancel()
	var got []im.Message
	for len(got) < len(due) {
		var after im.Seq
		if len(got) > 0 {
			after = got[len(got)-1].Seq
		}
		page, err := h.History(ctx, protocol.History{ConversationID: conv, AfterSeq: &after, Limit: 100})
		if err == nil {
			got = append(got, page.Items...)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("scheduled: %d of %d have come: %w", len(got), len(due), err)
		}
	}
	for i, m := range got {
		var body struct{ Text string }
		if err := json.Unmarshal(m.Content, &body); err != nil {
			return err
		}
		switch {
		case i >= len(due) || body.Text != fmt.Sprint(i):
			return fmt.Errorf("scheduled: %q is message %d: lost, doubled or out of order", body.Text, i)
		case m.StoredAt < due[i]:
			return fmt.Errorf("scheduled: message %d came %d ms early", i, due[i]-m.StoredAt)
		}
	}
	return nil
}
