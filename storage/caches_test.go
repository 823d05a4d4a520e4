package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

func zaddOne(score float64, member string) redis.ZAddArgs {
	return redis.ZAddArgs{Members: []redis.Z{{Score: score, Member: member}}}
}

func TestHints_ProbeFindsWhatWasProjected(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := s.open(t)
		h, p := NewHints(r), NewProjector(r)
		var pr im.Projection
		for i := range 300 {
			pr.Hints = append(pr.Hints, im.Hint{
				Key: im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: im.ClientMsgID(fmt.Sprintf("message-%d", i))},
				Ref: im.StoredRef{Seq: im.Seq(i), ID: im.MaxID, StoredAt: 1e12, Hash: im.ContentHash{1, byte(i)}, Parked: i%2 == 0},
			})
		}
		project(t, p, pr)
		var wg sync.WaitGroup
		for _, hint := range pr.Hints {
			wg.Go(func() {
				if ref, known, err := h.Probe(t.Context(), hint.Key); err != nil || !known || ref != hint.Ref {
					t.Errorf("%v %v %v", ref, known, err)
				}
				other := hint.Key
				other.Sender = bob
				if _, known, err := h.Probe(t.Context(), other); err != nil || known {
					t.Errorf("another sender's: %v %v", known, err)
				}
			})
		}
		wg.Wait()
		if ttl := s.admin.PTTL(t.Context(), sentKey(pr.Hints[0].Key)).Val(); ttl <= 0 || ttl > hintTTL {
			t.Errorf("a hint lives %s", ttl)
		}
	})
}

func TestLimits_BucketIsShared(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		here, there := NewLimits(s.open(t)), NewLimits(s.open(t))
		take := func(l *Limits, bucket string, n int) int {
			t.Helper()
			got, after, err := l.Take(t.Context(), bucket, n, 0.001, 10)
			if err != nil || (got == 0) != (after > 0) || after > 1000*time.Second {
				t.Fatal(got, after, err)
			}
			return got
		}
		for _, bucket := range []string{"send:7", "login:{im}:ö / %"} {
			if a, b, c, d := take(here, bucket, 4), take(there, bucket, 4), take(here, bucket, 4), take(there, bucket, 1); a != 4 || b != 4 || c != 2 || d != 0 {
				t.Errorf("%s granted %d, %d, %d, %d", bucket, a, b, c, d)
			}
		}
		var wg sync.WaitGroup
		granted := make([]int, 50)
		for i := range granted {
			wg.Go(func() { granted[i] = take(here, "burst", 1) })
		}
		wg.Wait()
		sum := 0
		for _, g := range granted {
			sum += g
		}
		if sum != 10 {
			t.Errorf("50 callers took %d of 10", sum)
		}
		if _, _, err := here.Take(t.Context(), "x", 1, 0, 10); err == nil {
			t.Error("a bucket that never refills is accepted")
		}
	})
}

func TestLimits_BucketRefills(t *testing.T) {
	s := miniServer(t)
	now := time.Now()
	s.mini.SetTime(now)
	l := NewLimits(s.open(t))
	for i, want := range []int{5, 0, 1, 2, 5} {
		n, after, err := l.Take(t.Context(), "b", 5, 2, 5)
		if err != nil || n != want {
			t.Fatalf("step %d: granted %d %v, want %d", i, n, err, want)
		}
		if n == 0 && after != 500*time.Millisecond {
			t.Errorf("retry after %s", after)
		}
		pass := []time.Duration{0, 500 * time.Millisecond, time.Second, time.Minute, 0}[i]
		now = now.Add(pass)
		s.mini.SetTime(now)
		s.mini.FastForward(pass)
	}
}

type fakePeople struct {
	mu    sync.Mutex
	all   map[im.UserID]im.Profile
	asked int
	hold  chan struct{} // where set, an answer waits for it
}

