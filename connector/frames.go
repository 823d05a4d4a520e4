package connector

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

// assembler turns bytes into messages: ws framing over what has arrived so far. It
// belongs to one reader (an event loop, or the goroutine of a connection), which
// serves many connections with it; what a connection leaves unfinished is kept in
// a fragment of its own.
type assembler struct {
	maxMessage   int
	maxFragments int

	reader  bytes.Reader // ws parses headers from a reader; kept here, not on the heap each time
	header  [ws.MaxHeaderSize]byte
	scratch fragment
}

// fragment is the unfinished part of a connection's input.
type fragment struct {
	head  [ws.MaxHeaderSize]byte // of a frame whose header is not whole yet
	nhead int

	inFrame bool
	frame   ws.Header
	got     int64  // payload bytes of the frame that have come
	control []byte // payload of a control frame under way

	request []byte // of the handshake, until its header is whole

	fragmented bool   // a data message has begun, and its last frame has not
	message    []byte // payload of the data message so far, unmasked
	valid      int    // bytes of message that are whole UTF-8
	frames     int    // of the message
}

func (f *fragment) empty() bool { return f.nhead == 0 && !f.inFrame && !f.fragmented }

// sink takes what an assembler finds. payload is valid during the call only unless
// owned. A code other than 0 stops the parsing: the connection is to be closed.
type sink interface {
	message(payload []byte, owned bool) protocol.Close
	control(op ws.OpCode, payload []byte) protocol.Close
}

var open protocol.Close // the connection stays open

func broken(reason string) protocol.Close {
	return protocol.Close{Code: protocol.CloseProtocol, Reason: reason}
}

// feed parses data, which it unmasks in place, after f, what was left of the bytes
// before it (nil: nothing). It returns what is left now.
func (a *assembler) feed(f *fragment, data []byte, to sink) (*fragment, protocol.Close) {
	if f == nil {
		a.scratch = fragment{}
		f = &a.scratch
	}
	for {
		var c protocol.Close
		if !f.inFrame {
			if data, c = a.takeHeader(f, data); c != open {
				return nil, c
			}
			if !f.inFrame {
				break // the header is not whole
			}
		}
		n := min(f.frame.Length-f.got, int64(len(data)))
		if n == 0 && f.got < f.frame.Length {
			break // the payload is not whole
		}
		chunk := data[:n]
		data = data[n:]
		ws.Cipher(chunk, f.frame.Mask, int(f.got%4))
		f.got += n
		if f.frame.OpCode.IsControl() {
			c = f.takeControl(chunk, to)
		} else {
			c = f.takeData(chunk, to)
		}
		if c != open {
			return nil, c
		}
	}
	if f.empty() {
		return nil, open
	}
	if f == &a.scratch {
		kept := a.scratch
		a.scratch = fragment{}
		f = &kept
	}
	return f, open
}

// takeHeader takes the next frame's header from data and checks it, each part as
// soon as it has come.
func (a *assembler) takeHeader(f *fragment, data []byte) (rest []byte, c protocol.Close) {
	for f.nhead < headerSize(f.head[:f.nhead]) {
		if len(data) == 0 {
			return nil, open
		}
		before := f.nhead
		n := copy(f.head[f.nhead:headerSize(f.head[:f.nhead])], data)
		f.nhead += n
		data = data[n:]
		if before < 2 && f.nhead == 2 {
			if c := f.checkStart(); c != open {
				return nil, c
			}
		}
	}
	a.reader.Reset(f.head[:f.nhead])
	h, err := ws.ReadHeaderBuffer(&a.reader, a.header[:0])
	if err != nil { // the length's top bit is set
		return nil, broken("bad length")
	}
	f.nhead = 0
	if h.OpCode.IsData() {
		if int64(len(f.message))+h.Length > int64(a.maxMessage) {
			return nil, protocol.Close{Code: protocol.CloseTooBig, Reason: "message too big"}
		}
		if f.frames++; f.frames > a.maxFragments {
			return nil, protocol.Close{Code: protocol.CloseTooBig, Reason: "too many fragments"}
		}
	}
	f.inFrame, f.frame, f.got = true, h, 0
	return data, open
}

