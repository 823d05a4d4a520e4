package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// openFaults take a process's descriptors away.
var openFaults = []fault{
	{name: "F32", about: "a connector has no descriptor left", full: 10, hold: 5 * time.Second, healed: true, inject: exhaust},
}

// spareFiles is how many more a connector may open while it is exhausted; opened is how
// many try to.
const (
	spareFiles = 20
	opened     = 200
)

// exhaust lowers the limit of one connector to what it has open and a few, and opens more
// than that.
func exhaust(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	p := c.any("connector")
	files, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd"))
	if err != nil {
		return nil, fmt.Errorf("needs /proc: %w", err)
	}
	before, err := limit(ctx, p, "")
	if err != nil {
		return nil, err
	}
	if _, err := limit(ctx, p, strconv.Itoa(len(files)+spareFiles)); err != nil {
		return nil, err
	}
	var all []net.Conn
	for range opened {
		if nc, err := net.DialTimeout("tcp", p.listen, time.Second); err == nil {
			all = append(all, nc)
		}
	}
	return func(ctx context.Context) error {
		for _, nc := range all {
			nc.Close()
		}
		_, err := limit(ctx, p, before)
		return err
	}, nil
}

// limit sets how many files a process may have open, where to is given, and returns how
// many it may.
func limit(ctx context.Context, p *process, to string) (string, error) {
	args := []string{"--pid", strconv.Itoa(p.cmd.Process.Pid), "--nofile"}
	if to == "" {
		args = append(args, "--raw", "--noheadings", "--output", "SOFT")
	} else {
		args[len(args)-1] += "=" + to + ":"
	}
	out, err := exec.CommandContext(ctx, "prlimit", args...).CombinedOutput()
	if err != nil {
		return "", errors.Join(fmt.Errorf("prlimit: %s", out), err)
	}
	return strings.TrimSpace(string(out)), nil
}
