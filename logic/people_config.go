package logic

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
)

// PeopleConfig is what an operator may turn about contacts. A zero field is the default.
type PeopleConfig struct {
	// RequestsPerMinute bounds the contact requests of one user (default 20; negative:
	// no bound): each may ring somebody's phone.
	RequestsPerMinute int
}

func (c PeopleConfig) withDefaults() PeopleConfig {
	or(&c.RequestsPerMinute, 20)
	return c
}

// peopleMetrics counts what is asked about contacts and blocks.
type peopleMetrics struct {
	requests *prometheus.CounterVec
	untold   prometheus.Counter
}

func newPeopleMetrics(reg prometheus.Registerer) *peopleMetrics {
	m := &peopleMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_logic_people_requests_total",
			Help: "Changes asked of contacts and blocks, by kind and the code they were answered with.",
		}, []string{"kind", "code"}),
		untold: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "curlew_logic_people_pushes_lost_total",
			Help: "Changes of contacts that could not be pushed; devices learn them by their version.",
		}),
	}
	reg.MustRegister(m.requests, m.untold)
	return m
}

func (m *peopleMetrics) count(kind string, err *error) {
	code := "ok"
	if *err != nil {
		code = protocol.CodeOf(*err).Name
	}
	m.requests.WithLabelValues(kind, code).Inc()
}
