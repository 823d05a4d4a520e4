package main

import (
	"context"
	"errors"
	"time"
)

// pointFaults are crashes between two effects; recovery counts from the last of a round.
var pointFaults = []fault{{
	name: "F5", about: "a process ends right after each effect, before the next", full: 50, hold: time.Second, engine: (*cluster).pointed,
	inject: sweepPoints,
}}

// sweep is every point, and whose it is.
var sweep = []struct{ role, point string }{
	{"logic", "produce"}, {"jobs", "insert"}, {"jobs", "moves"}, {"jobs", "project"}, {"jobs", "publish"}, {"jobs", "commit"},
}

// reaching bounds the wait until a process passes a point: a worker may first have to be
// given partitions.
const reaching = time.Minute

// sweepPoints has a process end at each point in turn, the two of a role by turns, and
// starts it again.
func sweepPoints(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	round := int(c.tally.counted("rounds"))
	c.tally.count("rounds", 1)
	for i, s := range sweep {
		p := c.of(s.role)[(round+i)%each]
		if err := p.ready(ctx); err != nil {
			return nil, err
		}
		gone := p.ends()
		if err := c.points.arm(p, s.point); err != nil {
			return nil, err
		}
		timer := time.NewTimer(reaching)
		select {
		case <-gone:
		case <-timer.C:
			p.kill()
		case <-ctx.Done():
		}
		timer.Stop()
		passed, err := c.points.disarm(p)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		if c.tally.broke(passed, "%s did not end after %s, within %s", p.name, s.point, reaching); passed {
			c.tally.count("after_"+s.point, 1)
		}
		if err := p.start(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
