package jobs

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// auditMetrics are the figures of an Auditor. Missing and drift must stay 0.
type auditMetrics struct {
	rounds  *prometheus.CounterVec
	seconds prometheus.Histogram
	users   *prometheus.CounterVec
	drift   *prometheus.CounterVec
	repairs *prometheus.CounterVec
	checked *prometheus.CounterVec
	missing prometheus.Counter
}

func newAuditMetrics(reg prometheus.Registerer) *auditMetrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "curlew_audit_" + name, Help: help}, labels)
	}
	m := &auditMetrics{
		rounds: counters("rounds_total", "Rounds by result: done, failed.", "result"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "curlew_audit_round_seconds", Help: "Time of one round.", Buckets: prometheus.ExponentialBuckets(.01, 3, 9),
		}),
		users:   counters("users_total", "Users looked at by result: alike, moving (nothing can be said), unsealed (nothing to compare), drifted.", "result"),
		drift:   counters("drift_total", "Differences between a sealed Redis and MySQL at rest, by field; must stay 0.", "field"),
		repairs: counters("repairs_total", "Repairs of drift: rebuilt (a user or a conversation), generation (all).", "how"),
		checked: counters("messages_checked_total", "Accepted messages looked up by where they are: stored, dead, nowhere.", "found"),
		missing: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "curlew_audit_messages_missing_total", Help: "Accepted messages that are neither stored nor dead; must stay 0.",
		}),
	}
	for _, f := range im.DriftFields { // from the start: what is not there cannot be alarmed on
		m.drift.WithLabelValues(string(f))
	}
	if reg != nil {
		reg.MustRegister(m.rounds, m.seconds, m.users, m.drift, m.repairs, m.checked, m.missing)
	}
	return m
}
