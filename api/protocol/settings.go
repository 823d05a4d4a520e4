package protocol

import "github.com/curlew-im/curlew/logic/im"

// Settings is what a user has set for one conversation. They are the same on all of
// their devices, and nobody else's.
type Settings struct {
	Version  uint64 `json:"version"`             // counts up with each change
	PinnedAt int64  `json:"pinned_at,omitempty"` // Unix ms; absent: not pinned
	// MutedUntil is in Unix ms; 9007199254740991 (2^53-1) is for ever.
	MutedUntil int64 `json:"muted_until,omitempty"`
	// MarkedSeq says that the conversation is marked unread while read_seq is below it.
	MarkedSeq im.Seq `json:"marked_seq,omitempty"`
	// HiddenSeq says that the conversation is out of the list while last_seq is not
	// above it.
	HiddenSeq im.Seq `json:"hidden_seq,omitempty"`
	Draft     *Draft `json:"draft,omitempty"`
}

// Draft is what a user has begun to write.
type Draft struct {
	Text      string      `json:"text,omitempty"` // absent where it cannot be read just now; the answer is degraded, or its page over 512 KiB
	Device    im.DeviceID `json:"device,omitempty"`
	ChangedAt int64       `json:"changed_at"`
}

// ChangeSettings is the body of PATCH /v1/conversations/{id}/settings; absent fields
// stay.
type ChangeSettings struct {
	// Version, where given, is the one that is changed: settings at another are a
	// conflict. Without it the last change holds.
	Version      *uint64 `json:"version,omitempty"`
	Pinned       *bool   `json:"pinned,omitempty"`        // at most 50
	MutedUntil   *int64  `json:"muted_until,omitempty"`   // Unix ms; 0: not muted
	MarkedUnread *bool   `json:"marked_unread,omitempty"` // reading ends it too
	HiddenSeq    *im.Seq `json:"hidden_seq,omitempty"`    // the last seq that was seen; 0 shows it again
	Draft        *string `json:"draft,omitempty"`         // at most 8 KiB; "" takes it away
}

// SettingsOf is the data of settings.
type SettingsOf struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	ChangeSettings
}

// DeleteConversation is the data of delete_conversation: what was said up to a seq is
// gone for this user, and the conversation is out of the list until something is said
// after it.
type DeleteConversation struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	UpToSeq        im.Seq            `json:"up_to_seq"` // the last seq that was seen
}

// ConversationSettings answers settings and delete_conversation, and is pushed to the
// user's other devices.
type ConversationSettings struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	FloorSeq       im.Seq            `json:"floor_seq"` // deleted for this user up to here
	Settings       Settings          `json:"settings"`
}

// ShowSettings is s as its user sees it; draft is nil where it is not known.
func ShowSettings(s im.Settings, draft *im.Draft) Settings {
	shown := Settings{
		Version: s.Version, PinnedAt: s.PinnedAt, MutedUntil: s.MutedUntil, MarkedSeq: s.Marked, HiddenSeq: s.Hidden,
	}
	switch {
	case draft != nil && draft.ChangedAt > 0:
		shown.Draft = &Draft{Text: draft.Text, Device: draft.Device, ChangedAt: draft.ChangedAt}
	case draft == nil && s.DraftAt > 0:
		shown.Draft = &Draft{ChangedAt: s.DraftAt}
	}
	return shown
}
