package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// held is a message between its ack and the moment it was stored, in the run's time.
type held struct {
	conv     im.ConversationID
	from, to time.Duration
}

// helds are those of all messages that can be told in the end; what was recalled cannot.
// One that was stored before its ack came was held for nothing.
func helds(r *record, e *ending) (all []held) {
	stored := make(map[string]time.Duration)
	for _, c := range r.convs {
		for _, m := range e.histories[seat{c.members[0], c.id}] {
			if m.token != "" {
				stored[m.token] = time.UnixMilli(m.stored).Sub(r.began)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sends {
		to, there := stored[s.token]
		i := slices.IndexFunc(s.tries, func(t try) bool { return t.outcome == acked })
		if there && i >= 0 {
			from := s.tries[i].answered
			all = append(all, held{s.conv, from, max(from, to)})
		}
	}
	return all
}

// stalls are, by conversation, the longest that a message was held that was acked in
// [from, to].
func stalls(all []held, from, to time.Duration) map[im.ConversationID]time.Duration {
	longest := make(map[im.ConversationID]time.Duration)
	for _, h := range all {
		if h.from >= from && h.from <= to {
			longest[h.conv] = max(longest[h.conv], h.to-h.from)
		}
	}
	return longest
}

// processing is the share of a run, over all partitions, in which none of their messages
// was held for longer than patient.
func processing(all []held, patient, run time.Duration) float64 {
	n := (queue.Config{}).WithDefaults().Partitions
	by := make([][]held, n)
	for _, h := range all {
		if h.from += patient; h.from < h.to {
			p := queue.Partition(h.conv, n)
			by[p] = append(by[p], h)
		}
	}
	var still time.Duration
	for _, late := range by {
		slices.SortFunc(late, func(a, b held) int { return cmp.Compare(a.from, b.from) })
		var until time.Duration
		for _, h := range late {
			if from := max(h.from, until); h.to > from {
				still += h.to - from
				until = h.to
			}
		}
	}
	return 1 - float64(still)/float64(time.Duration(n)*run)
}
