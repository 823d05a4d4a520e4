package connector

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func newPoller(s *Server) (poller, error) {
	if s.cfg.TLSCertFile != "" {
		return newNetPoller(s)
	}
	return &epoll{s: s}, nil
}

func descriptorLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<30))
}

// epoll moves bytes by event loops over raw descriptors: an idle connection has no
// goroutine and no buffer [P8].
type epoll struct {
	s       *Server
	loops   []*loop
	writers *crew
}

func (e *epoll) listen(addr string) (net.Addr, error) {
	// Loops share the port by SO_REUSEPORT, which would also let a second process in
	// unnoticed: this listener, without it, finds one that is there.
	probe, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	bound := probe.Addr()
	if err := probe.Close(); err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return nil, err
	}
	if e.writers, err = newCrew(max(2, runtime.GOMAXPROCS(0)), func(c *conn) bool {
		c.wire.(*loop).flush(c)
		return false
	}); err != nil {
		return nil, err
	}
	for range e.s.cfg.Loops {
		l, err := newLoop(e, at)
		if err != nil {
			e.close()
			_ = e.writers.stop(0)
			return nil, err
		}
		e.loops = append(e.loops, l)
	}
	return bound, nil
}

func (e *epoll) run() {
	var wg sync.WaitGroup
	for _, l := range e.loops {
		wg.Go(l.run)
	}
	wg.Wait()
	if err := e.writers.stop(time.Second); err != nil { // they never block
		e.s.log.Error("socket writers did not end", "err", err)
	}
	e.close()
}

func (e *epoll) refuse() {
	for _, l := range e.loops {
		l.refusing.Store(true)
		l.wakeUp()
	}
}

func (e *epoll) stop() {
	for _, l := range e.loops {
		l.stopping.Store(true)
		l.wakeUp()
	}
}

func (e *epoll) each(f func(*conn)) {
	for _, l := range e.loops {
		l.mu.Lock()
		for _, h := range l.slots {
			if h.c != nil {
				f(h.c)
			}
		}
		l.mu.Unlock()
	}
}

func (e *epoll) close() {
	for _, l := range e.loops {
		l.close()
	}
}
