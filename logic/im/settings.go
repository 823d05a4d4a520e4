package im

import (
	"strings"
	"unicode/utf8"
)

// Bounds on what a user sets for conversations.
const (
	MaxPinned     = 50      // pinned conversations of a user
	MaxDraftBytes = 8 << 10 // of a draft, UTF-8: what a text may have
	// MutedForever is a time like any other that all clocks are before: who compares
	// needs no second case, and JavaScript holds it exactly.
	MutedForever int64 = MaxID
)

// Settings is what a user has set for one conversation. It is not monotone: of two
// the one with the higher version holds, and nothing of it is a max. Zero: never set.
type Settings struct {
	Version    uint64 // counts up with each change of this conversation's settings
	PinnedAt   int64  // Unix ms; 0: not pinned
	MutedUntil int64  // Unix ms; MutedForever; 0: not muted
	// Marked is above the user's read seq while the conversation is marked unread: one
	// more than its last seq when it was marked. What is read or sent later ends the
	// mark by itself; to say "read" again ends it too. The cursor is never lowered.
	Marked  Seq
	Hidden  Seq   // out of the list until there is a message above it
	DraftAt int64 // Unix ms of the draft's last change; 0: there is none
}

// Muted says whether the conversation is muted at a time in Unix milliseconds.
func (s Settings) Muted(at int64) bool { return s.MutedUntil > at }

// Draft is what a user has begun to write. It is kept in MySQL alone.
type Draft struct {
	Text      string
	Device    DeviceID // that wrote it last
	ChangedAt int64    // Unix ms
}

// SettingsChange changes what is not nil.
type SettingsChange struct {
	Version      *uint64 // ErrConflict where the settings are at another
	Pinned       *bool
	MutedUntil   *int64
	MarkedUnread *bool
	Hidden       *Seq // cut to the last seq; 0 shows the conversation again
	Draft        *string
	Device       DeviceID // that changes them
}

// Validate returns an InvalidError for what can be no setting, ErrTooLarge for a draft
// that is too long.
func (c SettingsChange) Validate() error {
	switch {
	case c.Pinned == nil && c.MutedUntil == nil && c.MarkedUnread == nil && c.Hidden == nil && c.Draft == nil:
		return Invalid("settings", "nothing to change")
	case c.MutedUntil != nil && (*c.MutedUntil < 0 || *c.MutedUntil > MutedForever):
		return Invalid("muted_until", "must be Unix milliseconds from 0 to 2^53-1")
	case c.Draft == nil:
		return nil
	case len(*c.Draft) > MaxDraftBytes:
		return ErrTooLarge
	case !utf8.ValidString(*c.Draft):
		return Invalid("draft", "not valid UTF-8")
	case strings.ContainsRune(*c.Draft, 0):
		return Invalid("draft", "contains NUL")
	}
	return nil
}

// SettingsRow is what MySQL has after a change.
type SettingsRow struct {
	Conversation ConversationID
	Settings     Settings
	Draft        Draft
	Floor        Seq  // deleted for this user up to here
	Changed      bool // else all was so before
}

// UnreadTotal is what is unread in a user's list.
type UnreadTotal struct {
	All   uint64
	Badge uint64 // without what is muted
}

// ListFilter says which conversations of a list are wanted.
type ListFilter string

const (
	ListAll    ListFilter = ""
	ListPinned ListFilter = "pinned"
	ListUnread ListFilter = "unread" // or marked so
)

// Validate returns an InvalidError for another word.
func (f ListFilter) Validate() error {
	if f != ListAll && f != ListPinned && f != ListUnread {
		return Invalid("filter", "must be pinned or unread")
	}
	return nil
}

// Takes says whether a conversation, its unread counted, is wanted.
func (f ListFilter) Takes(s *ConversationState) bool {
	switch f {
	case ListPinned:
		return s.Settings.PinnedAt > 0
	case ListUnread:
		return s.Unread > 0 || s.MarkedUnread()
	}
	return true
}
