package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/logic/im"
)

// The model: what users must see, by the contract (DESIGN.md), in plain Go. It shares
// nothing with the engine but the vocabulary.

// world is all conversations of a case's users.
type world struct {
	convs  map[im.ConversationID]*thread
	groups []*circle
	moment int // counts what was done; orders lists
}

// thread is one conversation.
type thread struct {
	id        im.ConversationID
	low, high im.UserID // of a one-to-one
	circle    *circle   // of a channel
	name      string    // of a channel
	private   bool
	removed   bool
	said      []*utterance // seq 1 first
	changes   []im.Seq     // the message of each change; 0: it changed nothing
	seats     map[im.UserID]*seat
}

// utterance is a message.
type utterance struct {
	seq      im.Seq
	moment   int
	sender   im.UserID
	text     string
	notice   im.NoticeKind // of a notice
	about    []im.UserID   // whom a notice is about
	mentions []im.UserID
	all      bool        // mentions everyone
	called   []im.UserID // who was mentioned, also once it is recalled: the mark stays until they read
	reply    im.Seq
	change   uint64
	edits    []string // what it said before
	recalled bool
	reacted  []*reaction // in the order in which they first came
}

type reaction struct {
	emoji string
	by    []im.UserID
}

// seat is one user's part in a conversation.
type seat struct {
	join, leave, joined im.Seq
	delivered, read     im.Seq
	floor               im.Seq
	gone                map[im.Seq]uint64 // deleted for oneself, with its number
	version             uint64
	pinned              bool
	muted               int64
	marked, hidden      im.Seq
	draft               string
	spans               []span // every interval there ever was
}

// span is what a member could see while they were one.
type span struct{ first, last im.Seq } // last 0: still

func newWorld() *world { return &world{convs: make(map[im.ConversationID]*thread)} }

// direct is the one-to-one of two, whether somebody has spoken there or not.
func (w *world) direct(a, b im.UserID) *thread {
	id := im.DirectConversation(a, b)
	th := w.convs[id]
	if th == nil {
		th = &thread{id: id, low: min(a, b), high: max(a, b), seats: make(map[im.UserID]*seat)}
		w.convs[id] = th
	}
	return th
}

func (th *thread) last() im.Seq { return im.Seq(len(th.said)) }

func (th *thread) at(seq im.Seq) *utterance {
	if seq < 1 || seq > th.last() {
		return nil
	}
	return th.said[seq-1]
}

func (s *seat) in() bool { return s.leave <= s.joined }

// top is the last that the seat's owner sees.
func (th *thread) top(s *seat) im.Seq {
	if !s.in() {
		return min(s.leave, th.last())
	}
	return th.last()
}

// first is the first that they see.
func (s *seat) first() im.Seq { return max(s.join, s.floor+1, 1) }

func (s *seat) base() im.Seq {
	base := max(s.read, s.floor)
	if s.join > 0 {
		base = max(base, s.join-1)
	}
	return base
}

// member is u's seat where they are in the conversation now.
func (th *thread) member(u im.UserID) *seat {
	if s := th.seats[u]; s != nil && s.in() {
		return s
	}
	return nil
}

// say adds a message of a user's. A one-to-one begins with its first.
func (w *world) say(th *thread, m *utterance) {
	if th.circle == nil && th.last() == 0 {
		for _, u := range []im.UserID{th.low, th.high} {
			if u != im.SystemUser {
				th.seats[u] = &seat{join: 1, spans: []span{{first: 1}}}
			}
		}
	}
	m.seq, m.moment = th.last()+1, w.moment
	th.said = append(th.said, m)
	if s := th.member(m.sender); s != nil { // else taken before they were removed, and not theirs to see
		s.read = max(s.read, m.seq)
	}
	for u, s := range th.seats {
		if u != m.sender && s.in() && (m.all || slices.Contains(m.mentions, u)) {
			m.called = append(m.called, u)
		}
	}
}

