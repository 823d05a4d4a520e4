package storage

import (
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// A channel that is merged at read compares with NULL: none of its members is read.
	rostersQuery = `SELECT k.id, k.member_ver, k.merged, COALESCE(m.user_id, 0), COALESCE(m.join_seq, 0) FROM conversations k
LEFT JOIN members m ON m.conversation = CASE WHEN k.merged = 0 THEN k.id END AND m.leave_seq <= m.joined_seq
WHERE k.id IN `
	rosterPageQuery = `SELECT user_id, join_seq FROM members
WHERE conversation = ? AND user_id > ? AND leave_seq <= joined_seq ORDER BY user_id LIMIT ?`
	roomsQuery = `SELECT m.user_id, m.conversation, k.member_ver, m.join_seq FROM members m JOIN conversations k ON k.id = m.conversation
WHERE m.conversation > 'c' AND m.conversation < 'd' AND m.leave_seq <= m.joined_seq AND m.user_id IN `
	roomMembersQuery = `SELECT k.member_ver, COALESCE(m.user_id, 0), COALESCE(m.join_seq, 0) FROM conversations k
LEFT JOIN members m ON m.conversation = k.id AND m.leave_seq <= m.joined_seq AND m.user_id IN `
)

// Rosters reads who is in channels now, each as of one version; one that is not there is
// left out. A channel that is merged at read has no members in it.
func (db *DB) Rosters(ctx context.Context, convs []im.ConversationID) (rosters map[im.ConversationID]im.Roster, err error) {
	ctx, done := db.begin(ctx, "rosters")
	defer done(&err)
	rosters = make(map[im.ConversationID]im.Roster, len(convs))
	for part := range slices.Chunk(convs, findKeys) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var c im.ConversationID
			var version im.Seq
			var merged bool
			var m im.RosterMember
			err := rows.Scan(&c, &version, &merged, &m.User, &m.First)
			r := rosters[c]
			r.Version, r.Merged = version, merged
			if m.User != 0 {
				r.Members = append(r.Members, m)
			}
			rosters[c] = r
			return err
		}, rostersQuery+in(len(part))+" ORDER BY k.id, m.user_id", anyOf(part)...)
		if err != nil {
			return nil, err
		}
	}
	return rosters, nil
}

// RosterPage is the members of a channel by user, from above after.
func (db *DB) RosterPage(ctx context.Context, c im.ConversationID, after im.UserID, limit int) (page []im.RosterMember, err error) {
	ctx, done := db.begin(ctx, "roster_page")
	defer done(&err)
	return queryAll(ctx, db.r, func(rows *sql.Rows) (m im.RosterMember, err error) { return m, rows.Scan(&m.User, &m.First) },
		rosterPageQuery, c, after, limit)
}

// RoomsOf are the channels that users are in now, each as of one version of its roster;
// who is in none is left out.
func (db *DB) RoomsOf(ctx context.Context, users []im.UserID) (rooms map[im.UserID][]im.Room, err error) {
	ctx, done := db.begin(ctx, "rooms_of")
	defer done(&err)
	rooms = make(map[im.UserID][]im.Room)
	for part := range slices.Chunk(users, findKeys) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var u im.UserID
			var r im.Room
			err := rows.Scan(&u, &r.Conversation, &r.Version, &r.First)
			rooms[u] = append(rooms[u], r)
			return err
		}, roomsQuery+in(len(part)), anyOf(part)...)
		if err != nil {
			return nil, err
		}
	}
	return rooms, nil
}

// RoomMembers says which of users are in a channel now, and from which seq on they see
// it, as of a version of its roster. A channel that is not there is at version 0.
func (db *DB) RoomMembers(ctx context.Context, c im.ConversationID, users []im.UserID) (version im.Seq, first map[im.UserID]im.Seq, err error) {
	first = make(map[im.UserID]im.Seq)
	if len(users) == 0 {
		return 0, first, nil
	}
	ctx, done := db.begin(ctx, "room_members")
	defer done(&err)
	err = queryEach(ctx, db.r, func(rows *sql.Rows) error {
		var u im.UserID
		var from im.Seq
		err := rows.Scan(&version, &u, &from)
		if u != 0 {
			first[u] = from
		}
		return err
	}, roomMembersQuery+in(len(users))+" WHERE k.id = ?", append(anyOf(users), c)...)
	return version, first, err
}

// MembersAmong are those of users who are in c now.
func (db *DB) MembersAmong(ctx context.Context, c im.ConversationID, users []im.UserID) (among map[im.UserID]bool, err error) {
	ctx, done := db.begin(ctx, "members_among")
	defer done(&err)
	among = make(map[im.UserID]bool, len(users))
	for part := range slices.Chunk(users, insertRows) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var u im.UserID
			err := rows.Scan(&u)
			among[u] = true
			return err
		}, "SELECT user_id FROM members WHERE conversation = ? AND leave_seq <= joined_seq AND user_id IN "+in(len(part)), append([]any{c}, anyOf(part)...)...)
		if err != nil {
			return nil, err
		}
	}
	return among, nil
}

// endsQuery reads how far channels have come, for all of their members.
func (d *dialect) endsQuery() string {
	return `SELECT k.id, ` + lastSeqAndID("k.id", d.byPrimary) + `, ` + lastChange("k.id", d.byPrimary) + `,
	COALESCE((SELECT n.seq FROM uncounted n WHERE n.conversation = k.id AND n.user_id = 0 ORDER BY n.seq DESC LIMIT 1), 0),
	COALESCE((SELECT t.seq FROM mentions t WHERE t.user_id = 0 AND t.conversation = k.id ORDER BY t.seq DESC LIMIT 1), 0),
	k.closed_seq
FROM conversations k WHERE k.id IN `
}

// ChannelEnds reads how far channels have come, for all of their members, from which the
// ends in Redis are rebuilt; one that is not there is left out.
func (db *DB) ChannelEnds(ctx context.Context, convs []im.ConversationID) (ends map[im.ConversationID]im.ChannelEnd, err error) {
	ctx, done := db.begin(ctx, "channel_ends")
	defer done(&err)
	ends = make(map[im.ConversationID]im.ChannelEnd, len(convs))
	for part := range slices.Chunk(convs, findKeys) {
		err := queryEach(ctx, db.r, func(rows *sql.Rows) error {
			var e im.ChannelEnd
			err := rows.Scan(&e.Conversation, &e.LastSeq, &e.LastID, &e.LastChange, &e.LastUncounted, &e.LastMention, &e.Closed)
			ends[e.Conversation] = e
			return err
		}, db.d.endsQuery()+in(len(part)), anyOf(part)...)
		if err != nil {
			return nil, err
		}
	}
	return ends, nil
}
