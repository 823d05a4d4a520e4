package im

import "strconv"

// DeadID names a dead letter.
type DeadID uint64

func (id DeadID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseDeadID reads a decimal ID, canonical form only.
func ParseDeadID(s string) (DeadID, error) {
	n, ok := parseID(s)
	if !ok {
		return 0, Invalid("id", "not a dead letter's ID")
	}
	return DeadID(n), nil
}

// DeadState is what has become of a dead letter.
type DeadState uint8

const (
	DeadOpen      DeadState = 0 // waits for an operator
	DeadReplaying DeadState = 1 // being put back into the log
	DeadReplayed  DeadState = 2
	DeadDiscarded DeadState = 3
)

var deadStates = [...]string{"open", "replaying", "replayed", "discarded"}

func (s DeadState) String() string {
	if int(s) < len(deadStates) {
		return deadStates[s]
	}
	return "unknown"
}

// ParseDeadState reads what String writes.
func ParseDeadState(s string) (DeadState, error) {
	for i, name := range deadStates {
		if name == s {
			return DeadState(i), nil
		}
	}
	return 0, Invalid("state", "must be one of open, replaying, replayed, discarded")
}

// DeadLetter is a record that was given up, unique by (Topic, Partition, Offset).
type DeadLetter struct {
	ID        DeadID // given by the table
	Topic     string
	Partition int
	Offset    int64
	Key       SendKey // zero where the record could not be read
	Hash      ContentHash
	Reason    string
	Attempts  int // how often it was tried; 0: not counted
	Payload   []byte
	ParkedAt  int64
	State     DeadState
	ActedAt   int64 // when the state last changed, Unix ms
}

// DeadQuery asks for a page of dead letters, the oldest first.
type DeadQuery struct {
	State *DeadState // nil: any
	Topic string     // empty: any
	After DeadID
	Limit int
}

// StoredCopy is a stored message with the content that was looked for.
type StoredCopy struct {
	Seq         Seq         `json:"seq"`
	ClientMsgID ClientMsgID `json:"client_msg_id"`
	StoredAt    int64       `json:"stored_at"` // Unix ms
}

// ResentError says that a dead letter's sender has the same content stored already, sent
// again under another ID: to replay the letter would double it.
type ResentError struct{ Copies []StoredCopy }

func (e *ResentError) Error() string {
	return "the same content of the same sender is stored " + strconv.Itoa(len(e.Copies)) + " times since"
}
