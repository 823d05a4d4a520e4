package main

import (
	"context"
	"net"
	"sync"
	"time"
)

// link carries the connections of one role to one store, or to another role, and does to
// them what a network does.
type link struct {
	l net.Listener

	mu     sync.Mutex // guards what follows
	target string
	delay  time.Duration
	down   bool                          // new connections are refused
	still  chan struct{}                 // not nil: nothing passes until it is closed
	conns  map[*net.TCPConn]*net.TCPConn // from the role, to the store
	closed bool
	done   sync.WaitGroup
}

func newLink(target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{target: target, l: l, conns: make(map[*net.TCPConn]*net.TCPConn)}
	k.done.Go(k.accept)
	return k, nil
}

func (k *link) addr() string { return k.l.Addr().String() }

func (k *link) accept() {
	for {
		c, err := k.l.Accept()
		if err != nil {
			return
		}
		k.done.Go(func() { k.carry(c.(*net.TCPConn)) })
	}
}

func (k *link) carry(from *net.TCPConn) {
	defer from.Close()
	k.mu.Lock()
	target := k.target
	k.mu.Unlock()
	c, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return
	}
	to := c.(*net.TCPConn)
	defer to.Close()
	k.mu.Lock()
	if k.down || k.closed || k.target != target {
		k.mu.Unlock()
		reset(from)
		return
	}
	k.conns[from] = to
	k.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { k.pump(to, from) })
	both.Go(func() { k.pump(from, to) })
	both.Wait()
	k.mu.Lock()
	delete(k.conns, from)
	k.mu.Unlock()
}

// pump copies one direction, each piece as late as the delay says; its end is passed on
// as an end of that direction only.
func (k *link) pump(to, from *net.TCPConn) {
	type piece struct {
		b   []byte
		due time.Time
	}
	late := make(chan piece, 1024) // as much as is on the way at once
	var writing sync.WaitGroup
	writing.Go(func() {
		for p := range late {
			time.Sleep(time.Until(p.due))
			k.gate()
			if _, err := to.Write(p.b); err != nil {
				from.Close()
				for range late { // the reader must not wait for us
				}
				return
			}
		}
		_ = to.CloseWrite() // closed already: as wished
	})
	for {
		b := make([]byte, 32<<10)
		n, err := from.Read(b)
		if n > 0 {
			k.mu.Lock()
			delay := k.delay
			k.mu.Unlock()
			late <- piece{b[:n], time.Now().Add(delay)}
		}
		if err != nil {
			break
		}
	}
	close(late)
	writing.Wait()
}

// gate waits while nothing is to pass.
func (k *link) gate() {
	k.mu.Lock()
	still := k.still
	k.mu.Unlock()
	if still != nil {
		<-still
	}
}

// slow delays everything in both directions; 0 ends it.
func (k *link) slow(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = d
}

// freeze lets nothing pass, as lost packets do; connections stay.
func (k *link) freeze() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.still == nil {
		k.still = make(chan struct{})
	}
}

// cut resets all connections and new ones, as a firewall that rejects.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for from, to := range k.conns {
		reset(from)
		reset(to)
	}
}

// retarget has connections go elsewhere from now on, and resets those that there are.
func (k *link) retarget(to string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.target = to
	for from, to := range k.conns {
		reset(from)
		reset(to)
	}
}

// halve ends the direction to the store of all connections; answers still come.
func (k *link) halve() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, to := range k.conns {
		_ = to.CloseWrite() // gone: as wished
	}
}

// heal ends freeze and cut.
func (k *link) heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
	if k.still != nil {
		close(k.still)
		k.still = nil
	}
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // gone: as wished
	c.Close()
}

func (k *link) close() {
	k.heal()
	k.mu.Lock()
	k.closed = true
	for from, to := range k.conns {
		from.Close()
		to.Close()
	}
	k.mu.Unlock()
	k.l.Close()
	k.done.Wait()
}

// linked puts a link between each role and Redis and MySQL, and starts the processes
// anew with them. Kafka tells its clients where it is, so a link before it is passed by.
func (c *cluster) linked(ctx context.Context) error {
	if c.links != nil {
		return nil
	}
	c.links = make(map[string]*link)
	for _, role := range roles {
		for _, store := range []string{"redis", "mysql"} {
			k, err := newLink(c.stores.addr(store))
			if err != nil {
				return err
			}
			c.links[role+" "+store] = k
		}
	}
	for _, p := range c.procs {
		p.kill()
	}
	return c.whole(ctx)
}

// link is the one between a role and redis or mysql; see fault.linked.
func (c *cluster) link(role, store string) *link { return c.links[role+" "+store] }
