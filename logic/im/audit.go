package im

// RebuildProgress is how far a walk through all users has come that completes their
// projection from MySQL. Times are Unix ms, 0: not yet.
type RebuildProgress struct {
	StartedAt int64
	EndedAt   int64
	Users     int    // completed
	Failed    int    // completed when they are next read
	At        UserID // done up to here
	Last      UserID // the highest there was at the start
}

// Running says that the walk goes on.
func (p RebuildProgress) Running() bool { return p.StartedAt > 0 && p.EndedAt == 0 }

// Comparison is what Redis and MySQL say differently about one user. Where both move,
// it may hold what is only on its way.
type Comparison struct {
	// Sealed says that there was something to compare: what Redis holds is trusted by
	// its readers, and nothing that the user set is under way.
	Sealed     bool
	Generation Generation
	Drift      []Drift
}

// Drift is one difference.
type Drift struct {
	Conversation ConversationID // empty: of the user
	Field        DriftField
	Redis        string
	Record       string
}

// DriftField names what differs.
type DriftField string

// What may differ. A cursor is of the user or, in a one-to-one, of the other side; list
// is the order of the conversations.
const (
	DriftState     DriftField = "state" // a conversation that one of both does not have
	DriftLast      DriftField = "last"
	DriftChange    DriftField = "change"
	DriftCursor    DriftField = "cursor"
	DriftPeer      DriftField = "peer"
	DriftInterval  DriftField = "interval" // of membership
	DriftFloor     DriftField = "floor"
	DriftMention   DriftField = "mention"
	DriftDeletions DriftField = "deletions"
	DriftSettings  DriftField = "settings"
	DriftList      DriftField = "list"
	DriftVersion   DriftField = "version"
	DriftMerged    DriftField = "merged"
	DriftOffline   DriftField = "offline"
	DriftUncounted DriftField = "uncounted" // the last one that the state knows of
	DriftCount     DriftField = "count"     // of the conversation's uncounted rows
	DriftEnd       DriftField = "end"       // of a channel that is merged at read
)

// OfConversation says that the difference is the conversation's, not the user's alone.
func (f DriftField) OfConversation() bool { return f == DriftCount || f == DriftEnd }

// DriftFields is all of them.
var DriftFields = []DriftField{
	DriftState, DriftLast, DriftChange, DriftCursor, DriftPeer, DriftInterval, DriftFloor, DriftMention, DriftDeletions,
	DriftSettings, DriftList, DriftVersion, DriftMerged, DriftOffline, DriftUncounted, DriftCount, DriftEnd,
}
