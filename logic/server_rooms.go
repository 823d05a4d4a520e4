package logic

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Directory says who is in which channel, for connectors that have no MySQL; it is
// theirs (connector/ports.go).
type Directory interface {
	RoomsOf(ctx context.Context, users []im.UserID) (map[im.UserID][]im.Room, error)
	RoomMembers(ctx context.Context, c im.ConversationID, users []im.UserID) (version im.Seq, first map[im.UserID]im.Seq, err error)
}

// maxRoomsQuestion bounds the users in one question of a connector.
const maxRoomsQuestion = 500

// roomsMethods are the calls by which connectors ask it.
func (s *GRPCServer) roomsMethods() []grpc.MethodDesc {
	return []grpc.MethodDesc{
		s.roomsMethod(protocol.BridgeRoomsOf, func(ctx context.Context, q protocol.RoomsQuestion) ([]byte, error) {
			all, err := s.directory.RoomsOf(ctx, q.Users)
			return protocol.AppendRoomsOf(nil, all), err
		}),
		s.roomsMethod(protocol.BridgeRoomMembers, func(ctx context.Context, q protocol.RoomsQuestion) ([]byte, error) {
			version, first, err := s.directory.RoomMembers(ctx, q.Room, q.Users)
			return protocol.AppendRoomMembers(nil, version, first), err
		}),
	}
}

func (s *GRPCServer) roomsMethod(name string, answer func(context.Context, protocol.RoomsQuestion) ([]byte, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if !s.known(ctx) {
			return nil, status.Error(codes.Unauthenticated, "token")
		}
		var body []byte
		if err := decode(&body); err != nil {
			return nil, err
		}
		q, err := protocol.DecodeRoomsQuestion(body)
		if err == nil && len(q.Users) > maxRoomsQuestion {
			err = fmt.Errorf("%d users are more than %d", len(q.Users), maxRoomsQuestion)
		}
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		ctx, cancel := context.WithTimeout(ctx, bridgeDeadline)
		defer cancel()
		b, err := answer(ctx, q)
		if err != nil {
			s.log.Warn("a connector's question about rooms failed", "method", name, "err", err)
			return nil, status.Error(codes.Unavailable, name)
		}
		return &b, nil
	}}
}
