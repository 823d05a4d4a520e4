package im

import (
	"encoding/json"
	"strconv"
)

// ScheduleID names a scheduled message.
type ScheduleID uint64

func (id ScheduleID) String() string { return strconv.FormatUint(uint64(id), 10) }

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
	// Request is what was asked for, as JSON (protocol.Send without deliver_at): it is
	// decided anew when it is due.
	Request   json.RawMessage
	Hash      ContentHash
	DueAt     int64 // Unix ms, by the database's clock
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
