package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// check holds everything that can be seen to the ledger. ordered: no send was answered
// refused or unknown, so each socket's messages have kept their order.
func (l *load) check(ordered bool) {
	l.t.Helper()
	histories := map[im.ConversationID][]im.Message{}
	for i, p := range l.people {
		for _, q := range l.people[i+1:] {
			conv := im.DirectConversation(p.id, q.id)
			devtest.Eventually(l.t, fmt.Sprintf("all of %s and %s is stored", p.name, q.name), func() bool {
				histories[conv] = p.history(conv)
				return len(histories[conv]) >= len(l.said[conv])
			})
			l.checkHistory(conv, histories[conv], q.history(conv), ordered)
		}
	}
	for i, p := range l.people {
		l.checkList(p, histories)
		if i < len(l.devices) {
			l.checkDevice(l.devices[i], histories)
		} else {
			l.checkOffline(p, histories)
		}
	}
	l.t.Logf("%d messages taken, %d refused", l.sayings(), len(l.refused))
}

func (l *load) checkHistory(conv im.ConversationID, ms, theirs []im.Message, ordered bool) {
	l.t.Helper()
	equal(l.t, fmt.Sprint(conv, " is 1, 2, 3 …"), seqsOf(ms), sequence(1, im.Seq(len(ms))))
	at := map[string]im.Seq{}
	for i, m := range ms {
		text := textOf(m)
		if first, twice := at[text]; twice {
			l.t.Errorf("%s: %q is there twice, at %d and %d", conv, text, first, m.Seq)
		}
		at[text] = m.Seq
		if code, refused := l.refused[text]; refused {
			l.t.Errorf("%s: %q was refused (%s) and is there", conv, text, code)
		}
		if i > 0 && m.ID <= ms[i-1].ID {
			l.t.Errorf("%s: message ID %d at %d follows %d", conv, m.ID, m.Seq, ms[i-1].ID)
		}
		if i >= len(theirs) || theirs[i].ID != m.ID || textOf(theirs[i]) != text || theirs[i].Sender.ID != m.Sender.ID {
			l.t.Fatalf("%s: the two see different messages at %d", conv, m.Seq)
		}
	}
	last := map[*person]im.Seq{}
	for _, s := range l.said[conv] {
		got, there := at[s.text]
		if !there {
			l.t.Errorf("%s: %q was accepted and is lost", conv, s.text)
			continue
		}
		res := s.res
		if s.out != nil {
			select {
			case <-s.out.Done():
			default:
				l.t.Errorf("%s: %q is there, and its sender has not heard so", conv, s.text)
				continue
			}
			res = s.from.stored(s.out)
			if ordered && got < last[s.from] {
				l.t.Errorf("%s: %q has been overtaken", conv, s.text)
			}
			last[s.from] = got
		}
		if res.State == protocol.StateStored && res.Seq != got {
			l.t.Errorf("%s: %q was stored at %d and is at %d", conv, s.text, res.Seq, got)
		}
	}
	sure := len(ms)
	for text := range at {
		if l.maybe[text] {
			sure--
		}
	}
	if sure != len(l.said[conv]) {
		l.t.Errorf("%s: %d messages, %d were said", conv, sure, len(l.said[conv]))
	}
}

// checkList waits until p's list says what follows from the histories.
func (l *load) checkList(p *person, histories map[im.ConversationID][]im.Message) {
	l.t.Helper()
	type line struct {
		conv   im.ConversationID
		last   im.Seq
		unread uint64
	}
	var want []line
	newest := map[im.ConversationID]im.MessageID{}
	for conv, ms := range histories {
		if !isIn(conv, p.id) || len(ms) == 0 {
			continue
		}
		n := line{conv: conv, last: im.Seq(len(ms))}
		for _, m := range ms { // own messages move the own cursor, nothing else here does
			if n.unread++; m.Sender.ID == p.id {
				n.unread = 0
			}
		}
		newest[conv] = ms[len(ms)-1].ID
		want = append(want, n)
	}
	slices.SortFunc(want, func(a, b line) int { return int(newest[b.conv]) - int(newest[a.conv]) })
	var got []line
	defer func() {
		if l.t.Failed() {
			l.t.Logf("%s's list: got %+v, want %+v", p.name, got, want)
		}
	}()
	devtest.Eventually(l.t, p.name+"'s list and unread counts are right", func() bool {
		got = nil
		for _, c := range p.list() {
			if _, ours := histories[c.ConversationID]; ours {
				got = append(got, line{c.ConversationID, c.LastSeq, c.Unread})
			}
		}
		return slices.Equal(got, want)
	})
}

// checkDevice waits until the device was shown everything that it did not send, in
// order.
func (l *load) checkDevice(d *device, histories map[im.ConversationID][]im.Message) {
	l.t.Helper()
	mine := map[string]bool{}
	for _, all := range l.said {
		for _, s := range all {
			if s.out != nil && s.from == d.p {
				mine[s.text] = true
			}
		}
	}
	for conv, ms := range histories {
		if !isIn(conv, d.p.id) {
			continue
		}
		var want []string
		for _, m := range ms {
			if text := textOf(m); !mine[text] {
				want = append(want, text)
			}
		}
		devtest.Eventually(l.t, fmt.Sprintf("%s's device was shown all of %s", d.p.name, conv), func() bool {
			return len(d.texts(conv)) >= len(want)
		})
		if got := d.texts(conv); !slices.Equal(got, want) {
			l.t.Errorf("%s's device was shown %q of %s, want %q", d.p.name, got, conv, want)
		}
	}
	devtest.Eventually(l.t, d.p.name+"'s acks have cleared what waited", func() bool { return len(d.p.offline()) == 0 })
}

// checkOffline waits until all that was sent to p waits there.
func (l *load) checkOffline(p *person, histories map[im.ConversationID][]im.Message) {
	l.t.Helper()
	want := map[im.ConversationID]uint64{}
	for conv, ms := range histories {
		for _, m := range ms {
			if isIn(conv, p.id) && m.Sender.ID != p.id {
				want[conv]++
			}
		}
	}
	devtest.Eventually(l.t, "all waits for "+p.name, func() bool {
		got := map[im.ConversationID]uint64{}
		for conv, s := range p.offline() {
			if _, ours := histories[conv]; ours {
				got[conv] = s.Count
			}
		}
		return maps.Equal(got, want)
	})
}

func isIn(conv im.ConversationID, u im.UserID) bool {
	_, ok := conv.Peer(u)
	return ok
}
