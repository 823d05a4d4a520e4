package connector

import (
	"sync"

	"github.com/curlew-im/curlew/api/protocol"
)

// frameKind says what may happen to a frame when its outbox is full.
type frameKind uint8

const (
	reply frameKind = iota // control frames too: written, or the connection ends [P5]
	push                   // may be dropped: pulled later
)

// outbox is what waits for one connection. A connection has one only while
// something waits.
type outbox struct {
	frames []outFrame
	off    int // bytes of the first frame that are written
	held   int // frames that are being written and cannot be dropped
	bytes  int
}

type outFrame struct {
	bytes []byte // shared with other connections: never changed
	kind  frameKind
}

var outboxes = sync.Pool{New: func() any { return new(outbox) }}

// fits says whether n more bytes may wait. One frame may always, however long: a
// page of history must reach a client whose outbox is empty.
func (b *outbox) fits(n int, cfg *Config) bool {
	return len(b.frames) == 0 || b.bytes+n <= cfg.OutboxBytes && len(b.frames) < cfg.OutboxFrames
}

func (b *outbox) add(f []byte, k frameKind) {
	b.frames = append(b.frames, outFrame{f, k})
	b.bytes += len(f)
}

// drop removes the waiting frames of which keep says no, except one that is half
// written, and returns how many.
func (b *outbox) drop(keep func(frameKind) bool) (dropped int) {
	kept := b.frames[:0]
	for i, f := range b.frames {
		if i < b.held || i == 0 && b.off > 0 || keep(f.kind) {
			kept = append(kept, f)
			continue
		}
		b.bytes -= len(f.bytes)
		dropped++
	}
	clear(b.frames[len(kept):])
	b.frames = kept
	return dropped
}

// next is what to write now: the first frame's rest, or as many frames as scratch
// takes, so that what is due in the same instant leaves in one write. frames says of
// how many it is.
func (b *outbox) next(scratch []byte) (bytes []byte, frames int) {
	first := b.frames[0].bytes[b.off:]
	if len(b.frames) == 1 || len(first) >= len(scratch) {
		return first, 1
	}
	n := copy(scratch, first)
	for frames = 1; frames < len(b.frames) && n < len(scratch); frames++ {
		n += copy(scratch[n:], b.frames[frames].bytes)
	}
	return scratch[:n], frames
}

// advance forgets n written bytes and returns how many frames they completed.
func (b *outbox) advance(n int) (frames int) {
	b.held = 0
	b.bytes -= n
	n += b.off
	for frames < len(b.frames) && n >= len(b.frames[frames].bytes) {
		n -= len(b.frames[frames].bytes)
		frames++
	}
	b.off = n
	rest := copy(b.frames, b.frames[frames:])
	clear(b.frames[rest:])
	b.frames = b.frames[:rest]
	return frames
}

// release gives an empty outbox back. One that has grown is left to the collector.
func (b *outbox) release() {
	if cap(b.frames) <= 64 {
		outboxes.Put(b)
	}
}

// scratches are what several frames are gathered in, one per write under way.
var scratches = sync.Pool{New: func() any { return new([scratchSize]byte) }}

const scratchSize = 16 << 10

// write queues a frame and sees that it is written.
func (c *conn) write(f []byte, k frameKind) {
	if c.put(f, k) {
		c.wire.wake(c)
	}
}

// put queues a frame; wake says that the caller is to call wire.wake, now or when it
// has put all it has.
func (c *conn) put(f []byte, k frameKind) (wake bool) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.closing {
		return false
	}
	if c.box == nil {
		c.box = outboxes.Get().(*outbox)
	}
	if !c.box.fits(len(f), &c.s.cfg) {
		if k == push {
			c.fallBehind(1)
			return false
		}
		c.fallBehind(c.box.drop(func(k frameKind) bool { return k == reply }))
		if !c.box.fits(len(f), &c.s.cfg) {
			c.s.metrics.refused.WithLabelValues("reply").Inc()
			return c.shut(slowConsumer)
		}
	}
	c.box.add(f, k)
	if len(c.box.frames) >= c.s.cfg.OutboxFrames/2 || c.box.bytes >= c.s.cfg.OutboxBytes/2 {
		c.crowded.Store(true)
	}
	return c.startWriting()
}

