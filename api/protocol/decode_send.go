package protocol

import (
	"bytes"
	"encoding/json"

	"github.com/curlew-im/curlew/logic/im"
)

// A send is nearly every frame, and its decoding was a third of what logic spends on
// it. The readers here take the plain form, as clients write it; whatever else they
// meet they leave to encoding/json, which also finds the error. A fuzz test holds the
// two to the same result.

// DecodeText reads the content of a text or system message.
func DecodeText(content json.RawMessage) (string, error) {
	if text, ok := plainText(content); ok {
		return text, nil
	}
	var c im.TextContent
	err := DecodeData(content, &c)
	return c.Text, err
}

func plainText(content []byte) (text string, ok bool) {
	m := members{c: checker{b: content}}
	for key, value := range m.all {
		if !plainKey(key) || string(key) == "text" && !plainString(value, &text) {
			return "", false
		}
	}
	return text, m.whole
}

// plainSend reads the data of a send. Its content shares raw's memory.
func plainSend(raw []byte, s *Send) bool {
	m := members{c: checker{b: raw}}
	for key, value := range m.all {
		ok := true
		switch string(key) {
		case "client_msg_id":
			ok = plainString(value, (*string)(&s.ClientMsgID))
		case "type":
			ok = plainString(value, (*string)(&s.Type))
		case "content":
			s.Content = value
		case "to":
			ok = plainTo(value, &s.To)
		case "reply_to", "forward", "mentions", "mentions_all", "deliver_at":
			return false
		default:
			ok = plainKey(key)
		}
		if !ok {
			return false
		}
	}
	return m.whole
}

func plainTo(raw []byte, to *To) bool {
	m := members{c: checker{b: raw}}
	for key, value := range m.all {
		var id string
		ok := true
		switch string(key) {
		case "user_id":
			ok = plainString(value, &id)
			user, err := im.ParseUserID(id)
			ok, to.UserID = ok && err == nil, &user
		case "conversation_id":
			ok = plainString(value, &id)
			conv, err := im.ParseConversationID(id)
			ok, to.ConversationID = ok && err == nil, conv
		case "handle":
			ok = plainString(value, &to.Handle)
		case "external_id":
			ok = plainString(value, &to.ExternalID)
		default:
			ok = plainKey(key)
		}
		if !ok {
			return false
		}
	}
	return m.whole
}

// plainString reads a string without escapes.
func plainString(raw []byte, into *string) bool {
	if len(raw) < 2 || raw[0] != '"' || bytes.IndexByte(raw, '\\') >= 0 {
		return false
	}
	*into = string(raw[1 : len(raw)-1])
	return true
}

// members walks the members of an object.
type members struct {
	c     checker
	whole bool // the object was walked to its end, and is all there is
}

func (m *members) all(yield func(key, value []byte) bool) {
	c := &m.c
	c.space()
	if !c.take('{') {
		return
	}
	for c.space(); ; c.space() {
		if c.at == len(c.b) || c.b[c.at] != '"' {
			return
		}
		key, ok := c.string(elsewhere)
		if !ok {
			return
		}
		c.space()
		if !c.take(':') {
			return
		}
		c.space()
		start := c.at
		if !c.value(1, elsewhere) || c.soft != nil || !yield(key[1:len(key)-1], c.b[start:c.at]) {
			return
		}
		c.space()
		if c.take('}') {
			break
		}
		if !c.take(',') {
			return
		}
	}
	c.space()
	m.whole = c.at == len(c.b)
}
