package main

import (
	"context"
	"errors"
	"time"
)

// mysqlFaults and kafkaFaults take away the record and the log; recovery counts from when
// the store answers again.
var mysqlFaults = []fault{
	{name: "F12", about: "MySQL is killed", full: 10, hold: 2 * time.Second, healed: true, membership: true, inject: crashStore("mysql")},
}

var kafkaFaults = []fault{
	{name: "F15", about: "Kafka is killed", full: 10, hold: time.Second, healed: true, inject: crashStore("kafka")},
	{name: "F16", about: "Kafka stands still", full: 10, hold: 8 * time.Second, healed: true, inject: freezeStore("kafka")},
}

// everything is all processes and all stores at once.
var everything = []fault{
	{name: "F28", about: "every process and every store is killed", full: 10, quick: 1, hold: time.Second, healed: true, membership: true, inject: crashAll},
}

func crashStore(name string) func(context.Context, *cluster) (func(context.Context) error, error) {
	return func(ctx context.Context, c *cluster) (func(context.Context) error, error) {
		if err := c.stores.kill(ctx, name); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return c.stores.up(ctx, name) }, nil
	}
}

func freezeStore(name string) func(context.Context, *cluster) (func(context.Context) error, error) {
	return func(ctx context.Context, c *cluster) (func(context.Context) error, error) {
		if err := c.stores.pause(ctx, name); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return c.stores.resume(ctx, name) }, nil
	}
}

func crashAll(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	for _, p := range c.procs {
		p.kill()
	}
	var err error
	for _, name := range []string{"redis", "mysql", "kafka"} {
		err = errors.Join(err, c.stores.kill(ctx, name))
	}
	return func(ctx context.Context) error {
		if err := c.stores.up(ctx); err != nil {
			return err
		}
		for _, p := range c.procs {
			if err := p.start(); err != nil {
				return err
			}
		}
		return nil
	}, err
}
