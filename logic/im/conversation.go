package im

// Member is one user's row in one conversation, as MySQL has it.
type Member struct {
	Conversation ConversationID
	User         UserID
	Join, Leave  Seq // sees [Join, Leave], or from Join on while they are in it
	Joined       Seq // of a channel: the notice by which they last joined
	Delivered    Seq // explicit acks of the user's devices reach here
	Read         Seq // read, or sent oneself, up to here
	Floor        Seq // deleted for this user up to here
	// Deletions counts the messages deleted for this user one by one.
	Deletions uint64
}

// In says that they are a member now: the last notice about them let them in.
func (m Member) In() bool { return m.Leave <= m.Joined }

// ConversationState is what one user's projection holds about one conversation.
// Every field but the settings only ever rises, so a replay changes nothing.
type ConversationState struct {
	Conversation ConversationID
	LastSeq      Seq
	LastID       MessageID // orders the user's list
	LastChange   uint64
	Delivered    Seq
	Read         Seq
	Join, Leave  Seq
	Joined       Seq // of a channel: the notice by which the user last joined
	// Merged says that the channel is merged at read: its end is in its ChannelEnd, and
	// the last numbers here are as they were when it became so.
	Merged bool
	Floor  Seq
	// PeerDelivered and PeerRead are the other side's cursors, one-to-one only:
	// the ticks of what this user sent.
	PeerDelivered Seq
	PeerRead      Seq
	// LastUncounted is the highest seq that does not count for this user, so that
	// a conversation without one above Base needs no second look.
	LastUncounted Seq
	// LastMention is the highest seq that mentions the user.
	LastMention Seq
	// Deletions is the number of the user's last deletion here.
	Deletions uint64
	// Settings are the user's own; who raises a state leaves them out.
	Settings Settings
	// Unread is filled in by who reads the state (contract 7).
	Unread uint64
}

// In says that the user is in it now.
func (s ConversationState) In() bool { return s.Leave <= s.Joined }

// Top is the last seq this user may see.
func (s ConversationState) Top() Seq {
	if !s.In() && s.Leave < s.LastSeq {
		return s.Leave
	}
	return s.LastSeq
}

// Hidden says that the conversation is out of the user's list until a message comes
// that is above what they have hidden or deleted.
func (s ConversationState) Hidden() bool { return s.Top() <= max(s.Settings.Hidden, s.Floor) }

// MarkedUnread says that the user wants to see the conversation as unread.
func (s ConversationState) MarkedUnread() bool { return s.Read < s.Settings.Marked }

// Settled is how far nothing waits to be delivered: acked by a device, or deleted; in a
// channel also what was read or sent, and what was said before the user joined.
func (s ConversationState) Settled() Seq {
	settled := max(s.Delivered, s.Floor)
	if _, channel := s.Conversation.Channel(); channel {
		settled = max(settled, s.Base())
	}
	return settled
}

// Base is where counting starts: max(read, join−1, floor).
func (s ConversationState) Base() Seq {
	b := max(s.Read, s.Floor)
	if s.Join > 0 {
		b = max(b, s.Join-1)
	}
	return b
}

// Mentioned is the seq of the last mention that the user has not read; 0 for none, and
// where they have left: a channel that is merged at read no longer tells them.
func (s ConversationState) Mentioned() Seq {
	if s.In() && s.LastMention > s.Base() && s.LastMention <= s.Top() {
		return s.LastMention
	}
	return 0
}

// CountUnread applies the formula, given how many uncounted rows lie in
// (Base, Top].
func (s ConversationState) CountUnread(uncounted uint64) uint64 {
	top, base := s.Top(), s.Base()
	if top <= base || uint64(top-base) <= uncounted {
		return 0
	}
	return uint64(top-base) - uncounted
}

// ListPage is one page of a user's conversations, newest first.
type ListPage struct {
	States   []ConversationState
	HasMore  bool
	Position Position // noted before the states were read
	// UnreadTotal and UnreadBadge are over all of the list, not only this page.
	UnreadTotal uint64
	UnreadBadge uint64 // without what is muted
	Degraded    bool   // read from MySQL, because Redis is away; Position is then zero
}

// Changes is what differs from a client's position.
type Changes struct {
	States []ConversationState // oldest change first
	// Position is what the client holds after applying States.
	Position Position
	HasMore  bool
	// Void says the given position is of another generation: start over.
	Void     bool
	Degraded bool
}

// OfflineSource is one conversation with messages not yet delivered to any device.
type OfflineSource struct {
	Conversation ConversationID
	Count        uint64 // received and undelivered, at most 1,000 counted
	LastID       MessageID
	Delivered    Seq // pull what is after it
	LastSeq      Seq
}

// HistoryQuery asks for one range of a conversation. Exactly one of Before, After
// and Around is set; zero Before with the others zero means "from the end".
type HistoryQuery struct {
	Conversation ConversationID
	Before       Seq // seq < Before, the highest of them
	After        *Seq
	Around       Seq
	Limit        int
	// First and Last clip to the member interval; Last 0: no upper end.
	First, Last Seq
}

// ChangedQuery asks for what was changed after a change.
type ChangedQuery struct {
	Conversation ConversationID
	After        uint64
	Limit        int
	First, Last  Seq // as in HistoryQuery
}

// ChangedPage is messages as they now are, by their change.
type ChangedPage struct {
	Items []Message
	// UpTo is the change up to which Items is complete.
	UpTo    uint64
	HasMore bool
}

// HistoryPage is in ascending seq order.
type HistoryPage struct {
	Items         []Message
	HasMoreBefore bool
	HasMoreAfter  bool
}
