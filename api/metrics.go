package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	seconds  *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "curlew_api_request_seconds",
			Help:    "Time from the end of the header to the answer, by route as registered.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"method", "route", "status"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_api_errors_total",
			Help: "Answers that were errors, by code.",
		}, []string{"code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "curlew_api_in_flight_requests",
			Help: "Requests being worked on.",
		}),
	}
	for _, c := range []prometheus.Collector{m.seconds, m.errors, m.inFlight} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observe takes the route as registered ("" for none), never the path, so that the
// labels stay a small fixed set.
func (m *metrics) observe(method, route string, status int, since time.Time) {
	if route == "" {
		method, route = "other", "none"
	}
	m.seconds.WithLabelValues(method, route, strconv.Itoa(status)).Observe(time.Since(since).Seconds())
}
