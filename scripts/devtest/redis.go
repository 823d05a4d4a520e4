package devtest

import (
	"context"
	"crypto/rand"
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

// redisServer is a redis-server process.
type redisServer struct {
	t     testing.TB
	args  []string
	cmd   *exec.Cmd
	admin *redis.Client
}

// startRedis starts a redis-server with the engine's user of
// scripts/services.d/redis.conf, so that its rights are tested along.
func (s *Stack) startRedis() {
	s.t.Helper()
	addr, dir := ports.Free(s.t), s.t.TempDir()
	acl := filepath.Join(dir, "users.acl")
	if err := os.WriteFile(acl, []byte("user default on nopass ~* &* +@all\n"+engineRights(s.t)+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	r := &redisServer{t: s.t, args: []string{
		"--bind", "127.0.0.1", "--port", fmt.Sprint(portOf(s.t, addr)), "--dir", dir,
		"--save", "", "--aclfile", acl, "--logfile", filepath.Join(dir, "log"),
	}}
	r.admin = redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	s.t.Cleanup(func() {
		r.admin.Close()
		r.Stop()
	})
	r.Start()
	s.Redis = r
	s.settings["storage.redis.addr"] = addr
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
	r.cmd = exec.Command("redis-server", r.args...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	Eventually(r.t, "redis-server answers", func() bool { return r.admin.Ping(context.Background()).Err() == nil })
}

func (r *redisServer) Stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

func (r *redisServer) Pause()  { r.signal(syscall.SIGSTOP) }
func (r *redisServer) Resume() { r.signal(syscall.SIGCONT) }

func (r *redisServer) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *redisServer) Flush() {
	r.t.Helper()
	ctx := context.Background()
	if err := r.admin.FlushAll(ctx).Err(); err != nil {
		r.t.Error(err)
	}
	if err := r.admin.ScriptFlush(ctx).Err(); err != nil {
		r.t.Error(err)
	}
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
