package storage

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

func standing(t testing.TB, s *redisServer) string {
	t.Helper()
	return s.admin.HGet(t.Context(), keyGeneration, "token").Val()
}

// closed waits for a new generation.
func closed(t *testing.T, changed <-chan struct{}) {
	t.Helper()
	eventually(t, "a new generation stands", func() bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	})
}

func TestGeneration_ChangesWhereRedisForgot(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := s.open(t)
		if _, err := r.gen.ensure(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		first, changed := standing(t, s), r.Changed()
		for range 5 {
			if _, err := r.gen.ensure(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if standing(t, s) != first {
			t.Fatal("a generation changed without cause")
		}
		s.flush(t)
		closed(t, changed) // the watcher sees it by itself
		second, changed := standing(t, s), r.Changed()
		if second == "" || second == first {
			t.Fatalf("after a wipe %q, before %q", second, first)
		}
		if err := r.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		closed(t, changed)
		if standing(t, s) == second {
			t.Error("the operator's reset changed nothing")
		}
	})
}

func TestGeneration_AnotherIdentityVoidsTheSeals(t *testing.T) {
	s := miniServer(t)
	var mu sync.Mutex
	life := "first"
	s.ident = func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return life, nil
	}
	r, f := s.open(t), newFakeRecord()
	x, p := NewIndex(r, f), NewProjector(r)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, bob)
	changed := r.Changed()
	f.store(ann, bob, im.CountedForAll) // what the first life took and the second has not
	mu.Lock()
	life = "second"
	mu.Unlock()
	closed(t, changed)
	agree(t, x, f, bob)
}

// A writer that could not project says so in the record; the watcher voids the
// seals and then removes the row.
func TestGeneration_DoubtVoidsTheSeals(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		f := newFakeRecord()
		r := s.openAs(t, f, func(*RedisConfig) {})
		x, p := NewIndex(r, f), NewProjector(r)
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, ann, bob)
		for range 3 {
			f.store(ann, bob, im.CountedForAll) // not projected
			f.noteDoubt()
			eventually(t, "the row of doubt is gone", func() bool {
				_, any, _ := f.Doubts(t.Context())
				return !any
			})
			agree(t, x, f, ann, bob)
		}
	})
}

// readOnly is a record whose rows of doubt can be read and not removed.
type readOnly struct {
	*fakeRecord
	asked atomic.Int64
}

func (r *readOnly) ClearDoubts(context.Context, uint64) error {
	r.asked.Add(1)
	return im.ErrStore
}

