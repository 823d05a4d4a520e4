package connector

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
)

const (
	// tickTime is how exactly a connection's deadlines are kept.
	tickTime = 250 * time.Millisecond
	// wheelSize is how many ticks ahead the wheel sees (128 s); what is due later is
	// looked at then and booked again.
	wheelSize = 512
)

// wheel looks at connections when a deadline of theirs may have come: one list per
// tick instead of a timer per connection [P8]. Its time counts ticks that the process
// lived through, so that a process that was stopped does not take its own absence
// for its clients' silence.
type wheel struct {
	tick atomic.Uint32

	mu    sync.Mutex // guards slots
	slots [wheelSize][]*conn
}

func newWheel() *wheel {
	w := &wheel{}
	w.tick.Store(1) // 0 means never
	return w
}

func (w *wheel) now() uint32 { return w.tick.Load() }

// book has c looked at no later than at tick at. An earlier booking stands: looking
// is what finds the deadline that counts.
func (w *wheel) book(c *conn, at uint32) {
	if b := c.booked.Load(); b != 0 && b <= at {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.tick.Load()
	at = min(max(at, now+1), now+wheelSize-1)
	if b := c.booked.Load(); b != 0 && b <= at {
		return
	}
	c.booked.Store(at)
	w.slots[at%wheelSize] = append(w.slots[at%wheelSize], c)
}

// advance moves on by one tick and looks at the connections booked for it. Entries
// that a nearer booking has made stale are passed over.
func (w *wheel) advance(look func(c *conn, now uint32) (next uint32)) {
	w.mu.Lock()
	now := w.tick.Add(1)
	due := w.slots[now%wheelSize]
	w.slots[now%wheelSize] = nil
	kept := due[:0]
	for _, c := range due {
		if c.booked.Load() == now {
			c.booked.Store(0)
			kept = append(kept, c)
		}
	}
	w.mu.Unlock()
	for _, c := range kept {
		if next := look(c, now); next != 0 {
			w.book(c, next)
		}
	}
}

func (w *wheel) run(ctx context.Context, look func(*conn, uint32) uint32) {
	t := time.NewTicker(tickTime)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.advance(look)
		}
	}
}

// ticks rounds d up to ticks, at least one.
func (s *Server) ticks(d time.Duration) uint32 { return uint32(max(1, (d+tickTime-1)/tickTime)) }

// look ends c if a deadline of its has passed, and says when to look next; 0: never.
func (s *Server) look(c *conn, now uint32) (next uint32) {
	if c.over.Load() {
		return 0
	}
	next = now + wheelSize - 1
	due := func(since uint32, limit time.Duration) bool {
		at := since + s.ticks(limit)
		if at > now {
			next = min(next, at)
		}
		return at <= now
	}

	c.out.Lock()
	if c.closing {
		if next = c.endBy; c.endBy <= now {
			c.wire.cut(c)
			next = 0
		}
		c.out.Unlock()
		return next
	}
	slow := c.blockedSince != 0 && due(c.blockedSince, s.cfg.WriteTimeout)
	slow = c.behindSince != 0 && due(c.behindSince, s.cfg.WriteTimeout) || slow
	upgraded, since := c.upgraded, c.since
	c.out.Unlock()

	c.in.Lock()
	awaited := c.stage == hello && len(c.inbox) == 0 // in time if it waits for us
	c.in.Unlock()
	paused := c.paused.Load() // its silence is of our making; before the times that resuming sets
	part := c.partSince.Load()
	session := c.session.Load()
	var why protocol.Close
	switch {
	case slow:
		why = slowConsumer
	case !upgraded:
		if due(part, s.cfg.HandshakeTimeout) {
			why = protocol.Close{Code: protocol.CloseAuthTimeout}
		}
	case awaited && due(since, s.cfg.AuthTimeout):
		why = protocol.Close{Code: protocol.CloseAuthTimeout, Reason: "auth_timeout"}
	case part != 0 && !paused && due(part, s.cfg.FrameTimeout):
		why = protocol.Close{Code: protocol.ClosePolicy, Reason: "message_timeout"}
	case !paused && due(c.heard.Load(), s.silence()):
		why = protocol.Close{Code: protocol.CloseGoingAway, Reason: "idle"}
	case session != nil && s.expired(session.ExpiresAt, now, &next):
		why = protocol.Close{Code: protocol.CloseUnauthenticated, Reason: "token_expired"}
	}
	if why != open {
		c.close(why) // which books its own deadline
		return 0
	}
	return next
}

// silence is how long a client may say nothing: two heartbeats missed, and a fifth of
// one for the way. With lingerTime for an answer to the close frame it stays below the
// minute after which a client that is cut off is to be offline.
func (s *Server) silence() time.Duration { return s.cfg.Heartbeat * 11 / 5 }

// expired says whether a token that ends at unixMilli has; otherwise next is moved
// forward to when it will.
func (s *Server) expired(unixMilli int64, now uint32, next *uint32) bool {
	if unixMilli == 0 {
		return false
	}
	left := time.Until(time.UnixMilli(unixMilli))
	if left <= 0 {
		return true
	}
	if left < wheelSize*tickTime {
		*next = min(*next, now+s.ticks(left))
	}
	return false
}

// bookExpiry sees that the end of c's token is not overlooked.
func (c *conn) bookExpiry() {
	now := c.s.wheel.now()
	next := now + wheelSize - 1
	if c.s.expired(c.session.Load().ExpiresAt, now, &next) {
		next = now
	}
	c.s.wheel.book(c, next)
}
