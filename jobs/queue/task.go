package queue

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// MaxTaskBytes bounds one encoded task: a message of im.MaxContentBytes with its
// envelope fits several times over.
const MaxTaskBytes = 64 << 10

// taskVersion is the first byte of a record. It changes only when a reader of the
// old form could misunderstand the new; a new field does not change it.
const taskVersion = 1

// Field numbers of a task; never reused for another meaning.
const (
	fieldConversation protowire.Number = 1
	fieldSend         protowire.Number = 2
	fieldReceipt      protowire.Number = 3
	fieldChange       protowire.Number = 4
	fieldHide         protowire.Number = 5
	fieldFire         protowire.Number = 6 // JSON, like the two below: they are few
	fieldNotify       protowire.Number = 7
	fieldDead         protowire.Number = 8

	fieldSenderID      protowire.Number = 1
	fieldHandle        protowire.Number = 2
	fieldNickname      protowire.Number = 3
	fieldAvatar        protowire.Number = 4
	fieldClientMsgID   protowire.Number = 5
	fieldType          protowire.Number = 6
	fieldContent       protowire.Number = 7
	fieldHash          protowire.Number = 8
	fieldUncounted     protowire.Number = 9
	fieldAdvanceRead   protowire.Number = 10
	fieldAcceptedAt    protowire.Number = 11
	fieldOriginNode    protowire.Number = 12
	fieldOriginSession protowire.Number = 13
	fieldOriginRequest protowire.Number = 14
	fieldAbout         protowire.Number = 15 // JSON
	fieldMembership    protowire.Number = 16

	fieldUser      protowire.Number = 1
	fieldDevice    protowire.Number = 2
	fieldDelivered protowire.Number = 3
	fieldRead      protowire.Number = 4
)

// UndecodableError says why a record is no task. It is poison: reading it again
// changes nothing.
type UndecodableError struct {
	Reason string
}

func (e *UndecodableError) Error() string { return "undecodable record: " + e.Reason }

// AppendTask appends the record of t: a version byte, then protobuf fields.
func AppendTask(b []byte, t *im.Task) ([]byte, error) {
	if !t.Valid() {
		return nil, errors.New("a task holds exactly one thing to do")
	}
	b = append(b, taskVersion)
	b = appendText(b, fieldConversation, string(t.Conversation))
	field, body := fieldSend, []byte(nil)
	switch {
	case t.Send != nil:
		var err error
		if body, err = appendSend(nil, t.Send); err != nil {
			return nil, err
		}
	case t.Receipt != nil:
		field, body = fieldReceipt, appendReceipt(nil, t.Receipt)
	case t.Change != nil:
		field, body = fieldChange, appendChange(nil, t.Change)
	case t.Hide != nil:
		field, body = fieldHide, appendHide(nil, t.Hide)
	default:
		var err error
		if field, body, err = encodeRare(t); err != nil {
			return nil, err
		}
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, body), nil
}

func appendSend(b []byte, s *im.SendTask) ([]byte, error) {
	if b == nil {
		b = make([]byte, 0, len(s.Content)+len(s.Sender.Handle)+len(s.Sender.Nickname)+len(s.Sender.Avatar)+192)
	}
	b = appendNumber(b, fieldSenderID, uint64(s.Sender.ID))
	b = appendText(b, fieldHandle, s.Sender.Handle)
	b = appendText(b, fieldNickname, s.Sender.Nickname)
	b = appendText(b, fieldAvatar, s.Sender.Avatar)
	b = appendText(b, fieldClientMsgID, string(s.ClientMsgID))
	b = appendText(b, fieldType, string(s.Type))
	b = appendText(b, fieldContent, string(s.Content))
	b = protowire.AppendTag(b, fieldHash, protowire.BytesType)
	b = protowire.AppendBytes(b, s.Hash[:])
	b = appendNumber(b, fieldUncounted, uint64(s.Uncounted))
	b = appendNumber(b, fieldAdvanceRead, protowire.EncodeBool(s.AdvanceRead))
	b = appendNumber(b, fieldAcceptedAt, uint64(s.AcceptedAt))
	b = appendText(b, fieldOriginNode, string(s.Origin.Node))
	b = appendText(b, fieldOriginSession, string(s.Origin.Session))
	b = appendText(b, fieldOriginRequest, s.Origin.Request)
	if s.Membership != nil {
		b = protowire.AppendTag(b, fieldMembership, protowire.BytesType)
		b = protowire.AppendBytes(b, appendMembership(nil, s.Membership))
	}
	if s.About.Empty() {
		return b, nil
	}
	about, err := json.Marshal(&s.About)
	if err != nil {
		return nil, fmt.Errorf("encode what a message is about: %w", err)
	}
	return appendText(b, fieldAbout, string(about)), nil
}

