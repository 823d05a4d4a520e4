package protocol

import (
	"encoding/json"

	"github.com/curlew-im/curlew/logic/im"
)

// Subprotocol is offered and chosen in the WebSocket handshake.
const Subprotocol = "curlew.v1.json"

// Command names what a request asks for.
type Command string

// The commands of the socket.
const (
	CmdConnect        Command = "connect" // must be first
	CmdSend           Command = "send"
	CmdAck            Command = "ack"  // delivered up to a seq
	CmdRead           Command = "read" // read up to a seq; implies delivered
	CmdSync           Command = "sync"
	CmdHistory        Command = "history"
	CmdOffline        Command = "offline"
	CmdRefresh        Command = "refresh" // a newer access token for this session
	CmdPing           Command = "ping"
	CmdChange         Command = "change"          // recall, edit, react
	CmdDeleteMessages Command = "delete_messages" // for oneself
	CmdDeletions      Command = "deletions"       // what one has deleted for oneself

	CmdPresence Command = "presence" // who is online, now and from now on
	CmdTyping   Command = "typing"   // to the other side; never stored
	CmdSettings Command = "settings" // of one conversation: pin, mute, mark unread, hide, draft
	CmdDelete   Command = "delete_conversation"
)

// Request is a frame from a client: {"id":"1","cmd":"send","data":{…}}.
type Request struct {
	ID   string          `json:"id"` // 1 to 64 bytes, chosen by the client
	Cmd  Command         `json:"cmd"`
	Data json.RawMessage `json:"data"`
}

// Reply answers one request: {"id":"1","data":{…}} or {"id":"1","error":{…}}.
type Reply struct {
	ID    string `json:"id"`
	Data  any    `json:"data,omitempty"`
	Error *Error `json:"error,omitempty"`
}

// Connect is the data of connect.
type Connect struct {
	Token    string      `json:"token"`
	Device   im.DeviceID `json:"device"` // as in the token
	Platform string      `json:"platform,omitempty"`
}

// Connected answers connect.
type Connected struct {
	SessionID   im.SessionID `json:"session_id"`
	User        im.Profile   `json:"user"`
	ExpiresAt   int64        `json:"expires_at"` // of the token; closed with 4401 then unless refreshed
	HeartbeatMS int64        `json:"heartbeat_ms"`
	ServerTime  int64        `json:"server_time"`
	Limits      Limits       `json:"limits"`
}

// Limits are what a client should keep to.
type Limits struct {
	MaxMessageBytes int `json:"max_message_bytes"` // a socket message, reassembled
	MaxTextBytes    int `json:"max_text_bytes"`
	MaxPage         int `json:"max_page"`
	SendPerSecond   int `json:"send_per_second"`
	SendBurst       int `json:"send_burst"`
}

// To says where a message goes; exactly one field is set.
type To struct {
	UserID         *im.UserID        `json:"user_id,omitempty"`
	Handle         string            `json:"handle,omitempty"`
	ExternalID     string            `json:"external_id,omitempty"`
	ConversationID im.ConversationID `json:"conversation_id,omitempty"`
}

// Send is the data of send, and the body of POST /v1/messages.
type Send struct {
	ClientMsgID im.ClientMsgID  `json:"client_msg_id"`
	To          To              `json:"to"`
	Type        im.MessageType  `json:"type,omitempty"`    // default text
	Content     json.RawMessage `json:"content,omitempty"` // required, but not of what is forwarded
	ReplyTo     *MessageRef     `json:"reply_to,omitempty"`
	Forward     *MessageRef     `json:"forward,omitempty"`      // instead of type and content
	Mentions    []im.UserID     `json:"mentions,omitempty"`     // members of the conversation, at most 50
	MentionsAll bool            `json:"mentions_all,omitempty"` // in a channel, by admins
	// DeliverAt schedules the message for a time in Unix milliseconds, at most 366 days
	// ahead; what is past is due at once.
	DeliverAt int64 `json:"deliver_at,omitempty"`
}

// MessageRef names a message: one to reply to, in the conversation of the send, where
// ConversationID may be left out; or one to forward, which the sender can see.
type MessageRef struct {
	ConversationID im.ConversationID `json:"conversation_id,omitempty"`
	Seq            im.Seq            `json:"seq"`
}

// SendState is how far an accepted message has come.
type SendState string

const (
	StateAccepted SendState = "accepted" // Kafka has it
	StateStored   SendState = "stored"   // MySQL has committed it; Seq and MessageID are set

	StateScheduled SendState = "scheduled" // it waits for its time; ScheduleID and DeliverAt are set
)

// Sent answers send.
type Sent struct {
	State          SendState         `json:"state"`
	ConversationID im.ConversationID `json:"conversation_id"`
	ClientMsgID    im.ClientMsgID    `json:"client_msg_id"`
	Seq            im.Seq            `json:"seq,omitempty"`
	MessageID      *im.MessageID     `json:"message_id,omitempty"`
	StoredAt       int64             `json:"stored_at,omitempty"`
	ScheduleID     *im.ScheduleID    `json:"schedule_id,omitempty"`
	DeliverAt      int64             `json:"deliver_at,omitempty"` // Unix milliseconds
}