func (f *fakePeople) ProfilesByID(_ context.Context, ids []im.UserID) (map[im.UserID]im.Profile, error) {
	f.mu.Lock()
	f.asked++
	out := map[im.UserID]im.Profile{}
	for _, id := range ids {
		if p, ok := f.all[id]; ok {
			out[id] = p
		}
	}
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return out, nil
}

func (f *fakePeople) HandleID(_ context.Context, handle string) (im.UserID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, p := range f.all {
		if p.Handle == handle {
			return id, nil
		}
	}
	return 0, im.ErrNotFound
}

func (f *fakePeople) rename(u im.UserID, handle, nickname string) {
	f.mu.Lock()
	f.all[u] = im.Profile{ID: u, Handle: handle, Nickname: nickname}
	f.mu.Unlock()
}

func openProfiles(t *testing.T, s *redisServer, f *fakePeople) *Profiles {
	t.Helper()
	p, err := NewProfiles(s.open(t), f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProfiles_ChangeIsSeen(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		f := &fakePeople{all: map[im.UserID]im.Profile{}}
		f.rename(ann, "ann", "Ann")
		f.rename(bob, "bob", "Bob")
		here, there := openProfiles(t, s, f), openProfiles(t, s, f)
		name := func(p *Profiles, u im.UserID) string {
			t.Helper()
			all, err := p.Profiles(t.Context(), []im.UserID{ann, bob, eve})
			if err != nil || len(all) != 2 {
				t.Fatal(all, err)
			}
			return all[u].Nickname
		}
		if name(here, ann) != "Ann" || name(there, bob) != "Bob" {
			t.Fatal("wrong names")
		}
		f.rename(ann, "anna", "Anna")
		if err := here.Forget(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		there.now = func() time.Time { return time.Now().Add(profileFresh) }
		if a, b := name(here, ann), name(there, ann); a != "Anna" || b != "Anna" {
			t.Errorf("here %s, there %s", a, b)
		}
		if u, err := here.UserByHandle(t.Context(), "anna"); err != nil || u != ann {
			t.Error(u, err)
		}
		f.rename(ann, "annika", "Anna")
		f.rename(bob, "anna", "Bob")
		if err := here.Forget(t.Context(), ann, bob); err != nil {
			t.Fatal(err)
		}
		if u, err := here.UserByHandle(t.Context(), "anna"); err != nil || u != bob {
			t.Error("a handle that changed hands:", u, err)
		}
		if _, err := here.UserByHandle(t.Context(), "nobody"); !errors.Is(err, im.ErrNotFound) {
			t.Error(err)
		}
	})
}

// Who read a profile before it changed must not put it back after.
func TestProfiles_SlowReaderDoesNotBringTheOldBack(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		f := &fakePeople{all: map[im.UserID]im.Profile{}, hold: make(chan struct{})}
		f.rename(ann, "ann", "Ann")
		slow, other := openProfiles(t, s, f), openProfiles(t, s, f)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = slow.Profiles(t.Context(), []im.UserID{ann})
		}()
		eventually(t, "the slow one has read", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.asked == 1 })
		f.rename(ann, "ann", "Anna")
		if err := other.Forget(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		close(f.hold)
		<-done
		all, err := other.Profiles(t.Context(), []im.UserID{ann})
		if err != nil || all[ann].Nickname != "Anna" {
			t.Error(all, err)
		}
	})
}

func TestProfiles_RedisAway(t *testing.T) {
	s := miniServer(t)
	f := &fakePeople{all: map[im.UserID]im.Profile{}}
	f.rename(ann, "ann", "Ann")
	p := openProfiles(t, s, f)
	s.mini.Close()
	if all, err := p.Profiles(t.Context(), []im.UserID{ann}); err != nil || all[ann].Nickname != "Ann" {
		t.Error(all, err)
	}
	if err := p.Forget(t.Context(), ann); !errors.Is(err, im.ErrCache) {
		t.Error(err)
	}
}
