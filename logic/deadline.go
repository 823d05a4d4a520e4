package logic

import (
	"context"
	"sync"
	"time"
)

// lazyDeadline is a context with a deadline that has no timer until somebody waits for it.
// Most messages are answered from what is remembered, and wait for nothing: a timer for
// each was a tenth of what a send cost here.
type lazyDeadline struct {
	context.Context // whose end is its end
	at              time.Time

	mu    sync.Mutex      // guards what follows
	timed context.Context // nil until somebody waits
	stop  context.CancelFunc
	ended bool
}

// withTimeout is context.WithTimeout without a timer at first.
func withTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	l := &lazyDeadline{Context: parent, at: time.Now().Add(d)}
	if sooner, ok := parent.Deadline(); ok && sooner.Before(l.at) {
		l.at = sooner
	}
	return l, l.end
}

func (l *lazyDeadline) Deadline() (time.Time, bool) { return l.at, true }

func (l *lazyDeadline) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil {
		l.timed, l.stop = context.WithDeadline(l.Context, l.at)
		if l.ended {
			l.stop()
		}
	}
	return l.timed.Done()
}

func (l *lazyDeadline) Err() error {
	l.mu.Lock()
	timed, ended := l.timed, l.ended
	l.mu.Unlock()
	switch {
	case timed != nil:
		return timed.Err()
	case l.Context.Err() != nil:
		return l.Context.Err()
	case ended:
		return context.Canceled
	case !time.Now().Before(l.at):
		return context.DeadlineExceeded
	}
	return nil
}

// Value finds, for a child, the context that has the timer: it is bound to that without a
// goroutine of its own.
func (l *lazyDeadline) Value(key any) any {
	l.mu.Lock()
	timed := l.timed
	l.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return l.Context.Value(key)
}

func (l *lazyDeadline) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.stop != nil {
		l.stop()
	}
}
