package storage

import "strings"

// The dialects of the one SQL store.
const (
	MySQL  = "mysql" // also MariaDB
	SQLite = "sqlite"
)

// dialect holds what the two engines say differently; every other statement is the
// same text for both.
type dialect struct {
	name string
	// now is the database's own time in Unix milliseconds: one clock for all nodes.
	now string
	// forUpdate locks the rows that a transaction has read. SQLite's writer holds the
	// whole database from BEGIN IMMEDIATE on.
	forUpdate string
	// keepConversation and the others end an INSERT that leaves a row alone where it is
	// there already. Never INSERT IGNORE: that hides bad data too.
	keepConversation, keepMember, keepUncounted, keepPool string
	// rejoin ends an INSERT into members by which users join a channel: who has left comes
	// back, who is in stays as they are. rejoinGroup and moveInChannel end those into
	// group_members and channel_members.
	rejoin, rejoinGroup, moveInChannel string
	// moveCursors and moveCursorsEnd stand around the rows (user, conversation,
	// delivered, read) of one statement that raises existing members only. The rows
	// are visited in the order given, so sorted callers cannot deadlock.
	moveCursors, moveCursorsRow, moveCursorsEnd string
	// lasts and lastsEnd stand around the list of conversations.
	lasts, lastsRow, lastsEnd string
	// lastChanges and lastChangesEnd likewise, with lastsRow.
	lastChanges, lastChangesEnd string
	// markSeen and markSeenEnd stand around the rows (user, device, time) of one
	// statement; sight and sightEnd around those (user, conversation) that are looked at.
	markSeen, markSeenRow, markSeenEnd string
	sight, sightRow, sightEnd          string
	// byPrimary follows the table messages where nothing but its primary key will do.
	// MariaDB may prefer a key that holds all columns asked for, and sort.
	byPrimary string
	// byNext likewise follows the table scheduled: its key by time.
	byNext string
	// rowJoin joins the rows of moveCursors and lasts.
	rowJoin string
}

const (
	mysqlNow  = "CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)"
	sqliteNow = "CAST(ROUND(unixepoch('now', 'subsec') * 1000) AS INTEGER)"
)

// timed puts the database's time into a statement.
func (d *dialect) timed(query string) string { return strings.ReplaceAll(query, "%now", d.now) }

const mysqlByPrimary = " FORCE INDEX (PRIMARY)"

var mysqlDialect = dialect{
	name:             MySQL,
	now:              mysqlNow,
	forUpdate:        " FOR UPDATE",
	keepConversation: " ON DUPLICATE KEY UPDATE kind = kind",
	keepMember:       " ON DUPLICATE KEY UPDATE join_seq = join_seq",
	keepUncounted:    " ON DUPLICATE KEY UPDATE user_id = user_id",
	keepPool:         " ON DUPLICATE KEY UPDATE scope = scope",

	// joined_seq comes last: what stands before it looks at its old value.
	rejoin: ` ON DUPLICATE KEY UPDATE
		join_seq = IF(members.leave_seq > members.joined_seq, GREATEST(members.join_seq, VALUES(join_seq)), members.join_seq),
		delivered_seq = IF(members.leave_seq > members.joined_seq, GREATEST(members.delivered_seq, VALUES(delivered_seq)), members.delivered_seq),
		read_seq = IF(members.leave_seq > members.joined_seq, GREATEST(members.read_seq, VALUES(read_seq)), members.read_seq),
		joined_seq = IF(members.leave_seq > members.joined_seq, VALUES(joined_seq), members.joined_seq)`,
	rejoinGroup:   " ON DUPLICATE KEY UPDATE state = VALUES(state), role = VALUES(role), joined_at = VALUES(joined_at), moved = VALUES(moved)",
	moveInChannel: " ON DUPLICATE KEY UPDATE state = VALUES(state), moved = VALUES(moved)",

	moveCursors:    "UPDATE (",
	moveCursorsRow: "SELECT ? AS u, ? AS c, ? AS d, ? AS r",
	moveCursorsEnd: `) v STRAIGHT_JOIN members m ON m.user_id = v.u AND m.conversation = v.c
		SET m.delivered_seq = GREATEST(m.delivered_seq, v.d), m.read_seq = GREATEST(m.read_seq, v.r)`,

	lasts:       "SELECT v.c, " + lastSeqAndID("v.c", mysqlByPrimary) + " FROM (",
	lastChanges: "SELECT v.c, " + lastChange("v.c", mysqlByPrimary) + " FROM (",
	lastsRow:    "SELECT ? AS c",
	lastsEnd:    ") v",

	lastChangesEnd: ") v",

	markSeen:    "UPDATE (",
	markSeenRow: "SELECT ? AS u, ? AS d, ? AS s",
	markSeenEnd: ") v STRAIGHT_JOIN devices d ON d.user_id = v.u AND d.device = v.d" +
		" SET d.seen_at = GREATEST(d.seen_at, LEAST(v.s, " + mysqlNow + "))",

	sight:    sightSelect + "(",
	sightRow: "SELECT ? AS u, ? AS c",
	sightEnd: ") v STRAIGHT_JOIN users u ON u.id = v.u",

	byPrimary: mysqlByPrimary,
	byNext:    " FORCE INDEX (scheduled_next)",
	rowJoin:   " UNION ALL ",
}

