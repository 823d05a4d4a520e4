package storage

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

type dbMetrics struct{ seconds *prometheus.HistogramVec }

func newDBMetrics() dbMetrics {
	return dbMetrics{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "curlew_storage_sql_seconds",
		Help:    "Time of one call to MySQL or SQLite, by operation and result.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
	}, []string{"op", "result"})}
}

func (m dbMetrics) observe(op string, start time.Time, err error) {
	var dup *im.DuplicateError
	result := "ok"
	switch {
	case err == nil:
	case errors.Is(err, im.ErrNotFound):
		result = "not_found"
	case errors.As(err, &dup), errors.Is(err, im.ErrConflict):
		result = "conflict"
	case errors.Is(err, context.Canceled):
		result = "canceled"
	case errors.Is(err, im.ErrStore):
		result = "away"
	default:
		result = "error"
	}
	m.seconds.WithLabelValues(op, result).Observe(time.Since(start).Seconds())
}

// Register adds the store's metrics: the time of each operation, and how many
// connections are open, busy and waited for, by pool (read, write).
func (db *DB) Register(reg prometheus.Registerer) {
	reg.MustRegister(db.metrics.seconds)
	pools := map[string]*sql.DB{"write": db.w}
	if db.r != db.w {
		pools["read"] = db.r
	}
	for name, pool := range pools {
		labels := prometheus.Labels{"pool": name}
		gauge := func(metric, help string, value func(sql.DBStats) float64) {
			reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metric, Help: help, ConstLabels: labels},
				func() float64 { return value(pool.Stats()) }))
		}
		gauge("curlew_storage_sql_open_connections", "Connections to the database.",
			func(s sql.DBStats) float64 { return float64(s.OpenConnections) })
		gauge("curlew_storage_sql_busy_connections", "Connections in use.",
			func(s sql.DBStats) float64 { return float64(s.InUse) })
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "curlew_storage_sql_wait_seconds_total",
			Help: "Time spent waiting for a free connection.", ConstLabels: labels},
			func() float64 { return pool.Stats().WaitDuration.Seconds() }))
	}
}
