package storage

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const seenRows = 500 // of one statement

// Visible is whom of users the viewer may see the presence of, each with when a
// device of theirs was last known to be there (Unix milliseconds, 0: never): those
// who are their contact or share a conversation or a small group with them and have not
// blocked them, and themselves. One query, three or four index seeks for each user, and
// two more for each group that the viewer is in where nothing else lets them see.
func (db *DB) Visible(ctx context.Context, viewer im.UserID, users []im.UserID) (seen map[im.UserID]int64, err error) {
	seen = make(map[im.UserID]int64, len(users))
	if len(users) == 0 {
		return seen, nil
	}
	ctx, done := db.begin(ctx, "visible")
	defer done(&err)
	args := make([]any, 0, 2*len(users)+6)
	for _, u := range users {
		args = append(args, u, db.d.key(string(im.DirectConversation(viewer, u))))
	}
	args = append(args, userActive, viewer, viewer, viewer, stateContact, viewer, viewer)
	type sight struct {
		user im.UserID
		at   int64
	}
	rows, err := queryAll(ctx, db.r, func(rows *sql.Rows) (s sight, err error) { return s, rows.Scan(&s.user, &s.at) },
		repeat(db.d.sight, db.d.sightRow, db.d.rowJoin, len(users), db.d.sightEnd)+visibleWhere, args...)
	if err != nil {
		return nil, err
	}
	for _, s := range rows {
		seen[s.user] = s.at
	}
	return seen, nil
}

// sightSelect reads of v, the users asked for each with the conversation that the
// viewer would share with them.
const sightSelect = "SELECT u.id, COALESCE((SELECT MAX(d.seen_at) FROM devices d WHERE d.user_id = u.id), 0) FROM "

// Each LIMIT keeps MariaDB from turning the seek into a join that reads the whole
// table first.
const visibleWhere = ` WHERE u.state = ?
	AND (SELECT 1 FROM blocks b WHERE b.user_id = u.id AND b.blocked_id = ? LIMIT 1) IS NULL
	AND (u.id = ?
		OR (SELECT 1 FROM contacts c WHERE c.user_id = ? AND c.peer_id = u.id AND c.state = ? LIMIT 1) IS NOT NULL
		OR (SELECT 1 FROM members m WHERE m.user_id = ? AND m.conversation = v.c LIMIT 1) IS NOT NULL
		OR (` + smallGroup + ` AND b.user_id = u.id LIMIT 1) IS NOT NULL)`

// smallGroup reads which groups of at most 500 a user shares with b: more are a crowd,
// whose members are strangers.
const smallGroup = "SELECT 1 FROM group_members a JOIN chat_groups g ON g.id = a.group_id AND g.members <= 500" +
	" JOIN group_members b ON b.group_id = a.group_id AND b.state = 0 WHERE a.user_id = ? AND a.state = 0"

// MarkSeen raises when devices were last seen, at most to the database's own time.
// Devices that are not there are passed over. One statement for each 500, in the
// order of the key, so that two of them cannot deadlock.
func (db *DB) MarkSeen(ctx context.Context, seen []im.DeviceSeen) (err error) {
	if len(seen) == 0 {
		return nil
	}
	ctx, done := db.begin(ctx, "mark_seen")
	defer done(&err)
	seen = slices.Clone(seen)
	slices.SortFunc(seen, func(a, b im.DeviceSeen) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Device, b.Device))
	})
	for part := range slices.Chunk(seen, seenRows) {
		args := make([]any, 0, 3*len(part))
		for _, s := range part {
			args = append(args, s.User, db.d.key(string(s.Device)), s.At)
		}
		query := repeat(db.d.markSeen, db.d.markSeenRow, db.d.rowJoin, len(part), db.d.markSeenEnd)
		if _, err := db.w.ExecContext(ctx, query, args...); err != nil {
			return err
		}
	}
	return nil
}
