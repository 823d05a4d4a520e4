package logic

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

var annsSession = &im.Session{Identity: annsPhone, ID: "s1", Node: "n9", IP: "127.0.0.1"}

// ask sends one message of ann's session and returns the one answer.
func ask(t *testing.T, s *Service, message string) protocol.Answer {
	t.Helper()
	answers := make(chan protocol.Answer, 2)
	s.Handle(t.Context(), annsSession, []byte(message), func(a protocol.Answer) { answers <- a })
	a := <-answers
	if len(answers) != 0 {
		t.Fatalf("answered twice: %s", message)
	}
	return a
}

func connect(t *testing.T, s *Service, message string) protocol.ConnectAnswer {
	t.Helper()
	answers := make(chan protocol.ConnectAnswer, 2)
	s.Connect(t.Context(), protocol.Hello{Session: "s1", Node: "n9", IP: "::1"}, []byte(message), func(a protocol.ConnectAnswer) { answers <- a })
	if len(answers) != 1 {
		t.Fatalf("%d answers", len(answers))
	}
	return <-answers
}

func TestConnect_MakesASession(t *testing.T) {
	w := newWorld()
	a := connect(t, w.service(t, Config{}), `{"id":"1","cmd":"connect","data":{"token":"good","device":"phone","platform":"ios"}}`)
	if a.Close.Code != 0 || a.Session == nil {
		t.Fatalf("%+v %s", a.Close, a.Frame)
	}
	want := im.Session{Identity: annsPhone, ID: "s1", Node: "n9", IP: "::1", Since: 1767225600000, Policy: im.DevicesAll}
	want.Platform = "ios"
	if *a.Session != want {
		t.Fatalf("%+v", a.Session)
	}
	if frame := string(a.Frame); frame != `{"id":"1","data":{"session_id":"s1","user":{"id":"7","handle":"ann","nickname":"ann"},`+
		`"expires_at":1125899906842624,"heartbeat_ms":25000,"server_time":1767225600000,"limits":`+
		`{"max_message_bytes":65536,"max_text_bytes":8192,"max_page":100,"send_per_second":20,"send_burst":40}}}` {
		t.Fatal(frame)
	}
}

func TestConnect_RefusalsSayWhetherToComeBack(t *testing.T) {
	devices := func(n int, first im.DeviceID) func(*world) {
		return func(w *world) {
			w.sessions[ann] = []im.SessionRef{{User: ann, Device: first}}
			for i := range n - 1 {
				w.sessions[ann] = append(w.sessions[ann], im.SessionRef{User: ann, Device: im.DeviceID(fmt.Sprint("other", i))})
			}
		}
	}
	good := `{"id":"1","cmd":"connect","data":{"token":"good","device":"phone"}}`
	for _, c := range []struct {
		name, message string
		prep          func(*world)
		code          string
		close         protocol.CloseCode
	}{
		{"another command first", `{"id":"1","cmd":"send","data":{}}`, nil, "unauthenticated", 4401},
		{"garbage", `{`, nil, "invalid_request", 4401},
		{"a token of the wrong type", `{"id":"1","cmd":"connect","data":{"token":7}}`, nil, "invalid_request", 4401},
		{"no device", `{"id":"1","cmd":"connect","data":{"token":"good"}}`, nil, "invalid_request", 4401},
		{"a platform too long", `{"id":"1","cmd":"connect","data":{"token":"good","device":"phone","platform":"` + strings.Repeat("x", 1000) + `"}}`, nil, "invalid_request", 4401},
		{"a bad token", `{"id":"1","cmd":"connect","data":{"token":"bad","device":"phone"}}`, nil, "unauthenticated", 4401},
		{"a token of another device", `{"id":"1","cmd":"connect","data":{"token":"good","device":"tablet"}}`, nil, "forbidden", 4403},
		{"MySQL away", good, func(w *world) { w.fail["Verify"] = im.ErrStore }, "store_unavailable", 1013},
		{"nobody can say who", good, func(w *world) { w.fail["Profiles"] = im.ErrStore }, "store_unavailable", 1013},
		{"ten other devices", good, devices(10, "laptop"), "rate_limited", 4529},
		{"nine other devices", good, devices(9, "laptop"), "", 0},
		{"ten devices, this among them", good, devices(10, "phone"), "", 0},
		{"nobody can count them", good, func(w *world) { w.fail["Sessions"] = im.ErrCache }, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			if c.prep != nil {
				c.prep(w)
			}
			a := connect(t, w.service(t, Config{}), c.message)
			var reply protocol.Reply
			if err := json.Unmarshal(a.Frame, &reply); err != nil {
				t.Fatal(err)
			}
			got := ""
			if reply.Error != nil {
				got = reply.Error.Code
			}
			if got != c.code || a.Close.Code != c.close || (a.Session != nil) != (c.code == "") {
				t.Fatalf("%s %+v", a.Frame, a.Close)
			}
		})
	}
}

