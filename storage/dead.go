package storage

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/curlew-im/curlew/logic/im"
)

const reasonBytes = 1000 // of a reason for parking or doubt; the rest is cut off

// Park records what was given up; the same record twice is one row.
func (db *DB) Park(ctx context.Context, d im.DeadLetter) (err error) {
	ctx, done := db.begin(ctx, "park")
	defer done(&err)
	payload := d.Payload
	if payload == nil {
		payload = []byte{} // nil would be NULL
	}
	_, err = db.w.ExecContext(ctx, "INSERT INTO dead (topic, partition_no, record_offset, conversation, sender, client_msg_id,"+
		" content_hash, reason, payload, parked_at, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		d.Topic, d.Partition, d.Offset, d.Key.Conversation, d.Key.Sender, d.Key.ClientMsgID,
		d.Hash[:], cut(d.Reason, reasonBytes), payload, d.ParkedAt, d.Attempts)
	if violates(err, "dead_record", "dead.record_offset") {
		return nil
	}
	return err
}

// cut shortens s to at most n bytes of valid UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
