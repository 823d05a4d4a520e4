package queue

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// writes counts those to connections. The library does not say whether a request that
// failed was on its way; where nothing at all was written until its deadline, and nothing
// can be after it, it was not.
type writes struct {
	n    atomic.Int64
	gate sync.RWMutex // closed for a moment by who counts
}

// now is how many there were, those that have just begun among them.
func (w *writes) now() int64 {
	w.gate.Lock()
	defer w.gate.Unlock()
	return w.n.Load()
}

// countedConn counts writes before they are made, and makes none after the deadline: the
// connection's own timer may be late, and who has given a request up must be able to rely
// on that it is not written later.
type countedConn struct {
	net.Conn
	writes   *writes
	deadline atomic.Pointer[time.Time] // nil: none
}

func (c *countedConn) SetDeadline(t time.Time) error {
	c.keep(t)
	return c.Conn.SetDeadline(t)
}

func (c *countedConn) SetWriteDeadline(t time.Time) error {
	c.keep(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *countedConn) keep(t time.Time) {
	if t.IsZero() {
		c.deadline.Store(nil)
	} else {
		c.deadline.Store(&t)
	}
}

func (c *countedConn) Write(b []byte) (int, error) {
	if !c.begin() {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Write(b)
}

// begin counts a write, unless it would come too late.
func (c *countedConn) begin() bool {
	c.writes.gate.RLock()
	defer c.writes.gate.RUnlock()
	if t := c.deadline.Load(); t != nil && !time.Now().Before(*t) {
		return false
	}
	c.writes.n.Add(1)
	return true
}
