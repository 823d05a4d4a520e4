// Package balancer stands in front of connectors as nginx does with configs/nginx.conf, for
// tests and benches that add and take away connectors under load.
package balancer

import (
	"io"
	"net"
	"sync"
	"time"
)

// Balancer sends a new connection to the server with the fewest open ones (least_conn); one
// that cannot be reached is left out for a while and the next is tried. What is open stays
// where it is.
type Balancer struct {
	listener net.Listener
	copies   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	servers []string
	refused map[string]time.Time
	open    map[net.Conn]link
	turn    int // among those with as many
}

// link is the other half of a client's connection.
type link struct {
	server string
	up     net.Conn
}

// refusedFor is configs/nginx.conf's fail_timeout.
const refusedFor = 2 * time.Second

// New listens on loopback, with no servers yet, until Close.
func New() (*Balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{listener: l, refused: make(map[string]time.Time), open: make(map[net.Conn]link)}
	b.copies.Go(b.accept)
	return b, nil
}

func (b *Balancer) accept() {
	for {
		nc, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		b.copies.Go(func() { b.serve(nc) })
	}
}

// Add lets new connections go to a server, host:port.
func (b *Balancer) Add(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = append(b.servers, server)
}

// Remove lets no more go there; what is open there stays.
func (b *Balancer) Remove(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.servers {
		if s == server {
			b.servers = append(b.servers[:i:i], b.servers[i+1:]...)
			return
		}
	}
}

// serve connects a client to a server and copies until either ends.
func (b *Balancer) serve(nc net.Conn) {
	defer nc.Close()
	for tried := make(map[string]bool); ; {
		server := b.take(nc, tried)
		if server == "" {
			return
		}
		tried[server] = true
		up, err := net.DialTimeout("tcp", server, 2*time.Second) // configs/nginx.conf: proxy_connect_timeout
		if err != nil {
			b.give(nc, server)
			continue
		}
		b.mu.Lock()
		b.open[nc] = link{server, up}
		b.mu.Unlock()
		b.copies.Go(func() {
			_, _ = io.Copy(up, nc) // either end is the end of both
			up.Close()
		})
		_, _ = io.Copy(nc, up)
		up.Close()
		nc.Close()
		b.mu.Lock()
		delete(b.open, nc)
		b.mu.Unlock()
		return
	}
}

// take counts a connection in where the fewest are; "" where nothing is left to try.
func (b *Balancer) take(nc net.Conn, tried map[string]bool) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := b.counts()
	best := ""
	b.turn++
	for i := range b.servers {
		s := b.servers[(b.turn+i)%len(b.servers)]
		if !tried[s] && time.Since(b.refused[s]) > refusedFor && (best == "" || count[s] < count[best]) {
			best = s
		}
	}
	if best != "" {
		b.open[nc] = link{server: best}
	}
	return best
}

// give takes it back: the server cannot be reached.
func (b *Balancer) give(nc net.Conn, server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, nc)
	b.refused[server] = time.Now()
}

func (b *Balancer) counts() map[string]int {
	n := make(map[string]int)
	for _, l := range b.open {
		n[l.server]++
	}
	return n
}

// Connections is how many each server has.
func (b *Balancer) Connections() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts()
}

// Cut ends n connections, any, without a word: as a network does that clients leave.
func (b *Balancer) Cut(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for nc := range b.open { // in no order
		if n--; n < 0 {
			return
		}
		nc.Close()
	}
}

// Close ends all connections and returns when nothing is copied any more.
func (b *Balancer) Close() {
	b.listener.Close()
	b.mu.Lock()
	for nc, l := range b.open {
		nc.Close()
		if l.up != nil {
			l.up.Close()
		}
	}
	b.mu.Unlock()
	b.copies.Wait()
}

// Addr is what clients dial.
func (b *Balancer) Addr() string { return b.listener.Addr().String() }
