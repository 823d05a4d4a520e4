package logic

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// body is what a send says, in the one form in which it is hashed and stored.
type body struct {
	kind    im.MessageType
	content json.RawMessage
	text    string // of text and system messages
}

// readBody checks the shape of a send: what passes can be stored. Only the system may
// send a system message.
func readBody(req *protocol.Send, sender im.UserID) (body, error) {
	if err := req.ClientMsgID.Validate(); err != nil {
		return body{}, err
	}
	kind := req.Type
	if kind == "" {
		kind = im.TypeText
	}
	if len(req.Content) == 0 {
		return body{}, im.Invalid("content", "missing")
	}
	switch {
	case kind == im.TypeText, kind == im.TypeSystem && sender == im.SystemUser:
		return readText(kind, req.Content)
	case kind == im.TypeCustom:
		return readCustom(req.Content)
	}
	return body{}, im.Invalid("type", "must be text or custom")
}

func readText(kind im.MessageType, raw json.RawMessage) (body, error) {
	text, err := protocol.DecodeText(raw)
	if err != nil {
		return body{}, im.Invalid("content", `must be {"text": "…"}`)
	}
	if err := im.ValidateText(text); err != nil {
		return body{}, err
	}
	b := body{kind: kind}
	return b.say(text)
}

// say is the body with another text.
func (b body) say(text string) (body, error) {
	content, err := protocol.EncodeText(text)
	b.content, b.text = content, text
	return b, err
}

func readCustom(raw json.RawMessage) (body, error) {
	if raw[0] != '{' {
		return body{}, im.Invalid("content", "must be an object")
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return body{}, im.Invalid("content", "not valid JSON")
	}
	if out.Len() > im.MaxContentBytes {
		return body{}, im.ErrTooLarge
	}
	return body{kind: im.TypeCustom, content: out.Bytes()}, nil
}

// pageLimit is how many items a page holds: none asked for means fallback, too many
// the most there are.
func pageLimit(asked, fallback int) (int, error) {
	switch {
	case asked < 0:
		return 0, im.Invalid("limit", "must not be negative")
	case asked == 0:
		return fallback, nil
	}
	return min(asked, maxPage), nil
}

func isNotFound(err error) bool { return errors.Is(err, im.ErrNotFound) }
