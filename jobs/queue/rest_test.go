package queue

import (
	"testing"
	"time"
)

// Rests follow the rate: what a few bring is never waited with, at low rates each rest is
// shorter than the last, and at high ones they grow to the longest.
func TestRest_FollowsTheRate(t *testing.T) {
	for rate, want := range map[int]time.Duration{1_000: 0, 4_000: 0, 6_000: longestRest, 50_000: longestRest} {
		got := longestRest
		if want > 0 {
			got = rest(crowd)
		}
		for range 1_000 {
			got = rest(int(got.Seconds() * float64(rate)))
		}
		if got != want {
			t.Errorf("%d a second: the rest becomes %s, want %s", rate, got, want)
		}
	}
	if rest(crowd-1) != 0 || rest(1_000_000) != longestRest {
		t.Error("the bounds")
	}
}
