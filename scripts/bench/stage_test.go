package main

import (
	"slices"
	"testing"
	"time"
)

// A change at second 10, as samples tell of it: the rate falls to nothing for two seconds,
// and a newcomer has its half two seconds later.
func TestStage_WhenTheShareAndTheRateAreThere(t *testing.T) {
	old, newcomer := new(node), new(node)
	all := []*node{old, newcomer}
	epoch := time.Unix(0, 0)
	var samples []sample
	var received int64
	done := map[*node]float64{}
	for second := range 30 {
		switch {
		case second > 13:
			received, done[old], done[newcomer] = received+100, done[old]+50, done[newcomer]+50
		case second <= 10 || second > 12:
			received, done[old] = received+100, done[old]+100
		}
		samples = append(samples, sample{at: epoch.Add(time.Duration(second) * time.Second), received: received, records: map[*node]float64{old: done[old], newcomer: done[newcomer]}})
	}
	since, until := epoch.Add(10*time.Second), epoch.Add(16*time.Second)
	if got := toShare(samples, since, all, 1, 0.5, func(s sample) map[*node]float64 { return s.records }); got == nil || *got != 4 {
		t.Errorf("its share after %v", got)
	}
	if got := toShare(samples[:14], since, all, 1, 0.5, func(s sample) map[*node]float64 { return s.records }); got != nil {
		t.Errorf("its share after %v, and it has none", *got)
	}
	if got := toRate(samples, since, until, 100); got != 3 {
		t.Errorf("the rate after %v", got)
	}
	if got := toRate(samples, since.Add(6*time.Second), until, 100); got != 0 {
		t.Errorf("the rate after %v, and it was never below", got)
	}
	if got := shares(all, samples[10].records, samples[15].records); !slices.Equal(got, []float64{2. / 3, 1. / 3}) {
		t.Errorf("shares %v", got)
	}
}
