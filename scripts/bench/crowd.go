package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// crowd is people who talk in pairs by the Go client, which comes back by itself, catches
// up by sync and says again what it does not know to be taken: what they get counts
// whether it was pushed or pulled. Another one is said for each that came.
type crowd struct {
	run       string
	epoch     time.Time
	all       []*speaker
	received  atomic.Int64
	connected atomic.Int64
	stopped   atomic.Bool
	running   sync.WaitGroup
	leave     context.CancelFunc

	refused atomic.Int64
	first   atomic.Pointer[string] // refusal

	mu     sync.Mutex // guards delays
	delays *hdrhistogram.Histogram
}

// speaker is one of them.
type speaker struct {
	person
	crowd *crowd
	c     *client.Client
	peer  *speaker
	check *verify

	mu   sync.Mutex // guards sent and the order of what is said
	sent int64
}

// gather brings people in by one address; they begin to talk as they are connected.
func gather(ctx context.Context, all []person, address string, inFlight int) *crowd {
	ctx, cancel := context.WithCancel(ctx)
	c := &crowd{run: strconv.FormatInt(time.Now().UnixNano(), 36), epoch: time.Now(), leave: cancel, delays: hdrhistogram.New(1, longestDelay, 3)}
	for _, p := range all {
		s := &speaker{person: p, crowd: c, check: newVerify()}
		s.c = client.New(client.Options{
			Socket: "ws://" + address + "/v1/ws", Device: p.device, Platform: "bench",
			Token:     func(context.Context) (string, error) { return p.token, nil },
			OnMessage: s.heard, OnState: s.state, OnRejected: s.refused,
			Window: 1, // the client's word for keeping the order also where one is refused for now
		})
		c.all = append(c.all, s)
	}
	for i := 0; i+1 < len(c.all); i += 2 {
		a, b := c.all[i], c.all[i+1]
		a.peer, b.peer = b, a
		for range inFlight {
			a.say()
			b.say()
		}
	}
	for _, s := range c.all {
		c.running.Go(func() { _ = s.c.Run(ctx) }) // its connections are counted by state
	}
	return c
}

func (s *speaker) state(connected bool, _ error) {
	if connected {
		s.crowd.connected.Add(1)
	} else {
		s.crowd.connected.Add(-1)
	}
}

func (s *speaker) refused(_ *client.Outgoing, e *protocol.Error) {
	s.crowd.refused.Add(1)
	answer := e.Error()
	s.crowd.first.CompareAndSwap(nil, &answer)
}

// say queues the next message for the peer.
func (s *speaker) say() {
	s.mu.Lock()
	defer s.mu.Unlock()
	content := fmt.Appendf(nil, `{"text":"%d %d %d .`, s.user, s.sent, time.Since(s.crowd.epoch).Microseconds())
	for len(content) < len(`{"text":"`)+textBytes {
		content = append(content, '.')
	}
	_, err := s.c.Send(protocol.Send{
		ClientMsgID: im.ClientMsgID(s.crowd.run + "-" + strconv.FormatInt(s.sent, 10)), To: client.ToUser(s.peer.user),
		Type: im.TypeText, Content: append(content, `"}`...),
	})
	if err != nil {
		s.refused(nil, &protocol.Error{Message: err.Error()})
		return
	}
	s.sent++
}

// heard takes a message that came.
func (s *speaker) heard(m im.Message) {
	from, n, at, ours := stamp(quoted(m.Content, textField))
	if !ours {
		return
	}
	c := s.crowd
	s.check.got(from, n, uint64(m.Seq))
	delay := time.Since(c.epoch).Microseconds() - at
	c.mu.Lock()
	_ = c.delays.RecordValue(min(max(delay, 1), longestDelay)) // is in range
	c.mu.Unlock()
	c.received.Add(1)
	if !c.stopped.Load() {
		s.peer.say()
	}
}

// since returns the delays since the last call.
func (c *crowd) since() *hdrhistogram.Histogram {
	next := hdrhistogram.New(1, longestDelay, 3)
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.delays
	c.delays = next
	return was
}

func (c *crowd) said() (n int64) {
	for _, s := range c.all {
		s.mu.Lock()
		n += s.sent
		s.mu.Unlock()
	}
	return n
}

// end has them say nothing more, waits until all that was said has come, or nothing comes
// any more, and holds what came against what was said.
func (c *crowd) end(ctx context.Context) Faults {
	const patience = time.Minute // a lost push that nothing follows is found by a heartbeat
	c.stopped.Store(true)
	for last, since := c.received.Load(), time.Now(); c.received.Load() < c.said() && ctx.Err() == nil; {
		if now := c.received.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > patience {
			break
		}
		pause(ctx, 10*time.Millisecond)
	}
	c.leave()
	c.running.Wait()
	f := Faults{Refused: c.refused.Load()}
	if first := c.first.Load(); first != nil {
		f.First = *first
	}
	for _, s := range c.all {
		s.check.finish(map[im.UserID]int64{s.peer.user: s.peer.sent})
		f.add(s.check)
	}
	return f
}
