package protocol

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// The bridge carries Connect and Handle between a connector and logic in another
// process: one bidirectional stream of batches, gRPC's framing with bytes that are
// ours ([W5]). A connection keeps to one stream, so its messages stay in order.
const (
	BridgeService = "curlew.v1.Bridge"
	BridgeStream  = "Carry"
	BridgeMethod  = "/" + BridgeService + "/" + BridgeStream
)

// Ask is one item of a batch to logic.
type Ask struct {
	// Request numbers what is to be answered, unique in the life of the stream.
	Request uint64
	// Conn numbers the connection, likewise.
	Conn uint64
	// Hello comes with a connection's first message.
	Hello *Hello
	// Session comes with the first message on this stream of a connection that was
	// accepted on another, and again whenever it has changed.
	Session *im.Session
	Message []byte
	// Gone says that the connection has ended; there is no answer.
	Gone bool
}

// Told is one item of a batch from logic: the answer to one request, or Draining.
type Told struct {
	Request uint64
	// Session is set where a connection was accepted.
	Session *im.Session
	// Identity is set where a session goes on with a newer token.
	Identity *im.Identity
	Frame    []byte
	Close    Close
	// Watch is that of an Answer.
	Watch []Watch
	// Revoked, in an item of its own, is what sessions of any user must learn.
	Revoked []im.Revocation
	// Draining says that this process is about to stop: no new connections, please.
	Draining bool
}

// Field numbers of the bridge; never reused for another meaning. They are the
// protocol between two versions of Curlew during an upgrade.
const (
	askRequest, askConn, askHello, askSession, askMessage, askGone protowire.Number = 1, 2, 3, 4, 5, 6

	toldRequest, toldSession, toldIdentity, toldFrame, toldCloseCode, toldCloseReason, toldDraining,
	toldWatch, toldRevoked protowire.Number = 1, 2, 3, 4, 5, 6, 7, 8, 9

	watchUser, watchState, watchEnd protowire.Number = 1, 2, 3

	revokedID, revokedUser, revokedDevice, revokedTokenVersion, revokedDeviceVersion, revokedHidden protowire.Number = 1, 2, 3, 4, 5, 6

	sessionID, sessionNode, sessionIP, sessionUser, sessionDevice, sessionPlatform,
	sessionExpires, sessionTokenVersion, sessionDeviceVersion,
	sessionSince, sessionPolicy protowire.Number = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
)

var errBadBridge = errors.New("bad bridge batch")

// AppendAsk adds a to a batch.
func AppendAsk(batch []byte, a *Ask) []byte {
	b, start := openItem(batch)
	b = appendUint(b, askRequest, a.Request)
	b = appendUint(b, askConn, a.Conn)
	if a.Hello != nil {
		h := im.Session{ID: a.Hello.Session, Node: a.Hello.Node, IP: a.Hello.IP}
		b = protowire.AppendTag(b, askHello, protowire.BytesType)
		b = protowire.AppendBytes(b, appendSession(nil, &h))
	}
	if a.Session != nil {
		b = protowire.AppendTag(b, askSession, protowire.BytesType)
		b = protowire.AppendBytes(b, appendSession(nil, a.Session))
	}
	if len(a.Message) > 0 {
		b = protowire.AppendTag(b, askMessage, protowire.BytesType)
		b = protowire.AppendBytes(b, a.Message)
	}
	if a.Gone {
		b = appendUint(b, askGone, 1)
	}
	return closeItem(b, start)
}

// DecodeAsks reads a batch; messages share its memory.
func DecodeAsks(batch []byte) ([]Ask, error) {
	all := make([]Ask, 0, countItems(batch))
	err := eachItem(batch, func(body []byte) error {
		var a Ask
		err := eachField(body, func(num protowire.Number, v uint64, b []byte) error {
			switch num {
			case askRequest:
				a.Request = v
			case askConn:
				a.Conn = v
			case askHello:
				s, err := decodeSession(b)
				a.Hello = &Hello{Session: s.ID, Node: s.Node, IP: s.IP}
				return err
			case askSession:
				s, err := decodeSession(b)
				a.Session = &s
				return err
			case askMessage:
				a.Message = b
			case askGone:
				a.Gone = v != 0
			}
			return nil
		})
		all = append(all, a)
		return err
	})
	return all, err
}

