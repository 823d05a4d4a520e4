package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// during are crashes of workers while a store keeps them from finishing: what they have
// in hand is then begun, and not done.
var during = []fault{
	{name: "F1m", about: "all workers are killed while MySQL is away", full: 10, quick: 1, hold: time.Second, healed: true, membership: true, inject: whileAway},
	{name: "F1r", about: "all workers are killed while Redis does not hear them", full: 10, hold: time.Second, healed: true, linked: true, inject: whileDeaf},
	{name: "F1l", about: "all workers are killed while rows of some conversations are locked", full: 10, hold: time.Second, healed: true, inject: whileLocked},
}

// whileAway kills MySQL, lets the workers run into that, and kills them: what they have
// taken is not stored.
func whileAway(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	if err := c.stores.kill(ctx, "mysql"); err != nil {
		return nil, err
	}
	if err := killWorkers(ctx, c); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return errors.Join(c.stores.up(ctx, "mysql"), startWorkers(c)) }, nil
}

// whileDeaf keeps what workers say from reaching Redis, for good, and kills them: what
// they have stored is not projected.
func whileDeaf(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	k := c.link("jobs", "redis")
	k.freeze()
	if err := killWorkers(ctx, c); err != nil {
		return nil, err
	}
	k.cut() // or Redis would hear it in the end
	return func(context.Context) error {
		k.heal()
		return startWorkers(c)
	}, nil
}

func killWorkers(ctx context.Context, c *cluster) error {
	if err := pause(ctx, 200*time.Millisecond+rand.N(300*time.Millisecond)); err != nil {
		return err
	}
	for _, p := range c.of("jobs") {
		p.kill()
	}
	return nil
}

func startWorkers(c *cluster) (err error) {
	for _, p := range c.of("jobs") {
		err = errors.Join(err, p.start())
	}
	return err
}

// whileLocked lets somebody else hold rows of half the conversations, so that some
// strands stand still beside others that go on, and kills the workers.
func whileLocked(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	lock, err := c.stores.lock(ctx, c.load.w.convs[:len(c.load.w.convs)/2])
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, 3*time.Second); err != nil { // cursors are written and offsets committed
		return nil, errors.Join(err, lock())
	}
	if err := killWorkers(ctx, c); err != nil {
		return nil, errors.Join(err, lock())
	}
	return func(context.Context) error { return errors.Join(lock(), startWorkers(c)) }, nil
}
