package queue

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// Field numbers of what a notice changes about who is in its conversation; never reused
// for another meaning.
const (
	fieldOp       protowire.Number = 1
	fieldGroup    protowire.Number = 2
	fieldJoin     protowire.Number = 3 // repeated
	fieldLeave    protowire.Number = 4 // repeated
	fieldJoinAll  protowire.Number = 5
	fieldLeaveAll protowire.Number = 6
	fieldHistory  protowire.Number = 7
)

func appendMembership(b []byte, m *im.Membership) []byte {
	b = appendNumber(b, fieldOp, uint64(m.Op))
	b = appendNumber(b, fieldGroup, uint64(m.Group))
	for _, u := range m.Join {
		b = appendNumber(b, fieldJoin, uint64(u))
	}
	for _, u := range m.Leave {
		b = appendNumber(b, fieldLeave, uint64(u))
	}
	b = appendNumber(b, fieldJoinAll, protowire.EncodeBool(m.JoinAll))
	b = appendNumber(b, fieldLeaveAll, protowire.EncodeBool(m.LeaveAll))
	return appendNumber(b, fieldHistory, protowire.EncodeBool(m.History))
}

func decodeMembership(b []byte, m *im.Membership) error {
	return eachField(b, func(num protowire.Number, _ []byte, number uint64) error {
		switch num {
		case fieldOp:
			m.Op = im.OpID(number)
		case fieldGroup:
			m.Group = im.GroupID(number)
		case fieldJoin, fieldLeave:
			if number == uint64(im.SystemUser) || number > im.MaxID {
				return &UndecodableError{"not a user ID"}
			}
			if num == fieldJoin {
				m.Join = append(m.Join, im.UserID(number))
			} else {
				m.Leave = append(m.Leave, im.UserID(number))
			}
		case fieldJoinAll:
			m.JoinAll = protowire.DecodeBool(number)
		case fieldLeaveAll:
			m.LeaveAll = protowire.DecodeBool(number)
		case fieldHistory:
			m.History = protowire.DecodeBool(number)
		}
		return nil
	})
}
