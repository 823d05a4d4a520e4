package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// packets takes packets between a role and whom it talks to out of the loopback interface:
// by the port, and by the group under which each role runs. It has a chain of its own in
// two tables, and its rules match nobody but our processes.
type packets struct {
	chain string
	gids  map[string]uint32 // by role
	on    []string          // tables in which the chain is set up
}

// firstGroup is the first of four groups, of the roles; that nobody has them is all that is
// asked of them.
const firstGroup = 61100

// canFilter says why packets cannot be taken out here.
func canFilter() error {
	if os.Geteuid() != 0 {
		return errors.New("only root may filter packets")
	}
	if _, err := exec.LookPath(iptables()); err != nil {
		return errors.New("iptables is missing: scripts/services tools")
	}
	return nil
}

// iptables may be where only root looks.
func iptables() string {
	if path, err := exec.LookPath("iptables"); err == nil {
		return path
	}
	return "/usr/sbin/iptables"
}

// run runs one command on one table.
func (f *packets) run(ctx context.Context, table string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, iptables(), append([]string{"-w", "10", "-t", table}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("iptables %v: %w: %s", args, err, out)
	}
	return string(out), nil
}

// filtered starts the processes anew, each role under its own group, and sets the chains up.
func (c *cluster) filtered(ctx context.Context) error {
	if c.packets != nil {
		return nil
	}
	if err := canFilter(); err != nil {
		return err
	}
	f := &packets{chain: fmt.Sprint("CURLEW-FAULTS-", os.Getpid()), gids: make(map[string]uint32)}
	c.packets = f // for its end, whatever comes
	for i, role := range roles {
		f.gids[role] = firstGroup + uint32(i)
	}
	for _, table := range []string{"mangle", "filter"} {
		if _, err := f.run(ctx, table, "-N", f.chain); err != nil {
			return err
		}
		f.on = append(f.on, table)
		if _, err := f.run(ctx, table, "-I", "OUTPUT", "-o", "lo", "-p", "tcp", "-j", f.chain); err != nil {
			return err
		}
	}
	// What a store sends has the store as its owner: it is known by the mark of its
	// connection, which the role's packets set.
	for role, gid := range f.gids {
		id := fmt.Sprint(gid)
		for _, store := range []string{"redis", "mysql", "kafka"} {
			if _, err := f.run(ctx, "mangle", "-A", f.chain, "-p", "tcp", "--dport", c.port(role, store),
				"-m", "owner", "--gid-owner", id, "-j", "CONNMARK", "--set-mark", id); err != nil {
				return err
			}
		}
	}
	for _, p := range c.procs {
		p.kill()
	}
	return c.whole(ctx)
}

// port is where a role reaches a store.
func (c *cluster) port(role, store string) string {
	addr := c.stores.addr(store)
	if k := c.link(role, store); k != nil {
		addr = k.addr()
	}
	_, port, _ := net.SplitHostPort(addr) // as somebody listens
	return port
}

// direction is which packets are taken out: those of the role, those to it.
type direction struct{ out, in bool }

// take begins to take out packets between a role and a store, or logic: silently, or with
// a reset to whom has sent them.
func (f *packets) take(ctx context.Context, c *cluster, role, other string, d direction, reject bool) error {
	how := []string{"-j", "DROP"}
	if reject {
		how = []string{"-j", "REJECT", "--reject-with", "tcp-reset"}
	}
	ports := []string{}
	id := fmt.Sprint(f.gids[role])
	from := []string{"-m", "connmark", "--mark", id}
	if other == "logic" {
		from = []string{"-m", "owner", "--gid-owner", fmt.Sprint(f.gids[other])}
		for _, p := range c.of(other) {
			_, port, _ := net.SplitHostPort(p.listen) // as it listens
			ports = append(ports, port)
		}
	} else {
		ports = append(ports, c.port(role, other))
	}
	for _, port := range ports {
		if d.out {
			if _, err := f.run(ctx, "filter", slices.Concat([]string{"-A", f.chain, "-p", "tcp", "--dport", port, "-m", "owner", "--gid-owner", id}, how)...); err != nil {
				return err
			}
		}
		if d.in {
			if _, err := f.run(ctx, "filter", slices.Concat([]string{"-A", f.chain, "-p", "tcp", "--sport", port}, from, how)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// taken is how many packets have been taken out since take.
func (f *packets) taken(ctx context.Context) (n int, err error) {
	out, err := f.run(ctx, "filter", "-vnxL", f.chain)
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 2 {
			packets, err := strconv.Atoi(fields[0])
			if err == nil { // else it is a heading
				n += packets
			}
		}
	}
	return n, err
}

// give ends take.
func (f *packets) give(ctx context.Context) error {
	_, err := f.run(ctx, "filter", "-F", f.chain)
	return err
}

// end removes the chains.
func (f *packets) end() (err error) {
	ctx := context.Background() // also after an interrupt
	for _, table := range f.on {
		_, _ = f.run(ctx, table, "-D", "OUTPUT", "-o", "lo", "-p", "tcp", "-j", f.chain) // the next two say what is left
		for _, remove := range []string{"-F", "-X"} {
			_, failed := f.run(ctx, table, remove, f.chain)
			err = errors.Join(err, failed)
		}
	}
	f.on = nil
	return err
}
