package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// What a connector asks logic beside the stream, for want of MySQL: unary calls of the
// same service, under the same token.
const (
	BridgeRoomsOf     = "RoomsOf"
	BridgeRoomMembers = "RoomMembers"
)

// RoomsQuestion asks in which channels users are, or which of them are in one.
type RoomsQuestion struct {
	Users []im.UserID
	Room  im.ConversationID // of RoomMembers
}

// Field numbers; never reused for another meaning.
const (
	questionRoom, questionUser protowire.Number = 1, 2

	guestUser, guestRoom                        protowire.Number = 1, 2
	guestRoomConv, guestRoomVersion, guestFirst protowire.Number = 1, 2, 3
	membersVersion, membersOne                  protowire.Number = 1, 2
	memberUser, memberFirst                     protowire.Number = 1, 2
)

// AppendRoomsQuestion encodes q.
func AppendRoomsQuestion(b []byte, q *RoomsQuestion) []byte {
	b = appendString(b, questionRoom, string(q.Room))
	for _, u := range q.Users {
		b = appendUint(b, questionUser, uint64(u))
	}
	return b
}

// DecodeRoomsQuestion reads what AppendRoomsQuestion made.
func DecodeRoomsQuestion(body []byte) (q RoomsQuestion, err error) {
	return q, eachField(body, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case questionRoom:
			q.Room = im.ConversationID(b)
		case questionUser:
			q.Users = append(q.Users, im.UserID(v))
		}
		return nil
	})
}

// AppendRoomsOf encodes the answer to RoomsOf, a batch of one item a user.
func AppendRoomsOf(b []byte, all map[im.UserID][]im.Room) []byte {
	var item, room []byte
	for u, rooms := range all {
		item = appendUint(item[:0], guestUser, uint64(u))
		for i := range rooms {
			room = appendString(room[:0], guestRoomConv, string(rooms[i].Conversation))
			room = appendUint(room, guestRoomVersion, uint64(rooms[i].Version))
			room = appendUint(room, guestFirst, uint64(rooms[i].First))
			item = protowire.AppendTag(item, guestRoom, protowire.BytesType)
			item = protowire.AppendBytes(item, room)
		}
		b = protowire.AppendBytes(b, item)
	}
	return b
}

// DecodeRoomsOf reads what AppendRoomsOf made. Users share the name of a channel.
func DecodeRoomsOf(batch []byte) (map[im.UserID][]im.Room, error) {
	all, names := make(map[im.UserID][]im.Room), make(map[string]im.ConversationID)
	err := eachItem(batch, func(body []byte) error {
		var user im.UserID
		var rooms []im.Room
		err := eachField(body, func(num protowire.Number, v uint64, b []byte) error {
			switch num {
			case guestUser:
				user = im.UserID(v)
			case guestRoom:
				r, err := decodeRoomOf(b, names)
				rooms = append(rooms, r)
				return err
			}
			return nil
		})
		all[user] = rooms
		return err
	})
	return all, err
}

func decodeRoomOf(body []byte, names map[string]im.ConversationID) (r im.Room, err error) {
	return r, eachField(body, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case guestRoomConv:
			name, known := names[string(b)]
			if !known {
				name = im.ConversationID(b)
				names[string(name)] = name
			}
			r.Conversation = name
		case guestRoomVersion:
			r.Version = im.Seq(v)
		case guestFirst:
			r.First = im.Seq(v)
		}
		return nil
	})
}

// AppendRoomMembers encodes the answer to RoomMembers.
func AppendRoomMembers(b []byte, version im.Seq, first map[im.UserID]im.Seq) []byte {
	b = appendUint(b, membersVersion, uint64(version))
	var item []byte
	for u, f := range first {
		item = appendUint(item[:0], memberUser, uint64(u))
		item = appendUint(item, memberFirst, uint64(f))
		b = protowire.AppendTag(b, membersOne, protowire.BytesType)
		b = protowire.AppendBytes(b, item)
	}
	return b
}

// DecodeRoomMembers reads what AppendRoomMembers made.
func DecodeRoomMembers(body []byte) (version im.Seq, first map[im.UserID]im.Seq, err error) {
	first = make(map[im.UserID]im.Seq)
	err = eachField(body, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case membersVersion:
			version = im.Seq(v)
		case membersOne:
			var user im.UserID
			var from im.Seq
			err := eachField(b, func(num protowire.Number, v uint64, _ []byte) error {
				switch num {
				case memberUser:
					user = im.UserID(v)
				case memberFirst:
					from = im.Seq(v)
				}
				return nil
			})
			first[user] = from
			return err
		}
		return nil
	})
	return version, first, err
}
