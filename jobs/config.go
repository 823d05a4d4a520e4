package jobs

import (
	"fmt"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// Config sizes the worker pools. A zero field means the default.
type Config struct {
	// Realtime, Delay, Retry and Dead are the pools of the lanes, as they start.
	Realtime, Delay, Retry, Dead PoolConfig
	// WindowBytes bounds what one partition has taken and not finished (default 8 MiB),
	// beside PoolConfig.WindowRecords.
	WindowBytes int
	// Lasts bounds the conversations whose end a partition remembers (default 20,000,
	// about 200 bytes each); another costs one look into MySQL.
	Lasts int
	// MergeAbove is how many members a channel may have whose lists are written with each
	// message (default 500); a larger one is merged at read from then on, for ever. -1
	// merges every channel.
	MergeAbove int
	// RosterMembers bounds the members of channels that a partition remembers (default
	// 200,000, of 16 bytes each); another channel costs one look into MySQL.
	RosterMembers int
	// CommitEvery is the shortest time between two offset commits of a partition
	// (default 200 ms), CursorsEvery between two writes of its cursor moves (default
	// 1 s). CursorsWaiting is how many moves may wait before they are written at once
	// (default 5,000).
	CommitEvery    time.Duration
	CursorsEvery   time.Duration
	CursorsWaiting int
	// StoreTimeout bounds one call to MySQL (default 8 s: above its lock wait of 5 s),
	// CacheTimeout one call to Redis (default 1 s).
	StoreTimeout time.Duration
	CacheTimeout time.Duration
	// CacheBreak is how long Redis is left alone after it did not answer (default 1 s);
	// meanwhile a row of doubt is written instead.
	CacheBreak time.Duration
	// StallTimeout is how long a partition may stand still with work in hand before
	// this process leaves the group, so that a peer that reaches the store can take
	// over (default 30 s).
	StallTimeout time.Duration
	// DrainTimeout is how long taken work may take to finish after a stop or when a
	// rebalance begins (default 8 s; it must stay below queue.rebalance_timeout). What
	// is not finished then is done again by the next owner.
	DrainTimeout time.Duration
	// NodeLease is the time for which a node number of message IDs is leased (default
	// 30 s); it is renewed each third of it.
	NodeLease time.Duration
	// Notify is by what devices that are not connected are told of messages.
	Notify NotifyConfig
}

// WithDefaults fills the zero fields.
func (c Config) WithDefaults() Config {
	c.Realtime = c.Realtime.withDefaults(im.LaneRealtime)
	c.Delay = c.Delay.withDefaults(im.LaneDelay)
	c.Retry = c.Retry.withDefaults(im.LaneRetry)
	c.Dead = c.Dead.withDefaults(im.LaneDead)
	orElse(&c.WindowBytes, 8<<20)
	orElse(&c.Lasts, 20_000)
	orElse(&c.MergeAbove, 500)
	orElse(&c.RosterMembers, 200_000)
	orElse(&c.CommitEvery, 200*time.Millisecond)
	orElse(&c.CursorsEvery, time.Second)
	orElse(&c.CursorsWaiting, 5000)
	orElse(&c.StoreTimeout, 8*time.Second)
	orElse(&c.CacheTimeout, time.Second)
	orElse(&c.CacheBreak, time.Second)
	orElse(&c.StallTimeout, 30*time.Second)
	orElse(&c.DrainTimeout, 8*time.Second)
	orElse(&c.NodeLease, 30*time.Second)
	return c
}

// merges says whether a channel of n members is merged at read.
func (c Config) merges(n int) bool { return n > c.MergeAbove }

// Validate names the first bad field.
func (c Config) Validate() error {
	c = c.WithDefaults()
	for _, lane := range lanes {
		if err := c.pool(lane).validate(lane); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name     string
		value    int
		min, max int
	}{
		{"window_bytes", c.WindowBytes, 64 << 10, 1 << 30},
		{"lasts", c.Lasts, 64, 10_000_000},
		{"merge_above", c.MergeAbove, -1, im.MaxGroupMembers},
		{"roster_members", c.RosterMembers, 1000, 100_000_000},
		{"cursors_waiting", c.CursorsWaiting, 1, 1_000_000},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("jobs.%s: %d is not in %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	for _, f := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"commit_every", c.CommitEvery, time.Millisecond, time.Minute},
		{"cursors_every", c.CursorsEvery, time.Millisecond, time.Minute},
		{"store_timeout", c.StoreTimeout, time.Millisecond, time.Minute},
		{"cache_timeout", c.CacheTimeout, time.Millisecond, time.Minute},
		{"cache_break", c.CacheBreak, time.Millisecond, time.Minute},
		{"stall_timeout", c.StallTimeout, 10 * time.Millisecond, time.Hour},
		{"drain_timeout", c.DrainTimeout, 10 * time.Millisecond, time.Minute},
		{"node_lease", c.NodeLease, 100 * time.Millisecond, time.Hour},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("jobs.%s: %s is not in %s to %s", f.name, f.value, f.min, f.max)
		}
	}
	return c.Notify.Validate()
}
