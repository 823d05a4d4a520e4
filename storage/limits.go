package storage

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Limits are token buckets in Redis, shared by all nodes.
type Limits struct{ redis *Redis }

// NewLimits makes Limits.
func NewLimits(r *Redis) *Limits { return &Limits{redis: r} }

// Take takes up to n tokens of the bucket that refills at rate per second up to
// burst, in a round trip shared with concurrent callers. It grants 0 with the
// time until one is there. im.ErrCache while Redis is away: the caller decides
// whether to let through. Redis.Run must be running.
func (l *Limits) Take(ctx context.Context, bucket string, n int, rate float64, burst int) (int, time.Duration, error) {
	if n < 1 || rate <= 0 || burst < 1 {
		return 0, 0, fmt.Errorf("bucket %s: %d tokens at %g/s up to %d", bucket, n, rate, burst)
	}
	cmd := eval(ctx, limitScript, []string{limitKey(bucket)},
		strconv.Itoa(n), strconv.FormatFloat(1e6/rate, 'f', -1, 64), strconv.Itoa(burst))
	if err := l.redis.gather.do(ctx, cmd); err != nil {
		return 0, 0, fmt.Errorf("take from bucket: %w", err)
	}
	reply, err := cmd.Int64Slice()
	if err != nil || len(reply) != 2 {
		return 0, 0, fmt.Errorf("take from bucket: reply %v: %w", cmd.Val(), cacheError(err))
	}
	return int(reply[0]), time.Duration(reply[1]) * time.Microsecond, nil
}