// counts says whether a message counts as unread for u above their cursor.
func (th *thread) counts(m *utterance, s *seat) bool {
	return m.sender != im.SystemUser && !m.recalled && s.gone[m.seq] == 0
}

func (th *thread) unread(s *seat) (n uint64) {
	for seq := s.base() + 1; seq <= th.top(s); seq++ {
		if th.counts(th.at(seq), s) {
			n++
		}
	}
	return n
}

// mention is the last that calls u and that they have not read.
func (th *thread) mention(u im.UserID, s *seat) im.Seq {
	for seq := th.top(s); seq > s.base(); seq-- {
		if slices.Contains(th.at(seq).called, u) {
			return seq
		}
	}
	return 0
}

// settled is up to where nothing waits for a device.
func (th *thread) settled(s *seat) im.Seq {
	if th.circle != nil {
		return max(s.delivered, s.base())
	}
	return max(s.delivered, s.floor)
}

// waiting is what no device of u has acked: whether there is something, and how many.
func (th *thread) waiting(u im.UserID, s *seat) (some bool, n int) {
	settled := th.settled(s)
	for seq := settled + 1; seq <= th.top(s); seq++ {
		m := th.at(seq)
		if th.circle == nil && m.sender != u || th.circle != nil && th.counts(m, s) {
			n++
		}
	}
	return n > 0 || th.circle != nil && th.top(s) > settled, n
}

// move is a receipt.
func (th *thread) move(s *seat, delivered, read im.Seq) {
	if read > 0 && s.read < s.marked {
		s.marked = 0
		s.version++
	}
	s.delivered = max(s.delivered, min(max(delivered, read), th.last()))
	s.read = max(s.read, min(read, th.last()))
}

// alter takes the next change number; done says that the message has changed by it.
func (th *thread) alter(m *utterance, done bool) {
	seq := im.Seq(0)
	if done {
		seq = m.seq
		m.change = uint64(len(th.changes) + 1)
	}
	th.changes = append(th.changes, seq)
}

func (m *utterance) recall() {
	m.recalled, m.text, m.mentions, m.all, m.reply, m.reacted, m.edits = true, "", nil, false, 0, nil, nil
}

func (m *utterance) edit(text string) {
	m.edits = append(m.edits, m.text)
	m.text = text
}

func (m *utterance) react(u im.UserID, emoji string, on bool) {
	for i, r := range m.reacted {
		if r.emoji != emoji {
			continue
		}
		has := slices.Index(r.by, u)
		switch {
		case on && has < 0:
			r.by = append(r.by, u)
		case !on && has >= 0:
			if r.by = slices.Delete(r.by, has, has+1); len(r.by) == 0 {
				m.reacted = slices.Delete(m.reacted, i, i+1)
			}
		}
		return
	}
	if on {
		m.reacted = append(m.reacted, &reaction{emoji, []im.UserID{u}})
	}
}

// delete is deleting for oneself.
func (s *seat) delete(seqs []im.Seq) {
	if s.gone == nil {
		s.gone = make(map[im.Seq]uint64)
	}
	for _, seq := range seqs {
		if s.gone[seq] == 0 {
			s.gone[seq] = uint64(len(s.gone) + 1)
		}
	}
}

// shows is a message as u sees it, in short. pushed: as a device was told, which is not
// what has become of the message it replies to, nor which reactions are the reader's.
func (th *thread) shows(m *utterance, u im.UserID, pushed bool) string {
	head := fmt.Sprint(m.seq, " ", m.sender, " ")
	s := th.seats[u]
	switch {
	case m.recalled:
		return head + "recalled"
	case s != nil && s.gone[m.seq] > 0:
		return head + "deleted"
	case m.notice != "":
		head += fmt.Sprint(m.notice, " ", m.about)
	}
	text := head + m.text
	if len(m.edits) > 0 {
		text += " (edited)"
	}
	if m.reply > 0 {
		quoted := th.at(m.reply)
		text += fmt.Sprint(" re ", m.reply)
		if quoted.recalled && !pushed {
			text += " recalled"
		}
	}
	if len(m.mentions) > 0 || m.all {
		text += fmt.Sprint(" @", m.mentions, m.all)
	}
	for _, r := range m.reacted {
		text += fmt.Sprint(" ", r.emoji, len(r.by), !pushed && slices.Contains(r.by, u))
	}
	return text
}

