package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bites is how often each fault is tried: some bugs need luck to show.
const bites = 3

// bite runs the engine with each seeded bug until a fault shows it; failed says that
// one was not found, and so that the checker is blind there.
func (f *flags) bite(ctx context.Context, root, dir string, c *cluster, p plan) (failed bool, err error) {
	teeth, err := readTeeth()
	if err != nil {
		return false, err
	}
	p.settling = settlingSoon
	healthy, settings := c.binary, c.keys
	defer func() { c.binary, c.keys = healthy, settings }()
	for _, t := range teeth {
		if !f.wants(t) {
			continue
		}
		c.binary, c.keys = healthy, maps.Clone(settings)
		maps.Copy(c.keys, t.set)
		if len(t.edits) > 0 {
			at := filepath.Join(dir, t.name)
			if err := os.Mkdir(at, 0o700); err != nil {
				return false, err
			}
			overlay, err := t.overlay(root, at)
			if err != nil {
				return false, err
			}
			c.binary = filepath.Join(at, "curlew")
			if err := build(ctx, root, c.binary, "-overlay", overlay); err != nil {
				return false, fmt.Errorf("%s: %w", t.name, err)
			}
		}
		by, err := c.bitten(ctx, t, p)
		if err != nil {
			return false, fmt.Errorf("%s: %w", t.name, err)
		}
		if by == "" {
			by, failed = "NOT FOUND", true
		}
		fmt.Printf("%-16s %s\n", t.name, by)
	}
	return failed, nil
}

// wants says whether a seeded bug is to be tried: of all, those that were named, and in a
// run that is not about them the quick ones.
func (f *flags) wants(t tooth) bool {
	if f.tooth != "" {
		return slices.Contains(strings.Split(f.tooth, ","), t.name)
	}
	return f.teeth || t.quick
}

// bitten runs one seeded engine under the faults that show the bug, and says which has and
// as what; empty where none has.
func (c *cluster) bitten(ctx context.Context, t tooth, p plan) (by string, err error) {
	for _, p := range c.procs {
		p.kill()
	}
	if err := c.stores.redis.FlushAll(ctx).Err(); err != nil {
		return "", err
	}
	if t.sql != "" {
		// The rows of earlier runs need not fit.
		if err := errors.Join(c.stores.exec(ctx, "DELETE FROM messages"), c.stores.exec(ctx, t.sql)); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, c.stores.exec(context.WithoutCancel(ctx), t.undo)) }()
	}
	if err := c.run(ctx); err != nil {
		return "", err
	}
	for _, name := range slices.Repeat(t.faults, bites) {
		f, err := named(name)
		if err != nil {
			return "", err
		}
		res, err := trial(ctx, c, f, p)
		if err != nil {
			return "", err
		}
		c.log.Info("a seeded bug was run", "tooth", t.name, "result", res)
		for _, class := range t.finds {
			if n := len(res.found[class]); n > 0 {
				return fmt.Sprintf("found by %s: %s=%d (%s)", name, class, n, res.found[class][0]), nil
			}
		}
	}
	return "", nil
}