// AppendTold adds t to a batch.
func AppendTold(batch []byte, t *Told) []byte {
	b, start := openItem(batch)
	b = appendUint(b, toldRequest, t.Request)
	if t.Session != nil {
		b = protowire.AppendTag(b, toldSession, protowire.BytesType)
		b = protowire.AppendBytes(b, appendSession(nil, t.Session))
	}
	if t.Identity != nil {
		b = protowire.AppendTag(b, toldIdentity, protowire.BytesType)
		b = protowire.AppendBytes(b, appendSession(nil, &im.Session{Identity: *t.Identity}))
	}
	if len(t.Frame) > 0 {
		b = protowire.AppendTag(b, toldFrame, protowire.BytesType)
		b = protowire.AppendBytes(b, t.Frame)
	}
	b = appendUint(b, toldCloseCode, uint64(t.Close.Code))
	b = appendString(b, toldCloseReason, t.Close.Reason)
	if t.Draining {
		b = appendUint(b, toldDraining, 1)
	}
	for i := range t.Watch {
		b = protowire.AppendTag(b, toldWatch, protowire.BytesType)
		b = protowire.AppendBytes(b, appendWatch(nil, &t.Watch[i]))
	}
	for i := range t.Revoked {
		b = protowire.AppendTag(b, toldRevoked, protowire.BytesType)
		b = protowire.AppendBytes(b, appendRevocation(nil, &t.Revoked[i]))
	}
	return closeItem(b, start)
}

// DecodeTolds reads a batch; frames share its memory.
func DecodeTolds(batch []byte) ([]Told, error) {
	all := make([]Told, 0, countItems(batch))
	err := eachItem(batch, func(body []byte) error {
		var t Told
		err := eachField(body, func(num protowire.Number, v uint64, b []byte) error {
			switch num {
			case toldRequest:
				t.Request = v
			case toldSession:
				s, err := decodeSession(b)
				t.Session = &s
				return err
			case toldIdentity:
				s, err := decodeSession(b)
				t.Identity = &s.Identity
				return err
			case toldFrame:
				t.Frame = b
			case toldCloseCode:
				t.Close.Code = CloseCode(v)
			case toldCloseReason:
				t.Close.Reason = string(b)
			case toldDraining:
				t.Draining = v != 0
			case toldWatch:
				w, err := decodeWatch(b)
				t.Watch = append(t.Watch, w)
				return err
			case toldRevoked:
				r, err := decodeRevocation(b)
				t.Revoked = append(t.Revoked, r)
				return err
			}
			return nil
		})
		all = append(all, t)
		return err
	})
	return all, err
}

func appendSession(b []byte, s *im.Session) []byte {
	b = appendString(b, sessionID, string(s.ID))
	b = appendString(b, sessionNode, string(s.Node))
	b = appendString(b, sessionIP, s.IP)
	b = appendUint(b, sessionUser, uint64(s.User))
	b = appendString(b, sessionDevice, string(s.Device))
	b = appendString(b, sessionPlatform, s.Platform)
	b = appendUint(b, sessionExpires, uint64(s.ExpiresAt))
	b = appendUint(b, sessionTokenVersion, uint64(s.TokenVersion))
	b = appendUint(b, sessionDeviceVersion, uint64(s.DeviceVersion))
	b = appendUint(b, sessionSince, uint64(s.Since))
	return appendString(b, sessionPolicy, string(s.Policy))
}

func decodeSession(body []byte) (s im.Session, err error) {
	return s, eachField(body, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case sessionID:
			s.ID = im.SessionID(b)
		case sessionNode:
			s.Node = im.NodeID(b)
		case sessionIP:
			s.IP = string(b)
		case sessionUser:
			s.User = im.UserID(v)
		case sessionDevice:
			s.Device = im.DeviceID(b)
		case sessionPlatform:
			s.Platform = string(b)
		case sessionExpires:
			s.ExpiresAt = int64(v)
		case sessionTokenVersion:
			s.TokenVersion = uint32(v)
		case sessionDeviceVersion:
			s.DeviceVersion = uint32(v)
		case sessionSince:
			s.Since = int64(v)
		case sessionPolicy:
			s.Policy = im.DevicePolicy(b)
		}
		return nil
	})
}