func TestGeneration_DoubtThatCannotBeClearedIsActedOnOnce(t *testing.T) {
	s := miniServer(t)
	f := &readOnly{fakeRecord: newFakeRecord()}
	r := s.openAs(t, f, func(*RedisConfig) {})
	if _, err := r.gen.ensure(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	changed := r.Changed()
	f.noteDoubt()
	closed(t, changed)
	token := standing(t, s)
	seen := f.asked.Load()
	eventually(t, "it is tried again", func() bool { return f.asked.Load() >= seen+2 })
	if standing(t, s) != token {
		t.Error("the same doubt set another generation")
	}
}

// counted is a record that counts how often it is asked about doubts.
type counted struct {
	*fakeRecord
	asked atomic.Int64
}

func (c *counted) Doubts(ctx context.Context) (uint64, bool, error) {
	c.asked.Add(1)
	return c.fakeRecord.Doubts(ctx)
}

// While the lease of the last generation set for a doubt runs, doubts wait for the next,
// whoever looks and however often; none is forgotten.
func TestGeneration_DoubtsShareOneWithinALease(t *testing.T) {
	s := miniServer(t)
	f := &counted{fakeRecord: newFakeRecord()}
	r := s.openAs(t, f, func(*RedisConfig) {})
	other := s.openAs(t, f, func(*RedisConfig) {})
	x, p := NewIndex(r, f), NewProjector(r)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f.fakeRecord, ann, bob)
	token, changed := standing(t, s), r.Changed()
	if err := s.admin.Set(t.Context(), keyDoubt, "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	seen := f.asked.Load()
	eventually(t, "both have looked, again and again", func() bool {
		f.store(ann, bob, im.CountedForAll) // not projected
		f.noteDoubt()
		r.gen.saw("another")
		other.gen.saw("another")
		return f.asked.Load() >= seen+20
	})
	if standing(t, s) != token {
		t.Error("a generation was set while the lease runs")
	}
	if _, any, _ := f.Doubts(t.Context()); !any {
		t.Error("a doubt was forgotten")
	}
	s.admin.Del(t.Context(), keyDoubt)
	closed(t, changed)
	eventually(t, "the doubts are gone", func() bool { _, any, _ := f.Doubts(t.Context()); return !any })
	agree(t, x, f.fakeRecord, ann, bob)
}

// A full Redis has no place for the lease.
func TestReal_FullRedisIsNotResetMoreOftenThanByLeases(t *testing.T) {
	s := realServer(t)
	r, f := s.open(t), newFakeRecord()
	g := newGenerations(s.ident, slog.New(slog.DiscardHandler), r.metrics)
	g.doubts = f
	if err := s.admin.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	act := func() string {
		f.noteDoubt()
		must(t, g.actOnDoubt(t.Context(), r))
		return standing(t, s)
	}
	first := act()
	g.actedAt = time.Now().Add(time.Hour) // however slow this machine is
	if act() != first {
		t.Error("another generation within the lease")
	}
	g.actedAt = time.Now().Add(-doubtLease)
	if act() == first {
		t.Error("no generation after the lease")
	}
	if _, any, _ := f.Doubts(t.Context()); any {
		t.Error("the doubts stand")
	}
}

func TestReal_RestartWithStaleDataIsNotTrusted(t *testing.T) {
	s := realServer(t, "--appendonly", "yes", "--appendfsync", "always")
	r, f := s.open(t), newFakeRecord()
	x, p := NewIndex(r, f), NewProjector(r)
	for range 5 {
		project(t, p, f.store(ann, bob, im.CountedForAll))
		agree(t, x, f, ann, bob)
	}
	for range 3 {
		s.real.kill()
		pr := f.store(ann, bob, im.CountedForAll)
		if err := p.Project(t.Context(), pr); !errors.Is(err, im.ErrCache) {
			t.Fatalf("projected to a dead Redis: %v", err)
		}
		page, err := x.List(t.Context(), bob, 0, 10)
		if err != nil || !page.Degraded || page.UnreadTotal != f.want(bob).Total {
			t.Fatalf("list while Redis is dead: %+v %v", page, err)
		}
		agree(t, x, f, ann, bob)
		s.real.start(t)
		if s.admin.ZCard(t.Context(), convsKey(bob)).Val() == 0 {
			t.Fatal("the append-only file brought nothing back: nothing is tested")
		}
		eventually(t, "the list comes from Redis", func() bool {
			page, err := x.List(t.Context(), bob, 0, 10)
			return err == nil && !page.Degraded
		})
		agree(t, x, f, ann, bob)
	}
}

// proxy leads to one address after another, as a name that fails over does.
type proxy struct {
	net.Listener
	mu     sync.Mutex
	target string
	open   []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			out, err := net.Dial("tcp", p.target)
			if err != nil {
				_ = in.Close()
			} else {
				p.open = append(p.open, in, out)
				go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
				go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			}
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() { p.turn(""); _ = l.Close() })
	return p
}

func (p *proxy) turn(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}

func TestReal_FailoverThatLostASuffixIsNotTrusted(t *testing.T) {
	primary, replica := realServer(t, "--repl-diskless-sync-delay", "0"), realServer(t)
	host, port, _ := net.SplitHostPort(primary.addr)
	ctx := t.Context()
	if err := replica.admin.SlaveOf(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica follows", func() bool { // the first one gives its primary a new replication ID
		return infoField(replica.admin.Info(ctx, "replication").Val(), "master_link_status") == "up"
	})
	name := newProxy(t, primary.addr)
	engine := *primary
	engine.addr = name.Addr().String()
	r, f := engine.open(t), newFakeRecord()
	other := engine.open(t) // another process, which moves first
	x, p := NewIndex(r, f), NewProjector(r)
	agree(t, x, f, bob)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, bob)
	eventually(t, "the replica has it all", func() bool {
		return replica.admin.ZCard(ctx, convsKey(bob)).Val() == primary.admin.ZCard(ctx, convsKey(bob)).Val() &&
			replica.admin.HGet(ctx, stateKey(bob), fieldSeal).Val() == standing(t, primary)
	})
	if err := replica.admin.SlaveOf(ctx, "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	project(t, p, f.store(ann, bob, im.CountedForAll)) // the suffix that is lost
	agree(t, x, f, bob)
	name.turn(replica.addr)
	agree(t, NewIndex(other, f), f, bob)
	agree(t, x, f, bob, ann)
	if replica.admin.Exists(ctx, stateKey(bob)).Val() == 0 {
		t.Fatal("nothing was replicated: nothing is tested")
	}
}

// Others may move to the new primary and seal while this writer still reaches the
// old one: when it moves, it voids what they sealed.
func TestReal_WriterThatMovesLateVoidsTheSeals(t *testing.T) {
	old, next := realServer(t), realServer(t)
	name := newProxy(t, old.addr)
	engine := *old
	engine.addr = name.Addr().String()
	writer, reader, f := engine.open(t), next.open(t), newFakeRecord()
	p, x := NewProjector(writer), NewIndex(reader, f)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, bob)
	project(t, p, f.store(ann, bob, im.CountedForAll)) // into the old one
	changed := reader.Changed()
	name.turn(next.addr)
	closed(t, changed)
	agree(t, x, f, bob)
}

