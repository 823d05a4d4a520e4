package jobs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// Archive is the record, in MySQL or SQLite. Errors: im.ErrStore (wrapped) for
// what heals by itself, im.DuplicateError for a violated unique key, im.ErrUnstorable
// for data that the table refuses; anything else is unknown.
type Archive interface {
	// InsertMessages writes the rows as one multi-row INSERT, plain and autocommitted,
	// all or none; with the uncounted rows, mentions and memberships among them as one
	// transaction, which also ends the memberships' operations.
	InsertMessages(ctx context.Context, rows []im.Message) error
	// Lasts returns the end of each conversation; an empty one is left out.
	Lasts(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.LastRef, error)
	// FindStored finds which of the keys are stored already, or parked in dead.
	FindStored(ctx context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error)
	// EnsureConversations creates the rows of conversations and their members that
	// are not there yet.
	EnsureConversations(ctx context.Context, convs []im.NewConversation) error
	// ChangeBasis reads what is needed to decide changes: the last change of each key's
	// conversation before everything else.
	ChangeBasis(ctx context.Context, keys []im.ChangeKey, places []im.Place, reactions []im.ReactionKey) (im.ChangeBasis, error)
	// ApplyChanges writes them in one transaction. A number or client change ID that is
	// taken is an im.DuplicateError.
	ApplyChanges(ctx context.Context, set im.ChangeSet) error
	// HideMessages deletes messages for one user; again is as once. It returns them all,
	// by number.
	HideMessages(ctx context.Context, h im.Hide) ([]im.Hidden, error)
	// Rosters reads who is in channels now; one that is not there is left out. A channel
	// that is merged at read has no members in it.
	Rosters(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.Roster, error)
	// RosterPage is the members of a channel by user, from above after.
	RosterPage(ctx context.Context, c im.ConversationID, after im.UserID, limit int) ([]im.RosterMember, error)
	// Moved are the members whom the notice at seq let in or out, as their rows are now,
	// by user, from above after; of users only, where some are named.
	Moved(ctx context.Context, c im.ConversationID, seq im.Seq, users []im.UserID, after im.UserID, limit int) ([]im.Member, error)
	// ChannelEnds reads how far channels have come, for all of their members.
	ChannelEnds(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelEnd, error)
	// Member is one row; im.ErrNotFound for who was never in c.
	Member(ctx context.Context, c im.ConversationID, u im.UserID) (im.Member, error)
	// GroupSize is how many members a group has; 0 where there is none.
	GroupSize(ctx context.Context, g im.GroupID) (int, error)
	// Authors are the senders of the messages first to last, in their order; at most 512.
	Authors(ctx context.Context, c im.ConversationID, first, last im.Seq) ([]im.UserID, error)
	// MoveCursors raises cursors, never lowers them; one statement for all.
	MoveCursors(ctx context.Context, moves []im.CursorMove) error
	// Park records what was given up; the same record twice is one row.
	Park(ctx context.Context, d im.DeadLetter) error
	// NoteDoubt says that Redis may have missed something; whoever reaches Redis next
	// sets a new generation.
	NoteDoubt(ctx context.Context, reason string) error
}

// Nodes leases the node numbers of message IDs, 0 … im.MessageNodes-1.
type Nodes interface {
	// AcquireNode takes a free or expired number; im.ErrConflict where all are taken.
	AcquireNode(ctx context.Context, holder string, ttl time.Duration) (node int, err error)
	// RenewNode prolongs the lease; im.ErrConflict where it was lost.
	RenewNode(ctx context.Context, node int, holder string, ttl time.Duration) error
	ReleaseNode(ctx context.Context, node int, holder string) error
}

// Projector raises the projection in Redis, pipelined: im.ErrCache while it is away.
type Projector interface {
	Project(ctx context.Context, p im.Projection) error
}

// Sessions knows who is connected where: im.ErrCache while Redis is away.
type Sessions interface {
	Sessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error)
}

// Rooms knows which nodes have a member of a channel online: im.ErrCache while Redis is
// away. Nodes that are dead are left out, and channels that nobody is in.
type Rooms interface {
	RoomNodes(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID][]im.NodeID, error)
}

// Bus carries push batches to nodes. Best effort.
type Bus interface {
	Publish(ctx context.Context, batches map[im.NodeID][]byte) error
}

// Schedules is what waits for its time, in MySQL: im.ErrStore while that is away. Due is
// what its clock says is due.
type Schedules interface {
	// DueScheduled is the front of a partition's rows that are pending, or in queue: those
	// to be looked at by now or within ahead, in that order.
	DueScheduled(ctx context.Context, partition int, state im.ScheduleState, ahead time.Duration, limit int) ([]im.DueSchedule, error)
	// QueueScheduled notes that the log has been told of rows, those that are still due;
	// they are looked at again when they have been in queue for again.
	QueueScheduled(ctx context.Context, ids []im.ScheduleID, again time.Duration) error
	// ClaimScheduled puts the pending rows of a conversation that are due, up to a row, in
	// queue and returns the first of those in queue up to it, by due time. They can neither
	// be changed nor cancelled any more.
	ClaimScheduled(ctx context.Context, c im.ConversationID, to im.FireTask, again time.Duration, limit int) ([]im.Scheduled, error)
	// KeepDecisions keeps what was decided of rows in queue, or fails them, and returns of
	// whom that now stands, with an error too. Of two who decide the first counts.
	KeepDecisions(ctx context.Context, decisions []im.ScheduleDecision) (stand map[im.ScheduleID]bool, err error)
	// SentScheduled ends rows in queue that the log has.
	SentScheduled(ctx context.Context, ids []im.ScheduleID) error
	// ForgetScheduled removes final rows that have not changed for age.
	ForgetScheduled(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Decider says what becomes of a scheduled message that is due. logic.Service implements
// it.
type Decider interface {
	// Decide returns the task that sends it, and its request with that in it, to be kept
	// before anybody is told: of a row that is Decided it is what was kept.
	// No task: it is stored already. An *im.RejectedError says that it may not be sent; any
	// other error nothing yet.
	Decide(ctx context.Context, s im.Scheduled) (task *im.SendTask, keep json.RawMessage, err error)
}

// Producer puts tasks on one lane.
type Producer interface {
	// Produce enqueues in call order per conversation; done is called exactly once, within
	// 5 s, with nil when the log has it.
	Produce(t im.Task, done func(error))
}

// PoolBook is what operators have set of pools, and where pools say how they are.
// storage.Pools implements it.
type PoolBook interface {
	// PoolPatches are what is set for this process, by lane: for all processes, overlaid by
	// what is set for it alone. im.ErrStore while MySQL is away: the last known stands.
	PoolPatches(ctx context.Context, process string) (map[im.Lane]im.PoolPatch, error)
	// ReportPools shows this process's pools to the others for 10 s. Best effort.
	ReportPools(ctx context.Context, reports []im.PoolReport) error
	// ForgetProcess removes its reports and what is set for it alone.
	ForgetProcess(ctx context.Context, process string) error
}
