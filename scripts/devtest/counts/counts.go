// Package counts counts what one step of a message's way costs. Counts, unlike times, are
// the same on a busy machine, so that a test can hold them.
package counts

import (
	"runtime"
	"testing"
)

// rounds is how often a step is repeated for an average that one collection of garbage,
// or one buffer that grows, does not move by a whole allocation.
const rounds = 200

// Allocs fails the test where f allocates more than most times, on average; f does one
// batch. Under the race detector, which allocates itself, it only runs f.
func Allocs(t testing.TB, most int, f func()) {
	t.Helper()
	if Race {
		f()
		return
	}
	n := int(testing.AllocsPerRun(rounds, f))
	t.Logf("%d allocations", n)
	if n > most {
		t.Errorf("%d allocations, at most %d are allowed", n, most)
	}
}

// Meter measures a benchmark per message, however many of them one operation has.
type Meter struct {
	b    *testing.B
	heap runtime.MemStats
}

// Start is called right before the loop.
func Start(b *testing.B) *Meter {
	m := &Meter{b: b}
	b.ReportAllocs()
	runtime.ReadMemStats(&m.heap)
	return m
}

// Report is called right behind the loop, in which so many messages went through. Bytes
// and allocations are of the whole process.
func (m *Meter) Report(messages int) {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	per := float64(messages)
	m.b.ReportMetric(float64(m.b.Elapsed().Nanoseconds())/per, "ns/msg")
	m.b.ReportMetric(float64(heap.Mallocs-m.heap.Mallocs)/per, "allocs/msg")
	m.b.ReportMetric(float64(heap.TotalAlloc-m.heap.TotalAlloc)/per, "B/msg")
}
