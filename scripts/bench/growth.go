package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Curve is what a message costs against one thing that grows, all else being equal.
type Curve struct {
	Name   string  `json:"curve"`
	Axis   string  `json:"axis"` // what x counts
	Points []Point `json:"points"`
}

// Point is one measurement of a curve.
type Point struct {
	X      int    `json:"x"`
	Result Result `json:"result"`
}

// growing is one thing that can grow: where it is measured, and how. Each point has an
// engine of its own, on empty stores.
type growing struct {
	name, axis string
	at         []int
	// settings of the engine at x; nil where it is not they that grow.
	settings func(x int, counts map[string]int, extra map[string]string)
	measure  func(b *bench, ctx context.Context, x int) (Result, error)
}

var everything = []growing{
	{name: "conversations", axis: "conversations, written in turn", at: []int{100, 1000, 10_000, 100_000, 1_000_000},
		measure: func(b *bench, ctx context.Context, n int) (Result, error) { return b.among(ctx, talkative, n, 1) }},
	{name: "users", axis: "users online, in pairs", at: []int{100, 1000, 10_000}, measure: (*bench).inPairs},
	{name: "partitions", axis: "partitions of a topic", at: []int{1, 2, 4, 8, 16, 32},
		settings: func(n int, _ map[string]int, extra map[string]string) { extra["queue.partitions"] = strconv.Itoa(n) },
		measure:  func(b *bench, ctx context.Context, _ int) (Result, error) { return b.pairs(ctx) }},
	{name: "jobs", axis: "jobs processes", at: []int{1, 2, 3, 4},
		settings: func(n int, counts map[string]int, _ map[string]string) { counts["jobs"] = n },
		measure:  func(b *bench, ctx context.Context, _ int) (Result, error) { return b.pairs(ctx) }},
	{name: "members", axis: "members of a group, all online", at: []int{2, 10, 100, 1000, 10_000},
		measure: func(b *bench, ctx context.Context, n int) (Result, error) {
			return b.group(ctx, n, max(1, deliveriesInFlight/n))
		}},
	{name: "rows", axis: "rows of the messages table", at: []int{10_000, 100_000, 1_000_000, 10_000_000},
		measure: func(b *bench, ctx context.Context, n int) (Result, error) {
			if n < longLived {
				return Result{}, fmt.Errorf("%d conversations have a row each at least", longLived)
			}
			return b.among(ctx, talkative, longLived, n/longLived)
		}},
}

const (
	talkative          = 1500            // users of conversations and rows: enough to have a million conversations
	longLived          = 10_000          // conversations over which rows are spread
	deliveriesInFlight = 400             // of members, as far as a group's size allows it
	growthWarm         = 5 * time.Second // of each point but the first
)

// grow measures the curves that are asked for: "all", or "name,name:x:x", the latter at
// these points alone.
func (b *bench) grow(ctx context.Context, wanted string, counts map[string]int, extra map[string]string) ([]Curve, error) {
	list, err := growingOf(wanted)
	if err != nil {
		return nil, err
	}
	curves := make([]Curve, 0, len(list))
	for _, g := range list {
		curves = append(curves, Curve{Name: g.name, Axis: g.axis})
		c := &curves[len(curves)-1]
		for _, x := range g.at {
			number, set := maps.Clone(counts), maps.Clone(extra)
			if g.settings != nil {
				g.settings(x, number, set)
			}
			if err := b.engine.fresh(ctx, number, set); err != nil {
				return curves, err
			}
			res, err := g.measure(b, ctx, x)
			if err != nil {
				return curves, fmt.Errorf("%s at %d: %w", g.name, x, err)
			}
			c.Points = append(c.Points, Point{x, res})
			b.warm = min(b.warm, growthWarm) // the broker has compiled itself by now
			fmt.Printf("%s %d: %.0f µs, %s\n", g.name, x, res.Costs.ServerCPU, res.Faults)
		}
		c.print(os.Stdout)
	}
	return curves, nil
}

// growingOf reads what is wanted.
func growingOf(wanted string) ([]growing, error) {
	if wanted == "all" {
		return everything, nil
	}
	var list []growing
	for part := range strings.SplitSeq(wanted, ",") {
		name, points, own := strings.Cut(part, ":")
		i := slices.IndexFunc(everything, func(g growing) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-growth: nothing called %q grows", name)
		}
		g := everything[i]
		if own {
			g.at = nil
			for p := range strings.SplitSeq(points, ":") {
				x, err := strconv.Atoi(p)
				if err != nil || x < 1 {
					return nil, fmt.Errorf("-growth: %q is no number of %s", p, name)
				}
				g.at = append(g.at, x)
			}
		}
		list = append(list, g)
	}
	return list, nil
}

// inPairs has n users online, each in one conversation.
func (b *bench) inPairs(ctx context.Context, n int) (Result, error) {
	all, err := b.people(ctx, "users", n)
	if err != nil {
		return Result{}, err
	}
	return b.talk(ctx, "users", all, threadsOfPairs(all))
}

// among has people talk in conversations that exist, each with messages in it.
func (b *bench) among(ctx context.Context, users, conversations, messages int) (Result, error) {
	if most := mostThreads(users); conversations > most {
		return Result{}, fmt.Errorf("%d users have %d conversations at most", users, most)
	}
	all, err := b.people(ctx, "among", users)
	if err != nil {
		return Result{}, err
	}
	threads := threadsAmong(all, conversations)
	if err := b.engine.stores.settle(ctx, threads, messages); err != nil {
		return Result{}, fmt.Errorf("fill: %w", err)
	}
	res, err := b.talk(ctx, "conversations", all, threads)
	res.Setting += fmt.Sprintf(", %d messages in each before", messages)
	return res, err
}
