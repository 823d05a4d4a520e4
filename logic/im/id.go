package im

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// UserID is a user's number, given by the users table. It travels as a string in
// JSON, since JavaScript rounds large numbers.
type UserID uint64

// SystemUser is who speaks when the system does. It has no row, no password and
// no devices; its one-to-one conversations are d0-<user>.
const SystemUser UserID = 0

// MaxID bounds user and message IDs: sorted-set scores and JavaScript numbers are
// exact up to 2^53 only.
const MaxID = 1<<53 - 1

// ParseUserID reads a decimal user ID, canonical form only ("7", not "07").
func ParseUserID(s string) (UserID, error) {
	n, ok := parseID(s)
	if !ok {
		return 0, Invalid("user_id", "not a user ID")
	}
	return UserID(n), nil
}

func (u UserID) String() string { return strconv.FormatUint(uint64(u), 10) }

// MarshalText makes JSON show the ID as a string, also as a map key.
func (u UserID) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(u), 10), nil }

// UnmarshalText accepts the canonical decimal form only.
func (u *UserID) UnmarshalText(b []byte) error {
	n, err := ParseUserID(string(b))
	*u = n
	return err
}

// MessageID is at most 53 bits: 41 bits of milliseconds since Epoch, 5 bits of
// node, 7 bits of counter (FEASIBILITY.md, 8). It sorts by recency over all
// conversations; inside one, only Seq orders.
type MessageID uint64

// Epoch is the zero of the time in a MessageID: 2026-01-01T00:00:00Z in Unix
// milliseconds. 41 bits last until 2095.
const Epoch int64 = 1767225600000

const (
	messageNodeBits    = 5
	messageCounterBits = 7
	// MessageNodes is how many processes may give message IDs at the same time.
	MessageNodes = 1 << messageNodeBits
	// MessagesPerMilli is how many IDs one node can give for one millisecond.
	MessagesPerMilli = 1 << messageCounterBits
)

// NewMessageID composes an ID of Unix milliseconds, node and counter.
func NewMessageID(unixMilli int64, node, counter int) MessageID {
	return MessageID(uint64(unixMilli-Epoch)<<(messageNodeBits+messageCounterBits) |
		uint64(node)<<messageCounterBits | uint64(counter))
}

// UnixMilli is the time in the ID.
func (m MessageID) UnixMilli() int64 {
	return int64(m>>(messageNodeBits+messageCounterBits)) + Epoch
}

// Time is when the ID was given, to the millisecond.
func (m MessageID) Time() time.Time { return time.UnixMilli(m.UnixMilli()) }

// ParseMessageID reads a decimal message ID.
func ParseMessageID(s string) (MessageID, error) {
	n, ok := parseID(s)
	if !ok {
		return 0, Invalid("message_id", "not a message ID")
	}
	return MessageID(n), nil
}

func (m MessageID) String() string { return strconv.FormatUint(uint64(m), 10) }

// MarshalText makes JSON show the ID as a string.
func (m MessageID) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(m), 10), nil }

// UnmarshalText accepts the canonical decimal form only.
func (m *MessageID) UnmarshalText(b []byte) error {
	n, err := ParseMessageID(string(b))
	*m = n
	return err
}

// Seq is a message's place in its conversation: 1, 2, 3 … without holes. It is a
// number in JSON. Zero means "before the first".
type Seq uint64

// UnmarshalJSON refuses what is no whole number in 0 … MaxID.
func (s *Seq) UnmarshalJSON(b []byte) error {
	var n uint64
	if err := json.Unmarshal(b, &n); err != nil || n > MaxID {
		return Invalid("seq", "not a whole number from 0 to 2^53-1")
	}
	*s = Seq(n)
	return nil
}

func parseID(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > MaxID || (len(s) > 1 && s[0] == '0') || s[0] == '+' {
		return 0, false
	}
	return n, true
}

// ConversationID names a conversation: d<low>-<high> for the one-to-one of two
// users (d7-7 with oneself), c<number> for a group's channel.
type ConversationID string

