package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type flags struct {
	run        string
	quick      bool
	list       bool
	teeth      bool
	tooth      string
	keep       bool
	injections int
	rate       float64
	seconds    int
	herd, hot  int
	cluster    bool
}

func main() {
	var f flags
	flag.StringVar(&f.run, "run", "", "faults to inject, by name: F1,F6; default all")
	flag.BoolVar(&f.quick, "quick", false, "the few that CI runs, a few injections of each, on a small load")
	flag.BoolVar(&f.list, "list", false, "list the faults")
	flag.BoolVar(&f.teeth, "teeth", false, "run seeded bugs instead of the engine as it is: each must be found")
	flag.StringVar(&f.tooth, "tooth", "", "of the seeded bugs, only these")
	flag.BoolVar(&f.keep, "keep", false, "keep the folder with the logs")
	flag.IntVar(&f.injections, "injections", 0, "how often each fault is injected; default as the fault says")
	flag.Float64Var(&f.rate, "rate", 0, "messages a second; default 150, quick 60")
	flag.IntVar(&f.seconds, "seconds", 0, "least length of each run")
	flag.IntVar(&f.herd, "herd", 8000, "sockets of the herd of F29")
	flag.IntVar(&f.hot, "hot", 2000, "members of the hot group of F30")
	flag.BoolVar(&f.cluster, "cluster", false, "on a Redis Cluster of three masters and three Kafka brokers: the control, and the faults that take one of them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := f.main(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
	}
	if failed || err != nil {
		stop()
		os.Exit(1)
	}
}

// chosen are the faults to be run.
func (f *flags) chosen() (all []fault, err error) {
	known := slices.Concat(faults...)
	if f.run == "" {
		for _, x := range known {
			if f.quick && x.quick == 0 || !f.fits(x) && !f.list {
				continue
			}
			if x.able != nil && !f.list {
				if err := x.able(); err != nil {
					fmt.Fprintf(os.Stderr, "faults: %s is left out: %v\n", x.name, err)
					continue
				}
			}
			all = append(all, x)
		}
		return all, nil
	}
	for name := range strings.SplitSeq(f.run, ",") {
		x, err := named(name)
		if err != nil {
			return nil, err
		}
		if !f.fits(x) {
			return nil, fmt.Errorf("%s is of single stores, or of clusters: -cluster", name)
		}
		all = append(all, x)
	}
	return all, nil
}

// fits says whether a fault goes with the stores that are asked for.
func (f *flags) fits(x fault) bool { return x.clustered == f.cluster || x.name == control[0].name }

func named(name string) (fault, error) {
	for _, x := range slices.Concat(faults...) {
		if x.name == name {
			return x, nil
		}
	}
	return fault{}, fmt.Errorf("no fault is called %q; -list names them", name)
}

func (f *flags) plan() (plan, map[string]string) {
	p, more := plan{size: whole, settling: settling, injections: f.injections, least: time.Duration(f.seconds) * time.Second}, map[string]string(nil)
	if f.quick || f.teeth {
		p.size, p.quick, more = quick, true, quicker
	}
	if f.rate > 0 {
		p.size.rate = f.rate
	}
	return p, more
}

func (f *flags) main(ctx context.Context) (failed bool, err error) {
	all, err := f.chosen()
	if err != nil {
		return false, err
	}
	if f.list {
		for _, x := range all {
			fmt.Printf("%-4s %s\n", x.name, x.about)
		}
		return false, nil
	}
	root, err := projectRoot()
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "curlew-faults-")
	if err != nil {
		return false, err
	}
	defer func() {
		if f.keep || failed || err != nil {
			fmt.Fprintln(os.Stderr, "faults: logs are in", dir)
		} else {
			os.RemoveAll(dir)
		}
	}()
	binary := filepath.Join(dir, "curlew")
	if err := build(ctx, root, binary); err != nil {
		return false, err
	}
	p, more := f.plan()
	c, err := begin(ctx, root, dir, binary, f.cluster, more, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return false, err
	}
	c.herds, c.hots = f.herd, f.hot
	defer func() { err = errors.Join(err, c.end()) }()
	if f.teeth {
		return f.bite(ctx, root, dir, c, p)
	}
	if err := c.run(ctx); err != nil {
		return false, err
	}
	for _, x := range all {
		res, err := trial(ctx, c, x, p)
		if err != nil {
			return failed, fmt.Errorf("%s: %w", x.name, err)
		}
		fmt.Println(res)
		if !res.found.clean() {
			failed = true
			fmt.Print(res.details())
		}
	}
	if f.quick && f.run == "" {
		blind, err := f.bite(ctx, root, dir, c, p)
		return failed || blind, err
	}
	return failed, nil
}

// build builds the engine.
func build(ctx context.Context, root, binary string, more ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build"}, more...), "-o", binary, ".")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// projectRoot is the folder above us that has a go.mod.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this inside the project")
		}
	}
	return "", err
}
