package main

import (
	"context"
	"time"
)

// crashes are of the engine's own processes; recovery counts from the crash.
var crashes = []fault{
	{name: "F1", about: "a worker is killed", full: 30, quick: 1, hold: 2 * time.Second, inject: killOne("jobs")},
	{name: "F2", about: "a worker stands still, is replaced, and goes on", full: 20, hold: 20 * time.Second, inject: freezeOne("jobs")},
	{name: "F3", about: "a connector is killed", full: 20, hold: 2 * time.Second, inject: killOne("connector")},
	{name: "F4", about: "logic or api is killed", full: 30, hold: 2 * time.Second, inject: killOne("logic", "api")},
}

// killOne kills one process of any of the roles; it starts again.
func killOne(roles ...string) func(context.Context, *cluster) (func(context.Context) error, error) {
	return func(_ context.Context, c *cluster) (func(context.Context) error, error) {
		p := c.any(roles...)
		p.kill()
		return func(context.Context) error { return p.start() }, nil
	}
}

// freezeOne lets one process stand still, and go on.
func freezeOne(roles ...string) func(context.Context, *cluster) (func(context.Context) error, error) {
	return func(_ context.Context, c *cluster) (func(context.Context) error, error) {
		p := c.any(roles...)
		p.pause()
		return func(context.Context) error { p.resume(); return nil }, nil
	}
}
