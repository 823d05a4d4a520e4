package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// The list of what is above is in main_abuse_content_test.go.

// Every list has pages of at most 100, whatever is asked, and the same cursor gives the
// same page.
func TestAbuse_PagesAreBounded(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	names := make([]string, 130)
	for i := range names {
		names[i] = fmt.Sprintf("page%03d", i)
	}
	users := make([]protocol.ServerUser, len(names))
	for i, n := range names {
		users[i] = protocol.ServerUser{ExternalID: "ext-" + n, Handle: n}
	}
	made, err := serverAPI(e.http).UpsertUsers(t.Context(), users)
	must(t, err)
	p := enrol(t, e.http, e.socket, names[:2]...)
	ada, bob := p[0], p[1]
	var members []im.UserID
	for _, u := range made.Users[1:] {
		members = append(members, u.ID)
	}
	g := ada.changed(ada.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "pages", Members: members})).Group
	sent, err := ada.http.Send(t.Context(), textTo(bob.id, "one"), true)
	must(t, err)
	conv := "/v1/conversations/" + string(sent.ConversationID)
	group, main := "/v1/groups/"+g.ID.String(), "/v1/conversations/"+string(g.MainChannelID)
	full := map[string]bool{group + "/members": true, group + "/channels/" + string(g.MainChannelID) + "/members": true}
	_, err = ada.http.Send(t.Context(), protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(g.MainChannelID), Content: json.RawMessage(`{"text":"x"}`)}, true)
	must(t, err)
	for _, path := range []string{
		"/v1/conversations", "/v1/contacts", "/v1/contacts/requests?direction=incoming", "/v1/groups", "/v1/scheduled", "/v1/sync", conv + "/messages", conv + "/deletions",
		"/v1/offline/" + string(sent.ConversationID), group + "/members", group + "/channels/" + string(g.MainChannelID) + "/members", group + "/requests",
		main + "/messages/2/receipts?state=undelivered", conv + "/messages/1/reactions?reaction=%F0%9F%91%8D",
	} {
		ask := func(query string) reply {
			joint := "?"
			if strings.Contains(path, "?") {
				joint = "&"
			}
			return call{method: "GET", path: path + joint + query}.do(t, e.http, ada.http.Token())
		}
		for _, bad := range []string{"-1", "x", "1.5", "9007199254740992", "18446744073709551616", "0"} {
			if r := ask("limit=" + bad); r.status != 400 {
				t.Errorf("%s, limit %s: %d %.200s", path, bad, r.status, r.body)
			}
		}
		first, again := ask("limit=1000000000"), ask("limit=1000000000")
		var page struct {
			Items []json.RawMessage
			Next  string
			More  bool `json:"has_more"`
		}
		if err := json.Unmarshal(first.body, &page); err != nil || first.status != 200 || len(page.Items) > 100 || !bytes.Equal(first.body, again.body) && path != "/v1/sync" {
			t.Errorf("%s: %d, %d items, %v", path, first.status, len(page.Items), err)
		}
		if full[path] {
			if len(page.Items) != 100 || !page.More {
				t.Errorf("%s: %d items, more %t", path, len(page.Items), page.More)
			}
			rest, twice := ask("limit=100&after="+page.Next), ask("limit=100&after="+page.Next)
			if !bytes.Equal(rest.body, twice.body) {
				t.Errorf("%s: one cursor, two pages", path)
			}
		}
	}
	// A seek past the end, or to where nothing is, costs and gives one page.
	for _, query := range []string{"before_seq=9007199254740991", "after_seq=9007199254740991", "around=9007199254740991"} {
		if r := (call{method: "GET", path: conv + "/messages?" + query}).do(t, e.http, ada.http.Token()); r.status != 200 {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
}

// What a group, a user and a day's work may grow to; the one above is refused in words,
// and what was there stays.
func TestAbuse_CapsHold(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve", "dan")
	ada, bob, eve, dan := people[0], people[1], people[2], people[3]
	g := ada.found("the crowd", im.JoinOpen, bob)
	set := record(t, e)
	full := func(what string, err error) {
		t.Helper()
		var e *protocol.Error
		if !errors.As(err, &e) || e.Code != "limit_reached" || e.Retryable {
			t.Errorf("%s: %v", what, err)
		}
	}
	set("UPDATE chat_groups SET members = ? WHERE id = ?", im.MaxGroupMembers-1, g.ID)
	eve.changed(eve.http.JoinGroup(t.Context(), g.ID, ""))
	_, err := dan.http.JoinGroup(t.Context(), g.ID, "")
	full("member 10,001 joins", err)
	_, err = ada.http.AddMembers(t.Context(), g.ID, dan.id)
	full("member 10,001 is added", err)
	_, err = eve.http.LeaveGroup(t.Context(), g.ID)
	must(t, err)
	dan.changed(dan.http.JoinGroup(t.Context(), g.ID, ""))
	set("UPDATE chat_groups SET admins = ?, channels = ? WHERE id = ?", im.MaxGroupAdmins, im.MaxChannels, g.ID)
	_, err = ada.http.SetRole(t.Context(), g.ID, bob.id, im.RoleAdmin)
	full("one admin more", err)
	_, err = ada.http.CreateChannel(t.Context(), g.ID, protocol.CreateChannel{Name: "more"})
	full("one channel more", err)

	// At once, more than the call takes; and more people than there are places.
	many := make([]im.UserID, im.MaxMembersPerCall+1)
	for i := range many {
		many[i] = im.UserID(1 << 40 * (i + 1) % im.MaxID)
	}
	_, err = ada.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "too many", Members: many})
	want(t, "invalid_request", err)
	_, err = ada.http.AddMembers(t.Context(), g.ID, many...)
	want(t, "invalid_request", err)

	// As many groups as a user may have, with the last one too many.
	tx, err := openRecord(t, e).BeginTx(t.Context(), nil)
	must(t, err)
	for i := range im.MaxGroupsPerUser {
		_, err := tx.Exec("INSERT INTO group_members (user_id, group_id, state, role, muted_until, joined_at, moved) VALUES (?, ?, 0, 0, 0, 1, 0)", eve.id, 1_000_000+i)
		must(t, err)
	}
	must(t, tx.Commit())
	set("UPDATE chat_groups SET members = 3 WHERE id = ?", g.ID) // there is room in it
	_, err = eve.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "one more"})
	full("group 1,001", err)
	_, err = eve.http.JoinGroup(t.Context(), g.ID, "")
	full("joining group 1,001", err)

	// Invites, requests and groups have a pace.
	for what, act := range map[string]func() error{
		"groups": func() error {
			_, err := bob.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "again"})
			return err
		},
		"requests": func() error {
			r, err := bob.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &dan.id})
			if err == nil {
				err = bob.http.WithdrawContact(t.Context(), *r.RequestID)
			}
			return err
		},
		"invites": func() error {
			_, err := ada.http.AddMembers(t.Context(), g.ID, bob.id)
			return err
		},
	} {
		var e *protocol.Error
		for range 300 {
			if err := act(); errors.As(err, &e) && e.Code == "rate_limited" {
				break
			}
		}
		if e == nil || e.Code != "rate_limited" || !e.Retryable || e.RetryAfterMS < 1 {
			t.Errorf("300 %s: the last is answered %+v", what, e)
		}
	}
}

