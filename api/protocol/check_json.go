package protocol

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/curlew-im/curlew/logic/im"
)

// MaxDepth is how deep JSON from outside may nest.
const MaxDepth = 32

// CheckJSON is the one checking pass over JSON from outside, a frame or an HTTP body:
// one valid value and nothing after it, nested at most MaxDepth deep, valid UTF-8, no
// lone surrogate escapes, and no repeated key among those that name an ID or a seq or
// hold such ([W4]), since decoders differ in which of two they take. What a message's
// content holds is carried and not understood, so keys may repeat there. It returns
// an *im.InvalidError; of content.text where the text of a message is at fault.
func CheckJSON(b []byte) error { return checkJSON(b, nil) }

var (
	errSyntax    = im.Invalid("json", "not valid")
	errDepth     = im.Invalid("json", "nested too deep")
	errText      = im.Invalid("json", "not valid UTF-8, or a lone surrogate")
	errInContent = im.Invalid("content.text", "not valid UTF-8, or a lone surrogate")
)

// key is a member's name that the pass knows; 0 is any other.
type key uint8

// keyNames are the keys that may not repeat in one object, and after them those that
// only say where a message's text is. A key is known under any spelling that
// encoding/json takes for it.
var keyNames = [...]string{
	"", "id", "cmd", "data", "to", "from", "position", "user_id", "handle", "external_id", "conversation_id",
	"client_msg_id", "message_id", "device", "token", "refresh_token", "seq", "before_seq", "after_seq", "around",
	"delivered_seq", "read_seq", "hidden_seq", "up_to_seq", "epoch", "version", "limit", "users",
	"client_change_id", "after_change", "base_change", "reply_to", "forward", "mentions", "seqs",
	"user_ids", "members", "role", "until", "client_group_id", "merged_at", "mentions_all",
	"content", "text",
}

const (
	keyID      key = 1
	keyCmd     key = 2
	keyData    key = 3
	keyText        = key(len(keyNames) - 1)
	keyContent     = keyText - 1 // the first that may repeat
)

var keysByName = func() map[string]key {
	m := make(map[string]key, len(keyNames))
	for i, name := range keyNames[1:] {
		m[name] = key(i + 1)
	}
	return m
}()

// envelope is where the members of the outermost object are, as raw JSON.
type envelope struct {
	object        bool
	id, cmd, data []byte
}

// place is where in a message a value stands.
type place uint8

const (
	elsewhere place = iota
	inContent       // the value of a key "content", or below it
	inText          // the value of "text" in it
)

type checker struct {
	b    []byte
	at   int
	hard error // ends the pass
	soft error // the first of those that let it go on
	env  *envelope
}

func checkJSON(b []byte, env *envelope) error {
	c := checker{b: b, env: env}
	c.space()
	if c.value(0, elsewhere) {
		c.space()
		if c.at == len(b) {
			return c.soft
		}
	}
	if c.hard != nil {
		return c.hard
	}
	return errSyntax
}

func (c *checker) space() {
	for c.at < len(c.b) {
		switch c.b[c.at] {
		case ' ', '\t', '\r', '\n':
			c.at++
		default:
			return
		}
	}
}

func (c *checker) value(depth int, p place) bool {
	if c.at == len(c.b) {
		return false
	}
	switch c.b[c.at] {
	case '{':
		return c.nest(depth, p, c.object)
	case '[':
		return c.nest(depth, p, c.array)
	case '"':
		_, ok := c.string(p)
		return ok
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	}
	return c.number()
}

func (c *checker) nest(depth int, p place, body func(int, place) bool) bool {
	if depth == MaxDepth {
		c.hard = errDepth
		return false
	}
	c.at++
	c.space()
	return body(depth+1, p)
}

func (c *checker) object(depth int, p place) bool {
	top := depth == 1 && c.env != nil
	if top {
		c.env.object = true
	}
	if c.take('}') {
		return true
	}
	var seen uint64
	for {
		if c.at == len(c.b) || c.b[c.at] != '"' {
			return false
		}
		raw, ok := c.string(elsewhere)
		if !ok {
			return false
		}
		k := keyOf(raw)
		c.space()
		if !c.take(':') {
			return false
		}
		c.space()
		if p == elsewhere && k != 0 && k < keyContent {
			if seen&(1<<k) != 0 && c.soft == nil {
				c.soft = im.Invalid(keyNames[k], "given twice")
			}
			seen |= 1 << k
		}
		start := c.at
		if !c.value(depth, below(p, k)) {
			return false
		}
		if top {
			c.env.note(k, c.b[start:c.at])
		}
		c.space()
		if c.take('}') {
			return true
		}
		if !c.take(',') {
			return false
		}
		c.space()
	}
}

