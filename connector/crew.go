package connector

import (
	"sync"
	"time"

	"github.com/panjf2000/ants/v2"
)

// crew runs connections on a bounded ants pool. A connection stands in line once at
// most, so that the line is bounded by the connections; who puts one in line never
// waits, and a task that goes on puts its connection in line, not into the pool.
type crew struct {
	pool *ants.Pool
	size int
	work func(*conn) (again bool)
	task func() // crew.serve, bound once

	mu   sync.Mutex // guards the rest
	line []*conn
	head int // of the line
	busy int // tasks in the pool
}

func newCrew(size int, work func(*conn) (again bool)) (*crew, error) {
	// A task leaves the count a moment before the pool has its worker back: room for
	// both, so that Submit does not wait.
	pool, err := ants.NewPool(2*size, ants.WithNonblocking(true))
	if err != nil {
		return nil, err
	}
	w := &crew{pool: pool, size: size, work: work}
	w.task = w.serve
	return w, nil
}

// add puts connections in line.
func (w *crew) add(cs ...*conn) {
	w.mu.Lock()
	w.line = append(w.line, cs...)
	start := min(w.size-w.busy, len(cs))
	w.busy += start
	w.mu.Unlock()
	for range start {
		if w.pool.Submit(w.task) != nil { // stopped
			w.mu.Lock()
			w.busy--
			w.mu.Unlock()
		}
	}
}

func (w *crew) serve() {
	var again *conn
	for {
		w.mu.Lock()
		if again != nil {
			w.line = append(w.line, again)
			again = nil
		}
		if w.head == len(w.line) {
			w.line, w.head = w.line[:0], 0
			w.busy--
			w.mu.Unlock()
			return
		}
		c := w.line[w.head]
		w.line[w.head] = nil
		if w.head++; w.head > 1024 && w.head > len(w.line)/2 {
			n := copy(w.line, w.line[w.head:])
			clear(w.line[n:])
			w.line, w.head = w.line[:n], 0
		}
		w.mu.Unlock()
		if w.work(c) {
			again = c
		}
	}
}

// stop waits for what runs, at most for limit.
func (w *crew) stop(limit time.Duration) error { return w.pool.ReleaseTimeout(limit) }