func appendWatch(b []byte, w *Watch) []byte {
	b = appendUint(b, watchUser, uint64(w.User))
	b = appendString(b, watchState, w.State)
	if w.End {
		b = appendUint(b, watchEnd, 1)
	}
	return b
}

func decodeWatch(body []byte) (w Watch, err error) {
	return w, eachField(body, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case watchUser:
			w.User = im.UserID(v)
		case watchState:
			w.State = string(b)
		case watchEnd:
			w.End = v != 0
		}
		return nil
	})
}

func appendRevocation(b []byte, r *im.Revocation) []byte {
	b = appendUint(b, revokedID, r.ID)
	b = appendUint(b, revokedUser, uint64(r.User))
	b = appendString(b, revokedDevice, string(r.Device))
	b = appendUint(b, revokedTokenVersion, uint64(r.TokenVersion))
	b = appendUint(b, revokedDeviceVersion, uint64(r.DeviceVersion))
	return appendUint(b, revokedHidden, uint64(r.Hidden))
}

func decodeRevocation(body []byte) (r im.Revocation, err error) {
	return r, eachField(body, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case revokedID:
			r.ID = v
		case revokedUser:
			r.User = im.UserID(v)
		case revokedDevice:
			r.Device = im.DeviceID(b)
		case revokedTokenVersion:
			r.TokenVersion = uint32(v)
		case revokedDeviceVersion:
			r.DeviceVersion = uint32(v)
		case revokedHidden:
			r.Hidden = im.UserID(v)
		}
		return nil
	})
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// itemLength is the room for an item's length, which is written when the item is whole: a
// varint that is not the shortest one, up to 2^28−1 bytes.
const itemLength = 4

// openItem begins an item at the end of a batch, closeItem ends it.
func openItem(batch []byte) (b []byte, start int) {
	return append(batch, 0x80, 0x80, 0x80, 0), len(batch) + itemLength
}

func closeItem(b []byte, start int) []byte {
	n := len(b) - start
	b[start-4] |= byte(n) & 0x7f
	b[start-3] |= byte(n>>7) & 0x7f
	b[start-2] |= byte(n>>14) & 0x7f
	b[start-1] |= byte(n>>21) & 0x7f
	return b
}

// countItems is how many items a batch has, up to the first that cannot be read.
func countItems(batch []byte) (items int) {
	for len(batch) > 0 {
		_, n := protowire.ConsumeBytes(batch)
		if n < 0 {
			break
		}
		items++
		batch = batch[n:]
	}
	return items
}

// eachItem walks a batch.
func eachItem(batch []byte, item func([]byte) error) error {
	for len(batch) > 0 {
		body, n := protowire.ConsumeBytes(batch)
		if n < 0 {
			return fmt.Errorf("%w: %w", errBadBridge, protowire.ParseError(n))
		}
		if err := item(body); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// eachField walks the fields of one item; those of types we do not use are skipped.
func eachField(body []byte, field func(num protowire.Number, v uint64, b []byte) error) error {
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return fmt.Errorf("%w: %w", errBadBridge, protowire.ParseError(n))
		}
		body = body[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(body)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(body)
		default:
			n = protowire.ConsumeFieldValue(num, typ, body)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", errBadBridge, protowire.ParseError(n))
		}
		if typ == protowire.VarintType || typ == protowire.BytesType {
			if err := field(num, v, b); err != nil {
				return err
			}
		}
		body = body[n:]
	}
	return nil
}

// BridgeCodec hands gRPC batches as they are: a *[]byte.
type BridgeCodec struct{}

// Name is the content subtype; both ends must use this codec.
func (BridgeCodec) Name() string { return "curlew" }

// Marshal takes a *[]byte, which must not change afterwards.
func (BridgeCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%w: %T", errBadBridge, v)
	}
	return *b, nil
}

// Unmarshal fills a *[]byte with data, which gRPC has made for this call.
func (BridgeCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%w: %T", errBadBridge, v)
	}
	*b = data
	return nil
}
