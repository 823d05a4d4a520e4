package storage

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// Hints answers what became of a message sent a moment ago, from what Project
// left in Redis. A missing hint says nothing.
type Hints struct{ redis *Redis }

// NewHints makes Hints.
func NewHints(r *Redis) *Hints { return &Hints{redis: r} }

// Probe looks one message up, in a round trip shared with concurrent callers.
// Redis.Run must be running.
func (h *Hints) Probe(ctx context.Context, k im.SendKey) (im.StoredRef, bool, error) {
	cmd := redis.NewStringCmd(ctx, "get", sentKey(k))
	if err := h.redis.gather.do(ctx, cmd); err != nil {
		if errors.Is(err, redis.Nil) {
			return im.StoredRef{}, false, nil
		}
		return im.StoredRef{}, false, err
	}
	ref, ok := unpackHint(cmd.Val())
	return ref, ok, nil
}
