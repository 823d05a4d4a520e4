package im

import "encoding/json"

// Lane is one of the topics work travels on.
type Lane string

const (
	LaneRealtime Lane = "realtime" // messages, receipts and changes, keyed by conversation, in order
	LaneDelay    Lane = "delay"    // scheduled messages that are due
	LaneRetry    Lane = "retry"    // what has no order to keep and may fail for a while: notifications
	LaneDead     Lane = "dead"     // what retry gave up on, on its way to the table
)

// Task is one record of a lane. Exactly one of the pointers is set.
type Task struct {
	Conversation ConversationID // the Kafka key
	Send         *SendTask
	Receipt      *ReceiptTask
	Change       *ChangeTask
	Hide         *HideTask
	Fire         *FireTask   // lane delay
	Notify       *NotifyTask // lane retry
	Dead         *DeadLetter // lane dead
}

// Lane is the topic that t is for.
func (t *Task) Lane() Lane {
	switch {
	case t.Fire != nil:
		return LaneDelay
	case t.Notify != nil:
		return LaneRetry
	case t.Dead != nil:
		return LaneDead
	}
	return LaneRealtime
}

// Valid says that exactly one of the pointers is set.
func (t *Task) Valid() bool {
	n := 0
	for _, set := range [...]bool{t.Send != nil, t.Receipt != nil, t.Change != nil, t.Hide != nil,
		t.Fire != nil, t.Notify != nil, t.Dead != nil} {
		if set {
			n++
		}
	}
	return n == 1
}

// Origin says where the note about a task's end goes.
type Origin struct {
	Node    NodeID    // push channel of the process that took the request
	Session SessionID // its connection, where it came by socket
	Request string    // its waiter, where it came by HTTP with ?wait=stored
}

// SendTask is an accepted message on its way to be stored.
type SendTask struct {
	Sender      Sender
	ClientMsgID ClientMsgID
	Type        MessageType
	Content     json.RawMessage // filtered
	About       About
	Hash        ContentHash // of what the client sent, before the filter
	Uncounted   Uncounted
	AdvanceRead bool // moves the sender's own read cursor (contract 7)
	AcceptedAt  int64
	Origin      Origin
	// Membership is set in notices about a group.
	Membership *Membership
}

// ReceiptTask moves one member's cursors forward; zero leaves one alone.
type ReceiptTask struct {
	User      UserID
	Device    DeviceID
	Delivered Seq
	Read      Seq // implies Delivered
}

// SendKey identifies a message for ever (contract 2).
type SendKey struct {
	Conversation ConversationID
	Sender       UserID
	ClientMsgID  ClientMsgID
}

// StoredRef says what became of an accepted message.
type StoredRef struct {
	Seq      Seq
	ID       MessageID
	StoredAt int64
	Hash     ContentHash
	Parked   bool // in the table dead; the other fields but Hash are zero
}

// LastRef is the end of a conversation; zero where it is empty.
type LastRef struct {
	Seq Seq
	ID  MessageID
}

// CursorMove raises one member's cursors in MySQL; zero leaves one alone.
type CursorMove struct {
	Conversation ConversationID
	User         UserID
	Delivered    Seq
	Read         Seq
}

// NewConversation is what a conversation seen for the first time needs before its
// first message.
type NewConversation struct {
	ID      ConversationID
	Members []UserID
}

// Projection is everything one batch raises in Redis. Users and conversations may
// repeat; each step is a max, so order does not matter.
type Projection struct {
	Users []UserRaise
	Hints []Hint
	// Ends are of channels that are merged at read.
	Ends []ChannelEnd
	// Uncounted are seqs to add to a conversation's uncounted set.
	Uncounted []UncountedSeq
}

// UserRaise raises what one user's projection says about one conversation.
type UserRaise struct {
	User  UserID
	State ConversationState // zero fields raise nothing
	// Offline are the received messages to index for this user.
	Offline []OfflineEntry
	// ClearOffline removes index entries up to this seq (a delivered ack).
	ClearOffline Seq
}

// OfflineEntry is one indexed message.
type OfflineEntry struct {
	Seq Seq
	ID  MessageID
}

// UncountedSeq is one row that does not count, for one user or (SystemUser) all.
type UncountedSeq struct {
	Conversation ConversationID
	Seq          Seq
	User         UserID // SystemUser: for all
}

// Hint lets a later retry be answered without the log. It may be lost.
type Hint struct {
	Key SendKey
	Ref StoredRef
}
