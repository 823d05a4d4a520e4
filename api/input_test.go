package api

import (
	"bytes"
	"compress/gzip"
	"net/url"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestBodies_BadOnesAreRefused(t *testing.T) {
	f := newFace(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(sendBody))
	_ = z.Close()
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	const receipts, messages, login = "/v1/conversations/d7-12/receipts", "/v1/messages", "/v1/auth/login"
	for _, c := range []struct {
		name, path, body string
		header           map[string]string
		status           int
		code             string
	}{
		{"no JSON", messages, "hello", nil, 400, "invalid_request"},
		{"cut off", messages, sendBody[:40], nil, 400, "invalid_request"},
		{"trailing garbage", messages, sendBody + "x", nil, 400, "invalid_request"},
		{"two values", messages, sendBody + sendBody, nil, 400, "invalid_request"},
		{"null", messages, "null", nil, 400, "invalid_request"},
		{"an array", messages, "[" + sendBody + "]", nil, 400, "invalid_request"},
		{"a string", messages, `"send"`, nil, 400, "invalid_request"},
		{"deep", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"handle":"godwit"},"content":` + deep + `}`, nil, 400, "invalid_request"},
		{"100,000 deep", messages, strings.Repeat("[", 100_000), nil, 400, "invalid_request"},
		{"number for a string", messages, `{"client_msg_id":1,"to":{"handle":"godwit"},"content":{}}`, nil, 400, "invalid_request"},
		{"string for an object", messages, `{"client_msg_id":"01JF2K9M7Q","to":"godwit","content":{}}`, nil, 400, "invalid_request"},
		{"user ID as a number", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"user_id":12},"content":{}}`, nil, 400, "invalid_request"},
		{"user ID negative", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"user_id":"-1"},"content":{}}`, nil, 400, "invalid_request"},
		{"user ID 2^53", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"user_id":"9007199254740992"},"content":{}}`, nil, 400, "invalid_request"},
		{"conversation ID other spelling", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"conversation_id":"d12-7"},"content":{}}`, nil, 400, "invalid_request"},
		{"conversation ID with braces", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"conversation_id":"d{7}-12"},"content":{}}`, nil, 400, "invalid_request"},
		{"two recipients, last one wins?", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"handle":"a"},"to":{"handle":"b"},"content":{}}`, nil, 400, "invalid_request"},
		{"two message IDs", messages, `{"client_msg_id":"01JF2K9M7Q","client_msg_id":"01JF2K9M7R","to":{"handle":"a"},"content":{}}`, nil, 400, "invalid_request"},
		{"lone surrogate in the text", messages, `{"client_msg_id":"01JF2K9M7Q","to":{"handle":"a"},"content":{"text":"\ud800"}}`, nil, 400, "invalid_text"},
		{"invalid UTF-8 in the text", messages, "{\"client_msg_id\":\"01JF2K9M7Q\",\"to\":{\"handle\":\"a\"},\"content\":{\"text\":\"\xff\"}}", nil, 400, "invalid_text"},
		{"seq negative", receipts, `{"read_seq":-1}`, nil, 400, "invalid_request"},
		{"seq fractional", receipts, `{"read_seq":1.5}`, nil, 400, "invalid_request"},
		{"seq 1e3", receipts, `{"read_seq":1e400}`, nil, 400, "invalid_request"},
		{"seq 2^53", receipts, `{"read_seq":9007199254740992}`, nil, 400, "invalid_request"},
		{"seq 2^64", receipts, `{"read_seq":18446744073709551616}`, nil, 400, "invalid_request"},
		{"seq NaN", receipts, `{"read_seq":NaN}`, nil, 400, "invalid_request"},
		{"seq as text", receipts, `{"read_seq":"42"}`, nil, 400, "invalid_request"},
		{"seq an object", receipts, `{"read_seq":{}}`, nil, 400, "invalid_request"},
		{"no seq at all", receipts, `{}`, nil, 400, "invalid_request"},
		{"seq 0", receipts, `{"read_seq":0}`, nil, 400, "invalid_request"},
		{"ack of nothing", "/v1/offline/d7-12/ack", `{"seq":0}`, nil, 400, "invalid_request"},
		{"form", messages, "to=godwit", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"},
		{"text", messages, sendBody, map[string]string{"Content-Type": "text/plain"}, 415, "unsupported_media_type"},
		{"no type", messages, sendBody, map[string]string{"Content-Type": ""}, 415, "unsupported_media_type"},
		{"broken type", messages, sendBody, map[string]string{"Content-Type": "application/json; ="}, 415, "unsupported_media_type"},
		{"other charset", messages, sendBody, map[string]string{"Content-Type": "application/json; charset=utf-16"}, 415, "unsupported_media_type"},
		{"gzip", messages, zipped.String(), map[string]string{"Content-Encoding": "gzip"}, 415, "unsupported_media_type"},
		{"huge", messages, `{"a":"` + strings.Repeat("x", 256<<10) + `"}`, nil, 413, "too_large"},
		{"huge for one without a token", login, `{"a":"` + strings.Repeat("x", 8<<10) + `"}`, nil, 413, "too_large"},
		{"wrong types everywhere", login, `{"handle":[],"password":{},"device":1,"platform":false}`, nil, 400, "invalid_request"},
		{"no users", "/v1/server/users", `{"users":[]}`, nil, 400, "invalid_request"},
		{"users is null", "/v1/server/users", `{"users":null}`, nil, 400, "invalid_request"},
		{"501 users", "/v1/server/users", `{"users":[` + strings.TrimSuffix(strings.Repeat(`{"external_id":"x"},`, 501), ",") + `]}`, nil, 400, "invalid_request"},
	} {
		auth := asUser
		switch {
		case strings.HasPrefix(c.path, "/v1/server"):
			auth = asServer
		case strings.HasPrefix(c.path, "/v1/auth"):
			auth = ""
		}
		r := request{method: "POST", path: c.path, auth: auth, body: c.body, header: c.header}
		want(t, c.name, f.do(r), c.status, c.code)
	}
	w := f.do(request{method: "POST", path: messages, auth: asUser})
	want(t, "no body and no type", w, 415, "unsupported_media_type")
	w = f.do(request{method: "POST", path: messages, auth: asUser, header: map[string]string{"Content-Type": "application/json"}})
	want(t, "no body", w, 400, "invalid_request")
}

// An unknown key is ignored, also one that names what only the server sets.
func TestBodies_UnknownKeysAreIgnored(t *testing.T) {
	f := newFace(t)
	body := strings.TrimSuffix(sendBody, "}") + `,"sender":{"id":"1"},"seq":9,"message_id":"4","stored_at":1,"is_admin":true}`
	want(t, "send with more keys", f.do(request{method: "POST", path: "/v1/messages", auth: asUser, body: body}), 202, "")
}

func TestBodies_OfUnknownLengthAreBounded(t *testing.T) {
	f := newFace(t)
	r := request{method: "POST", path: "/v1/messages", auth: asUser, body: "x"}.build()
	r.Body = &endless{}
	r.ContentLength = -1
	w := record(f, r)
	want(t, "endless body", w, 413, "too_large")
	if read := r.Body.(*endless).read; read > 1<<20 {
		t.Errorf("%d bytes were read of it", read)
	}
}

type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}
func (*endless) Close() error { return nil }

func TestQueries_BadOnesAreRefused(t *testing.T) {
	f := newFace(t)
	numbers := []string{"-1", "+1", "1.0", "1e3", "NaN", "abc", "", "0x10", "9007199254740992", "18446744073709551616", "%00", "1%20", "٣"}
	for _, p := range []string{
		"/v1/conversations/d7-12/messages?before_seq=", "/v1/conversations/d7-12/messages?after_seq=", "/v1/conversations/d7-12/messages?around=",
		"/v1/conversations/d7-12/messages?limit=", "/v1/offline/d7-12?after_seq=", "/v1/offline/d7-12?limit=",
		"/v1/conversations?before=", "/v1/conversations?limit=", "/v1/sync?limit=", "/v1/sync?epoch=g1&version=",
	} {
		for _, n := range numbers {
			want(t, p+n, f.do(request{method: "GET", path: p + n, auth: asUser}), 400, "invalid_request")
		}
	}
	for _, p := range []string{
		"/v1/conversations?limit=0",
		"/v1/conversations?limit=1&limit=2",
		"/v1/conversations/d7-12/messages?before_seq=1&before_seq=2",
		"/v1/conversations/d7-12/messages?before_seq=1&after_seq=2",
		"/v1/conversations/d7-12/messages?around=1&after_seq=2",
		"/v1/sync?epoch=g1",
		"/v1/sync?version=1",
		"/v1/sync?version=1&epoch=" + strings.Repeat("x", 65),
		"/v1/users",
		"/v1/users?handle=",
		"/v1/users?handle=a&handle=b",
		"/v1/users?handle=%zz",
		"/v1/users?handle=a;b=c",
	} {
		want(t, p, f.do(request{method: "GET", path: p, auth: asUser}), 400, "invalid_request")
	}
	want(t, "wait for something else", f.do(request{method: "POST", path: "/v1/messages?wait=delivered", auth: asUser, body: sendBody}), 400, "invalid_request")
}

func TestQueries_ReachLogicAsAsked(t *testing.T) {
	f := newFace(t)
	get := func(path string) { want(t, path, f.do(request{method: "GET", path: path, auth: asUser}), 200, "") }
	get("/v1/conversations/d7-12/messages?limit=1000000000")
	if f.lastHistory.Limit != 100 || f.lastHistory.BeforeSeq != nil || f.lastHistory.AfterSeq != nil || f.lastHistory.Around != nil {
		t.Errorf("history was asked as %+v", f.lastHistory)
	}
	get("/v1/conversations/d7-12/messages?after_seq=0")
	if h := f.lastHistory; h.AfterSeq == nil || *h.AfterSeq != 0 || h.Limit != 0 || h.ConversationID != "d7-12" {
		t.Errorf("history was asked as %+v", h)
	}
	get("/v1/conversations?before=104942118400&limit=7")
	if f.lastBefore != 104942118400 || f.lastLimit != 7 {
		t.Errorf("list was asked before %d, limit %d", f.lastBefore, f.lastLimit)
	}
	get("/v1/sync")
	if f.lastSync.Position != nil {
		t.Errorf("sync was asked from %v", f.lastSync.Position)
	}
	get("/v1/sync?epoch=&version=0") // what a client holds of a degraded answer
	if f.lastSync.Position != nil {
		t.Errorf("sync was asked from %v", f.lastSync.Position)
	}
	get("/v1/sync?epoch=g1&version=9007199254740991&before=5")
	if p := f.lastSync.Position; p == nil || *p != (im.Position{Epoch: "g1", Version: im.MaxID}) || f.lastSync.Before != "5" {
		t.Errorf("sync was asked as %+v", f.lastSync)
	}
	get("/v1/offline/d7-12?after_seq=8&limit=3")
	if f.lastPull.AfterSeq != 8 || f.lastPull.Limit != 3 || f.lastPull.ConversationID != "d7-12" {
		t.Errorf("offline was asked as %+v", f.lastPull)
	}
}

// [A5]: a path has one spelling, and no other reaches a route or passes a guard.
func TestPaths_OtherSpellingsNameNothing(t *testing.T) {
	f := newFace(t)
	for _, auth := range []string{"", asUser} {
		for _, p := range []string{
			"/v1/users/me/", "/v1//users/me", "//v1/users/me", "/V1/users/me", "/v1/users/ME/x", "/v1/./users/me", "/v1/auth/../users/me",
			"/v1/users/%6de", "/v1/users/me%2f", "/v1/users%2fme", "/v1/users/%2e%2e/users/me", "/v1/users/%252e%252e", "/v1/conversations/d7-12%2fmessages",
			"/v1/users/..", "/v1/users/{7}", "/v1/conversations/d7-12/./messages", "/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/../../etc/passwd", "/v1/users/me%00", "/v1\\users\\me", "/nothing", "/v1", "/v1/", "/v2/users/me",
			"/index.html", "/web/robots.txt", "/debug/pprof/", "/metrics", "/v1/admin/generation", "/v1/auth/demo/",
		} {
			r := request{method: "GET", path: "/", auth: auth}.build()
			u, err := url.ParseRequestURI(p)
			if err != nil {
				t.Fatal(err)
			}
			r.URL, r.RequestURI = u, p
			want(t, p, record(f, r), 404, "not_found")
		}
	}
}

func TestPaths_BadIDsAreInvalidAndNeverInternal(t *testing.T) {
	f := newFace(t)
	for _, id := range []string{"abc", "-1", "07", "*", "9007199254740992", "18446744073709551616", "me2", "7:8", strings.Repeat("9", 500)} {
		for _, r := range []request{
			{method: "GET", path: "/v1/users/" + id}, {method: "PUT", path: "/v1/blocks/" + id}, {method: "DELETE", path: "/v1/blocks/" + id},
			{method: "GET", path: "/v1/conversations/" + id}, {method: "GET", path: "/v1/conversations/" + id + "/messages"},
			{method: "POST", path: "/v1/conversations/" + id + "/receipts", body: `{"read_seq":1}`},
			{method: "GET", path: "/v1/offline/" + id}, {method: "POST", path: "/v1/offline/" + id + "/ack", body: `{"seq":1}`},
		} {
			r.auth = asUser
			want(t, r.method+" "+r.path, f.do(r), 400, "invalid_request")
		}
	}
	for _, device := range []string{"a.b", "a:b", "ü", strings.Repeat("x", 65)} {
		w := f.do(request{method: "DELETE", path: "/v1/auth/devices/" + device, auth: asUser})
		if w.Code != 400 && w.Code != 404 {
			t.Errorf("device %q: %d", device, w.Code)
		}
	}
}

func TestMethods_OthersAreNotAllowed(t *testing.T) {
	f := newFace(t)
	for id, good := range goodRequests {
		for _, method := range []string{"HEAD", "TRACE", "CONNECT", "OPTIONS", "BREW", "get"} {
			r := good.request
			r.method = method
			w := f.do(r)
			want(t, method+" for "+id, w, 405, "method_not_allowed")
			if w.Header().Get("Allow") == "" {
				t.Errorf("%s for %s: no Allow header", method, id)
			}
		}
	}
	// An override by header or query stays what it is on the wire.
	w := f.do(request{method: "GET", path: "/v1/messages?_method=POST", auth: asUser, header: map[string]string{"X-HTTP-Method-Override": "POST"}})
	want(t, "method override", w, 405, "method_not_allowed")
}

func TestBodies_FuzzedBytesAreNeverInternal(t *testing.T) {
	f := newFace(t)
	for id, good := range goodRequests {
		if good.body == "" {
			continue
		}
		for cut := range len(good.body) {
			for _, b := range []string{"", "\x00", "\"", "{", "9", "\xc3"} {
				r := good.request
				r.body = good.body[:cut] + b + good.body[cut+1:]
				if w := f.do(r); w.Code >= 500 {
					t.Fatalf("%s with %q: %d %s", id, r.body, w.Code, w.Body)
				}
			}
		}
	}
}

// FuzzQueries puts anything into the IDs, cursors and page sizes of what is read.
func FuzzQueries(f *testing.F) {
	for _, s := range []string{"", "1", "-1", "0", "9007199254740992", "NaN", "a&limit=2", "%00", "d7-12", "' OR 1=1", "g1", strings.Repeat("9", 300), "\xff", "1;2", "a=b&a=c"} {
		f.Add(s, s)
	}
	face := newFace(f)
	f.Fuzz(func(t *testing.T, id, value string) {
		face.t = t // what it finds is this run's
		escaped := url.QueryEscape(value)
		for _, p := range []string{
			"/v1/conversations/" + url.PathEscape(id) + "/messages?before_seq=" + escaped, "/v1/conversations/d7-12/messages?around=" + escaped + "&limit=" + escaped,
			"/v1/conversations/d7-12/messages?after_change=" + escaped, "/v1/conversations?before=" + escaped, "/v1/sync?epoch=" + escaped + "&version=" + escaped + "&before=" + escaped,
			"/v1/offline/" + url.PathEscape(id) + "?after_seq=" + escaped, "/v1/groups?after=" + escaped, "/v1/groups/" + url.PathEscape(id) + "/members?after=" + escaped + "&limit=" + escaped,
			"/v1/contacts?after=" + escaped + "&since=" + escaped, "/v1/scheduled?before=" + escaped + "&limit=" + escaped, "/v1/users?handle=" + escaped, "/v1/presence?users=" + escaped,
		} {
			if w := face.do(request{method: "GET", path: p, auth: asUser}); w.Code >= 500 {
				t.Fatalf("%s: %d %s", p, w.Code, w.Body)
			}
		}
		// As it stands, where a URL can be made of it.
		r := request{method: "GET", path: "/v1/conversations", auth: asUser}.build()
		r.URL.RawQuery = value
		if w := record(face, r); w.Code >= 500 {
			t.Fatalf("?%q: %d %s", value, w.Code, w.Body)
		}
	})
}
