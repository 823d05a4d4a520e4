package api

import (
	order "container/list"
	"net"
	"net/http"
	"sync"
)

// places lets so many connections in. Where all places are taken, the one that has been
// idle longest between two requests gives up its own: whoever opens connections
// and leaves them lying keeps nobody out.
type places struct {
	net.Listener
	free chan struct{}
	done chan struct{}
	end  sync.Once

	mu   sync.Mutex  // guards what follows
	idle *order.List // of net.Conn, the longest first
	at   map[net.Conn]*order.Element
}

func newPlaces(l net.Listener, most int) *places {
	return &places{Listener: l, free: make(chan struct{}, most), done: make(chan struct{}), idle: order.New(), at: map[net.Conn]*order.Element{}}
}

// Accept takes the next connection, and then waits for its place.
func (p *places) Accept() (net.Conn, error) {
	nc, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case p.free <- struct{}{}:
		return &placed{Conn: nc, p: p}, nil
	default:
	}
	p.closeIdle()
	select {
	case p.free <- struct{}{}:
		return &placed{Conn: nc, p: p}, nil
	case <-p.done:
		nc.Close()
		return nil, net.ErrClosed
	}
}

// Close stops listening; connections stay.
func (p *places) Close() error {
	p.end.Do(func() { close(p.done) })
	return p.Listener.Close()
}

// state is told by the HTTP server what each connection does.
func (p *places) state(nc net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.at[nc]; ok {
		p.idle.Remove(e)
		delete(p.at, nc)
	}
	if s == http.StateIdle {
		p.at[nc] = p.idle.PushBack(nc)
	}
}

func (p *places) closeIdle() {
	p.mu.Lock()
	var oldest net.Conn
	if e := p.idle.Front(); e != nil {
		oldest = e.Value.(net.Conn)
		p.idle.Remove(e)
		delete(p.at, oldest)
	}
	p.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
}

// placed gives its place back once.
type placed struct {
	net.Conn
	p    *places
	once sync.Once
}

// CloseWrite lets the HTTP server end its side first where it answers before it has read
// the body: a close with unread bytes resets the connection, and takes the answer along.
func (c *placed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *placed) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.p.free })
	return err
}
