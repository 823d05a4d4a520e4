package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// failoverFaults are of Redis's replication.
var failoverFaults = []fault{
	{name: "F11", about: "Redis fails over to a replica that lacks the last writes", full: 20, hold: 2 * time.Second, healed: true, linked: true, inject: failOver},
}

const (
	// suffix is the least of Redis's replication stream, in bytes, that must be lost: far
	// above the pings in it.
	suffix = 1000
	// generationKey holds, as token, what voids all seals when it changes (storage/keys.go).
	generationKey = "im:gen"
	// movingOver is within which the roles find the new primary, one after the other, while
	// the old still takes the writes of those that have not.
	movingOver = 500 * time.Millisecond
)

// failOver has a replica lose its primary, and promotes it when more has been written. The
// roles go over to it one by one; then the old primary is killed.
func failOver(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	s := c.stores
	r, err := s.replicate(ctx)
	if err != nil {
		return nil, err
	}
	s.replica = r
	r.lose()
	return func(ctx context.Context) error {
		before, err := r.redis.HGet(ctx, generationKey, "token").Result()
		if err != nil {
			return fmt.Errorf("generation: %w", err)
		}
		if err := r.redis.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
			return err
		}
		reached, err := offset(ctx, r.redis)
		if err != nil {
			return err
		}
		for _, i := range rand.Perm(len(roles)) {
			c.link(roles[i], "redis").retarget(r.addr)
			if err := pause(ctx, rand.N(movingOver/time.Duration(len(roles)))); err != nil {
				return err
			}
		}
		written, err := offset(ctx, s.redis)
		if err != nil {
			return err
		}
		if err := s.promote(ctx, r); err != nil {
			return err
		}
		lost := written - reached
		c.tally.broke(lost >= suffix || c.tally.last(), "only %d bytes of what was written to Redis were lost", lost)
		c.tally.sample("suffix_bytes", 0, float64(lost))
		return c.voided(ctx, before)
	}, nil
}

// voided waits until the generation is another than the one that came over by replication:
// what was sealed under that is trusted by nobody any more.
func (c *cluster) voided(ctx context.Context, before string) error {
	began := time.Now()
	err := insistently(ctx, func() error {
		now, err := c.stores.redis.HGet(ctx, generationKey, "token").Result()
		if err == nil && now == before {
			err = errors.New("the same generation")
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		c.tally.add("stuck", "after a failover of Redis the old seals stand: %v", err)
		return nil
	}
	c.tally.sample("voided_s", 0, time.Since(began).Seconds())
	return err
}

// offset is how far a Redis's replication stream has come.
func offset(ctx context.Context, r *redis.Client) (int64, error) {
	n := int64(-1)
	info, err := r.InfoMap(ctx, "replication").Result()
	if err == nil {
		_, err = fmt.Sscan(info["Replication"]["master_repl_offset"], &n)
	}
	return n, err
}
