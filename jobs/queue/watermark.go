package queue

// Watermark finds the contiguous finished prefix of a partition. Records finish in
// any order; what may be committed is only what has nothing unfinished before it
// (RELIABILITY.md, R9). It is not safe for concurrent use.
type Watermark struct {
	next int64  // the offset after the prefix: what a commit names
	high int64  // the offset after the last record taken
	done []bool // ring over [next, next+len)
}

// NewWatermark starts at the first offset that will be taken. window is the most
// records in flight; the ring grows where the caller exceeds it.
func NewWatermark(start int64, window int) *Watermark {
	return &Watermark{next: start, high: start, done: make([]bool, max(window, 1))}
}

// Take enters the next record, whose offset is one above the last.
func (w *Watermark) Take(offset int64) {
	w.high = offset + 1
	if n := int(w.high - w.next); n > len(w.done) {
		grown := make([]bool, max(n, 2*len(w.done)))
		for o := w.next; o < offset; o++ {
			grown[o%int64(len(grown))] = w.done[o%int64(len(w.done))]
		}
		w.done = grown
	}
}

// Finish marks a taken record and returns how far the prefix reaches now.
func (w *Watermark) Finish(offset int64) int64 {
	if offset < w.next {
		return w.next
	}
	size := int64(len(w.done))
	w.done[offset%size] = true
	for w.next < w.high && w.done[w.next%size] {
		w.done[w.next%size] = false
		w.next++
	}
	return w.next
}

// Finished says whether a taken record is.
func (w *Watermark) Finished(offset int64) bool {
	return offset < w.next || w.done[offset%int64(len(w.done))]
}

// Next is the offset to commit.
func (w *Watermark) Next() int64 { return w.next }

// InFlight is how many records were taken and are not in the prefix.
func (w *Watermark) InFlight() int { return int(w.high - w.next) }
