package storage

import (
	"context"
	"database/sql"

	"github.com/curlew-im/curlew/logic/im"
)

// channelSeat is one user's row in channel_members: who is in a private channel.
type channelSeat struct {
	in    bool
	moved uint64 // the group's version by which they last joined or left
}

func (t *groupTx) channelSeats(ctx context.Context, c im.ConversationID, users ...im.UserID) (map[im.UserID]channelSeat, error) {
	seats := make(map[im.UserID]channelSeat, len(users))
	number, _ := c.Channel()
	err := queryEach(ctx, t.tx, func(rows *sql.Rows) error {
		var u im.UserID
		var state int
		var s channelSeat
		err := rows.Scan(&u, &state, &s.moved)
		s.in = state == memberIn
		seats[u] = s
		return err
	}, "SELECT user_id, state, moved FROM channel_members WHERE channel = ? AND user_id IN "+in(len(users)), append([]any{number}, anyOf(users)...)...)
	return seats, err
}

// setChannelMembers writes users' rows in private channels.
func (t *groupTx) setChannelMembers(ctx context.Context, channels []im.ConversationID, state int, users ...im.UserID) error {
	return insertAll(ctx, t.tx, "INSERT INTO channel_members (user_id, channel, group_id, state, moved) VALUES ", 5, len(users)*len(channels), t.db.d.moveInChannel,
		func(args []any, i int) []any {
			number, _ := channels[i%len(channels)].Channel()
			return append(args, users[i/len(channels)], number, t.ID, state, t.next())
		})
}

// privateChannels are those of the group that a user is in: im.ErrPending where one of
// them has not stored yet that they joined.
func (t *groupTx) privateChannels(ctx context.Context, u im.UserID) ([]im.ConversationID, error) {
	var moved []uint64
	channels, err := queryAll(ctx, t.tx, func(rows *sql.Rows) (c im.ConversationID, err error) {
		var n, version uint64
		err = rows.Scan(&n, &version)
		moved = append(moved, version)
		return im.ChannelConversation(n), err
	}, "SELECT channel, moved FROM channel_members WHERE user_id = ? AND group_id = ? AND state = ? ORDER BY channel", u, t.ID, memberIn)
	if err != nil || len(channels) == 0 {
		return nil, err
	}
	return channels, t.channelsSettled(ctx, channels, moved)
}

// channelsSettled returns im.ErrPending where a channel has not stored what a version of
// the group told it, for any of the pairs.
func (t *groupTx) channelsSettled(ctx context.Context, channels []im.ConversationID, moved []uint64) error {
	args := make([]any, 0, 2*len(channels))
	for i, c := range channels {
		args = append(args, c, moved[i])
	}
	return t.noOps(ctx, repeat("", "(conversation = ? AND version = ?)", " OR ", len(channels), ""), args...)
}

// AddToChannel brings members of the group into a private channel: admins may.
// im.ErrConflict of a public one, where everyone is. Who is in it is passed over.
func (db *DB) AddToChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, users []im.UserID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "add_to_channel", actor, g, func(ctx context.Context, t *groupTx) error {
		ch, err := t.channel(ctx, c)
		switch {
		case err != nil:
			return err
		case !t.me.role.Manages():
			return im.ErrForbidden
		case !ch.Private:
			return im.ErrConflict
		}
		if err := t.allIn(ctx, users); err != nil {
			return err
		}
		seats, err := t.channelSeats(ctx, c, users...)
		if err != nil {
			return err
		}
		users := t.newcomers(users, func(u im.UserID) (bool, uint64) { return seats[u].in, seats[u].moved })
		if len(users) == 0 {
			return nil
		}
		if err := t.seatsSettled(ctx, c, users, seats); err != nil {
			return err
		}
		if err := t.setChannelMembers(ctx, []im.ConversationID{c}, memberIn, users...); err != nil {
			return err
		}
		notice, err := t.notice(ctx, im.NoticeJoined, actor, users...)
		t.tell(c, notice, im.Membership{Join: users, History: t.HistoryVisible})
		return err
	})
}

// seatsSettled is channelsSettled for those of users who have a row.
func (t *groupTx) seatsSettled(ctx context.Context, c im.ConversationID, users []im.UserID, seats map[im.UserID]channelSeat) error {
	var channels []im.ConversationID
	var moved []uint64
	for _, u := range users {
		if s, ok := seats[u]; ok {
			channels, moved = append(channels, c), append(moved, s.moved)
		}
	}
	if len(channels) == 0 {
		return nil
	}
	return t.channelsSettled(ctx, channels, moved)
}

// RemoveFromChannel takes a member out of a private channel: admins may members, the
// owner also admins, and everyone themselves. im.ErrConflict of a public one. Who is not
// in it stays out, without a notice.
func (db *DB) RemoveFromChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, user im.UserID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "remove_from_channel", actor, g, func(ctx context.Context, t *groupTx) error {
		ch, err := t.channel(ctx, c)
		switch {
		case err != nil:
			return err
		case user != actor && !t.me.role.Manages():
			return im.ErrForbidden
		case !ch.Private:
			return im.ErrConflict
		case user != actor:
			all, err := t.seats(ctx, user)
			if err == nil {
				err = t.above(all[user])
			}
			if err != nil {
				return err
			}
		}
		seats, err := t.channelSeats(ctx, c, user)
		if err != nil || !seats[user].in {
			t.again = append(t.again, seats[user].moved)
			return err
		}
		if err := t.seatsSettled(ctx, c, []im.UserID{user}, seats); err != nil {
			return err
		}
		if err := t.setChannelMembers(ctx, []im.ConversationID{c}, memberLeft, user); err != nil {
			return err
		}
		kind := im.NoticeRemoved
		if user == actor {
			kind = im.NoticeLeft
		}
		notice, err := t.notice(ctx, kind, actor, user)
		t.tell(c, notice, im.Membership{Leave: []im.UserID{user}})
		return err
	})
}
