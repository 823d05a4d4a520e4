package jobs

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// meter measures one pool: for Prometheus, and of late for who asks how it is.
type meter struct {
	m    *metrics
	lane string

	busy    atomic.Int64 // strands at work
	lined   atomic.Int64 // strands in line
	working recent       // ns of a strand at work on a batch
	waited  recent       // ns of a strand in line
	batch   recent       // records

	busyGauge prometheus.Gauge
	batchHist prometheus.Observer

	steps atomic.Pointer[map[string]*stepMeter] // only ever replaced by a larger one
	mu    sync.Mutex                            // guards the replacing
}

// stepMeter is one step of a batch.
type stepMeter struct {
	hist   prometheus.Observer
	recent recent // ns
	store  bool   // a call to MySQL, in one of the other steps
}

func (m *meter) init(all *metrics, lane im.Lane) {
	m.m, m.lane = all, string(lane)
	m.busyGauge, m.batchHist = all.busy.WithLabelValues(m.lane), all.batch.WithLabelValues(m.lane)
	now := time.Now()
	m.working.init(now)
	m.waited.init(now)
	m.batch.init(now)
	m.steps.Store(&map[string]*stepMeter{})
}

// step measures one step of a batch from start to now.
func (m *meter) step(name string, start time.Time) { m.measure(name, start, false) }

// store measures one call to MySQL.
func (m *meter) store(op string, start time.Time) { m.measure(op, start, true) }

func (m *meter) measure(name string, start time.Time, store bool) {
	s := (*m.steps.Load())[name]
	if s == nil {
		s = m.meet(name, store)
	}
	took := time.Since(start)
	s.hist.Observe(took.Seconds())
	s.recent.observe(int64(took))
}

// meet is a step's first time.
func (m *meter) meet(name string, store bool) *stepMeter {
	m.mu.Lock()
	defer m.mu.Unlock()
	steps := maps.Clone(*m.steps.Load())
	if s := steps[name]; s != nil {
		return s
	}
	s := &stepMeter{hist: m.m.steps.WithLabelValues(m.lane, name), store: store}
	s.recent.init(time.Now())
	steps[name] = s
	m.steps.Store(&steps)
	return s
}

// turn lets what is old be forgotten.
func (m *meter) turn(now time.Time) {
	m.working.turn(now)
	m.waited.turn(now)
	m.batch.turn(now)
	for _, s := range *m.steps.Load() {
		s.recent.turn(now)
	}
}

// begin and end are around a strand's work on a batch.
func (m *meter) begin(lined time.Time) (start time.Time) {
	start = time.Now()
	m.lined.Add(-1)
	m.waited.observe(int64(start.Sub(lined)))
	m.busy.Add(1)
	m.busyGauge.Inc()
	return start
}

func (m *meter) end(start time.Time) {
	m.busy.Add(-1)
	m.busyGauge.Dec()
	m.working.since(start)
}

func (m *meter) records(n int) {
	m.batchHist.Observe(float64(n))
	m.batch.observe(int64(n))
}
