package connector

import (
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

// keeper answers when it is told to, and counts what becomes of a session.
type keeper struct {
	mu       sync.Mutex
	answers  []func(protocol.Answer)
	handled  int
	releases []int // how many messages had been handled at each
}

func (k *keeper) take(answer func(protocol.Answer)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handled++
	k.answers = append(k.answers, answer)
}

func (k *keeper) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.releases = append(k.releases, k.handled)
}

func (k *keeper) answerAll() {
	k.mu.Lock()
	answers := k.answers
	k.answers = nil
	k.mu.Unlock()
	for _, answer := range answers {
		answer(protocol.Answer{})
	}
}

func (k *keeper) state() (handled, releases int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.handled, len(k.releases)
}

func TestLeave_ReleasesOnceAfterTheLastMessage(t *testing.T) {
	both(t, func(t *testing.T, kind kind) {
		cfg := unlimited()
		cfg.OutboxFrames = 16 // so that 8 are with logic at once
		b := start(t, kind, cfg)
		k := &keeper{}
		b.up.mu.Lock()
		b.up.keeper = k
		b.up.mu.Unlock()
		c := b.connected(1, "d")
		const sent = 20
		for range sent {
			c.write(masked(ws.OpText, true, []byte("x")))
		}
		eventually(t, "logic is behind", func() bool { h, _ := k.state(); return h == 8 })
		eventually(t, "all has arrived", func() bool { return value(t, b.metrics.messages) == sent+1 })
		c.nc.Close()
		eventually(t, "the client has left", func() bool { return b.live.Load() == 0 })
		if _, releases := k.state(); releases != 0 {
			t.Error("released with messages waiting")
		}
		eventually(t, "the rest is handed over, and the session released", func() bool {
			k.answerAll()
			_, releases := k.state()
			return releases > 0
		})
		b.stop()
		if len(k.releases) != 1 || k.releases[0] != sent {
			t.Errorf("released after %v messages, of %d", k.releases, sent)
		}
	})
}

func TestLeave_DuringARenewalLeavesNoRoute(t *testing.T) {
	b := start(t, byDefault, unlimited())
	c := b.connected(1, "d")
	left := b.sessions.of(1, nil)
	ref := left[0].session.Load().Ref()
	c.nc.Close()
	eventually(t, "the route is gone", func() bool { return b.dir.registered() == 0 })
	b.dir.set(func() { b.dir.sessions[ref.Session] = ref }) // a renewal that was under way
	b.routing.removeAgain(left)
	eventually(t, "it is gone again", func() bool { return b.dir.registered() == 0 })
}
