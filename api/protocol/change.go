package protocol

import (
	"encoding/json"

	"github.com/curlew-im/curlew/logic/im"
)

// Change is the data of change, and the body of POST
// /v1/conversations/{id}/messages/{seq}/changes, where the path names the message.
type Change struct {
	ClientChangeID im.ClientChangeID `json:"client_change_id"`
	ConversationID im.ConversationID `json:"conversation_id,omitempty"`
	Seq            im.Seq            `json:"seq,omitempty"`
	Kind           im.ChangeKind     `json:"kind"`
	Content        json.RawMessage   `json:"content,omitempty"`     // of an edit: {"text": "…"}
	BaseChange     *uint64           `json:"base_change,omitempty"` // of an edit: refused where the message has changed since
	Reaction       string            `json:"reaction,omitempty"`
}

// ChangeAnswer answers change.
type ChangeAnswer struct {
	State          SendState         `json:"state"`
	ConversationID im.ConversationID `json:"conversation_id"`
	ClientChangeID im.ClientChangeID `json:"client_change_id"`
	Change         uint64            `json:"change,omitempty"` // once stored
}

// Changed says that a change has its number. A device whose position in the
// conversation's changes is the number before moves to it; any other pulls
// after_change.
type Changed struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	Change         uint64            `json:"change"`
	Kind           im.ChangeKind     `json:"kind"`
	UserID         im.UserID         `json:"user_id"` // who changed it
	Reaction       string            `json:"reaction,omitempty"`
	ClientChangeID im.ClientChangeID `json:"client_change_id,omitempty"` // to who changed it only
	// Message is as it now is; absent where a change that was accepted could not be made
	// any more, and has only its number.
	Message *im.Message `json:"message,omitempty"`
}

// DeleteMessages is the data of delete_messages, and the body of POST
// /v1/conversations/{id}/deletions, where the path names the conversation.
type DeleteMessages struct {
	ConversationID im.ConversationID `json:"conversation_id,omitempty"`
	Seqs           []im.Seq          `json:"seqs"` // 1 to 100
}

// Deleted tells the user's devices what they have deleted for themselves; numbers that
// do not follow the device's position are pulled by GET
// /v1/conversations/{id}/deletions.
type Deleted struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	Items          []im.Hidden       `json:"items"`
}

// AskDeletions is the data of deletions.
type AskDeletions struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	After          uint64            `json:"after,omitempty"` // the number of the last one known
	Limit          int               `json:"limit,omitempty"` // default and at most 100
}

// Deletions answers deletions and GET /v1/conversations/{id}/deletions, by number.
type Deletions struct {
	Items   []im.Hidden `json:"items"`
	HasMore bool        `json:"has_more"`
}

// Edit is what a message said before an edit, or says now.
type Edit struct {
	Change  uint64          `json:"change"` // by which it came to say that; 0 at first
	Content json.RawMessage `json:"content"`
	At      int64           `json:"at"` // since when, Unix milliseconds
}

// Edits answers GET …/messages/{seq}/edits: all that the message ever said, at most 101,
// the first first and the present last.
type Edits struct {
	Items []Edit `json:"items"`
}

// Reactor is one who reacted to a message.
type Reactor struct {
	User     im.Profile `json:"user"`
	Reaction string     `json:"reaction"`
	Change   uint64     `json:"change"`
}

// Reactors answers GET …/messages/{seq}/reactions, by change, the first first.
type Reactors struct {
	Items   []Reactor `json:"items"`
	HasMore bool      `json:"has_more"`
	Next    string    `json:"next,omitempty"` // pass as after
}
