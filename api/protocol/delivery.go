package protocol

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// Delivery is one frame on its way to connections of one node. It travels the
// node's channel in batches; the frame is encoded once and its bytes are shared.
type Delivery struct {
	// Users whose connections on the node get the frame.
	Users []im.UserID
	// Only narrows it to one connection, Except leaves one out.
	Only, Except im.SessionID
	// Conversation and Seq, where set, keep the order: a frame whose seq is not above
	// the last one pushed for the conversation by this node is dropped.
	Conversation im.ConversationID
	Seq          im.Seq
	// Room says that the frame is for the members of a channel who are connected to the
	// node, or those among Users where some are named; those who see it only from a later
	// seq than About are left out, and ExceptUser. Version is that of the roster it is for (the seq of the last
	// notice that changed it; 0: any): a node whose room is older asks before it delivers.
	// Join and Leave change the room, whose version was Prior before: who joins is told
	// the frame too, who leaves is told it last; LeaveAll ends the room.
	Room        im.ConversationID
	About       im.Seq
	ExceptUser  im.UserID
	Prior       im.Seq
	Version     im.Seq
	Join, Leave []im.UserID
	JoinFirst   im.Seq // who joins sees from here on
	LeaveAll    bool
	// Frame is what is written, an encoded PushFrame; empty where only Close counts.
	Frame []byte
	// Close, where its code is set, ends the connections after the frame.
	Close Close
	// Request names a waiter of this node (?wait=stored), instead of connections;
	// Frame is what it waits for.
	Request string
	// Presence says that the presence of Users may have changed: the node reads it and
	// tells the connections that watch them. Nothing else is set.
	Presence bool
}

// Field numbers of a Delivery in a batch; never reused for another meaning.
const (
	fieldUser         protowire.Number = 1
	fieldOnly         protowire.Number = 2
	fieldExcept       protowire.Number = 3
	fieldConversation protowire.Number = 4
	fieldSeq          protowire.Number = 5
	fieldFrame        protowire.Number = 6
	fieldCloseCode    protowire.Number = 7
	fieldCloseReason  protowire.Number = 8
	fieldRequest      protowire.Number = 9
	fieldPresence     protowire.Number = 10
	fieldRoom         protowire.Number = 11
)

var errBadBatch = errors.New("bad push batch")

// AppendDelivery adds d to a batch.
func AppendDelivery(batch []byte, d *Delivery) []byte {
	size := sizeString(len(d.Only)) + sizeString(len(d.Except)) + sizeString(len(d.Conversation)) +
		sizeString(len(d.Frame)) + sizeString(len(d.Close.Reason)) + sizeString(len(d.Request)) +
		sizeNumber(uint64(d.Seq)) + sizeNumber(uint64(d.Close.Code))
	if d.Presence {
		size += sizeNumber(1)
	}
	room := appendRoom(nil, d)
	size += sizeString(len(room))
	for _, u := range d.Users {
		size += 1 + protowire.SizeVarint(uint64(u)) // also a zero
	}
	b := protowire.AppendVarint(batch, uint64(size))
	for _, u := range d.Users {
		b = protowire.AppendTag(b, fieldUser, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(u))
	}
	b = appendString(b, fieldOnly, string(d.Only))
	b = appendString(b, fieldExcept, string(d.Except))
	b = appendString(b, fieldConversation, string(d.Conversation))
	if d.Seq != 0 {
		b = protowire.AppendTag(b, fieldSeq, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(d.Seq))
	}
	if len(d.Frame) > 0 {
		b = protowire.AppendTag(b, fieldFrame, protowire.BytesType)
		b = protowire.AppendBytes(b, d.Frame)
	}
	if d.Close.Code != 0 {
		b = protowire.AppendTag(b, fieldCloseCode, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(d.Close.Code))
	}
	b = appendString(b, fieldCloseReason, d.Close.Reason)
	if d.Presence {
		b = appendUint(b, fieldPresence, 1)
	}
	if len(room) > 0 {
		b = protowire.AppendTag(b, fieldRoom, protowire.BytesType)
		b = protowire.AppendBytes(b, room)
	}
	return appendString(b, fieldRequest, d.Request)
}

// sizeString and sizeNumber are what a field takes, whose tag is one byte; empty and
// zero ones are left out.
func sizeString(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func sizeNumber(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(n)
}

// DecodeDeliveries reads a batch. The frames share the batch's memory.
func DecodeDeliveries(batch []byte) ([]Delivery, error) {
	all := make([]Delivery, 0, countItems(batch))
	for len(batch) > 0 {
		body, n := protowire.ConsumeBytes(batch)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
		}
		batch = batch[n:]
		d, err := decodeDelivery(body)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func decodeDelivery(b []byte) (d Delivery, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return d, fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return d, fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
			}
			b = b[n:]
			switch num {
			case fieldUser:
				d.Users = append(d.Users, im.UserID(v))
			case fieldSeq:
				d.Seq = im.Seq(v)
			case fieldCloseCode:
				d.Close.Code = CloseCode(v)
			case fieldPresence:
				d.Presence = v != 0
			}
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return d, fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
			}
			b = b[n:]
			switch num {
			case fieldOnly:
				d.Only = im.SessionID(v)
			case fieldExcept:
				d.Except = im.SessionID(v)
			case fieldConversation:
				d.Conversation = im.ConversationID(v)
			case fieldFrame:
				d.Frame = v
			case fieldCloseReason:
				d.Close.Reason = string(v)
			case fieldRequest:
				d.Request = string(v)
			case fieldRoom:
				if err := decodeRoom(v, &d); err != nil {
					return d, err
				}
			}
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return d, fmt.Errorf("%w: %w", errBadBatch, protowire.ParseError(n))
			}
			b = b[n:]
		}
	}
	return d, nil
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}
