package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// classes of what must not be, in the order of the line.
var classes = []string{
	"lost",       // acked and not visible, a change too
	"dup",        // visible twice
	"phantom",    // refused or never sent, and visible
	"fork",       // one place, and two see different messages at it
	"gap",        // a hole in 1, 2, 3 …
	"regress",    // was shown, and is there no longer
	"fifo",       // a sender's later message, or a later push, came first
	"early",      // pushed before it could be read
	"leak",       // shown to or taken from who was no member then
	"unread_err", // an unread count that does not follow from what was said and read
	"list_err",   // a conversation list that does not follow from the histories
	"missed",     // where no push is lost by what was injected: over one in a thousand was
	"stuck",      // not known to a device that has asked twice since
	"died",       // a process ended by itself
	"unbroken",   // what was to be broken was not: the run shows nothing of it
}

// verdict is what was found, by class.
type verdict map[string][]string

func (v verdict) add(class, what string, args ...any) {
	v[class] = append(v[class], fmt.Sprintf(what, args...))
}

func (v verdict) clean() bool {
	for _, class := range classes {
		if len(v[class]) > 0 {
			return false
		}
	}
	return true
}

// check holds a record and its ending to what was promised. fence is how long after a
// removal has returned something of the removed may still be accepted.
func check(r *record, e *ending, fence time.Duration) verdict {
	v := make(verdict)
	tokens := tokensOf(r, e)
	var truths []*truth
	byConv := make(map[im.ConversationID]*truth)
	for _, c := range r.convs {
		t := learn(c, e, tokens)
		truths, byConv[c.id] = append(truths, t), t
		v.rows(t, r)
	}
	v.sent(r, byConv)
	v.changed(r, byConv)
	v.observers(e, byConv)
	v.sights(r, byConv)
	v.senders(r, byConv)
	v.pipelines(r, byConv)
	v.fences(r, fence)
	v.lists(truths, r, e)
	v.devices(e, byConv)
	for _, what := range r.early {
		v.add("early", "%s", what)
	}
	for _, what := range r.partial {
		v.add("list_err", "%s", what)
	}
	return v
}

// rows: a history is 1, 2, 3 …, each a message that somebody sent there, once.
func (v verdict) rows(t *truth, r *record) {
	first := make(map[string]im.Seq)
	ids := make(map[im.MessageID]im.Seq)
	for i, m := range t.rows {
		if m.seq != im.Seq(i+1) {
			v.add("gap", "%s: %d is at place %d", t.id, m.seq, i+1)
		}
		if at, twice := ids[m.id]; twice {
			v.add("dup", "%s: message %d is at %d and %d", t.id, m.id, at, m.seq)
		}
		ids[m.id] = m.seq
		if m.notice != nil {
			continue
		}
		s := r.byToken[m.token]
		switch at, twice := first[m.token]; {
		case m.token == "" && m.recalled:
			v.add("phantom", "%s: what was recalled at %d was never seen before", t.id, m.seq)
		case s == nil:
			v.add("phantom", "%s: %q at %d was never sent", t.id, m.token, m.seq)
		case s.conv != t.id || s.sender != m.sender:
			v.add("fork", "%s: %q at %d was sent by %s to %s", t.id, m.token, m.seq, s.sender, s.conv)
		case twice:
			v.add("dup", "%s: %q is at %d and %d", t.id, m.token, at, m.seq)
		case s.outcome() == refused:
			v.add("phantom", "%s: %q at %d was refused", t.id, m.token, m.seq)
		}
		first[m.token] = m.seq
	}
}

// sent: what was acked is there, where it was said to be.
func (v verdict) sent(r *record, truths map[im.ConversationID]*truth) {
	for _, s := range r.sends {
		at, there := truths[s.conv].place[s.token]
		if s.outcome() == acked && !there {
			v.add("lost", "%s: %q of %s was acked", s.conv, s.token, s.sender)
		}
		for _, t := range s.tries {
			if t.seq != 0 && there && t.seq != at {
				v.add("fork", "%s: %q was stored at %d and is at %d", s.conv, s.token, t.seq, at)
			}
		}
	}
}

// changed: a change that was taken shows.
func (v verdict) changed(r *record, truths map[im.ConversationID]*truth) {
	for _, ch := range r.changes {
		m := truths[ch.conv].at(truths[ch.conv].place[ch.token])
		if m == nil || ch.outcome != acked {
			continue
		}
		if ch.recall && !m.recalled || !ch.recall && !m.edited {
			v.add("lost", "%s: a change of %q at %d was acked (recall %t)", ch.conv, ch.token, m.seq, ch.recall)
		}
	}
}

// observers: every member finds what the first finds, as far as they may see.
func (v verdict) observers(e *ending, truths map[im.ConversationID]*truth) {
	for at, rows := range e.histories {
		t := truths[at.conv]
		first, top, _, ever := t.now(at.user)
		if late := !t.has(at.user) || !ever; late && len(rows) > 0 && t.guest != at.user {
			v.add("leak", "%s: %s is no member and finds %d messages", at.conv, at.user, len(rows))
			continue
		}
		if len(rows) > 0 && t.joinsLate(at.user) {
			first = rows[0].seq
		}
		for i, m := range rows {
			switch want := t.at(m.seq); {
			case m.seq < first || m.seq > top:
				v.add("leak", "%s: %s finds %d, and may see %d to %d", at.conv, at.user, m.seq, first, top)
			case m.seq != first+im.Seq(i):
				v.add("gap", "%s: %s finds %d at place %d", at.conv, at.user, m.seq, i+1)
			case want != nil && !m.same(*want):
				v.add("fork", "%s: %s finds %+v at %d, others %+v", at.conv, at.user, m, m.seq, *want)
			}
		}
		if n := len(rows); ever && (n == 0 && top >= first || n > 0 && rows[n-1].seq < top) {
			v.add("gap", "%s: %s finds %d messages, the last of which is not %d", at.conv, at.user, n, top)
		}
	}
}

// joinsLate says that a member may have come by a notice that does not name them all.
func (t *truth) joinsLate(u im.UserID) bool { return slices.Index(t.members, u) > im.MaxMembersPerCall }

// same says that both are one message. Whoever was shown it before it was changed has
// seen it otherwise.
func (m shown) same(o shown) bool {
	return m.id == o.id && m.sender == o.sender && (m.token == "" || o.token == "" || m.token == o.token)
}
