package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// result is what one run has shown.
type result struct {
	fault       string
	injected    int
	recoveries  []time.Duration
	counts      [3]int
	unavailable time.Duration
	longest     time.Duration // that anybody waited for an answer
	missed      float64       // share of what a connected device saw that no push brought
	found       verdict
	tally       *tally
}

// gap is how long nobody is acked before that counts as unavailable: far above the time
// between two acks of a load that runs.
const gap = time.Second

// measure takes the figures from a record that has ended.
func (res *result) measure(r *record) {
	res.counts = r.counts()
	var acks []time.Duration
	for _, s := range r.sends {
		for _, t := range s.tries {
			res.longest = max(res.longest, t.answered-t.asked)
			if t.outcome == acked {
				acks = append(acks, t.answered)
			}
		}
	}
	slices.Sort(acks)
	for i := 1; i < len(acks); i++ {
		res.unavailable += max(0, acks[i]-acks[i-1]-gap)
	}
	res.missed = missed(r)
}

// missed is the share of the places, of which a device heard while it was connected, that
// it had to ask for: no push ever came.
func missed(r *record) float64 {
	type place struct {
		seat
		seq im.Seq
	}
	told, all := make(map[place]bool), make(map[place]bool) // all: by a push or by asking
	for _, g := range r.sights {
		p := place{g.seat, g.seq}
		switch g.manner {
		case pushed, placed:
			told[p], all[p] = true, true
		case asked:
			all[p] = true
		case synced:
			told[p] = true
		}
	}
	n := 0
	for p := range all {
		if !told[p] {
			n++
		}
	}
	return float64(n) / float64(max(len(all), 1))
}

// String is the line of RELIABILITY.md, 3.1.
func (res *result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s acked=%d refused=%d unknown=%d |", res.fault, res.counts[acked], res.counts[refused], res.counts[unknown])
	for _, class := range classes {
		fmt.Fprintf(&b, " %s=%d", class, len(res.found[class]))
	}
	median, most := 0.0, 0.0
	if all := slices.Sorted(slices.Values(res.recoveries)); len(all) > 0 {
		median, most = all[len(all)/2].Seconds(), all[len(all)-1].Seconds()
	}
	fmt.Fprintf(&b, " | recover_s(%.1f,%.1f) unavailable_s=%.1f longest_s=%.1f missed=%.4f faults=%d",
		median, most, res.unavailable.Seconds(), res.longest.Seconds(), res.missed, res.injected)
	b.WriteString(res.tally.String())
	return b.String()
}

// shownOf bounds the examples of a class.
const shownOf = 5

// details are the first of what was found.
func (res *result) details() string {
	var b strings.Builder
	for _, class := range classes {
		for i, what := range res.found[class] {
			if i == shownOf {
				fmt.Fprintf(&b, "  %s … and %d more\n", class, len(res.found[class])-i)
				break
			}
			fmt.Fprintf(&b, "  %s %s\n", class, what)
		}
	}
	return b.String()
}
