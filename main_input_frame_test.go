package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

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
