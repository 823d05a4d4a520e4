package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// churnHold and what recovery and the pause after it take make about 8 s of each coming
// and each going.
const churnHold = 3 * time.Second

// stalledAfter is how long a message may wait for its number before its partition counts
// as not processed: far above what it takes.
const stalledAfter = time.Second

// churned is what happens to the workers, over and over: a third comes and goes beside two
// that stay, in good order and killed, and then takes the place of one, and gives it back.
var churned = []func(third, first *process) error{
	func(third, _ *process) error { return third.start() },
	func(third, _ *process) error { third.terminate(); return nil },
	func(third, _ *process) error { return third.start() },
	func(third, _ *process) error { third.kill(); return nil },
	func(third, first *process) error { first.terminate(); return third.start() },
	func(third, first *process) error { third.kill(); return first.start() },
}

// churn is one coming or going.
func churn(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	workers := c.of("jobs")
	third := c.third
	if third == nil {
		var err error
		if third, err = c.hire(); err != nil {
			return nil, err
		}
		before := c.generations(ctx)
		c.tally.atEnd(func(ctx context.Context, e *ending) error { return c.churnEnds(ctx, e, before) })
	}
	n := int(c.tally.counted("churned"))
	c.tally.count("churned", 1)
	return nil, churned[n%len(churned)](third, workers[0])
}

// hire makes a third worker, which does not run yet.
func (c *cluster) hire() (*process, error) {
	p := &process{name: fmt.Sprint("jobs-", each+1), role: "jobs", c: c}
	var err error
	if p.admin, err = ports.Find(); err != nil {
		return nil, err
	}
	if p.log, err = os.OpenFile(filepath.Join(c.dir, p.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	c.third = p
	return p, nil
}

// generations is how often the two that stay have joined the group of realtime.
func (c *cluster) generations(ctx context.Context) map[string]float64 {
	all := make(map[string]float64)
	for _, p := range c.of("jobs") {
		all[p.name] = p.counter(ctx, `curlew_queue_generations_total{lane="realtime"}`)
	}
	return all
}

// churnEnds sends the third away and says how much of the time was processed. Of the two
// the second has never ended: it must have met as many generations as there were events.
func (c *cluster) churnEnds(ctx context.Context, e *ending, before map[string]float64) error {
	c.third.terminate()
	c.third.log.Close()
	c.third = nil
	workers := c.of("jobs")
	stayed := workers[len(workers)-1].name
	met, events := c.generations(ctx)[stayed]-before[stayed], c.tally.counted("churned")
	c.tally.set("rebalances", met)
	c.tally.broke(met >= events/2, "%g comings and goings, and %s has joined %g generations", events, stayed, met)
	all := helds(c.load.r, e)
	if len(all) == 0 {
		return nil
	}
	first := slices.MinFunc(all, func(a, b held) int { return int(a.from - b.from) }).from
	last := slices.MaxFunc(all, func(a, b held) int { return int(a.to - b.to) }).to
	c.tally.set("processing_pct", 100*processing(all, stalledAfter, last-first))
	for _, h := range all {
		c.tally.sample("held_s", 0, (h.to - h.from).Seconds())
	}
	return nil
}
