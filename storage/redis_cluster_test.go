package storage

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// apart are users whose keys are on the master that is named by a key, and on others.
func (s *redisServer) apart(t testing.TB, key string, n int) (on, off []im.UserID) {
	t.Helper()
	holder := s.holder(t, key)
	for u := im.UserID(1000); len(on) < n || len(off) < n; u++ {
		if s.holder(t, stateKey(u)) == holder {
			on = append(on, u)
		} else {
			off = append(off, u)
		}
	}
	return on[:n], off[:n]
}

// A master that comes back with what it had some time ago, or another in its place, is
// found out before anything it holds is used: of those that have the generation's key,
// and of the others.
func TestCluster_MasterWithStaleDataIsNotTrusted(t *testing.T) {
	for name, has := range map[string]bool{"with the generation": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			s := ownCluster(t, "--appendonly", "yes", "--appendfsync", "always")
			r, f := s.open(t), newFakeRecord()
			x, p := NewIndex(r, f), NewProjector(r)
			on, off := s.apart(t, keyGeneration, 1)
			u, other := on[0], off[0]
			if !has {
				u, other = other, u
			}
			for range 5 {
				project(t, p, f.store(other, u, im.CountedForAll))
				agree(t, x, f, u, other)
			}
			master := s.holder(t, stateKey(u))
			for range 3 {
				master.kill()
				pr := f.store(other, u, im.CountedForAll)
				if err := p.Project(t.Context(), pr); !errors.Is(err, im.ErrCache) {
					t.Fatalf("projected to a dead master: %v", err)
				}
				page, err := x.List(t.Context(), u, 0, 10)
				if err != nil || !page.Degraded || page.UnreadTotal != f.want(u).Total {
					t.Fatalf("list while its master is dead: %+v %v", page, err)
				}
				agree(t, x, f, u, other)
				master.start(t)
				s.awaitCluster(t)
				eventually(t, "the list comes from Redis", func() bool {
					page, err := x.List(t.Context(), u, 0, 10)
					return err == nil && !page.Degraded
				})
				if s.admin.ZCard(t.Context(), convsKey(u)).Val() == 0 {
					t.Fatal("the append-only file brought nothing back: nothing is tested")
				}
				agree(t, x, f, u, other)
			}
		})
	}
}

// What is on the other masters is read and written while one is dead that has neither
// the generation nor the leases of nodes.
func TestCluster_OthersServeWhileOneMasterIsDead(t *testing.T) {
	s := ownCluster(t)
	r, f := s.open(t), newFakeRecord()
	x, p := NewIndex(r, f), NewProjector(r)
	var dead *realRedis
	for _, m := range s.masters {
		if m != s.holder(t, keyGeneration) && m != s.holder(t, keyNodes) {
			dead = m
		}
	}
	var users []im.UserID
	for u := im.UserID(1000); len(users) < 2; u++ {
		if s.holder(t, stateKey(u)) != dead {
			users = append(users, u)
		}
	}
	a, b := users[0], users[1]
	project(t, p, f.store(a, b, im.CountedForAll))
	agree(t, x, f, a, b)
	dead.kill()
	for range 20 {
		project(t, p, f.store(a, b, im.CountedForAll))
		page, err := x.List(t.Context(), b, 0, 10)
		if err != nil || page.Degraded {
			t.Fatalf("list: %+v %v", page, err)
		}
		agree(t, x, f, a, b)
	}
	if r.Ping(t.Context()) == nil {
		t.Error("nobody is told that a master is dead")
	}
}

