package jobs

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/logic/im"
)

// fireAll does a batch of records of the lane, some conversations at once.
func (d *delay) fireAll(ctx context.Context, tasks []im.Task) error {
	last := make(map[im.ConversationID]im.FireTask, len(tasks))
	for i := range tasks {
		raiseFire(last, tasks[i].Conversation, *tasks[i].Fire)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fireConversations)
	for c, to := range last {
		g.Go(func() error { return d.fire(ctx, c, to) })
	}
	return g.Wait()
}

// raiseFire notes how far a conversation is to be fired.
func raiseFire(last map[im.ConversationID]im.FireTask, c im.ConversationID, to im.FireTask) {
	if before := last[c]; to.DueAt > before.DueAt || to.DueAt == before.DueAt && to.Schedule > before.Schedule {
		last[c] = to
	}
}

func (d *delay) attempts() int { return d.r.set().Attempts }

func (d *delay) backoff(ctx context.Context, op string, try int, cause error) error {
	return d.r.backoff(ctx, op, try, cause)
}
