package im

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Limits on what a message may hold (RELIABILITY.md, 4). They are a superset of
// what the table's columns refuse, so an accepted message can be stored.
const (
	MaxTextBytes    = 8 << 10  // text of a text message, UTF-8
	MaxContentBytes = 16 << 10 // content of a custom message, compact JSON; a text escaped as JSON is at most 6 × MaxTextBytes
)

// MessageType says how content is to be read.
type MessageType string

const (
	TypeText   MessageType = "text"   // {"text": "…"}
	TypeCustom MessageType = "custom" // any JSON object, up to MaxContentBytes; carried, not understood
	TypeSystem MessageType = "system" // {"text": "…"} from SystemUser; uncounted
)

// Sender is who sent a message, as they were called when they did.
type Sender struct {
	ID       UserID `json:"id"`
	Handle   string `json:"handle"`
	Nickname string `json:"nickname"`
	Avatar   string `json:"avatar,omitempty"`
}

// Message is a stored message as everyone sees it. ClientMsgID is shown to its
// sender only (see ForReader).
type Message struct {
	Conversation ConversationID  `json:"conversation_id"`
	Seq          Seq             `json:"seq"`
	ID           MessageID       `json:"message_id"`
	ClientMsgID  ClientMsgID     `json:"client_msg_id,omitempty"`
	Sender       Sender          `json:"sender"`
	Type         MessageType     `json:"type"`
	Content      json.RawMessage `json:"content"`
	StoredAt     int64           `json:"stored_at"` // Unix milliseconds
	Hash         ContentHash     `json:"-"`         // of what the client sent
	Uncounted    Uncounted       `json:"-"`
}

// ForReader is the message as u may see it.
func (m Message) ForReader(u UserID) Message {
	if m.Sender.ID != u {
		m.ClientMsgID = ""
	}
	return m
}

// Uncounted says for whom a message does not raise the unread count.
type Uncounted uint8

const (
	CountedForAll      Uncounted = 0
	UncountedForSender Uncounted = 1 // sent on their behalf while away
	UncountedForAll    Uncounted = 2 // system messages
)

// ContentHash identifies what the client sent, taken before the filter and kept
// for as long as the message. It decides whether a reused client message ID means
// the same message. The first 16 bytes of SHA-256 over type and content.
type ContentHash [16]byte

// HashContent hashes a message's type and content, byte for byte as sent (after
// JSON white space between tokens was removed).
func HashContent(t MessageType, content json.RawMessage) ContentHash {
	h := sha256.New()
	h.Write([]byte(t))
	h.Write([]byte{0})
	h.Write(content)
	var sum ContentHash
	copy(sum[:], h.Sum(nil))
	return sum
}

// TextContent is the content of text and system messages.
type TextContent struct {
	Text string `json:"text"`
}

// ValidateText says whether s can be a message's text: valid UTF-8 of 1 to
// MaxTextBytes bytes, no NUL, and something to see in it.
func ValidateText(s string) error {
	switch {
	case len(s) > MaxTextBytes:
		return ErrTooLarge
	case !utf8.ValidString(s):
		return Invalid("content.text", "not valid UTF-8")
	case strings.ContainsRune(s, 0):
		return Invalid("content.text", "contains NUL")
	case strings.IndexFunc(s, Visible) < 0:
		return Invalid("content.text", "empty")
	}
	return nil
}
