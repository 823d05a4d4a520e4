package storage

import (
	"context"
	"maps"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// fakeChannel is what the record knows of a channel beside its messages.
type fakeChannel struct {
	merged   bool // at read: what it projects is its end, and not its members' states
	change   uint64
	closed   im.Seq
	mentions []im.UncountedSeq // SystemUser: of all
}

// channel makes one; the first who join see its first message.
func (f *fakeRecord) channel(c im.ConversationID, merged bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.channels[c] = &fakeChannel{merged: merged}
}

// show puts into a state what MySQL says of a channel; of who has left, as it was then.
func (ch *fakeChannel) show(s *im.ConversationState, m *im.Member, messages []fakeMessage) {
	s.Joined, s.Merged, s.LastChange = m.Joined, ch.merged, ch.change
	if !m.In() {
		s.LastSeq, s.LastID = m.Leave, messages[m.Leave-1].id
	}
	for _, n := range ch.mentions {
		if n.User == im.SystemUser || n.User == m.User {
			s.LastMention = max(s.LastMention, n.Seq)
		}
	}
}

// visible is what of a state a client can tell, but for the user's own numbers.
func visible(s im.ConversationState) im.ConversationState {
	if isChannel(s.Conversation) {
		s.LastMention, s.LastUncounted, s.Merged = s.Mentioned(), 0, false
		if !s.In() {
			s.LastChange = 0 // there is nothing more for them to learn
		}
	}
	return s
}

func (f *fakeRecord) channelSource(u im.UserID, s im.ConversationState) im.OfflineSource {
	n := uint64(0)
	for seq := s.Settled() + 1; seq <= s.Top(); seq++ {
		if !slices.ContainsFunc(f.uncounted[s.Conversation], func(r im.UncountedSeq) bool {
			return r.Seq == seq && (r.User == im.SystemUser || r.User == u)
		}) {
			n++
		}
	}
	return im.OfflineSource{Conversation: s.Conversation, Count: min(n, offlineKeep), LastID: s.LastID, Delivered: s.Delivered, LastSeq: s.Top()}
}

// roster is who is in c, by ID; the caller holds mu.
func (f *fakeRecord) roster(c im.ConversationID) (users []im.UserID) {
	for u, all := range f.cursors {
		if m := all[c]; m != nil && m.Joined > 0 && m.In() {
			users = append(users, u)
		}
	}
	slices.Sort(users)
	return users
}

// members is roster for who does not hold mu.
func (f *fakeRecord) members(c im.ConversationID) []im.UserID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roster(c)
}

// project is one raise of all members of c, as the channel's mode has it, beside what is
// raised of some; the caller holds mu.
func (f *fakeRecord) projectChannel(end im.ChannelEnd, some map[im.UserID]im.ConversationState, uncounted []im.UncountedSeq) im.Projection {
	c := end.Conversation
	ch := f.channels[c]
	users := maps.Clone(some)
	if users == nil {
		users = map[im.UserID]im.ConversationState{}
	}
	p := im.Projection{Uncounted: uncounted}
	if ch.merged {
		p.Ends = []im.ChannelEnd{end}
	} else {
		for _, u := range f.roster(c) {
			users[u] = mergeStates(users[u], im.ConversationState{LastSeq: end.LastSeq, LastID: end.LastID, LastChange: end.LastChange,
				LastUncounted: end.LastUncounted, LastMention: end.LastMention})
		}
	}
	for _, u := range slices.Sorted(maps.Keys(users)) {
		s := users[u]
		s.Conversation, s.Merged = c, ch.merged
		p.Users = append(p.Users, im.UserRaise{User: u, State: s})
	}
	f.uncounted[c] = append(f.uncounted[c], uncounted...)
	return p
}

// append stores a message of c; the caller holds mu.
func (f *fakeRecord) append(c im.ConversationID, from im.UserID) im.ChannelEnd {
	f.lastID++
	f.convs[c] = append(f.convs[c], fakeMessage{id: f.lastID, sender: from})
	return im.ChannelEnd{Conversation: c, LastSeq: im.Seq(len(f.convs[c])), LastID: f.lastID}
}

