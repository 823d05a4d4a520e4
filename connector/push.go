package connector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// pusher carries the batches published to this node to its connections.
type pusher struct {
	s     *Server
	fence *fence
	heard chan struct{} // closed by the first batch
	once  sync.Once

	found, woken []*conn // of the batch under way
}

// run listens to the node's channel until ctx ends.
func (p *pusher) run(ctx context.Context) {
	for {
		err := p.s.bus.Subscribe(ctx, p.s.node, p.batch, p.lost)
		if ctx.Err() != nil {
			return
		}
		p.s.log.Warn("push subscription ended", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// subscribed waits until the node hears its own channel: a session that is routed
// here before that would miss pushes, and no seq would tell. While Redis is away it
// gives up; lost speaks up when the channel is there at last.
func (p *pusher) subscribed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.s.cfg.RouteTimeout)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		_ = p.s.bus.Publish(ctx, map[im.NodeID][]byte{p.s.node: {}}) // tried again
		select {
		case <-p.heard:
			return
		case <-ctx.Done():
			p.s.log.Warn("the push channel is not there yet")
			return
		case <-t.C:
		}
	}
}

// batch queues every delivery first and has the writes begin then, so that what one
// connection gets of it leaves in one.
func (p *pusher) batch(b []byte) {
	p.once.Do(func() { close(p.heard) })
	deliveries, err := protocol.DecodeDeliveries(b)
	if err != nil {
		p.s.metrics.pushes.WithLabelValues("bad").Inc()
		p.s.log.Error("push batch is unreadable", "err", err)
		return
	}
	p.fence.begin()
	p.woken = p.woken[:0]
	for i := range deliveries {
		if d := &deliveries[i]; d.Request == "" { // those are for who waits in logic
			p.s.metrics.pushes.WithLabelValues(p.deliver(d)).Inc()
		}
	}
	p.s.wakeAll(p.woken)
	clear(p.woken)
}

func (p *pusher) deliver(d *protocol.Delivery) (result string) {
	if d.Presence {
		p.s.presence.changed(d.Users)
		return "presence"
	}
	ordered := d.Conversation != "" && d.Seq != 0
	if ordered && !p.fence.pass(d.Conversation, d.Seq) {
		if d.Room == "" || !moves(d) {
			return "late"
		}
		d.Frame = nil // who is in the room counts all the same
	}
	if d.Room != "" {
		p.woken, result = p.s.rooms.deliver(d, p.woken)
		return result
	}
	if _, channel := d.Conversation.Channel(); channel && ordered && p.s.rooms.behind(d) {
		return "held"
	}
	p.found = p.found[:0]
	for _, u := range d.Users {
		p.found = p.s.sessions.of(u, p.found)
	}
	p.found = slices.DeleteFunc(p.found, func(c *conn) bool {
		return d.Only != "" && c.id != d.Only || d.Except != "" && c.id == d.Except
	})
	if len(p.found) == 0 {
		return "nobody"
	}
	var frame []byte
	if len(d.Frame) > 0 {
		frame = textFrame(d.Frame)
	}
	for _, c := range p.found {
		if frame != nil {
			if c.put(frame, push) {
				p.woken = append(p.woken, c)
			}
		}
		if d.Close.Code != 0 {
			c.close(d.Close)
		}
	}
	clear(p.found)
	return "sent"
}

// lost tells every client to compare its position: pushes may be missing, whatever
// the reason was may also have cost the routes [P4].
func (p *pusher) lost() {
	wakeUp(p.s.routing.doubt)
	p.s.presence.doubt(false)
	p.s.rooms.doubt()
	var conns []*conn
	for i := range registryShards {
		conns = p.s.sessions.inShard(i, conns[:0])
		conns = slices.DeleteFunc(conns, func(c *conn) bool { return !c.put(nudge, push) })
		p.s.wakeAll(conns)
	}
}

// The frames that say the same to everybody.
var (
	nudge  = textFrame(encode(protocol.PushNudge, struct{}{}))
	kicked = encode(protocol.PushKicked, protocol.Kicked{Code: "replaced", Reason: "this device has connected again, or another that takes its place"})
)

func encode(p protocol.Push, data any) []byte {
	b, err := protocol.EncodePush(protocol.PushFrame{Push: p, Data: data})
	if err != nil {
		panic(err) // of constants
	}
	return b
}

// fence keeps pushes in seq order [P6]: a conversation's frame is late if an earlier
// batch has brought its seq or a higher one. Inside a batch the order is the
// publisher's, who may send one message in two forms.
type fence struct {
	limit     int // conversations in each half
	batch     uint64
	cur, prev map[im.ConversationID]*mark // the older half is forgotten when the newer is full
}

type mark struct {
	floor, top im.Seq
	batch      uint64
}

// fenceSize bounds the conversations that are remembered, twice. A forgotten one is
// pushed whatever its seq: the client drops what it has.
const fenceSize = 1 << 16

func newFence(limit int) *fence {
	return &fence{limit: limit, cur: make(map[im.ConversationID]*mark)}
}

func (f *fence) begin() { f.batch++ }

// pass says whether a frame may go out, and remembers it.
func (f *fence) pass(c im.ConversationID, seq im.Seq) bool {
	m := f.cur[c]
	if m == nil {
		if m = f.prev[c]; m == nil {
			m = &mark{}
		}
		if len(f.cur) >= f.limit {
			f.prev, f.cur = f.cur, make(map[im.ConversationID]*mark)
		}
		f.cur[c] = m
	}
	if m.batch != f.batch {
		m.floor, m.batch = m.top, f.batch
	}
	if seq <= m.floor {
		return false
	}
	m.top = max(m.top, seq)
	return true
}
