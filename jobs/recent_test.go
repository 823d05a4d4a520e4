package jobs

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestRecent_QuantilesAreRightToSevenPercent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r recent
	start := time.Now()
	r.init(start)
	var all []float64
	for range 10_000 {
		v := int64(math.Exp(rng.Float64() * 25)) // from 1 ns to 72 s
		all = append(all, float64(v))
		r.observe(v)
	}
	slices.Sort(all)
	got := r.read(start.Add(10 * time.Second))
	for _, q := range []float64{0, .01, .5, .9, .99, 1} {
		want := all[int(q*float64(len(all)-1))]
		if have := got.quantile(q); math.Abs(have-want) > 0.07*want {
			t.Errorf("%v: %v, want %v", q, have, want)
		}
	}
	if got.n != 10_000 || got.perSecond() != got.sum/10 {
		t.Errorf("counted %d, %f a second of %f", got.n, got.perSecond(), got.sum)
	}
}

func TestRecent_ForgetsWhatIsTwoWindowsOld(t *testing.T) {
	var r recent
	at := time.Now()
	r.init(at)
	for i, want := range []int64{1, 2, 2, 2} {
		r.observe(int64(i))
		if got := r.read(at).n; got != want {
			t.Errorf("window %d: %d values, want %d", i, got, want)
		}
		r.turn(at)
	}
	r.turn(at)
	if got := r.read(at); got.n != 0 || got.quantile(.5) != 0 {
		t.Errorf("%d values are left", got.n)
	}
}

func TestRecent_BucketsAreInOrderAndTakeAnything(t *testing.T) {
	var r recent
	r.init(time.Now())
	last := -1.0
	for b := range recentBuckets {
		if b > bucket(recentMax-1) {
			break
		}
		if middle(b) <= last || bucket(uint64(middle(b))) != b {
			t.Fatalf("bucket %d has middle %f, which is in %d; the one before has %f", b, middle(b), bucket(uint64(middle(b))), last)
		}
		last = middle(b)
	}
	for _, v := range []int64{math.MinInt64, -1, 0, recentMax, math.MaxInt64} {
		r.observe(v)
	}
	if n := r.read(time.Now()).n; n != 5 {
		t.Errorf("%d of 5 counted", n)
	}
}

func BenchmarkRecent(b *testing.B) {
	var r recent
	r.init(time.Now())
	b.ReportAllocs()
	for v := int64(1); b.Loop(); v = v*7 + 13 {
		r.observe(v & (1<<34 - 1))
	}
}
