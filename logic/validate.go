package logic

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// body is what a send says, in the one form in which it is hashed and stored.
type body struct {
	kind    im.MessageType
	content json.RawMessage
	text    string          // what the filter looks at: a text, or the name of a file or place
	refs    json.RawMessage // what else the client said: reply, forward, mentions
}

// forwarding stands for the type of what is forwarded, which the client does not say.
const forwarding im.MessageType = "forward"

// hash identifies what the client sent. A message that refers to nothing has the hash
// of its content alone.
func (b *body) hash() im.ContentHash {
	if len(b.refs) == 0 {
		return im.HashContent(b.kind, b.content)
	}
	return im.HashContent(b.kind, append(append([]byte(nil), b.content...), b.refs...))
}

// readBody checks the shape of a send: what passes can be stored. Only the system may
// send a system message.
func (s *Service) readBody(req *protocol.Send, sender im.UserID) (body, error) {
	if err := req.ClientMsgID.Validate(); err != nil {
		return body{}, err
	}
	if strings.HasPrefix(string(req.ClientMsgID), im.OpPrefix) {
		return body{}, im.Invalid("client_msg_id", "must not begin with "+im.OpPrefix)
	}
	refs, err := encodeRefs(req)
	if err != nil {
		return body{}, err
	}
	if req.Forward != nil {
		if req.Type != "" || len(req.Content) > 0 || req.ReplyTo != nil {
			return body{}, im.Invalid("forward", "goes without type, content and reply_to")
		}
		return body{kind: forwarding, refs: refs}, nil
	}
	b, err := s.readContent(req, sender)
	b.refs = refs
	return b, err
}

// readContent reads the content as its type says it is.
func (s *Service) readContent(req *protocol.Send, sender im.UserID) (body, error) {
	kind := req.Type
	if kind == "" {
		kind = im.TypeText
	}
	if len(req.Content) == 0 {
		return body{}, im.Invalid("content", "missing")
	}
	switch kind {
	case im.TypeText:
		return readText(kind, req.Content)
	case im.TypeSystem:
		if sender == im.SystemUser {
			return readText(kind, req.Content)
		}
	case im.TypeImage, im.TypeFile, im.TypeAudio, im.TypeVideo:
		return readMedia(kind, req.Content, s.cfg.MaxAttachmentBytes)
	case im.TypeLocation:
		return readLocation(req.Content)
	case im.TypeCustom:
		return readCustom(req.Content)
	}
	return body{}, im.Invalid("type", "must be text, image, file, audio, video, location or custom")
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
	content, err := reword(b.kind, b.content, text)
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
