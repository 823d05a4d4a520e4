package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
	"github.com/curlew-im/curlew/scripts/devtest/services"
)

// engine is Curlew under test: a process for each role, or several, on stores of its
// own.
type engine struct {
	stores  *stores
	binary  string
	dir     string
	keys    map[string]string // settings that all processes share
	secret  string            // of the server key
	nodes   []*node
	sockets []string
	bases   []string
}

// node is one process of the engine.
type node struct {
	role   string
	admin  string
	listen string // of a connector or an api process
	cmd    *exec.Cmd
	log    *os.File
}

const serverKey = "bench"

// begin starts the stores, single ones or clusters of them, builds the engine and opens it.
func begin(ctx context.Context, root string, counts map[string]int, extra map[string]string, cluster bool) (e *engine, err error) {
	e = &engine{dir: filepath.Join(root, "data", "bench"), secret: random()}
	e.binary = filepath.Join(e.dir, "curlew")
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.end())
		}
	}()
	if e.stores, err = openStores(ctx, root, e.dir, cluster); err != nil {
		return e, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", e.binary, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return e, fmt.Errorf("build: %w\n%s", err, out)
	}
	return e, e.open(ctx, counts, extra)
}

// open brings the schema up and starts the processes.
func (e *engine) open(ctx context.Context, counts map[string]int, extra map[string]string) error {
	bridge, err := ports.Find()
	if err != nil {
		return err
	}
	e.keys = map[string]string{
		"profile": "bench", "log.level": "warn", "data": e.dir,
		"queue.prefix":                 e.stores.database + ".",
		"queue.group_prefix":           e.stores.database + "-",
		"logic.auth.keys_file":         filepath.Join(e.dir, e.stores.database+".keys"),
		"logic.grpc.listen":            bridge,
		"connector.upstream.addresses": bridge,
	}
	for k, v := range extra {
		e.keys[k] = v
	}
	migrate := e.command(ctx, "migrate")
	if out, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, out)
	}
	for _, role := range []string{"jobs", "logic", "api", "connector"} {
		for range max(counts[role], 1) {
			if err := e.start(ctx, role); err != nil {
				return err
			}
		}
	}
	return nil
}

// command prepares the binary with what all processes share.
func (e *engine) command(ctx context.Context, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.binary, more...)
	for k, v := range e.keys {
		cmd.Args = append(cmd.Args, "--set", k+"="+v)
	}
	cmd.Env = append(e.stores.environment(), "CURLEW_SERVER_KEY="+serverKey+":"+e.secret)
	return cmd
}

// start starts one process and waits until it is ready.
func (e *engine) start(ctx context.Context, role string) error {
	n := &node{role: role}
	for _, addr := range []*string{&n.admin, &n.listen} {
		var err error
		if *addr, err = ports.Find(); err != nil {
			return err
		}
	}
	args := []string{"--roles", role, "--set", "admin.listen=" + n.admin}
	switch role {
	case "connector":
		args = append(args, "--set", "connector.listen="+n.listen)
		e.sockets = append(e.sockets, "ws://"+n.listen+"/v1/ws")
	case "api":
		args = append(args, "--set", "api.listen="+n.listen)
		e.bases = append(e.bases, "http://"+n.listen)
	}
	n.cmd = e.command(context.WithoutCancel(ctx), args...)
	var err error
	if n.log, err = os.Create(filepath.Join(e.dir, role+"-"+strconv.Itoa(len(e.nodes))+".log")); err != nil {
		return err
	}
	n.cmd.Stderr = n.log
	if err := n.cmd.Start(); err != nil {
		return err
	}
	e.nodes = append(e.nodes, n)
	for end := time.Now().Add(time.Minute); ; {
		if services.Answers(ctx, "http://"+n.admin+"/ready") {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%s is not ready: see %s", role, n.log.Name())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// end stops the processes, the last first, then the stores.
func (e *engine) end() error {
	e.halt()
	if e.stores == nil {
		return nil
	}
	return e.stores.close()
}

// processes are all whose costs count.
func (e *engine) processes() []process {
	all := append(e.stores.processes(), process{"generator", os.Getpid()})
	for _, n := range e.nodes {
		all = append(all, process{n.role, n.cmd.Process.Pid})
	}
	return all
}

func (e *engine) admins() (all []string) {
	for _, n := range e.nodes {
		all = append(all, n.admin)
	}
	return all
}

// socket is the connector of the i-th connection, http the api process.
func (e *engine) socket(i int) string { return e.sockets[i%len(e.sockets)] }
func (e *engine) http() string        { return e.bases[0] }

// backend calls with the server key.
func (e *engine) backend() *client.HTTP { return client.ServerKey(e.http(), serverKey, e.secret) }