func TestReal_ReplicaIsRefused(t *testing.T) {
	primary, replica := realServer(t), realServer(t)
	host, port, _ := net.SplitHostPort(primary.addr)
	if err := replica.admin.SlaveOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	if err := replica.open(t).Ping(t.Context()); !errors.Is(err, im.ErrCache) {
		t.Errorf("a replica was taken: %v", err)
	}
}

// A full Redis refuses what must be written; the record answers, nothing partial
// is trusted, and room heals it.
func TestReal_FullRedis(t *testing.T) {
	s := realServer(t)
	f := newFakeRecord()
	r := s.openAs(t, f, func(*RedisConfig) {})
	x, p := NewIndex(r, f), NewProjector(r)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, ann, bob)
	ctx, first := t.Context(), standing(t, s)
	if err := s.admin.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	pr := f.store(ann, bob, im.CountedForAll)
	if err := p.Project(ctx, pr); !errors.Is(err, im.ErrCache) {
		t.Fatalf("projected to a full Redis: %v", err)
	}
	f.noteDoubt()
	eventually(t, "the generation is void", func() bool { return standing(t, s) != first })
	agree(t, x, f, ann, bob)
	if page, err := x.List(ctx, bob, 0, 10); err != nil || !page.Degraded {
		t.Errorf("list from a full Redis: %+v %v", page, err)
	}
	if err := s.admin.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the doubt is gone", func() bool { _, any, _ := f.Doubts(ctx); return !any })
	agree(t, x, f, ann, bob)
	if page, err := x.List(ctx, bob, 0, 10); err != nil || page.Degraded {
		t.Errorf("list after room was made: %+v %v", page, err)
	}
}

// A frozen Redis costs a deadline a few times and then nothing, until it answers.
func TestReal_FrozenRedisFailsFast(t *testing.T) {
	s := realServer(t)
	f := newFakeRecord()
	r := s.openAs(t, f, func(c *RedisConfig) { c.Timeout = 200 * time.Millisecond })
	x, p := NewIndex(r, f), NewProjector(r)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, bob)
	s.real.pause()
	defer s.real.resume()
	eventually(t, "calls fail at once", func() bool {
		return errors.Is(p.Project(t.Context(), f.store(ann, bob, im.CountedForAll)), errRedisAway)
	})
	agree(t, x, f, bob)
	hints := NewHints(r)
	if _, _, err := hints.Probe(t.Context(), im.SendKey{}); !errors.Is(err, im.ErrCache) {
		t.Errorf("probe of a frozen Redis: %v", err)
	}
	f.noteDoubt()
	s.real.resume()
	eventually(t, "the doubt is gone", func() bool { _, any, _ := f.Doubts(t.Context()); return !any })
	agree(t, x, f, ann, bob)
	if page, err := x.List(t.Context(), bob, 0, 10); err != nil || page.Degraded {
		t.Errorf("list after it answered: %+v %v", page, err)
	}
}

func TestIndex_RecordAwayAndOverload(t *testing.T) {
	s := miniServer(t)
	f := newFakeRecord()
	r := s.openAs(t, nil, func(c *RedisConfig) { c.Rebuilds = 1 })
	x, p := NewIndex(r, f), NewProjector(r)
	project(t, p, f.store(ann, bob, im.CountedForAll))
	agree(t, x, f, bob)
	f.fail = im.ErrStore
	if _, err := x.List(t.Context(), bob, 0, 10); err != nil {
		t.Errorf("a sealed list needs the record: %v", err)
	}
	if _, err := x.List(t.Context(), ann, 0, 10); !errors.Is(err, im.ErrStore) {
		t.Errorf("an unsealed list without the record: %v", err)
	}
	f.fail = nil
	leave, err := x.rebuilds.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range cap(x.rebuilds.queue) {
		x.rebuilds.queue <- struct{}{}
	}
	if _, err := x.List(t.Context(), ann, 0, 10); !errors.Is(err, im.ErrOverloaded) {
		t.Errorf("beyond the queue: %v", err)
	}
	for range cap(x.rebuilds.queue) {
		<-x.rebuilds.queue
	}
	leave()
	agree(t, x, f, ann)
	s.mini.Close()
	for range cap(x.fallback.queue) {
		x.fallback.queue <- struct{}{}
	}
	if _, err := x.List(t.Context(), ann, 0, 10); !errors.Is(err, im.ErrCache) {
		t.Errorf("beyond the fallback's queue: %v", err)
	}
}
