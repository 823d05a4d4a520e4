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

func TestPartition_IsPinned(t *testing.T) {
	// fmix32 of FNV-1a of "" and "a", 0x811c9dc5 and 0xe40c292c.
	if Hash("") != mix(0x811c9dc5) || Hash("a") != mix(0xe40c292c) || mix(1) != 0x514e28b7 {
		t.Fatalf("%x %x %x", Hash(""), Hash("a"), mix(1))
	}
	// Golden: a change would move every conversation to another partition.
	for c, want := range map[im.ConversationID]int{"d7-9": 7, "d1-2": 1, "d3-4": 2, "c5": 5} {
		if got := Partition(c, 8); got != want {
			t.Errorf("%s: %d, want %d", c, got, want)
		}
	}
}

// Names that differ in few digits are what there is: users who registered one after
// another, pairs at a fixed distance. Each partition gets at least half its share, and
// so does each strand in it.
func TestPartition_SpreadsNamesThatAreAlike(t *testing.T) {
	const conversations, partitions, strands = 2000, 8, 2
	for name, peer := range map[string]func(n im.UserID) (a, b im.UserID){
		"neighbours":     func(n im.UserID) (a, b im.UserID) { return 2*n + 1, 2*n + 2 },
		"at a distance":  func(n im.UserID) (a, b im.UserID) { return n + 1, n + 1 + conversations },
		"all with one":   func(n im.UserID) (a, b im.UserID) { return 1, n + 2 },
		"with oneself":   func(n im.UserID) (a, b im.UserID) { return n, n },
		"with thousands": func(n im.UserID) (a, b im.UserID) { return n * 1000, n*1000 + 500 },
	} {
		var got [partitions][strands]int
		for n := range im.UserID(conversations) {
			h := Hash(im.DirectConversation(peer(n)))
			got[h%partitions][h/partitions%strands]++
		}
		for _, p := range got {
			for _, n := range p {
				if n < conversations/partitions/strands/2 {
					t.Errorf("%s: %v", name, got)
				}
			}
		}
	}
}
