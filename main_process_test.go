package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// binary is the engine, built once for all tests that kill it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "curlew-test-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "curlew")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return path, fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// binaryDir is where binary is; empty where nothing was built.
var binaryDir string

func removeBinary() {
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
}

// child is the engine as a process of its own, at addresses that it keeps over its
// lives.
type child struct {
	t        *testing.T
	s        *devtest.Stack
	settings map[string]string
	cmd      *exec.Cmd
}

// newChild prepares a process with the given settings besides the stack's.
func newChild(t *testing.T, s *devtest.Stack, more map[string]string) *child {
	t.Helper()
	if _, err := binary(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, s: s, settings: s.Settings()}
	for _, part := range []string{"api", "connector", "admin"} {
		c.settings[part+".listen"] = ports.Free(t)
	}
	for k, v := range more {
		c.settings[k] = v
	}
	t.Cleanup(c.kill)
	return c
}

// start begins a life and waits until it is ready.
func (c *child) start() {
	c.t.Helper()
	path, _ := binary()
	c.cmd = exec.Command(path, devtest.Args(c.settings)...)
	c.cmd.Env = devtest.Environment()
	c.cmd.Stderr = c.s.LogWriter()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	devtest.Eventually(c.t, "the process is ready", func() bool { return answers("http://" + c.settings["admin.listen"] + "/ready") })
}

// kill ends a life at once.
func (c *child) kill() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // killed
	c.cmd = nil
}

// terminate asks a life to end and waits for it.
func (c *child) terminate() {
	c.t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("ended with %v", err)
	}
	c.cmd = nil
}

func (c *child) http() string   { return "http://" + c.settings["api.listen"] }
func (c *child) socket() string { return "ws://" + c.settings["connector.listen"] + "/v1/ws" }

// ownStores lets a process embed its stores in its own data folder, where no real ones
// are set.
func ownStores() map[string]string {
	if devtest.Real() {
		return nil
	}
	return map[string]string{"storage.redis.addr": "", "queue.brokers": "", "storage.path": ""}
}

// The whole engine is killed again and again while everybody sends. On embedded stores
// they die with it: Redis then starts empty, the others from their files.
func TestEngine_KilledUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	c := newChild(t, s, ownStores())
	c.start()
	l := startLoad(t, c.http(), c.socket())
	for life := range 3 {
		l.more(150)
		c.kill()
		c.start()
		l.recovered(fmt.Sprint("life ", life+2))
	}
	l.more(100)
	l.finish()
	l.check(false)
}

// Each role is a process of its own; each is killed while everybody sends.
func TestRoles_KilledUnderLoad(t *testing.T) {
	t.Parallel()
	if !devtest.Real() {
		t.Skip("roles in processes of their own need real stores")
	}
	s := devtest.Start(t)
	between := ports.Free(t)
	role := func(r configs.Role) *child {
		c := newChild(t, s, map[string]string{
			"roles": string(r), "logic.grpc.listen": between, "connector.upstream.addresses": between,
			"storage.max_open": "8",
		})
		c.start()
		return c
	}
	jobs, deciding, sockets, face := role(configs.RoleJobs), role(configs.RoleLogic), role(configs.RoleConnector), role(configs.RoleAPI)
	l := startLoad(t, face.http(), sockets.socket())
	for _, c := range []*child{deciding, sockets, face, jobs} {
		l.more(100)
		c.kill()
		c.start()
		l.recovered(c.settings["roles"] + " is back")
	}
	l.more(100)
	l.finish()
	l.check(false)
}

// The same without processes: connector, logic, api and two jobs as Apps of their own,
// over the bridge, on whatever stores.
func TestRoles_ApartTalk(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	at := func(r configs.Role) *engine { return between.engine(t, s, r) }
	at(configs.RoleJobs)
	at(configs.RoleJobs)
	at(configs.RoleLogic)
	face, sockets := at(configs.RoleAPI), at(configs.RoleConnector)
	l := startLoad(t, face.http, sockets.socket)
	l.more(300)
	l.finish()
	l.check(true)
}

// A process that is told to stop tells its clients, answers what it has taken, and
// leaves nothing running. They go on at its next life; no sender sees an error.
func TestEngine_StopsInGoodOrderUnderLoad(t *testing.T) { // not parallel: it counts goroutines
	s := devtest.Start(t)
	before := goleak.IgnoreCurrent()
	api, socket := ports.Free(t), ports.Free(t)
	fixed := func(c *configs.Config) { c.API.Listen, c.Connector.Listen = api, socket }
	e := startEngine(t, s, fixed)
	people := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := people[0], people[1]
	phone, his := ada.connect("phone"), bob.connect("phone")
	const n = 300
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range n {
			o, err := phone.SendText(client.ToUser(bob.id), fmt.Sprint(i))
			if err != nil {
				t.Error(err)
				return
			}
			if i%10 == 9 {
				ada.stored(o)
			}
		}
	}()
	conv := im.DirectConversation(ada.id, bob.id)
	for range 2 {
		had := len(his.texts(conv))
		devtest.Eventually(t, "some have arrived", func() bool { return len(his.texts(conv)) > had+20 || len(his.texts(conv)) >= n })
		e.stop()
		e = startEngine(t, s, fixed)
	}
	<-sent
	devtest.Eventually(t, "all have arrived", func() bool { return len(his.texts(conv)) == n })
	for i, text := range his.texts(conv) {
		if text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	for _, d := range []*device{phone, his} {
		d.leave()
		for i, err := range d.lost {
			if i > 0 && errors.Is(err, context.Canceled) {
				continue // its own leaving
			}
			wantClose(t, d.p.name+"'s connection", err, protocol.CloseRestart)
		}
	}
	start := time.Now()
	e.stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("an idle engine takes %s to stop", took)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// SIGTERM under load: the process ends by itself with 0.
func TestEngine_TerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	c := newChild(t, s, ownStores())
	c.start()
	l := startLoad(t, c.http(), c.socket())
	l.more(100)
	c.terminate()
	c.start()
	l.more(100)
	l.finish()
	l.check(false)
}
