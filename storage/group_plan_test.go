package storage

import (
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// crowds is a user in 300 one-to-ones and 20 channels, among 2,000 others in two of
// them, one merged at read, and the queries that must touch their own rows only.
func crowds(t *testing.T, db *DB) []plannedQuery {
	t.Helper()
	const crowd = 2000
	me := newUser(t, db)
	for i := range 300 {
		c := im.DirectConversation(me, im.UserID(1<<40+i))
		must(t, db.EnsureConversations(t.Context(), []im.NewConversation{{ID: c, Members: []im.UserID{me, im.UserID(1<<40 + i)}}}))
	}
	var groups []im.Group
	var mine []any
	for i := range 20 {
		g := newGroup(t, db, im.NewGroup{Owner: me, Name: fmt.Sprint(i)})
		groups = append(groups, g)
		mine = append(mine, string(g.Main))
	}
	private := newChannel(t, db, me, groups[0].ID, im.NewChannel{Private: true})
	for i, g := range groups[:2] {
		for part := range 4 {
			args := make([]any, 0, 2*crowd/4)
			for u := range crowd / 4 {
				args = append(args, 1<<41+part*crowd/4+u, g.ID)
			}
			_, err := db.w.Exec(repeat("INSERT INTO group_members (user_id, group_id, state, role, muted_until, joined_at, moved) VALUES ",
				"(?, ?, 0, 0, 0, 0, 0)", ", ", len(args)/2, ""), args...)
			must(t, err)
		}
		m := im.Membership{Group: g.ID, JoinAll: true, Merge: i == 1}
		must(t, db.InsertMessages(t.Context(), []im.Message{opMessage(t, im.GroupOp{ID: im.OpID(900_000_000 + number.Add(1)), Conversation: g.Main, Membership: m}, 2)}))
		fill := make([]im.Message, 500)
		for k := range fill {
			fill[k] = message(g.Main, im.Seq(3+k), me)
		}
		must(t, db.InsertMessages(t.Context(), fill))
	}
	number, _ := private.Channel()
	written, merged, u := string(groups[0].Main), string(groups[1].Main), uint64(me)
	among := []any{u, 1<<41 + 5, 1<<41 + 1700, 1 << 42}
	return []plannedQuery{
		{"RoomsOf", roomsQuery + in(2), []any{u, 1<<41 + 5}, 3 * 23},
		{"RoomMembers", roomMembersQuery + in(4) + " WHERE k.id = ?", append(among[:4:4], written), 12},
		{"Rosters of a merged channel", rostersQuery + in(1) + " ORDER BY k.id, m.user_id", []any{merged}, 4},
		{"RosterPage", rosterPageQuery, []any{written, 1<<41 + 1000, 50}, 2 * 51},
		{"Receipts", receiptsQuery + "read_seq >= ? ORDER BY user_id LIMIT ?", []any{written, 1<<41 + 1000, u, 2, 2, 2, 51}, 2 * 52},
		{"ChannelEnds", db.d.endsQuery() + in(len(mine)), mine, 12 * 20},
		{"Seat", seatQuery, []any{memberIn, memberIn, private, u, u, u, number}, 8},
		{"Seat in a crowd", seatQuery, []any{memberIn, memberIn, written, 1<<41 + 5, 1<<41 + 5, 1<<41 + 5, uint64(groups[0].ID)}, 8},
		{"GroupsOf", groupsOfQuery, []any{u, uint64(groups[3].ID), memberIn, 10}, 3 * 11},
		{"GroupMembers", groupMembersQuery, []any{uint64(groups[0].ID), memberIn, 1<<41 + 1000, 51}, 2 * 52},
		{"ChannelMembers", channelMembersQuery, []any{number, memberIn, 0, 51}, 6},
		{"UserState of a channel", db.d.stateQuery() + " AND m.conversation = ?", []any{u, written}, 20},
		{"UserStates", db.d.stateQuery(), []any{u}, 20 * 322},
	}
}
