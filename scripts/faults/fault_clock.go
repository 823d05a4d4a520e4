package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// clockFaults are of the wall clocks of the engine's processes; the stores keep the
// machine's, MySQL's among them, by which scheduled messages go.
var clockFaults = []fault{{
	name: "F26", about: "clocks of processes jump by an hour, or step 5 s back, and return", full: 21, hold: 2 * time.Second, healed: true, engine: (*cluster).clocked,
	inject: jumpClocks,
}}

// jump is where clocks go: of each role's two processes, as far from the machine's.
type jump struct {
	about string
	to    map[string][each]time.Duration
	// times is how often they step as far again, 0: once. Together it stays within what a
	// token may be from the future.
	times int
	// again says that a worker ends in good order, which frees its node number, and begins
	// with its new clock: the times of its last IDs come once more.
	again bool
}

const (
	hour  = time.Hour
	aside = -5 * time.Second
)

// jumps come one after the other; every second time round the processes of a role change
// places.
var jumps = []jump{
	{about: "a worker an hour ahead", to: map[string][each]time.Duration{"jobs": {hour, 0}}},
	{about: "a worker an hour behind", to: map[string][each]time.Duration{"jobs": {-hour, 0}}},
	{about: "a worker that ends and begins 5 s behind", to: map[string][each]time.Duration{"jobs": {aside, 0}}, again: true},
	{about: "logic an hour ahead and 5 s behind", to: map[string][each]time.Duration{"logic": {hour, aside}}},
	{about: "connectors and api an hour ahead and 5 s behind", to: map[string][each]time.Duration{"connector": {hour, aside}, "api": {hour, aside}}},
	{about: "all 5 s back, four times", to: everywhere(aside), times: 4},
	{about: "all an hour ahead", to: everywhere(hour)},
}

func everywhere(step time.Duration) map[string][each]time.Duration {
	all := make(map[string][each]time.Duration)
	for _, r := range roles {
		all[r] = [each]time.Duration{step, step}
	}
	return all
}

// dueOnce is how many messages are due in one injection, over dueOver, the first of them
// dueAhead after the scheduling began: the clocks have jumped by then.
const (
	dueOnce  = 100
	dueOver  = 5 * time.Second
	dueAhead = 15 * time.Second
)

// between is how long clocks stay before they step again.
const between = time.Second

// jumpClocks makes the next jump. The clocks return when what is due meanwhile has come,
// and tokens and presences have been looked at.
func jumpClocks(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	n := int(c.tally.counted("jumps"))
	c.tally.count("jumps", 1)
	if n == 0 {
		c.tally.atEnd(func(_ context.Context, e *ending) error { onceEach(c.tally, e); return nil })
	}
	j, steps := jumps[n%len(jumps)], make(map[*process]time.Duration)
	for role, to := range j.to {
		for i, p := range c.of(role) {
			steps[p] = to[(i+n/len(jumps))%each]
		}
	}
	b, err := newBearer(ctx, c)
	if err != nil {
		return nil, err
	}
	a, err := newAgenda(ctx, c)
	if err != nil {
		return nil, err
	}
	first := time.Now().Add(dueAhead)
	if err := a.schedule(ctx, first, dueOnce, dueOver); err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	lost := c.leasesLost(ctx)
	if err := c.step(ctx, j, steps); err != nil {
		return nil, err
	}
	c.tally.broke(time.Now().Before(first), "%s: it took until %s after the first was due", j.about, time.Since(first))
	seen := a.watch(ctx)
	return func(ctx context.Context) error {
		defer seen.end()
		if err := b.hold(ctx, c, steps, j.about); err != nil {
			return err
		}
		if err := c.present(ctx, j.about); err != nil {
			return err
		}
		if err := pause(ctx, time.Until(first.Add(dueOver))); err != nil {
			return err
		}
		rows, err := a.came(ctx, c.tally)
		if err != nil {
			return err
		}
		c.tally.count("scheduled", float64(len(a.due)))
		for _, late := range c.tally.due(a.due, seen.dated(rows)) {
			c.tally.sample("late_s", 0, late.Seconds())
		}
		c.tally.atEnd(func(ctx context.Context, _ *ending) error { return a.unchanged(ctx, c.tally, rows) })
		c.tally.count("leases_lost", c.leasesLost(ctx)-lost)
		if err := c.clocksTo(ctx, maps.Clone(steps), 0, j.about); err != nil {
			return err
		}
		return b.hold(ctx, c, nil, j.about+", and back")
	}, nil
}

