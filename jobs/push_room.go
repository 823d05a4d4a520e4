package jobs

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// joinChunk bounds the users in one delivery; namedAtOnce those of one notice whose
// sessions are read with the others'.
const (
	joinChunk   = 500
	namedAtOnce = 500
)

// rooms are the channels of the batch that somebody may have to be told of.
func (b *batch) rooms() []im.ConversationID {
	var convs []im.ConversationID
	for _, d := range b.sends {
		if d.room != nil && d.news() && !slices.Contains(convs, d.conv) {
			convs = append(convs, d.conv)
		}
	}
	for _, c := range b.changes {
		if isChannel(c.conv) && !c.conflict && !slices.Contains(convs, c.conv) {
			convs = append(convs, c.conv)
		}
	}
	return convs
}

// readRooms reads which nodes have a member of the channels online.
func (p *pusher) readRooms(ctx context.Context, convs []im.ConversationID) {
	if len(convs) == 0 {
		return
	}
	err := p.r.tell(func() error {
		call, cancel := context.WithTimeout(ctx, p.r.cfg.CacheTimeout)
		defer cancel()
		found, err := p.r.deps.Rooms.RoomNodes(call, convs)
		p.rooms = found
		return err
	})
	if err != nil {
		p.r.m.pushLost.WithLabelValues("rooms").Inc()
	}
}

// affected are the users whom a notice lets in or out, where they are few.
func (d *send) affected(users []im.UserID) []im.UserID {
	if len(d.room.effect.joined)+len(d.room.effect.left) > namedAtOnce {
		return users
	}
	for _, m := range d.room.effect.joined {
		users = append(users, m.User)
	}
	return append(users, d.room.effect.left...)
}

// room tells a channel of a message: one delivery for each node that has a member
// online, whatever their number. The sender's devices get theirs, with the client
// message ID, by their sessions.
func (p *pusher) room(ctx context.Context, d *send) {
	m := im.Message{
		Conversation: d.conv, Seq: d.ref.Seq, ID: d.ref.ID, ClientMsgID: d.key.ClientMsgID, Sender: d.task.Sender,
		Type: d.task.Type, Content: d.task.Content, StoredAt: d.ref.StoredAt, About: d.task.About,
	}
	sender, own := d.key.Sender, d.task.Origin.Session
	if d.room.now.sees(sender, d.ref.Seq) && slices.ContainsFunc(p.sessions[sender], func(s im.SessionRef) bool { return s.Session != own }) {
		p.frame = protocol.AppendMessagePush(p.frame[:0], &m)
		p.users(protocol.PushMessage, sender, protocol.Delivery{Except: own, Conversation: d.conv, Seq: d.ref.Seq, Frame: p.frame})
	}
	nodes := p.rooms[d.conv]
	last := protocol.Delivery{
		Room: d.conv, Version: d.room.now.version, About: d.ref.Seq, ExceptUser: sender, Conversation: d.conv, Seq: d.ref.Seq,
	}
	var before []protocol.Delivery
	if d.task.Membership.Moves() {
		nodes = p.also(ctx, nodes, d)
		before = d.membership(&last)
	}
	if len(nodes) == 0 {
		return
	}
	m.ClientMsgID = "" // the sender's alone
	p.frame = protocol.AppendMessagePush(p.frame[:0], &m)
	last.Frame = p.frame
	p.r.m.roomMessages.Inc()
	for i := range before {
		p.toNodes(nodes, &before[i], "membership")
	}
	p.toNodes(nodes, &last, "message_room")
}

