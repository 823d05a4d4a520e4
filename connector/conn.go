package connector

import (
	"bytes"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// conn is one connection, from accept to its end. An idle one is this struct, its
// session and its entry in the registry [P8].
type conn struct {
	s    *Server
	wire wire
	id   im.SessionID
	ip   string // of the client, for limits and logs

	session atomic.Pointer[im.Session] // nil until accepted
	next    *conn                      // the user's next connection; guarded by the registry
	watched []im.UserID                // whose presence it is told; guarded by presence

	// The reader's own.
	part     *fragment // what has arrived of an unfinished message; nil between messages
	messages bucket
	controls bucket
	shaken   bool // the handshake is over
	finished bool // a message was completed by the bytes being parsed
	arrived  bool // counts among those of its address that are shaking hands
	admitted bool // counts in the limits of its address

	heard     atomic.Uint32 // tick of the last byte from the client
	partSince atomic.Uint32 // tick at which an unfinished message began; 0: none
	booked    atomic.Uint32 // tick at which the wheel looks at it next
	deaf      atomic.Bool   // closing: what arrives is dropped
	dismissed atomic.Bool   // by us: what arrived and waits is dropped too
	paused    atomic.Bool   // not read from: logic is behind; written with in held
	crowded   atomic.Bool   // the outbox is half full: logic gets nothing until it is empty
	over      atomic.Bool   // the descriptor is gone
	cutOff    atomic.Bool   // to be closed whatever is still to be read

	in         sync.Mutex // guards to inFlight; taken inside out, never around it
	inbox      [][]byte   // messages not yet handed to logic
	inboxBytes int
	running    bool               // a worker has it, or it stands in line for one
	leaving    bool               // goes once what was taken is answered
	released   bool               // ended, and logic gets nothing more
	echo       protocol.CloseCode // of the client's close frame; 0: it has sent none
	stage      stage
	inFlight   int // handed to logic, not answered

	out          sync.Mutex // guards to slot; never waits for a write that blocks
	box          *outbox    // nil while nothing waits
	writing      bool       // a flush is asked for, under way, or waiting for room
	upgraded     bool
	closing      bool   // the last frame is in the outbox, or was
	since        uint32 // tick of the upgrade
	behindSince  uint32
	blockedSince uint32 // tick at which the client last took bytes, while it takes none
	endBy        uint32
	slot
}

// wire is how a connection's bytes move: epoll, or a goroutine.
type wire interface {
	wake(c *conn)       // there is something to write
	reconsider(c *conn) // what is waited for may have changed; out is held
	finish(c *conn)     // all is written: end our direction; out is held
	cut(c *conn)        // end it now, whatever waits; out is held
}

type stage uint8

const (
	hello      stage = iota // the first message is awaited
	connecting              // logic has it
	ready
)

const (
	// A connection is not read from while this much waits for logic: room for one
	// message of the largest size and a burst of small ones.
	inboxMessages = 64
	inboxBytes    = 128 << 10
	// turnLength is how many messages one connection gets handed over before the next
	// has its turn.
	turnLength = 16
	// lingerTime is how long a client may take to answer the close frame.
	lingerTime = 2 * time.Second
)

// input takes bytes as they arrive, in the reader's own memory.
func (c *conn) input(data []byte, a *assembler) {
	c.s.metrics.received.Add(float64(len(data)))
	c.heard.Store(c.s.wheel.now())
	if c.deaf.Load() {
		return
	}
	if !c.shaken {
		if data = c.shake(data); len(data) == 0 {
			return
		}
	}
	c.finished = false
	part, why := a.feed(c.part, data, c)
	if why != open {
		c.part = nil
		c.partSince.Store(0)
		if why != later {
			c.close(why)
		}
		return
	}
	if part != nil && (c.part == nil || c.finished) {
		c.beginPart(c.s.cfg.FrameTimeout)
	} else if part == nil {
		c.partSince.Store(0)
	}
	c.part = part
}

func (c *conn) beginPart(limit time.Duration) {
	now := c.s.wheel.now()
	c.partSince.Store(now)
	c.s.wheel.book(c, now+c.s.ticks(limit))
}

// message takes the next message, from the assembler.
func (c *conn) message(payload []byte, owned bool) protocol.Close {
	c.finished = true
	if !c.messages.take(c.s.wheel.now(), c.s.cfg.MessagesPerSecond, c.s.cfg.MessageBurst) {
		return rateLimited
	}
	c.s.metrics.messages.Inc()
	if !owned {
		payload = bytes.Clone(payload)
	}
	c.in.Lock()
	c.inbox = append(c.inbox, payload)
	c.inboxBytes += len(payload)
	pause := (len(c.inbox) >= inboxMessages || c.inboxBytes >= inboxBytes) && !c.paused.Load()
	if pause {
		c.paused.Store(true)
	}
	start := c.startTurn()
	c.in.Unlock()
	if pause {
		c.reconsider()
	}
	if start {
		c.s.readers.add(c)
	}
	return open
}

var rateLimited = protocol.Close{Code: protocol.CloseRateLimited, Reason: "rate_limited"}

// control answers a control frame, from the assembler.
func (c *conn) control(op ws.OpCode, payload []byte) protocol.Close {
	if !c.controls.take(c.s.wheel.now(), c.s.cfg.ControlsPerSecond, 2*c.s.cfg.ControlsPerSecond) {
		return rateLimited
	}
	switch op {
	case ws.OpPing:
		c.write(pongFrame(payload), reply)
	case ws.OpClose:
		code, _ := ws.ParseCloseFrameData(payload)
		if code == 0 {
			code = ws.StatusNormalClosure
		}
		return c.echoClose(protocol.CloseCode(code))
	}
	return open
}

// later ends the parsing, and the connection once what was taken is answered.
var later = protocol.Close{Code: closeAbnormal}

// echoClose answers a client's close frame with its own code (RFC 6455 §5.5.1), after
// the messages that came before it.
func (c *conn) echoClose(code protocol.CloseCode) protocol.Close {
	c.deaf.Store(true)
	c.in.Lock()
	defer c.in.Unlock()
	c.leaving, c.echo = true, code
	if c.inFlight == 0 && len(c.inbox) == 0 {
		return protocol.Close{Code: code}
	}
	return later
}

func (c *conn) reconsider() {
	c.out.Lock()
	c.wire.reconsider(c)
	c.out.Unlock()
}

// startTurn says whether the connection has to be put in line for a worker. With
// in held.
func (c *conn) startTurn() bool {
	if c.running || !c.due() {
		return false
	}
	c.running = true
	return true
}

// due says whether there is a message that logic may have now. The answers to what
// is in flight must find room in an outbox that is no more than half full: a client
// that reads is never closed for asking much at once. With in held.
func (c *conn) due() bool {
	return len(c.inbox) > 0 && c.stage != connecting && c.inFlight < c.s.cfg.OutboxFrames/2 && !c.crowded.Load()
}

// turn hands waiting messages to logic, on the pool, one after the other [P3].
func (c *conn) turn() (again bool) {
	for range turnLength {
		c.in.Lock()
		if c.dismissed.Load() {
			c.inbox, c.inboxBytes = nil, 0
		}
		if !c.due() {
			c.running = false
			release := c.spent()
			c.in.Unlock()
			if release {
				c.s.release(c.id)
			}
			return false
		}
		m := c.inbox[0]
		c.inbox[0] = nil
		if c.inbox = c.inbox[1:]; len(c.inbox) == 0 {
			c.inbox = nil
		}
		c.inboxBytes -= len(m)
		first := c.stage == hello
		if first {
			c.stage = connecting
		}
		c.inFlight++
		resume := c.paused.Load() && !c.leaving && len(c.inbox) <= inboxMessages/2 && c.inboxBytes <= inboxBytes/2
		if resume {
			c.heard.Store(c.s.wheel.now()) // what it said meanwhile has not been read
			if c.partSince.Load() != 0 {
				c.beginPart(c.s.cfg.FrameTimeout)
			}
			c.paused.Store(false)
		}
		c.in.Unlock()
		if resume {
			c.reconsider()
		}
		c.call(m, first)
	}
	return true
}

// call gives one message to logic. A bug in there ends the connection, not the node.
func (c *conn) call(m []byte, first bool) {
	defer func() {
		if r := recover(); r != nil {
			c.s.log.Error("message handler panicked", "session", c.id, "err", r, "stack", string(debug.Stack()))
			c.close(protocol.Close{Code: protocol.CloseInternal})
		}
	}()
	if first {
		c.s.up.Connect(c.s.callContext(), protocol.Hello{Session: c.id, Node: c.s.node, IP: c.ip}, m, c.connected)
		return
	}
	c.s.up.Handle(c.s.callContext(), c.session.Load(), m, c.handled)
}

// connected takes logic's verdict on the first message. An accepted session is
// answered when its route is registered [P4].
func (c *conn) connected(a protocol.ConnectAnswer) {
	if a.Session != nil {
		c.session.Store(a.Session)
		c.s.routing.join(c, a.Frame)
		return
	}
	if len(a.Frame) > 0 {
		c.write(textFrame(a.Frame), reply)
	}
	if a.Close.Code == 0 {
		a.Close.Code = protocol.CloseInternal
	}
	c.close(a.Close)
	c.answered(connecting)
}

// welcome answers the connect, once the session can be found.
func (c *conn) welcome(frame []byte) {
	c.write(textFrame(frame), reply)
	c.bookExpiry()
	c.answered(ready)
}

func (c *conn) handled(a protocol.Answer) {
	if a.Identity != nil {
		s := *c.session.Load()
		s.Identity = *a.Identity
		c.session.Store(&s)
		c.bookExpiry()
	}
	if len(a.Frame) > 0 {
		c.write(textFrame(a.Frame), reply)
	}
	if len(a.Watch) > 0 {
		c.s.presence.apply(c, a.Watch)
	}
	if a.Close.Code != 0 {
		c.close(a.Close)
	}
	c.answered(ready)
}

// answered makes room for the next message, and lets a leaving connection go.
func (c *conn) answered(next stage) {
	c.in.Lock()
	c.stage = next
	c.inFlight--
	start := c.startTurn()
	gone := c.leaving && c.inFlight == 0 && len(c.inbox) == 0
	bye := protocol.Close{Code: c.echo}
	c.in.Unlock()
	if start {
		c.s.readers.add(c)
	}
	if gone {
		if bye == open {
			bye = farewell()
		}
		c.close(bye)
	}
}

// retire stops reading, has answered what was taken, and then says farewell [P10].
func (c *conn) retire() {
	c.in.Lock()
	c.leaving = true
	c.paused.Store(true)
	gone := c.inFlight == 0 && len(c.inbox) == 0
	c.in.Unlock()
	c.reconsider()
	if gone {
		c.close(farewell())
	}
}

// spent says, once, that the connection has ended and logic has had the last of its
// messages. What came behind a connect that will not be answered is dropped. With in
// held.
func (c *conn) spent() bool {
	if !c.over.Load() || c.running || c.released {
		return false
	}
	if c.stage != ready {
		c.inbox, c.inboxBytes = nil, 0
	}
	c.released = len(c.inbox) == 0
	return c.released
}

// ended is called by the poller, once, when the descriptor is closed. What the client
// said before it left is still handed over.
func (c *conn) ended() {
	c.over.Store(true)
	c.deaf.Store(true)
	c.crowded.Store(false)
	c.in.Lock()
	start := c.startTurn()
	release := c.spent() // else by its turn, after the last message
	c.in.Unlock()
	if start {
		c.s.readers.add(c)
	}
	if release {
		c.s.release(c.id)
	}
	c.shook()
	if c.admitted {
		c.s.admission.release(c.ip)
	}
	c.s.live.Add(-1)
	c.s.metrics.connections.Dec()
	if c.session.Load() != nil {
		c.s.routing.leave(c)
	}
}
