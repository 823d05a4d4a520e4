package im

import (
	"encoding/json"
	"strconv"
	"time"
)

// ScheduleID names a scheduled message.
type ScheduleID uint64

func (id ScheduleID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseScheduleID reads a decimal ID, canonical form only.
func ParseScheduleID(s string) (ScheduleID, error) {
	n, ok := parseID(s)
	if !ok {
		return 0, Invalid("schedule_id", "not a schedule ID")
	}
	return ScheduleID(n), nil
}

// MarshalText makes JSON show the ID as a string.
func (id ScheduleID) MarshalText() ([]byte, error) {
	return strconv.AppendUint(nil, uint64(id), 10), nil
}

// UnmarshalText accepts the canonical decimal form only.
func (id *ScheduleID) UnmarshalText(b []byte) error {
	n, err := ParseScheduleID(string(b))
	*id = n
	return err
}

// ScheduleAhead is how far ahead a message may be scheduled: a year, a leap one too.
const ScheduleAhead = 366 * 24 * time.Hour

// ScheduleState is how far a scheduled message has come. Pending may be changed and
// cancelled; the last three are final.
type ScheduleState uint8

const (
	SchedulePending   ScheduleState = 0
	ScheduleQueued    ScheduleState = 1 // claimed when due: on its way
	ScheduleSent      ScheduleState = 2 // the log has the message
	ScheduleFailed    ScheduleState = 3 // refused when it was due; Reason says why
	ScheduleCancelled ScheduleState = 4
)

var scheduleStates = [...]string{"pending", "in_queue", "sent", "failed", "cancelled"}

func (s ScheduleState) String() string {
	if int(s) < len(scheduleStates) {
		return scheduleStates[s]
	}
	return "unknown"
}

// ParseScheduleState reads what String writes.
func ParseScheduleState(s string) (ScheduleState, error) {
	for i, name := range scheduleStates {
		if name == s {
			return ScheduleState(i), nil
		}
	}
	return 0, Invalid("state", "must be one of pending, in_queue, sent, failed, cancelled")
}

// Scheduled is a message that waits for its time.
type Scheduled struct {
	ID           ScheduleID
	Conversation ConversationID
	Sender       UserID
	ClientMsgID  ClientMsgID // unique among the sender's in the conversation, scheduled or stored
	ByServer     bool        // a backend scheduled it: it is nobody's stranger
	// Request is what was asked for, as JSON: it is decided anew when it is due, and what
	// was decided is then kept in it. Only logic reads it.
	Request   json.RawMessage
	Decided   bool        // and kept in Request: it goes out as that, whatever has changed since
	Hash      ContentHash // of what was asked for first: a change of the content keeps it
	DueAt     int64       // Unix ms, by the database's clock
	State     ScheduleState
	Reason    string // stable code, where failed
	CreatedAt int64
	UpdatedAt int64
}

// FireTask says that scheduled messages of a conversation are due: those up to (DueAt,
// Schedule), in that order.
type FireTask struct {
	Schedule ScheduleID `json:"schedule"`
	DueAt    int64      `json:"due_at"`
}

// ScheduledQuery asks for a page of one user's scheduled messages in one state, in due
// order.
type ScheduledQuery struct {
	Sender       UserID
	State        ScheduleState
	Conversation ConversationID // empty: all
	After        FireTask       // from behind this one
	Limit        int
}

// SchedulePatch changes a pending message.
type SchedulePatch struct {
	Request json.RawMessage // nil: stays
	DueAt   *int64          // Unix ms; what is past is due at once
	Cancel  bool
}

// DueSchedule is what the owner of a partition needs of a row that is due, or soon will be.
type DueSchedule struct {
	ID           ScheduleID
	Conversation ConversationID
	DueAt        int64
	In           int64 // ms until it is to be looked at, by the database's clock; due: 0 or less
}

// ScheduleDecision is what was decided of a queued message: its Request with that in it,
// or the code for which it fails.
type ScheduleDecision struct {
	ID      ScheduleID
	Request json.RawMessage
	Refused string
}
