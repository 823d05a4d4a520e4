package jobs

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	recentSpan    = 10 * time.Second // of one window; what is shown is of the last one to two
	recentMax     = 1 << 42          // 73 minutes in ns; more counts as that
	recentBuckets = 40 * 8
)

// recent counts values of the last 10 to 20 s, in buckets of an eighth of an octave: a
// quantile is right to 7 %. An observation is two atomic additions and allocates nothing
// (BenchmarkRecent).
type recent struct {
	now, before atomic.Pointer[window]
}

type window struct {
	since  time.Time
	sum    atomic.Int64
	counts [recentBuckets]atomic.Uint32
}

func (r *recent) init(now time.Time) {
	r.now.Store(&window{since: now})
	r.before.Store(&window{since: now})
}

// turn begins a new window and forgets the last but one.
func (r *recent) turn(now time.Time) {
	r.before.Store(r.now.Load())
	r.now.Store(&window{since: now})
}

func (r *recent) observe(v int64) {
	v = max(min(v, recentMax-1), 0)
	w := r.now.Load()
	w.counts[bucket(uint64(v))].Add(1)
	w.sum.Add(v)
}

func (r *recent) since(start time.Time) { r.observe(int64(time.Since(start))) }

// bucket is where a value is counted: 0 to 7 each have one, then eight share an octave.
func bucket(v uint64) int {
	if v < 8 {
		return int(v)
	}
	shift := bits.Len64(v) - 4
	return shift*8 + int(v>>shift)
}

// middle is what a value in bucket b is taken for.
func middle(b int) float64 {
	if b < 16 {
		return float64(b)
	}
	shift := b/8 - 1
	return (float64(b-shift*8) + 0.5) * float64(uint64(1)<<shift)
}

// recently is what a recent has counted.
type recently struct {
	n      int64
	sum    float64
	span   time.Duration
	counts [recentBuckets]int64
}

func (r *recent) read(now time.Time) *recently {
	before, last := r.before.Load(), r.now.Load()
	all := &recently{span: now.Sub(before.since), sum: float64(before.sum.Load() + last.sum.Load())}
	for i := range all.counts {
		all.counts[i] = int64(before.counts[i].Load()) + int64(last.counts[i].Load())
		all.n += all.counts[i]
	}
	return all
}

// quantile is 0 where nothing was counted.
func (r *recently) quantile(q float64) float64 {
	rank := int64(q*float64(r.n-1)) + 1
	for i, n := range r.counts {
		if rank -= n; rank <= 0 && r.n > 0 {
			return middle(i)
		}
	}
	return 0
}

// mean is 0 where nothing was counted.
func (r *recently) mean() float64 { return r.sum / float64(max(r.n, 1)) }

// perSecond is the sum over the time in which it came together.
func (r *recently) perSecond() float64 { return r.sum / max(r.span.Seconds(), 0.001) }
