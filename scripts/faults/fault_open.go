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
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

// openFaults take a process's descriptors away.
var openFaults = []fault{
	{name: "F32", about: "a connector has no descriptor left", full: 10, hold: 5 * time.Second, healed: true, inject: exhaust},
}

// spareFiles is how many more descriptors a connector has when the opening begins, and
// surplus how many connections must be turned away for it to count as exhausted.
const (
	spareFiles = 100
	surplus    = 50
)

// turnedAway are the connector's handshakes that found no room.
const turnedAway = `curlew_connector_handshakes_total{status="503"}`

// exhaust lowers the limit of one connector to what it has open and a few, and opens
// connections until no more are taken. Two who were connected before go on talking.
func exhaust(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	p := c.any("connector")
	two, err := c.pair(ctx, p)
	if err != nil {
		return nil, err
	}
	if _, err := two.talk(ctx); err != nil { // before anything is broken
		two.end()
		return nil, err
	}
	refused := p.counter(ctx, turnedAway)
	files, err := p.files()
	if err != nil {
		return nil, err
	}
	before, err := limit(ctx, p, "")
	if err != nil {
		return nil, err
	}
	if _, err := limit(ctx, p, strconv.Itoa(files+spareFiles)); err != nil {
		return nil, err
	}
	o := new(opened)
	o.until(ctx, p, surplus)
	used, err := p.files()
	if err != nil {
		return nil, err
	}
	c.tally.broke(o.row >= surplus, "of %d connections to %s %d were turned away; it has %d descriptors of %d", len(o.taken)+o.away, p.name, o.away, used, files+spareFiles)
	talking, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { two.keepTalking(talking, c.tally) })
	all.Go(func() { o.until(talking, p, 0) }) // who does not say who they are is closed soon, and makes room
	return func(ctx context.Context) error {
		stop()
		all.Wait()
		two.end()
		o.until(ctx, p, 1)
		c.tally.broke(o.row > 0, "%s turns nobody away any more, before any was closed", p.name)
		c.tally.count("taken", float64(len(o.taken)))
		c.tally.count("turned_away", float64(o.away))
		for _, nc := range o.taken {
			nc.Close()
		}
		freed := time.Now()
		if err := c.redial(ctx, p); err != nil {
			return err
		}
		c.tally.sample("redial_s", 0, time.Since(freed).Seconds())
		moved := p.counter(ctx, turnedAway) - refused
		c.tally.broke(moved > 0, "%s has counted nobody whom it turned away", p.name)
		_, err := limit(ctx, p, before)
		return err
	}, nil
}

// opened are connections to a process: those taken, how many were turned away, and how
// many of these in a row.
type opened struct {
	taken     []net.Conn
	away, row int
}

// most bounds what is opened in one injection.
const most = 5000

// until makes connections until so many in a row are turned away, 0: until ctx ends; each
// with a handshake: that the kernel has taken one says nothing of the process.
func (o *opened) until(ctx context.Context, p *process, inRow int) {
	for o.row = 0; (inRow == 0 || o.row < inRow) && len(o.taken) < most && ctx.Err() == nil; {
		if nc := shaken(ctx, p); nc != nil {
			o.taken, o.row = append(o.taken, nc), 0
		} else {
			o.away++
			o.row++
			_ = pause(ctx, 10*time.Millisecond) // ctx is asked next
		}
	}
}

// shaken is a new connection whose handshake was answered; nil: it was turned away.
func shaken(ctx context.Context, p *process) net.Conn {
	d := ws.Dialer{Protocols: []string{protocol.Subprotocol}, Timeout: 3 * time.Second}
	nc, _, _, err := d.Dial(ctx, "ws://"+p.listen+"/v1/ws")
	if err != nil {
		return nil
	}
	return nc
}

// redial waits until a new connection is taken. One that never is, is stuck.
func (c *cluster) redial(ctx context.Context, p *process) error {
	err := insistently(ctx, func() error {
		nc := shaken(ctx, p)
		if nc == nil {
			return errors.New("turned away")
		}
		return nc.Close()
	})
	if err != nil && ctx.Err() == nil {
		c.tally.add("stuck", "%s takes no connection though its descriptors are free: %v", p.name, err)
		return nil
	}
	return err
}

// pid is of the process as it runs now.
func (p *process) pid() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strconv.Itoa(p.cmd.Process.Pid)
}

// files is how many descriptors a process has open.
func (p *process) files() (int, error) {
	all, err := os.ReadDir(filepath.Join("/proc", p.pid(), "fd"))
	if err != nil {
		return 0, fmt.Errorf("needs /proc: %w", err)
	}
	return len(all), nil
}

// limit sets how many files a process may have open, where to is given, and returns how
// many it may.
func limit(ctx context.Context, p *process, to string) (string, error) {
	args := []string{"--pid", p.pid(), "--nofile"}
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
