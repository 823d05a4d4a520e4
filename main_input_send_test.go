package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// badSends are the data of a send that must be refused, by whichever way it comes.
func badSends(peer, stranger im.UserID) map[string]struct{ data, code string } {
	send := func(to, content string) string {
		return fmt.Sprintf(`{"client_msg_id":%q,"to":%s,"content":%s}`, client.NewClientMsgID(), to, content)
	}
	user := func(id any) string { return fmt.Sprintf(`{"user_id":"%v"}`, id) }
	text := func(s string) string {
		b, _ := json.Marshal(im.TextContent{Text: s}) // a string always encodes
		return string(b)
	}
	to := user(peer)
	nobodys := im.DirectConversation(peer, stranger)
	return map[string]struct{ data, code string }{
		"no data":                      {`{}`, "invalid_request"},
		"data is null":                 {`null`, "invalid_request"},
		"data is a list":               {`[]`, "invalid_request"},
		"data is text":                 {`"hello"`, "invalid_request"},
		"content missing":              {fmt.Sprintf(`{"client_msg_id":"abcdefgh","to":%s}`, to), "invalid_request"},
		"content is text":              {send(to, `"hello"`), "invalid_request"},
		"text is a number":             {send(to, `{"text":1}`), "invalid_request"},
		"text is missing":              {send(to, `{}`), "invalid_text"},
		"text is empty":                {send(to, text("")), "invalid_text"},
		"text is white space":          {send(to, text(" \t\n\u2003")), "invalid_text"},
		"text shows nothing":           {send(to, text("\u200b\u200d\ufeff\u00ad")), "invalid_text"},
		"text with NUL":                {send(to, `{"text":"a\u0000b"}`), "invalid_text"},
		"text with a lone surrogate":   {send(to, `{"text":"a\ud800b"}`), "invalid_text"},
		"text too long":                {send(to, text(strings.Repeat("x", im.MaxTextBytes+1))), "too_large"},
		"text too long in bytes":       {send(to, text(strings.Repeat("é", im.MaxTextBytes/2+1))), "too_large"},
		"custom too long":              {fmt.Sprintf(`{"client_msg_id":"abcdefgh","type":"custom","to":%s,"content":{"a":%q}}`, to, strings.Repeat("x", im.MaxContentBytes)), "too_large"},
		"custom is a list":             {fmt.Sprintf(`{"client_msg_id":"abcdefgh","type":"custom","to":%s,"content":[1]}`, to), "invalid_request"},
		"type unknown":                 {fmt.Sprintf(`{"client_msg_id":"abcdefgh","type":"image","to":%s,"content":{}}`, to), "invalid_request"},
		"type system":                  {fmt.Sprintf(`{"client_msg_id":"abcdefgh","type":"system","to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"type a number":                {fmt.Sprintf(`{"client_msg_id":"abcdefgh","type":1,"to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"ID missing":                   {fmt.Sprintf(`{"to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"ID too short":                 {fmt.Sprintf(`{"client_msg_id":"abc","to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"ID too long":                  {fmt.Sprintf(`{"client_msg_id":%q,"to":%s,"content":{"text":"x"}}`, strings.Repeat("a", 65), to), "invalid_request"},
		"ID with a space":              {fmt.Sprintf(`{"client_msg_id":"abcdefgh ","to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"ID a number":                  {fmt.Sprintf(`{"client_msg_id":12345678,"to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"ID twice":                     {fmt.Sprintf(`{"client_msg_id":"abcdefgh","client_msg_id":"abcdefgi","to":%s,"content":{"text":"x"}}`, to), "invalid_request"},
		"to nobody":                    {send(`{}`, text("x")), "invalid_request"},
		"to two":                       {send(fmt.Sprintf(`{"user_id":"%s","handle":"bob"}`, peer), text("x")), "invalid_request"},
		"to a number":                  {send(`7`, text("x")), "invalid_request"},
		"to an ID that is a number":    {send(`{"user_id":7}`, text("x")), "invalid_request"},
		"to -1":                        {send(user(-1), text("x")), "invalid_request"},
		"to 2^53":                      {send(user(uint64(1)<<53), text("x")), "invalid_request"},
		"to 2^63":                      {send(user(uint64(1)<<63), text("x")), "invalid_request"},
		"to NaN":                       {send(user("NaN"), text("x")), "invalid_request"},
		"to who does not exist":        {send(user(uint64(1)<<52), text("x")), "not_found"},
		"to a handle nobody has":       {send(`{"handle":"nobody-at-all"}`, text("x")), "not_found"},
		"to a handle that cannot be":   {send(`{"handle":"{*}\r\n"}`, text("x")), "invalid_request"},
		"to an external ID unknown":    {send(`{"external_id":"nobody"}`, text("x")), "not_found"},
		"to a conversation of others":  {send(fmt.Sprintf(`{"conversation_id":%q}`, nobodys), text("x")), "not_found"},
		"to a conversation not named":  {send(`{"conversation_id":"d7"}`, text("x")), "invalid_request"},
		"to the same in other order":   {send(fmt.Sprintf(`{"conversation_id":"d%s-1"}`, peer+1), text("x")), "invalid_request"},
		"to a channel that is not":     {send(`{"conversation_id":"c1"}`, text("x")), "not_found"},
		"text that the filter refuses": {send(to, text("that is FOR\u200bbidden")), "content_refused"},
	}
}

func TestInput_BadSendsAreRefusedBySocketAndHTTP(t *testing.T) {
	t.Parallel()
	_, ada, bob, eve := inputEngine(t)
	conv := im.DirectConversation(ada.id, bob.id)
	w := ada.wire("phone")
	auth := ada.http.Token()
	var good []string
	for name, c := range badSends(bob.id, eve.id) {
		a := w.text(fmt.Sprintf(`{"id":"1","cmd":"send","data":%s}`, c.data))
		if a.Error == nil || a.Error.Code != c.code || a.Error.Outcome != im.OutcomeRefused {
			t.Errorf("%s by socket: %+v, %v; want %s refused", name, a, a.Error, c.code)
		}
		r := call{method: "POST", path: "/v1/messages", body: c.data}.do(t, ada.base, auth)
		if r.err.Code != c.code || r.err.Outcome != im.OutcomeRefused || r.err.RequestID == "" || r.status < 400 || r.status >= 500 {
			t.Errorf("%s by HTTP: %d %s; want %s refused", name, r.status, r.body, c.code)
		}
		if len(good) < 10 {
			text := fmt.Sprint("good ", len(good))
			if a := w.ask("2", protocol.CmdSend, textTo(bob.id, text)); a.Error != nil {
				t.Errorf("after %s: %v", name, a.Error)
			}
			good = append(good, text)
		}
	}
	w.alive("all of them")
	if a := w.ask("3", protocol.CmdSend, textTo(bob.id, "what the HECK, heckler")); a.Error != nil {
		t.Fatal(a.Error)
	}
	onlyGood(t, bob, conv, append(good, "what the ****, heckler"))

	// At the limits, and odd: stored as sent.
	longest := strings.Repeat("é", im.MaxTextBytes/2)
	odd := "'; DROP TABLE messages; -- <script>\\u0000\u202e👩‍👩‍👧‍👦{}*%s\r\n:"
	for _, text := range []string{longest, odd} {
		if res, err := ada.http.Send(t.Context(), textTo(bob.id, text), true); err != nil || res.State != protocol.StateStored {
			t.Errorf("%q: %+v, %v", text[:20], res, err)
		}
		good = append(good, text)
	}
	ms := bob.history(conv)
	if got := textOf(ms[len(ms)-2]); got != longest {
		t.Errorf("the longest text comes back with %d bytes", len(got))
	}
	if got := textOf(ms[len(ms)-1]); got != odd {
		t.Errorf("%q comes back as %q", odd, got)
	}
}
