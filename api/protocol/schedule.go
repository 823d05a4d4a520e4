package protocol

import (
	"encoding/json"

	"github.com/curlew-im/curlew/logic/im"
)

// Scheduled is a message that waits for its time, or has: as its author sees it.
type Scheduled struct {
	ScheduleID     im.ScheduleID     `json:"schedule_id"`
	State          string            `json:"state"` // pending, in_queue, sent, failed, cancelled
	ConversationID im.ConversationID `json:"conversation_id"`
	ClientMsgID    im.ClientMsgID    `json:"client_msg_id"`
	DeliverAt      int64             `json:"deliver_at"` // Unix milliseconds
	Type           im.MessageType    `json:"type,omitempty"`
	Content        json.RawMessage   `json:"content,omitempty"`
	ReplyTo        *MessageRef       `json:"reply_to,omitempty"`
	Forward        *MessageRef       `json:"forward,omitempty"`
	Mentions       []im.UserID       `json:"mentions,omitempty"`
	MentionsAll    bool              `json:"mentions_all,omitempty"`
	ByServer       bool              `json:"by_server,omitempty"` // a backend scheduled it
	Reason         string            `json:"reason,omitempty"`    // the code for which it failed
	CreatedAt      int64             `json:"created_at"`
	UpdatedAt      int64             `json:"updated_at"`
}

// ScheduledPage answers GET /v1/scheduled, by deliver_at.
type ScheduledPage struct {
	Items   []Scheduled `json:"items"`
	HasMore bool        `json:"has_more"`
	Next    string      `json:"next,omitempty"` // pass as after
}

// AskScheduled is the query of GET /v1/scheduled.
type AskScheduled struct {
	State          im.ScheduleState
	ConversationID im.ConversationID
	After          string
	Limit          int
}

// ChangeScheduled is the body of PATCH /v1/scheduled/{id}; at least one field.
type ChangeScheduled struct {
	Content   json.RawMessage `json:"content,omitempty"`
	DeliverAt *int64          `json:"deliver_at,omitempty"` // Unix milliseconds
}
