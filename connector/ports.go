package connector

import (
	"context"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Upstream is logic as a connector sees it: a plain call in one process, a batched
// gRPC stream to another (upstream_grpc.go). It may block a moment (backpressure),
// so it is called from the pool, never from an event loop; per connection one call
// at a time, in the order of the frames.
type Upstream interface {
	// Connect verifies the first message of a connection, which must be connect. It
	// answers exactly once.
	Connect(ctx context.Context, hello protocol.Hello, message []byte, answer func(protocol.ConnectAnswer))
	// Handle takes the next message of a session. answer is called exactly once per
	// message, from any goroutine, in any order relative to other messages.
	Handle(ctx context.Context, s *im.Session, message []byte, answer func(protocol.Answer))
}

// Releaser is an Upstream that keeps something for each session (the bridge to another
// machine does). Release is called once for every connection whose Connect was called
// and not refused, when it has ended and its last Handle has returned; it may come
// before the answer to Connect.
type Releaser interface {
	Release(id im.SessionID)
}

// Leaver is an Upstream that wants to know when sessions end. Left is called once for
// every accepted one and returns at once. The bridge has its own way (Releaser).
type Leaver interface {
	Left(s *im.Session)
}

// Revoker is an Upstream that tells what sessions must learn though every push of it
// is lost, some of it more than once. tell returns at once.
type Revoker interface {
	OnRevoked(tell func([]im.Revocation))
}

// Routes tells workers where sessions are. storage implements it on Redis, with
// entries that a dead node does not keep alive (90 s TTL, and the node's lease).
type Routes interface {
	// Register enters sessions in the places that their policies give them. Who would
	// have more than perUser devices (0 or less: any number) is refused.
	Register(ctx context.Context, sessions []im.SessionRef, perUser int) (im.RouteChange, error)
	// Renew keeps entries and the node's lease alive and restores lost ones; refused are
	// those whose place a newer session has.
	Renew(ctx context.Context, node im.NodeID, sessions []im.SessionRef) (im.RouteChange, error)
	// Remove deletes entries, each only if it is still that session's, and returns the
	// nodes that watch those users.
	Remove(ctx context.Context, sessions []im.SessionRef) (watchers map[im.NodeID][]im.UserID, err error)

	// Presence reads who is online, from the sessions and the nodes' leases; every user
	// asked for is in the answer.
	Presence(ctx context.Context, users []im.UserID) (map[im.UserID]im.Presence, error)
	// MoveRooms enters the node in the registries of channels, and takes it out of others,
	// in one ordered pipeline. Entries count while the node's lease does.
	MoveRooms(ctx context.Context, node im.NodeID, enter, leave []im.ConversationID) error
	// SweepRooms takes dead nodes out of the registries they were in, a bounded number of
	// entries a call, and returns how many.
	SweepRooms(ctx context.Context) (int, error)
	// LiveNodes reads which nodes hold a lease.
	LiveNodes(ctx context.Context) (map[im.NodeID]bool, error)
	// Watch enters the node among those that are told of changes, for 90 s; Unwatch
	// takes it out.
	Watch(ctx context.Context, node im.NodeID, users []im.UserID) error
	Unwatch(ctx context.Context, node im.NodeID, users []im.UserID) error
}

// Directory says who is in which channel, from MySQL: im.ErrStore while that is away. A
// connector in a process of its own asks logic for it.
type Directory interface {
	// RoomsOf are the channels that users are in now; who is in none is left out.
	RoomsOf(ctx context.Context, users []im.UserID) (map[im.UserID][]im.Room, error)
	// RoomMembers says which of users (at most 500) are in a channel now, and from which
	// seq on they see it, as of a version of its roster.
	RoomMembers(ctx context.Context, c im.ConversationID, users []im.UserID) (version im.Seq, first map[im.UserID]im.Seq, err error)
}

// Bus brings the batches published to a node, and publishes.
type Bus interface {
	// Subscribe delivers the node's batches until ctx ends. lost is called after each
	// time the subscription was interrupted and is whole again: pushes may be missing.
	Subscribe(ctx context.Context, node im.NodeID, batch func([]byte), lost func()) error
	Publish(ctx context.Context, batches map[im.NodeID][]byte) error
}

// Generations tells when Redis may have forgotten something.
type Generations interface {
	// Changed returns a channel that is closed at the next new generation.
	Changed() <-chan struct{}
}