// DirectConversation is the one-to-one conversation of a and b, derived and never
// allocated, the same from either side.
func DirectConversation(a, b UserID) ConversationID {
	if a > b {
		a, b = b, a
	}
	return ConversationID("d" + a.String() + "-" + b.String())
}

// ParseConversationID accepts canonical IDs only, so that one conversation has one
// name, one Kafka key and one row.
func ParseConversationID(s string) (ConversationID, error) {
	if len(s) > 1 && len(s) <= 40 {
		switch s[0] {
		case 'c':
			if _, ok := parseID(s[1:]); ok {
				return ConversationID(s), nil
			}
		case 'd':
			low, high, found := strings.Cut(s[1:], "-")
			if found && low != "" && high != "" {
				l, okl := parseID(low)
				h, okh := parseID(high)
				if okl && okh && l <= h {
					return ConversationID(s), nil
				}
			}
		}
	}
	return "", Invalid("conversation_id", "not a conversation ID")
}

// UnmarshalText accepts the canonical form only.
func (c *ConversationID) UnmarshalText(b []byte) error {
	id, err := ParseConversationID(string(b))
	*c = id
	return err
}

// Direct returns the two users of a one-to-one conversation, low first; ok is
// false for a channel.
func (c ConversationID) Direct() (low, high UserID, ok bool) {
	if len(c) == 0 || c[0] != 'd' {
		return 0, 0, false
	}
	a, b, found := strings.Cut(string(c[1:]), "-")
	if !found {
		return 0, 0, false
	}
	l, err1 := strconv.ParseUint(a, 10, 64)
	h, err2 := strconv.ParseUint(b, 10, 64)
	return UserID(l), UserID(h), err1 == nil && err2 == nil
}

// Peer is the other side of a one-to-one conversation as u sees it (u itself in
// d7-7); ok is false where u is not in it.
func (c ConversationID) Peer(u UserID) (peer UserID, ok bool) {
	low, high, direct := c.Direct()
	switch {
	case !direct:
		return 0, false
	case u == low:
		return high, true
	case u == high:
		return low, true
	}
	return 0, false
}

// ClientMsgID is chosen by the sender's device and makes a resend harmless: 8 to
// 64 of A–Z a–z 0–9 _ -, compared byte by byte.
type ClientMsgID string

// Validate returns an InvalidError where the ID is not of the form.
func (id ClientMsgID) Validate() error {
	if len(id) < 8 || len(id) > 64 || !isToken(string(id)) {
		return Invalid("client_msg_id", "must be 8 to 64 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// ClientChangeID is chosen by the device of who changes a message, and makes a resend
// harmless: of the form of a ClientMsgID, which does not clash with it.
type ClientChangeID string

// Validate returns an InvalidError where the ID is not of the form.
func (id ClientChangeID) Validate() error {
	if ClientMsgID(id).Validate() != nil {
		return Invalid("client_change_id", "must be 8 to 64 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// DeviceID names one device of a user, chosen by the device: 1 to 64 of A–Z a–z
// 0–9 _ -.
type DeviceID string

// Validate returns an InvalidError where the ID is not of the form.
func (id DeviceID) Validate() error {
	if len(id) < 1 || len(id) > 64 || !isToken(string(id)) {
		return Invalid("device", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// NodeID names one life of one process that can be pushed to: random, new at each
// start, so what the dead left behind is never taken for the living.
type NodeID string

// SessionID names one live connection; unique over all nodes and lives.
type SessionID string

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// Generation stands for "Redis has forgotten nothing since": a random token under
// one key. It is the epoch of a client's position.
type Generation string

// Position is how far a device has learned of its user's conversations: the
// version counts up inside one generation. Another generation makes it void.
type Position struct {
	Epoch   Generation `json:"epoch"`
	Version uint64     `json:"version"`
	// MergedAt is up to when channels that are merged at read are known, which move no
	// version: microseconds of Redis's clock; 0 where the user is in none.
	MergedAt int64 `json:"merged_at,omitempty"`
}

func (p Position) String() string { return fmt.Sprintf("%s/%d", p.Epoch, p.Version) }
