package logic

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/panjf2000/ants/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// bridge is one stream of one connector. Messages of one connection are handled one
// after the other in their order; connections do not wait for each other.
type bridge struct {
	handler GRPCHandler
	stream  grpc.ServerStream
	warm    *ants.Pool    // whose goroutines have grown stacks: growing one costs more than a message
	slots   chan struct{} // one for each message being answered
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	conns   map[uint64]*bridgeConn
	batches [][]byte // of answers
	usual   int      // bytes to begin a batch with
}

// bridgeConn is one connection of the connector. The bridge's mutex guards it.
type bridgeConn struct {
	session *im.Session
	queue   []protocol.Ask
	busy    bool // somebody handles the queue
	gone    bool
}

// bridgeWarm is how many goroutines one stream keeps; those beyond it are fresh ones.
const bridgeWarm = 256

func newBridge(h GRPCHandler, stream grpc.ServerStream) *bridge {
	warm, _ := ants.NewPool(bridgeWarm, ants.WithNonblocking(true)) // fails for other options only
	return &bridge{handler: h, stream: stream, warm: warm, slots: make(chan struct{}, bridgeInFlight),
		wake: make(chan struct{}, 1), conns: map[uint64]*bridgeConn{}}
}

// run returns when the stream has ended and nothing is being handled any more.
func (b *bridge) run() error {
	ctx, cancel := context.WithCancel(b.stream.Context())
	var workers, writer sync.WaitGroup
	writer.Go(func() { b.write(ctx) })
	err := b.read(ctx, &workers)
	cancel()
	workers.Wait()
	writer.Wait()
	b.warm.Release()
	for _, c := range b.conns { // they may go on over another stream, and are seen there
		b.left(c)
	}
	return err
}

func (b *bridge) read(ctx context.Context, workers *sync.WaitGroup) error {
	for {
		var batch []byte
		if err := b.stream.RecvMsg(&batch); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		asks, err := protocol.DecodeAsks(batch)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		for _, a := range asks {
			if !a.Gone {
				select {
				case b.slots <- struct{}{}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := b.take(ctx, a, workers); err != nil {
				return err
			}
		}
	}
}

// take queues one message behind those of its connection.
func (b *bridge) take(ctx context.Context, a protocol.Ask, workers *sync.WaitGroup) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.conns[a.Conn]
	if c == nil {
		if a.Gone {
			return nil
		}
		if len(b.conns) >= bridgeConns {
			return status.Error(codes.ResourceExhausted, "too many connections on one stream")
		}
		c = &bridgeConn{}
		b.conns[a.Conn] = c
	}
	if a.Gone {
		c.gone = true
		if !c.busy {
			delete(b.conns, a.Conn)
			b.left(c)
		}
		return nil
	}
	c.queue = append(c.queue, a)
	if !c.busy {
		c.busy = true
		workers.Add(1)
		task := func() {
			defer workers.Done()
			b.work(ctx, a.Conn, c)
		}
		if b.warm.Submit(task) != nil { // all are busy
			go task()
		}
	}
	return nil
}

// left says that a connection's session has ended.
func (b *bridge) left(c *bridgeConn) {
	if c.session != nil {
		b.handler.Left(c.session)
	}
}

// work handles a connection's messages until none is left.
func (b *bridge) work(ctx context.Context, number uint64, c *bridgeConn) {
	for {
		b.mu.Lock()
		if len(c.queue) == 0 || ctx.Err() != nil {
			c.busy = false
			if c.gone || (c.session == nil && len(c.queue) == 0) {
				delete(b.conns, number) // ended, or refused
				b.left(c)
			}
			b.mu.Unlock()
			return
		}
		a := c.queue[0]
		if c.queue = c.queue[1:]; len(c.queue) == 0 {
			c.queue = nil
		}
		if a.Session != nil {
			c.session = a.Session
		}
		session := c.session
		b.mu.Unlock()
		b.handle(ctx, c, session, a)
	}
}

// handle passes one message on. For a first message it waits for the answer, which
// makes the session.
func (b *bridge) handle(ctx context.Context, c *bridgeConn, session *im.Session, a protocol.Ask) {
	ctx, cancel := withTimeout(ctx, bridgeDeadline)
	done := func(t protocol.Told) {
		cancel()
		t.Request = a.Request
		b.tell(&t)
		<-b.slots
	}
	switch {
	case a.Hello != nil:
		accepted := make(chan struct{})
		b.handler.Connect(ctx, *a.Hello, a.Message, func(r protocol.ConnectAnswer) {
			b.mu.Lock()
			c.session = r.Session
			b.mu.Unlock()
			done(protocol.Told{Session: r.Session, Frame: r.Frame, Close: r.Close})
			close(accepted)
		})
		<-accepted
	case session == nil:
		done(protocol.Told{Close: protocol.Close{Code: protocol.CloseInternal, Reason: "unknown session"}})
	default:
		b.handler.Handle(ctx, session, a.Message, func(r protocol.Answer) {
			done(protocol.Told{Identity: r.Identity, Frame: r.Frame, Close: r.Close, Watch: r.Watch})
		})
	}
}

// tell queues one answer; the messages in flight bound the queue.
func (b *bridge) tell(t *protocol.Told) {
	b.mu.Lock()
	n := len(b.batches)
	if n == 0 || len(b.batches[n-1]) >= bridgeBatchBytes {
		b.batches = append(b.batches, make([]byte, 0, b.usual))
		n++
	}
	b.batches[n-1] = protocol.AppendTold(b.batches[n-1], t)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// write sends what is waiting, all of it at once, and sleeps while nothing is.
func (b *bridge) write(ctx context.Context) {
	for {
		b.mu.Lock()
		var batch []byte
		if len(b.batches) > 0 {
			batch = b.batches[0]
			b.usual = len(batch) * 5 / 4
			b.batches[0] = nil
			b.batches = b.batches[1:]
		}
		b.mu.Unlock()
		if batch == nil {
			select {
			case <-b.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if b.stream.SendMsg(&batch) != nil {
			return // the reader hears of it
		}
	}
}