// step has the clocks go where they are to go.
func (c *cluster) step(ctx context.Context, j jump, steps map[*process]time.Duration) error {
	if j.again {
		p := c.of("jobs")[0]
		for _, q := range c.of("jobs") {
			if steps[q] != 0 {
				p = q
			}
		}
		p.terminate()
		if err := c.clocks.set(p, steps[p]); err != nil {
			return err
		}
		if err := errors.Join(p.start(), p.ready(ctx)); err != nil {
			return err
		}
	}
	for i := 1; ; i++ {
		if err := c.clocksTo(ctx, steps, i, j.about); err != nil {
			return err
		}
		if i >= j.times {
			break
		}
		if err := pause(ctx, between); err != nil {
			return err
		}
	}
	for p := range steps {
		steps[p] *= time.Duration(max(j.times, 1))
	}
	return nil
}

// clocksTo sets clocks to so many of their steps, and sees each process say so.
func (c *cluster) clocksTo(ctx context.Context, steps map[*process]time.Duration, times int, about string) error {
	for p, step := range steps {
		if err := c.clocks.set(p, time.Duration(times)*step); err != nil {
			return err
		}
	}
	for _, p := range c.procs {
		if err := c.clocks.shows(ctx, p, time.Duration(times)*steps[p]); err != nil {
			c.tally.broke(false, "%s: %v", about, err)
		}
	}
	return ctx.Err()
}

// leasesLost is how often workers have lost their node number to somebody else, or have
// given it up because an ID of it was there already.
func (c *cluster) leasesLost(ctx context.Context) (n float64) {
	for _, p := range c.of("jobs") {
		n += p.counter(ctx, `curlew_jobs_node_leases_total{event="lost"}`)
	}
	return n
}

// onceEach: no two messages of all conversations have one ID.
func onceEach(t *tally, e *ending) {
	type place struct {
		conv im.ConversationID
		seq  im.Seq
	}
	at := make(map[im.MessageID]place)
	for s, rows := range e.histories {
		for _, m := range rows {
			p := place{s.conv, m.seq}
			if other, twice := at[m.id]; twice && other != p {
				t.add("dup", "message %d is at %d of %s and at %d of %s", m.id, p.seq, p.conv, other.seq, other.conv)
			}
			at[m.id] = p
		}
	}
}

// present: who is connected is shown as online to whom they talk to.
func (c *cluster) present(ctx context.Context, about string) error {
	connected := func(u im.UserID) bool {
		d := c.load.devices[u]
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.wire != nil
	}
	for _, v := range c.load.w.convs {
		if v.group != 0 {
			continue
		}
		who := v.members[1]
		err := insistently(ctx, func() error {
			if !connected(who) {
				return nil
			}
			all, err := c.load.w.byID[v.members[0]].http(c.load.base()).Presence(ctx, who)
			if err == nil && len(all) == 1 && !all[0].Online && connected(who) {
				err = errors.New("it is shown as offline")
			}
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.tally.add("stuck", "%s: a device of %s is connected: %v", about, who, err)
		}
		c.tally.count("present", 1)
	}
	return nil
}

// watch looks all the time at what has come of an agenda: by the machine's clock, which is
// MySQL's, and not by that of whoever has stored it.
type watch struct {
	mu   sync.Mutex // guards what follows
	seen map[im.Seq]int64
	end  func()
}

const watchEvery = 50 * time.Millisecond

func (a *agenda) watch(ctx context.Context) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{seen: make(map[im.Seq]int64)}
	var watching sync.WaitGroup
	w.end = func() { cancel(); watching.Wait() }
	watching.Go(func() {
		for after := im.Seq(0); pause(ctx, watchEvery) == nil; {
			page, err := a.after(ctx, after)
			if err != nil {
				continue // it is asked again
			}
			at := time.Now().UnixMilli()
			w.mu.Lock()
			for _, m := range page.Items {
				w.seen[m.Seq], after = at, m.Seq
			}
			w.mu.Unlock()
		}
	})
	return w
}

// dated are rows with the time at which they were seen first in place of their own.
func (w *watch) dated(rows []im.Message) (all []im.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range rows {
		at, there := w.seen[m.Seq]
		if !there {
			at = time.Now().UnixMilli()
		}
		m.StoredAt = at
		all = append(all, m)
	}
	return all
}
