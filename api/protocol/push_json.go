package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// The two pushes that a busy worker encodes for every message, by hand: a fifth of
// the time of EncodePush, which a test holds them to.

// AppendMessagePush appends the message push of m, just stored: nothing has changed it
// yet. Content is valid JSON, as what is stored is.
func AppendMessagePush(b []byte, m *im.Message) []byte {
	b = append(b, `{"push":"message","data":{"conversation_id":`...)
	b = appendQuoted(b, string(m.Conversation))
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, uint64(m.Seq), 10)
	b = append(b, `,"message_id":"`...)
	b = strconv.AppendUint(b, uint64(m.ID), 10)
	b = append(b, '"')
	if m.ClientMsgID != "" {
		b = append(b, `,"client_msg_id":`...)
		b = appendQuoted(b, string(m.ClientMsgID))
	}
	b = append(b, `,"sender":{"id":"`...)
	b = strconv.AppendUint(b, uint64(m.Sender.ID), 10)
	b = append(b, `","handle":`...)
	b = appendQuoted(b, m.Sender.Handle)
	b = append(b, `,"nickname":`...)
	b = appendQuoted(b, m.Sender.Nickname)
	if m.Sender.Avatar != "" {
		b = append(b, `,"avatar":`...)
		b = appendQuoted(b, m.Sender.Avatar)
	}
	b = append(b, `},"type":`...)
	b = appendQuoted(b, string(m.Type))
	b = append(b, `,"content":`...)
	b = appendCompact(b, m.Content)
	b = append(b, `,"stored_at":`...)
	b = strconv.AppendInt(b, m.StoredAt, 10)
	if !m.About.Empty() {
		// Few messages have it, and it always encodes. A copy, so that m is not moved to
		// the heap for those that do not.
		about := m.About
		if encoded, err := EncodeJSON(&about); err == nil {
			b = append(b, ',')
			b = append(b, encoded[1:len(encoded)-1]...)
		}
	}
	return append(b, "}}"...)
}

// AppendStoredPush appends the stored push.
func AppendStoredPush(b []byte, s *Stored) []byte {
	b = append(b, `{"push":"stored","data":{"conversation_id":`...)
	b = appendQuoted(b, string(s.ConversationID))
	b = append(b, `,"client_msg_id":`...)
	b = appendQuoted(b, string(s.ClientMsgID))
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, uint64(s.Seq), 10)
	b = append(b, `,"message_id":"`...)
	b = strconv.AppendUint(b, uint64(s.MessageID), 10)
	b = append(b, `","stored_at":`...)
	b = strconv.AppendInt(b, s.StoredAt, 10)
	return append(b, "}}"...)
}

// appendQuoted appends s as a JSON string. What needs more than quotes goes the
// general way.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := EncodeJSON(s)
			if err != nil {
				return append(b, `""`...) // a string always encodes
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendCompact appends raw JSON on one line. Content is compact as logic makes it;
// a line break outside a string is the sign that something else was put in the log
// (inside one it would be escaped).
func appendCompact(b []byte, raw json.RawMessage) []byte {
	if bytes.ContainsAny(raw, "\n\r\t") {
		var buf bytes.Buffer
		if json.Compact(&buf, raw) == nil {
			return append(b, buf.Bytes()...)
		}
	}
	if len(raw) == 0 {
		return append(b, "null"...)
	}
	return append(b, raw...)
}