// Receipt is the data of ack and read, and answers them with the seq after merging
// and clamping as far as it is known.
type Receipt struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	Seq            im.Seq            `json:"seq"`
}

// History is the data of history. At most one of Before, After, Around and AfterChange.
type History struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	BeforeSeq      *im.Seq           `json:"before_seq,omitempty"`
	AfterSeq       *im.Seq           `json:"after_seq,omitempty"`
	Around         *im.Seq           `json:"around,omitempty"`
	AfterChange    *uint64           `json:"after_change,omitempty"`
	Limit          int               `json:"limit,omitempty"` // default 50, at most 100
}

// Page answers history and an offline pull; items ascend by seq. It may be shorter than
// the limit though there is more: contents are together at most 512 KiB.
type Page struct {
	Items []im.Message `json:"items"`
	// HasMore is in the direction asked for: before, unless after_seq was given.
	HasMore bool `json:"has_more"`
	// HasMoreAfter is set for around only, where HasMore means before.
	HasMoreAfter bool `json:"has_more_after,omitempty"`
	// Change is set for after_change, whose items ascend by change, each message as it
	// now is and once: the change up to which they are complete.
	Change *uint64 `json:"change,omitempty"`
	// FirstSeq is the first that this user may see, where it is not 1: what was said
	// before they joined, or they have deleted, is no hole.
	FirstSeq im.Seq `json:"first_seq,omitempty"`
}

// Conversation is one row of a user's list.
type Conversation struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	Kind           string            `json:"kind"` // direct, channel
	Peer           *im.Profile       `json:"peer,omitempty"`
	Channel        *ChannelRef       `json:"channel,omitempty"`
	// FirstSeq is the first that the user may see, where it is not 1. Left says that they
	// are in it no longer; LastSeq is then the last that they see.
	FirstSeq      im.Seq      `json:"first_seq,omitempty"`
	Left          bool        `json:"left,omitempty"`
	LastSeq       im.Seq      `json:"last_seq"`
	LastChange    uint64      `json:"last_change"`
	LastMessage   *im.Message `json:"last_message,omitempty"` // absent while MySQL is away, or where the page's are over 512 KiB
	DeliveredSeq  im.Seq      `json:"delivered_seq"`
	ReadSeq       im.Seq      `json:"read_seq"`
	Unread        uint64      `json:"unread"`
	PeerDelivered im.Seq      `json:"peer_delivered_seq"`
	PeerRead      im.Seq      `json:"peer_read_seq"`
	// MentionedSeq is the last message that mentions the user, until it is read.
	MentionedSeq im.Seq `json:"mentioned_seq,omitempty"`
	// Deletions is the number of the user's last deletion for themselves here.
	Deletions uint64 `json:"deletions,omitempty"`
	FloorSeq  im.Seq `json:"floor_seq,omitempty"` // deleted for this user up to here
	// Hidden says that the conversation is not in the list: it was hidden or deleted, and
	// nothing was said since.
	Hidden       bool      `json:"hidden,omitempty"`
	MarkedUnread bool      `json:"marked_unread,omitempty"`
	Settings     *Settings `json:"settings,omitempty"` // absent: nothing was ever set
}

// Conversations answers GET /v1/conversations.
type Conversations struct {
	Items       []Conversation `json:"items"`
	HasMore     bool           `json:"has_more"`
	Next        string         `json:"next,omitempty"` // pass as before
	UnreadTotal uint64         `json:"unread_total"`
	UnreadBadge uint64         `json:"unread_badge"` // unread_total without what is muted
	Degraded    bool           `json:"degraded,omitempty"`
}

// Sync is the data of sync. Without a position everything is returned.
type Sync struct {
	Position *im.Position `json:"position,omitempty"`
	// Before pages on through a full sync: the last answer's Next.
	Before string `json:"before,omitempty"`
	Limit  int    `json:"limit,omitempty"` // conversations, default and at most 100
}

// Synced is everything that a starting client needs, in one round trip.
type Synced struct {
	User im.Profile `json:"user"`
	// Full says that Conversations is the list from its top, to be taken instead of
	// what the client has; else it is what changed since the given position.
	Full          bool           `json:"full"`
	Conversations []Conversation `json:"conversations"`
	HasMore       bool           `json:"has_more"`       // full: page on with Next; else: sync again from Position
	Next          string         `json:"next,omitempty"` // full: pass as before, here or to GET /v1/conversations
	UnreadTotal   uint64         `json:"unread_total"`   // over what is in the list
	UnreadBadge   uint64         `json:"unread_badge"`   // unread_total without what is muted
	// ContactsVersion is how far the user's contacts have come: another than the
	// client's says to ask GET /v1/contacts since. Absent on later pages of a full sync,
	// and while it is not known.
	ContactsVersion *uint64         `json:"contacts_version,omitempty"`
	Offline         []OfflineSource `json:"offline"`
	Position        im.Position     `json:"position"`
	ServerTime      int64           `json:"server_time"`
	Limits          Limits          `json:"limits"`
	Degraded        bool            `json:"degraded,omitempty"`
}

