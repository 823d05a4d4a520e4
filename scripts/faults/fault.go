package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// fault is one way in which the world breaks, and how it is mended.
type fault struct {
	name, about string
	// inject breaks something and returns what mends it; nil: nothing is to be mended.
	inject func(context.Context, *cluster) (heal func(context.Context) error, err error)
	// hold is how long it stays broken, up to twice that.
	hold time.Duration
	// full and quick are how often it is injected in a whole and in a quick run, and once
	// more; quick 0 leaves it out there, unless it is asked for by name.
	full, quick int
	// healed says that recovery counts from the mending; else from the breaking.
	healed bool
	// linked says that it needs cluster.link.
	linked bool
	// filtered says that it needs cluster.packets.
	filtered bool
	// engine goes over to another build of it, until what it returns is called; nil: the
	// usual one.
	engine func(*cluster, context.Context) (back func(context.Context) error, err error)
	// able says why it cannot be injected on this machine; nil: it can anywhere.
	able func() error
	// pushes says that nothing is injected by which a push may be lost.
	pushes bool
	// membership says that membership cannot be looked up while it is broken, so that who
	// was removed is refused later (contract 9).
	membership bool
	// clustered says that it takes one node of a cluster of stores: -cluster.
	clustered bool
}

// order of the runs. Each subject adds its faults in a file of its own.
var faults = [][]fault{control, crashes, pointFaults, during, redisFaults, failoverFaults, mysqlFaults, recordFaults, kafkaFaults, logFaults, dueFaults, linkFaults, packetFaults, clockFaults, openFaults, herdFaults, hotFaults, everything, clusterFaults}

// control is the run without a fault: what fails there fails by itself.
var control = []fault{{
	name: "F0", about: "nothing is broken (control)", full: 20, hold: 5 * time.Second, pushes: true,
	inject: func(context.Context, *cluster) (func(context.Context) error, error) { return nil, nil },
}, {
	name: "R4", about: "devices leave and return all the time", full: 20, quick: 1, hold: 3 * time.Second, pushes: true,
	inject: comeAndGo,
}}

// comeAndGo cuts one connection after another: who returns registers before it pulls, so
// what is sent at that moment meets a session or a pull.
func comeAndGo(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	devices := slices.Collect(maps.Values(c.load.devices))
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for pause(ctx, rand.N(100*time.Millisecond)) == nil {
			devices[rand.IntN(len(devices))].leave()
		}
	})
	return func(context.Context) error {
		cancel()
		cutting.Wait()
		return nil
	}, nil
}

// plan is how a run is to be.
type plan struct {
	size       size
	quick      bool
	injections int // 0: as the fault says
	least      time.Duration
	settling   time.Duration // bounds each wait for what must come
}

// recovering bounds the wait for a recovery; what takes longer is stuck.
const recovering = 2 * time.Minute

// trial runs one fault on a cluster that is whole, and leaves it whole.
func trial(ctx context.Context, c *cluster, f fault, p plan) (res *result, err error) {
	run := f.name + "-" + random()[:6]
	if f.linked {
		if err := c.linked(ctx); err != nil {
			return nil, err
		}
	}
	if f.filtered {
		if err := c.filtered(ctx); err != nil {
			return nil, err
		}
	}
	if f.engine != nil {
		back, broken := f.engine(c, ctx)
		if broken != nil {
			return nil, broken
		}
		defer func() { err = errors.Join(err, back(ctx)) }()
	}
	c.taken()
	before := c.fences(ctx)
	w, err := gather(ctx, c, run, p.size)
	if err != nil {
		return nil, err
	}
	l := newLoad(c, w, run, p)
	c.load, c.tally = l, newTally()
	connected, disconnect := context.WithCancel(ctx)
	sending, stop := context.WithCancel(ctx)
	var online, busy sync.WaitGroup
	l.connect(connected, &online)
	busy.Go(func() { l.send(sending) })
	defer online.Wait()
	defer disconnect()
	defer busy.Wait()
	defer stop()

	res = &result{fault: f.name}
	if err := l.recovered(ctx, 1); err != nil {
		return nil, fmt.Errorf("nothing was broken yet: %w", err)
	}
	times := f.full
	if p.quick {
		times = max(f.quick, 1)
	}
	if p.injections > 0 {
		times = p.injections
	}
	var broken verdict = make(verdict)
	for res.injected < times || l.r.now() < p.least {
		since, err := c.strike(ctx, l, f)
		if err != nil {
			return nil, err
		}
		res.injected++
		if err := l.recovered(ctx, since); ctx.Err() != nil {
			return nil, ctx.Err()
		} else if err != nil {
			broken.add("stuck", "after injection %d: %v", res.injected, err)
			break
		}
		res.recoveries = append(res.recoveries, l.r.now()-since)
		c.tally.recovered(l.r.now() - since)
		if err := pause(ctx, time.Second+rand.N(2*time.Second)); err != nil {
			return nil, err
		}
	}
	// Once more where nothing comes after: what is left half done then is not covered up
	// by later messages.
	if err := c.last(ctx, f, stop); err != nil {
		return nil, err
	}
	res.injected++
	busy.Wait()
	if err := c.whole(ctx); err != nil {
		broken.add("died", "%v", err)
	}
	e, err := l.finish(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.tally.close(ctx, e); err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	disconnect()
	online.Wait()
	fence := c.fence(ctx, before)
	if f.membership {
		fence = fencedLong
	}
	res.measure(l.r)
	res.found = check(l.r, e, fence)
	for _, death := range c.taken() {
		broken.add("died", "%s", death)
	}
	if f.pushes && res.missed > 0.001 {
		broken.add("missed", "%.4f of what connected devices saw came by no push", res.missed)
	}
	res.tally = c.tally
	for class, all := range c.tally.found {
		res.found[class] = append(res.found[class], all...)
	}
	for class, all := range broken {
		res.found[class] = append(res.found[class], all...)
	}
	return res, nil
}

// strike injects once and mends, and returns when recovery counts from.
func (c *cluster) strike(ctx context.Context, l *load, f fault) (since time.Duration, err error) {
	since = l.r.now()
	heal, err := f.inject(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("%s: inject: %w", f.name, err)
	}
	if err := pause(ctx, f.hold+rand.N(f.hold+1)); err != nil {
		return 0, err
	}
	if heal != nil {
		if err := heal(ctx); err != nil {
			return 0, fmt.Errorf("%s: heal: %w", f.name, err)
		}
	}
	if f.healed {
		since = l.r.now()
	}
	return since, nil
}

// last injects while the last messages are under way.
func (c *cluster) last(ctx context.Context, f fault, stop func()) error {
	c.tally.mu.Lock()
	c.tally.ending = true
	c.tally.mu.Unlock()
	heal, err := f.inject(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: inject: %w", f.name, err)
	}
	if err := pause(ctx, rand.N(200*time.Millisecond)); err != nil {
		return err
	}
	stop()
	if err := pause(ctx, f.hold); err != nil || heal == nil {
		return err
	}
	return heal(ctx)
}

// recovered waits until in every conversation a message that was sent after since has
// been seen by somebody else.
func (l *load) recovered(ctx context.Context, since time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, recovering)
	defer cancel()
	for !l.r.through(since) {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("not in every conversation a message goes through: %w", err)
		}
	}
	return nil
}
