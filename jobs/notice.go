package jobs

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// movedPage is how many members are read at once where a notice lets many in or out.
const movedPage = 1000

// effect is what a notice did to members, gathered for the push; what another has
// undone since is left out.
type effect struct {
	joined []im.RosterMember
	left   []im.UserID
}

// raiseNotice raises what a notice did to whom it lets in and out. Where the strand has
// just worked that out it knows; what was stored before, or what only the table can say,
// it reads.
func (s *scribe) raiseNotice(ctx context.Context, r *raiser, up *rise, d *send) error {
	m := d.task.Membership
	if err := s.learnEnd(ctx, up, d); err != nil {
		return err
	}
	crossed := d.room.was != nil && !d.room.was.merged && d.room.now.merged
	if crossed {
		if err := s.raiseCrossing(ctx, r, up, d.room.was.members); err != nil {
			return err
		}
	}
	switch {
	case m.LeaveAll && d.room.now.merged:
		up.closed = max(up.closed, d.ref.Seq)
		if d.room.was != nil && !up.all {
			return nil
		}
		// Stored before, or right behind what may have merged the channel and was: nobody
		// was in any more to be told of that, so each is told that they have left.
	case d.room.was == nil && d.room.now.merged && (m.JoinAll || len(m.Join) > 0) && !up.all:
		// It may have been the one that merged the channel.
		up.all = true
		if err := s.raiseMerged(ctx, r, up, d); err != nil {
			return err
		}
	case d.room.was != nil && !d.room.was.merged && !opaque(m, d.room.was):
		return s.raiseKnown(ctx, r, up, d)
	}
	users := slices.Concat(m.Join, m.Leave)
	if m.JoinAll || m.LeaveAll {
		users = nil
	}
	return s.pages(ctx, func(ctx context.Context, after im.UserID) (im.UserID, int, error) {
		page, err := untilStore(ctx, s.r, "moved", func(ctx context.Context) ([]im.Member, error) {
			return s.r.deps.Archive.Moved(ctx, d.conv, d.ref.Seq, users, after, movedPage)
		})
		for i := range page {
			after = page[i].User
			r.moved(up, d, &page[i])
		}
		if err == nil {
			err = s.spill(ctx, r)
		}
		return after, len(page), err
	})
}

// learnEnd reads how far the channel's changes and mentions of all have come, once a
// batch: who joins begins there, and who leaves a merged channel keeps it.
func (s *scribe) learnEnd(ctx context.Context, up *rise, d *send) error {
	if up.end != nil || d.ref.Seq == 1 {
		return nil
	}
	found, err := untilStore(ctx, s.r, "channel_ends", func(ctx context.Context) (map[im.ConversationID]im.ChannelEnd, error) {
		return s.r.deps.Archive.ChannelEnds(ctx, []im.ConversationID{d.conv})
	})
	end := found[d.conv]
	up.end = &end
	return err
}

// raiseKnown is for what the strand has worked out itself.
func (s *scribe) raiseKnown(ctx context.Context, r *raiser, up *rise, d *send) error {
	m, seq := d.task.Membership, d.ref.Seq
	for _, old := range d.room.was.members {
		if m.LeaveAll || slices.Contains(m.Leave, old.User) {
			r.moved(up, d, &im.Member{User: old.User, Leave: seq})
		}
	}
	for _, u := range m.Join {
		if _, in := d.room.was.first(u); !in {
			r.moved(up, d, &im.Member{User: u, Join: seq, Joined: seq, Delivered: seq, Read: seq})
		}
	}
	return s.spill(ctx, r)
}

// raiseCrossing raises the last of what is written of a channel for each of its members,
// and that it is merged from here on.
func (s *scribe) raiseCrossing(ctx context.Context, r *raiser, up *rise, members []im.RosterMember) error {
	for _, m := range members {
		up.raise(r, m).State.Merged = true
	}
	return s.spill(ctx, r)
}

// raiseMerged raises for all members that the channel is merged.
func (s *scribe) raiseMerged(ctx context.Context, r *raiser, up *rise, d *send) error {
	return s.pages(ctx, func(ctx context.Context, after im.UserID) (im.UserID, int, error) {
		page, err := untilStore(ctx, s.r, "roster_page", func(ctx context.Context) ([]im.RosterMember, error) {
			return s.r.deps.Archive.RosterPage(ctx, d.conv, after, movedPage)
		})
		for _, m := range page {
			after = m.User
			up.raise(r, m).State.Merged = true
		}
		if err == nil {
			err = s.spill(ctx, r)
		}
		return after, len(page), err
	})
}

// pages calls read with where the last page ended, until one is not full.
func (s *scribe) pages(ctx context.Context, read func(ctx context.Context, after im.UserID) (last im.UserID, n int, err error)) error {
	for after := im.UserID(0); ; {
		last, n, err := read(ctx, after)
		if err != nil || n < movedPage {
			return err
		}
		after = last
	}
}

// moved raises what the notice d did to one member, whose row is m.
func (r *raiser) moved(up *rise, d *send, m *im.Member) {
	seq := d.ref.Seq
	var e *im.UserRaise
	switch seq {
	case m.Joined:
		if e = r.of(m.User, d.conv); e == nil {
			return
		}
		e.State.Join, e.State.Joined = max(e.State.Join, m.Join), max(e.State.Joined, m.Joined)
		e.State.Delivered, e.State.Read = max(e.State.Delivered, m.Delivered), max(e.State.Read, m.Read)
		if m.In() {
			d.room.effect.joined = append(d.room.effect.joined, im.RosterMember{User: m.User, First: max(m.Join, 1)})
		}
	case m.Leave:
		if e = r.of(m.User, d.conv); e == nil {
			return
		}
		e.State.Leave = max(e.State.Leave, m.Leave)
		e.State.LastMention = max(e.State.LastMention, up.mention)
		if d.room.now.merged && up.end != nil && up.end.LastMention < seq {
			e.State.LastMention = max(e.State.LastMention, up.end.LastMention)
		}
		if !m.In() {
			d.room.effect.left = append(d.room.effect.left, m.User)
		}
	default:
		return
	}
	e.State.LastSeq, e.State.LastID = max(e.State.LastSeq, seq), max(e.State.LastID, d.ref.ID)
	e.State.LastUncounted = max(e.State.LastUncounted, seq)
	e.State.Merged = e.State.Merged || d.room.now.merged
	if up.end != nil {
		e.State.LastChange = max(e.State.LastChange, up.end.LastChange)
	}
}
