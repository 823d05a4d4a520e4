package logic

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the deciding part. Labels come from the command list and the code table.
type metrics struct {
	requests   *prometheus.CounterVec // by command and code ("ok" where answered)
	send       prometheus.Histogram
	refused    *prometheus.CounterVec
	stale      prometheus.Counter
	waiters    prometheus.Gauge
	late       prometheus.Counter
	untyped    prometheus.Counter
	unseen     prometheus.Counter
	untold     prometheus.Counter
	groups     *prometheus.CounterVec
	retold     prometheus.Counter
	overloaded *prometheus.CounterVec // by what is over its bound
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_logic_requests_total",
			Help: "Socket requests answered, by command and code.",
		}, []string{"command", "code"}),
		send: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "curlew_logic_send_seconds",
			Help:    "From a send's arrival to its accepted answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_logic_sends_refused_total",
			Help: "Sends not accepted, by code.",
		}, []string{"code"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "curlew_logic_stale_copies_total",
			Help: "Answers from a copy past its time, because a store is away.",
		}),
		waiters: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "curlew_logic_stored_waiters",
			Help: "Requests waiting for their message to be stored.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "curlew_logic_stored_waits_late_total",
			Help: "Waits for stored that ended with accepted.",
		}),
	}
	m.untyped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "curlew_logic_typing_lost_total",
		Help: "Typing that could not be told.",
	})
	m.unseen = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "curlew_logic_seen_lost_total",
		Help: "Times at which a device was seen that were not kept: too many wait for MySQL.",
	})
	m.untold = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "curlew_logic_settings_untold_total",
		Help: "Changes of settings that could not be pushed; devices learn them by their positions.",
	})
	m.groups = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "curlew_logic_group_changes_total",
		Help: "Changes asked of groups, by kind and the code they were answered with.",
	}, []string{"kind", "code"})
	m.retold = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "curlew_logic_group_notices_retold_total",
		Help: "Notices of groups given to the log once more, since they were not stored in time.",
	})
	m.overloaded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "curlew_logic_overloaded_total",
		Help: "What was refused or put off since the workers are behind the log: by age, by records, or where a partition is stopped.",
	}, []string{"reason"})
	reg.MustRegister(m.requests, m.send, m.refused, m.stale, m.waiters, m.late, m.untyped, m.unseen, m.untold, m.groups, m.retold, m.overloaded)
	return m
}
