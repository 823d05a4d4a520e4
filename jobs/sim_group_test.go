package jobs

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// simChannel is a channel as whoever writes the log sees it: each notice moves only
// whom logic would move.
type simChannel struct {
	in     map[im.UserID]bool
	left   []im.UserID
	open   bool // its first notice is in the log
	closed bool
	sent   int
}

// simUsers may be in channels.
const simUsers = 9

func (s *simulation) prepareChannels() {
	c := s.w.chance
	s.cfg.MergeAbove = []int{0, -1, 4, 5}[c.intn(4)]
	s.rooms = make(map[im.ConversationID]*simChannel)
	for _, conv := range []im.ConversationID{"c5", "c6"} {
		first := []im.UserID{1, 2, 3, 4}[:2+c.intn(3)]
		s.w.openChannel(conv, first...)
		s.rooms[conv] = &simChannel{in: make(map[im.UserID]bool)}
		for n := range 1 + c.intn(2) {
			s.w.rooms[conv] = append(s.w.rooms[conv], im.NodeID(fmt.Sprint("n", n)))
		}
	}
}

// channelTask is the n-th record, of a channel.
func (s *simulation) channelTask(conv im.ConversationID, n int) im.Task {
	c, ch := s.w.chance, s.rooms[conv]
	members := slices.Sorted(maps.Keys(ch.in))
	op := func(task im.Task) im.Task {
		s.w.ops[task.Send.Membership.Op] = true
		ch.sent++
		return task
	}
	switch kind := c.intn(20); {
	case !ch.open:
		ch.open = true
		for _, u := range s.w.in[groupOf(conv)] {
			ch.in[u] = true
		}
		return op(created(conv, n))
	case kind < 2 && !ch.closed:
		var users []im.UserID
		for range 1 + c.intn(2) {
			if u := im.UserID(1 + c.intn(simUsers)); !ch.in[u] {
				ch.in[u] = true
				users = append(users, u)
			}
		}
		task := joins(conv, n, users...)
		task.Send.Membership.History = c.intn(3) == 0
		return op(task)
	case kind < 4 && len(members) > 0:
		u := members[c.intn(len(members))]
		delete(ch.in, u)
		ch.left = append(ch.left, u)
		return op(leaves(conv, n, u))
	case kind == 4:
		return op(notice(conv, n, im.NoticeUpdated, im.Membership{}))
	case kind == 5 && !ch.closed && c.intn(6) == 0:
		ch.closed = true
		ch.left = append(ch.left, members...)
		clear(ch.in)
		return op(closes(conv, n))
	case kind < 9 && len(members) > 0:
		return s.change(conv, n, im.Seq(ch.sent), members)
	case kind < 12 && len(members) > 0:
		u := members[c.intn(len(members))]
		if c.intn(8) == 0 && s.cfg.MergeAbove == 0 {
			u = 77 // nobody, which logic asks of a merged channel
		}
		return ack(conv, u, im.Seq(c.intn(ch.sent+1)), im.Seq(c.intn(ch.sent+1)))
	case len(members) == 0:
		members = ch.left // what was accepted before they left
	}
	from := members[c.intn(len(members))]
	if len(ch.left) > 0 && c.intn(8) == 0 {
		from = ch.left[c.intn(len(ch.left))]
	}
	task := text(conv, from, n)
	switch c.intn(8) {
	case 0:
		task.Send.About.Mentions = slices.Clone(members[:c.intn(len(members)+1)])
	case 1:
		task.Send.About.MentionsAll = true
	case 2:
		s.poison[task.Send.ClientMsgID] = c.intn(2) == 0
	}
	if !s.poison[task.Send.ClientMsgID] {
		ch.sent++
	}
	return task
}

func groupOf(conv im.ConversationID) im.GroupID {
	n, _ := conv.Channel()
	return im.GroupID(n)
}

// seen is what the log says of one user in one channel.
type seen struct {
	row     im.Member
	mention im.Seq
	read    im.Seq // at least
}

