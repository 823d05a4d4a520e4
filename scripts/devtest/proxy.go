package devtest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands before a server that others use too, so that a test can take it away
// from itself alone.
type Proxy struct {
	gate
	t      testing.TB
	target string
	addr   string
	slow   atomic.Int64 // nanoseconds that each answer is held up

	mu      sync.Mutex // guards what follows
	l       net.Listener
	stopped bool
	conns   map[net.Conn]bool
	done    sync.WaitGroup
}

// NewProxy stands before target until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, target: target, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.addr }

// Start lets connections through (again).
func (p *Proxy) Start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.l, p.addr, p.stopped = l, l.Addr().String(), false
	p.mu.Unlock()
	p.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.carry(c) })
		}
	})
}

// Slow holds up each answer from now on; 0 ends it.
func (p *Proxy) Slow(by time.Duration) { p.slow.Store(int64(by)) }

// Stop cuts all connections and refuses new ones, as the death of the server does.
func (p *Proxy) Stop() {
	p.Resume()
	p.mu.Lock()
	p.stopped = true
	p.l.Close()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}

func (p *Proxy) carry(c net.Conn) {
	s, err := net.Dial("tcp", p.target)
	if err != nil {
		c.Close()
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[s] = true, true
	if p.stopped {
		c.Close()
		s.Close()
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(s, c, func() {}) })
	both.Go(func() { p.pump(c, s, func() { time.Sleep(time.Duration(p.slow.Load())) }) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, s)
	p.mu.Unlock()
}

func (p *Proxy) pump(to, from net.Conn, late func()) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.pass()
		late()
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
