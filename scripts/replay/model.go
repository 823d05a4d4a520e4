package main

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// model is what must be true of one channel: its whole history as the owner reads it,
// with the script's own log of who was let in and out held against its notices.
type model struct {
	room   *room
	places []place // by seq, from 1
	spans  map[*speaker][]span
	own    map[*speaker]im.Seq // their last message
	counts []int               // messages up to and with a seq: what counts as unread
}

// place is one seq: a message, or a notice.
type place struct {
	id   im.MessageID
	said *said
	text string // as shown
}

// span is what somebody may see: from the notice that let them in to the one that let
// them out; last is 0 while they are in.
type span struct{ first, last im.Seq }

func (s span) holds(seq im.Seq) bool { return seq >= s.first && (s.last == 0 || seq <= s.last) }

// top is the last seq that s shows.
func (m *model) top(s span) im.Seq {
	if s.last > 0 {
		return s.last
	}
	return im.Seq(len(m.places))
}

// now is somebody's last span: an earlier one is over and no longer theirs to read.
func (m *model) now(who *speaker) (span, bool) {
	all := m.spans[who]
	if len(all) == 0 {
		return span{}, false
	}
	return all[len(all)-1], true
}

// counted is how many messages lie in (after, top].
func (m *model) counted(after, top im.Seq) int {
	if after >= top {
		return 0
	}
	return m.counts[top] - m.counts[after]
}

// unread is how many messages somebody has not read, within bounds.
func (m *model) unread(who *speaker, s span) (least, most int) {
	read, top := m.read(who, s), m.top(s)
	return m.counted(read.high, top), m.counted(read.low, top)
}

// read is the cursor: what they have read, or sent themselves, and not what was before
// they joined.
func (m *model) read(who *speaker, s span) bounds {
	return who.readTo(m.room.id).raise(m.own[who]).raise(s.first)
}

// delivered is how far their devices have acked, or they have read.
func (m *model) delivered(who *speaker, s span) bounds {
	read := m.read(who, s)
	d := who.delivered(m.room.id).raise(read.low)
	return bounds{d.low, max(d.high, read.high)}
}

// learn reads a channel's history, holds it against what was done, and is the model of
// all that follows.
func (g *groupReplay) learn(ctx context.Context, res *result, r *room) (*model, error) {
	items, err := g.owner.history(ctx, r.id)
	if err != nil {
		return nil, err
	}
	m := &model{room: r, spans: map[*speaker][]span{}, own: map[*speaker]im.Seq{}, counts: []int{0}}
	at := map[im.Seq]*said{}
	var ops []*op
	for _, p := range r.plan {
		switch {
		case p.op != nil:
			ops = append(ops, p.op)
		case at[p.said.res.Seq] != nil:
			res.add(&res.doubled, 1)
		default:
			at[p.said.res.Seq] = p.said
		}
	}
	for i, it := range items {
		seq := im.Seq(i + 1)
		if it.Seq != seq {
			g.log.Warn("a hole in the history", "channel", r.name, "seq", it.Seq, "at", seq)
			res.add(&res.misordered, 1)
		}
		p := place{id: it.ID, text: shown(it)}
		if it.Type == im.TypeNotice {
			if len(ops) == 0 || !ops[0].tells(it) {
				g.log.Warn("not the notice that belongs here", "channel", r.name, "seq", seq, "content", string(it.Content))
				res.add(&res.membersWrong, 1)
			} else {
				ops[0].seq = seq
				m.apply(ops[0])
				ops = ops[1:]
			}
		} else if p.said = at[seq]; p.said == nil {
			g.log.Warn("nobody has sent this", "channel", r.name, "seq", seq)
			res.add(&res.doubled, 1)
		} else {
			delete(at, seq)
			from := p.said.from
			m.own[from] = seq
			if it.Sender.ID != from.id() || p.text != p.said.text {
				res.add(&res.misordered, 1)
			}
			if !from.calledAt(it.Sender.Nickname, p.said.sent, p.said.accepted) {
				g.log.Warn("under a name that was not theirs", "channel", r.name, "seq", seq, "name", it.Sender.Nickname)
				res.add(&res.membersWrong, 1)
			}
		}
		counted := m.counts[i]
		if p.said != nil {
			counted++
		}
		m.places, m.counts = append(m.places, p), append(m.counts, counted)
	}
	res.add(&res.lost, len(at))
	res.add(&res.membersWrong, len(ops))
	var last im.Seq
	for _, p := range r.plan {
		seq := im.Seq(0)
		if p.op != nil {
			seq = p.op.seq
		} else {
			seq = p.said.res.Seq
		}
		if seq <= last {
			g.log.Warn("overtaken", "channel", r.name, "seq", seq, "by", last)
			res.add(&res.misordered, 1)
		}
		last = max(last, seq)
	}
	return m, nil
}

// tells says whether a notice is the one of this change.
func (o *op) tells(it im.Message) bool {
	var n im.Notice
	if json.Unmarshal(it.Content, &n) != nil || !slices.Contains(o.kinds, n.Kind) {
		return false
	}
	about := o.join
	if len(o.leave) > 0 {
		about = o.leave
	}
	if n.Kind == im.NoticeCreated || n.Kind == im.NoticeChannelCreated {
		return true // made by somebody, for whom it is said otherwise
	}
	for _, u := range n.Users {
		if !slices.ContainsFunc(about, func(s *speaker) bool { return s.id() == u.ID }) {
			return false
		}
	}
	self := n.Kind == im.NoticeLeft && len(n.Users) == 0 && n.Actor != nil && n.Actor.ID == about[0].id()
	return self || len(n.Users) == min(len(about), im.MaxNoticeNames)
}

func (m *model) apply(o *op) {
	for _, s := range o.join {
		m.spans[s] = append(m.spans[s], span{first: o.seq})
	}
	for _, s := range o.leave {
		if all := m.spans[s]; len(all) > 0 {
			all[len(all)-1].last = o.seq
		}
	}
}

// shown is a message as the replay compares it.
func shown(m im.Message) string {
	if m.Type != im.TypeNotice {
		return textOf(m)
	}
	var n im.Notice
	_ = json.Unmarshal(m.Content, &n) // of another shape it shows nothing
	return "notice: " + string(n.Kind)
}
