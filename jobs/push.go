package jobs

import (
	"cmp"
	"context"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// pusher gathers the frames of one batch, one publish per node.
type pusher struct {
	r        *Runner
	sessions map[im.UserID][]im.SessionRef
	rooms    map[im.ConversationID][]im.NodeID
	nodes    map[im.NodeID][]byte
	usual    int    // bytes to begin one of them with
	large    bool   // one of them is
	frame    []byte // the last one encoded; add copies it
	one      []byte // the last delivery for several nodes; copied as well
	user     [1]im.UserID
}

// push tells whoever is online. It comes last and may fail: what is missed is found
// by seq or by the heartbeat, and pulled (contract 5). Errors are counted, and nothing
// waits for them.
func (s *scribe) push(ctx context.Context, b *batch, moves []move) {
	p := s.r.newPusher(ctx, s.audience(b, moves))
	p.readRooms(ctx, b.rooms())
	p.usual = usualDelivery * len(b.sends)
	for _, d := range inOrder(b.sends) {
		switch d.fate {
		case stored, duplicate:
			p.stored(d)
			switch {
			case !d.news():
			case d.room != nil:
				p.room(ctx, d)
			default:
				e, _ := s.ends.Get(d.conv)
				p.message(d, e.low, e.high)
			}
			if d.news() && s.r.deps.Notifier != nil {
				p.notify(b, d)
			}
		case conflict:
			p.rejected(d.conv, d.task, im.ErrMsgIDConflict)
		case parked:
			p.rejected(d.conv, d.task, im.ErrUnstorable)
		}
		p.bound(ctx)
	}
	for _, c := range b.changes {
		if isChannel(c.conv) {
			p.changed(c, nil, s.rosterOf(c.conv))
		} else {
			e, _ := s.ends.Get(c.conv)
			p.changed(c, []im.UserID{e.low, e.high}, nil)
		}
		p.bound(ctx)
	}
	for _, h := range b.hides {
		p.deleted(h)
		p.bound(ctx)
	}
	for i := range moves {
		if moves[i].receipt {
			p.moved(&moves[i])
			p.bound(ctx)
		}
	}
	p.publish(ctx)
}

// inOrder is sends with those of a conversation by seq. Only a record that repeats what was
// stored before can stand behind a later message; a connector drops it as late, but not
// inside a batch.
func inOrder(sends []*send) []*send {
	if !slices.ContainsFunc(sends, func(d *send) bool { return d.fate == duplicate }) {
		return sends
	}
	sends = slices.Clone(sends)
	slices.SortStableFunc(sends, func(a, b *send) int { return cmp.Compare(a.ref.Seq, b.ref.Seq) })
	return sends
}

// news says whether the message itself is to be pushed. A record that was handled
// before is told again, since whoever handled it may have died before the push. A
// client's retry of what was stored when it was accepted is not: its content may have
// been filtered otherwise since, and everybody has been told what was stored.
func (d *send) news() bool {
	return d.fate == stored || d.first == nil && d.task.AcceptedAt <= d.ref.StoredAt
}

// audience is who might have to be told.
func (s *scribe) audience(b *batch, moves []move) []im.UserID {
	users := make([]im.UserID, 0, 2*len(b.sends)+2*len(moves))
	for _, d := range b.sends {
		if e, ok := s.ends.Get(d.conv); ok && d.fate != conflict && d.fate != parked {
			users = append(users, e.low, e.high)
		} else {
			users = append(users, d.key.Sender)
		}
		if d.room != nil {
			users = d.affected(append(users, d.key.Sender))
		}
	}
	for _, c := range b.changes {
		users = append(users, c.task.Actor)
		if e, ok := s.ends.Get(c.conv); ok {
			users = append(users, e.low, e.high)
		}
	}
	for _, h := range b.hides {
		users = append(users, h.User)
	}
	for i := range moves {
		if moves[i].receipt {
			users = append(users, moves[i].User, moves[i].peer())
		}
	}
	slices.Sort(users)
	users = slices.Compact(users)
	if len(users) > 0 && users[0] == im.SystemUser {
		users = users[1:]
	}
	return users
}

// newPusher reads where users are. Without an answer nobody is told, but waiters of
// known nodes still are.
func (r *Runner) newPusher(ctx context.Context, users []im.UserID) *pusher {
	p := &pusher{r: r, nodes: make(map[im.NodeID][]byte)}
	if len(users) == 0 {
		return p
	}
	p.sessions = r.sessions(ctx, users)
	return p
}

// sessions are where users are online; nothing where Redis does not say.
func (r *Runner) sessions(ctx context.Context, users []im.UserID) (found map[im.UserID][]im.SessionRef) {
	err := r.tell(func() (err error) {
		call, cancel := context.WithTimeout(ctx, r.cfg.CacheTimeout)
		defer cancel()
		found, err = r.deps.Sessions.Sessions(call, users)
		return err
	})
	if err != nil {
		r.m.pushLost.WithLabelValues("sessions").Inc()
	}
	return found
}

// stored tells the sender's devices, and the request that waits for it.
func (p *pusher) stored(d *send) {
	if len(p.sessions[d.key.Sender]) == 0 && d.task.Origin.Request == "" {
		return
	}
	p.frame = protocol.AppendStoredPush(p.frame[:0], &protocol.Stored{
		ConversationID: d.conv, ClientMsgID: d.key.ClientMsgID, Seq: d.ref.Seq, MessageID: d.ref.ID, StoredAt: d.ref.StoredAt,
	})
	p.note(d.task.Origin, p.frame)
	p.users(protocol.PushStored, d.key.Sender, protocol.Delivery{Frame: p.frame})
}

// message tells the recipients, and, with the client message ID, the sender's other
// devices. The seq lets a connector drop what comes late.
func (p *pusher) message(d *send, low, high im.UserID) {
	m := im.Message{
		Conversation: d.conv, Seq: d.ref.Seq, ID: d.ref.ID, ClientMsgID: d.key.ClientMsgID, Sender: d.task.Sender,
		Type: d.task.Type, Content: d.task.Content, StoredAt: d.ref.StoredAt, About: d.task.About,
	}
	own := d.task.Origin.Session
	if slices.ContainsFunc(p.sessions[d.key.Sender], func(s im.SessionRef) bool { return s.Session != own }) {
		p.frame = protocol.AppendMessagePush(p.frame[:0], &m)
		p.users(protocol.PushMessage, d.key.Sender, protocol.Delivery{Except: own, Conversation: d.conv, Seq: d.ref.Seq, Frame: p.frame})
	}
	peer := low
	if low == d.key.Sender {
		peer = high
	}
	if peer != d.key.Sender && len(p.sessions[peer]) > 0 {
		m.ClientMsgID = "" // the sender's alone
		p.frame = protocol.AppendMessagePush(p.frame[:0], &m)
		p.users(protocol.PushMessage, peer, protocol.Delivery{Conversation: d.conv, Seq: d.ref.Seq, Frame: p.frame})
	}
}

// rejected tells the sender that an accepted message will never appear.
func (p *pusher) rejected(c im.ConversationID, t *im.SendTask, cause error) {
	code := protocol.CodeOf(cause)
	frame := p.encode(protocol.PushRejected, protocol.Rejected{
		ConversationID: c, ClientMsgID: t.ClientMsgID, Code: code.Name, Message: code.Message,
	})
	p.note(t.Origin, frame)
	p.users(protocol.PushRejected, t.Sender.ID, protocol.Delivery{Frame: frame})
}

// moved tells the other side how far a member has come, and the member's other devices
// how far it has read.
func (p *pusher) moved(m *move) {
	data := protocol.CursorMoved{ConversationID: m.Conversation, UserID: m.User, DeliveredSeq: m.Delivered, ReadSeq: m.Read}
	if peer := m.peer(); peer != m.User && len(p.sessions[peer]) > 0 {
		p.users(protocol.PushReceipt, peer, protocol.Delivery{Frame: p.encode(protocol.PushReceipt, data)})
	}
	if !m.readMoved {
		return
	}
	var own im.SessionID
	for _, s := range p.sessions[m.User] {
		if s.Device == m.device {
			own = s.Session
		}
	}
	if slices.ContainsFunc(p.sessions[m.User], func(s im.SessionRef) bool { return s.Session != own }) {
		p.users(protocol.PushReadSelf, m.User, protocol.Delivery{Except: own, Frame: p.encode(protocol.PushReadSelf, data)})
	}
}

// note answers the request that waits for the end of a send, where there is one.
func (p *pusher) note(o im.Origin, frame []byte) {
	if o.Request != "" && o.Node != "" && frame != nil {
		p.add(o.Node, &protocol.Delivery{Request: o.Request, Frame: frame}, "note")
	}
}

// users adds d, for user, to the share of each node that has a session of theirs other
// than the one left out.
func (p *pusher) users(kind protocol.Push, user im.UserID, d protocol.Delivery) {
	if d.Frame == nil {
		return
	}
	p.user[0] = user
	d.Users = p.user[:]
	refs := p.sessions[user]
	for i, s := range refs {
		if s.Session == d.Except || slices.ContainsFunc(refs[:i], func(t im.SessionRef) bool { return t.Node == s.Node && t.Session != d.Except }) {
			continue
		}
		p.add(s.Node, &d, string(kind))
	}
}

// encode is the one encoding of a frame; nil where it cannot be encoded, which what
// is stored always can.
func (p *pusher) encode(kind protocol.Push, data any) []byte {
	frame, err := protocol.EncodePush(protocol.PushFrame{Push: kind, Data: data})
	if err != nil {
		p.r.log.Error("encode a push", "kind", kind, "err", err)
		p.r.m.pushLost.WithLabelValues("encode").Inc()
		return nil
	}
	return frame
}

// publishBytes bounds one node's share of a publish: Redis cuts a subscriber off
// whose unread messages exceed 8 MiB for a minute or 32 MiB at all.
const publishBytes = 1 << 20

// usualDelivery is about what one message puts into a node's share: a note to one side, the
// message to the other, and the sides are spread over nodes.
const usualDelivery = 512

// bound publishes what is gathered where one node's share is large. It is called
// between messages: all frames of one must leave together, or a connector would take
// the later ones for late.
func (p *pusher) bound(ctx context.Context) {
	if !p.large {
		return
	}
	p.publish(ctx)
	p.nodes = make(map[im.NodeID][]byte) // what was published may still be on its way
	p.large = false
}

// add puts d into a node's share.
func (p *pusher) add(node im.NodeID, d *protocol.Delivery, kind string) {
	b := p.nodes[node]
	if b == nil {
		b = make([]byte, 0, p.usual)
	}
	b = protocol.AppendDelivery(b, d)
	p.nodes[node] = b
	p.large = p.large || len(b) > publishBytes
	p.r.m.pushes.WithLabelValues(kind).Inc()
}

func (p *pusher) publish(ctx context.Context) {
	if len(p.nodes) == 0 {
		return
	}
	err := p.r.tell(func() error {
		call, cancel := context.WithTimeout(ctx, p.r.cfg.CacheTimeout)
		defer cancel()
		return p.r.deps.Bus.Publish(call, p.nodes)
	})
	if err != nil {
		p.r.m.pushLost.WithLabelValues("publish").Inc()
	}
}
