package connector

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
)

// netPoller serves with two goroutines per connection at most, one of them only
// while something is written: where there is no epoll, and behind TLS.
type netPoller struct {
	s        *Server
	tls      *tls.Config // nil: plain
	listener net.Listener
	stopped  chan struct{}
	serving  sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

func newNetPoller(s *Server) (poller, error) {
	p := &netPoller{s: s, stopped: make(chan struct{}), conns: make(map[*conn]struct{})}
	if s.cfg.TLSCertFile != "" {
		cert, err := tls.LoadX509KeyPair(s.cfg.TLSCertFile, s.cfg.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("connector.tls_cert_file: %w", err)
		}
		p.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	return p, nil
}

// keepAlive has the kernel ask a peer that was silent longer than a heartbeat, and
// end the connection well before 60 s: a half-open one is not present.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 2}

func (p *netPoller) listen(addr string) (net.Addr, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	p.listener = l
	return l.Addr(), nil
}

func (p *netPoller) run() {
	p.serving.Go(p.acceptAll)
	<-p.stopped
	p.refuse()
	p.each(func(c *conn) {
		c.out.Lock()
		c.wire.cut(c)
		c.out.Unlock()
	})
	p.serving.Wait()
}

func (p *netPoller) acceptAll() {
	for {
		nc, err := p.listener.Accept()
		if err == nil {
			p.admit(nc)
			continue
		}
		if p.s.draining.Load() {
			return
		}
		// Out of descriptors, or memory: what waits in the backlog gets its turn when
		// somebody has left.
		p.s.log.Warn("accept failed", "err", err)
		select {
		case <-p.stopped:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *netPoller) admit(nc net.Conn) {
	peer, _ := netip.ParseAddrPort(nc.RemoteAddr().String())
	l := &netWire{p: p, nc: nc, raw: nc, resumed: make(chan struct{}, 1)}
	if p.tls != nil {
		l.nc = tls.Server(nc, p.tls)
	}
	c := p.s.accept(l, peer.Addr().Unmap().WithZone("").String())
	if c == nil {
		if p.tls == nil { // before TLS an answer would cost more than it helps
			_, _ = nc.Write(refusal(protocol.CloseRestart)) // the buffer of a new connection has room
		}
		_ = nc.Close()
		return
	}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	p.serving.Go(func() { l.read(c) })
}

func (p *netPoller) refuse() { _ = p.listener.Close() }

func (p *netPoller) each(f func(*conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		f(c)
	}
}

func (p *netPoller) stop() { close(p.stopped) }

// netWire is the wire of one connection.
type netWire struct {
	p       *netPoller
	nc      net.Conn      // TLS where that is configured
	raw     net.Conn      // below it
	resumed chan struct{} // capacity 1: look whether reading may go on
}

// netReadSize is what each connection keeps while it waits for bytes.
const netReadSize = 4 << 10

func (l *netWire) read(c *conn) {
	a := &assembler{maxMessage: c.s.cfg.MaxMessageBytes, maxFragments: c.s.cfg.MaxFragments}
	buf := make([]byte, netReadSize)
	for {
		n, err := l.nc.Read(buf)
		if n > 0 {
			c.input(buf[:n], a)
		}
		if err != nil {
			break
		}
		for c.paused.Load() && !c.deaf.Load() && !c.cutOff.Load() {
			<-l.resumed
		}
	}
	c.out.Lock()
	c.abandon()
	c.out.Unlock()
	_ = l.nc.Close()
	l.p.mu.Lock()
	delete(l.p.conns, c)
	l.p.mu.Unlock()
	c.ended()
}

// wake has a goroutine write until nothing waits. As long as something does, the
// reader is there and serving is not zero.
func (l *netWire) wake(c *conn) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.box != nil {
		l.p.serving.Go(func() { l.flush(c) })
	}
}

// flush gives up out while it writes, which may block. Its deadline is the wheel's,
// which knows what to say to a slow client.
func (l *netWire) flush(c *conn) {
	scratch := scratches.Get().(*[scratchSize]byte)
	defer scratches.Put(scratch)
	c.out.Lock()
	defer c.out.Unlock()
	for c.box != nil {
		b, frames := c.box.next(scratch[:])
		c.box.held = frames
		c.waitForRoom()
		c.out.Unlock()
		n, err := l.nc.Write(b)
		c.out.Lock()
		switch {
		case c.box == nil: // the reader has seen the end
			return
		case err != nil:
			c.abandon()
			l.cut(c)
			return
		}
		c.written(n)
		if len(c.box.frames) == 0 && !c.drained() {
			return
		}
	}
}

func (l *netWire) reconsider(c *conn) {
	select {
	case l.resumed <- struct{}{}:
	default: // it will look
	}
}

// finish may block on TLS, whose farewell is one more record.
func (l *netWire) finish(*conn) {
	if w, ok := l.nc.(interface{ CloseWrite() error }); ok {
		l.p.serving.Go(func() { _ = w.CloseWrite() })
	}
}

// cut closes below TLS, which would wait for a farewell to be written.
func (l *netWire) cut(c *conn) {
	c.cutOff.Store(true)
	l.reconsider(c)
	if t, ok := l.raw.(*net.TCPConn); ok && c.box != nil {
		_ = t.SetLinger(0)
	}
	_ = l.raw.Close()
}
