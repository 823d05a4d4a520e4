package im

import (
	"encoding/json"
	"strings"
)

// Bounds of push tokens.
const (
	MaxPushTokenBytes    = 512
	MaxPushProviderBytes = 32
)

// ValidatePush says whether a device can be reached so: a provider is a short word, a
// token printable ASCII without spaces.
func ValidatePush(provider, token string) error {
	switch {
	case len(provider) == 0 || len(provider) > MaxPushProviderBytes || strings.Trim(provider, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "":
		return Invalid("provider", "must be 1 to 32 of a-z, 0-9, _ and -")
	case len(token) == 0 || len(token) > MaxPushTokenBytes || strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0:
		return Invalid("token", "must be 1 to 512 printable ASCII characters without spaces")
	}
	return nil
}

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
	// Users are who alone is to be told, where not everybody is: who is mentioned.
	Users []UserID `json:"users,omitempty"`
	// Targets are who is left after an attempt; none: whoever is to be told.
	Targets   []PushTarget `json:"targets,omitempty"`
	Attempt   int          `json:"attempt,omitempty"`    // how many were made
	NotBefore int64        `json:"not_before,omitempty"` // Unix ms of the next
	Reason    string       `json:"reason,omitempty"`     // why the last one failed
}

// NotifyQuery asks which devices are to be told about a message: of who is in the
// conversation and sees the message, has not read so far, has not muted it and did not
// send it, by (user, device).
type NotifyQuery struct {
	Conversation ConversationID
	Seq          Seq
	Sender       UserID
	Users        []UserID // nil: whoever is in it
	AfterUser    UserID   // where the last page ended
	AfterDevice  DeviceID
	Limit        int
}
