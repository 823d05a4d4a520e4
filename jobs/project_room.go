package jobs

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// spillUsers is how many entries one projection has at most, about 0.1 s of Redis: a
// batch for some channels of 500 members raises tens of thousands.
const spillUsers = 2000

// rise is how far one batch takes one channel. Everyone in it is raised once, at the
// end, however many messages there are; who joins or leaves, where they do.
type rise struct {
	conv      im.ConversationID
	seq       im.Seq // the highest of the batch
	id        im.MessageID
	change    uint64
	uncounted im.Seq
	mention   im.Seq // the last of all; also of who says it, who has read it
	closed    im.Seq
	all       bool           // everyone has been raised as a member of a merged channel
	end       *im.ChannelEnd // as the table has it; read where somebody joins or leaves
}

// raise raises for one member what everyone is raised to, and returns the entry.
func (up *rise) raise(r *raiser, m im.RosterMember) *im.UserRaise {
	e := r.peek(m.User, up.conv)
	st := &e.State
	if up.seq >= m.First {
		st.LastSeq, st.LastID = max(st.LastSeq, up.seq), max(st.LastID, up.id)
	}
	if up.uncounted >= m.First {
		st.LastUncounted = max(st.LastUncounted, up.uncounted)
	}
	if up.mention >= m.First {
		st.LastMention = max(st.LastMention, up.mention)
	}
	st.LastChange = max(st.LastChange, up.change)
	return e
}

// peek is of for an entry that nobody will ask for again.
func (r *raiser) peek(u im.UserID, c im.ConversationID) *im.UserRaise {
	i, ok := r.at[memberKey{c, u}]
	if !ok {
		i = len(r.p.Users)
		r.p.Users = append(r.p.Users, im.UserRaise{User: u, State: im.ConversationState{Conversation: c}})
	}
	return &r.p.Users[i]
}

// rises are those of a batch, in the order in which their channels are met.
type rises struct {
	list []*rise
	at   map[im.ConversationID]*rise
}

func (rs *rises) of(c im.ConversationID) *rise {
	up := rs.at[c]
	if up == nil {
		up = &rise{conv: c}
		if rs.at == nil {
			rs.at = make(map[im.ConversationID]*rise)
		}
		rs.at[c] = up
		rs.list = append(rs.list, up)
	}
	return up
}

// raiseRoom raises what a message means to its channel, and to whom it names.
func (s *scribe) raiseRoom(ctx context.Context, r *raiser, up *rise, d *send) error {
	seq, sender := d.ref.Seq, d.key.Sender
	if seq > up.seq {
		up.seq, up.id = seq, d.ref.ID
	}
	r.uncounted(d)
	switch d.task.Uncounted {
	case im.UncountedForAll:
		up.uncounted = max(up.uncounted, seq)
	case im.UncountedForSender:
		if e := r.of(sender, d.conv); e != nil && d.room.now.sees(sender, seq) {
			e.State.LastUncounted = max(e.State.LastUncounted, seq)
		}
	}
	if d.task.About.MentionsAll {
		up.mention = max(up.mention, seq)
	}
	for _, u := range d.task.About.Mentions {
		if u == sender || !d.room.now.sees(u, seq) {
			continue
		}
		if e := r.of(u, d.conv); e != nil {
			e.State.LastMention = max(e.State.LastMention, seq)
			e.State.Merged = e.State.Merged || d.room.now.merged
		}
	}
	if d.task.Membership.Moves() {
		return s.raiseNotice(ctx, r, up, d)
	}
	return nil
}

// raiseRooms raises everyone in a channel that is written, or the end of one that is
// merged at read.
func (s *scribe) raiseRooms(ctx context.Context, r *raiser, rs *rises) error {
	for _, up := range rs.list {
		now := s.rosterOf(up.conv)
		if now.merged {
			r.p.Ends = append(r.p.Ends, im.ChannelEnd{
				Conversation: up.conv, LastSeq: up.seq, LastID: up.id, LastChange: up.change,
				LastUncounted: up.uncounted, LastMention: up.mention, Closed: up.closed,
			})
			continue
		}
		r.p.Users = slices.Grow(r.p.Users, min(len(now.members), spillUsers))
		for i, m := range now.members {
			up.raise(r, m)
			if i%spillUsers == spillUsers-1 {
				if err := s.spill(ctx, r); err != nil {
					return err
				}
			}
		}
		if err := s.spill(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// spill projects what is gathered where it is much. All of it is a max, so a batch may
// come in parts.
func (s *scribe) spill(ctx context.Context, r *raiser) error {
	if len(r.p.Users) < spillUsers {
		return nil
	}
	err := s.r.project(ctx, r.p)
	r.reset()
	return err
}
