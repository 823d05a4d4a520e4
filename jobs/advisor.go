package jobs

import (
	"fmt"
	"runtime"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// load is what a pool has had to do of late, as it was measured.
type load struct {
	cores   float64 // that the process uses
	size    int
	batches float64 // worked on
	records float64 // of one, on average
	busy    float64 // strands at work, on average
	line    float64 // strands in line, on average
	loaded  int     // partitions with records in hand
	late    float64 // s: age of the oldest record

	commit, redis, fanout time.Duration // that strands spent in MySQL, in Redis, telling who is connected
}

// took adds what one step took in all.
func (l *load) took(step string, store bool, sum time.Duration) {
	switch {
	case step == "cursors": // written beside the strands
	case store:
		l.commit += sum
	case step == "project":
		l.redis += sum
	case step == "push":
		l.fanout += sum
	}
}

const (
	behindAge = 0.5  // s: a younger record is not late, whatever waits
	cpuFull   = 0.85 // of GOMAXPROCS
	poolFull  = 0.9  // of its size, on average
	alwaysOn  = 0.6  // of the time, for a strand that always has something to do
)

// usual is what a step takes of a batch where nothing is wrong: several times of what was
// measured (FEASIBILITY.md, 3: 1 to 3 ms and 21 µs a row; half a millisecond and 5 µs in
// Redis).
func usual(fixed, each time.Duration, records float64) time.Duration {
	return fixed + time.Duration(float64(each)*records)
}

// advise names what limits the pool. Who keeps up is not limited. A busy processor makes
// all else look slow, and a pool that is too small makes strands wait before they have
// looked at a store: these two are asked first. Then the slow store that strands spend
// most of their time in; and where none is slow and the strands are always busy, more of
// them is what is missing.
func (l *load) advise() im.Advice {
	if l.late < behindAge {
		return im.Advice{Bottleneck: "none", Why: fmt.Sprintf("the oldest record is %.1f s old", l.late)}
	}
	if limit := float64(runtime.GOMAXPROCS(0)); l.cores >= cpuFull*limit {
		return im.Advice{Bottleneck: "cpu", Knob: "processes",
			Why: fmt.Sprintf("the process uses %.1f of %.0f cores: add a process, or cores", l.cores, limit)}
	}
	if l.busy >= poolFull*float64(l.size) && l.line >= 0.5 {
		return im.Advice{Bottleneck: "pool", Knob: "size",
			Why: fmt.Sprintf("all %d workers are busy while %.1f strands wait in line", l.size, l.line)}
	}
	type slow struct {
		total time.Duration
		most  time.Duration
		im.Advice
	}
	var worst slow
	for _, s := range []slow{
		{l.commit, usual(10*time.Millisecond, 100*time.Microsecond, l.records), im.Advice{Bottleneck: "commit", Knob: "batch, linger",
			Why: "MySQL takes %s of a batch of %.0f: larger batches share a commit; else a faster disk or server"}},
		{l.redis, usual(5*time.Millisecond, 50*time.Microsecond, l.records), im.Advice{Bottleneck: "redis", Knob: "batch, strands",
			Why: "Redis takes %s to project a batch of %.0f: larger batches fold more, more strands overlap the waiting; else a nearer or larger Redis"}},
		{l.fanout, usual(5*time.Millisecond, 50*time.Microsecond, l.records), im.Advice{Bottleneck: "fanout", Knob: "batch, jobs.merge_above",
			Why: "telling who is connected takes %s of a batch of %.0f: larger batches publish less often; else fewer connectors, or a Redis for Pub/Sub"}},
	} {
		each := time.Duration(float64(s.total) / l.batches)
		if each > s.most && s.total > worst.total {
			s.Why = fmt.Sprintf(s.Why, each.Round(time.Millisecond), l.records)
			worst = s
		}
	}
	switch {
	case worst.total > 0:
		return worst.Advice
	case l.loaded > 0 && l.busy >= alwaysOn*float64(l.loaded):
		return im.Advice{Bottleneck: "partitions", Knob: "strands, queue.partitions",
			Why: fmt.Sprintf("%d partitions have work and %.1f strands are always at it, of %d workers, and no store is slow: more strands for each, or more partitions", l.loaded, l.busy, l.size)}
	}
	return im.Advice{Bottleneck: "none", Why: "it is behind, and nothing here is busy: it has begun to catch up, or waits for what is away"}
}
