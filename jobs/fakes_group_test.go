package jobs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// fakeChannel is a channel's row.
type fakeChannel struct {
	version im.Seq
	merged  bool
	closed  im.Seq
}

// fakeGroups is what the world knows of groups.
type fakeGroups struct {
	channels map[im.ConversationID]*fakeChannel
	members  map[memberKey]im.Member
	in       map[im.GroupID][]im.UserID // who JoinAll lets in
	ops      map[im.OpID]bool           // told to the log and not stored
	ends     map[im.ConversationID]im.ChannelEnd
	rooms    map[im.ConversationID][]im.NodeID
	raised   map[memberKey]int // entries projected
}

func newFakeGroups() fakeGroups {
	return fakeGroups{
		channels: make(map[im.ConversationID]*fakeChannel), members: make(map[memberKey]im.Member), in: make(map[im.GroupID][]im.UserID),
		ops: make(map[im.OpID]bool), ends: make(map[im.ConversationID]im.ChannelEnd), rooms: make(map[im.ConversationID][]im.NodeID),
		raised: make(map[memberKey]int),
	}
}

// enroll writes what a notice changes, as the table does.
func (w *world) enroll(m im.Message) {
	ch, ms := w.channels[m.Conversation], m.Membership
	if !ms.Moves() {
		delete(w.ops, ms.Op)
		return
	}
	join := ms.Join
	if ms.JoinAll {
		join = w.in[ms.Group]
	}
	for _, u := range join {
		key := memberKey{m.Conversation, u}
		row, there := w.members[key]
		if there && row.In() {
			continue
		}
		if !there {
			row = im.Member{Conversation: m.Conversation, User: u, Join: 1}
		}
		if !ms.History {
			row.Join = m.Seq
		}
		row.Joined, row.Read, row.Delivered = m.Seq, max(row.Read, m.Seq), max(row.Delivered, m.Seq)
		w.members[key] = row
	}
	for key, row := range w.members {
		if key.conv == m.Conversation && row.In() && (ms.LeaveAll || slices.Contains(ms.Leave, key.user)) {
			row.Leave = m.Seq
			w.members[key] = row
		}
	}
	ch.version = m.Seq
	ch.merged = ch.merged || ms.Merge
	if ms.LeaveAll {
		ch.closed = m.Seq
	}
	delete(w.ops, ms.Op)
}

// rowsOf are the rows of a channel's members, by user.
func (w *world) rowsOf(c im.ConversationID, pick func(im.Member) bool) []im.Member {
	var rows []im.Member
	for key, row := range w.members {
		if key.conv == c && pick(row) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b im.Member) int { return int(a.User) - int(b.User) })
	return rows
}

