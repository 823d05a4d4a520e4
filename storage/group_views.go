package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// Group is g as viewer sees it: im.ErrNotFound where they are not in it and it is
// closed, or it is dissolved.
func (db *DB) Group(ctx context.Context, viewer im.UserID, g im.GroupID) (v im.GroupView, err error) {
	ctx, done := db.begin(ctx, "group")
	defer done(&err)
	if v, err = db.groupView(ctx, viewer, g); err != nil || v.Role == "" {
		return v, err
	}
	views := []im.GroupView{v}
	err = db.addChannels(ctx, viewer, views)
	return views[0], err
}

// groupView is the group without its channels.
func (db *DB) groupView(ctx context.Context, viewer im.UserID, g im.GroupID) (v im.GroupView, err error) {
	found, err := queryAll(ctx, db.r, func(rows *sql.Rows) (v im.GroupView, err error) {
		state, role := memberLeft, 0
		v.Group, err = scanGroup(rows, &state, &role, &v.MutedUntil, &v.Requested)
		if state == memberIn {
			v.Role = roles[role]
		} else {
			v.MutedUntil = 0
		}
		return v, err
	}, "SELECT "+groupColumns+", COALESCE(m.state, ?), COALESCE(m.role, 0), COALESCE(m.muted_until, 0),"+
		" EXISTS (SELECT 1 FROM join_requests r WHERE r.group_id = g.id AND r.user_id = ?)"+
		" FROM chat_groups g LEFT JOIN group_members m ON m.user_id = ? AND m.group_id = g.id WHERE g.id = ?", memberLeft, viewer, viewer, g)
	switch {
	case err != nil:
		return v, err
	case len(found) == 0, found[0].Dissolved, found[0].Role == "" && found[0].JoinPolicy == im.JoinClosed:
		return v, im.ErrNotFound
	}
	return found[0], nil
}

// ownView is groupView for who is in the group: im.ErrNotFound for others.
func (db *DB) ownView(ctx context.Context, viewer im.UserID, g im.GroupID) (im.GroupView, error) {
	v, err := db.groupView(ctx, viewer, g)
	if err == nil && v.Role == "" {
		err = im.ErrNotFound
	}
	return v, err
}

// addChannels fills in the channels that viewer, who is in the groups, sees of them.
func (db *DB) addChannels(ctx context.Context, viewer im.UserID, views []im.GroupView) error {
	if len(views) == 0 {
		return nil
	}
	at := make(map[im.GroupID]int, len(views))
	args := []any{viewer, memberIn}
	for i, v := range views {
		at[v.ID] = i
		args = append(args, v.ID)
	}
	err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
		var n uint64
		var ch im.Channel
		var member bool
		err := rows.Scan(&n, &ch.Group, &ch.Name, &ch.Private, &ch.CreatedAt, &member)
		ch.ID = im.ChannelConversation(n)
		if v := &views[at[ch.Group]]; !ch.Private || member || v.Role.Manages() {
			v.Channels = append(v.Channels, ch)
		}
		return err
	}, "SELECT c.id, c.group_id, c.name, c.private, c.created_at,"+
		" EXISTS (SELECT 1 FROM channel_members m WHERE m.user_id = ? AND m.channel = c.id AND m.state = ?)"+
		" FROM channels c WHERE c.removed = 0 AND c.group_id IN "+in(len(views))+" ORDER BY c.group_id, c.id", args...)
	return err
}

// GroupsOf are the groups that u is in, by ID, from above after.
func (db *DB) GroupsOf(ctx context.Context, u im.UserID, after im.GroupID, limit int) (all []im.GroupView, more bool, err error) {
	ctx, done := db.begin(ctx, "groups_of")
	defer done(&err)
	all, err = queryAll(ctx, db.r, func(rows *sql.Rows) (v im.GroupView, err error) {
		var role int
		v.Group, err = scanGroup(rows, &role, &v.MutedUntil)
		v.Role = roles[role]
		return v, err
	}, groupsOfQuery, u, after, memberIn, limit+1)
	if err != nil {
		return nil, false, err
	}
	all, more = page(all, limit)
	return all, more, db.addChannels(ctx, u, all)
}

const groupsOfQuery = "SELECT " + groupColumns + ", m.role, m.muted_until FROM group_members m JOIN chat_groups g ON g.id = m.group_id" +
	" WHERE m.user_id = ? AND m.group_id > ? AND m.state = ? ORDER BY m.group_id LIMIT ?"

// GroupMembers is by user, from above after; im.ErrNotFound where viewer is not in g.
func (db *DB) GroupMembers(ctx context.Context, viewer im.UserID, g im.GroupID, after im.UserID, limit int) (all []im.GroupMember, more bool, err error) {
	ctx, done := db.begin(ctx, "group_members")
	defer done(&err)
	if _, err := db.ownView(ctx, viewer, g); err != nil {
		return nil, false, err
	}
	return db.groupMembers(ctx, groupMembersQuery, uint64(g), after, limit)
}