// say is a message of a member. mention is whom it mentions, SystemUser everyone, 1 nobody.
func (f *fakeRecord) say(c im.ConversationID, from im.UserID, counted im.Uncounted, mention im.UserID) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := f.append(c, from)
	some := map[im.UserID]im.ConversationState{}
	var uncounted []im.UncountedSeq
	switch counted {
	case im.UncountedForAll:
		uncounted = []im.UncountedSeq{{Conversation: c, Seq: end.LastSeq}}
		end.LastUncounted = end.LastSeq
	case im.UncountedForSender:
		uncounted = []im.UncountedSeq{{Conversation: c, Seq: end.LastSeq, User: from}}
		some[from] = im.ConversationState{LastUncounted: end.LastSeq}
	default:
		f.member(from, c).Read = end.LastSeq
		some[from] = im.ConversationState{Read: end.LastSeq}
	}
	if mention != 1 {
		f.channels[c].mentions = append(f.channels[c].mentions, im.UncountedSeq{Seq: end.LastSeq, User: mention})
		if mention == im.SystemUser {
			end.LastMention = end.LastSeq
		} else if slices.Contains(f.roster(c), mention) {
			some[mention] = mergeStates(some[mention], im.ConversationState{LastMention: end.LastSeq})
		}
	}
	return f.projectChannel(end, some, uncounted)
}

// join is the notice by which users join.
func (f *fakeRecord) join(c im.ConversationID, history bool, users ...im.UserID) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := f.append(c, im.SystemUser)
	end.LastUncounted = end.LastSeq
	some := map[im.UserID]im.ConversationState{}
	for _, u := range users {
		returns := f.cursors[u][c] != nil
		m := f.member(u, c)
		if returns && m.In() {
			continue
		}
		m.Joined = end.LastSeq
		m.Read, m.Delivered = max(m.Read, end.LastSeq), max(m.Delivered, end.LastSeq)
		switch {
		case !history:
			m.Join = end.LastSeq
		case !returns:
			m.Join = 1
		}
		some[u] = f.state(u, c)
	}
	return f.projectChannel(end, some, []im.UncountedSeq{{Conversation: c, Seq: end.LastSeq}})
}

// leave is the notice by which users leave; the last that they see.
func (f *fakeRecord) leave(c im.ConversationID, users ...im.UserID) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := f.append(c, im.SystemUser)
	end.LastUncounted = end.LastSeq
	some := map[im.UserID]im.ConversationState{}
	for _, u := range users {
		f.member(u, c).Leave = end.LastSeq
		some[u] = im.ConversationState{LastSeq: end.LastSeq, LastID: end.LastID, Leave: end.LastSeq, LastUncounted: end.LastSeq}
	}
	return f.projectChannel(end, some, []im.UncountedSeq{{Conversation: c, Seq: end.LastSeq}})
}

// dissolve is the notice by which everyone leaves.
func (f *fakeRecord) dissolve(c im.ConversationID) im.Projection {
	if !f.channels[c].merged {
		p := f.leave(c, f.members(c)...)
		f.channels[c].closed = im.Seq(len(f.convs[c]))
		return p
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	end := f.append(c, im.SystemUser)
	end.LastUncounted, end.Closed = end.LastSeq, end.LastSeq
	for _, u := range f.roster(c) {
		f.member(u, c).Leave = end.LastSeq
	}
	f.channels[c].closed = end.LastSeq
	return f.projectChannel(end, nil, []im.UncountedSeq{{Conversation: c, Seq: end.LastSeq}})
}

// recall is a change, after which a message counts no more.
func (f *fakeRecord) recall(c im.ConversationID, seq im.Seq) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.channels[c].change++
	return f.projectChannel(im.ChannelEnd{Conversation: c, LastChange: f.channels[c].change, LastUncounted: seq}, nil,
		[]im.UncountedSeq{{Conversation: c, Seq: seq}})
}

// cross makes a channel merged at read.
func (f *fakeRecord) cross(c im.ConversationID) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.channels[c].merged = true
	some := map[im.UserID]im.ConversationState{}
	for _, u := range f.roster(c) {
		some[u] = im.ConversationState{}
	}
	return f.projectChannel(f.end(c), some, nil)
}

// end is how far c has come; the caller holds mu.
func (f *fakeRecord) end(c im.ConversationID) im.ChannelEnd {
	ch, n := f.channels[c], len(f.convs[c])
	e := im.ChannelEnd{Conversation: c, LastSeq: im.Seq(n), LastChange: ch.change, Closed: ch.closed}
	if n > 0 {
		e.LastID = f.convs[c][n-1].id
	}
	for _, r := range f.uncounted[c] {
		if r.User == im.SystemUser {
			e.LastUncounted = max(e.LastUncounted, r.Seq)
		}
	}
	for _, m := range ch.mentions {
		if m.User == im.SystemUser {
			e.LastMention = max(e.LastMention, m.Seq)
		}
	}
	return e
}

func (f *fakeRecord) ChannelEnds(_ context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelEnd, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	f.endReads += len(convs)
	ends := map[im.ConversationID]im.ChannelEnd{}
	for _, c := range convs {
		if f.channels[c] != nil {
			ends[c] = f.end(c)
		}
	}
	return ends, nil
}
