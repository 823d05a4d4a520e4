package logic

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

func TestMembership_ACopyIsAtMostTwoSecondsOld(t *testing.T) { // [L4]
	w := newWorld()
	m := w.service(t, Config{}).members
	may := func() error { return m.MaySend(t.Context(), ann, "d7-9") }
	for range 3 {
		if err := may(); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count("Peer"); n != 1 {
		t.Fatalf("asked %d times", n)
	}
	w.set(func() { w.blocked[pair{ann, bob}] = true })
	w.pass(2*time.Second - 1)
	if err := may(); err != nil {
		t.Fatal("the copy was good for another instant:", err)
	}
	w.pass(1)
	if err := may(); !errors.Is(err, im.ErrBlocked) {
		t.Fatal(err)
	}
}

func TestMembership_OutlivesMySQLForAMinute(t *testing.T) { // [L4]
	w := newWorld()
	m := w.service(t, Config{}).members
	may := func(c im.ConversationID) error { return m.MaySend(t.Context(), ann, c) }
	if err := may("d7-9"); err != nil {
		t.Fatal(err)
	}
	if err := may("d7-404"); !errors.Is(err, im.ErrNotFound) {
		t.Fatal(err)
	}
	w.set(func() { w.fail["Peer"] = im.ErrStore })
	w.pass(59 * time.Second)
	if err := may("d7-9"); err != nil {
		t.Fatal(err)
	}
	if err := may("d7-11"); !errors.Is(err, im.ErrStore) {
		t.Fatal("nobody knows eve:", err)
	}
	if err := may("d7-404"); !errors.Is(err, im.ErrStore) {
		t.Fatal("who did not exist may exist by now:", err)
	}
	w.pass(time.Second)
	if err := may("d7-9"); !errors.Is(err, im.ErrStore) {
		t.Fatal("a copy of 60 s was trusted:", err)
	}
	w.set(func() { delete(w.fail, "Peer") })
	w.pass(breakerPause)
	if err := may("d7-9"); err != nil {
		t.Fatal(err)
	}
}

func TestMembership_AStoreThatIsAwayIsNotAskedByEverybody(t *testing.T) {
	w := newWorld()
	m := w.service(t, Config{}).members
	w.set(func() { w.fail["Peer"] = im.ErrStore })
	for range 50 {
		if err := m.MaySend(t.Context(), ann, "d7-9"); !errors.Is(err, im.ErrStore) {
			t.Fatal(err)
		}
	}
	if n := w.count("Peer"); n != 1 {
		t.Fatalf("asked %d times", n)
	}
	w.pass(breakerPause)
	if err := m.MaySend(t.Context(), ann, "d7-9"); !errors.Is(err, im.ErrStore) || w.count("Peer") != 2 {
		t.Fatalf("%v after %d", err, w.count("Peer"))
	}
}

func TestMembership_TogetherTheyAskOnce(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{StoreTimeout: time.Second})
	asked, release := make(chan struct{}), make(chan struct{})
	s.members.accounts = slowPeer{w, sync.OnceFunc(func() { close(asked) }), release}
	var all sync.WaitGroup
	ask := func() {
		if err := s.members.MaySend(context.Background(), ann, "d7-9"); err != nil {
			t.Error(err)
		}
	}
	all.Go(ask)
	<-asked
	for range 20 {
		all.Go(ask)
	}
	close(release)
	all.Wait()
	if n := w.count("Peer"); n > 2 { // one that came after the first answer may find its copy missing yet
		t.Fatalf("asked %d times", n)
	}
}

type slowPeer struct {
	*world
	asked   func()
	release chan struct{}
}

func (p slowPeer) Peer(ctx context.Context, from, to im.UserID) (im.Peer, error) {
	p.asked()
	<-p.release
	return p.world.Peer(ctx, from, to)
}

func TestBreaker_OneCallerTriesAgain(t *testing.T) {
	now := time.UnixMilli(0)
	b := breaker{now: func() time.Time { return now }}
	if !b.allow() || !b.allow() {
		t.Fatal("a closed breaker holds nobody back")
	}
	b.done(false)
	if b.allow() {
		t.Fatal("allowed right after a failure")
	}
	now = now.Add(breakerPause)
	if !b.allow() || b.allow() {
		t.Fatal("not exactly one tries")
	}
	b.done(true)
	if !b.allow() || !b.allow() {
		t.Fatal("still open after an answer")
	}
}

func TestConfig_NamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{SendPerSecond: -1, DevicesPerUser: -1}, ""},
		{Config{Heartbeat: time.Minute}, "logic.heartbeat: 1m0s is not within 1s and 30s"},
		{Config{SendBurst: -1}, "logic.send_burst: -1 is below 1"},
		{Config{MembershipTTL: 3 * time.Second}, "logic.membership_ttl: 3s is not within 0 and 2s"},
		{Config{MembershipStale: time.Hour}, "logic.membership_stale: 1h0m0s is not within membership_ttl and 60s"},
		{Config{Copies: 1}, "logic.copies: 1 is below 1000"},
		{Config{Waiters: -1}, "logic.waiters: -1 is below 1"},
		{Config{MessagePolicy: "nobody"}, `logic.message_policy: "nobody" is neither everyone nor contacts`},
		{Config{StoreTimeout: 2 * time.Second}, "logic.store_timeout: 2s is not within 50ms and 1.9s"},
		{Config{MaxMessageBytes: 5}, "logic.max_message_bytes: 5 is below 16384"},
	} {
		got := ""
		if err := c.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