func TestHandle_AnswersEachCommand(t *testing.T) {
	w := talked()
	w.changes = im.Changes{Position: im.Position{Epoch: "g", Version: 6}, States: []im.ConversationState{w.states["d7-9"]}, HasMore: true}
	w.tokens["newer"] = im.Identity{User: ann, Device: "phone", ExpiresAt: 99}
	w.tokens["bobs"] = im.Identity{User: bob, Device: "phone"}
	w.tokens["tablet"] = im.Identity{User: ann, Device: "tablet"}
	s := w.service(t, Config{})
	for _, c := range []struct {
		in, want string
		close    protocol.CloseCode
	}{
		{`{"id":"1","cmd":"send","data":{"client_msg_id":"abcdefgh","to":{"handle":"bob"},"content":{"text":"hi"}}}`,
			`{"id":"1","data":{"state":"accepted","conversation_id":"d7-9","client_msg_id":"abcdefgh"}}`, 0},
		{`{"id":"1","cmd":"send","data":{"client_msg_id":"abcdefgh","to":{"user_id":"404"},"content":{"text":"hi"}}}`,
			`{"id":"1","error":{"code":"not_found","message":"not found","outcome":"refused","retryable":false}}`, 0},
		{`{"id":"1","cmd":"send","data":{"client_msg_id":7}}`,
			`{"id":"1","error":{"code":"invalid_request","message":"client_msg_id: must be a string","outcome":"refused","retryable":false}}`, 0},
		{`{"id":"2","cmd":"ack","data":{"conversation_id":"d7-9","seq":3}}`, `{"id":"2","data":{"conversation_id":"d7-9","seq":3}}`, 0},
		{`{"id":"2","cmd":"read","data":{"conversation_id":"d7-9","seq":900}}`, `{"id":"2","data":{"conversation_id":"d7-9","seq":3}}`, 0},
		{`{"id":"2","cmd":"read","data":{"conversation_id":"d9-11","seq":1}}`, `{"id":"2","error":{"code":"not_found","message":"not found","retryable":false}}`, 0},
		{`{"id":"2","cmd":"read","data":{"conversation_id":"d7-9","seq":-1}}`,
			`{"id":"2","error":{"code":"invalid_request","message":"seq: not a whole number from 0 to 2^53-1","retryable":false}}`, 0},
		{`{"id":"3","cmd":"ping"}`, `{"id":"3","data":{"position":{"epoch":"g","version":5},"server_time":1767225600000}}`, 0},
		{`{"id":"3","cmd":"ping","data":{"position":{"epoch":"g","version":5}}}`,
			`{"id":"3","data":{"position":{"epoch":"g","version":6},"conversations":[{"conversation_id":"d7-9","last_seq":3,"last_change":0,"read_seq":2}],"has_more":true,"server_time":1767225600000}}`, 0},
		{`{"id":"4","cmd":"refresh","data":{"token":"newer"}}`, `{"id":"4","data":{"expires_at":99}}`, 0},
		{`{"id":"4","cmd":"refresh","data":{"token":"bobs"}}`, `{"id":"4","error":{"code":"forbidden","message":"not allowed","retryable":false}}`, 4403},
		{`{"id":"4","cmd":"refresh","data":{"token":"tablet"}}`, `{"id":"4","error":{"code":"forbidden","message":"not allowed","retryable":false}}`, 4403},
		{`{"id":"4","cmd":"refresh","data":{"token":"bad"}}`,
			`{"id":"4","error":{"code":"unauthenticated","message":"the token is missing, expired, revoked or not ours","retryable":false}}`, 4401},
		{`{"id":"5","cmd":"connect","data":{"token":"good","device":"phone"}}`, `{"id":"5","error":{"code":"forbidden","message":"not allowed","retryable":false}}`, 4403},
		{`{"id":"6","cmd":"dance"}`, `{"id":"6","error":{"code":"unsupported","message":"unknown command or type","retryable":false}}`, 0},
		{`{"id":"7","cmd":"history","data":{"conversation_id":"d7-11"}}`, `{"id":"7","data":{"items":[],"has_more":false}}`, 0},
		{`{"id":"7","cmd":"offline","data":{"conversation_id":"d7-11"}}`, `{"id":"7","data":{"items":[],"has_more":false}}`, 0},
		{`{"id":"8","cmd":`, `{"id":"","error":{"code":"invalid_request","message":"json: not valid","retryable":false}}`, 0},
		{`{"id":"8","cmd":"send","data":{"content":{"text":"\ud800"}}}`,
			`{"id":"8","error":{"code":"invalid_text","message":"content.text: not valid UTF-8, or a lone surrogate","outcome":"refused","retryable":false}}`, 0},
	} {
		a := ask(t, s, c.in)
		if string(a.Frame) != c.want || a.Close.Code != c.close {
			t.Errorf("%s\n got %s %d\nwant %s %d", c.in, a.Frame, a.Close.Code, c.want, c.close)
		}
		if refreshed := strings.Contains(c.in, "newer"); (a.Identity != nil) != refreshed || refreshed && a.Identity.ExpiresAt != 99 {
			t.Errorf("%s: identity %+v", c.in, a.Identity)
		}
	}
	if a := ask(t, s, `{"id":"9","cmd":"sync"}`); !strings.Contains(string(a.Frame), `"full":true`) {
		t.Errorf("%s", a.Frame)
	}
}

