package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// cluster is Curlew as it runs in production, small: two processes of each role, on
// stores of its own. Faults are injected into it.
type cluster struct {
	dir    string
	log    *slog.Logger
	stores *stores
	binary string
	keys   map[string]string // settings that all processes share
	secret string            // of the server key
	procs  []*process
	load   *load // that runs, and its devices
	tally  *tally
	third  *process // a worker beside the two, while F20 runs
	// packets are taken out of the network by it; nil: until F21n has run.
	packets *packets
	clocks  *clocks  // that processes have of their own, while F26 runs
	points  *points  // at which processes end, while F5 runs
	herd    *members // while F29 runs
	hot     *hot     // while F30 runs
	herds   int      // how many are in the herd
	hots    int      // how many are in the hot group
	// links are between roles and stores, by "role store"; nil: they are reached directly.
	links map[string]*link

	mu     sync.Mutex // guards what follows
	deaths []string   // processes that ended by themselves
	ending bool
}

const serverKey = "faults"

// each is how many processes of a role there are.
const each = 2

// roles in the order in which they are started.
var roles = []string{"jobs", "logic", "api", "connector"}

// settings that all runs have: production's, without rates, and with a heartbeat that
// lets a run be short.
var settings = map[string]string{
	"profile": "bench", "log.level": "info",
	"logic.heartbeat": "10s", "connector.heartbeat": "10s",
	"logic.auth.access_ttl": "24h",
}

// quicker are those of a quick run: what is noticed by waiting is noticed sooner.
var quicker = map[string]string{
	"logic.heartbeat": "3s", "connector.heartbeat": "3s",
	"queue.session_timeout": "3s", "queue.rebalance_timeout": "3s", "queue.heartbeat": "500ms", "queue.join_backoff": "200ms",
	"jobs.drain_timeout": "2s",
}

// begin brings the stores and the schema up and starts the processes of binary.
func begin(ctx context.Context, root, dir, binary string, clustered bool, more map[string]string, log *slog.Logger) (c *cluster, err error) {
	c = &cluster{dir: dir, log: log, binary: binary, secret: random(), keys: make(map[string]string)}
	for _, set := range []map[string]string{settings, more} {
		for k, v := range set {
			c.keys[k] = v
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.end())
		}
	}()
	if c.stores, err = openStores(ctx, root, filepath.Join(dir, "stores"), clustered); err != nil {
		return c, err
	}
	c.keys["data"] = dir
	c.keys["logic.auth.keys_file"] = filepath.Join(dir, "signing.keys")
	var bridges []string
	for _, role := range roles {
		for i := range each {
			p := &process{name: fmt.Sprint(role, "-", i+1), role: role, c: c}
			for _, addr := range []*string{&p.admin, &p.listen} {
				if *addr, err = ports.Find(); err != nil {
					return c, err
				}
			}
			if role == "logic" {
				bridges = append(bridges, p.listen)
			}
			if p.log, err = os.Create(filepath.Join(dir, p.name+".log")); err != nil {
				return c, err
			}
			c.procs = append(c.procs, p)
		}
	}
	c.keys["connector.upstream.addresses"] = strings.Join(bridges, ",")
	if out, err := c.command("", "migrate").CombinedOutput(); err != nil {
		return c, fmt.Errorf("migrate: %w\n%s", err, out)
	}
	return c, nil
}

// run starts all processes and waits until they serve.
func (c *cluster) run(ctx context.Context) error {
	for _, p := range c.procs {
		if err := p.start(); err != nil {
			return err
		}
	}
	return c.whole(ctx)
}

// whole brings back whatever is not running and waits until everything serves.
func (c *cluster) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, p := range c.procs {
		if err := p.start(); err != nil {
			return err
		}
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// command prepares the binary for a process of a role, or with "" for another command.
func (c *cluster) command(role string, more ...string) *exec.Cmd {
	cmd := exec.Command(c.binary, more...)
	for k, v := range c.keys {
		cmd.Args = append(cmd.Args, "--set", k+"="+v)
	}
	s := c.stores
	redis, mysql := s.addr("redis"), s.addr("mysql")
	if role != "" && c.links != nil {
		redis, mysql = c.link(role, "redis").addr(), c.link(role, "mysql").addr()
	}
	cmd.Env = append(s.environment(redis, mysql, s.addr("kafka")), "CURLEW_SERVER_KEY="+serverKey+":"+c.secret)
	return cmd
}

// of are the processes of some roles, any of them one of these.
func (c *cluster) of(roles ...string) (all []*process) {
	for _, p := range c.procs {
		for _, r := range roles {
			if p.role == r {
				all = append(all, p)
			}
		}
	}
	return all
}

func (c *cluster) any(roles ...string) *process {
	all := c.of(roles...)
	return all[rand.IntN(len(all))]
}

// died is told of a process that ended by itself. It is started again, as whoever
// supervises it would; that it had to be is a failure of the run.
func (c *cluster) died(p *process, err error) {
	c.mu.Lock()
	c.deaths = append(c.deaths, fmt.Sprintf("%s: %v: see %s", p.name, err, p.log.Name()))
	ending := c.ending
	c.mu.Unlock()
	if ending {
		return
	}
	c.log.Error("a process ended by itself", "process", p.name, "err", err)
	time.Sleep(time.Second) // one that cannot start does not keep us busy
	if err := p.start(); err != nil {
		c.log.Error("it does not start again", "process", p.name, "err", err)
	}
}

// taken returns the deaths since the last call.
func (c *cluster) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.deaths
	c.deaths = nil
	return d
}

// bases and sockets are the addresses of both nodes of each.
func (c *cluster) bases() (all []string) {
	for _, p := range c.of("api") {
		all = append(all, "http://"+p.listen)
	}
	return all
}

func (c *cluster) sockets() (all []string) {
	for _, p := range c.of("connector") {
		all = append(all, "ws://"+p.listen+"/v1/ws")
	}
	return all
}

// backend calls with the server key.
func (c *cluster) backend() *client.HTTP { return client.ServerKey(c.bases()[0], serverKey, c.secret) }

// end stops everything at once: what is left is of no use to anybody.
func (c *cluster) end() (err error) {
	if c.herd != nil {
		c.herd.leave()
	}
	if c.hot != nil {
		c.hot.end()
	}
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	for _, p := range c.procs {
		p.kill()
		p.log.Close()
	}
	if c.third != nil {
		c.third.kill()
	}
	for _, k := range c.links {
		k.close()
	}
	if c.packets != nil {
		defer func() { err = errors.Join(err, c.packets.end()) }()
	}
	if c.stores == nil {
		return nil
	}
	return c.stores.close()
}
