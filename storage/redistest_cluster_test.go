package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/scripts/devtest/masters"
)

// common is a cluster that tests share, each finding it empty: to make one takes two
// seconds.
var common struct {
	sync.Mutex
	all *redisServer
	dir string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if common.all != nil {
		_ = common.all.admin.Close()
		for _, r := range common.all.masters {
			r.kill()
		}
		_ = os.RemoveAll(common.dir)
	}
	os.Exit(code)
}

// clusterServer is the shared cluster, in the hands of one test.
func clusterServer(t testing.TB) *redisServer {
	t.Helper()
	common.Lock()
	t.Cleanup(common.Unlock)
	if common.all == nil {
		dir, err := os.MkdirTemp("", "curlew-redis-")
		if err != nil {
			t.Fatal(err)
		}
		common.dir = dir
		common.all = formCluster(t, func(i int) string {
			sub := fmt.Sprint(dir, "/", i)
			if err := os.Mkdir(sub, 0o700); err != nil {
				t.Fatal(err)
			}
			return sub
		})
	}
	common.all.flush(t)
	return common.all
}

// ownCluster is one that the test may break.
func ownCluster(t testing.TB, args ...string) *redisServer {
	t.Helper()
	s := formCluster(t, func(int) string { return t.TempDir() }, args...)
	t.Cleanup(func() {
		_ = s.admin.Close()
		for _, r := range s.masters {
			r.kill()
		}
	})
	return s
}

// formCluster starts the masters, divides the slots among them and waits until each
// knows of all. It skips the test where there is no redis-server.
func formCluster(t testing.TB, dir func(i int) string, args ...string) *redisServer {
	t.Helper()
	s := &redisServer{name: "cluster", user: "curlew"}
	var addrs, buses []string
	for i := range masters.Count {
		buses = append(buses, freePort(t))
		r := newReal(t, dir(i), append(masters.Args(buses[i]), args...)...)
		r.start(t)
		s.masters, addrs = append(s.masters, r), append(addrs, r.addr)
	}
	s.addr = strings.Join(addrs, ",")
	s.admin = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, DialerRetries: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, masters.Form(ctx, addrs, buses))
	return s
}

// awaitCluster waits until every master serves again.
func (s *redisServer) awaitCluster(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, masters.Await(ctx, strings.Split(s.addr, ",")))
}

// each calls f for the server, or for each master.
func (s *redisServer) each(t testing.TB, f func(ctx context.Context, c *redis.Client) error) {
	t.Helper()
	if c, ok := s.admin.(*redis.Client); ok {
		must(t, f(t.Context(), c))
		return
	}
	must(t, s.admin.(*redis.ClusterClient).ForEachMaster(t.Context(), f))
}

// keys are all there are.
func (s *redisServer) keys(t testing.TB) (all []string) {
	t.Helper()
	var mu sync.Mutex
	s.each(t, func(ctx context.Context, c *redis.Client) error {
		some, err := c.Keys(ctx, "*").Result()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, some...)
		return err
	})
	return all
}

// holder is the master that has a key.
func (s *redisServer) holder(t testing.TB, key string) *realRedis {
	t.Helper()
	c, err := s.admin.(*redis.ClusterClient).MasterForKey(t.Context(), key)
	must(t, err)
	for _, r := range s.masters {
		if r.addr == c.Options().Addr {
			return r
		}
	}
	t.Fatal(errors.New("no master has " + key))
	return nil
}

// listens says whether exactly one connection is subscribed to a channel.
func (s *redisServer) listens(t testing.TB, channel string) bool {
	t.Helper()
	var n int64
	var mu sync.Mutex
	s.each(t, func(ctx context.Context, c *redis.Client) error {
		ask := c.PubSubNumSub
		if s.masters != nil {
			ask = c.PubSubShardNumSub
		}
		v, err := ask(ctx, channel).Result()
		mu.Lock()
		defer mu.Unlock()
		n += v[channel]
		return err
	})
	return n == 1
}
