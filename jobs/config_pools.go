package jobs

import (
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// PoolConfig is how one lane's pool starts; im.PoolSettings has the same knobs, to be
// turned while it runs. A zero field means the lane's default.
type PoolConfig struct {
	// Size is how many strands may be at work at once in this process (realtime 16, retry
	// 16: they mostly wait for stores and for others; delay 4, dead 1: there is little).
	Size int
	// Batch is the most records a strand takes at once (realtime 500: an INSERT gains
	// nothing beyond that, FEASIBILITY.md, 3; delay 200; retry 50, whose receivers are
	// slow; dead 100).
	Batch int
	// Linger is how long a strand waits for a fuller batch (default 0: a batch is what has
	// queued up).
	Linger time.Duration
	// Strands is how many strands a partition has (realtime, delay and dead 1, retry 4:
	// its records wait for others one by one). One conversation is in one strand; more
	// strands overlap more waiting, fewer make larger batches. With 8 partitions on 2
	// cores, 1, 2 and 4 stored 40,000, 28,000 and 18,000 a second (BenchmarkPipeline); more
	// pay where a store is far away.
	Strands int
	// WindowRecords bounds what one partition has taken and not finished (realtime 4,000,
	// delay and retry 2,000, dead 1,000); beyond it no more is fetched.
	WindowRecords int
	// Attempts is how often a batch that fails for an unknown reason is tried before it is
	// split to find the culprit (default 10); retry: attempts at one delivery, before it is
	// given up (12: 9 minutes on average with the pauses below, 18 at most).
	Attempts int
	// BackoffMin and BackoffMax frame the pause between two attempts at a store that is
	// away (realtime 20 ms and 1 s; delay and dead 100 ms and 2 s); retry: between two
	// attempts at a delivery (1 s and 5 minutes).
	BackoffMin, BackoffMax time.Duration
}

// defaultPools are the lanes' own.
var defaultPools = map[im.Lane]PoolConfig{
	im.LaneRealtime: {Size: 16, Batch: 500, Strands: 1, WindowRecords: 4000, Attempts: 10, BackoffMin: 20 * time.Millisecond, BackoffMax: time.Second},
	im.LaneDelay:    {Size: 4, Batch: 200, Strands: 1, WindowRecords: 2000, Attempts: 10, BackoffMin: 100 * time.Millisecond, BackoffMax: 2 * time.Second},
	im.LaneRetry:    {Size: 16, Batch: 50, Strands: 4, WindowRecords: 2000, Attempts: 12, BackoffMin: time.Second, BackoffMax: 5 * time.Minute},
	im.LaneDead:     {Size: 1, Batch: 100, Strands: 1, WindowRecords: 1000, Attempts: 10, BackoffMin: 100 * time.Millisecond, BackoffMax: 2 * time.Second},
}

func (c PoolConfig) withDefaults(lane im.Lane) PoolConfig {
	d := defaultPools[lane]
	orElse(&c.Size, d.Size)
	orElse(&c.Batch, d.Batch)
	orElse(&c.Strands, d.Strands)
	orElse(&c.WindowRecords, d.WindowRecords)
	orElse(&c.Attempts, d.Attempts)
	orElse(&c.BackoffMin, d.BackoffMin)
	orElse(&c.BackoffMax, d.BackoffMax)
	return c
}

func (c PoolConfig) validate(lane im.Lane) error {
	var bad *im.InvalidError
	switch err := im.PoolSettings(c).Validate(); {
	case errors.As(err, &bad):
		return fmt.Errorf("jobs.%s.%s: %s", lane, bad.Field, bad.Reason)
	default:
		return err
	}
}

// pool is what c says of a lane.
func (c Config) pool(lane im.Lane) PoolConfig {
	switch lane {
	case im.LaneDelay:
		return c.Delay
	case im.LaneRetry:
		return c.Retry
	case im.LaneDead:
		return c.Dead
	}
	return c.Realtime
}

func orElse[T comparable](f *T, d T) {
	var zero T
	if *f == zero {
		*f = d
	}
}
