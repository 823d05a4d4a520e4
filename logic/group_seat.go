package logic

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// cutsKept bounds the groups that were changed through this process and whose copies
// from before are not used: those of the last minute, at a hundred changes a second.
const cutsKept = 10_000

// noPart is how much sooner a copy that says no is read anew: who was let in, and told
// so by another process, is not to be refused.
const noPart = 8

// seatKey names a copy of a seat.
type seatKey struct {
	user im.UserID
	conv im.ConversationID
}

// seatCopy is what MySQL said about a user in a channel, no later than at.
type seatCopy struct {
	im.Seat
	at time.Time
}

// cut drops what is known about a group's members, since it was changed here, and about
// those who were in no group, which may have been this one.
func (m *membership) cut(g im.GroupID) {
	now := m.now()
	m.cuts.Add(g, now)
	m.cuts.Add(0, now)
}

// holds says that no change of the group came through this process since the copy.
func (m *membership) holds(c seatCopy) bool {
	at, changed := m.cuts.Get(c.Group)
	return !changed || !c.at.Before(at)
}

// Seat is what u may do in a channel; im.ErrNotFound where they are not in it. It is a
// copy as old as [L4] says.
func (m *membership) Seat(ctx context.Context, u im.UserID, c im.ConversationID) (im.Seat, error) {
	k := seatKey{u, c}
	known, found := m.seats.Get(k)
	found = found && m.holds(known)
	age := m.now().Sub(known.at)
	if found && (age < m.ttl && known.In || age < m.ttl/noPart) {
		return known.seated()
	}
	var err error = im.ErrStore
	if m.breaker.allow() {
		var fresh seatCopy
		fresh, err = m.askSeat(ctx, k)
		if err == nil && !m.holds(fresh) { // somebody else asked before the change
			fresh, err = m.askSeat(ctx, k)
		}
		switch {
		case err == nil:
			return fresh.seated()
		case !away(err):
			return im.Seat{}, err
		}
	}
	// Only a yes outlives its time: who was not in it may have joined since.
	if found && known.In && age < m.stale {
		m.metrics.stale.Inc()
		return known.Seat, nil
	}
	return im.Seat{}, storeError(err)
}

func (c seatCopy) seated() (im.Seat, error) {
	if !c.In {
		return im.Seat{}, im.ErrNotFound
	}
	return c.Seat, nil
}

// askSeat reads one seat from MySQL, once for all who ask at the same time. Who was
// never in the channel has an empty one.
func (m *membership) askSeat(ctx context.Context, k seatKey) (seatCopy, error) {
	answer := m.flight.DoChan(k.user.String()+"@"+string(k.conv), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.timeout)
		defer cancel()
		c := seatCopy{at: m.now()}
		var err error
		c.Seat, err = m.groups.Seat(ctx, k.user, k.conv)
		m.breaker.done(err == nil || !away(err))
		if err != nil && !isNotFound(err) {
			return c, err
		}
		m.seats.Add(k, c)
		return c, nil
	})
	select {
	case r := <-answer:
		if r.Err != nil {
			return seatCopy{}, fmt.Errorf("look up seat: %w", r.Err)
		}
		return r.Val.(seatCopy), nil
	case <-ctx.Done():
		return seatCopy{}, fmt.Errorf("look up seat: %w", ctx.Err())
	}
}

// maySpeak says whether u may send to a channel: im.ErrMuted beside what Seat returns.
// The system may send to any that there is.
func (m *membership) maySpeak(ctx context.Context, u im.UserID, c im.ConversationID) error {
	if u == im.SystemUser {
		return m.exists(ctx, c)
	}
	seat, err := m.Seat(ctx, u, c)
	switch {
	case err != nil:
		return err
	case seat.MutedUntil > m.now().UnixMilli(), seat.MutedAll && !seat.Role.Manages():
		return im.ErrMuted
	}
	return nil
}

// manages says whether u, or the system, may do in a channel what admins may.
func (m *membership) manages(ctx context.Context, u im.UserID, c im.ConversationID) (bool, error) {
	if u == im.SystemUser {
		return true, nil
	}
	seat, err := m.Seat(ctx, u, c)
	return err == nil && seat.Role.Manages(), err
}

// systemIn returns im.ErrNotFound where the system has no part in a conversation: it has
// one-to-one ones of its own, and any channel.
func (m *membership) systemIn(ctx context.Context, c im.ConversationID) error {
	if _, channel := c.Channel(); channel {
		return m.exists(ctx, c)
	}
	if _, ok := c.Peer(im.SystemUser); !ok {
		return im.ErrNotFound
	}
	return nil
}

// exists returns im.ErrNotFound where there is no such channel, or no more.
func (m *membership) exists(ctx context.Context, c im.ConversationID) error {
	info, err := m.Channels(ctx, []im.ConversationID{c})
	if err != nil {
		return err
	}
	if there, ok := info[c]; !ok || there.Removed {
		return im.ErrNotFound
	}
	return nil
}

// channelCopy is how a channel is shown, as read at a time.
type channelCopy struct {
	im.ChannelInfo
	at time.Time
}

// Channels names channels, from copies as old as [L4] says; unknown ones are left out.
// With an error what is known, however old, is in the answer.
func (m *membership) Channels(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelInfo, error) {
	out := make(map[im.ConversationID]im.ChannelInfo, len(convs))
	var ask []im.ConversationID
	now := m.now()
	for _, c := range convs {
		known, found := m.channels.Get(c)
		if found {
			out[c] = known.ChannelInfo
		}
		if cut, changed := m.cuts.Get(known.Group); !found || now.Sub(known.at) >= m.ttl || changed && known.at.Before(cut) {
			ask = append(ask, c)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	if !m.breaker.allow() {
		return out, im.ErrStore
	}
	fresh, err := m.groups.ChannelInfos(ctx, ask)
	m.breaker.done(err == nil || !away(err))
	if err != nil {
		return out, fmt.Errorf("look up channels: %w", storeError(err))
	}
	for _, c := range ask {
		delete(out, c)
	}
	for c, info := range fresh {
		m.channels.Add(c, channelCopy{info, now})
		out[c] = info
	}
	return out, nil
}