func (w *world) Rosters(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.Roster, error) {
	if err := w.enter("rosters"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make(map[im.ConversationID]im.Roster)
	for _, c := range convs {
		ch := w.channels[c]
		if ch == nil {
			continue
		}
		r := im.Roster{Version: ch.version, Merged: ch.merged}
		if !ch.merged {
			for _, m := range w.rowsOf(c, im.Member.In) {
				r.Members = append(r.Members, im.RosterMember{User: m.User, First: m.Join})
			}
		}
		found[c] = r
	}
	return found, nil
}

func (w *world) RosterPage(ctx context.Context, c im.ConversationID, after im.UserID, limit int) ([]im.RosterMember, error) {
	if err := w.enter("roster_page"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var page []im.RosterMember
	for _, m := range w.rowsOf(c, func(m im.Member) bool { return m.In() && m.User > after }) {
		if len(page) < limit {
			page = append(page, im.RosterMember{User: m.User, First: m.Join})
		}
	}
	return page, nil
}

func (w *world) Moved(ctx context.Context, c im.ConversationID, seq im.Seq, users []im.UserID, after im.UserID, limit int) ([]im.Member, error) {
	if err := w.enter("moved"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := w.rowsOf(c, func(m im.Member) bool {
		return m.User > after && (m.Joined == seq || m.Leave == seq) && (users == nil || slices.Contains(users, m.User))
	})
	return rows[:min(len(rows), limit)], nil
}

func (w *world) ChannelEnds(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelEnd, error) {
	if err := w.enter("channel_ends"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make(map[im.ConversationID]im.ChannelEnd)
	for _, c := range convs {
		e := im.ChannelEnd{Conversation: c, LastChange: uint64(len(w.changes[c])), Closed: w.channels[c].closed}
		for _, m := range w.rows[c] {
			e.LastSeq, e.LastID = m.Seq, m.ID
			if m.MentionsAll {
				e.LastMention = m.Seq
			}
			if w.uncounted[im.UncountedSeq{Conversation: c, Seq: m.Seq}] {
				e.LastUncounted = m.Seq
			}
		}
		found[c] = e
	}
	return found, nil
}

func (w *world) Member(ctx context.Context, c im.ConversationID, u im.UserID) (im.Member, error) {
	if err := w.enter("member"); err != nil {
		return im.Member{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	row, there := w.members[memberKey{c, u}]
	if !there {
		return row, fmt.Errorf("member: %w", im.ErrNotFound)
	}
	return row, nil
}

func (w *world) GroupSize(ctx context.Context, g im.GroupID) (int, error) {
	if err := w.enter("group_size"); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.in[g]), nil
}

func (w *world) Authors(ctx context.Context, c im.ConversationID, first, last im.Seq) ([]im.UserID, error) {
	if err := w.enter("authors"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var users []im.UserID
	for _, m := range w.rows[c] {
		if m.Seq >= first && m.Seq <= last {
			users = append(users, m.Sender.ID)
		}
	}
	return users, nil
}

func (w *world) RoomNodes(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID][]im.NodeID, error) {
	if w.chance.hits(w.faults) {
		return nil, im.ErrCache
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls["rooms"]++
	return maps.Clone(w.rooms), nil
}

// raiseGroups is the part of Project that is about channels.
func (w *world) raiseGroups(p im.Projection) {
	for _, u := range p.Users {
		key := memberKey{u.State.Conversation, u.User}
		if !isChannel(key.conv) {
			continue
		}
		w.raised[key]++
		if row := w.members[key]; !row.In() && u.State.LastSeq > row.Leave {
			w.wrongf("%v is raised to %d and left at %d", key, u.State.LastSeq, row.Leave)
		}
		s := w.states[key]
		s.Join, s.Joined, s.Leave = max(s.Join, u.State.Join), max(s.Joined, u.State.Joined), max(s.Leave, u.State.Leave)
		s.Merged = s.Merged || u.State.Merged
		w.states[key] = s
		if len(u.Offline) > 0 || u.ClearOffline > 0 || u.State.PeerRead > 0 || u.State.PeerDelivered > 0 {
			w.wrongf("%v: %+v is for one-to-one alone", key, u)
		}
	}
	for _, e := range p.Ends {
		s := w.ends[e.Conversation]
		s.LastSeq, s.LastID, s.LastChange = max(s.LastSeq, e.LastSeq), max(s.LastID, e.LastID), max(s.LastChange, e.LastChange)
		s.LastUncounted, s.LastMention = max(s.LastUncounted, e.LastUncounted), max(s.LastMention, e.LastMention)
		s.Closed = max(s.Closed, e.Closed)
		w.ends[e.Conversation] = s
		if ch := w.channels[e.Conversation]; ch == nil || !ch.merged {
			w.wrongf("an end of %s, which is not merged", e.Conversation)
		}
	}
}

// openChannel makes a channel of a group, whose members its first notice lets in.
func (w *world) openChannel(c im.ConversationID, members ...im.UserID) {
	w.channels[c] = &fakeChannel{}
	n, _ := c.Channel()
	w.in[im.GroupID(n)] = members
}

// notice is the task of a notice; n numbers its operation.
func notice(c im.ConversationID, n int, kind im.NoticeKind, m im.Membership) im.Task {
	group, _ := c.Channel()
	m.Op, m.Group = im.OpID(n), im.GroupID(group)
	content := []byte(fmt.Sprintf(`{"kind":%q,"group_id":"%d"}`, kind, group))
	return im.Task{Conversation: c, Send: &im.SendTask{
		Sender: im.Sender{ID: im.SystemUser, Handle: "system"}, ClientMsgID: m.Op.ClientMsgID(), Type: im.TypeNotice,
		Content: content, Hash: im.HashContent(im.TypeNotice, content), Uncounted: im.UncountedForAll, Membership: &m,
	}}
}

func created(c im.ConversationID, n int) im.Task {
	return notice(c, n, im.NoticeCreated, im.Membership{JoinAll: true})
}

func joins(c im.ConversationID, n int, users ...im.UserID) im.Task {
	return notice(c, n, im.NoticeJoined, im.Membership{Join: users})
}

func leaves(c im.ConversationID, n int, users ...im.UserID) im.Task {
	return notice(c, n, im.NoticeLeft, im.Membership{Leave: users})
}

func closes(c im.ConversationID, n int) im.Task {
	return notice(c, n, im.NoticeDissolved, im.Membership{LeaveAll: true})
}

// toRoom are the deliveries of one kind to the room of c.
func (w *world) toRoom(c im.ConversationID, kind protocol.Push) []protocol.Delivery {
	return slices.DeleteFunc(w.frames(kind), func(d protocol.Delivery) bool { return d.Room != c })
}

func processWith(t *testing.T, cfg Config, w *world, tasks ...im.Task) *logbook {
	t.Helper()
	l := newLogbook(w, 0)
	l.append(tasks...)
	untilDone(t, newTestRunner(t, cfg, w, nil), l)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range w.wrong {
		t.Error(what)
	}
	return l
}
