package connector

import (
	"context"
	"fmt"

	"google.golang.org/grpc/metadata"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// RoomsOf implements Directory, for a connector without MySQL: im.ErrStore while logic
// is away or cannot say.
func (u *GRPCUpstream) RoomsOf(ctx context.Context, users []im.UserID) (map[im.UserID][]im.Room, error) {
	b, err := u.askRooms(ctx, protocol.BridgeRoomsOf, &protocol.RoomsQuestion{Users: users})
	if err != nil {
		return nil, err
	}
	return protocol.DecodeRoomsOf(b)
}

// RoomMembers implements Directory.
func (u *GRPCUpstream) RoomMembers(ctx context.Context, c im.ConversationID, users []im.UserID) (im.Seq, map[im.UserID]im.Seq, error) {
	b, err := u.askRooms(ctx, protocol.BridgeRoomMembers, &protocol.RoomsQuestion{Users: users, Room: c})
	if err != nil {
		return 0, nil, err
	}
	return protocol.DecodeRoomMembers(b)
}

// askRooms asks one of the logic processes that take new connections.
func (u *GRPCUpstream) askRooms(ctx context.Context, method string, q *protocol.RoomsQuestion) (answer []byte, err error) {
	c := u.pick()
	if c == nil {
		return nil, fmt.Errorf("ask logic for rooms: %w", im.ErrStore)
	}
	if u.cfg.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+u.cfg.Token)
	}
	b := protocol.AppendRoomsQuestion(nil, q)
	if err := c.unary.Invoke(ctx, "/"+protocol.BridgeService+"/"+method, &b, &answer); err != nil {
		return nil, fmt.Errorf("ask logic for rooms: %w: %w", im.ErrStore, err)
	}
	return answer, nil
}
