package main

import (
	"context"
	"fmt"
	"time"
)

// packetFaults are of the network itself, both processes of a role at once.
var packetFaults = []fault{
	{name: "F21n", about: "packets between a role and a store, or logic, are dropped or reset, both ways or one", full: len(pairs) * len(ways), hold: 5 * time.Second,
		healed: true, membership: true, filtered: true, able: canFilter, inject: partPackets},
}

// pairs are whoever talks to whom.
var pairs = [][2]string{
	{"connector", "redis"}, {"jobs", "redis"}, {"logic", "redis"}, {"api", "redis"},
	{"jobs", "mysql"}, {"logic", "mysql"}, {"api", "mysql"},
	{"jobs", "kafka"}, {"logic", "kafka"}, {"api", "kafka"},
	{"connector", "logic"},
}

// ways in which two lose each other.
var ways = []struct {
	name string
	direction
	reject bool
}{
	{"drop", direction{out: true, in: true}, false},
	{"reset", direction{out: true, in: true}, true},
	{"drop_out", direction{out: true}, false},
	{"drop_in", direction{in: true}, false},
	{"reset_out", direction{out: true}, true},
	{"reset_in", direction{in: true}, true},
}

// partPackets parts the next pair in the next way: as many injections as there are pairs
// have each pair once, and all of them each pair in each way.
func partPackets(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	n := int(c.tally.counted("parted"))
	c.tally.count("parted", 1)
	pair, way := pairs[n%len(pairs)], ways[(n+n/len(pairs))%len(ways)]
	role, other := pair[0], pair[1]
	if err := c.packets.take(ctx, c, role, other, way.direction, way.reject); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		packets, err := c.packets.taken(ctx)
		if err != nil {
			return err
		}
		c.tally.broke(packets > 0 || c.tally.last(), "%s: no packet between %s and %s was taken out", way.name, role, other)
		c.tally.count("packets", float64(packets))
		c.tally.recovering(fmt.Sprintf("recover_s[%s-%s:%s]", role, other, way.name))
		return c.packets.give(ctx)
	}, nil
}
