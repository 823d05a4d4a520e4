package jobs

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// meter measures one pool: for Prometheus, and of late for whoever looks.
type meter struct {
	m     *metrics
	lane  string
	busy  prometheus.Gauge
	batch prometheus.Observer
	steps atomic.Pointer[map[string]prometheus.Observer] // only ever replaced by a larger one
	mu    sync.Mutex                                     // guards the replacing
}

func (m *meter) init(all *metrics, lane im.Lane) {
	m.m, m.lane = all, string(lane)
	m.busy, m.batch = all.busy.WithLabelValues(m.lane), all.batch.WithLabelValues(m.lane)
	m.steps.Store(&map[string]prometheus.Observer{})
}

// step measures one step of a batch from start to now.
func (m *meter) step(name string, start time.Time) {
	m.stepOf(name).Observe(time.Since(start).Seconds())
}

func (m *meter) stepOf(name string) prometheus.Observer {
	if s := (*m.steps.Load())[name]; s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	steps := maps.Clone(*m.steps.Load())
	s := m.m.steps.WithLabelValues(m.lane, name)
	steps[name] = s
	m.steps.Store(&steps)
	return s
}
