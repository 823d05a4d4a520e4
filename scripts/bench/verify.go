package main

import (
	"fmt"
	"sync"

	"github.com/curlew-im/curlew/logic/im"
)

// verify holds what every receiver got against what was sent: each sender's messages
// come to each receiver once, in order, and all of them. It is kept by receiver, so that
// the receivers need not share a lock.
type verify struct {
	mu   sync.Mutex
	from map[im.UserID]*train

	lost, doubled, swapped int64
}

// train is one sender's messages as they came.
type train struct {
	next    int64          // all below have come
	early   map[int64]bool // came before one with a lower number
	highest uint64         // seq
}

func newVerify() *verify { return &verify{from: make(map[im.UserID]*train)} }

// got notes a sender's n-th message (from 0) with its seq. A push below one that came
// before is out of order; with the same seq or number it is double.
func (v *verify) got(from im.UserID, n int64, seq uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.from[from]
	if t == nil {
		t = &train{early: make(map[int64]bool)}
		v.from[from] = t
	}
	switch {
	case n < t.next || t.early[n]:
		v.doubled++
		return
	case seq <= t.highest:
		v.swapped++
	case n != t.next:
		v.swapped++
	}
	t.highest = max(t.highest, seq)
	if n != t.next {
		t.early[n] = true
		return
	}
	for t.next++; t.early[t.next]; t.next++ {
		delete(t.early, t.next)
	}
}

// count is how many of a sender's messages have come.
func (v *verify) count(from im.UserID) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.from[from]
	if t == nil {
		return 0
	}
	return t.next + int64(len(t.early))
}

// finish says what is missing of the sent.
func (v *verify) finish(sent map[im.UserID]int64) {
	for from, n := range sent {
		v.lost += n - v.count(from)
	}
}

// Faults is what must be zero, but for Pings: one that is refused under load is said
// again by a client, and no message is the worse for it.
type Faults struct {
	Lost    int64  `json:"lost"`
	Doubled int64  `json:"doubled"`
	Swapped int64  `json:"out_of_order"`
	Refused int64  `json:"refused"`
	Pings   int64  `json:"pings_refused,omitempty"`
	First   string `json:"first_refusal,omitempty"` // what the first of either was answered
}

func (f *Faults) add(v *verify) {
	f.Lost += v.lost
	f.Doubled += v.doubled
	f.Swapped += v.swapped
}

func (f Faults) any() bool { return f.Lost != 0 || f.Doubled != 0 || f.Swapped != 0 || f.Refused != 0 }

func (f Faults) String() string {
	s := fmt.Sprintf("lost=%d doubled=%d out_of_order=%d refused=%d", f.Lost, f.Doubled, f.Swapped, f.Refused)
	if f.First != "" {
		s += fmt.Sprintf(" pings_refused=%d, the first: %s", f.Pings, f.First)
	}
	return s
}
