package storage

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// plannedQuery is a query whose cost must not grow with the table: it touches at most
// rows rows.
type plannedQuery struct {
	name  string
	query string
	args  []any
	rows  int64
}

// longTable is a conversation of 12,000 among others, and the queries that must not
// care.
func longTable(t *testing.T, db *DB) []plannedQuery {
	a, b, c := newPair(t, db)
	fill(t, db, c, 12_000, a, b)
	var keys, places, lasts []any
	for range 20 {
		peer := newUser(t, db)
		other := im.DirectConversation(a, peer)
		must(t, db.EnsureConversations(t.Context(), []im.NewConversation{{ID: other, Members: []im.UserID{a, peer}}}))
		for _, m := range fill(t, db, other, 200, a, peer)[:2] {
			keys = append(keys, string(m.Conversation), uint64(m.Sender.ID), string(m.ClientMsgID))
		}
		places = append(places, string(other), 200)
		lasts = append(lasts, db.d.key(string(other)))
	}
	lasts = append(lasts, db.d.key(string(c)))
	moves := make([]any, 0)
	for _, u := range []im.UserID{a, b} {
		moves = append(moves, uint64(u), db.d.key(string(c)), 5, 5)
	}
	return []plannedQuery{
		{"History before", db.d.historyDown(), []any{string(c), 1, 6000, 52}, 53},
		{"History from the end", db.d.historyDown(), []any{string(c), 1, uint64(im.MaxID), 52}, 53},
		{"History after", db.d.historyUp(), []any{string(c), 6000, uint64(im.MaxID), 52}, 53},
		{"History around", db.d.historyUp(), []any{string(c), 5950, 6050, 101}, 102},
		{"Lasts", repeat(db.d.lasts, db.d.lastsRow, db.d.rowJoin, len(lasts), db.d.lastsEnd), lasts, 6 * 21},
		{"FindStored", repeat(findStored, findStoredRow, " OR ", len(keys)/3, ""), keys, 2 * 40},
		{"LastMessages", repeat(lastMessages, lastMessagesRow, " OR ", len(places)/2, ""), places, 2 * 20},
		{"Changed", changedQuery, []any{string(c), 6000, 51}, 2 * 51},
		{"UserStates", db.d.stateQuery(), []any{uint64(a)}, 18 * 21},
		{"UserState", db.d.stateQuery() + " AND m.conversation = ?", []any{uint64(a), string(c)}, 18},
		{"MoveCursors", repeat(db.d.moveCursors, db.d.moveCursorsRow, db.d.rowJoin, 2, db.d.moveCursorsEnd), moves, 30},
	}
}

func TestPlans_SQLiteSeeksOnly(t *testing.T) {
	db := newSQLite(t)
	for _, q := range slices.Concat(longTable(t, db), fullBook(t, db), crowds(t, db)) {
		plan, err := queryAll(t.Context(), db.r, func(rows *sql.Rows) (line string, err error) {
			var id, parent, unused int
			return line, rows.Scan(&id, &parent, &unused, &line)
		}, "EXPLAIN QUERY PLAN "+q.query, q.args...)
		must(t, err)
		for _, line := range plan {
			for _, bad := range []string{"TEMP B-TREE", "SCAN messages", "SCAN m ", "SCAN s ", "SCAN e", "SCAN members", "SCAN x", "SCAN p", "SCAN c", "SCAN q", "SCAN u", "SCAN b", "SCAN k", "SCAN g", "SCAN h", "SCAN t", "SCAN n", "AUTOMATIC"} {
				if strings.Contains(line+" ", bad) {
					t.Errorf("%s: %s\n%s", q.name, line, strings.Join(plan, "\n"))
				}
			}
		}
	}
}

func TestPlans_MariaDBTouchesTheRowsItReturns(t *testing.T) {
	db := newMySQL(t)
	queries := slices.Concat(longTable(t, db), fullBook(t, db), crowds(t, db))
	for _, table := range []string{"messages", "members", "uncounted", "contacts", "contact_requests", "people", "blocks",
		"conversations", "mentions", "chat_groups", "channels", "group_members", "channel_members"} {
		_, err := db.w.Exec("ANALYZE TABLE " + table)
		must(t, err)
	}
	conn, err := db.r.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	for _, q := range queries {
		if strings.HasPrefix(q.name, "History") {
			checkRangeRead(t, conn, q)
		}
		checkRowsTouched(t, conn, q)
	}
}

func checkRowsTouched(t *testing.T, conn *sql.Conn, q plannedQuery) {
	t.Helper()
	before := handlerReads(t, conn)
	if strings.HasPrefix(q.query, "UPDATE") {
		_, err := conn.ExecContext(t.Context(), q.query, q.args...)
		must(t, err)
	} else {
		rows, err := conn.QueryContext(t.Context(), q.query, q.args...)
		must(t, err)
		for rows.Next() {
		}
		must(t, rows.Close())
	}
	if n := handlerReads(t, conn) - before; n > q.rows {
		t.Errorf("%s touched %d rows, want at most %d", q.name, n, q.rows)
	}
}

func checkRangeRead(t *testing.T, conn *sql.Conn, q plannedQuery) {
	t.Helper()
	var id, kind, table, access, possible, key, keyLen, ref, rows, extra sql.NullString
	must(t, conn.QueryRowContext(t.Context(), "EXPLAIN "+q.query, q.args...).
		Scan(&id, &kind, &table, &access, &possible, &key, &keyLen, &ref, &rows, &extra))
	if access.String != "range" || key.String != "PRIMARY" || strings.Contains(extra.String, "filesort") {
		t.Errorf("%s: type %s, key %s, %s", q.name, access.String, key.String, extra.String)
	}
}

// handlerReads counts the rows that the session has asked the engine for.
func handlerReads(t *testing.T, conn *sql.Conn) (n int64) {
	t.Helper()
	rows, err := conn.QueryContext(context.Background(), "SHOW SESSION STATUS LIKE 'Handler_read%'")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var value int64
		must(t, rows.Scan(&name, &value))
		if name != "Handler_read_rnd_next" && name != "Handler_read_rnd" && name != "Handler_read_rnd_deleted" { // the SHOW itself, and derived tables
			n += value
		}
	}
	return n
}
