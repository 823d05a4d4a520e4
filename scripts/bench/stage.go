package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Stage is a time of scale in which the same processes share a load, and the change that
// led there.
type Stage struct {
	Change string  `json:"change"`
	Rate   float64 `json:"per_second"`
	Delay  Delay   `json:"delay_ms"`
	// Shares by process, the oldest first: of records handled, of connections, and of
	// messages taken from clients. Partitions are by lane.
	Records     []float64        `json:"records"`
	Partitions  []map[string]int `json:"partitions"`
	Connections []float64        `json:"connections"`
	Messages    []float64        `json:"messages"`

	// Of the change, in seconds since it was made: until the newcomer did its share within
	// a tenth, and until the rate was back within a tenth of what it then stayed at.
	ToShare *float64 `json:"seconds_to_share,omitempty"`
	ToRate  float64  `json:"seconds_to_rate"`
	// LongestWait is of a message that came during the change, ms.
	LongestWait float64 `json:"longest_wait_ms"`
}

// sample is what was counted up to a moment; the maps are by process.
type sample struct {
	at          time.Time
	received    int64 // messages, by people
	records     map[*node]float64
	messages    map[*node]float64
	connections map[*node]float64
}

// tenth is what counts as the same.
const tenth = 0.1

// oneSecond is over what a rate or a share is taken, as it changes.
const oneSecond = time.Second

// between two samples: how much each of some processes did, as a share of all. One that was
// not there before began at nothing.
func shares(all []*node, from, to map[*node]float64) []float64 {
	parts := make([]float64, len(all))
	sum := 0.0
	for i, n := range all {
		parts[i] = max(0, to[n]-from[n])
		sum += parts[i]
	}
	for i := range parts {
		if sum > 0 {
			parts[i] /= sum
		}
	}
	return parts
}

// secondBefore is the last sample that is a second older than samples[i].
func secondBefore(samples []sample, i int) (sample, bool) {
	for j := i - 1; j >= 0; j-- {
		if samples[i].at.Sub(samples[j].at) >= oneSecond {
			return samples[j], true
		}
	}
	return sample{}, false
}

// toShare is how long after a moment one process first did its share: within a tenth of
// what it then kept to. Nil where it never did.
func toShare(samples []sample, since time.Time, all []*node, newcomer int, kept float64, of func(sample) map[*node]float64) *float64 {
	for i, s := range samples {
		before, ok := secondBefore(samples, i)
		if s.at.Before(since) || !ok {
			continue
		}
		if shares(all, of(before), of(s))[newcomer] >= kept*(1-tenth) {
			after := s.at.Sub(since).Seconds()
			return &after
		}
	}
	return nil
}

// toRate is how long after a moment the rate was back within a tenth, after the lowest
// second of the change; zero where it never was below, the last moment where it never was back.
func toRate(samples []sample, since, until time.Time, rate float64) float64 {
	var rates []float64
	var at []time.Time
	for i, s := range samples {
		if before, ok := secondBefore(samples, i); ok && !s.at.Before(since) {
			rates = append(rates, float64(s.received-before.received)/s.at.Sub(before.at).Seconds())
			at = append(at, s.at)
		}
	}
	lowest := -1
	for i, r := range rates {
		if !at[i].After(until) && r < rate*(1-tenth) && (lowest < 0 || r < rates[lowest]) {
			lowest = i
		}
	}
	if lowest < 0 {
		return 0
	}
	for i := lowest; i < len(rates); i++ {
		if rates[i] >= rate*(1-tenth) {
			return at[i].Sub(since).Seconds()
		}
	}
	return at[len(at)-1].Sub(since).Seconds()
}

// printStages shows them as a table.
func printStages(w io.Writer, all []Stage) {
	if len(all) == 0 {
		return
	}
	percent := func(parts []float64) string {
		var text []string
		for _, p := range parts {
			text = append(text, fmt.Sprintf("%.1f", 100*p))
		}
		return strings.Join(text, " / ")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tto its share s\trate back s\tlongest wait ms\tper second\tp50 ms\tp99 ms\trecords %\tpartitions\tconnections %\tmessages %")
	for _, s := range all {
		lanes := make(map[string][]string)
		for _, own := range s.Partitions {
			for _, lane := range byName(own) {
				lanes[lane] = append(lanes[lane], fmt.Sprint(own[lane]))
			}
		}
		var parts []string
		for _, lane := range byName(lanes) {
			parts = append(parts, lane+" "+strings.Join(lanes[lane], "+"))
		}
		share := ""
		if s.ToShare != nil {
			share = fmt.Sprintf("%.1f", *s.ToShare)
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%.0f\t%.0f\t%.1f\t%.1f\t%s\t%s\t%s\t%s\n", s.Change, share, s.ToRate, s.LongestWait,
			s.Rate, s.Delay.P50, s.Delay.P99, percent(s.Records), strings.Join(slices.Compact(parts), ", "), percent(s.Connections), percent(s.Messages))
	}
	t.Flush()
}
