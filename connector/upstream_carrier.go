package connector

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// batchBytes is where a batch is full and the next begins; a batch is also all that
	// is waiting, so most are smaller.
	batchBytes = 64 << 10
	// callBytes is what a pending message takes beside its own bytes, about.
	callBytes = 512
)

var errCarrierClosed = errors.New("stream to logic closed") // try another

// call is one message that waits for its answer. Exactly one of connect and handle
// is set.
type call struct {
	message []byte
	connect func(protocol.ConnectAnswer)
	handle  func(protocol.Answer)
	pin     *pin
	session im.SessionID // of connect
	conn    uint64       // of connect

	request  uint64
	deadline time.Time
	sent     bool // handed to gRPC: from here on logic may have it
	weight   int64
}

// carrier is one life of one stream.
type carrier struct {
	u      *GRPCUpstream
	stream grpc.ClientStream
	unary  grpc.ClientConnInterface // the connection that the stream is on
	cancel context.CancelFunc
	open   atomic.Bool // takes new connections
	conns  atomic.Uint64
	room   *semaphore.Weighted
	wake   chan struct{}

	mu      sync.Mutex // guards what follows
	closed  bool
	request uint64
	pending map[uint64]*call
	order   []*call // by deadline; answered ones are skipped
	batches []*batch
	usual   struct{ bytes, calls int } // room to begin a batch with
	heard   time.Time                  // when logic last answered anything
}

// batch is what travels together, and the calls in it.
type batch struct {
	bytes []byte
	calls []*call
}

func newCarrier(u *GRPCUpstream, stream grpc.ClientStream, unary grpc.ClientConnInterface, cancel context.CancelFunc) *carrier {
	c := &carrier{u: u, stream: stream, unary: unary, cancel: cancel, room: semaphore.NewWeighted(u.cfg.MaxPendingBytes),
		wake: make(chan struct{}, 1), pending: map[uint64]*call{}, heard: time.Now()}
	c.open.Store(true)
	return c
}

func (c *carrier) number() uint64 { return c.conns.Add(1) }

func (c *carrier) dead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// run carries until the stream breaks, or ctx ends and nothing is pending.
func (c *carrier) run(ctx context.Context) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { c.write(done) })
	wg.Go(func() { c.sweep(ctx, done) })
	err := c.read()
	c.close()
	close(done)
	c.cancel()
	wg.Wait()
	return err
}

// ask queues one message; it blocks while too much is pending. errCarrierClosed says
// that it was not queued and another stream may take it.
func (c *carrier) ask(ctx context.Context, call *call, a *protocol.Ask) error {
	call.weight = min(int64(len(call.message))+callBytes, c.u.cfg.MaxPendingBytes)
	if !c.room.TryAcquire(call.weight) {
		wait, cancel := context.WithTimeout(ctx, c.u.timeout)
		defer cancel()
		if err := c.room.Acquire(wait, call.weight); err != nil {
			return im.ErrOverloaded
		}
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.room.Release(call.weight)
		return errCarrierClosed
	}
	c.request++
	call.request, call.deadline = c.request, time.Now().Add(c.u.timeout)
	a.Request = call.request
	c.pending[call.request] = call
	c.order = append(c.order, call)
	c.queue(a, call)
	c.mu.Unlock()
	c.notify()
	return nil
}

// gone tells logic to forget a connection.
func (c *carrier) gone(conn uint64) {
	c.mu.Lock()
	if !c.closed {
		c.queue(&protocol.Ask{Conn: conn, Gone: true}, nil)
	}
	c.mu.Unlock()
	c.notify()
}

// queue adds to the last batch, or begins one; c.mu is held.
func (c *carrier) queue(a *protocol.Ask, of *call) {
	if n := len(c.batches); n == 0 || len(c.batches[n-1].bytes) >= batchBytes {
		c.batches = append(c.batches, &batch{bytes: make([]byte, 0, c.usual.bytes), calls: make([]*call, 0, c.usual.calls)})
	}
	b := c.batches[len(c.batches)-1]
	b.bytes = protocol.AppendAsk(b.bytes, a)
	if of != nil {
		b.calls = append(b.calls, of)
	}
}

func (c *carrier) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write sends what is waiting, all of it at once, and sleeps while nothing is.
func (c *carrier) write(done <-chan struct{}) {
	for {
		c.mu.Lock()
		var b *batch
		if len(c.batches) > 0 {
			b = c.batches[0]
			c.batches[0] = nil
			c.batches = c.batches[1:]
			c.usual.bytes, c.usual.calls = len(b.bytes)*5/4, len(b.calls)*5/4
			for _, call := range b.calls {
				call.sent = true
			}
		}
		c.mu.Unlock()
		if b == nil {
			select {
			case <-c.wake:
				continue
			case <-done:
				return
			}
		}
		c.u.met.batches.Inc()
		c.u.met.messages.Add(float64(len(b.calls)))
		if err := c.stream.SendMsg(&b.bytes); err != nil {
			c.cancel() // the reader hears of it and says why
			return
		}
	}
}

