package connector

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/curlew-im/curlew/api/protocol"
)

const (
	acceptsPerTurn = 64
	listenBacklog  = 4096
	// spareWait is between attempts to have a spare descriptor again.
	spareWait = 100 * time.Millisecond
	// sendBuffer bounds what the kernel holds for a client that does not read; by
	// itself it would grow to megabytes.
	sendBuffer = 128 << 10
	// receiveBuffer bounds it for one that is not read from: a message of the longest
	// size, since the kernel doubles it.
	receiveBuffer = 64 << 10
	// userTimeout ends a connection whose peer acknowledges nothing, in milliseconds.
	userTimeout = 20_000
)

func openSpare() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) }

// listenSocket sets what accepted sockets inherit.
func listenSocket(at netip.AddrPort) (fd int, err error) {
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: [4]byte{}}
	family := unix.AF_INET
	if ip := at.Addr().Unmap(); ip.Is4() {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}
	} else {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Idle.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Interval.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAlive.Count},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
	} {
		if err = unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, listenBacklog)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (l *loop) accept() {
	for range acceptsPerTurn {
		if l.listener < 0 {
			return
		}
		fd, sa, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			l.admit(fd, sa)
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			if !l.shed() {
				return
			}
		default:
			if !errors.Is(err, unix.EAGAIN) {
				l.e.s.log.Warn("accept failed", "err", err)
			}
			return
		}
	}
}

// shed makes room by giving up the spare descriptor, takes the connection that
// waits, and closes it: left in the backlog it would wake the loop for ever. Where
// another thread is faster and takes the spare, the loop accepts nothing until it
// has one again.
func (l *loop) shed() bool {
	if l.spare >= 0 {
		_ = unix.Close(l.spare)
		l.spare = -1
	}
	fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == nil {
		_ = unix.Close(fd)
		l.e.s.metrics.handshakes.WithLabelValues("503").Inc()
	}
	l.regain()
	return err == nil && l.spare >= 0
}

// regain takes a spare descriptor and listens, or does not listen.
func (l *loop) regain() {
	var err error
	if l.spare, err = openSpare(); err != nil {
		l.spare = -1
	}
	if l.listener < 0 {
		return
	}
	var events uint32
	if l.spare >= 0 {
		events = unix.EPOLLIN
	}
	ev := unix.EpollEvent{Events: events, Fd: -1} // listenerIndex
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, l.listener, &ev); err != nil {
		l.e.s.log.Error("epoll change failed", "err", err)
	}
}

func (l *loop) admit(fd int, sa unix.Sockaddr) {
	c := l.e.s.accept(l, addressOf(sa))
	if c == nil {
		_, _ = unix.Write(fd, refusal(protocol.CloseRestart))
		_ = unix.Close(fd)
		return
	}
	c.out.Lock()
	c.fd, c.waits = int32(fd), unix.EPOLLIN // before a drain can find it: 0 is a descriptor too
	c.out.Unlock()
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		c.index, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c.index = uint32(len(l.slots))
		l.slots = append(l.slots, held{})
	}
	l.slots[c.index].c = c
	generation := l.slots[c.index].generation
	l.mu.Unlock()
	if err := l.watch(fd, unix.EPOLLIN, c.index, generation); err != nil {
		l.e.s.log.Warn("epoll refused a connection", "err", err)
		l.destroy(c)
	}
}

func addressOf(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr).String()
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap().String()
	}
	return ""
}
