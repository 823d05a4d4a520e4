package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// tally is what the injections of one run found themselves, and their figures, which stand
// at the end of its line.
type tally struct {
	mu      sync.Mutex // guards what follows
	found   verdict
	figures []*figure
	after   []func(context.Context, *ending) error
	// ending says that the injection is the last, while the load ends: what only a load
	// shows may not show.
	ending bool
	// mending is the figure of which the next recovery is a sample; empty: of none.
	mending string
}

// figure is a count, or, where it has samples, their median, 99th percentile and most.
type figure struct {
	name    string
	n       float64
	samples []float64
	// most is what a sample may be; one above it is said to be a miss. 0: anything.
	most float64
}

func newTally() *tally { return &tally{found: make(verdict)} }

// add notes something that must not be, by its class.
func (t *tally) add(class, what string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found.add(class, what, args...)
}

// broke says whether what an injection was to break was broken: a run in which it was not
// shows nothing, and has failed.
func (t *tally) broke(yes bool, what string, args ...any) {
	if !yes {
		t.add("unbroken", what, args...)
	}
}

func (t *tally) figure(name string) *figure {
	i := slices.IndexFunc(t.figures, func(f *figure) bool { return f.name == name })
	if i < 0 {
		i = len(t.figures)
		t.figures = append(t.figures, &figure{name: name})
	}
	return t.figures[i]
}

// count adds to a sum.
func (t *tally) count(name string, n float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figure(name).n += n
}

// set makes a sum what it says.
func (t *tally) set(name string, n float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figure(name).n = n
}

// counted is a sum as it stands.
func (t *tally) counted(name string) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.figure(name).n
}

// sample adds to a distribution, of which most is what one may be at most; 0: anything.
func (t *tally) sample(name string, most float64, values ...float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.figure(name)
	f.most, f.samples = most, append(f.samples, values...)
}

// recovering says of which figure the next recovery is a sample, which recovered adds.
func (t *tally) recovering(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mending = name
}

func (t *tally) recovered(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mending != "" {
		f := t.figure(t.mending)
		f.samples, t.mending = append(f.samples, took.Seconds()), ""
	}
}

// atEnd has a check run when all is quiet, before the record is checked.
func (t *tally) atEnd(check func(context.Context, *ending) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after = append(t.after, check)
}

// last says whether the injection is the last; see ending.
func (t *tally) last() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ending
}

// close runs what atEnd was given.
func (t *tally) close(ctx context.Context, e *ending) error {
	t.mu.Lock()
	after := t.after
	t.mu.Unlock()
	for _, check := range after {
		if err := check(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// String is the end of the line: every figure with a space before it.
func (t *tally) String() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, f := range t.figures {
		fmt.Fprintf(&b, " %s", f)
	}
	return b.String()
}

func (f *figure) String() string {
	if f.samples == nil {
		return fmt.Sprintf("%s=%.4g", f.name, f.n)
	}
	most := slices.Max(f.samples)
	s := fmt.Sprintf("%s(%.2f,%.2f,%.2f)", f.name, percentile(f.samples, 50), percentile(f.samples, 99), most)
	if f.most > 0 && most > f.most {
		s += fmt.Sprintf("=MISS(%g)", f.most)
	}
	return s
}

// percentile is the nearest rank of at least one value.
func percentile[T cmp.Ordered](all []T, p int) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
