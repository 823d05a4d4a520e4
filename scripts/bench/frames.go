package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// kind of a frame from the server, as far as the generator tells them apart.
type kind uint8

const (
	other kind = iota
	reply
	message // push of a message
	stored  // push of a message's place
)

// seen is what the generator reads of a frame.
type seen struct {
	kind   kind
	id     int64 // of a reply
	failed bool  // a reply with an error
	conv   []byte
	seq    uint64
	text   []byte // of a message: our own, without escapes
}

var (
	replyHead   = []byte(`{"id":"`)
	messageHead = []byte(`{"push":"message"`)
	storedHead  = []byte(`{"push":"stored"`)
	convField   = []byte(`"conversation_id":"`)
	seqField    = []byte(`"seq":`)
	textField   = []byte(`"text":"`)
	errorField  = []byte(`"error":`)
)

// look reads a frame by finding its fields, as encoding/json would cost more than the
// server under test. Our texts hold nothing that looks like a field.
func look(frame []byte) seen {
	switch {
	case bytes.HasPrefix(frame, replyHead):
		n, rest := number(frame[len(replyHead):])
		return seen{kind: reply, id: int64(n), failed: bytes.HasPrefix(bytes.TrimPrefix(rest, []byte(`",`)), errorField)}
	case bytes.HasPrefix(frame, messageHead):
		s := seen{kind: message, conv: quoted(frame, convField), text: quoted(frame, textField)}
		s.seq, _ = number(after(frame, seqField))
		return s
	case bytes.HasPrefix(frame, storedHead):
		s := seen{kind: stored, conv: quoted(frame, convField)}
		s.seq, _ = number(after(frame, seqField))
		return s
	}
	return seen{}
}

func after(b, field []byte) []byte {
	if i := bytes.Index(b, field); i >= 0 {
		return b[i+len(field):]
	}
	return nil
}

func quoted(b, field []byte) []byte {
	b = after(b, field)
	if i := bytes.IndexByte(b, '"'); i >= 0 {
		return b[:i]
	}
	return nil
}

func number(b []byte) (n uint64, rest []byte) {
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		n, b = 10*n+uint64(b[0]-'0'), b[1:]
	}
	return n, b
}

// textBytes is the length of the texts that are sent, as in DESIGN.md's table.
const textBytes = 100

// appendSend appends the frame of a message of textBytes.
func appendSend(b []byte, id int64, to string, run string, from im.UserID, n int64, at int64) []byte {
	return appendText(b, id, to, run, from, n, at, "")
}

// appendText appends the frame of a message. Its text begins with who sent it, their
// how many-th it is and when: what every receiver needs to check and to measure. A text
// of one's own comes after that; without one it is padded to textBytes.
func appendText(b []byte, id int64, to string, run string, from im.UserID, n int64, at int64, text string) []byte {
	b = append(b, `{"id":"`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, `","cmd":"send","data":{"client_msg_id":"`...)
	b = append(b, run...)
	b = append(b, '-')
	b = strconv.AppendInt(b, n, 10)
	b = append(b, `","to":`...)
	b = append(b, to...)
	b = append(b, `,"content":{"text":"`...)
	start := len(b)
	b = strconv.AppendUint(b, uint64(from), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, n, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, at, 10)
	b = append(b, " ."...)
	if text != "" {
		quoted, err := json.Marshal(text)
		if err != nil {
			panic(err) // a string
		}
		b = append(b, quoted[1:len(quoted)-1]...)
	}
	for text == "" && len(b)-start < textBytes {
		b = append(b, '.')
	}
	return append(b, `"}}}`...)
}

// stamp reads a text back.
func stamp(text []byte) (from im.UserID, n, at int64, ok bool) {
	u, rest := number(text)
	m, rest := number(bytes.TrimPrefix(rest, []byte(" ")))
	t, rest := number(bytes.TrimPrefix(rest, []byte(" ")))
	return im.UserID(u), int64(m), int64(t), bytes.HasPrefix(rest, []byte(" ."))
}

// command is any other request.
func command(id int64, cmd protocol.Command, data any) []byte {
	body, err := json.Marshal(data)
	if err != nil {
		panic(err) // our own types
	}
	return fmt.Appendf(nil, `{"id":"%d","cmd":"%s","data":%s}`, id, cmd, body)
}
