package logic

import (
	"sync"
	"time"
)

// breaker spares a store that does not answer, and those who would wait for it: for
// one second after a failure nobody asks, and then one caller at a time does until
// it answers again.
type breaker struct {
	now func() time.Time

	mu     sync.Mutex // guards the fields below
	open   bool
	until  time.Time
	asking bool
}

const breakerPause = time.Second

// allow says whether to ask now. Who was allowed reports the end by done.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return true
	}
	if b.asking || b.now().Before(b.until) {
		return false
	}
	b.asking = true
	return true
}

func (b *breaker) done(answered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = false
	b.open = !answered
	if b.open {
		b.until = b.now().Add(breakerPause)
	}
}
