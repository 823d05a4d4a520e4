package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// watch counts, several times a second, what each process has done.
type watch struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex // guards what follows
	received *atomic.Int64
	nodes    []*node
	samples  []sample // bounded by the run: a few thousand
}

// watchEvery is between two samples.
const watchEvery = 200 * time.Millisecond

func observe() *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, ended: make(chan struct{})}
	go w.run(ctx)
	return w
}

func (w *watch) run(ctx context.Context) {
	defer close(w.ended)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := w.now(ctx)
		w.mu.Lock()
		w.samples = append(w.samples, s)
		w.mu.Unlock()
	}
}

// now is one sample, of all that answer.
func (w *watch) now(ctx context.Context) sample {
	w.mu.Lock()
	nodes, received := slices.Clone(w.nodes), w.received
	w.mu.Unlock()
	s := sample{at: time.Now(), records: make(map[*node]float64), messages: make(map[*node]float64), connections: make(map[*node]float64)}
	if received != nil {
		s.received = received.Load()
	}
	for _, n := range nodes {
		counted := make(map[string]float64)
		if scrape(ctx, n.admin, counted); len(counted) == 0 {
			continue // it has ended, or not begun
		}
		s.records[n] = counted["curlew_queue_fetched_total"]
		s.messages[n] = counted["curlew_connector_messages_total"]
		s.connections[n] = counted["curlew_connector_connections"]
	}
	return s
}

// follow counts what people have received.
func (w *watch) follow(received *atomic.Int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received = received
}

func (w *watch) add(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
}

func (w *watch) remove(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = slices.DeleteFunc(slices.Clone(w.nodes), func(m *node) bool { return m == n })
}

func (w *watch) all() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.samples)
}

func (w *watch) close() {
	w.cancel()
	<-w.ended
}
