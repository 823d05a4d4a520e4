package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the command.
type bench struct {
	engine *engine
	run    string // names its users
	users  int
	window int
	warm   time.Duration
	span   time.Duration

	profiles string // folder of CPU profiles; none where it is empty
}

// scenarios in the order in which they run.
var scenarios = []string{"pairs", "rate", "group", "idle", "connect", "history", "sync", "replay", "memory", "scale"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "hold":
		err = holdHere(ctx, os.Stdin, os.Stdout)
	case len(os.Args) > 1 && os.Args[1] == "echo":
		err = echoHere(os.Stdin, os.Stdout)
	default:
		err = run(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bench{run: strconv.FormatInt(time.Now().UnixNano(), 36)}
	var which, counts, rates, groups, rows, lists, logs, growth, set string
	var idle, herd int
	var floor, cluster bool
	var out string
	flags.StringVar(&which, "scenarios", strings.Join(scenarios, ","), "what to run")
	flags.StringVar(&counts, "processes", "connector=2,logic=1,jobs=1,api=1", "processes of each role")
	flags.IntVar(&b.users, "users", 200, "of pairs and rate")
	flags.IntVar(&b.window, "window", 4, "messages in flight of each user in pairs")
	flags.DurationVar(&b.warm, "warm", 20*time.Second, "before what is counted: a broker that has just started spends more on compiling itself than on messages")
	flags.DurationVar(&b.span, "span", 10*time.Second, "what is counted")
	flags.StringVar(&rates, "rates", "500,1000,2000", "messages a second of rate")
	flags.StringVar(&groups, "groups", "100x4,1000x1,10000x1", "members x messages in flight of group")
	flags.IntVar(&idle, "idle", 18000, "idle connections of each connector, below the limit of descriptors")
	flags.IntVar(&herd, "connects", 8000, "connections of connect")
	flags.StringVar(&rows, "rows", "10000,1000000,10000000", "rows of history")
	flags.StringVar(&lists, "conversations", "100,1000", "conversations of sync")
	flags.StringVar(&logs, "data", "", "folder of chat logs of replay (default: the excerpt in scripts/replay)")
	flags.StringVar(&growth, "growth", "", "curves instead of scenarios: all, or some of conversations,users,partitions,jobs,members,rows, each with points of one's own as in rows:1000:2000")
	flags.BoolVar(&floor, "floor", false, "also drive the stores and sockets directly")
	flags.BoolVar(&cluster, "cluster", false, "on a Redis Cluster of three masters and three Kafka brokers")
	flags.StringVar(&set, "set", "", "settings of the engine, key=value, separated by commas")
	flags.StringVar(&b.profiles, "profiles", "", "folder for CPU profiles of the engine's processes, taken while it is measured")
	flags.StringVar(&out, "json", "", "file to which the line of JSON is appended (default: standard output)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if floor && cluster {
		return errors.New("-floor drives single stores: not with -cluster")
	}
	if cluster && slices.Contains(strings.Split(which, ","), "memory") {
		return errors.New("memory weighs single stores: not with -cluster")
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	processes, err := pairsOf(counts)
	if err != nil {
		return err
	}
	number := make(map[string]int)
	for role, n := range processes {
		if number[role], err = strconv.Atoi(n); err != nil {
			return fmt.Errorf("-processes: %q is no number", n)
		}
	}
	extra, err := pairsOf(set)
	if err != nil {
		return err
	}
	if b.profiles != "" {
		extra["admin.profiles"] = "true"
	}
	if b.engine, err = begin(ctx, root, number, extra, cluster); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.engine.end()) }()
	about := b.about(ctx)
	about.print(os.Stdout)
	var results []Result
	note := func(res Result, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", res.Scenario, err)
		}
		res.print(os.Stdout)
		results = append(results, res)
		return nil
	}
	notes := func(all []Result, err error) error {
		for _, res := range all {
			_ = note(res, nil)
		}
		return err
	}
	wanted := strings.Split(which, ",")
	var curves []Curve
	var ended error // of the curves: what was measured before it is kept
	if growth != "" {
		wanted = nil
		curves, ended = b.grow(ctx, growth, number, extra)
	}
	for _, name := range wanted {
		if !slices.Contains(scenarios, name) {
			return fmt.Errorf("-scenarios: %q is none of %v", name, scenarios)
		}
	}
	for _, name := range wanted {
		var err error
		switch name {
		case "pairs":
			err = note(b.pairs(ctx))
		case "rate":
			err = each(rates, func(n, _ int) error { return note(b.rate(ctx, n)) })
		case "group":
			err = each(groups, func(members, inFlight int) error { return note(b.group(ctx, members, inFlight)) })
		case "idle":
			for connectors := range len(b.engine.sockets) {
				if err = note(b.idle(ctx, idle, connectors+1)); err != nil {
					break
				}
			}
		case "connect":
			err = note(b.herd(ctx, herd, 64))
		case "scale":
			err = note(b.scale(ctx, number, extra))
		case "memory":
			err = note(b.memory(ctx))
		case "history":
			err = each(rows, func(n, _ int) error { return notes(b.history(ctx, n)) })
		case "sync":
			err = each(lists, func(n, _ int) error { return notes(b.syncs(ctx, n)) })
		case "replay":
			err = note(b.replay(ctx, root, logs))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var floors []Floor
	for _, batch := range floorBatches {
		if !floor {
			break
		}
		f, err := b.floor(ctx, batch)
		if err != nil {
			return err
		}
		f.print(os.Stdout)
		floors = append(floors, f)
	}
	if floor {
		compare(os.Stdout, results, floors)
	}
	w := os.Stdout
	if out != "" {
		if w, err = os.OpenFile(out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return err
		}
		defer w.Close()
	}
	if err := line(w, about, results, floors, curves); err != nil {
		return err
	}
	if ended != nil {
		return fmt.Errorf("growth: %w", ended)
	}
	for _, c := range curves {
		for _, p := range c.Points {
			results = append(results, p.Result)
		}
	}
	for _, r := range results {
		if r.Faults.any() {
			return fmt.Errorf("%s: %s", r.Scenario, r.Faults)
		}
	}
	return nil
}

// each calls f for each "n" or "nxm" of a list.
func each(list string, f func(n, m int) error) error {
	for part := range strings.SplitSeq(list, ",") {
		a, b, _ := strings.Cut(part, "x")
		n, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		m := 1
		if b != "" {
			if m, err = strconv.Atoi(b); err != nil {
				return err
			}
		}
		if err := f(n, m); err != nil {
			return err
		}
	}
	return nil
}

// pairsOf reads "a=b,c=d".
func pairsOf(list string) (map[string]string, error) {
	m := make(map[string]string)
	if list == "" {
		return m, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not key=value", part)
		}
		m[k] = v
	}
	return m, nil
}

// moduleRoot is the folder of go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
