package main

import (
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestMember_KnowsByWhatItLearntFirstAndWhereItHasAHole(t *testing.T) {
	m := &member{}
	m.skip(3)
	for _, step := range []struct {
		seq  im.Seq
		how  manner
		hole bool
		have im.Seq
	}{
		{4, pushed, false, 4},
		{7, pushed, true, 4},
		{7, asked, true, 4}, // known already
		{5, asked, true, 5},
		{6, asked, false, 7},
		{2, pushed, false, 7}, // before it came
		{8, synced, false, 8},
	} {
		if hole := m.learn(step.seq, step.how); hole != step.hole || m.reached() != step.have {
			t.Fatalf("%d: hole %t, have %d; want %t, %d", step.seq, hole, m.reached(), step.hole, step.have)
		}
	}
	if m.known != [3]int{2, 1, 2} {
		t.Errorf("known %v", m.known)
	}
}
