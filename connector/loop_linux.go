package connector

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slot is where an event loop keeps a connection.
type slot struct {
	fd      int32 // -1 once closed
	index   uint32
	waits   uint32 // epoll's interest
	blocked bool   // the socket has no room
}

const (
	readSize     = 32 << 10 // of a loop's one buffer: half of the longest message
	readsPerTurn = 4        // then the next connection; level triggering brings it back
)

// Descriptors that are no connection, by the index in their events.
const (
	listenerIndex = 1<<32 - 1 - iota
	wakeIndex
)

// loop owns its connections: it alone reads them, frees their slots and closes their
// descriptors. An event carries (index, generation), so that one that was fetched
// before its descriptor was closed finds nobody.
type loop struct {
	e                  *epoll
	epfd               int
	file               *os.File        // epfd, as something that Go's own poller waits for:
	ready              syscall.RawConn // a loop that blocks in epoll_wait costs its thread the processor each time
	listener           int             // -1 once closed
	wakefd             int
	spare              int // given up for a moment when descriptors run out
	stopping, refusing atomic.Bool
	assembler          assembler
	buf                []byte

	mu    sync.Mutex // guards slots and free, which the loop alone changes, and the end of wakefd
	slots []held
	free  []uint32
}

type held struct {
	c          *conn
	generation uint32
}

func newLoop(e *epoll, at netip.AddrPort) (l *loop, err error) {
	l = &loop{e: e, epfd: -1, listener: -1, wakefd: -1, spare: -1, buf: make([]byte, readSize),
		assembler: assembler{maxMessage: e.s.cfg.MaxMessageBytes, maxFragments: e.s.cfg.MaxFragments}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err = unix.SetNonblock(l.epfd, true); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l.file = os.NewFile(uintptr(l.epfd), "epoll")
	if l.ready, err = l.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if l.spare, err = openSpare(); err != nil {
		return nil, err
	}
	if l.listener, err = listenSocket(at); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	if err = l.watch(l.wakefd, unix.EPOLLIN, wakeIndex, 0); err != nil {
		return nil, err
	}
	return l, l.watch(l.listener, unix.EPOLLIN, listenerIndex, 0)
}

func (l *loop) watch(fd int, events, index, generation uint32) error {
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(index), Pad: int32(generation)})
}

func (l *loop) wakeUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = unix.Write(l.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // full means awake already
}

func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range []int{l.listener, l.wakefd, l.spare} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.listener, l.wakefd, l.spare, l.epfd = -1, -1, -1, -1
}

func (l *loop) run() {
	events := make([]unix.EpollEvent, 256)
	var n int
	var failed error
	look := func(fd uintptr) (found bool) {
		for n, failed = unix.EpollWait(int(fd), events, 0); failed == unix.EINTR; {
			n, failed = unix.EpollWait(int(fd), events, 0)
		}
		return n != 0
	}
	for !l.stopping.Load() {
		if l.spare < 0 {
			l.regain()
			_ = l.file.SetReadDeadline(time.Now().Add(spareWait))
		}
		err := l.ready.Read(look)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = l.file.SetReadDeadline(time.Time{})
			continue
		}
		if err = errors.Join(err, failed); err != nil {
			l.e.s.log.Error("epoll wait failed", "err", err)
			break
		}
		for i := range events[:n] {
			l.handle(&events[i])
		}
	}
	for i := range l.slots {
		if c := l.slots[i].c; c != nil {
			l.destroy(c)
		}
	}
}

func (l *loop) handle(ev *unix.EpollEvent) {
	switch index := uint32(ev.Fd); index {
	case listenerIndex:
		l.accept()
	case wakeIndex:
		var b [8]byte
		_, _ = unix.Read(l.wakefd, b[:])
		if l.refusing.Load() && l.listener >= 0 {
			_ = unix.Close(l.listener)
			l.listener = -1
		}
	default:
		h := l.slots[index]
		if h.c == nil || h.generation != uint32(ev.Pad) {
			return
		}
		if ev.Events&unix.EPOLLOUT != 0 {
			l.flush(h.c)
		}
		if ev.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.read(h.c, ev.Events)
		}
	}
}

func (l *loop) read(c *conn, events uint32) {
	if c.cutOff.Load() {
		l.destroy(c)
		return
	}
	if c.paused.Load() && !c.deaf.Load() {
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.destroy(c)
		}
		return
	}
	for range readsPerTurn {
		n, err := unix.Read(int(c.fd), l.buf)
		switch {
		case n > 0:
			c.input(l.buf[:n], &l.assembler)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return
		default: // the end, or a reset
			l.destroy(c)
			return
		}
		if n < len(l.buf) || c.paused.Load() {
			return
		}
	}
}

// destroy closes the descriptor, under out: nobody writes to a number that may be
// somebody else's a moment later.
func (l *loop) destroy(c *conn) {
	c.out.Lock()
	fd := c.fd
	c.fd = -1
	c.abandon()
	c.out.Unlock()
	_ = unix.Close(int(fd))
	l.mu.Lock()
	l.slots[c.index].c = nil
	l.slots[c.index].generation++
	l.free = append(l.free, c.index)
	l.mu.Unlock()
	c.ended()
}

func (l *loop) wake(c *conn) { l.e.writers.add(c) }

// flush writes what the socket takes, several frames at once, and waits for room only
// while there is none.
func (l *loop) flush(c *conn) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.fd < 0 || c.box == nil {
		return
	}
	scratch := scratches.Get().(*[scratchSize]byte)
	defer scratches.Put(scratch)
	for {
		b, _ := c.box.next(scratch[:])
		n, err := unix.Write(int(c.fd), b)
		switch {
		case n > 0: // a frame is never empty
			c.written(n)
			if len(c.box.frames) > 0 {
				continue
			}
			c.blocked = false
			if c.drained() {
				continue
			}
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			c.blocked = true
			c.waitForRoom()
		default: // reset by the peer
			c.abandon()
			l.cut(c)
			return
		}
		l.reconsider(c)
		return
	}
}

func (l *loop) reconsider(c *conn) {
	var want uint32
	if !c.paused.Load() || c.closing {
		want = unix.EPOLLIN
	}
	if c.blocked {
		want |= unix.EPOLLOUT
	}
	if want == c.waits || c.fd < 0 {
		return
	}
	l.mu.Lock()
	generation := l.slots[c.index].generation
	l.mu.Unlock()
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, int(c.fd), &unix.EpollEvent{Events: want, Fd: int32(c.index), Pad: int32(generation)}); err != nil {
		l.e.s.log.Error("epoll change failed", "err", err)
		return
	}
	c.waits = want
}

func (l *loop) finish(c *conn) {
	if c.fd >= 0 {
		_ = unix.Shutdown(int(c.fd), unix.SHUT_WR)
	}
}

// cut makes the loop find the end: it alone closes descriptors. What is still unsent
// is thrown away with it.
func (l *loop) cut(c *conn) {
	if c.fd < 0 {
		return
	}
	c.cutOff.Store(true)
	if c.box != nil {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Shutdown(int(c.fd), unix.SHUT_RDWR)
}
