package queue

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// punctual is a connection whose own deadline never comes.
type punctual struct {
	net.Conn
	wrote int
}

func (p *punctual) SetDeadline(time.Time) error      { return nil }
func (p *punctual) SetWriteDeadline(time.Time) error { return nil }
func (p *punctual) Write(b []byte) (int, error)      { p.wrote++; return len(b), nil }

// Who has given up a request at its deadline, and has counted no write until then, says
// that it was refused: it must not be written later, whatever the connection's timers do.
func TestCountedConn_WritesNothingAfterTheDeadline(t *testing.T) {
	under := &punctual{}
	var w writes
	c := &countedConn{Conn: under, writes: &w}
	write := func() error { _, err := c.Write([]byte("x")); return err }
	if err := write(); err != nil || w.now() != 1 {
		t.Fatalf("without a deadline: %v, %d counted", err, w.now())
	}
	for _, set := range []func(time.Time) error{c.SetDeadline, c.SetWriteDeadline} {
		before := w.now()
		if err := set(time.Now().Add(time.Hour)); err != nil || write() != nil || w.now() != before+1 {
			t.Errorf("before the deadline: %d counted", w.now()-before)
		}
		if err := set(time.Now()); err != nil {
			t.Error(err)
		}
		if err := write(); !errors.Is(err, os.ErrDeadlineExceeded) || w.now() != before+1 {
			t.Errorf("after it: %v, %d counted", err, w.now()-before)
		}
		if err := set(time.Time{}); err != nil || write() != nil || w.now() != before+2 {
			t.Errorf("without one again: %d counted", w.now()-before)
		}
	}
	if int64(under.wrote) != w.now() {
		t.Errorf("%d written, %d counted", under.wrote, w.now())
	}
}
