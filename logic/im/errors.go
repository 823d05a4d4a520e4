package im

import (
	"errors"
	"fmt"
	"time"
)

// Sentinels for callers that only branch. api/protocol/codes.go maps each to its
// stable code, HTTP status and close code.
var (
	ErrNotFound         = errors.New("not found")       // also what is not yours
	ErrUnauthenticated  = errors.New("unauthenticated") // no token, or one that is no longer good
	ErrForbidden        = errors.New("forbidden")       // yours to see, not yours to do
	ErrBlocked          = errors.New("blocked")         // the recipient has blocked the sender
	ErrNotContact       = errors.New("not a contact")   // the recipient takes messages from contacts only
	ErrConflict         = errors.New("conflict")        // handle taken, state has moved on
	ErrMuted            = errors.New("muted")           // in this group, for now
	ErrPending          = errors.New("pending")         // a change of this membership is still under way
	ErrContentRefused   = errors.New("content refused") // the filter says no
	ErrMsgIDConflict    = errors.New("client message ID used before with other content")
	ErrChangeIDConflict = errors.New("client change ID used before for another change")
	ErrRecalled         = errors.New("message recalled")
	ErrEditConflict     = errors.New("message changed since") // after the base of an edit
	ErrScheduleFinal    = errors.New("scheduled message is no longer pending")
	ErrTooLate          = errors.New("too late") // to recall or edit
	ErrTooLarge         = errors.New("too large")
	ErrUnsupported      = errors.New("unsupported")       // unknown command, media type or protocol
	ErrStore            = errors.New("store unavailable") // MySQL is away
	ErrLocked           = errors.New("rows locked")       // by another transaction, for as long as one waits; an ErrStore as well
	ErrCache            = errors.New("cache unavailable") // Redis is away and the load is too high to do without
	ErrQueue            = errors.New("queue unavailable") // Kafka is away; never handed over
	ErrUnknownOutcome   = errors.New("outcome unknown")   // handed over, not confirmed
	ErrOverloaded       = errors.New("overloaded")
	ErrTimeout          = errors.New("timeout")
	ErrShuttingDown     = errors.New("shutting down")
)

// InvalidError says which field of a request is wrong and how.
type InvalidError struct {
	Field  string // as it is called on the wire
	Reason string
}

// Invalid makes an InvalidError.
func Invalid(field, reason string) error { return &InvalidError{Field: field, Reason: reason} }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// LimitError says that a limit was reached and when to come back.
type LimitError struct {
	Limit      string // which one, a short stable word: "send", "login", "register" …
	RetryAfter time.Duration
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("limit %s reached, retry after %s", e.Limit, e.RetryAfter)
}

// Outcome is what a refused or failed send means for the message (contract 1).
type Outcome string

const (
	OutcomeRefused  Outcome = "refused"  // never appears
	OutcomeUnknown  Outcome = "unknown"  // appears at most once; retry with the same client message ID
	OutcomeRejected Outcome = "rejected" // was accepted, could not be stored, never appears
)

// ErrUnstorable marks data that the table refuses and always will: poison, since
// what is accepted was validated.
var ErrUnstorable = errors.New("unstorable")

// DuplicateError is a violated unique key of the message table.
type DuplicateError struct {
	Key   DuplicateKey
	Cause error
}

// DuplicateKey names the violated key where the store says which.
type DuplicateKey string

const (
	DuplicateSeq         DuplicateKey = "seq"           // (conversation, seq): a second owner
	DuplicateClientMsgID DuplicateKey = "client_msg_id" // (conversation, sender, client message ID): a repeat
	DuplicateMessageID   DuplicateKey = "message_id"    // a node lease held twice
	DuplicateUnknown     DuplicateKey = ""
)

func (e *DuplicateError) Error() string { return "duplicate " + string(e.Key) + ": " + e.Cause.Error() }
func (e *DuplicateError) Unwrap() error { return e.Cause }

// RejectedError is the end of a message that was accepted and could not be stored:
// ErrMsgIDConflict or ErrUnstorable. It never appears.
type RejectedError struct{ Cause error }

func (e *RejectedError) Error() string { return "rejected: " + e.Cause.Error() }
func (e *RejectedError) Unwrap() error { return e.Cause }
