package im

// DeadID names a dead letter.
type DeadID uint64

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
