package im

import "encoding/json"

// Bounds of push tokens.
const (
	MaxPushTokenBytes    = 512
	MaxPushProviderBytes = 32
)

// PushTarget is one device that can be reached while it is not connected.
type PushTarget struct {
	User     UserID   `json:"user"`
	Device   DeviceID `json:"device"`
	Provider string   `json:"provider"` // "apns", "fcm" …: the provider interface's word, not ours
	Token    string   `json:"token"`
}

// NotifyTask asks to tell who is offline about a message. Nothing of it has an order to
// keep, and to tell twice is harmless: a device knows the notification by its key.
type NotifyTask struct {
	Seq       Seq             `json:"seq"`
	MessageID MessageID       `json:"message_id"`
	Sender    Sender          `json:"sender"`
	Type      MessageType     `json:"type"`
	Content   json.RawMessage `json:"content,omitempty"`
	About     About           `json:"about,omitzero"`
	StoredAt  int64           `json:"stored_at"`
	// Targets are who is left after an attempt; none: whoever is to be told.
	Targets   []PushTarget `json:"targets,omitempty"`
	Attempt   int          `json:"attempt,omitempty"`    // how many were made
	NotBefore int64        `json:"not_before,omitempty"` // Unix ms of the next
	Reason    string       `json:"reason,omitempty"`     // why the last one failed
}