// Bodies end where they are said to, unfold into nothing, and say one thing.
func TestAbuse_BodiesAreBounded(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	ada, bob, conv := e.pair(t)
	must(t, sentOnce(t, ada, bob))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, _ = z.Write(zeros) // into memory
	}
	_ = z.Close()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	send := func(more string) string {
		return fmt.Sprintf(`{"client_msg_id":"abcdefgh","to":{"user_id":"%s"},"content":{"text":"x"}%s}`, bob.id, more)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	type kind = map[string]string
	for name, c := range map[string]struct {
		body   string
		header kind
		status int
	}{
		"64 MiB in a bomb":           {bomb.String(), kind{"Content-Encoding": "gzip"}, 415},
		"a bomb in a bomb":           {bomb.String(), kind{"Content-Encoding": "gzip, gzip"}, 415},
		"deflate":                    {"x", kind{"Content-Encoding": "deflate"}, 415},
		"brotli":                     {"x", kind{"Content-Encoding": "br"}, 415},
		"a bomb called JSON":         {bomb.String(), nil, 400},
		"33 deep":                    {send(`,"more":` + nested(33)), nil, 400},
		"100,000 deep":               {nested(100_000), nil, 400},
		"100,000 objects deep":       {strings.Repeat(`{"a":`, 40_000), nil, 400},
		"an ID twice":                {send(`,"client_msg_id":"abcdefgi"`), nil, 400},
		"a recipient twice":          {send(`,"to":{"user_id":"1"}`), nil, 400},
		"an ID twice, once escaped":  {send(`,"client_msg\u005fid":"abcdefgi"`), nil, 400},
		"a recipient in other case":  {send(`,"To":{"user_id":"1"}`), nil, 400},
		"a number of 200,000 digits": {send(`,"deliver_at":` + strings.Repeat("9", 200_000)), nil, 400},
		"300 KiB":                    {send(`,"more":"` + strings.Repeat("x", 300<<10) + `"`), nil, 413},
		"a form":                     {"a=b", kind{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"a multipart":                {"--x--", kind{"Content-Type": "multipart/form-data; boundary=x"}, 415},
		"XML":                        {`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>`, kind{"Content-Type": "application/xml"}, 415},
		"YAML":                       {"a: b", kind{"Content-Type": "application/yaml"}, 415},
		"text":                       {send(""), kind{"Content-Type": "text/plain"}, 415},
		"UTF-16":                     {send(""), kind{"Content-Type": "application/json; charset=utf-16"}, 415},
	} {
		r := call{method: "POST", path: "/v1/messages", body: c.body, header: c.header}.do(t, e.http, ada.http.Token())
		if r.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, r.status, r.body, c.status)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("%d MiB more in use", grown>>20)
	}
	if n := len(bob.history(conv)); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// A foreign page's request gets an answer that its browser does not show it, and a cookie
// is nothing to us.
func TestAbuse_ForeignPagesAreNotAnswered(t *testing.T) {
	t.Parallel()
	const friend = "https://chat.example"
	e := startEngine(t, devtest.Start(t), shipped, func(c *configs.Config) { c.API.AllowedOrigins = []string{friend} })
	ada, _, _ := e.pair(t)
	engine := e.api.Handler().(*gin.Engine)
	for _, r := range engine.Routes() {
		if !strings.HasPrefix(r.Path, "/v1") {
			continue
		}
		path := braced.Replace(r.Path)
		for _, origin := range []string{"https://evil.example", "null", "https://chat.example.evil.example", "http://chat.example", "https://chat.example:444", friend} {
			pre := call{method: "OPTIONS", path: path, header: map[string]string{
				"Origin": origin, "Access-Control-Request-Method": r.Method, "Access-Control-Request-Headers": "authorization,content-type"}}.do(t, e.http, "")
			h := pre.header
			if h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Access-Control-Allow-Origin") == "*" || pre.status >= 500 {
				t.Errorf("OPTIONS %s of %s: %d %v", path, origin, pre.status, h)
			}
			if allowed := h.Get("Access-Control-Allow-Origin"); origin != friend && allowed != "" || origin == friend && allowed != friend {
				t.Errorf("OPTIONS %s of %s: allows %q", path, origin, allowed)
			}
		}
	}
	token := strings.TrimPrefix(ada.http.Token(), "Bearer ")
	for _, cookie := range []string{"token=" + token, "access_token=" + token, "Authorization=" + ada.http.Token()} {
		if r := (call{method: "GET", path: "/v1/users/me", header: map[string]string{"Cookie": cookie}}).do(t, e.http, ""); r.status != 401 || r.header.Get("Set-Cookie") != "" {
			t.Errorf("a cookie: %d %s", r.status, r.body)
		}
	}
	if r := (call{method: "GET", path: "/v1/users/me", header: map[string]string{"Origin": "https://evil.example"}}).do(t, e.http, ada.http.Token()); r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign page with a token is shown %v", r.header)
	}
}

