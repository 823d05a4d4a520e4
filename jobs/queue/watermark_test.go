package queue

import (
	"math/rand/v2"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestWatermark_IsTheContiguousFinishedPrefix(t *testing.T) {
	w := NewWatermark(100, 4)
	for o := int64(100); o < 104; o++ {
		w.Take(o)
	}
	for _, step := range []struct{ finish, next int64 }{{101, 100}, {103, 100}, {100, 102}, {102, 104}} {
		if got := w.Finish(step.finish); got != step.next {
			t.Fatalf("after %d: %d, want %d", step.finish, got, step.next)
		}
	}
	if w.InFlight() != 0 {
		t.Fatalf("%d in flight", w.InFlight())
	}
}

func TestWatermark_AnyOrderBeyondItsWindow(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := NewWatermark(7, 1+rng.IntN(8))
		done := make(map[int64]bool)
		var open []int64
		next := int64(7)
		for range 300 {
			if rng.IntN(2) == 0 {
				w.Take(next)
				open = append(open, next)
				next++
			} else if len(open) > 0 {
				i := rng.IntN(len(open))
				done[open[i]] = true
				w.Finish(open[i])
				open = append(open[:i], open[i+1:]...)
			}
			want := int64(7)
			for done[want] {
				want++
			}
			if w.Next() != want || w.InFlight() != int(next-want) {
				t.Fatalf("seed %d: next %d, want %d; %d in flight", seed, w.Next(), want, w.InFlight())
			}
		}
	}
}

func TestPartition_IsFNV1aModuloThePinnedCount(t *testing.T) {
	// From the FNV page: FNV-1a of "" and "a".
	if Hash("") != 0x811c9dc5 || Hash("a") != 0xe40c292c {
		t.Fatalf("%x %x", Hash(""), Hash("a"))
	}
	// Golden, from hash/fnv: a change would move every conversation to another partition.
	for c, want := range map[im.ConversationID]int{"d7-9": 6, "d1-2": 1, "d3-4": 1, "c5": 5} {
		if got := Partition(c, 8); got != want {
			t.Errorf("%s: %d, want %d", c, got, want)
		}
	}
}