func appendReceipt(b []byte, r *im.ReceiptTask) []byte {
	b = appendNumber(b, fieldUser, uint64(r.User))
	b = appendText(b, fieldDevice, string(r.Device))
	b = appendNumber(b, fieldDelivered, uint64(r.Delivered))
	b = appendNumber(b, fieldRead, uint64(r.Read))
	return b
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// DecodeTask reads a record. Fields it does not know are skipped. The task's content
// shares b's memory. The error is an *UndecodableError, also of what is above MaxTaskBytes:
// a producer would have refused it.
func DecodeTask(b []byte) (im.Task, error) {
	switch {
	case len(b) == 0:
		return im.Task{}, &UndecodableError{"empty"}
	case len(b) > MaxTaskBytes:
		return im.Task{}, &UndecodableError{fmt.Sprintf("%d bytes are above %d", len(b), MaxTaskBytes)}
	case b[0] != taskVersion:
		return im.Task{}, &UndecodableError{fmt.Sprintf("version %d", b[0])}
	}
	var t im.Task
	err := eachField(b[1:], func(num protowire.Number, text []byte, number uint64) error {
		switch num {
		case fieldConversation:
			c, err := im.ParseConversationID(string(text))
			if err != nil {
				return &UndecodableError{"not a conversation ID"}
			}
			t.Conversation = c
		case fieldSend:
			t.Send = new(im.SendTask)
			return decodeSend(text, t.Send)
		case fieldReceipt:
			t.Receipt = new(im.ReceiptTask)
			return decodeReceipt(text, t.Receipt)
		case fieldChange:
			t.Change = new(im.ChangeTask)
			return decodeChange(text, t.Change)
		case fieldHide:
			t.Hide = new(im.HideTask)
			return decodeHide(text, t.Hide)
		case fieldFire, fieldNotify, fieldDead:
			return decodeRare(num, text, &t)
		}
		return nil
	})
	switch {
	case err != nil:
		return im.Task{}, err
	case t.Conversation == "":
		return im.Task{}, &UndecodableError{"no conversation"}
	case !t.Valid():
		return im.Task{}, &UndecodableError{"not exactly one thing to do"}
	}
	return t, nil
}

func decodeSend(b []byte, s *im.SendTask) error {
	err := eachField(b, func(num protowire.Number, text []byte, number uint64) error {
		switch num {
		case fieldSenderID:
			s.Sender.ID = im.UserID(number)
		case fieldHandle:
			s.Sender.Handle = string(text)
		case fieldNickname:
			s.Sender.Nickname = string(text)
		case fieldAvatar:
			s.Sender.Avatar = string(text)
		case fieldClientMsgID:
			s.ClientMsgID = im.ClientMsgID(text)
		case fieldType:
			s.Type = im.MessageType(text)
		case fieldContent:
			s.Content = text
		case fieldHash:
			if len(text) != len(s.Hash) {
				return &UndecodableError{"content hash of a wrong length"}
			}
			copy(s.Hash[:], text)
		case fieldUncounted:
			s.Uncounted = im.Uncounted(min(number, 255))
		case fieldAdvanceRead:
			s.AdvanceRead = protowire.DecodeBool(number)
		case fieldAcceptedAt:
			s.AcceptedAt = int64(number)
		case fieldOriginNode:
			s.Origin.Node = im.NodeID(text)
		case fieldOriginSession:
			s.Origin.Session = im.SessionID(text)
		case fieldOriginRequest:
			s.Origin.Request = string(text)
		case fieldAbout:
			if json.Unmarshal(text, &s.About) != nil {
				return &UndecodableError{"what the message is about is not JSON"}
			}
		case fieldMembership:
			s.Membership = new(im.Membership)
			return decodeMembership(text, s.Membership)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case s.ClientMsgID.Validate() != nil:
		return &UndecodableError{"not a client message ID"}
	case s.Sender.ID > im.MaxID:
		return &UndecodableError{"not a user ID"}
	case s.Uncounted > im.UncountedForAll:
		return &UndecodableError{"unknown uncounted value"}
	}
	return nil
}

func decodeReceipt(b []byte, r *im.ReceiptTask) error {
	err := eachField(b, func(num protowire.Number, text []byte, number uint64) error {
		switch num {
		case fieldUser:
			r.User = im.UserID(number)
		case fieldDevice:
			r.Device = im.DeviceID(text)
		case fieldDelivered:
			r.Delivered = im.Seq(number)
		case fieldRead:
			r.Read = im.Seq(number)
		}
		return nil
	})
	if err == nil && r.User > im.MaxID {
		return &UndecodableError{"not a user ID"}
	}
	return err
}

// eachField calls f with each field's bytes or number.
func eachField(b []byte, f func(num protowire.Number, text []byte, number uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return &UndecodableError{protowire.ParseError(n).Error()}
		}
		b = b[n:]
		var text []byte
		var number uint64
		switch typ {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		default:
			if n = protowire.ConsumeFieldValue(num, typ, b); n >= 0 {
				b = b[n:]
				continue
			}
		}
		if n < 0 {
			return &UndecodableError{protowire.ParseError(n).Error()}
		}
		b = b[n:]
		if err := f(num, text, number); err != nil {
			return err
		}
	}
	return nil
}