// Doubt waits until all masters answer: a generation set before would not void what the
// one that is away comes back with, and each second another would be set.
func TestCluster_DoubtWaitsForAllMasters(t *testing.T) {
	s := ownCluster(t)
	f := newFakeRecord()
	r := s.openAs(t, f, func(*RedisConfig) {})
	if _, err := r.gen.ensure(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	on, off := s.apart(t, keyGeneration, 1)
	x, p := NewIndex(r, f), NewProjector(r)
	project(t, p, f.store(on[0], off[0], im.CountedForAll))
	agree(t, x, f, on[0], off[0])
	token, master := standing(t, s), s.holder(t, stateKey(off[0]))
	master.kill()
	f.store(on[0], off[0], im.CountedForAll) // not projected
	f.noteDoubt()
	eventually(t, "the watcher misses it", func() bool { _, err := r.gen.ensure(t.Context(), r); return err != nil })
	if standing(t, s) != token {
		t.Error("a generation was set while a master was away")
	}
	changed := r.Changed()
	master.start(t)
	closed(t, changed)
	eventually(t, "the doubt is gone", func() bool { _, any, _ := f.Doubts(t.Context()); return !any })
	agree(t, x, f, on[0], off[0])
}

// Whoever empties one master takes no generation along, unless it has it: its life tells.
func TestCluster_OneMasterEmptied(t *testing.T) {
	s := clusterServer(t)
	r, f := s.open(t), newFakeRecord()
	x, p := NewIndex(r, f), NewProjector(r)
	_, off := s.apart(t, keyGeneration, 2)
	project(t, p, f.store(off[0], off[1], im.CountedForAll))
	agree(t, x, f, off...)
	if _, err := r.gen.ensure(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	changed := r.Changed()
	master, err := s.admin.(*redis.ClusterClient).MasterForKey(t.Context(), stateKey(off[0]))
	must(t, err)
	must(t, master.FlushAll(t.Context()).Err())
	agree(t, x, f, off...)
	closed(t, changed)
	agree(t, x, f, off...)
}

// The channel of a node lives on one master; when that dies and comes back, the node
// hears of it and goes on.
func TestCluster_BusOutlivesItsMaster(t *testing.T) {
	s := ownCluster(t)
	bus := NewBus(s.open(t))
	batches, lost := make(chan string, 100), make(chan struct{}, 100)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Subscribe(ctx, "n1", func(b []byte) { batches <- string(b) }, func() { lost <- struct{}{} })
	}()
	eventually(t, "the node is subscribed", func() bool { return s.listens(t, nodeChannel("n1")) })
	master := s.holder(t, nodeChannel("n1"))
	master.kill()
	master.start(t)
	<-lost
	must(t, bus.Publish(t.Context(), map[im.NodeID][]byte{"n1": []byte("again"), "n2": []byte("other")}))
	if b := <-batches; b != "again" {
		t.Fatalf("got %q", b)
	}
	stop()
	must(t, <-done)
}

// A slot that moves to another master takes keys and channel along; no reader is wrong
// and no subscriber deaf.
func TestCluster_SlotsMove(t *testing.T) {
	s := ownCluster(t)
	r, f := s.open(t), newFakeRecord()
	x, p, bus := NewIndex(r, f), NewProjector(r), NewBus(r)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, ann, bob)
	batches, lost := make(chan string, 100), make(chan struct{}, 100)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_ = bus.Subscribe(ctx, "n1", func(b []byte) { batches <- string(b) }, func() { lost <- struct{}{} })
	}()
	eventually(t, "the node is subscribed", func() bool { return s.listens(t, nodeChannel("n1")) })
	for _, key := range []string{keyGeneration, stateKey(bob), nodeChannel("n1"), keyNodes} {
		s.moveSlot(t, key)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, ann, bob)
	}
	<-lost
	must(t, bus.Publish(t.Context(), map[im.NodeID][]byte{"n1": []byte("again")}))
	if b := <-batches; b != "again" {
		t.Fatalf("got %q", b)
	}
}

// moveSlot moves the slot of a key to the next master, with what is in it.
func (s *redisServer) moveSlot(t testing.TB, key string) {
	t.Helper()
	ctx := t.Context()
	from, slot := s.holder(t, key), int(s.admin.ClusterKeySlot(ctx, key).Val())
	at := func(r *realRedis) *redis.Client { return redis.NewClient(&redis.Options{Addr: r.addr}) }
	var to *realRedis
	for i, r := range s.masters {
		if r == from {
			to = s.masters[(i+1)%len(s.masters)]
		}
	}
	src, dst := at(from), at(to)
	defer func() { _, _ = src.Close(), dst.Close() }()
	ids := [2]string{}
	for i, c := range []*redis.Client{src, dst} {
		id, err := c.ClusterMyID(ctx).Result()
		must(t, err)
		ids[i] = id
	}
	must(t, dst.Do(ctx, "cluster", "setslot", slot, "importing", ids[0]).Err())
	must(t, src.Do(ctx, "cluster", "setslot", slot, "migrating", ids[1]).Err())
	keys := src.ClusterGetKeysInSlot(ctx, slot, 1000).Val()
	if len(keys) > 0 {
		host, port := "127.0.0.1", dst.Options().Addr[len("127.0.0.1:"):]
		args := []any{"migrate", host, port, "", 0, 5000, "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		must(t, src.Do(ctx, args...).Err())
	}
	for _, r := range []*redis.Client{dst, src} {
		must(t, r.Do(ctx, "cluster", "setslot", slot, "node", ids[1]).Err())
	}
}
