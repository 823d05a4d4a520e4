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
	TypeText     MessageType = "text"   // {"text": "…"}
	TypeCustom   MessageType = "custom" // any JSON object, up to MaxContentBytes; carried, not understood
	TypeSystem   MessageType = "system" // {"text": "…"} from SystemUser; uncounted
	TypeImage    MessageType = "image"
	TypeFile     MessageType = "file"
	TypeAudio    MessageType = "audio"
	TypeVideo    MessageType = "video"    // these four: MediaContent
	TypeLocation MessageType = "location" // LocationContent
	TypeNotice   MessageType = "notice"   // Notice, from SystemUser; uncounted
)

// Known says whether t is one of the types.
func (t MessageType) Known() bool {
	switch t {
	case TypeText, TypeCustom, TypeSystem, TypeImage, TypeFile, TypeAudio, TypeVideo, TypeLocation, TypeNotice:
		return true
	}
	return false
}

// Tombstone is the content of a message that was recalled, or deleted for its reader.
var Tombstone = json.RawMessage(`{}`)

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
	About
	Change     uint64      `json:"change,omitempty"`      // the last one that changed it
	EditedAt   int64       `json:"edited_at,omitempty"`   // Unix milliseconds
	RecalledAt int64       `json:"recalled_at,omitempty"` // Unix milliseconds; the content is gone
	Deleted    bool        `json:"deleted,omitempty"`     // by the reader, for themselves; the content is left out
	Reactions  []Reaction  `json:"reactions,omitempty"`   // in the order in which they first came
	Hash       ContentHash `json:"-"`                     // of what the client sent
	Uncounted  Uncounted   `json:"-"`
	Edits      int         `json:"-"` // how often it was edited
	EditChange uint64      `json:"-"` // the last change that was an edit
	// Membership is what a notice changes, on its way to the table.
	Membership *Membership `json:"-"`
}

// About is what a message refers to.
type About struct {
	ReplyTo       *Quote         `json:"reply_to,omitempty"`
	ForwardedFrom *ForwardedFrom `json:"forwarded_from,omitempty"`
	Mentions      []UserID       `json:"mentions,omitempty"`
	MentionsAll   bool           `json:"mentions_all,omitempty"`
}

// Empty says that there is nothing to keep.
func (a *About) Empty() bool {
	return a.ReplyTo == nil && a.ForwardedFrom == nil && len(a.Mentions) == 0 && !a.MentionsAll
}

// Quote is a message that another replies to, as it was then.
type Quote struct {
	Seq      Seq         `json:"seq"`
	Sender   Sender      `json:"sender"`
	Type     MessageType `json:"type"`
	Text     string      `json:"text,omitempty"`     // its beginning, at most QuoteLength characters; or a file's name
	Recalled bool        `json:"recalled,omitempty"` // since: the text is gone
}

// QuoteLength bounds the text in a Quote, in characters.
const QuoteLength = 100

// MaxMentions bounds Mentions.
const MaxMentions = 50

// ForwardedFrom names who said it first; where is not told.
type ForwardedFrom struct {
	Nickname string `json:"nickname"`
}

// Recall makes m its tombstone.
func (m *Message) Recall(change uint64, at int64) {
	m.Content, m.About, m.Reactions = Tombstone, About{}, nil
	m.EditedAt, m.RecalledAt, m.Change = 0, at, change
}

// Delete leaves of m what its reader sees of a message they deleted for themselves:
// that there is one, so that its seq is not taken for a hole.
func (m *Message) Delete() {
	m.Content, m.About, m.Reactions, m.EditedAt, m.Deleted = Tombstone, About{}, nil, 0, true
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

// MediaContent is the content of image, file, audio and video messages. The file is
// elsewhere: uploading and serving it is the application's.
type MediaContent struct {
	URL        string     `json:"url"`
	MIME       string     `json:"mime"`
	Size       int64      `json:"size"`             // bytes
	SHA256     string     `json:"sha256,omitempty"` // 64 hex digits
	Name       string     `json:"name,omitempty"`
	Width      int        `json:"width,omitempty"` // pixels, as Height
	Height     int        `json:"height,omitempty"`
	DurationMS int64      `json:"duration_ms,omitempty"`
	Thumbnail  *Thumbnail `json:"thumbnail,omitempty"`
}

// Thumbnail is a small picture of an image, file or video.
type Thumbnail struct {
	URL    string `json:"url"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
}

// LocationContent is the content of a location message, WGS 84 degrees.
type LocationContent struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
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
