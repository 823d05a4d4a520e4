package jobs

import (
	"context"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// AuditedUsers is what Redis and MySQL say of users; storage.Auditor implements it.
// Errors: im.ErrStore, im.ErrCache.
type AuditedUsers interface {
	// Sample draws at most n users: a half of those who have just been active, the rest
	// from all.
	Sample(ctx context.Context, n int) ([]im.UserID, error)
	// Compare reads both sides once.
	Compare(ctx context.Context, u im.UserID) (im.Comparison, error)
	// Doubtful says that a worker could not project something, and that no new generation
	// stands for it yet.
	Doubtful(ctx context.Context) (bool, error)
	// RebuildUser drops what Redis says of a user and builds it anew;
	// RebuildConversation what it says of a conversation for all.
	RebuildUser(ctx context.Context, u im.UserID) error
	RebuildConversation(ctx context.Context, c im.ConversationID) error
	// Reset sets a new generation.
	Reset(ctx context.Context) error
}

// AuditedLog is the realtime lane, seen from outside of its group.
type AuditedLog interface {
	Positions(ctx context.Context) ([]queue.Position, error)
	// Look reads records of a partition from an offset on, below another; as many as it
	// likes.
	Look(ctx context.Context, partition int, from, below int64) ([]queue.Record, error)
}

// AuditedRecord is the messages in MySQL.
type AuditedRecord interface {
	// FindStored finds which of the keys are stored, or parked in dead.
	FindStored(ctx context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error)
}

// RealtimeLog is the realtime lane of a cluster for an Auditor.
type RealtimeLog struct{ *queue.Cluster }

// Positions implements AuditedLog.
func (l RealtimeLog) Positions(ctx context.Context) ([]queue.Position, error) {
	return l.Cluster.Positions(ctx, im.LaneRealtime)
}

// Look implements AuditedLog.
func (l RealtimeLog) Look(ctx context.Context, partition int, from, below int64) ([]queue.Record, error) {
	return l.Cluster.Look(ctx, im.LaneRealtime, partition, from, below)
}
