package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

func TestTally_FiguresEndTheLine(t *testing.T) {
	c := newTally()
	c.count("kills", 2)
	c.count("kills", 1)
	c.sample("late_s", 0, 3, 1, 2)
	c.sample("neighbour_s", 5, 0.5)
	c.sample("neighbour_s", 5, 6)
	if got, want := c.String(), " kills=3 late_s(2.00,3.00,3.00) neighbour_s(0.50,6.00,6.00)=MISS(5)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if line := (&result{fault: "F0", tally: c}).String(); !strings.HasSuffix(line, "faults=0"+c.String()) {
		t.Errorf("the line is %q", line)
	}
	if line := (&result{fault: "F0"}).String(); !strings.HasSuffix(line, "faults=0") {
		t.Errorf("without a tally the line is %q", line)
	}
}

func TestTally_WhatDidNotBreakFails(t *testing.T) {
	c := newTally()
	if c.broke(true, "x"); !c.found.clean() {
		t.Errorf("found %v", c.found)
	}
	if c.broke(false, "x"); c.found.clean() {
		t.Error("a run in which nothing was broken is clean")
	}
}

func TestTally_ChecksAtTheEndRunUntilOneFails(t *testing.T) {
	c, ran := newTally(), 0
	for range 2 {
		c.atEnd(func(context.Context, *ending) error { ran++; return nil })
	}
	c.atEnd(func(context.Context, *ending) error { return errNotParked })
	c.atEnd(func(context.Context, *ending) error { ran++; return nil })
	if err := c.close(t.Context(), nil); err != errNotParked || ran != 2 {
		t.Errorf("%d ran, err %v", ran, err)
	}
}

func TestPercentile_IsTheNearestRank(t *testing.T) {
	all := make([]int, 200)
	for i := range all {
		all[i] = 200 - i
	}
	for p, want := range map[int]int{50: 100, 99: 198, 100: 200} {
		if got := percentile(all, p); got != want {
			t.Errorf("p%d is %d, want %d", p, got, want)
		}
	}
	if got := percentile([]int{7}, 50); got != 7 {
		t.Errorf("of one it is %d", got)
	}
}

// said is a message of two who have scheduled.
func said(seq im.Seq, what string, storedAt int64) im.Message {
	return im.Message{Seq: seq, Content: text(what), StoredAt: storedAt}
}

func TestDue_FindsEachClass(t *testing.T) {
	due := []int64{1000, 1010, 1020}
	rows := func(change func([]im.Message) []im.Message) []im.Message {
		return change([]im.Message{said(1, "0", 1000), said(2, "1", 1015), said(3, "2", 1100), said(4, "mark", 1200)})
	}
	for name, c := range map[string]struct {
		class string // empty: all is well
		rows  []im.Message
	}{
		"as asked": {"", rows(func(all []im.Message) []im.Message { return all })},
		"one never came": {"lost", rows(func(all []im.Message) []im.Message {
			return append(all[:1], all[2:]...)
		})},
		"one came twice": {"dup", rows(func(all []im.Message) []im.Message {
			return append(all[:3], said(4, "1", 1100), said(5, "mark", 1200))
		})},
		"one came after the mark": {"dup", rows(func(all []im.Message) []im.Message {
			return append(all, said(5, "2", 1300))
		})},
		"one came early": {"early", rows(func(all []im.Message) []im.Message {
			all[2].StoredAt = 1019
			return all
		})},
		"two changed places": {"fifo", rows(func(all []im.Message) []im.Message {
			all[1].Content, all[2].Content = all[2].Content, all[1].Content
			return all
		})},
		"one was never asked for": {"phantom", rows(func(all []im.Message) []im.Message {
			all[1].Content = text("3")
			return all
		})},
	} {
		y := newTally()
		late := y.due(due, c.rows)
		if c.class == "" {
			if !y.found.clean() || fmt.Sprint(late) != "[0s 5ms 80ms]" {
				t.Errorf("%s: found %v, late %v", name, y.found, late)
			}
		} else if len(y.found[c.class]) == 0 {
			t.Errorf("%s: found %v, not %s", name, y.found, c.class)
		}
	}
}