// headerSize is how long a header with these first bytes is; 2 while unknown.
func headerSize(head []byte) int {
	if len(head) < 2 {
		return 2
	}
	n := 2
	switch head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// checkStart judges a frame by its first two bytes, so that what is wrong is
// answered before the rest of the header is there.
func (f *fragment) checkStart() protocol.Close {
	h := ws.Header{
		Fin:    f.head[0]&0x80 != 0,
		Rsv:    f.head[0] & 0x70 >> 4,
		OpCode: ws.OpCode(f.head[0] & 0x0f),
		Masked: f.head[1]&0x80 != 0,
		Length: int64(f.head[1] & 0x7f), // of a control frame: as it is, or over 125
	}
	state := ws.StateServerSide
	if f.fragmented {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return broken(err.Error())
	}
	if h.OpCode == ws.OpBinary {
		return protocol.Close{Code: protocol.CloseUnsupported, Reason: "text only"}
	}
	return open
}

func (f *fragment) takeControl(chunk []byte, to sink) protocol.Close {
	whole := f.got == f.frame.Length
	if !whole || f.control != nil {
		f.control = append(f.control, chunk...)
		chunk = f.control
	}
	if !whole {
		return open
	}
	op := f.frame.OpCode
	f.inFrame, f.control = false, nil
	if op == ws.OpClose {
		if c := checkClose(chunk); c != open {
			return c
		}
	}
	return to.control(op, chunk)
}

func (f *fragment) takeData(chunk []byte, to sink) protocol.Close {
	whole := f.got == f.frame.Length
	if whole && f.frame.Fin && !f.fragmented && f.message == nil { // the usual case: nothing to keep
		f.inFrame, f.frames = false, 0
		if !utf8.Valid(chunk) {
			return invalidUTF8
		}
		return to.message(chunk, false)
	}
	f.fragmented = true
	f.message = append(f.message, chunk...)
	n, ok := validPrefix(f.message[f.valid:])
	if f.valid += n; !ok {
		return invalidUTF8
	}
	if !whole {
		return open
	}
	f.inFrame = false
	if !f.frame.Fin {
		return open
	}
	if f.valid < len(f.message) {
		return invalidUTF8 // ends inside a code point
	}
	m := f.message
	f.message, f.valid, f.frames, f.fragmented = nil, 0, 0, false
	return to.message(m, true)
}

var invalidUTF8 = protocol.Close{Code: protocol.CloseInvalidUTF8, Reason: "invalid UTF-8"}

// validPrefix counts the bytes of b that are whole code points; ok is false where
// what follows them cannot become one.
func validPrefix(b []byte) (n int, ok bool) {
	if utf8.Valid(b) {
		return len(b), true
	}
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			return n, !utf8.FullRune(b[n:])
		}
		n += size
	}
	return n, true
}

// checkClose judges the payload of a close frame: none, or a code that may be sent
// (RFC 6455 §7.4; 1012 to 1014 are registered since) and a reason in UTF-8.
func checkClose(payload []byte) protocol.Close {
	switch len(payload) {
	case 0:
		return open
	case 1:
		return broken("close code cut short")
	}
	code, reason := ws.ParseCloseFrameData(payload)
	if !utf8.ValidString(reason) {
		return invalidUTF8
	}
	if code >= 1012 && code <= 1014 {
		return open
	}
	if err := ws.CheckCloseFrameData(code, reason); err != nil || code > ws.StatusRangePrivate.Max {
		return broken("bad close code")
	}
	return open
}

// textFrame is payload as one frame. A server's frames are not masked, so that the
// bytes can be shared by all who get them.
func textFrame(payload []byte) []byte { return compile(ws.NewTextFrame(payload)) }

func pongFrame(payload []byte) []byte { return compile(ws.NewPongFrame(payload)) }

func closeFrame(c protocol.Close) []byte {
	return compile(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(c.Code), c.Reason)))
}

// compile is ws.CompileFrame in one allocation.
func compile(f ws.Frame) []byte {
	b := make([]byte, 0, ws.HeaderSize(f.Header)+len(f.Payload))
	b = append(b, 0x80|byte(f.Header.OpCode))
	switch n := len(f.Payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, f.Payload...)
}