// OfflineSource is one conversation with messages that no device has acked.
type OfflineSource struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	Peer           *im.Profile       `json:"peer,omitempty"`
	Channel        *ChannelRef       `json:"channel,omitempty"`
	Count          uint64            `json:"count"` // at most 1,000
	LastMessageID  im.MessageID      `json:"last_message_id"`
	DeliveredSeq   im.Seq            `json:"delivered_seq"`
	LastSeq        im.Seq            `json:"last_seq"`
}

// OfflineSources answers GET /v1/offline.
type OfflineSources struct {
	Items    []OfflineSource `json:"items"`
	Degraded bool            `json:"degraded,omitempty"`
}

// OfflinePull is the data of offline: messages after what was last acked.
type OfflinePull struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	AfterSeq       im.Seq            `json:"after_seq,omitempty"` // to page within one pull; at least delivered_seq
	Limit          int               `json:"limit,omitempty"`     // default and at most 100
}

// Refresh is the data of refresh.
type Refresh struct {
	Token string `json:"token"`
}

// Refreshed answers refresh.
type Refreshed struct {
	ExpiresAt int64 `json:"expires_at"`
}

// Ping is the data of ping.
type Ping struct {
	Position *im.Position `json:"position,omitempty"`
}

// Pong answers ping with what differs from the client's position.
type Pong struct {
	Position      im.Position `json:"position"`
	Conversations []Digest    `json:"conversations,omitempty"` // at most 100
	HasMore       bool        `json:"has_more,omitempty"`
	// StartOver says the position is of another generation: sync without one.
	StartOver  bool  `json:"start_over,omitempty"`
	ServerTime int64 `json:"server_time"`
	Degraded   bool  `json:"degraded,omitempty"` // positions unknown just now
}

// Digest is how far one conversation has come.
type Digest struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	LastSeq        im.Seq            `json:"last_seq"`
	LastChange     uint64            `json:"last_change"`
	ReadSeq        im.Seq            `json:"read_seq"`
	Deletions      uint64            `json:"deletions,omitempty"`
	FloorSeq       im.Seq            `json:"floor_seq,omitempty"` // deleted for this user up to here
	// SettingsVersion, where it is not the client's, says to sync from its position.
	SettingsVersion uint64 `json:"settings_version,omitempty"`
}

// Push names what the server says unasked.
type Push string

const (
	PushMessage  Push = "message"   // im.Message
	PushStored   Push = "stored"    // Stored, to the sender's devices
	PushRejected Push = "rejected"  // Rejected, to the sender's devices
	PushChanged  Push = "changed"   // Changed, to everyone
	PushDeleted  Push = "deleted"   // Deleted, to one's own devices
	PushReceipt  Push = "receipt"   // CursorMoved, to the other side
	PushReadSelf Push = "read_self" // CursorMoved, to one's own devices
	PushContact  Push = "contact"   // ContactChanged, to both sides' devices
	PushPresence Push = "presence"  // Presence, to who has subscribed
	PushTyping   Push = "typing"    // TypingNow, to the other side
	PushKicked   Push = "kicked"    // Kicked, right before the close
	PushNudge    Push = "nudge"     // pushes may have been lost: ping with the position now

	PushSettings Push = "conversation" // ConversationSettings, to one's other devices
)

// PushFrame is a push: {"push":"message","data":{…}}.
type PushFrame struct {
	Push Push `json:"push"`
	Data any  `json:"data"`
}

// Stored says that an accepted message has its place.
type Stored struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	ClientMsgID    im.ClientMsgID    `json:"client_msg_id"`
	Seq            im.Seq            `json:"seq"`
	MessageID      im.MessageID      `json:"message_id"`
	StoredAt       int64             `json:"stored_at"`
}

// Rejected says that an accepted message will never appear, or that an accepted change
// has changed nothing; the ID that is set says which.
type Rejected struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	ClientMsgID    im.ClientMsgID    `json:"client_msg_id,omitempty"`
	ClientChangeID im.ClientChangeID `json:"client_change_id,omitempty"`
	Code           string            `json:"code"`
	Message        string            `json:"message"`
}

// CursorMoved says how far a member has come; zero says nothing. Of a channel the
// senders of what was received or read are told, about once a second, and nobody where
// it is merged at read: they may ask.
type CursorMoved struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	UserID         im.UserID         `json:"user_id"`
	DeliveredSeq   im.Seq            `json:"delivered_seq,omitempty"`
	ReadSeq        im.Seq            `json:"read_seq,omitempty"`
}

// Kicked says why the connection is about to be closed.
type Kicked struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
}