func TestPing_EndsARevokedSession(t *testing.T) { // [L7]
	w := newWorld()
	w.revoked = true
	if a := ask(t, w.service(t, Config{}), `{"id":"1","cmd":"ping"}`); a.Close.Code != protocol.CloseUnauthenticated {
		t.Fatalf("%+v", a)
	}
}

// A client that never pings does not outlive its token by that.
func TestHandle_EndsARevokedSessionAtWhateverItSays(t *testing.T) { // [L7]
	w := talked()
	s := w.service(t, Config{})
	w.revoked = true
	for _, message := range []string{
		`{"id":"1","cmd":"send","data":{"client_msg_id":"abcdefgh","to":{"user_id":"9"},"content":{"text":"hi"}}}`,
		`{"id":"1","cmd":"read","data":{"conversation_id":"d7-9","seq":3}}`,
		`{"id":"1","cmd":"sync"}`,
		`{"id":"1","cmd":"history","data":{"conversation_id":"d7-9"}}`,
		`{"id":"1","cmd":"dance"}`,
	} {
		if a := ask(t, s, message); a.Close.Code != protocol.CloseUnauthenticated || !strings.Contains(string(a.Frame), `"unauthenticated"`) {
			t.Errorf("%s\n got %s %+v", message, a.Frame, a.Close)
		}
	}
	if len(w.produced()) != 0 {
		t.Error("something reached the log")
	}
}

func TestPing_IsAnsweredWhileStoresAreAway(t *testing.T) {
	for name, prep := range map[string]func(*world){
		"MySQL":      func(w *world) { w.fail["Recheck"] = im.ErrStore },
		"Redis":      func(w *world) { w.changes = im.Changes{Degraded: true} },
		"both":       func(w *world) { w.fail["Changes"], w.fail["Recheck"] = im.ErrStore, im.ErrStore },
		"generation": func(w *world) { w.changes = im.Changes{Void: true, Position: im.Position{Epoch: "h"}} },
	} {
		w := newWorld()
		prep(w)
		a := ask(t, w.service(t, Config{}), `{"id":"1","cmd":"ping","data":{"position":{"epoch":"g","version":1}}}`)
		var reply struct{ Data protocol.Pong }
		if err := json.Unmarshal(a.Frame, &reply); err != nil || a.Close.Code != 0 {
			t.Fatalf("%s: %s", name, a.Frame)
		}
		if reply.Data.Degraded != (name == "Redis" || name == "both") || reply.Data.StartOver != (name == "generation") {
			t.Fatalf("%s: %s", name, a.Frame)
		}
	}
}

func TestKick_ReachesTheNodesOfTheSessions(t *testing.T) {
	w := newWorld()
	w.sessions[ann] = []im.SessionRef{
		{User: ann, Device: "phone", Session: "s1", Node: "n1"}, {User: ann, Device: "web", Session: "s2", Node: "n1"}, {User: ann, Device: "tv", Session: "s3", Node: "n2"},
	}
	k := NewKicks(w, w)
	for _, c := range []struct {
		device im.DeviceID
		want   string
	}{{"", "n1:s1 n1:s2 n2:s3"}, {"web", "n1:s2"}, {"fridge", ""}} {
		w.batches = nil
		if err := k.Kick(t.Context(), ann, c.device); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, node := range []im.NodeID{"n1", "n2"} {
			for _, batches := range w.batches {
				all, err := protocol.DecodeDeliveries(batches[node])
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range all {
					if d.Close.Code != protocol.CloseUnauthenticated || len(d.Users) != 1 || d.Users[0] != ann || !strings.Contains(string(d.Frame), "kicked") {
						t.Fatalf("%+v", d)
					}
					got = append(got, string(node)+":"+string(d.Only))
				}
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: got %q, want %q", c.device, got, c.want)
		}
	}
	w.fail["Sessions"] = im.ErrCache
	if err := k.Kick(t.Context(), ann, ""); err == nil {
		t.Fatal("no error")
	}
}

func FuzzHandle_NoFrameIsUnansweredOrInternal(f *testing.F) {
	for _, cmd := range []string{"send", "ack", "read", "sync", "history", "offline", "refresh", "ping", "connect"} {
		f.Add(`{"id":"1","cmd":"` + cmd + `","data":{"conversation_id":"d7-9","seq":1,"limit":5,"to":{"user_id":"9"},"client_msg_id":"abcdefgh","content":{"text":"x"}}}`)
	}
	s := talked().service(f, Config{SendPerSecond: -1})
	f.Fuzz(func(t *testing.T, in string) {
		if a := ask(t, s, in); len(a.Frame) == 0 || strings.Contains(string(a.Frame), `"code":"internal"`) {
			t.Fatalf("%s", a.Frame)
		}
	})
}
