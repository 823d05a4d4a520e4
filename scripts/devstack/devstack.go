// Package devstack is the embedded stores: a Kafka broker (kfake) and a Redis
// (miniredis) in this process, on loopback ports of their own, and a place for the
// SQLite file. `go run .` stands on it; in production addresses are given instead.
//
// kfake and SQLite keep their data in the given folder and survive SIGKILL. Redis
// starts empty: it is a projection, refilled as users are read. None of it is
// replicated, and the broker does not fsync each write: a process crash loses
// nothing, a power loss may.
package devstack

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"
)

// redisTick and redisTickMost bound how often miniredis's clock is moved: its keys
// expire only when told how much time has passed, so this is the granularity of every
// TTL. Moving it sorts all keys (8 ms at 30,000 of them, measured), so with many it is
// moved less often: a twentieth of the time at most goes into it.
const (
	redisTick     = 50 * time.Millisecond
	redisTickMost = time.Second
	redisTickPart = 20
)

// retentionSweep is how often kfake drops expired segments; its own sweep is hourly.
const retentionSweep = 10 * time.Minute

// Stack is running embedded stores.
type Stack struct {
	Redis *miniredis.Miniredis
	// RedisIdentity stands for the run ID that miniredis does not report: new at each
	// start.
	RedisIdentity string
	Kafka         *kfake.Cluster
	SQLitePath    string

	lock *os.File
	stop chan struct{}
	done sync.WaitGroup
}

// ErrInUse says that another process runs on the same data folder.
var ErrInUse = errors.New("the data folder is in use by another process")

// Start brings the stores up on the folder dir, which is created where missing.
func Start(dir string, log *slog.Logger) (*Stack, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{SQLitePath: filepath.Join(dir, "curlew.db"), lock: lock, stop: make(chan struct{})}
	s.Redis = miniredis.NewMiniRedis()
	if err := s.Redis.StartAddr("127.0.0.1:0"); err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded Redis: %w", err), s.Close())
	}
	s.RedisIdentity = fmt.Sprintf("embedded-%d-%d", os.Getpid(), time.Now().UnixNano())
	s.Kafka, err = kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(filepath.Join(dir, "kafka")),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, "127.0.0.1:0") }),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded Kafka: %w", err), s.Close())
	}
	s.done.Go(s.tick)
	log.Info("embedded stores are up", "dir", dir, "redis", s.Redis.Addr(), "kafka", strings.Join(s.Kafka.ListenAddrs(), ","))
	return s, nil
}

// tick moves miniredis's clock and sweeps kfake's retention until Close.
func (s *Stack) tick() {
	last, swept, wait := time.Now(), time.Now(), redisTick
	for {
		select {
		case <-s.stop:
			return
		case now := <-time.After(wait):
			s.Redis.FastForward(now.Sub(last))
			last = now
			wait = min(max(redisTick, redisTickPart*time.Since(now)), redisTickMost)
			if now.Sub(swept) >= retentionSweep {
				s.Kafka.ApplyRetention()
				swept = now
			}
		}
	}
}

// Close stops the stores. Data in the folder stays.
func (s *Stack) Close() error {
	select {
	case <-s.stop:
		return nil
	default:
		close(s.stop)
	}
	s.done.Wait()
	if s.Kafka != nil {
		s.Kafka.Close()
	}
	if s.Redis != nil {
		s.Redis.Close()
	}
	return s.lock.Close()
}

// lockDir keeps two processes off one folder; the lock dies with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	return f, nil
}
