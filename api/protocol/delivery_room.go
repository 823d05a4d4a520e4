package protocol

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// Field numbers of what a Delivery says of a room; never reused for another meaning.
const (
	roomConversation protowire.Number = 1
	roomAbout        protowire.Number = 2
	roomExceptUser   protowire.Number = 3
	roomPrior        protowire.Number = 4
	roomVersion      protowire.Number = 5
	roomJoin         protowire.Number = 6 // repeated
	roomLeave        protowire.Number = 7 // repeated
	roomJoinFirst    protowire.Number = 8
	roomLeaveAll     protowire.Number = 9
)

// appendRoom appends what d says of a room; nothing where it is for no room.
func appendRoom(b []byte, d *Delivery) []byte {
	if d.Room == "" {
		return b
	}
	b = appendString(b, roomConversation, string(d.Room))
	for _, f := range [...]struct {
		num protowire.Number
		n   uint64
	}{
		{roomAbout, uint64(d.About)}, {roomExceptUser, uint64(d.ExceptUser)}, {roomPrior, uint64(d.Prior)},
		{roomVersion, uint64(d.Version)}, {roomJoinFirst, uint64(d.JoinFirst)}, {roomLeaveAll, protowire.EncodeBool(d.LeaveAll)},
	} {
		if f.n != 0 {
			b = appendUint(b, f.num, f.n)
		}
	}
	for _, u := range d.Join {
		b = appendUint(b, roomJoin, uint64(u))
	}
	for _, u := range d.Leave {
		b = appendUint(b, roomLeave, uint64(u))
	}
	return b
}

func decodeRoom(b []byte, d *Delivery) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
		}
		b = b[n:]
		var v uint64
		switch {
		case num == roomConversation && typ == protowire.BytesType:
			var text []byte
			text, n = protowire.ConsumeBytes(b)
			d.Room = im.ConversationID(text)
		case typ == protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
		}
		b = b[n:]
		switch num {
		case roomAbout:
			d.About = im.Seq(v)
		case roomExceptUser:
			d.ExceptUser = im.UserID(v)
		case roomPrior:
			d.Prior = im.Seq(v)
		case roomVersion:
			d.Version = im.Seq(v)
		case roomJoin:
			d.Join = append(d.Join, im.UserID(v))
		case roomLeave:
			d.Leave = append(d.Leave, im.UserID(v))
		case roomJoinFirst:
			d.JoinFirst = im.Seq(v)
		case roomLeaveAll:
			d.LeaveAll = v != 0
		}
	}
	return nil
}
