package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	busSilence = 5 * time.Second // then the channel is asked whether it lives, and given as long again
	busBackoff = 500 * time.Millisecond
)

// Bus carries push batches to nodes: one channel per node, sharded on a cluster. At most once; Redis
// cuts a subscriber that does not keep up, which lost then tells.
type Bus struct{ redis *Redis }

// NewBus makes a Bus.
func NewBus(r *Redis) *Bus { return &Bus{redis: r} }

// Publish sends each node its batch, all in one round trip.
func (b *Bus) Publish(ctx context.Context, batches map[im.NodeID][]byte) error {
	if len(batches) == 0 {
		return nil
	}
	ctx, done := b.redis.op(ctx, "publish")
	defer done()
	cmds := make([]command, 0, len(batches))
	publish := "publish"
	if b.redis.cluster != nil {
		publish = "spublish" // stays on the master that has the channel
	}
	for node, batch := range batches {
		cmds = append(cmds, redis.NewIntCmd(ctx, publish, nodeChannel(node), batch))
	}
	if err := b.redis.exec(ctx, cmds...); err != nil {
		return fmt.Errorf("publish to %d nodes: %w", len(batches), cacheError(err))
	}
	return nil
}

// Subscribe delivers the node's batches, one at a time and in order, until ctx
// ends; then it returns nil. It connects again by itself. lost is called whenever
// the channel is whole again after batches may have been missed, and before any
// that follow; not for a first subscription that succeeds at once.
func (b *Bus) Subscribe(ctx context.Context, node im.NodeID, batch func([]byte), lost func()) error {
	interrupted := false
	for {
		err := b.listen(ctx, node, batch, func() {
			if interrupted {
				b.redis.metrics.resubscribe.Inc()
				lost()
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		b.redis.log.Warn("push channel lost", "node", node, "err", err)
		interrupted = true
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(busBackoff/2 + rand.N(busBackoff)):
		}
	}
}

// listen holds one subscription until it breaks.
func (b *Bus) listen(ctx context.Context, node im.NodeID, batch func([]byte), ready func()) error {
	subscribe := b.redis.client.Subscribe
	if b.redis.cluster != nil {
		subscribe = b.redis.client.SSubscribe
	}
	sub := subscribe(ctx, nodeChannel(node))
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() }) // a read does not end with ctx
	defer func() {
		stop()
		_ = sub.Close()
	}()
	asked := false
	for {
		m, err := sub.ReceiveTimeout(ctx, busSilence)
		if err != nil {
			var ne net.Error
			if asked || !errors.As(err, &ne) || !ne.Timeout() {
				return err
			}
			if err := sub.Ping(ctx); err != nil {
				return err
			}
			asked = true
			continue
		}
		asked = false
		switch m := m.(type) {
		case *redis.Subscription:
			if m.Kind == "sunsubscribe" {
				return errors.New("the channel has moved to another master")
			}
			ready()
		case *redis.Message:
			batch([]byte(m.Payload))
		}
	}
}
