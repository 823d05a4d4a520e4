package queue

import (
	"sync/atomic"
	"time"
)

// lag is how far an assignment is behind the end of its partition, as far as its
// fetches have seen it.
type lag struct {
	end atomic.Int64 // high watermark of the last fetch
}

// show sets the gauges: records that are not finished, and the age of the oldest.
func (l *lag) show(a *Assignment, next int64, oldest time.Time) {
	behind := max(l.end.Load()-next, 0)
	a.c.m.lagRecords.WithLabelValues(string(a.lane), a.label).Set(float64(behind))
	age := 0.0
	if !oldest.IsZero() {
		age = max(time.Since(oldest).Seconds(), 0)
	}
	a.c.m.lagAge.WithLabelValues(string(a.lane), a.label).Set(age)
}

// forget removes the gauges: another member shows them now.
func (l *lag) forget(a *Assignment) {
	a.c.m.lagRecords.DeleteLabelValues(string(a.lane), a.label)
	a.c.m.lagAge.DeleteLabelValues(string(a.lane), a.label)
}
