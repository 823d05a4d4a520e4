package storage

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// scheduledCrowd is 20,000 rows of 200 conversations in 8 partitions, mostly in the far future,
// a thousand each final for long and in queue, and what is asked of them: each query
// touches what it returns.
func scheduledCrowd(t *testing.T, db *DB) []plannedQuery {
	t.Helper()
	const rows, convs = 20_000, 200
	users := []im.UserID{newUser(t, db), newUser(t, db)}
	now := nowOf(t, db)
	for from := 0; from < rows; from += 500 {
		args := make([]any, 0, 500*12)
		for i := from; i < from+500; i++ {
			c := fmt.Sprintf("d1-%d", 1<<40+i%convs)
			due, state := now+3_600_000+int64(i), im.SchedulePending
			switch {
			case i < 100: // due
				due = now - 100_000 + int64(i)
			case i < 1100:
				due, state = now-100_000, im.ScheduleQueued
			case i < 4100:
				due, state = now-100_000, im.ScheduleState(2+i%3)
			}
			args = append(args, c, i%8, users[i%2], fmt.Sprintf("client-%d", i), 0, []byte("{}"), make([]byte, 16), due, due, state, due, due)
		}
		_, err := db.w.Exec(repeat("INSERT INTO scheduled (conversation, partition_no, sender, client_msg_id, by_server, request, content_hash,"+
			" due_at, next_at, state, created_at, updated_at) VALUES ", in(12), ", ", 500, ""), args...)
		must(t, err)
	}
	c, u := fmt.Sprintf("d1-%d", 1<<40), uint64(users[0])
	bound := []any{now, now, im.MaxID}
	return []plannedQuery{
		{"due", db.d.dueScheduled(), []any{0, 0, 500, 500}, 15},
		{"in queue", db.d.dueScheduled(), []any{0, 1, 0, 20}, 22},
		{"claim", db.d.timed(claimScheduled), append([]any{30_000, c}, bound...), 5},
		{"claimed", claimedScheduled, append(append([]any{c}, bound...), 5), 12},
		{"count", "SELECT " + countScheduled, []any{u, 30}, 35},
		{"list", scheduledOf + scheduledOfOrder, []any{u, 0, now, now, 0, 21}, 24},
		{"by key", findScheduledAs, []any{c, u, "client-0"}, 2},
		{"final", forgettable + db.d.now + " - ?" + forgettableOrder, []any{2, 1000, 20}, 22},
	}
}

func TestScheduledPlans_SQLiteSeeksOnly(t *testing.T) {
	db := newSQLite(t)
	for _, q := range scheduledCrowd(t, db) {
		plan, err := queryAll(t.Context(), db.r, func(rows *sql.Rows) (line string, err error) {
			var id, parent, unused int
			return line, rows.Scan(&id, &parent, &unused, &line)
		}, "EXPLAIN QUERY PLAN "+q.query, q.args...)
		must(t, err)
		t.Log(q.name, plan)
		for _, line := range plan {
			if strings.Contains(line, "SCAN scheduled") || strings.Contains(line, "TEMP B-TREE") {
				t.Errorf("%s: %s", q.name, line)
			}
		}
	}
}

func TestScheduledPlans_MariaDBTouchesTheRowsItReturns(t *testing.T) {
	db := newMySQL(t)
	queries := scheduledCrowd(t, db)
	_, err := db.w.Exec("ANALYZE TABLE scheduled")
	must(t, err)
	conn, err := db.w.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	for _, q := range queries {
		checkRowsTouched(t, conn, q)
	}
}