func TestAccounted_EachLetterOnce(t *testing.T) {
	put := map[letter]string{{1, 5}: "noise", {1, 6}: "nothing", {2, 5}: "noise"}
	c := newTally()
	c.accounted(map[letter]int{{1, 5}: 1, {1, 6}: 1, {2, 5}: 1, {3, 1}: 1}, put) // others may have some too
	if !c.found.clean() {
		t.Errorf("found %v", c.found)
	}
	c.accounted(map[letter]int{{1, 5}: 1, {1, 6}: 2}, put)
	if len(c.found["lost"]) != 1 || len(c.found["dup"]) != 1 {
		t.Errorf("found %v", c.found)
	}
}

// What is above the limit must be so, and what has a whole envelope must be read as a task.
func TestPoisons_AreWhatTheySay(t *testing.T) {
	all, err := poisons("poison-x", chat, 2)
	if err != nil {
		t.Fatal(err)
	}
	large, whole := 0, 0
	for _, p := range all {
		if len(p.value) > queue.MaxTaskBytes {
			large++
		}
		if _, err := queue.DecodeTask(p.value); err == nil {
			whole++
		}
	}
	if large != 2 || whole < 5 {
		t.Errorf("%d are above the limit, %d can be decoded", large, whole)
	}
}

func TestStormed_TellsWhoseFailuresTheyWere(t *testing.T) {
	for name, c := range map[string]struct {
		own    stormed
		all    lockFailures
		broken bool
		engine float64
	}{
		"both":               {stormed{lockFailures: lockFailures{3, 1}}, lockFailures{5, 1}, true, 2},
		"the stormers alone": {stormed{lockFailures: lockFailures{3, 1}}, lockFailures{3, 1}, false, 0},
		"nobody":             {stormed{done: 9}, lockFailures{}, false, 0},
		"another failure":    {stormed{failed: []error{errNotParked}}, lockFailures{5, 1}, false, 5},
	} {
		y := newTally()
		y.stormed(c.own, c.all)
		if y.found.clean() != c.broken || y.counted("engine_1213") != c.engine {
			t.Errorf("%s: found %v, figures%s", name, y.found, y)
		}
	}
}

func TestStalls_AreOfWhatWasAckedMeanwhile(t *testing.T) {
	all := []held{{chat, at(1), at(9)}, {chat, at(10), at(12)}, {chat, at(11), at(12)}, {room, at(10), at(10)}, {room, at(21), at(30)}}
	got := stalls(all, at(10), at(20))
	if got[chat] != at(2) || got[room] != 0 || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestHelds_AreFromTheAckToTheRow(t *testing.T) {
	w := newWorld()
	w.all(chat, 4, func(m *shown) { m.stored = w.r.began.Add(at(20)).UnixMilli() })
	w.all(chat, 3, func(m *shown) { m.stored = w.r.began.Add(at(14)).UnixMilli() }) // before its ack
	found := make(map[time.Duration]time.Duration)
	for _, h := range helds(w.r, w.e) {
		if h.conv == chat {
			found[h.from] = h.to.Round(time.Second)
		}
	}
	if found[at(17)] != at(20) || found[at(15)] != at(15) {
		t.Errorf("got %v", found)
	}
}

func TestProcessing_CountsEachPartitionsStandstillOnce(t *testing.T) {
	n := time.Duration((queue.Config{}).WithDefaults().Partitions)
	all := []held{{chat, at(0), at(5)}, {chat, at(2), at(4)}, {chat, at(3), at(7)}, {room, at(3), at(3)}}
	got := processing(all, time.Second, 8*time.Second) // 1 to 7 s of one partition
	if want := 1 - 6/float64(n*8); got < want-1e-9 || got > want+1e-9 {
		t.Errorf("got %g, want %g", got, want)
	}
	if got := processing(nil, time.Second, time.Minute); got != 1 {
		t.Errorf("of nothing %g", got)
	}
}