// channelModel applies a channel's stored messages one by one.
func (s *simulation) channelModel(conv im.ConversationID) (members map[im.UserID]*seen, version im.Seq, merged bool) {
	w := s.w
	members = make(map[im.UserID]*seen)
	done := make(map[im.SendKey]bool)
	seq := im.Seq(0)
	for _, r := range s.log.records {
		task, err := queue.DecodeTask(r.Value)
		if err != nil || task.Conversation != conv {
			continue
		}
		if rc := task.Receipt; rc != nil {
			if u := members[rc.User]; u != nil && u.row.In() {
				u.read = max(u.read, min(rc.Read, seq))
			}
		}
		if task.Send == nil {
			continue
		}
		key := im.SendKey{Conversation: conv, Sender: task.Send.Sender.ID, ClientMsgID: task.Send.ClientMsgID}
		if _, stored := w.keys[key]; !stored || done[key] {
			continue
		}
		done[key] = true
		seq++
		m := task.Send.Membership
		join, leave := []im.UserID(nil), []im.UserID(nil)
		if m != nil {
			join, leave = m.Join, m.Leave
			if m.JoinAll {
				join = w.in[m.Group]
			}
			if m.LeaveAll {
				leave = slices.Collect(maps.Keys(members))
			}
			if m.Moves() {
				version = seq
			}
		}
		for _, id := range join {
			u := members[id]
			if u == nil {
				u = &seen{row: im.Member{Join: 1}}
				members[id] = u
			}
			u.row.Joined, u.read = seq, seq
			if !m.History {
				u.row.Join = seq
			}
		}
		for id, u := range members {
			if u.row.In() && (slices.Contains(task.Send.About.Mentions, id) || task.Send.About.MentionsAll) && id != key.Sender {
				u.mention = seq
			}
			if id == key.Sender && task.Send.AdvanceRead {
				u.read = max(u.read, seq)
			}
		}
		for _, id := range leave {
			if u := members[id]; u.row.In() {
				u.row.Leave = seq
			}
		}
		in := 0
		for _, u := range members {
			if u.row.In() {
				in++
			}
		}
		above := s.cfg.MergeAbove
		if above == 0 {
			above = 500
		}
		merged = merged || len(join) > 0 && in > above
	}
	return members, version, merged
}

// checkChannel holds the tables and Redis against the log.
func (s *simulation) checkChannel(t *testing.T, conv im.ConversationID) {
	w := s.w
	members, version, merged := s.channelModel(conv)
	if ch := w.channels[conv]; ch.version != version || ch.merged != merged {
		t.Errorf("%s: %+v, want version %d, merged %v", conv, ch, version, merged)
	}
	rows := w.rowsOf(conv, func(im.Member) bool { return true })
	if len(rows) != len(members) {
		t.Errorf("%s: %d rows of members, want %d", conv, len(rows), len(members))
	}
	last := w.rows[conv][len(w.rows[conv])-1]
	changes := uint64(len(w.changes[conv]))
	end := w.ends[conv]
	if merged && w.doubts == 0 && (end.LastSeq != last.Seq || end.LastID != last.ID || end.Closed != w.channels[conv].closed) {
		t.Errorf("%s: end %+v, last %d", conv, end, last.Seq)
	}
	for _, row := range rows {
		want := members[row.User]
		if want == nil || row.Join != want.row.Join || row.Joined != want.row.Joined || row.Leave != want.row.Leave || row.Read < want.read {
			t.Errorf("%s: the row of %d is %+v, want %+v", conv, row.User, row, want)
			continue
		}
		if w.doubts > 0 {
			continue
		}
		st := w.states[memberKey{conv, row.User}]
		if merged {
			st = over(st, end)
		}
		top := last.Seq
		if !row.In() {
			top = row.Leave
		}
		// Of a merged channel that is closed, the end says so.
		if leave := st.Leave; leave != row.Leave || st.Join != row.Join || st.Joined != row.Joined || st.Top() != top ||
			st.Read != row.Read || st.Delivered != row.Delivered || row.In() && st.Merged != merged {
			t.Errorf("%s: projected to %d: %+v, MySQL has %+v, seen up to %d, merged %v", conv, row.User, st, row, top, merged)
		}
		if row.In() && !merged && st.LastID != last.ID || row.In() && want.mention > st.Base() && st.LastMention < want.mention || st.Mentioned() > want.mention || row.In() && st.LastChange != changes {
			t.Errorf("%s: projected to %d: %+v, mentioned at %d, %d changes", conv, row.User, st, want.mention, changes)
		}
	}
	for key, st := range w.states {
		if key.conv == conv && members[key.user] == nil {
			t.Errorf("%v: a stranger was raised to %+v", key, st)
		}
	}
}

// over lays a channel's end over a state, as readers do.
func over(st im.ConversationState, e im.ChannelEnd) im.ConversationState {
	if !st.Merged {
		return st // left before it was
	}
	if e.Closed > st.Joined && st.In() {
		st.Leave = e.Closed
	}
	st.LastSeq, st.LastID = max(st.LastSeq, e.LastSeq), max(st.LastID, e.LastID)
	st.LastChange, st.LastMention = max(st.LastChange, e.LastChange), max(st.LastMention, e.LastMention)
	return st
}
