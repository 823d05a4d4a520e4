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
	behind := a.Behind(next)
	a.c.m.lagRecords.WithLabelValues(string(a.lane), a.label).Set(float64(behind))
	age := 0.0
	if !oldest.IsZero() {
		age = max(time.Since(oldest).Seconds(), 0)
	}
	a.c.m.lagAge.WithLabelValues(string(a.lane), a.label).Set(age)
}

// Behind is how many records the log has, as far as it was seen, that are not before next.
func (a *Assignment) Behind(next int64) int64 { return max(a.lag.end.Load()-next, 0) }

// forget removes the gauges: another member shows them now.
func (l *lag) forget(a *Assignment) {
	a.c.m.lagRecords.DeleteLabelValues(string(a.lane), a.label)
	a.c.m.lagAge.DeleteLabelValues(string(a.lane), a.label)
}
