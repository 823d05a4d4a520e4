package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/curlew-im/curlew/logic/im"
)

// MaxRequestID bounds the id of a request, in bytes.
const MaxRequestID = 64

// DecodeRequest reads the envelope of a frame, after the checks of CheckJSON. The
// error is an *im.InvalidError; Request.ID and Cmd are set with it wherever they could
// be read, so that the refusal reaches who asked ([W1]). Data shares the message's memory.
func DecodeRequest(message []byte) (Request, error) {
	var env envelope
	err := checkJSON(message, &env)
	if errors.Is(err, errSyntax) {
		return Request{}, err
	}
	var r Request
	if id, ok := unquote(env.id); ok && len(id) <= MaxRequestID {
		r.ID = id
	}
	cmd, ok := unquote(env.cmd)
	r.Cmd = Command(cmd)
	switch {
	case err != nil:
		return r, err
	case !env.object:
		return r, im.Invalid("json", "not an object")
	case r.ID == "":
		return r, im.Invalid("id", "must be a string of 1 to 64 bytes")
	case !ok || cmd == "":
		return r, im.Invalid("cmd", "must be a string")
	}
	if string(env.data) != "null" {
		r.Data = env.data
	}
	return r, nil
}

// unquote reads a JSON string that the checking pass has accepted.
func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// DecodeData reads the data of a request, or a whole HTTP body, into a struct of this
// package. Absent data is an empty object. The error is an *im.InvalidError that
// names the field. raw has passed CheckJSON or DecodeRequest; what is raw in into may
// share its memory.
func DecodeData(raw []byte, into any) error {
	if len(raw) == 0 {
		return nil
	}
	if send, ok := into.(*Send); ok {
		var plain Send
		if plainSend(raw, &plain) {
			*send = plain
			return nil
		}
	}
	if first := bytes.TrimLeft(raw, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return im.Invalid("json", "not an object")
	}
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	var invalid *im.InvalidError
	if errors.As(err, &invalid) {
		return invalid
	}
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) && typed.Field != "" {
		return im.Invalid(typed.Field, "must be "+wireType(typed.Type))
	}
	return im.Invalid("json", "not valid")
}

// wireType is what a client calls a Go type.
func wireType(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Uint64:
		if t.Implements(textMarshaler) { // an ID
			return "a string of digits"
		}
		return "a whole number, not negative"
	}
	return "an object"
}

var textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()

// EncodeText is {"text": text} as EncodeJSON has it.
func EncodeText(text string) (json.RawMessage, error) {
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c == '"' || c == '\\' || c == 0xE2 || c == 0x7F { // 0xE2 begins U+2028
			return EncodeJSON(im.TextContent{Text: text})
		}
	}
	out := make([]byte, 0, len(text)+len(`{"text":""}`))
	out = append(out, `{"text":"`...)
	out = append(out, text...)
	return append(out, `"}`...), nil
}

// EncodeReply encodes the answer to a request.
func EncodeReply(r Reply) ([]byte, error) { return EncodeJSON(r) }

// EncodePush encodes a push; its bytes are shared over the whole fan-out.
func EncodePush(p PushFrame) ([]byte, error) { return EncodeJSON(p) }

// EncodeJSON is JSON as it goes to clients: nothing escaped for HTML, raw content
// compacted, no newline at the end. It fails only where raw content is not JSON.
func EncodeJSON(v any) ([]byte, error) {
	e := encoders.Get().(*encoder)
	e.buf.Reset()
	if err := e.json.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	out := bytes.Clone(bytes.TrimSuffix(e.buf.Bytes(), []byte("\n")))
	if e.buf.Cap() <= maxPooledBytes {
		encoders.Put(e)
	}
	return out, nil
}

// maxPooledBytes is the largest buffer kept for the next frame; a page of history is
// larger and rare.
const maxPooledBytes = 64 << 10

type encoder struct {
	buf  bytes.Buffer
	json *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buf)
	e.json.SetEscapeHTML(false)
	return e
}}
