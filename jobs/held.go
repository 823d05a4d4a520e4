package jobs

import (
	"container/heap"
	"time"
)

// heldItems are records whose time has not come, the first of them in front. They are in
// the window, and count there; nothing else waits for them.
type heldItems []*item

func (h heldItems) Len() int           { return len(h) }
func (h heldItems) Less(i, j int) bool { return h[i].notBefore.Before(h[j].notBefore) }
func (h heldItems) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heldItems) Push(x any)        { *h = append(*h, x.(*item)) }
func (h *heldItems) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return it
}

// hold keeps a record until its time. p.mu is held.
func (p *partition) hold(it *item, now time.Time) {
	heap.Push(&p.held, it)
	if p.held[0] == it {
		p.wakeHeld(now)
	}
}

// wakeHeld sets the timer for the first record that is held. p.mu is held.
func (p *partition) wakeHeld(now time.Time) {
	wait := max(p.held[0].notBefore.Sub(now), 0)
	if p.release == nil {
		p.release = time.AfterFunc(wait, p.unhold)
		return
	}
	p.release.Reset(wait)
}

// unhold gives the records whose time has come to their strands. What is held when the
// taking ends is left to the next owner, like all that is not finished.
func (p *partition) unhold() {
	now := time.Now()
	var due []*item
	p.mu.Lock()
	for len(p.held) > 0 && !p.held[0].notBefore.After(now) && !p.over {
		due = append(due, heap.Pop(&p.held).(*item))
	}
	if len(p.held) > 0 && !p.over {
		p.wakeHeld(now)
	}
	if len(due) > 0 && len(p.held)+len(due) == p.records {
		p.progress = now // nothing was in hand until now
	}
	line := p.place(due, now)
	p.mu.Unlock()
	for _, s := range line {
		p.r.enqueue(s)
	}
}

// oldest is when the first record was produced that is neither finished nor held, zero
// where there is none: who waits for a time of its own is not late. p.mu is held.
func (p *partition) oldest() time.Time {
	if p.records == len(p.held) {
		return time.Time{}
	}
	held := make(map[int64]bool, len(p.held))
	for _, it := range p.held {
		held[it.record.Offset] = true
	}
	for i, at := range p.taken {
		if o := p.water.Next() + int64(i); !held[o] && !p.water.Finished(o) {
			return at
		}
	}
	return time.Time{}
}
