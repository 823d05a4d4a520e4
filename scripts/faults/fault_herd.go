package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// herdFaults are of thousands who come back at once. Recovery counts from when they have:
// the first injection also assembles them.
var herdFaults = []fault{
	{name: "F29", about: "the connector that holds thousands of sockets is killed", full: 3, hold: time.Second, healed: true, inject: stampede},
}

const (
	// herdOf is how many are in one group of the herd: more than 500, so that their list is
	// merged at read.
	herdOf = 1000
	// resyncWithin is what a resync may take, in seconds.
	resyncWithin = 60
	// holding is the gauge of a connector's accepted sessions.
	holding = "curlew_connector_sessions"
)

// stampede kills the connector to which the whole herd is connected, and says something to
// all of it. They go to the other; recovery of the herd is counted for each of them, until
// they have synced and have what was said.
func stampede(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	if c.herd == nil {
		var err error
		if c.herd, err = assemble(ctx, c, c.herds, min(herdOf, c.herds), c.sockets()[:1]); err != nil {
			return nil, err
		}
		c.tally.set("sockets", float64(c.herds))
		c.tally.atEnd(func(context.Context, *ending) error {
			c.herd.leave()
			c.herd = nil
			return nil
		})
	}
	connectors := c.of("connector")
	from := int(c.tally.counted("stampedes")) % len(connectors)
	c.tally.count("stampedes", 1)
	victim := connectors[from]
	n, _ := c.herd.settled(ctx, time.Time{}, c.sockets()[from], nil)
	sessions := int(victim.counter(ctx, holding))
	c.tally.broke(n == c.herds && sessions >= n, "%s holds %d of %d of the herd, and counts %d sessions", victim.name, n, c.herds, sessions)
	c.herd.direct(c.sockets())
	q := c.stores.questions(ctx)
	killed := time.Now()
	victim.kill()
	need := make(map[im.ConversationID]im.Seq)
	for _, g := range c.herd.groups {
		at, err := c.herd.say(ctx, c, g, "stampede")
		if err != nil {
			return nil, err
		}
		need[g.id] = at
	}
	return func(ctx context.Context) error {
		n, whole := c.herd.settled(ctx, killed, "", need)
		if n < len(c.herd.all) && ctx.Err() == nil {
			c.tally.add("stuck", "%d of %d of the herd have not what was said meanwhile", len(c.herd.all)-n, len(c.herd.all))
		}
		for _, at := range whole {
			c.tally.sample("resync_s", resyncWithin, at.Sub(killed).Seconds())
		}
		peak, err := q()
		if err != nil {
			return fmt.Errorf("count MySQL's questions: %w", err)
		}
		c.tally.sample("mysql_qps_peak", 0, peak)
		return victim.start()
	}, nil
}

// questions counts what MySQL is asked until the returned function is called, which says
// how much that was in the busiest second.
func (s *stores) questions(ctx context.Context) func() (peak float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var peak float64
	var failed error
	var counting sync.WaitGroup
	counting.Go(func() {
		var before float64
		var at time.Time
		for failed == nil {
			var name string
			var now float64
			if err := s.admin.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Questions'").Scan(&name, &now); err != nil {
				if ctx.Err() == nil {
					failed = err
				}
				return
			}
			if !at.IsZero() {
				peak = max(peak, (now-before)/time.Since(at).Seconds())
			}
			before, at = now, time.Now()
			if pause(ctx, time.Second) != nil {
				return
			}
		}
	})
	return func() (float64, error) {
		cancel()
		counting.Wait()
		return peak, failed
	}
}
