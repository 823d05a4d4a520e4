package protocol

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// Refusals that only HTTP has.
var (
	ErrMethod    = errors.New("method not allowed")
	ErrMediaType = errors.New("unsupported media type or encoding")
)

// Error is what a client sees of an error, on every protocol.
type Error struct {
	Code         string     `json:"code"`
	Message      string     `json:"message"`
	Outcome      im.Outcome `json:"outcome,omitempty"` // of a send
	Retryable    bool       `json:"retryable"`
	RetryAfterMS int64      `json:"retry_after_ms,omitempty"`
	RequestID    string     `json:"request_id,omitempty"` // HTTP only; a reply has its id
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Code is one row of the table from errors to what clients see.
type Code struct {
	err       error
	Name      string
	HTTP      int
	Close     CloseCode // of a connection whose first frame meets it; zero: stays open
	Retryable bool      // may the same request succeed later?
	Message   string
}

// Codes is the whole table, in the order it is searched.
var Codes = []Code{
	{im.ErrNotFound, "not_found", http.StatusNotFound, 0, false, "not found"},
	{im.ErrUnauthenticated, "unauthenticated", http.StatusUnauthorized, CloseUnauthenticated, false, "the token is missing, expired, revoked or not ours"},
	{im.ErrBlocked, "blocked", http.StatusForbidden, 0, false, "the recipient has blocked you"},
	{im.ErrNotContact, "not_a_contact", http.StatusForbidden, 0, false, "the recipient takes messages from contacts only"},
	{im.ErrMuted, "muted", http.StatusForbidden, 0, false, "you are muted in this group"},
	{im.ErrForbidden, "forbidden", http.StatusForbidden, CloseForbidden, false, "not allowed"},
	{im.ErrMsgIDConflict, "client_msg_id_conflict", http.StatusConflict, 0, false, "this client_msg_id was used before with other content"},
	{im.ErrChangeIDConflict, "client_change_id_conflict", http.StatusConflict, 0, false, "this client_change_id was used before for another change"},
	{im.ErrRecalled, "recalled", http.StatusConflict, 0, false, "the message has been recalled"},
	{im.ErrEditConflict, "edit_conflict", http.StatusConflict, 0, false, "the message was changed after base_change"},
	{im.ErrScheduleFinal, "schedule_final", http.StatusConflict, 0, false, "the scheduled message is on its way, sent, failed or cancelled"},
	{im.ErrTooLate, "too_late", http.StatusForbidden, 0, false, "the time for that is over"},
	{im.ErrPending, "membership_pending", http.StatusConflict, 0, true, "a change of this membership is still under way"},
	{im.ErrConflict, "conflict", http.StatusConflict, 0, false, "taken, or changed meanwhile"},
	{im.ErrContentRefused, "content_refused", http.StatusUnprocessableEntity, 0, false, "the content is not allowed here"},
	{im.ErrUnstorable, "unstorable", http.StatusUnprocessableEntity, 0, false, "could not be stored, and never will be"},
	{im.ErrTooLarge, "too_large", http.StatusRequestEntityTooLarge, 0, false, "too large"},
	{im.ErrUnsupported, "unsupported", http.StatusBadRequest, 0, false, "unknown command or type"},
	{im.ErrStore, "store_unavailable", http.StatusServiceUnavailable, 0, true, "the message store is away"},
	{im.ErrCache, "cache_unavailable", http.StatusServiceUnavailable, 0, true, "the cache is away"},
	{im.ErrUnknownOutcome, "outcome_unknown", http.StatusServiceUnavailable, 0, true, "handed over but not confirmed; retry with the same client_msg_id"},
	{im.ErrQueue, "queue_unavailable", http.StatusServiceUnavailable, 0, true, "the queue is away"},
	{im.ErrOverloaded, "overloaded", http.StatusServiceUnavailable, CloseTryLater, true, "too busy, try later"},
	{im.ErrShuttingDown, "shutting_down", http.StatusServiceUnavailable, CloseRestart, true, "this process is stopping, reconnect"},
	{im.ErrTimeout, "timeout", http.StatusServiceUnavailable, 0, true, "took too long"},
	{context.DeadlineExceeded, "timeout", http.StatusServiceUnavailable, 0, true, "took too long"},
	{context.Canceled, "cancelled", 499, 0, true, "the request was given up"},
	{ErrMethod, "method_not_allowed", http.StatusMethodNotAllowed, 0, false, "this path does not answer that method"},
	{ErrMediaType, "unsupported_media_type", http.StatusUnsupportedMediaType, 0, false, "a body must be plain application/json"},
}

// Rows that are found by type rather than by value.
var (
	codeInvalid     = Code{nil, "invalid_request", http.StatusBadRequest, 0, false, ""}
	codeInvalidText = Code{nil, "invalid_text", http.StatusBadRequest, 0, false, ""}
	codeLimited     = Code{nil, "rate_limited", http.StatusTooManyRequests, CloseRateLimited, true, "too many requests"}
	codeFull        = Code{nil, "limit_reached", http.StatusConflict, 0, false, ""}
	codeInternal    = Code{nil, "internal", http.StatusInternalServerError, CloseInternal, true, "internal error"}
)

// CodeOf finds err's row. What is in no row is "internal": log it in full, show
// one word.
func CodeOf(err error) Code {
	var invalid *im.InvalidError
	if errors.As(err, &invalid) {
		if invalid.Field == "content.text" {
			return codeInvalidText
		}
		return codeInvalid
	}
	var limit *im.LimitError
	if errors.As(err, &limit) {
		return codeLimited
	}
	var full *im.FullError
	if errors.As(err, &full) {
		return codeFull
	}
	for _, c := range Codes {
		if errors.Is(err, c.err) {
			return c
		}
	}
	return codeInternal
}

// NewError is what a client may see of err. Internal causes stay out of it.
func NewError(err error) *Error {
	var shown *Error
	if errors.As(err, &shown) {
		return shown
	}
	c := CodeOf(err)
	e := &Error{Code: c.Name, Message: c.Message, Retryable: c.Retryable}
	var invalid *im.InvalidError
	if errors.As(err, &invalid) {
		e.Message = invalid.Error()
	}
	var full *im.FullError
	if errors.As(err, &full) {
		e.Message = full.Error()
	}
	var limit *im.LimitError
	if errors.As(err, &limit) {
		// Rounded up: 0 is left out, and a hair too early is too early.
		e.RetryAfterMS = max(1, (limit.RetryAfter + time.Millisecond - 1).Milliseconds())
	} else if e.Retryable {
		e.RetryAfterMS = 1000
	}
	var overload *im.OverloadError
	if errors.As(err, &overload) {
		e.RetryAfterMS = max(1, overload.RetryAfter.Milliseconds())
	}
	return e
}

// NewSendError is NewError with the outcome of a send: refused, unless it was
// handed over (unknown) or accepted before (rejected). A bug or a bare end of the
// context does not say how far the send came: unknown, which is always true.
func NewSendError(err error) *Error {
	e := *NewError(err)
	var rejected *im.RejectedError
	switch {
	case errors.As(err, &rejected):
		e.Outcome = im.OutcomeRejected
	case errors.Is(err, im.ErrUnknownOutcome), e.Code == codeInternal.Name, e.Code == "cancelled",
		e.Code == "timeout" && !errors.Is(err, im.ErrTimeout):
		e.Outcome = im.OutcomeUnknown
	default:
		e.Outcome = im.OutcomeRefused
	}
	return &e
}

// CloseCode is a WebSocket close code. With 4400–4499 do not come back with the
// same token or input; with 4500–4599, 1001, 1011, 1012, 1013 and after a loss
// without a close frame do, after the given jittered delay.
type CloseCode uint16

const (
	CloseNormal          CloseCode = 1000
	CloseGoingAway       CloseCode = 1001
	CloseProtocol        CloseCode = 1002
	CloseUnsupported     CloseCode = 1003 // a binary frame on the JSON protocol
	CloseInvalidUTF8     CloseCode = 1007
	ClosePolicy          CloseCode = 1008
	CloseTooBig          CloseCode = 1009
	CloseInternal        CloseCode = 1011
	CloseRestart         CloseCode = 1012 // drain: the reason is {"retry_after_ms":n}
	CloseTryLater        CloseCode = 1013
	CloseUnauthenticated CloseCode = 4401
	CloseForbidden       CloseCode = 4403
	CloseAuthTimeout     CloseCode = 4408
	CloseReplaced        CloseCode = 4409 // the same device connected again, or one that takes its place
	CloseSlow            CloseCode = 4508 // outbox full
	CloseRateLimited     CloseCode = 4529
)

// Close is a decision to end a connection.
type Close struct {
	Code   CloseCode
	Reason string // at most 123 bytes
}
