package im

import "fmt"

// Bounds on what one user keeps about others.
const (
	MaxContacts        = 5000
	MaxContactRequests = 1000 // pending, incoming and outgoing each
	MaxBlocks          = 5000
	MaxRemark          = 64  // characters
	MaxRequestMessage  = 200 // characters
)

// ContactRequestID numbers a request to become contacts.
type ContactRequestID uint64

// ParseContactRequestID reads a decimal request ID.
func ParseContactRequestID(s string) (ContactRequestID, error) {
	n, ok := parseID(s)
	if !ok {
		return 0, Invalid("request_id", "not a request ID")
	}
	return ContactRequestID(n), nil
}

// MarshalText makes JSON show the ID as a string.
func (r ContactRequestID) MarshalText() ([]byte, error) { return UserID(r).MarshalText() }

// UnmarshalText accepts the canonical decimal form only.
func (r *ContactRequestID) UnmarshalText(b []byte) error {
	n, err := ParseContactRequestID(string(b))
	*r = n
	return err
}

func (r ContactRequestID) String() string { return UserID(r).String() }

// ContactState is what a user has to do with another.
type ContactState string

const (
	ContactNone     ContactState = "none" // removed, withdrawn, or refused by oneself
	ContactYes      ContactState = "contact"
	ContactOutgoing ContactState = "outgoing" // asked, no answer yet
	ContactIncoming ContactState = "incoming" // was asked, has not answered yet
	ContactRefused  ContactState = "refused"  // asked, and was refused
)

// Contact is one user's entry about another.
type Contact struct {
	User      UserID // whose entry
	Peer      UserID // about whom
	State     ContactState
	Request   ContactRequestID // pending, or the one that was accepted; else 0
	Message   string           // of a pending request
	Remark    string           // the user's private name for a contact
	Version   uint64           // of the user's contacts, taken by the last change of this entry
	ChangedAt int64            // Unix milliseconds
}

// ContactEvent names what happened between two users.
type ContactEvent string

const (
	ContactRequested ContactEvent = "requested"
	ContactAccepted  ContactEvent = "accepted" // also where both had asked
	ContactDeclined  ContactEvent = "refused"  // also where the one asked has blocked the other
	ContactWithdrawn ContactEvent = "withdrawn"
	ContactRemoved   ContactEvent = "removed"
	ContactRemarked  ContactEvent = "remark"
)

// ContactChange is a change with the entries of both sides as they are after it.
type ContactChange struct {
	Event ContactEvent // empty: it was so already
	Mine  Contact      // of who made the change
	// Theirs is the other side's; its zero value says that it has not changed.
	Theirs Contact
}

// ContactPage is one page of a user's contacts and pending requests.
type ContactPage struct {
	Items   []Contact
	HasMore bool
	// Full says that the items are the list from its top by peer, without entries that
	// have ended; else they are what changed since a version, by version, and hold
	// those as well.
	Full bool
	// Version is how far a client is with this page applied; of a full list, with all
	// of its pages applied, as it was noted at the first (0 on the others).
	Version uint64
}

// MessagePolicy is who may send somebody messages.
type MessagePolicy string

const (
	MessagesFromEveryone MessagePolicy = "everyone" // who is not blocked
	MessagesFromContacts MessagePolicy = "contacts"
)

// Validate returns an InvalidError for another word.
func (p MessagePolicy) Validate() error {
	if p != MessagesFromEveryone && p != MessagesFromContacts {
		return Invalid("message_policy", "must be everyone or contacts")
	}
	return nil
}

// Peer is what a sender must know of a recipient before a message is accepted.
type Peer struct {
	Exists       bool // and is active
	Blocked      bool // has blocked the sender
	Contact      bool // of the sender
	ContactsOnly bool // takes messages from contacts only
}

// FullError says that one of the bounds on a user's lists is reached.
type FullError struct {
	Limit string // a short stable word: "contacts", "contact_requests", "blocks"
	Max   int
}

func (e *FullError) Error() string { return fmt.Sprintf("%s: at most %d", e.Limit, e.Max) }