// braced puts something good in the place of gin's parameters.
var braced = strings.NewReplacer(":device", "spare", ":user", "1", ":request", "1", ":conversation", "d1-2", ":seq", "1", ":group", "1", ":schedule", "1")

// A route has the verbs that the contract gives it, and one spelling; nothing else gets
// past who asks for a token.
func TestAbuse_EveryRouteHasItsVerbsAndOneSpelling(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	ada, _, _ := e.pair(t)
	verbs := map[string][]string{}
	for _, r := range e.api.Handler().(*gin.Engine).Routes() {
		if strings.HasPrefix(r.Path, "/v1") {
			verbs[r.Path] = append(verbs[r.Path], r.Method)
		}
	}
	open := []string{"/v1/limits", "/v1/auth/register", "/v1/auth/login", "/v1/auth/refresh", "/v1/auth/logout", "/v1/auth/demo"}
	asked := 0
	for route, good := range verbs {
		path := braced.Replace(route)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW", "get"} {
			for _, auth := range []string{"", ada.http.Token()} {
				if auth != "" && slices.Contains(good, method) {
					continue // is what it is for
				}
				if !slices.Contains(good, method) && slices.ContainsFunc(slices.Collect(maps.Keys(verbs)), func(other string) bool {
					return fits(other, path) && slices.Contains(verbs[other], method)
				}) {
					continue // is another route's: /v1/contacts/requests is a /v1/contacts/{user} too
				}
				asked++
				r := call{method: method, path: path, header: map[string]string{"X-HTTP-Method-Override": good[0], "X-Original-URL": "/v1/limits", "X-Rewrite-URL": "/v1/limits"}}.do(t, e.http, auth)
				switch {
				case !slices.Contains(good, method) && r.status != http.StatusMethodNotAllowed:
					t.Errorf("%s %s: %d %s", method, path, r.status, r.body)
				case slices.Contains(good, method) && !slices.Contains(open, route) && r.status != http.StatusUnauthorized:
					t.Errorf("%s %s without a token: %d %s", method, path, r.status, r.body)
				}
			}
		}
		for _, other := range []string{
			path + "/", "/" + path, strings.Replace(path, "/v1/", "/v1//", 1), strings.Replace(path, "/v1/", "/v1/./", 1), "/v1/limits/.." + path[3:], strings.ToUpper(path),
			strings.Replace(path, "/v1", "/%761", 1), strings.Replace(path, "/v1/", "/v1%2f", 1), path + "%00", path + ";x=y", path + "%20", path + "/%2e", path + "/%2e%2e/%2e%2e" + path, path + "%252f",
			`\` + path[1:], path + "%5c", path + ".json",
		} {
			for _, auth := range []string{"", ada.http.Token()} {
				asked++
				if r := (call{method: good[0], path: "/" + strings.TrimPrefix(other, "/")}).do(t, e.http, auth); r.status != 404 && r.status != 400 && r.status != 401 && r.status != 405 {
					t.Errorf("%s %s: %d %s", good[0], other, r.status, r.body)
				}
			}
		}
	}
	t.Logf("%d requests about %d paths", asked, len(verbs))
}
