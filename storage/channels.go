package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// CreateChannel is for admins. A private one has who creates it and Members, who must be
// in the group: im.ErrNotFound.
func (db *DB) CreateChannel(ctx context.Context, actor im.UserID, g im.GroupID, n im.NewChannel) (ch im.Channel, change im.GroupChange, err error) {
	change, err = db.changeGroup(ctx, "create_channel", actor, g, func(ctx context.Context, t *groupTx) error {
		if err := t.manages(); err != nil {
			return err
		}
		if t.channels >= im.MaxChannels {
			return &im.FullError{Limit: "channels", Max: im.MaxChannels}
		}
		var err error
		if ch, err = t.insertChannel(ctx, n.Name, n.Private); err != nil {
			return err
		}
		notice, err := t.notice(ctx, im.NoticeChannelCreated, actor)
		if err != nil {
			return err
		}
		notice.Name = n.Name
		if !n.Private {
			t.tell(ch.ID, notice, im.Membership{JoinAll: true, History: t.HistoryVisible})
			return nil
		}
		users := append(slices.Clone(n.Members), actor)
		slices.Sort(users)
		users = slices.Compact(users)
		if err := t.allIn(ctx, users); err != nil {
			return err
		}
		t.tell(ch.ID, notice, im.Membership{Join: users, History: t.HistoryVisible})
		return t.setChannelMembers(ctx, []im.ConversationID{ch.ID}, memberIn, users...)
	})
	if err != nil {
		return im.Channel{}, im.GroupChange{}, err
	}
	return ch, change, nil
}

// insertChannel makes a channel and its conversation, in which nobody is yet.
func (t *groupTx) insertChannel(ctx context.Context, name string, private bool) (im.Channel, error) {
	res, err := t.tx.ExecContext(ctx, "INSERT INTO channels (group_id, name, private, created_at) VALUES (?, ?, ?, ?)", t.ID, name, private, t.now)
	if err != nil {
		return im.Channel{}, err
	}
	number, err := res.LastInsertId()
	if err != nil {
		return im.Channel{}, err
	}
	ch := im.Channel{ID: im.ChannelConversation(uint64(number)), Group: t.ID, Name: name, Private: private, CreatedAt: t.now}
	_, err = t.tx.ExecContext(ctx, "INSERT INTO conversations (id, kind, created_at) VALUES (?, ?, ?)", ch.ID, kindChannel, t.now)
	t.channels++
	return ch, err
}

// allIn returns im.ErrNotFound where one of users is not in the group.
func (t *groupTx) allIn(ctx context.Context, users []im.UserID) error {
	seats, err := t.seats(ctx, users...)
	if err == nil && slices.ContainsFunc(users, func(u im.UserID) bool { return !seats[u].in }) {
		err = im.ErrNotFound
	}
	return err
}

// channel is one of the group's, im.ErrNotFound where it is removed or another's, and
// for who is not in the group or, where it is private, in it and no admin.
func (t *groupTx) channel(ctx context.Context, c im.ConversationID) (ch im.Channel, err error) {
	number, ok := c.Channel()
	if !ok || !t.me.in {
		return ch, im.ErrNotFound
	}
	found, err := queryAll(ctx, t.tx, scanChannel, channelRows+"id = ? AND group_id = ? AND removed = 0", number, t.ID)
	if err == nil && len(found) == 0 {
		err = im.ErrNotFound
	}
	if err != nil {
		return ch, err
	}
	ch = found[0]
	if ch.Private && !t.me.role.Manages() {
		seats, err := t.channelSeats(ctx, c, t.me.user)
		if err == nil && !seats[t.me.user].in {
			err = im.ErrNotFound
		}
		return ch, err
	}
	return ch, nil
}

const channelRows = "SELECT id, group_id, name, private, removed, created_at FROM channels WHERE "

func scanChannel(rows *sql.Rows) (ch im.Channel, err error) {
	var n uint64
	err = rows.Scan(&n, &ch.Group, &ch.Name, &ch.Private, &ch.Removed, &ch.CreatedAt)
	ch.ID = im.ChannelConversation(n)
	return ch, err
}

// RenameChannel is for admins; the main channel is called as the group:
// im.ErrConflict.
func (db *DB) RenameChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, name string) (im.GroupChange, error) {
	return db.changeGroup(ctx, "rename_channel", actor, g, func(ctx context.Context, t *groupTx) error {
		ch, err := t.side(ctx, c)
		if err != nil || ch.Name == name {
			return err
		}
		number, _ := c.Channel()
		if _, err := t.tx.ExecContext(ctx, "UPDATE channels SET name = ? WHERE id = ?", name, number); err != nil {
			return err
		}
		notice, err := t.notice(ctx, im.NoticeChannelRenamed, actor)
		notice.Name = name
		t.tell(c, notice, im.Membership{})
		return err
	})
}

// side is a channel other than the main one, for admins.
func (t *groupTx) side(ctx context.Context, c im.ConversationID) (im.Channel, error) {
	ch, err := t.channel(ctx, c)
	switch {
	case err != nil:
		return ch, err
	case !t.me.role.Manages():
		return ch, im.ErrForbidden
	case c == t.Main:
		return ch, im.ErrConflict
	}
	return ch, nil
}

// RemoveChannel ends a channel and everyone's membership of it. It is for admins; the
// main channel stays as long as the group: im.ErrConflict. im.ErrPending while the
// channel has not stored an earlier notice, which must not come after the last.
func (db *DB) RemoveChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID) (im.GroupChange, error) {
	return db.changeGroup(ctx, "remove_channel", actor, g, func(ctx context.Context, t *groupTx) error {
		ch, err := t.side(ctx, c)
		if err != nil {
			return err
		}
		if err := t.noOps(ctx, "conversation = ?", c); err != nil {
			return err
		}
		number, _ := c.Channel()
		for _, query := range []string{"UPDATE channels SET removed = 1 WHERE id = ?", "DELETE FROM channel_members WHERE channel = ?"} {
			if _, err := t.tx.ExecContext(ctx, query, number); err != nil {
				return err
			}
		}
		t.channels--
		notice, err := t.notice(ctx, im.NoticeChannelRemoved, actor)
		notice.Name = ch.Name
		t.tell(c, notice, im.Membership{LeaveAll: true})
		return err
	})
}
