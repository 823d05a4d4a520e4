package storage

import "github.com/prometheus/client_golang/prometheus"

// redisMetrics are this package's figures about Redis.
type redisMetrics struct {
	seconds     *prometheus.HistogramVec // by op
	generations *prometheus.CounterVec   // set by this process, by cause
	rebuilds    *prometheus.CounterVec   // by result
	rebuild     prometheus.Histogram
	degraded    *prometheus.CounterVec // answers from MySQL instead of Redis, by op
	refused     *prometheus.CounterVec // by what was full
	open        prometheus.Gauge
	resubscribe prometheus.Counter
}

func newRedisMetrics(reg prometheus.Registerer) *redisMetrics {
	m := &redisMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "curlew_storage_redis_seconds", Help: "Time of one operation on Redis.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 1, 2},
		}, []string{"op"}),
		generations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_storage_redis_generations_total", Help: "New generations set by this process.",
		}, []string{"cause"}),
		rebuilds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_storage_redis_rebuilds_total", Help: "Users' projections completed from MySQL.",
		}, []string{"result"}),
		rebuild: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "curlew_storage_redis_rebuild_seconds", Help: "Time to complete one user's projection.",
			Buckets: prometheus.ExponentialBuckets(.001, 2.5, 9),
		}),
		degraded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_storage_redis_degraded_total", Help: "Answers read from MySQL because Redis was away.",
		}, []string{"op"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_storage_redis_refused_total", Help: "Calls refused because a queue was full.",
		}, []string{"queue"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "curlew_storage_redis_breaker_open", Help: "1 while calls to Redis fail at once.",
		}),
		resubscribe: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "curlew_storage_redis_resubscribed_total", Help: "Push channels that were interrupted and are whole again.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.seconds, m.generations, m.rebuilds, m.rebuild, m.degraded, m.refused, m.open, m.resubscribe)
	}
	return m
}
