package devtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/scripts/devtest/masters"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// Redis is a projection's server that a test may break.
type Redis interface {
	Stop()  // as SIGKILL; what it held is gone
	Start() // empty, on the same address
	Pause() // connections stay, nothing is answered
	Resume()
	Flush() // FLUSHALL and SCRIPT FLUSH
}

const enginePassword = "engine"

// redisServer is a redis-server process, or the masters of a cluster, which a test breaks
// together.
type redisServer struct {
	t     testing.TB
	addrs []string
	args  [][]string // of each process
	cmds  []*exec.Cmd
}

// startRedis starts a redis-server, or three as a cluster where that is what
// CURLEW_REDIS_ADDR names, with the engine's user of scripts/services.d/redis.conf, so
// that its rights are tested along.
func (s *Stack) startRedis() {
	s.t.Helper()
	count := 1
	if strings.Contains(os.Getenv(redisEnv), ",") {
		count = masters.Count
	}
	r := &redisServer{t: s.t}
	var buses []string
	for range count {
		addr, dir := ports.Free(s.t), s.t.TempDir()
		acl := filepath.Join(dir, "users.acl")
		if err := os.WriteFile(acl, []byte("user default on nopass ~* &* +@all\n"+engineRights(s.t)+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		args := []string{
			"--bind", "127.0.0.1", "--port", fmt.Sprint(portOf(s.t, addr)), "--dir", dir,
			"--save", "", "--aclfile", acl, "--logfile", filepath.Join(dir, "log"),
		}
		if count > 1 {
			bus := fmt.Sprint(portOf(s.t, ports.Free(s.t)))
			buses, args = append(buses, bus), append(args, masters.Args(bus)...)
		}
		r.addrs, r.args = append(r.addrs, addr), append(r.args, args)
	}
	s.t.Cleanup(r.Stop)
	r.run()
	if count > 1 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := masters.Form(ctx, r.addrs, buses); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Redis = r
	s.settings["storage.redis.addr"] = strings.Join(r.addrs, ",")
	s.settings["storage.redis.username"], s.settings["storage.redis.password"] = "curlew", enginePassword
}

// engineRights is the engine's line of the configuration that scripts/services starts
// Redis with.
func engineRights(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(), "scripts/services.d/redis.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "user curlew ") {
			return strings.Replace(strings.TrimSpace(line), "#@ENGINE_HASH@", ">"+enginePassword, 1)
		}
	}
	t.Fatal("no user curlew in redis.conf")
	return ""
}

// root is the module's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../..")
}

func (r *redisServer) Start() {
	r.t.Helper()
	r.run()
	if len(r.addrs) > 1 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := masters.Await(ctx, r.addrs); err != nil {
			r.t.Fatal(err)
		}
	}
}

// run starts the processes and waits until they answer.
func (r *redisServer) run() {
	r.t.Helper()
	for _, args := range r.args {
		cmd := exec.Command("redis-server", args...)
		if err := cmd.Start(); err != nil {
			r.t.Fatal(err)
		}
		r.cmds = append(r.cmds, cmd)
	}
	r.each(func(c *redis.Client) {
		Eventually(r.t, "redis-server answers", func() bool { return c.Ping(context.Background()).Err() == nil })
	})
}

// each asks every process as the administrator.
func (r *redisServer) each(f func(c *redis.Client)) {
	for _, addr := range r.addrs {
		c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
		f(c)
		c.Close()
	}
}

func (r *redisServer) Stop() {
	for _, cmd := range r.cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	r.cmds = nil
}

func (r *redisServer) Pause()  { r.signal(syscall.SIGSTOP) }
func (r *redisServer) Resume() { r.signal(syscall.SIGCONT) }

func (r *redisServer) signal(s syscall.Signal) {
	r.t.Helper()
	for _, cmd := range r.cmds {
		if err := cmd.Process.Signal(s); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *redisServer) Flush() {
	r.t.Helper()
	ctx := context.Background()
	r.each(func(c *redis.Client) {
		if err := errors.Join(c.FlushAll(ctx).Err(), c.ScriptFlush(ctx).Err()); err != nil {
			r.t.Error(err)
		}
	})
}

// mini is a miniredis whose INFO names its life, as a real one's does.
type mini struct {
	gate
	t    testing.TB
	addr string

	mu   sync.Mutex // guards what follows
	m    *miniredis.Miniredis
	stop chan struct{}
	done sync.WaitGroup
}

func (s *Stack) startMiniredis() {
	s.t.Helper()
	r := &mini{t: s.t, addr: ports.Free(s.t)}
	r.Start()
	s.t.Cleanup(r.Stop)
	s.Redis = r
	s.settings["storage.redis.addr"] = r.addr
}

func (r *mini) Start() {
	r.t.Helper()
	m, life := miniredis.NewMiniRedis(), rand.Text()
	if err := m.StartAddr(r.addr); err != nil {
		r.t.Fatal(err)
	}
	m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		r.pass()
		if cmd != "INFO" || len(args) != 1 {
			return false
		}
		c.WriteBulk(fmt.Sprintf("# %s\r\nrun_id:%s\r\nrole:master\r\nmaster_replid:%s\r\n", args[0], life, life))
		return true
	})
	stop := make(chan struct{})
	r.mu.Lock()
	r.m, r.addr, r.stop = m, m.Addr(), stop
	r.mu.Unlock()
	r.done.Go(func() { // its keys expire only when told how much time has passed
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case now := <-t.C:
				m.FastForward(now.Sub(last))
				last = now
			}
		}
	})
}

func (r *mini) Stop() {
	r.Resume()
	r.mu.Lock()
	m, stop := r.m, r.stop
	r.m = nil
	r.mu.Unlock()
	if m == nil {
		return
	}
	close(stop)
	r.done.Wait()
	m.Close()
}

func (r *mini) Flush() {
	r.mu.Lock()
	m := r.m
	r.mu.Unlock()
	m.FlushAll()
}