// groupMembers is a page of those of a group or, by the other query, of a channel.
func (db *DB) groupMembers(ctx context.Context, query string, of uint64, after im.UserID, limit int) ([]im.GroupMember, bool, error) {
	all, err := queryAll(ctx, db.r, scanGroupMember, query, of, memberIn, after, limit+1)
	all, more := page(all, limit)
	return all, more, err
}

const (
	groupMembersQuery = "SELECT user_id, role, muted_until, joined_at FROM group_members" +
		" WHERE group_id = ? AND state = ? AND user_id > ? ORDER BY user_id LIMIT ?"
	channelMembersQuery = "SELECT m.user_id, m.role, m.muted_until, m.joined_at FROM channel_members c" +
		" JOIN group_members m ON m.user_id = c.user_id AND m.group_id = c.group_id" +
		" WHERE c.channel = ? AND c.state = ? AND c.user_id > ? ORDER BY c.user_id LIMIT ?"
)

func scanGroupMember(rows *sql.Rows) (m im.GroupMember, err error) {
	var role int
	err = rows.Scan(&m.User, &role, &m.MutedUntil, &m.JoinedAt)
	m.Role = roles[role]
	return m, err
}

// ChannelMembers is GroupMembers of one channel that viewer is in, or manages.
func (db *DB) ChannelMembers(ctx context.Context, viewer im.UserID, g im.GroupID, c im.ConversationID, after im.UserID, limit int) (all []im.GroupMember, more bool, err error) {
	ctx, done := db.begin(ctx, "channel_members")
	defer done(&err)
	v, err := db.ownView(ctx, viewer, g)
	if err != nil {
		return nil, false, err
	}
	views := []im.GroupView{v}
	if err := db.addChannels(ctx, viewer, views); err != nil {
		return nil, false, err
	}
	i := slices.IndexFunc(views[0].Channels, func(ch im.Channel) bool { return ch.ID == c })
	switch {
	case i < 0:
		return nil, false, im.ErrNotFound
	case !views[0].Channels[i].Private:
		return db.groupMembers(ctx, groupMembersQuery, uint64(g), after, limit)
	}
	number, _ := c.Channel()
	return db.groupMembers(ctx, channelMembersQuery, number, after, limit)
}

// ChannelInfos names channels, also those that are no more; unknown ones are left out.
func (db *DB) ChannelInfos(ctx context.Context, convs []im.ConversationID) (infos map[im.ConversationID]im.ChannelInfo, err error) {
	ctx, done := db.begin(ctx, "channel_infos")
	defer done(&err)
	infos = make(map[im.ConversationID]im.ChannelInfo, len(convs))
	var numbers []any
	for _, c := range convs {
		if n, ok := c.Channel(); ok {
			numbers = append(numbers, n)
		}
	}
	for part := range slices.Chunk(numbers, findKeys) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var n, main uint64
			var i im.ChannelInfo
			err := rows.Scan(&n, &i.Group, &i.Name, &i.Private, &i.Removed, &i.CreatedAt, &i.GroupName, &i.GroupAvatar, &main)
			i.ID, i.GroupMain = im.ChannelConversation(n), im.ChannelConversation(main)
			infos[i.ID] = i
			return err
		}, "SELECT c.id, c.group_id, c.name, c.private, c.removed <> 0 OR g.dissolved <> 0, c.created_at, g.name, g.avatar, g.main_channel"+
			" FROM channels c JOIN chat_groups g ON g.id = c.group_id WHERE c.id IN "+in(len(part)), part...)
		if err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// Seat is what a send of u to a channel is decided by; im.ErrNotFound where they were
// never in it.
func (db *DB) Seat(ctx context.Context, u im.UserID, c im.ConversationID) (s im.Seat, err error) {
	ctx, done := db.begin(ctx, "seat")
	defer done(&err)
	number, ok := c.Channel()
	if !ok {
		return s, im.ErrNotFound
	}
	var role int
	err = db.r.QueryRowContext(ctx, seatQuery, memberIn, memberIn, c, u, u, u, number).
		Scan(&s.Group, &role, &s.MutedUntil, &s.MutedAll, &s.In)
	if s.In && err == nil {
		s.Role = roles[role]
	}
	return s, notFound(err)
}

// In is who is wanted in it and is in it already.
const seatQuery = `SELECT c.group_id, g.role, g.muted_until, h.muted_all, c.removed = 0 AND h.dissolved = 0 AND g.state = ?
	AND m.leave_seq <= m.joined_seq AND (c.private = 0 OR COALESCE(p.state = ?, 0))
FROM channels c
JOIN chat_groups h ON h.id = c.group_id
JOIN members m ON m.conversation = ? AND m.user_id = ?
JOIN group_members g ON g.user_id = ? AND g.group_id = c.group_id
LEFT JOIN channel_members p ON p.user_id = ? AND p.channel = c.id
WHERE c.id = ?`