// membership says in last, and in what comes before it where it is much, how the notice
// changes the room. The frame goes with the last, when everyone is in who is to see it
// and nobody is out who is to see it as their last.
func (d *send) membership(last *protocol.Delivery) []protocol.Delivery {
	last.Version = d.ref.Seq
	if d.room.was != nil {
		last.Prior = d.room.was.version
	}
	var before []protocol.Delivery
	for at := 0; at < len(d.room.effect.joined); {
		first, end := d.room.effect.joined[at].First, at
		for end < len(d.room.effect.joined) && end-at < joinChunk && d.room.effect.joined[end].First == first {
			end++
		}
		last.JoinFirst, last.Join = first, make([]im.UserID, 0, end-at)
		for _, m := range d.room.effect.joined[at:end] {
			last.Join = append(last.Join, m.User)
		}
		if at = end; at < len(d.room.effect.joined) {
			before = append(before, protocol.Delivery{
				Room: last.Room, Version: last.Version, Prior: last.Prior, About: last.About, Join: last.Join, JoinFirst: last.JoinFirst,
			})
			last.Prior = last.Version
		}
	}
	if last.LeaveAll = d.task.Membership.LeaveAll; !last.LeaveAll {
		last.Leave = d.room.effect.left
	}
	return before
}

// also adds the nodes where who joins or leaves has a session: they may not be in the
// registry yet, or any more.
func (p *pusher) also(ctx context.Context, nodes []im.NodeID, d *send) []im.NodeID {
	nodes = slices.Clone(nodes)
	add := func(sessions map[im.UserID][]im.SessionRef, users []im.UserID) {
		for _, u := range users {
			for _, s := range sessions[u] {
				if !slices.Contains(nodes, s.Node) {
					nodes = append(nodes, s.Node)
				}
			}
		}
	}
	if users := d.affected(nil); users != nil || len(d.room.effect.joined) == 0 {
		add(p.sessions, users)
		return nodes
	}
	for part := range slices.Chunk(d.room.effect.joined, movedPage) {
		users := make([]im.UserID, len(part))
		for i, m := range part {
			users[i] = m.User
		}
		add(p.r.sessions(ctx, users), users)
	}
	return nodes
}

// changedRoom tells a channel of a change: the actor's devices what is theirs, everyone
// else by one shared frame.
func (p *pusher) changedRoom(c *change, now *roster) {
	data := protocol.Changed{ConversationID: c.conv, Change: c.ref.Change, Kind: c.task.Kind, UserID: c.task.Actor, Reaction: c.task.Reaction}
	about := im.Seq(0) // that a change was rejected says nothing of the message
	if c.err() == nil && c.message != nil {
		m := c.message.ForReader(im.SystemUser)
		data.Message, about = &m, c.ref.Seq
	}
	if nodes := p.rooms[c.conv]; len(nodes) > 0 {
		d := protocol.Delivery{Room: c.conv, Version: now.version, About: about, ExceptUser: c.task.Actor, Frame: p.encode(protocol.PushChanged, data)}
		if d.Frame != nil {
			p.toNodes(nodes, &d, "changed_room")
		}
	}
	waiting := c.task.Origin.Request != "" && c.err() == nil
	if !waiting && (len(p.sessions[c.task.Actor]) == 0 || !now.sees(c.task.Actor, im.MaxID)) {
		return
	}
	if data.Message != nil {
		m := c.message.ForReader(c.task.Actor)
		data.Message = &m
	}
	data.ClientChangeID = c.task.ClientChangeID
	frame := p.encode(protocol.PushChanged, data)
	if waiting {
		p.note(c.task.Origin, frame)
	}
	p.users(protocol.PushChanged, c.task.Actor, protocol.Delivery{Frame: frame})
}

// toNodes puts d, encoded once, into the share of each node.
func (p *pusher) toNodes(nodes []im.NodeID, d *protocol.Delivery, kind string) {
	p.one = protocol.AppendDelivery(p.one[:0], d)
	for _, n := range nodes {
		b := append(p.nodes[n], p.one...)
		p.nodes[n] = b
		p.large = p.large || len(b) > publishBytes
	}
	p.r.m.pushes.WithLabelValues(kind).Add(float64(len(nodes)))
}