// row is what a user's list says of a conversation.
type row struct {
	conv                    im.ConversationID
	name                    string // of the channel, and its group's
	first, last             im.Seq
	left                    bool
	change                  uint64
	delivered, read         im.Seq
	unread                  uint64
	peerDelivered, peerRead im.Seq
	mentioned               im.Seq
	deletions               uint64
	floor                   im.Seq
	isHidden, isMarked      bool
	version                 uint64
	pinned                  bool
	muted                   int64
	marked, hidden          im.Seq
	draft                   string
	lastMessage             string
}

// row is what u's list must say; ok is false where they were never in it.
func (th *thread) row(u im.UserID) (r row, ok bool) {
	s := th.seats[u]
	if s == nil {
		return r, false
	}
	top := th.top(s)
	r = row{
		conv: th.id, last: top, left: !s.in(), change: uint64(len(th.changes)), delivered: s.delivered, read: s.read,
		unread: th.unread(s), deletions: uint64(len(s.gone)), floor: s.floor,
		isHidden: top <= max(s.hidden, s.floor), isMarked: s.read < s.marked,
		version: s.version, pinned: s.pinned, muted: s.muted, marked: s.marked, hidden: s.hidden, draft: s.draft,
	}
	if s.join > 1 {
		r.first = s.join
	}
	r.mentioned = th.mention(u, s)
	if r.left { // nobody calls who has left, and what changes then is not theirs to know
		r.change, r.mentioned, r.read = 0, 0, min(r.read, top)
	}
	if th.circle == nil {
		if peer := th.seats[th.low+th.high-u]; peer != nil {
			r.peerDelivered, r.peerRead = peer.delivered, peer.read
		}
	} else {
		r.name = th.circle.name + "/" + th.name
	}
	if m := th.at(top); m != nil && top > s.floor {
		r.lastMessage = th.shows(m, u, false)
	}
	return r, true
}

// list is u's list, newest first; among conversations that moved in one moment any may
// come first.
func (w *world) list(u im.UserID) (rows []row, moments []int) {
	var all []*thread
	for _, th := range w.convs {
		if r, ok := th.row(u); ok && !r.isHidden {
			all = append(all, th)
		}
	}
	moment := func(th *thread) int { return th.at(th.top(th.seats[u])).moment }
	slices.SortFunc(all, func(a, b *thread) int {
		return cmp.Or(cmp.Compare(moment(b), moment(a)), strings.Compare(string(a.id), string(b.id)))
	})
	for _, th := range all {
		r, _ := th.row(u)
		rows, moments = append(rows, r), append(moments, moment(th))
	}
	return rows, moments
}

// totals are over u's list.
func (w *world) totals(u im.UserID) (all, badge uint64) {
	rows, _ := w.list(u)
	for _, r := range rows {
		all += r.unread
		if r.muted == 0 {
			badge += r.unread
		}
	}
	return all, badge
}

// saw says whether u was ever allowed to see a seq.
func (s *seat) saw(seq im.Seq) bool {
	return slices.ContainsFunc(s.spans, func(p span) bool { return seq >= p.first && (p.last == 0 || seq <= p.last) })
}

// of are u's conversations, in a fixed order.
func (w *world) of(u im.UserID) (all []*thread) {
	for _, id := range slices.Sorted(maps.Keys(w.convs)) {
		if th := w.convs[id]; th.seats[u] != nil {
			all = append(all, th)
		}
	}
	return all
}
