package main

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterFaults take one node of a cluster away; they need -cluster, and no other fault
// but the control runs there.
var clusterFaults = []fault{
	{name: "F33", about: "a Redis master of three is killed and starts empty, or with what its log of writes had", full: 20, quick: 2, hold: time.Second, healed: true, clustered: true, inject: crashMaster},
	{name: "F34", about: "a Redis master of three stands still", full: 10, hold: 8 * time.Second, healed: true, clustered: true, inject: freezeMember("redis")},
	{name: "F35", about: "a Kafka broker of three is killed", full: 10, quick: 2, hold: 5 * time.Second, clustered: true, inject: crashBroker},
	{name: "F36", about: "a Kafka broker of three stands still", full: 10, hold: 8 * time.Second, clustered: true, inject: freezeMember("kafka")},
}

// oneOf is one node of a cluster, any of the three.
func oneOf(kind string) string { return kind + "-" + strconv.Itoa(1+rand.IntN(3)) }

func crashMaster(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	keep := "no"
	if rand.IntN(2) == 0 {
		keep = "yes"
		err := c.stores.masters.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			return c.ConfigSet(ctx, "appendonly", "yes").Err()
		})
		if err != nil {
			return nil, err
		}
		if err := pause(ctx, time.Second); err != nil { // the files are written
			return nil, err
		}
	}
	name := oneOf("redis")
	if err := c.stores.kill(ctx, name); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.stores.logged(ctx, name, keep) }, nil
}

// crashBroker counts recovery from the death: the other two go on.
func crashBroker(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	name := oneOf("kafka")
	if err := c.stores.kill(ctx, name); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.stores.up(ctx, name) }, nil
}

func freezeMember(kind string) func(context.Context, *cluster) (func(context.Context) error, error) {
	return func(ctx context.Context, c *cluster) (func(context.Context) error, error) {
		return freezeStore(oneOf(kind))(ctx, c)
	}
}
