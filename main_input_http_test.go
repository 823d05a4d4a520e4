package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

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
