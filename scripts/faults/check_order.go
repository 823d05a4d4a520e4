package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// sights: whatever was ever shown is still there, at its place, and was theirs to see;
// pushes of a connection came in order.
func (v verdict) sights(r *record, truths map[im.ConversationID]*truth) {
	type stream struct {
		conn int
		conv im.ConversationID
	}
	last := make(map[stream]im.Seq)
	for i := range r.sights {
		g := &r.sights[i]
		t := truths[g.conv]
		if t == nil {
			v.add("leak", "%s: of a conversation that is none of theirs", g.where())
			continue
		}
		switch m := t.at(g.seq); {
		case m == nil:
			v.add("regress", "%s was shown as %+v and is not there", g.where(), g.shown)
		case !g.same(*m):
			v.add("fork", "%s was shown as %+v and is %+v", g.where(), g.shown, *m)
		}
		// Where one's own message is, one is told also above one's leave notice: it was
		// accepted before.
		if g.manner != placed && !slices.ContainsFunc(t.seen(g.user), func(p span) bool { return p.holds(g.seq) }) {
			v.add("leak", "%s (manner %d): they may see %v", g.where(), g.manner, t.seen(g.user))
		}
		if g.manner == pushed {
			s := stream{g.conn, g.conv}
			if g.seq <= last[s] {
				v.add("fifo", "%s was pushed after %d", g.where(), last[s])
			}
			last[s] = g.seq
		}
	}
}

// senders: who has an ack before sending the next message has it before the next.
func (v verdict) senders(r *record, truths map[im.ConversationID]*truth) {
	type sent struct {
		*send
		at         im.Seq
		asked, ack time.Duration // ack 0: none
	}
	by := make(map[seat][]sent)
	for _, s := range r.sends {
		at, there := truths[s.conv].place[s.token]
		if !there || len(s.tries) == 0 {
			continue
		}
		x := sent{send: s, at: at, asked: s.tries[0].asked}
		for _, t := range s.tries {
			if t.outcome == acked && x.ack == 0 {
				x.ack = t.answered
			}
		}
		k := seat{s.sender, s.conv}
		by[k] = append(by[k], x)
	}
	for k, all := range by {
		byAck := slices.DeleteFunc(slices.Clone(all), func(x sent) bool { return x.ack == 0 })
		slices.SortFunc(byAck, func(a, b sent) int { return cmp.Compare(a.ack, b.ack) })
		slices.SortFunc(all, func(a, b sent) int { return cmp.Compare(a.asked, b.asked) })
		var before sent
		n := 0
		for _, x := range all {
			for ; n < len(byAck) && byAck[n].ack < x.asked; n++ {
				if byAck[n].at > before.at {
					before = byAck[n]
				}
			}
			if x.at < before.at {
				v.add("fifo", "%s: %s had the ack of %q before asking for %q, which is at %d before %d", k.conv, k.user, before.token, x.token, x.at, before.at)
			}
		}
	}
}

// pipelines: what one connection carried keeps its order; what was answered refused or
// unknown, and tried again, aside.
func (v verdict) pipelines(r *record, truths map[im.ConversationID]*truth) {
	type lane struct {
		conn int
		conv im.ConversationID
	}
	type frame struct {
		nth   int
		at    im.Seq
		token string
	}
	by := make(map[lane][]frame)
	for _, s := range r.sends {
		at, there := truths[s.conv].place[s.token]
		if !there || len(s.tries) != 1 || s.tries[0].conn == 0 || s.tries[0].outcome != acked {
			continue
		}
		k := lane{s.tries[0].conn, s.conv}
		by[k] = append(by[k], frame{s.tries[0].nth, at, s.token})
	}
	for k, all := range by {
		slices.SortFunc(all, func(a, b frame) int { return cmp.Compare(a.nth, b.nth) })
		for i := 1; i < len(all); i++ {
			if all[i].at < all[i-1].at {
				v.add("fifo", "%s: %q was written after %q and is before it, at %d", k.conv, all[i].token, all[i-1].token, all[i].at)
			}
		}
	}
}

// fences: nothing of a guest's is accepted once their removal has returned.
func (v verdict) fences(r *record, fence time.Duration) {
	type closed struct{ from, to time.Duration } // to 0: for good
	by := make(map[seat][]closed)
	for _, m := range r.moves {
		k := seat{m.user, m.conv}
		if n := len(by[k]); m.in && n > 0 && by[k][n-1].to == 0 {
			by[k][n-1].to = m.asked
		}
		if !m.in && m.outcome == acked {
			by[k] = append(by[k], closed{from: m.answered + fence})
		}
	}
	for _, s := range r.sends {
		for _, t := range s.tries {
			for _, c := range by[seat{s.sender, s.conv}] {
				if t.outcome == acked && t.asked > c.from && (c.to == 0 || t.answered < c.to) && len(s.tries) == 1 {
					v.add("leak", "%s: %q of %s was taken %.1f s after the removal had returned", s.conv, s.token, s.sender, (t.asked - c.from + fence).Seconds())
				}
			}
		}
	}
}

// lists: every list is the one that follows from the histories and what was read.
func (v verdict) lists(truths []*truth, r *record, e *ending) {
	for u, got := range e.lists {
		want := list(truths, r, u)
		have := make(map[im.ConversationID]listRow)
		for _, row := range got {
			have[row.conv] = row
		}
		sameRows := len(got) == len(want)
		for _, w := range want {
			g, there := have[w.conv]
			switch {
			case !there:
				v.add("list_err", "%s: %s is missing", u, w.conv)
			case g.last != w.last || g.left != w.left:
				v.add("list_err", "%s: %+v, want %+v", u, g, w)
			case g.unread != w.unread:
				v.add("unread_err", "%s: %+v, want %+v", u, g, w)
			}
			sameRows = sameRows && there
		}
		if !sameRows {
			if len(got) > len(want) {
				v.add("list_err", "%s: %d rows, want %d", u, len(got), len(want))
			}
			continue
		}
		for i := range want {
			if got[i].conv != want[i].conv {
				v.add("list_err", "%s: %s is at place %d, want %s", u, got[i].conv, i+1, want[i].conv)
				break
			}
		}
	}
}

// devices: each has been shown everything up to the end.
func (v verdict) devices(e *ending, truths map[im.ConversationID]*truth) {
	for at, have := range e.held {
		if _, top, _, ever := truths[at.conv].now(at.user); ever && have < top {
			v.add("stuck", "%s: %s's device has %d of %d", at.conv, at.user, have, top)
		}
	}
}
