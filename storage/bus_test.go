package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestBus_ConnectsAgainAndTells(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		bus := NewBus(s.open(t))
		batches, lost := make(chan string, 100), make(chan struct{}, 100)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- bus.Subscribe(ctx, "n1", func(b []byte) { batches <- string(b) }, func() { lost <- struct{}{} })
		}()
		subscribed := func() bool {
			return s.listens(t, nodeChannel("n1"))
		}
		eventually(t, "the node is subscribed", subscribed)
		for i := range 20 {
			err := bus.Publish(t.Context(), map[im.NodeID][]byte{"n1": fmt.Appendf(nil, "a%d", i), "n2": []byte("other")})
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			if b := <-batches; b != fmt.Sprintf("a%d", i) {
				t.Fatalf("batch %d is %q", i, b)
			}
		}
		if len(lost) != 0 {
			t.Fatal("a first subscription counts as lost")
		}
		if s.real != nil {
			for range 2 {
				if err := s.admin.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
					t.Fatal(err)
				}
				<-lost
			}
			s.real.kill()
			s.real.start(t)
			<-lost
			if err := bus.Publish(t.Context(), map[im.NodeID][]byte{"n1": []byte("again")}); err != nil {
				t.Fatal(err)
			}
			if b := <-batches; b != "again" {
				t.Fatalf("got %q", b)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// One that Redis cuts because it does not keep up hears of it.
func TestBus_SlowSubscriberIsCutAndTold(t *testing.T) {
	s := realServer(t, "--client-output-buffer-limit", "pubsub 1mb 1mb 0")
	bus := NewBus(s.open(t))
	release, lost := make(chan struct{}), make(chan struct{}, 100)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_ = bus.Subscribe(ctx, "n1", func([]byte) { <-release }, func() { lost <- struct{}{} })
	}()
	subscribed := func() bool {
		return s.listens(t, nodeChannel("n1"))
	}
	eventually(t, "the node is subscribed", subscribed)
	batch := []byte(strings.Repeat("x", 1<<20))
	eventually(t, "the subscriber is cut", func() bool {
		_ = bus.Publish(t.Context(), map[im.NodeID][]byte{"n1": batch})
		return !subscribed()
	})
	close(release)
	<-lost
}
