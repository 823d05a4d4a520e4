package main

import (
	"cmp"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// ending is what everybody finds when all is quiet.
type ending struct {
	histories map[seat][]shown        // whole, from the first that they may see
	lists     map[im.UserID][]listRow // newest first
	held      map[seat]im.Seq         // by a device, without a hole
}

// listRow is one row of somebody's list, as far as it is checked.
type listRow struct {
	conv   im.ConversationID
	last   im.Seq
	unread uint64
	left   bool
}

// truth is one conversation as its first member finds it in the end.
type truth struct {
	*conv
	rows  []shown
	place map[string]im.Seq // of a message, by its token
	spans []span            // in which the guest was a member
}

// span is an interval of membership; last 0: it has not ended.
type span struct{ first, last im.Seq }

func (p span) holds(seq im.Seq) bool { return seq >= p.first && (p.last == 0 || seq <= p.last) }

// learn makes the truth of a conversation. A message that was recalled no longer says
// which it was: tokens knows it by its message ID, from before.
func learn(c *conv, e *ending, tokens map[im.MessageID]string) *truth {
	t := &truth{conv: c, rows: slices.Clone(e.histories[seat{c.members[0], c.id}]), place: make(map[string]im.Seq)}
	for i := range t.rows {
		m := &t.rows[i]
		if m.token == "" {
			m.token = tokens[m.id]
		}
		if _, twice := t.place[m.token]; m.token != "" && !twice {
			t.place[m.token] = m.seq
		}
		if n := m.notice; n != nil && c.guest != 0 && slices.ContainsFunc(n.Users, func(u im.NoticeUser) bool { return u.ID == c.guest }) {
			switch n.Kind {
			case im.NoticeJoined:
				t.spans = append(t.spans, span{first: m.seq})
			case im.NoticeLeft, im.NoticeRemoved:
				if len(t.spans) > 0 {
					t.spans[len(t.spans)-1].last = m.seq
				}
			}
		}
	}
	return t
}

// tokensOf is which message has which message ID, by all that was ever shown or answered.
func tokensOf(r *record, e *ending) map[im.MessageID]string {
	tokens := make(map[im.MessageID]string)
	for _, g := range r.sights {
		if g.token != "" {
			tokens[g.id] = g.token
		}
	}
	type own struct {
		seat
		id im.ClientMsgID
	}
	type place struct {
		conv im.ConversationID
		seq  im.Seq
	}
	mine, answered := make(map[own]string), make(map[place]string)
	for _, s := range r.sends {
		mine[own{seat{s.sender, s.conv}, s.id}] = s.token
		for _, t := range s.tries {
			answered[place{s.conv, t.seq}] = s.token
		}
	}
	for at, rows := range e.histories {
		for _, m := range rows {
			if m.recalled && tokens[m.id] == "" {
				tokens[m.id] = cmp.Or(mine[own{at, m.cmid}], answered[place{at.conv, m.seq}])
			}
		}
	}
	return tokens
}

func (t *truth) at(seq im.Seq) *shown {
	if seq < 1 || int(seq) > len(t.rows) || t.rows[seq-1].seq != seq {
		return nil
	}
	return &t.rows[seq-1]
}

// seen are the intervals that u could ever see.
func (t *truth) seen(u im.UserID) []span {
	if t.guest == u && !t.has(u) {
		return t.spans
	}
	return []span{{first: 1}}
}

// now is what u can see in the end: [first, top], and whether they are in it.
func (t *truth) now(u im.UserID) (first, top im.Seq, in, ever bool) {
	all := t.seen(u)
	if len(all) == 0 {
		return 0, 0, false, false
	}
	p := all[len(all)-1]
	if p.last == 0 {
		return p.first, im.Seq(len(t.rows)), true, true
	}
	return p.first, p.last, false, true
}

// unread is computed as the contract says (7), from what the user has sent and said to
// have read. What they sent last may have its place after they have left.
func (t *truth) unread(u im.UserID, read im.Seq) (n uint64) {
	first, top, _, _ := t.now(u)
	base := max(read, first-1)
	for _, m := range t.rows {
		if m.sender == u {
			base = max(base, m.seq)
		}
	}
	for seq := base + 1; seq <= top; seq++ {
		if m := t.at(seq); m != nil && m.notice == nil && !m.recalled {
			n++
		}
	}
	return n
}

// list is what u's list must be.
func list(truths []*truth, r *record, u im.UserID) (rows []listRow) {
	newest := make(map[im.ConversationID]im.MessageID)
	for _, t := range truths {
		_, top, in, ever := t.now(u)
		if !ever || !(t.has(u) || t.guest == u) {
			continue
		}
		rows = append(rows, listRow{conv: t.id, last: top, unread: t.unread(u, r.reads[seat{u, t.id}]), left: !in})
		if m := t.at(top); m != nil {
			newest[t.id] = m.id
		}
	}
	slices.SortFunc(rows, func(a, b listRow) int { return cmp.Compare(newest[b.conv], newest[a.conv]) })
	return rows
}