// read brings the answers to those who wait.
func (c *carrier) read() error {
	for {
		var b []byte
		if err := c.stream.RecvMsg(&b); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		tolds, err := protocol.DecodeTolds(b)
		if err != nil {
			return err
		}
		for i := range tolds {
			c.told(&tolds[i])
		}
	}
}

func (c *carrier) told(t *protocol.Told) {
	if t.Draining {
		c.open.Store(false)
		return
	}
	if len(t.Revoked) > 0 {
		c.u.revoked(t.Revoked)
		return
	}
	c.mu.Lock()
	call := c.take(t.Request)
	c.heard = time.Now()
	c.mu.Unlock()
	if call == nil {
		return // answered before, by the sweep
	}
	if call.connect != nil {
		if t.Session == nil {
			c.u.drop(call.session, call.pin)
		} else if !c.u.accepted(t.Session, call.pin) {
			c.gone(call.conn)
		}
		call.connect(protocol.ConnectAnswer{Session: t.Session, Frame: t.Frame, Close: t.Close})
		return
	}
	call.handle(protocol.Answer{Frame: t.Frame, Identity: t.Identity, Close: t.Close, Watch: t.Watch})
}

// take removes a pending call, nil where it is answered already; c.mu is held. Who
// gets the call answers it.
func (c *carrier) take(request uint64) *call {
	call := c.pending[request]
	if call == nil {
		return nil
	}
	delete(c.pending, request)
	c.room.Release(call.weight)
	call.pin.pending.Add(-1)
	return call
}

// sweep answers what has waited too long, breaks a stream on which nothing comes back
// any more, and ends one that is no longer needed.
func (c *carrier) sweep(ctx context.Context, done <-chan struct{}) {
	tick := time.NewTicker(bridgeSweep)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if ctx.Err() != nil {
			c.open.Store(false)
		}
		late, stuck := c.late(time.Now())
		for _, call := range late {
			c.u.met.failed.WithLabelValues("timeout").Inc()
			if call.connect != nil {
				c.u.drop(call.session, call.pin)
				c.gone(call.conn) // should logic accept it yet
			}
			// One still in our queue stays there and may yet be sent: unknown too.
			call.fail(im.ErrUnknownOutcome)
		}
		if stuck || (!c.open.Load() && c.finish()) {
			c.cancel()
		}
	}
}

// late takes what is due. stuck says that meanwhile nothing was heard at all.
func (c *carrier) late(now time.Time) (due []*call, stuck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 {
		first := c.order[0]
		if c.pending[first.request] == first {
			if now.Before(first.deadline) {
				break
			}
			due = append(due, c.take(first.request))
		}
		c.order[0] = nil
		c.order = c.order[1:]
	}
	return due, len(due) > 0 && now.Sub(c.heard) > c.u.timeout
}

// finish closes a stream that takes nothing new, once nothing is pending.
func (c *carrier) finish() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 {
		return false
	}
	c.closed = true
	return true
}

// close answers everything that was pending, each by what may have become of it.
func (c *carrier) close() {
	c.open.Store(false)
	c.mu.Lock()
	c.closed = true
	var all []*call
	for request := range c.pending {
		all = append(all, c.take(request))
	}
	c.batches, c.order = nil, nil
	c.mu.Unlock()
	for _, call := range all {
		c.u.met.failed.WithLabelValues("broken").Inc()
		if call.connect != nil {
			c.u.drop(call.session, call.pin)
		}
		call.broken()
	}
}

// broken answers a call whose stream is gone.
func (call *call) broken() {
	if !call.sent {
		call.fail(im.ErrOverloaded) // logic never had it
		return
	}
	call.fail(im.ErrUnknownOutcome)
}

// fail answers in logic's place. Only here is the message decoded.
func (call *call) fail(err error) {
	if call.connect != nil {
		req, _ := protocol.DecodeRequest(call.message)
		frame, _ := protocol.EncodeReply(protocol.Reply{ID: req.ID, Error: protocol.NewError(im.ErrOverloaded)})
		call.connect(protocol.ConnectAnswer{Frame: frame, Close: protocol.Close{Code: protocol.CloseTryLater}})
		return
	}
	req, bad := protocol.DecodeRequest(call.message)
	var shown *protocol.Error
	switch {
	case bad != nil:
		shown = protocol.NewError(bad)
	case req.Cmd == protocol.CmdSend:
		shown = protocol.NewSendError(err)
	case errors.Is(err, im.ErrUnknownOutcome): // repeating any other command is harmless
		shown = protocol.NewError(im.ErrTimeout)
	default:
		shown = protocol.NewError(err)
	}
	frame, _ := protocol.EncodeReply(protocol.Reply{ID: req.ID, Error: shown}) // no raw content, so no error
	call.handle(protocol.Answer{Frame: frame})
}
