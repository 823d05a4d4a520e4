package im

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what changes add to a message. The strand, which sees all changes in
// order, holds to them.
const (
	MaxReactions     = 20  // distinct reactions of one message
	MaxReactionBytes = 32  // one emoji with its joiners, modifiers and tags
	MaxEdits         = 100 // of one message
	MaxHidden        = 100 // messages deleted for oneself in one request
)

// ChangeKind says what happens to a stored message.
type ChangeKind string

const (
	ChangeRecall  ChangeKind = "recall"  // its sender takes it back: a tombstone stays
	ChangeEdit    ChangeKind = "edit"    // its sender says it otherwise, text only
	ChangeReact   ChangeKind = "react"   // adds one's reaction
	ChangeUnreact ChangeKind = "unreact" // takes it away
)

// Known says whether k is one of the kinds.
func (k ChangeKind) Known() bool {
	return k == ChangeRecall || k == ChangeEdit || k == ChangeReact || k == ChangeUnreact
}

// ChangeOutcome of a change that was accepted, as the strand decided it. Whatever it is, the
// change has its number: decided once, it is decided for ever, whoever reads the log
// again.
type ChangeOutcome uint8

const (
	ChangeDone         ChangeOutcome = 0
	ChangeNoMessage    ChangeOutcome = 1 // nothing at that seq, or not the actor's to change
	ChangeRecalled     ChangeOutcome = 2 // the message has been recalled
	ChangeMoved        ChangeOutcome = 3 // another change came after the base
	ChangeTooManyEdits ChangeOutcome = 4
	ChangeTooManyKinds ChangeOutcome = 5 // of reactions
)

// Err is what the outcome means to who asked; nil where it was done.
func (o ChangeOutcome) Err() error {
	switch o {
	case ChangeDone:
		return nil
	case ChangeNoMessage:
		return ErrNotFound
	case ChangeRecalled:
		return ErrRecalled
	case ChangeMoved:
		return ErrEditConflict
	case ChangeTooManyEdits:
		return &FullError{Limit: "edits", Max: MaxEdits}
	case ChangeTooManyKinds:
		return &FullError{Limit: "reactions", Max: MaxReactions}
	}
	return ErrUnstorable
}

// ChangeTask is an accepted change on its way to be applied.
type ChangeTask struct {
	Actor          UserID
	ClientChangeID ClientChangeID
	Kind           ChangeKind
	Seq            Seq
	Content        json.RawMessage // of an edit, filtered
	Base           *uint64         // of an edit: the message's change as its author saw it
	Reaction       string
	Hash           ContentHash // of what the client asked for
	// Manages says that the actor may recall what others said: an admin of the group.
	Manages bool
	Origin  Origin
}

// HideTask deletes messages for one user.
type HideTask struct {
	User UserID
	Seqs []Seq
}

// ChangeKey identifies a change for ever.
type ChangeKey struct {
	Conversation   ConversationID
	Actor          UserID
	ClientChangeID ClientChangeID
}

// ChangeRef says what became of an accepted change.
type ChangeRef struct {
	Change  uint64 // its number in the conversation: 1, 2, 3 … without holes
	Seq     Seq
	Outcome ChangeOutcome
	Hash    ContentHash
}

// StoredChange is a row of the conversation's changes.
type StoredChange struct {
	ChangeKey
	ChangeRef
	Kind ChangeKind
	At   int64
}

// Place is where a message stands.
type Place struct {
	Conversation ConversationID
	Seq          Seq
}

// ReactionKey is one user's reaction to one message.
type ReactionKey struct {
	Place
	User     UserID
	Reaction string
}

// Reaction is how often a message was reacted to in one way.
type Reaction struct {
	Reaction string `json:"reaction"`
	Count    uint64 `json:"count"`
	Mine     bool   `json:"mine,omitempty"` // the reader's is among them; not in pushes
}

// Reactor is one who reacted.
type Reactor struct {
	User     UserID
	Reaction string
	Change   uint64 // by which they did
}

// FormerContent is what a message said before an edit.
type FormerContent struct {
	Place
	Change  uint64 // the edit that ended it
	Content json.RawMessage
	At      int64 // since when it had said that
}

// ChangeBasis is what a strand must know to decide changes. The last changes are read
// first: whatever was written since makes the numbers given from them clash.
type ChangeBasis struct {
	Last     map[ConversationID]uint64
	Known    map[ChangeKey]ChangeRef
	Messages map[Place]Message
	Reacted  map[ReactionKey]bool
}

// ChangeSet is what the changes of one batch come to, written whole or not at all.
type ChangeSet struct {
	Changes  []StoredChange
	Messages []Message // as they now are; applied where the row's own change is lower
	Former   []FormerContent
	React    []ReactionKey // with the change in Reacted
	Reacted  []uint64
	Unreact  []ReactionKey
	Recalled []Place // their reactions and former contents go; uncounted for all
}

// Hide is messages of one conversation deleted for one user.
type Hide struct {
	Conversation ConversationID
	User         UserID
	Seqs         []Seq
}

// Hidden is a message deleted for a user, with the number that this has among the
// user's deletions in the conversation: 1, 2, 3 … without holes.
type Hidden struct {
	Seq      Seq    `json:"seq"`
	Deletion uint64 `json:"deletion"`
}

// HashChange hashes what a client asks for, so that a reused client change ID is told
// from a retry.
func HashChange(seq Seq, k ChangeKind, content json.RawMessage, base *uint64, reaction string) ContentHash {
	h := sha256.New()
	var n [17]byte
	binary.BigEndian.PutUint64(n[:8], uint64(seq))
	if base != nil {
		n[8] = 1
		binary.BigEndian.PutUint64(n[9:], *base)
	}
	h.Write(n[:])
	for _, s := range [...]string{string(k), reaction, string(content)} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	var sum ContentHash
	copy(sum[:], h.Sum(nil))
	return sum
}

// ValidateReaction takes an emoji: one that shows, in at most MaxReactionBytes, and no
// word, which would go round the filter.
func ValidateReaction(s string) error {
	if s == "" || len(s) > MaxReactionBytes || !utf8.ValidString(s) {
		return Invalid("reaction", "must be an emoji of at most 32 bytes")
	}
	shows := strings.Contains(s, "\u20e3") // a keycap: a digit in a frame
	for _, r := range s {
		switch {
		case r == '\u2139' || unicode.In(r, unicode.So, unicode.Sm):
			shows = true
		case r == '\u203c' || r == '\u2049' || r == '\u3030' || r == '\u303d':
			shows = true
		case unicode.In(r, unicode.Sk, unicode.Mn, unicode.Me):
		case r == '\u200d' || r >= 0xE0020 && r <= 0xE007F: // joiner, tags of flags
		case r >= '0' && r <= '9' || r == '#' || r == '*':
		default:
			return Invalid("reaction", "must be an emoji")
		}
	}
	if !shows || s[0] < utf8.RuneSelf && !strings.Contains(s, "\u20e3") {
		return Invalid("reaction", "must be an emoji")
	}
	return nil
}