var sqliteDialect = dialect{
	name:             SQLite,
	now:              sqliteNow,
	keepConversation: " ON CONFLICT DO NOTHING",
	keepMember:       " ON CONFLICT DO NOTHING",
	keepUncounted:    " ON CONFLICT DO NOTHING",
	keepPool:         " ON CONFLICT DO NOTHING",

	rejoin: ` ON CONFLICT (user_id, conversation) DO UPDATE SET
		join_seq = MAX(members.join_seq, excluded.join_seq), joined_seq = excluded.joined_seq,
		delivered_seq = MAX(members.delivered_seq, excluded.delivered_seq), read_seq = MAX(members.read_seq, excluded.read_seq)
		WHERE members.leave_seq > members.joined_seq`,
	rejoinGroup: " ON CONFLICT (user_id, group_id) DO UPDATE SET state = excluded.state, role = excluded.role," +
		" joined_at = excluded.joined_at, moved = excluded.moved",
	moveInChannel: " ON CONFLICT (user_id, channel) DO UPDATE SET state = excluded.state, moved = excluded.moved",

	moveCursors:    "WITH v(u, c, d, r) AS (VALUES ",
	moveCursorsRow: "(?, ?, ?, ?)",
	moveCursorsEnd: `) UPDATE members
		SET delivered_seq = MAX(delivered_seq, v.d), read_seq = MAX(read_seq, v.r)
		FROM v WHERE members.user_id = v.u AND members.conversation = v.c`,

	lasts:          "WITH v(c) AS (VALUES ",
	lastsRow:       "(?)",
	lastsEnd:       ") SELECT v.c, " + lastSeqAndID("v.c", "") + " FROM v",
	lastChanges:    "WITH v(c) AS (VALUES ",
	lastChangesEnd: ") SELECT v.c, " + lastChange("v.c", "") + " FROM v",

	markSeen:    "WITH v(u, d, s) AS (VALUES ",
	markSeenRow: "(?, ?, ?)",
	markSeenEnd: ") UPDATE devices SET seen_at = MAX(seen_at, MIN(v.s, " + sqliteNow + "))" +
		" FROM v WHERE devices.user_id = v.u AND devices.device = v.d",

	sight:    "WITH v(u, c) AS (VALUES ",
	sightRow: "(?, ?)",
	sightEnd: ") " + sightSelect + "v JOIN users u ON u.id = v.u",

	rowJoin: ", ",
}

// lastSeqAndID selects the end of a conversation (0, 0 where it is empty) as two
// index seeks. Not MAX(seq), not a join on it, and not without the hint: MariaDB
// would read the whole conversation, where its name comes from an outer row.
func lastSeqAndID(conversation, hint string) string {
	return lastOf("seq", conversation, hint) + ", " + lastOf("id", conversation, hint)
}

func lastOf(column, conversation, hint string) string {
	return "COALESCE((SELECT x." + column + " FROM messages x" + hint + " WHERE x.conversation = " + conversation + " ORDER BY x.seq DESC LIMIT 1), 0)"
}

// lastChange selects the number of a conversation's last change, 0 where there was none.
func lastChange(conversation, hint string) string {
	return "COALESCE((SELECT h.change_no FROM message_changes h" + hint + " WHERE h.conversation = " + conversation +
		" ORDER BY h.change_no DESC LIMIT 1), 0)"
}

// key is s as an argument that is compared with a column of bytes also where no
// column stands beside it: a derived table has the type of its literals.
func (d *dialect) key(s string) any {
	if d.name == MySQL {
		return []byte(s)
	}
	return s
}

// repeat writes head, n times row joined by sep, and end.
func repeat(head, row, sep string, n int, end string) string {
	var b strings.Builder
	b.Grow(len(head) + n*(len(row)+len(sep)) + len(end))
	b.WriteString(head)
	for i := range n {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(row)
	}
	b.WriteString(end)
	return b.String()
}

// in is "(?, ?, …)" for n values.
func in(n int) string { return repeat("(", "?", ", ", n, ")") }
