package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// redisFaults must stop no send and falsify no list.
var redisFaults = []fault{
	{name: "F6", about: "Redis is killed and starts empty, or with what its log of writes had", full: 20, hold: time.Second, healed: true, inject: crashRedis},
	{name: "F7", about: "Redis is emptied, during a rebuild too, and forgets its scripts", full: 20, quick: 1, inject: emptyRedis},
	{name: "F8", about: "Redis is full, or evicts", full: 20, hold: 3 * time.Second, healed: true, inject: fillRedis},
	{name: "F9", about: "Redis stands still", full: 10, hold: 15 * time.Second, healed: true, inject: freezeStore("redis")},
	{name: "F10", about: "all subscriptions to Redis are cut", full: 20, inject: cutSubscribers},
}

// crashRedis kills Redis; every other time it comes back with what an append-only file
// kept, which is nearly all: the harder case.
func crashRedis(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	keep := "no"
	if rand.IntN(2) == 0 {
		keep = "yes"
		if err := c.stores.redis.ConfigSet(ctx, "appendonly", "yes").Err(); err != nil {
			return nil, err
		}
		if err := pause(ctx, time.Second); err != nil { // the file is written
			return nil, err
		}
	}
	if err := c.stores.kill(ctx, "redis"); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.stores.logged(ctx, "redis", keep) }, nil
}

func emptyRedis(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	if err := c.stores.redis.FlushAll(ctx).Err(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		for range rand.IntN(4) { // while everybody rebuilds
			if err := pause(ctx, rand.N(300*time.Millisecond)); err != nil {
				return err
			}
			if err := c.stores.redis.FlushAll(ctx).Err(); err != nil {
				return err
			}
		}
		return c.stores.redis.ScriptFlush(ctx).Err()
	}, nil
}

// fillRedis leaves no memory for a write; every other time what is there makes room.
func fillRedis(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	r := c.stores.redis
	policy := "noeviction"
	if rand.IntN(2) == 0 {
		policy = "allkeys-lru"
	}
	if err := r.ConfigSet(ctx, "maxmemory-policy", policy).Err(); err != nil {
		return nil, err
	}
	if err := r.ConfigSet(ctx, "maxmemory", "1mb").Err(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := r.ConfigSet(ctx, "maxmemory", redisMemory).Err(); err != nil {
			return err
		}
		return r.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err()
	}, nil
}

func cutSubscribers(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	return nil, c.stores.redis.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
}
