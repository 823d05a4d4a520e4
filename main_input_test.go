package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
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

const words = "mask: heck\nreject: forbidden\n"

// inputEngine is an engine with a word list, and three people on it.
func inputEngine(t *testing.T) (e *engine, ada, bob, eve *person) {
	t.Helper()
	list := filepath.Join(t.TempDir(), "words.txt")
	if err := os.WriteFile(list, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, devtest.Start(t), func(c *configs.Config) { c.Logic.WordsFile = list })
	p := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	return e, p[0], p[1], p[2]
}

// onlyGood fails the test unless the conversation holds what was sent between the bad
// ones, and no more.
func onlyGood(t *testing.T, reader *person, conv im.ConversationID, good []string) {
	t.Helper()
	devtest.Eventually(t, "what was good is stored", func() bool { return len(reader.history(conv)) >= len(good) })
	var got []string
	for _, m := range reader.history(conv) {
		got = append(got, textOf(m))
	}
	equal(t, "the history", got, good)
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

func TestInput_BadFramesAreAnsweredOrClosed(t *testing.T) {
	t.Parallel()
	_, ada, bob, eve := inputEngine(t)
	conv := im.DirectConversation(ada.id, bob.id)
	others := im.DirectConversation(bob.id, eve.id)
	bob.connect("phone").say(eve, "not Ada's")
	w := ada.wire("phone")
	if a := w.ask("first", protocol.CmdSend, textTo(bob.id, "before")); a.Error != nil {
		t.Fatal(a.Error)
	}

	// What is answered, and the connection stays.
	asked := func(cmd, data string) string { return fmt.Sprintf(`{"id":"1","cmd":%q,"data":%s}`, cmd, data) }
	for name, c := range map[string]struct{ id, text, code string }{
		"no JSON":                 {"", `hello`, "invalid_request"},
		"cut off":                 {"", `{"id":"1","cmd":"ping"`, "invalid_request"},
		"two values":              {"", `{"id":"1","cmd":"ping"}{}`, "invalid_request"},
		"empty":                   {"", ``, "invalid_request"},
		"a list":                  {"", `[]`, "invalid_request"},
		"null":                    {"", `null`, "invalid_request"},
		"deep":                    {"", strings.Repeat(`[`, 40) + strings.Repeat(`]`, 40), "invalid_request"},
		"no ID":                   {"", `{"cmd":"ping"}`, "invalid_request"},
		"ID a number":             {"", `{"id":1,"cmd":"ping"}`, "invalid_request"},
		"ID too long":             {"", fmt.Sprintf(`{"id":%q,"cmd":"ping"}`, strings.Repeat("x", 65)), "invalid_request"},
		"ID twice":                {"1", `{"id":"1","id":"2","cmd":"ping"}`, "invalid_request"},
		"no command":              {"1", `{"id":"1"}`, "invalid_request"},
		"command a number":        {"1", `{"id":"1","cmd":7}`, "invalid_request"},
		"command unknown":         {"1", asked("fly", `{}`), "unsupported"},
		"data a list":             {"1", asked("history", `[]`), "invalid_request"},
		"wrong types":             {"1", asked("history", `{"conversation_id":7,"limit":"x"}`), "invalid_request"},
		"history of others":       {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q}`, others)), "not_found"},
		"history of nothing":      {"1", asked("history", `{"conversation_id":"d900-901"}`), "not_found"},
		"history of no ID":        {"1", asked("history", `{}`), "not_found"},
		"history from -1":         {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q,"after_seq":-1}`, conv)), "invalid_request"},
		"history from 2^53":       {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q,"before_seq":9007199254740992}`, conv)), "invalid_request"},
		"history from 2^63":       {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q,"before_seq":9223372036854775808}`, conv)), "invalid_request"},
		"history from NaN":        {"", asked("history", fmt.Sprintf(`{"conversation_id":%q,"around":NaN}`, conv)), "invalid_request"},
		"history from text":       {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q,"around":"1"}`, conv)), "invalid_request"},
		"history from both sides": {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q,"after_seq":1,"before_seq":2}`, conv)), "invalid_request"},
		"history, -1 of it":       {"1", asked("history", fmt.Sprintf(`{"conversation_id":%q,"limit":-1}`, conv)), "invalid_request"},
		"offline of others":       {"1", asked("offline", fmt.Sprintf(`{"conversation_id":%q}`, others)), "not_found"},
		"read of others":          {"1", asked("read", fmt.Sprintf(`{"conversation_id":%q,"seq":1}`, others)), "not_found"},
		"ack of others":           {"1", asked("ack", fmt.Sprintf(`{"conversation_id":%q,"seq":1}`, others)), "not_found"},
		"read up to 0":            {"1", asked("read", fmt.Sprintf(`{"conversation_id":%q,"seq":0}`, conv)), "invalid_request"},
		"read up to -1":           {"1", asked("read", fmt.Sprintf(`{"conversation_id":%q,"seq":-1}`, conv)), "invalid_request"},
		"read up to 2^53":         {"1", asked("read", fmt.Sprintf(`{"conversation_id":%q,"seq":9007199254740992}`, conv)), "invalid_request"},
		"read up to a half":       {"1", asked("read", fmt.Sprintf(`{"conversation_id":%q,"seq":0.5}`, conv)), "invalid_request"},
		"sync from nonsense":      {"1", asked("sync", `{"position":{"epoch":7,"version":"x"}}`), "invalid_request"},
		"sync before nonsense":    {"1", asked("sync", `{"before":"x"}`), "invalid_request"},
	} {
		a := w.text(c.text)
		if a.Error == nil || a.Error.Code != c.code || a.ID != c.id {
			t.Errorf("%s: %+v, %v; want %s", name, a, a.Error, c.code)
		}
		w.alive(name)
	}

	// Beyond the end it is cut, not refused.
	devtest.Eventually(t, "it is stored", func() bool { return len(bob.history(conv)) == 1 })
	w = bob.wire("tablet")
	if a := w.ask("1", protocol.CmdRead, protocol.Receipt{ConversationID: conv, Seq: im.MaxID}); a.Error != nil {
		t.Errorf("read up to 2^53-1: %v", a.Error)
	}
	devtest.Eventually(t, "it is read up to the end", func() bool { r := bob.row(conv); return r.ReadSeq == 1 && r.Unread == 0 })

	// What closes, each with its code. Nothing of what came before is lost.
	mask := func(f ws.Frame) []byte { return ws.MustCompileFrame(ws.MaskFrame(f)) }
	ping := []byte(`{"id":"1","cmd":"ping","data":{}}`)
	good := []string{"before"}
	for _, c := range []struct {
		name  string
		bytes []byte
		code  protocol.CloseCode
	}{
		{"a binary frame", mask(ws.NewBinaryFrame(ping)), protocol.CloseUnsupported},
		{"an unmasked frame", ws.MustCompileFrame(ws.NewTextFrame(ping)), protocol.CloseProtocol},
		{"a reserved bit", append([]byte{0xC1}, mask(ws.NewTextFrame(ping))[1:]...), protocol.CloseProtocol},
		{"a reserved opcode", append([]byte{0x83}, mask(ws.NewTextFrame(ping))[1:]...), protocol.CloseProtocol},
		{"a continuation of nothing", append([]byte{0x80}, mask(ws.NewTextFrame(ping))[1:]...), protocol.CloseProtocol},
		{"a long ping", mask(ws.NewPingFrame(make([]byte, 126))), protocol.CloseProtocol},
		{"a fragmented ping", append([]byte{0x09}, mask(ws.NewPingFrame(nil))[1:]...), protocol.CloseProtocol},
		{"no UTF-8", mask(ws.NewTextFrame([]byte("{\"id\":\"\xff\"}"))), protocol.CloseInvalidUTF8},
		{"70 KiB", mask(ws.NewTextFrame(make([]byte, 70<<10))), protocol.CloseTooBig},
		{"2^62 bytes announced", []byte{0x81, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, protocol.CloseTooBig},
		{"2^63 bytes announced", []byte{0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, protocol.CloseProtocol},
		{"close code 999", mask(ws.NewCloseFrame([]byte{0x03, 0xE7})), protocol.CloseProtocol},
		{"a close of one byte", mask(ws.NewCloseFrame([]byte{3})), protocol.CloseProtocol},
		{"connect again", mask(ws.NewTextFrame([]byte(asked("connect", `{"token":"x","device":"phone"}`)))), protocol.CloseForbidden},
		{"a foreign token", mask(ws.NewTextFrame([]byte(asked("refresh", `{"token":"x.y.z"}`)))), protocol.CloseUnauthenticated},
		{"somebody else's token", mask(ws.NewTextFrame([]byte(asked("refresh", fmt.Sprintf(`{"token":%q}`, eve.issue("phone").AccessToken))))), protocol.CloseForbidden},
	} {
		w := ada.wire("phone")
		text := "before " + c.name
		if a := w.ask("1", protocol.CmdSend, textTo(bob.id, text)); a.Error != nil {
			t.Errorf("%s: %v", text, a.Error)
		}
		w.bytes(c.bytes)
		if code, reason := w.ends(); code != c.code {
			t.Errorf("%s: closed with %d %s, want %d", c.name, code, reason, c.code)
		}
		good = append(good, text)
	}
	onlyGood(t, bob, conv, good)
}

func TestInput_BadConnectsAreClosed(t *testing.T) {
	t.Parallel()
	e, ada, _, _ := inputEngine(t)
	tokens := ada.issue("phone")
	connect := func(token, device string) string {
		return fmt.Sprintf(`{"id":"1","cmd":"connect","data":{"token":%q,"device":%q}}`, token, device)
	}
	forged := func(change func(jwt.MapClaims)) string {
		return connect(e.forge(t, tokens.AccessToken, change), "phone")
	}
	parts := strings.Split(tokens.AccessToken, ".")
	for name, c := range map[string]struct {
		text string
		code protocol.CloseCode
	}{
		"a send first":         {`{"id":"1","cmd":"send","data":{}}`, protocol.CloseUnauthenticated},
		"a ping first":         {`{"id":"1","cmd":"ping"}`, protocol.CloseUnauthenticated},
		"no JSON":              {`hello`, protocol.CloseUnauthenticated},
		"no token":             {connect("", "phone"), protocol.CloseUnauthenticated},
		"a token of no form":   {connect("nonsense", "phone"), protocol.CloseUnauthenticated},
		"a refresh token":      {connect(tokens.RefreshToken, "phone"), protocol.CloseUnauthenticated},
		"a megabyte of dots":   {connect(strings.Repeat(".", 60_000), "phone"), protocol.CloseUnauthenticated},
		"no signature":         {connect(parts[0]+"."+parts[1]+".", "phone"), protocol.CloseUnauthenticated},
		"another signature":    {connect(parts[0]+"."+parts[1]+"."+strings.Repeat("A", 43), "phone"), protocol.CloseUnauthenticated},
		"alg none":             {connect("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0."+parts[1]+".", "phone"), protocol.CloseUnauthenticated},
		"of another device":    {connect(tokens.AccessToken, "laptop"), protocol.CloseForbidden},
		"a device of no form":  {connect(tokens.AccessToken, "{*}"), protocol.CloseUnauthenticated},
		"expired":              {forged(func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() - 1 }), protocol.CloseUnauthenticated},
		"not yet good":         {forged(func(c jwt.MapClaims) { c["nbf"] = time.Now().Unix() + 90 }), protocol.CloseUnauthenticated},
		"of no end":            {forged(func(c jwt.MapClaims) { delete(c, "exp") }), protocol.CloseUnauthenticated},
		"an end that is text":  {forged(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }), protocol.CloseUnauthenticated},
		"an end of 1e308":      {forged(func(c jwt.MapClaims) { c["exp"] = 1e308 }), protocol.CloseUnauthenticated},
		"of another issuer":    {forged(func(c jwt.MapClaims) { c["iss"] = "elsewhere" }), protocol.CloseUnauthenticated},
		"for another audience": {forged(func(c jwt.MapClaims) { c["aud"] = "elsewhere" }), protocol.CloseUnauthenticated},
		"of nobody":            {forged(func(c jwt.MapClaims) { c["sub"] = "4503599627370496" }), protocol.CloseUnauthenticated},
		"of the system":        {forged(func(c jwt.MapClaims) { c["sub"] = "0" }), protocol.CloseUnauthenticated},
		"of an old version":    {forged(func(c jwt.MapClaims) { c["dv"] = 0 }), protocol.CloseUnauthenticated},
	} {
		w := dialWire(t, e.socket)
		w.frame(ws.OpText, []byte(c.text))
		if code, reason := w.ends(); code != c.code {
			t.Errorf("%s: closed with %d %s, want %d", name, code, reason, c.code)
		}
	}
	// And by HTTP, where a token is looked for in one place only.
	for name, c := range map[string]call{
		"no token":             {method: "GET", path: "/v1/users/me"},
		"in the query":         {method: "GET", path: "/v1/users/me?token=" + tokens.AccessToken},
		"in a cookie":          {method: "GET", path: "/v1/users/me", header: map[string]string{"Cookie": "token=" + tokens.AccessToken}},
		"of no form":           {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "Bearer nonsense"}},
		"another scheme":       {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "Basic " + tokens.AccessToken}},
		"expired":              {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "Bearer " + e.forge(t, tokens.AccessToken, func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() - 1 })}},
		"a server's for users": {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "ServerKey " + devtest.ServerKeyID + ":" + devtest.ServerKeySecret}},
		"a user's for servers": {method: "POST", path: "/v1/server/users", body: `{"users":[]}`, header: map[string]string{"Authorization": "Bearer " + tokens.AccessToken}},
	} {
		status, code := 401, "unauthenticated"
		if name == "in the query" { // where it would be logged
			status, code = 400, "invalid_request"
		}
		if r := c.do(t, e.http, ""); r.status != status || r.err.Code != code {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	// A foreign page's socket is not upgraded.
	conn, err := net.Dial("tcp", e.connectorAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\nOrigin: https://evil.example\r\n\r\n", e.connectorAddr(), protocol.Subprotocol)
	answer := make([]byte, 64)
	n, _ := conn.Read(answer)
	if !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 403 ") {
		t.Errorf("a foreign page is answered %q", answer[:n])
	}
}

// Whatever comes, by HTTP: the documented code, and what is another's looks as what is
// not there.
func TestInput_BadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	_, ada, bob, eve := inputEngine(t)
	conv, others := im.DirectConversation(ada.id, bob.id), im.DirectConversation(bob.id, eve.id)
	bob.connect("phone").say(eve, "not Ada's")
	ada.connect("phone").say(bob, "one")
	auth := ada.http.Token()
	path := func(c im.ConversationID, rest string) string { return "/v1/conversations/" + string(c) + rest }
	odd := []string{"-1", "9007199254740992", "9223372036854775808", "18446744073709551616", "NaN", "1.5", "1e3", "x", "%00", ""}
	type want struct {
		call
		status int
		code   string
	}
	cases := map[string]want{
		"unknown path":         {call{method: "GET", path: "/v1/nothing"}, 404, "not_found"},
		"another method":       {call{method: "DELETE", path: "/v1/messages"}, 405, "method_not_allowed"},
		"dots":                 {call{method: "GET", path: "/v1/users/../users/me"}, 404, "not_found"},
		"no body":              {call{method: "POST", path: "/v1/messages", header: map[string]string{"Content-Type": "application/json"}}, 400, "invalid_request"},
		"no JSON":              {call{method: "POST", path: "/v1/messages", body: "hello"}, 400, "invalid_request"},
		"a form":               {call{method: "POST", path: "/v1/messages", body: "a=b", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, 415, "unsupported_media_type"},
		"zipped":               {call{method: "POST", path: "/v1/messages", body: "{}", header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"},
		"300 KiB":              {call{method: "POST", path: "/v1/messages", body: `{"a":"` + strings.Repeat("x", 300<<10) + `"}`}, 413, "too_large"},
		"wait for what":        {call{method: "POST", path: "/v1/messages?wait=forever", body: "{}"}, 400, "invalid_request"},
		"a foreign history":    {call{method: "GET", path: path(others, "/messages")}, 404, "not_found"},
		"a history of nobody":  {call{method: "GET", path: path("d800-900", "/messages")}, 404, "not_found"},
		"a foreign row":        {call{method: "GET", path: path(others, "")}, 404, "not_found"},
		"foreign receipts":     {call{method: "POST", path: path(others, "/receipts"), body: `{"read_seq":1}`}, 404, "not_found"},
		"a foreign ack":        {call{method: "POST", path: "/v1/offline/" + string(others) + "/ack", body: `{"seq":1}`}, 404, "not_found"},
		"a foreign pull":       {call{method: "GET", path: "/v1/offline/" + string(others)}, 404, "not_found"},
		"a user who is not":    {call{method: "GET", path: "/v1/users/4503599627370496"}, 404, "not_found"},
		"block of who is not":  {call{method: "PUT", path: "/v1/blocks/4503599627370496"}, 404, "not_found"},
		"ID in other order":    {call{method: "GET", path: path(im.ConversationID(fmt.Sprintf("d%s-%s", bob.id, ada.id)), "/messages")}, 400, "invalid_request"},
		"mass assignment":      {call{method: "PATCH", path: "/v1/users/me", body: `{"id":"1","is_admin":true,"token_version":9}`}, 200, ""},
		"a name of nothing":    {call{method: "PATCH", path: "/v1/users/me", body: `{"nickname":"\u200b\u200b"}`}, 400, "invalid_request"},
		"an avatar of scripts": {call{method: "PATCH", path: "/v1/users/me", body: `{"avatar":"javascript:alert(1)"}`}, 400, "invalid_request"},
	}
	for _, n := range odd {
		cases["before "+n] = want{call{method: "GET", path: path(conv, "/messages?before_seq="+n)}, 400, "invalid_request"}
		cases["limit "+n] = want{call{method: "GET", path: path(conv, "/messages?limit="+n)}, 400, "invalid_request"}
		cases["version "+n] = want{call{method: "GET", path: "/v1/sync?epoch=x&version=" + n}, 400, "invalid_request"}
		if n != "" && n != "%00" {
			cases["seq "+n] = want{call{method: "POST", path: path(conv, "/receipts"), body: `{"read_seq":` + n + `}`}, 400, "invalid_request"}
		}
	}
	// One that is another's and one that is not there are told apart by nothing.
	cases["limit 1e9"] = want{call{method: "GET", path: path(conv, "/messages?limit=1000000000")}, 200, ""}
	for name, c := range cases {
		r := c.do(t, ada.base, auth)
		if r.status != c.status || r.err.Code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, r.status, r.body, c.status, c.code)
		}
		if c.status >= 400 && (r.err.RequestID == "" || r.err.Message == "") {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	foreign := call{method: "GET", path: path(others, "/messages")}.do(t, ada.base, auth)
	unknown := call{method: "GET", path: path("d800-900", "/messages")}.do(t, ada.base, auth)
	foreign.err.RequestID, unknown.err.RequestID = "", ""
	if foreign.err != unknown.err {
		t.Errorf("a foreign conversation is answered %+v, an unknown one %+v", foreign.err, unknown.err)
	}
	var me struct {
		ID      im.UserID `json:"id"`
		IsAdmin any       `json:"is_admin"`
	}
	r := call{method: "GET", path: "/v1/users/me"}.do(t, ada.base, auth)
	if err := json.Unmarshal(r.body, &me); err != nil || me.ID != ada.id || me.IsAdmin != nil {
		t.Errorf("after all of it: %s", r.body)
	}
	onlyGood(t, bob, conv, []string{"one"})
}
