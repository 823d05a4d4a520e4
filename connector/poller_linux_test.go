package connector

import (
	"errors"
	"net"
	"net/http"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEpoll_OutOfDescriptors(t *testing.T) {
	cfg := unlimited()
	cfg.MaxConnections = 1 << 20
	b := start(t, byDefault, cfg)
	c := b.connected(1, "d")

	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: uint64(descriptors(t) + 40), Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	defer restore()

	var crowd []net.Conn
	for { // both ends are in this process: either may be the one that finds none left
		nc, err := net.Dial("tcp", b.addr)
		if err != nil {
			if !errors.Is(err, unix.EMFILE) {
				t.Fatal(err)
			}
			break
		}
		crowd = append(crowd, nc)
		if len(crowd) > 1000 {
			t.Fatal("the limit is not felt")
		}
	}
	eventually(t, "somebody is shed", func() bool {
		if n := len(crowd); n > 0 && value(t, b.metrics.handshakes.WithLabelValues("503")) == 0 {
			_ = crowd[n-1].Close()
			crowd = crowd[:n-1]
			if nc, err := net.Dial("tcp", b.addr); err == nil {
				crowd = append(crowd, nc)
			}
			if nc, err := net.Dial("tcp", b.addr); err == nil {
				crowd = append(crowd, nc)
			}
		}
		return value(t, b.metrics.handshakes.WithLabelValues("503")) > 0
	})
	c.text("still here")
	c.expect("=still here")
	for _, nc := range crowd {
		nc.Close()
	}
	eventually(t, "the crowd is gone", func() bool { return b.live.Load() == 1 })
	restore()
	for i := range 8 { // by all loops
		b.connected(2+i, "d").nc.Close()
	}
	b.stop()
}

func TestEpoll_NoMoreConnectionsThanConfigured(t *testing.T) {
	cfg := unlimited()
	cfg.MaxConnections = 2
	b := start(t, byDefault, cfg)
	c := b.connected(1, "d")
	b.connected(2, "d")
	refused := b.dial()
	if r := refused.response(); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Error(r.Status, r.Header)
	}
	c.nc.Close()
	eventually(t, "one is gone", func() bool { return b.live.Load() == 1 })
	b.connected(3, "d")
}

// What accepted sockets inherit from their listener is not set again on each.
func TestEpoll_AcceptedSocketsInheritTheirOptions(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.connected(1, "d")
	b.poller.each(func(c *conn) {
		c.out.Lock()
		defer c.out.Unlock()
		for _, o := range []struct {
			name                string
			level, option, want int
		}{
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30},
			{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 2 * receiveBuffer},
			{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * sendBuffer}, // the kernel doubles it
		} {
			if v, err := unix.GetsockoptInt(int(c.fd), o.level, o.option); err != nil || v != o.want {
				t.Errorf("%s is %d, %v", o.name, v, err)
			}
		}
	})
}

// Slots are used again, with another generation: an event that was fetched for a
// connection which has ended since finds nobody.
func TestEpoll_SlotsAreReused(t *testing.T) {
	cfg := unlimited()
	cfg.Loops = 1
	b := start(t, byDefault, cfg)
	l := b.poller.(*epoll).loops[0]
	for i := range 20 {
		c := b.connected(i, "d")
		c.nc.Close()
		eventually(t, "it is gone", func() bool { return b.live.Load() == 0 })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.slots) != 1 || l.slots[0].generation != 20 {
		t.Errorf("%d slots, generation %d", len(l.slots), l.slots[0].generation)
	}
}
