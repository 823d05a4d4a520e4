package jobs

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// roster is who is in a channel at one point of its conversation. It is never written
// to: a notice makes another.
type roster struct {
	version im.Seq // of the last notice that changed it
	merged  bool   // merged at read: nobody's list is written, and members is empty
	members []im.RosterMember
	// out are the last to leave a merged channel, whose sends may still be under way, and
	// closed says that everyone has; neither outlives the assignment.
	out    []im.UserID
	closed bool
}

// maxOut bounds out: sends are refused 2 s after a removal.
const maxOut = 64

func byUser(m im.RosterMember, u im.UserID) int { return cmp.Compare(m.User, u) }

// first is where u begins to see; false: not a member.
func (r *roster) first(u im.UserID) (im.Seq, bool) {
	i, ok := slices.BinarySearchFunc(r.members, u, byUser)
	if !ok {
		return 0, false
	}
	return r.members[i].First, true
}

// sees says whether u is to be told of the message at seq. Of a merged channel logic has
// asked, and only who has left since is known.
func (r *roster) sees(u im.UserID, seq im.Seq) bool {
	if r.merged {
		return !r.closed && !slices.Contains(r.out, u)
	}
	first, in := r.first(u)
	return in && first <= seq
}

// after is the roster once the notice at seq stands. Whom JoinAll lets in only the table
// can say.
func (r *roster) after(m *im.Membership, seq im.Seq) *roster {
	if !m.Moves() {
		return r
	}
	if r.merged {
		return r.afterMerged(m, seq)
	}
	next := &roster{version: seq}
	if m.LeaveAll {
		return next
	}
	next.members = make([]im.RosterMember, 0, len(r.members)+len(m.Join))
	for _, old := range r.members {
		if !slices.Contains(m.Leave, old.User) {
			next.members = append(next.members, old)
		}
	}
	for _, u := range m.Join {
		if _, in := next.first(u); !in {
			first := seq
			if m.History {
				first = 1 // but for who was in before: see channel.stale
			}
			i, _ := slices.BinarySearchFunc(next.members, u, byUser)
			next.members = slices.Insert(next.members, i, im.RosterMember{User: u, First: first})
		}
	}
	return next
}

// afterMerged is after for a merged channel.
func (r *roster) afterMerged(m *im.Membership, seq im.Seq) *roster {
	next := &roster{version: seq, merged: true, closed: r.closed || m.LeaveAll}
	for _, u := range slices.Concat(r.out, m.Leave) {
		if !slices.Contains(m.Join, u) && !m.JoinAll {
			next.out = append(next.out, u)
		}
	}
	next.out = next.out[max(0, len(next.out)-maxOut):]
	return next
}

// channel is what a strand remembers of a channel beside its end.
type channel struct {
	roster *roster
	// stale says that only the table knows the roster exactly: it is read again before the
	// next use.
	stale   bool
	authors authors
}

// cost is the size of a channel in members of 16 bytes.
func (c *channel) cost() int {
	return 1 + len(c.roster.members) + (len(c.roster.out)+len(c.authors.users))/2
}

// absentError says that there are no such channels.
type absentError struct{ convs map[im.ConversationID]bool }

func (e *absentError) Error() string {
	return fmt.Sprintf("%d channels that do not exist", len(e.convs))
}

// rosterOf is who is in a channel now; learnRosters has made it known.
func (s *scribe) rosterOf(c im.ConversationID) *roster {
	ch, ok := s.channels.Get(c)
	if !ok {
		panic("a channel whose roster was not learned")
	}
	return ch.roster
}

// keep remembers a channel's roster.
func (s *scribe) keep(c im.ConversationID, r *roster, stale bool) *channel {
	ch, ok := s.channels.Get(c)
	if ok {
		s.held -= ch.cost()
	} else {
		ch = &channel{}
		s.channels.Add(c, ch)
	}
	ch.roster, ch.stale = r, stale
	s.held += ch.cost()
	return ch
}

// trim forgets the channels used longest ago where they are too large together. It runs
// between batches: what one needs must outlive it.
func (s *scribe) trim() {
	for s.held > s.maxHeld && s.channels.Len() > 0 {
		s.channels.RemoveOldest()
	}
}

// rostersPerRead bounds one read of rosters: 100 of 500 members are 50,000 rows.
const rostersPerRead = 100

// learnRosters makes the strand know who is in the channels. It comes after their ends
// were read: a roster may be newer than the end, and then the insert meets a row, but
// never older. What does not exist is an absentError.
func (s *scribe) learnRosters(ctx context.Context, convs []im.ConversationID) error {
	absent := make(map[im.ConversationID]bool)
	for part := range slices.Chunk(convs, rostersPerRead) {
		found, err := untilStore(ctx, s.r, "rosters", func(ctx context.Context) (map[im.ConversationID]im.Roster, error) {
			return s.r.deps.Archive.Rosters(ctx, part)
		})
		if err != nil {
			return err
		}
		for _, c := range part {
			r, ok := found[c]
			if !ok {
				absent[c] = true
				continue
			}
			s.keep(c, &roster{version: r.Version, merged: r.Merged, members: r.Members}, false)
		}
	}
	if len(absent) > 0 {
		return &absentError{absent}
	}
	return nil
}

// enter gives a send to a channel its rosters before and from its place on, and says
// what the table is to write with it. size is how many members the group of a JoinAll
// has.
func (s *scribe) enter(d *send, r *roster, seq im.Seq, size int) *im.Membership {
	d.room.was, d.room.now = r, r
	if d.task.Membership == nil {
		return nil
	}
	m := *d.task.Membership
	d.room.now = r.after(&m, seq)
	if m.JoinAll {
		m.Merge = !r.merged && s.r.cfg.merges(max(size, len(d.room.now.members)))
	} else {
		m.Merge = !r.merged && len(m.Join) > 0 && s.r.cfg.merges(len(d.room.now.members))
	}
	if m.Merge {
		d.room.now = (&roster{merged: true}).afterMerged(&m, seq)
	}
	return &m
}

// opaque says that the roster after m is not what after says, but for who joins it.
func opaque(m *im.Membership, r *roster) bool {
	return m != nil && !r.merged && (m.JoinAll || m.History && len(m.Join) > 0)
}

// cutAtJoinAll ends what is inserted at once with the first notice by which everyone
// joins: who is meant by what follows must be read first.
func cutAtJoinAll(todo []*send) (now, rest []*send, all *im.Membership) {
	for i, d := range todo {
		if m := d.task.Membership; m != nil && m.JoinAll {
			return todo[:i+1], todo[i+1:], m
		}
	}
	return todo, nil, nil
}

// groupSize is how many members a group has, where the answer may merge a channel.
func (s *scribe) groupSize(ctx context.Context, m *im.Membership) (int, error) {
	if m == nil || s.r.cfg.MergeAbove < 0 {
		return 0, nil
	}
	return untilStore(ctx, s.r, "group_size", func(ctx context.Context) (int, error) {
		return s.r.deps.Archive.GroupSize(ctx, m.Group)
	})
}