// below is where the value of k stands in an object at p.
func below(p place, k key) place {
	switch {
	case p == elsewhere && k == keyContent:
		return inContent
	case p == inContent && k == keyText:
		return inText
	}
	return p
}

// note keeps the first of each member; a second one is refused.
func (e *envelope) note(k key, value []byte) {
	switch {
	case k == keyID && e.id == nil:
		e.id = value
	case k == keyCmd && e.cmd == nil:
		e.cmd = value
	case k == keyData && e.data == nil:
		e.data = value
	}
}

func (c *checker) array(depth int, p place) bool {
	if c.take(']') {
		return true
	}
	for {
		if !c.value(depth, p) {
			return false
		}
		c.space()
		if c.take(']') {
			return true
		}
		if !c.take(',') {
			return false
		}
		c.space()
	}
}

func (c *checker) take(b byte) bool {
	if c.at < len(c.b) && c.b[c.at] == b {
		c.at++
		return true
	}
	return false
}

func (c *checker) word(w string) bool {
	if end := c.at + len(w); end > len(c.b) || string(c.b[c.at:end]) != w {
		return false
	}
	c.at += len(w)
	return true
}

// string passes one string, quotes included, and returns it as it stands.
func (c *checker) string(p place) (raw []byte, ok bool) {
	start := c.at
	bad := false
	for c.at++; c.at < len(c.b); {
		switch b := c.b[c.at]; {
		case b == '"':
			c.at++
			if bad && c.soft == nil {
				c.soft = errText
				if p == inText {
					c.soft = errInContent
				}
			}
			return c.b[start:c.at], true
		case b == '\\':
			lone, ok := c.escape()
			if !ok {
				return nil, false
			}
			bad = bad || lone
		case b < 0x20:
			return nil, false
		case b < utf8.RuneSelf:
			c.at++
		default:
			r, n := utf8.DecodeRune(c.b[c.at:])
			bad = bad || r == utf8.RuneError && n == 1
			c.at += n
		}
	}
	return nil, false
}

// escape passes one escape, or both of a surrogate pair.
func (c *checker) escape() (lone, ok bool) {
	if c.at+1 >= len(c.b) {
		return false, false
	}
	switch c.b[c.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.at += 2
		return false, true
	case 'u':
	default:
		return false, false
	}
	r, ok := c.hex4(c.at)
	if !ok {
		return false, false
	}
	c.at += 6
	switch {
	case r < 0xD800 || r > 0xDFFF:
		return false, true
	case r >= 0xDC00:
		return true, true
	}
	if low, ok := c.hex4(c.at); ok && low >= 0xDC00 && low <= 0xDFFF {
		c.at += 6
		return false, true
	}
	return true, true
}

// hex4 reads the number of the \uXXXX at i.
func (c *checker) hex4(i int) (r rune, ok bool) {
	if i+6 > len(c.b) || c.b[i] != '\\' || c.b[i+1] != 'u' {
		return 0, false
	}
	for _, b := range c.b[i+2 : i+6] {
		switch {
		case b >= '0' && b <= '9':
			b -= '0'
		case b >= 'a' && b <= 'f':
			b -= 'a' - 10
		case b >= 'A' && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(b)
	}
	return r, true
}

func (c *checker) number() bool {
	c.take('-')
	if !c.take('0') && !c.digits() {
		return false
	}
	if c.take('.') && !c.digits() {
		return false
	}
	if c.take('e') || c.take('E') {
		if !c.take('+') {
			c.take('-')
		}
		return c.digits()
	}
	return true
}

func (c *checker) digits() bool {
	start := c.at
	for c.at < len(c.b) && c.b[c.at] >= '0' && c.b[c.at] <= '9' {
		c.at++
	}
	return c.at > start
}

// keyOf recognises a quoted key.
func keyOf(raw []byte) key {
	name := raw[1 : len(raw)-1]
	if k := keysByName[string(name)]; k != 0 || plainKey(name) {
		return k
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return 0
	}
	for i, known := range keyNames[1:] {
		if strings.EqualFold(s, known) {
			return key(i + 1)
		}
	}
	return 0
}

// plainKey says that the name can be no other spelling of a known key.
func plainKey(name []byte) bool {
	for _, b := range name {
		if !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_') {
			return false
		}
	}
	return true
}