var slowConsumer = protocol.Close{Code: protocol.CloseSlow, Reason: "slow_consumer"}

// fallBehind notes that pushes were dropped: the client is told once it has caught
// up, or closed if it does not. With out held.
func (c *conn) fallBehind(dropped int) {
	if dropped == 0 {
		return
	}
	c.s.metrics.refused.WithLabelValues("push").Add(float64(dropped))
	if c.behindSince == 0 {
		c.behindSince = c.s.wheel.now()
		c.s.wheel.book(c, c.behindSince+c.s.ticks(c.s.cfg.WriteTimeout))
	}
}

// startWriting says whether a flush has to be asked for. With out held.
func (c *conn) startWriting() (wake bool) {
	wake = !c.writing
	c.writing = true
	return wake
}

// shut ends the connection after a close frame (before the upgrade: an HTTP
// answer). What waits is written first, except to a slow client. With out held.
func (c *conn) shut(why protocol.Close) (wake bool) {
	if c.closing {
		return false
	}
	c.s.metrics.closed(why.Code)
	c.dismissed.Store(true)
	if why.Code == protocol.CloseSlow && c.box != nil {
		c.box.drop(func(frameKind) bool { return false })
	}
	if !c.upgraded {
		return c.endWith(refusal(why.Code))
	}
	return c.endWith(closeFrame(why))
}

// endWith queues the last bytes of a connection. With out held.
func (c *conn) endWith(last []byte) (wake bool) {
	if c.closing {
		return false
	}
	c.closing = true
	c.deaf.Store(true)
	if c.box == nil {
		c.box = outboxes.Get().(*outbox)
	}
	c.box.add(last, reply)
	c.endBy = c.s.wheel.now() + c.s.ticks(c.s.cfg.WriteTimeout)
	c.s.wheel.book(c, c.endBy)
	c.wire.reconsider(c)
	return c.startWriting()
}

// close ends the connection as shut does.
func (c *conn) close(why protocol.Close) {
	c.out.Lock()
	wake := c.shut(why)
	c.out.Unlock()
	if wake {
		c.wire.wake(c)
	}
}

// drained is called with out held when everything waiting was written. It says
// whether there is more to write after all.
func (c *conn) drained() (more bool) {
	if c.behindSince != 0 && !c.closing {
		c.behindSince = 0
		c.box.add(nudge, push)
		return true
	}
	if c.crowded.Swap(false) {
		c.in.Lock()
		start := c.startTurn()
		c.in.Unlock()
		if start {
			c.s.readers.add(c)
		}
	}
	c.box.release()
	c.box, c.writing, c.blockedSince = nil, false, 0
	if c.closing {
		c.endBy = c.s.wheel.now() + c.s.ticks(lingerTime)
		c.s.wheel.book(c, c.endBy)
		c.wire.finish(c)
	}
	return false
}

// written forgets n bytes that the socket took. With out held.
func (c *conn) written(n int) {
	c.blockedSince = 0
	c.s.metrics.writes.Inc()
	c.s.metrics.frames.Add(float64(c.box.advance(n)))
}

// waitForRoom notes that the client takes nothing just now. With out held.
func (c *conn) waitForRoom() {
	if c.blockedSince == 0 {
		c.blockedSince = c.s.wheel.now()
		c.s.wheel.book(c, c.blockedSince+c.s.ticks(c.s.cfg.WriteTimeout))
	}
}

// abandon drops what waits: nobody will read it. With out held.
func (c *conn) abandon() {
	if !c.closing {
		c.s.metrics.closed(closeAbnormal)
	}
	c.closing = true
	c.deaf.Store(true)
	c.box = nil
}
