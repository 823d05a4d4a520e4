package admin

import (
	"context"

	"github.com/curlew-im/curlew/logic/im"
)

// Generations can be told that Redis has forgotten something. storage.Redis
// implements it.
type Generations interface {
	// Reset sets a new generation: each user's lists are read from MySQL once more and
	// sealed anew.
	Reset(ctx context.Context) error
}

// Logs shows where the workers stand in the log, and has a partition go on that stands
// still since records are missing. *queue.Cluster implements it.
type Logs interface {
	// Lag is of every lane and partition; im.ErrQueue while Kafka is away.
	Lag(ctx context.Context) ([]im.PartitionLag, error)
	// Resume goes on at an offset, or at im.OffsetEarliest or OffsetLatest, and returns
	// where. im.ErrConflict where no such partition stands still in this process.
	Resume(ctx context.Context, lane im.Lane, partition int, at int64) (int64, error)
}

// Rebuilds completes what Redis says of users from MySQL anew. storage.Rebuilder
// implements it.
type Rebuilds interface {
	// HandleID finds a user; im.ErrNotFound.
	HandleID(ctx context.Context, handle string) (im.UserID, error)
	// RebuildUser drops what Redis says of a user, and builds it anew before it returns.
	RebuildUser(ctx context.Context, u im.UserID) error
	// RebuildAll begins to walk through all users; im.ErrConflict while one walk goes on.
	RebuildAll(ctx context.Context) (im.RebuildProgress, error)
	// Progress is of the walk of this process, the last where none goes on.
	Progress() im.RebuildProgress
}

// Dead is what was given up. jobs.DeadLetters implements it.
type Dead interface {
	// List is a page of a lane's letters, or of all, the oldest first.
	List(ctx context.Context, lane im.Lane, q im.DeadQuery) (all []im.DeadLetter, more bool, err error)
	// Letter is one, with its record; unreadable says why that is none. im.ErrNotFound.
	Letter(ctx context.Context, id im.DeadID) (l im.DeadLetter, t im.Task, unreadable string, err error)
	// Replay puts it back into the log: im.ErrConflict where it is not open, im.ErrUnstorable
	// where it cannot be read, im.ResentError where that would double a message.
	Replay(ctx context.Context, id im.DeadID, force bool) error
	// Discard ends it for good; im.ErrConflict where it is not open.
	Discard(ctx context.Context, id im.DeadID) error
}

// PoolBook is how the worker pools of all processes are, and what operators set of them.
// storage.Pools implements it.
type PoolBook interface {
	// PoolReports are of the last 10 s; im.ErrCache while Redis is away.
	PoolReports(ctx context.Context) ([]im.PoolReport, error)
	// SetAlone is what is set of a lane's pool for one process alone, by process: it stands
	// over what is set for all.
	SetAlone(ctx context.Context, lane im.Lane) (map[string]im.PoolPatch, error)
	// SetPool turns the pools of a lane, in one process or, where that is empty, in all.
	SetPool(ctx context.Context, process string, lane im.Lane, patch im.PoolPatch) error
	// ResetPool forgets what was set so.
	ResetPool(ctx context.Context, process string, lane im.Lane) error
}

// OwnPools are those of this process, as they are now. *jobs.Runner implements it.
type OwnPools interface {
	PoolReports() []im.PoolReport
}
