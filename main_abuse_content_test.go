package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// RELIABILITY.md, 4.4: what is said, and how much of it. As 4.3: on a running engine with
// the limits of the production profile, unless a row needs the inside of a package.
//
//	SQL in every field; sort, filter       TestAbuse_WordsOfOtherLanguagesAreOnlyWords, TestAbuse_ProbingEveryRouteIsNeverInternal (there are no sort keys)
//	braces, stars, line ends in IDs        TestAbuse_IDsHaveOneForm; storage TestKeys_*
//	CRLF, ANSI, huge values that are logged TestAbuse_LogsAreLinesWithoutSecrets
//	<script>, javascript:, SVG             TestAbuse_MarkupIsDataToPages, TestAbuse_AddressesAreKeptAndNeverFetched; scripts/browser (the page)
//	the filter's disguises                 TestAbuse_DisguisedWordsAreFoundWhereverTextGoes; logic TestWords_*, FuzzWords
//	the filter's cost                      logic BenchmarkWords (100,000 words, 8 KiB), TestAutomaton_FindsWhatSearchingFinds
//	NUL, surrogates, overlong, 8 KiB + 1,  TestInput_BadSendsAreRefusedBySocketAndHTTP; api TestBodies_BadOnesAreRefused
//	 empty, blank, only ignorable
//	a client's ID again                    TestSend_SameIDFromEverywhereIsOneMessage, TestSend_SameIDOtherContentIsRejectedAfterAcceptance,
//	                                       TestAbuse_IDsThatDifferInCaseAreTwo
//	page size, offset, cursor              TestAbuse_PagesAreBounded; api TestQueries_BadOnesAreRefused, FuzzQueries; logic/im FuzzIDs
//	10,000 + 1 members, groups, invites    TestAbuse_CapsHold; storage TestGroups_* ; TestSchedule_AUserHasABound
//	1,000 messages a second                TestLimits_HoldOverNodesAndProtocols, TestLimits_FloodedConnectionIsClosed
//	deep, huge, doubled, zipped bodies     TestAbuse_BodiesAreBounded; api TestBodies_*
//	CORS, cookies                          TestAbuse_ForeignPagesAreNotAnswered
//	verbs, paths                           TestAbuse_EveryRouteHasItsVerbsAndOneSpelling; api TestPaths_*, TestMethods_*
//	error probing                          TestAbuse_ProbingEveryRouteIsNeverInternal; logic FuzzHandle_NoFrameIsUnansweredOrInternal
//	stores within reach                    TestStores_*

// otherLanguages are words of SQL, of shells, of templates and of pages.
var otherLanguages = []string{
	`'; DROP TABLE messages; --`, `" OR ""="`, `1) UNION SELECT password_hash FROM users --`, `\'; SELECT SLEEP(9) #`, `%_\%`, "`id`", `$(reboot)`,
	`<script>alert(1)</script>`, `{{constructor.constructor('x')()}}`, `${jndi:ldap://x/a}`, `FLUSHALL {*} :`, `../../etc/passwd`, `%00%0d%0a`, `NULL`, `🖕'🙂"`,
}

// Whatever it is, in every field that people fill in: kept and shown to the byte.
func TestAbuse_WordsOfOtherLanguagesAreOnlyWords(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped, func(c *configs.Config) {
		c.Logic.GroupChangesPerMinute, c.Logic.People.RequestsPerMinute = 1000, 1000
	})
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	ada, bob, eve := people[0], people[1], people[2]
	befriend(t, ada, bob)
	g := ada.found("the group", im.JoinRequest, bob)
	conv := im.DirectConversation(ada.id, bob.id)
	channel := ada.changed(ada.http.CreateChannel(t.Context(), g.ID, protocol.CreateChannel{Name: "one"})).Channel.ConversationID
	ctx := t.Context()
	must(t, sentOnce(t, ada, bob)) // there is no draft before
	for _, s := range otherLanguages {
		kept := func(field, got string, err error) {
			t.Helper()
			if err != nil || got != s {
				t.Errorf("%s: %q comes back as %q, %v", field, s, got, err)
			}
		}
		me, err := ada.http.UpdateMe(ctx, protocol.UpdateProfile{Nickname: &s})
		kept("nickname", me.Nickname, err)
		contact, err := ada.http.SetRemark(ctx, bob.id, s)
		kept("remark", contact.Remark, err)
		_, err = ada.http.UpdateGroup(ctx, g.ID, protocol.UpdateGroup{Name: &s})
		now, err2 := ada.http.Group(ctx, g.ID)
		must(t, err)
		kept("group", now.Name, err2)
		_, err = ada.http.RenameChannel(ctx, g.ID, channel, s)
		must(t, err)
		row, err := ada.http.Conversation(ctx, channel)
		must(t, err)
		if shown, _ := json.Marshal(row); !strings.Contains(string(shown), string(quotedIn(s))) { // a row always encodes
			t.Errorf("channel: %q comes back in %s", s, shown)
		}
		set, err := ada.http.ChangeSettings(ctx, conv, protocol.ChangeSettings{Draft: &s})
		if err != nil || set.Settings.Draft == nil || set.Settings.Draft.Text != s {
			t.Errorf("draft: %q comes back as %+v, %v", s, set.Settings.Draft, err)
		}
		asked, err := ada.http.RequestContact(ctx, protocol.RequestContact{UserID: &eve.id, Message: s})
		kept("request", asked.Message, err)
		if asked.RequestID != nil {
			must(t, ada.http.WithdrawContact(ctx, *asked.RequestID))
		}
		_, err = eve.http.JoinGroup(ctx, g.ID, s)
		must(t, err)
		waiting, err := ada.http.JoinRequests(ctx, g.ID, "", 10)
		if err != nil || len(waiting.Items) != 1 || waiting.Items[0].Message != s {
			t.Errorf("join: %q comes back as %+v, %v", s, waiting.Items, err)
		}
		must(t, eve.http.WithdrawJoin(ctx, g.ID))
		sent, err := ada.http.Send(ctx, textTo(bob.id, s), true)
		must(t, err)
		page, err := bob.http.History(ctx, protocol.History{ConversationID: conv, Around: &sent.Seq, Limit: 1})
		must(t, err)
		kept("text", textOf(page.Items[0]), nil)
		if page.Items[0].Sender.Nickname != s {
			t.Errorf("the sender's name: %q comes back as %q", s, page.Items[0].Sender.Nickname)
		}
	}
	// And where something is looked for.
	for _, s := range otherLanguages {
		if _, err := ada.http.FindUser(ctx, s); !client.IsCode(err, "not_found") {
			t.Errorf("a user called %q: %v", s, err)
		}
	}
	if n := len(bob.history(conv)); n != 1+len(otherLanguages) {
		t.Errorf("%d messages of %d", n, len(otherLanguages))
	}
}

// An ID has one form; what would be more than a name in a key, a topic or a header is
// refused, everywhere.
func TestAbuse_IDsHaveOneForm(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := people[0], people[1]
	must(t, sentOnce(t, ada, bob))
	conv, auth := im.DirectConversation(ada.id, bob.id), ada.http.Token()
	server := "ServerKey " + devtest.ServerKeyID + ":" + devtest.ServerKeySecret
	w := ada.wire("phone")
	for _, bad := range []string{"{abcdefgh}", "abc*defgh", "abcd\nefgh", "abcd\r\nefgh", "abcdefgh ", " abcdefgh", "abcdef\x00gh", "abcdéfgh", "abcd\u200befgh", `abcd\efgh`, strings.Repeat("a", 200), ""} {
		quoted, _ := json.Marshal(bad) // text always encodes
		for field, c := range map[string]struct{ method, path, body, auth string }{
			"client_msg_id":    {"POST", "/v1/messages", fmt.Sprintf(`{"client_msg_id":%s,"to":{"user_id":"%s"},"content":{"text":"x"}}`, quoted, bob.id), auth},
			"client_change_id": {"POST", "/v1/conversations/" + string(conv) + "/messages/1/changes", fmt.Sprintf(`{"client_change_id":%s,"kind":"react","reaction":"👍"}`, quoted), auth},
			"conversation_id":  {"POST", "/v1/messages", fmt.Sprintf(`{"client_msg_id":"abcdefgh","to":{"conversation_id":%s},"content":{"text":"x"}}`, quoted), auth},
			"handle":           {"POST", "/v1/messages", fmt.Sprintf(`{"client_msg_id":"abcdefgh","to":{"handle":%s},"content":{"text":"x"}}`, quoted), auth},
			"device":           {"POST", "/v1/server/tokens", fmt.Sprintf(`{"user_id":"%s","device":%s}`, bob.id, quoted), server},
			"external_id":      {"POST", "/v1/server/users", fmt.Sprintf(`{"users":[{"external_id":%s}]}`, quoted), server},
			"provider":         {"PUT", "/v1/auth/devices/me/push", fmt.Sprintf(`{"provider":%s,"token":"abc"}`, quoted), auth},
		} {
			if r := (call{method: c.method, path: c.path, body: c.body}).do(t, ada.base, c.auth); r.status != 400 || r.err.Code != "invalid_request" {
				t.Errorf("%s %q: %d %s", field, bad, r.status, r.body)
			}
		}
		if a := w.text(fmt.Sprintf(`{"id":"1","cmd":"send","data":{"client_msg_id":%s,"to":{"user_id":"%s"},"content":{"text":"x"}}}`, quoted, bob.id)); a.Error == nil || a.Error.Code != "invalid_request" {
			t.Errorf("client_msg_id %q by socket: %+v", bad, a)
		}
	}
	if n := len(bob.history(conv)); n != 1 {
		t.Errorf("%d messages, one was sent", n)
	}
}

// quotedIn is s as JSON holds it.
func quotedIn(s string) []byte {
	b, _ := json.Marshal(s) // text always encodes
	return b
}

func sentOnce(t *testing.T, from, to *person) error {
	_, err := from.http.Send(t.Context(), textTo(to.id, "hello"), true)
	return err
}

// What clients say does not break a line of the log, and what is theirs is not in it.
func TestAbuse_LogsAreLinesWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := people[0], people[1]
	tokens := ada.issue("phone")
	const forged = "x\r\nlevel=ERROR msg=forged \x1b[31mred\x1b[0m"
	const said, password = "nobody else reads this", "a-password-nobody-reads"
	auth := "Bearer " + tokens.AccessToken
	quoted, _ := json.Marshal(forged)
	for _, c := range []call{
		{method: "POST", path: "/v1/auth/login", body: fmt.Sprintf(`{"handle":%s,"password":%q,"device":"phone"}`, quoted, password)},
		{method: "POST", path: "/v1/auth/login", body: fmt.Sprintf(`{"handle":"ada","password":%q,"device":%s}`, password, quoted)},
		{method: "POST", path: "/v1/auth/register", body: fmt.Sprintf(`{"handle":"ada","password":%q,"device":"phone"}`, password)},
		{method: "GET", path: "/v1/users/me", header: map[string]string{"X-Request-Id": "a level=ERROR", "User-Agent": strings.Repeat("y", 4000)}},
		{method: "GET", path: "/v1/%0d%0alevel=ERROR%20msg=forged%1b[31m"},
		{method: "GET", path: "/v1/users/me?token=" + tokens.AccessToken},
		{method: "POST", path: "/v1/messages", body: fmt.Sprintf(`{"client_msg_id":%s,"to":{"user_id":"%s"},"content":{"text":%q}}`, quoted, bob.id, said)},
		{method: "POST", path: "/v1/auth/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, tokens.RefreshToken+"x")},
	} {
		if r := c.do(t, e.http, auth); r.status >= 500 {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.body)
		}
	}
	w := ada.wire("phone")
	w.text(fmt.Sprintf(`{"id":"1","cmd":%s,"data":{}}`, quoted))
	if a := w.ask("2", protocol.CmdSend, textTo(bob.id, said)); a.Error != nil {
		t.Error(a.Error)
	}
	dialWire(t, e.socket).text(fmt.Sprintf(`{"id":"1","cmd":"connect","data":{"token":%s,"device":"phone"}}`, quoted))
	devtest.Eventually(t, "Bob has it", func() bool { return len(bob.history(im.DirectConversation(ada.id, bob.id))) == 1 })
	e.stop()
	for what, text := range map[string]string{
		"an escape": "\x1b", "a line of a client's": "\nlevel=", "a carriage return": "\r", "a message": said, "a password": password,
		"an access token": tokens.AccessToken[len(tokens.AccessToken)-20:], "a refresh token": tokens.RefreshToken[len(tokens.RefreshToken)-20:],
		"a server's key": devtest.ServerKeySecret, "a huge value": strings.Repeat("y", 1000),
	} {
		if s.Logged(text) {
			t.Errorf("the log holds %s", what)
		}
	}
}

// Markup is text: an answer says that it is JSON and nothing else, and the page runs only
// its own scripts.
func TestAbuse_MarkupIsDataToPages(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := people[0], people[1]
	conv := im.DirectConversation(ada.id, bob.id)
	for i, text := range []string{
		`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `<svg/onload=alert(1)>`, `[x](javascript:alert(1))`, `javascript:alert(1)`, `</script><!--`, "\u202egnp.exe", "a\u2028b",
	} {
		_, err := ada.http.Send(t.Context(), textTo(bob.id, text), true)
		must(t, err)
		if got := textOf(bob.history(conv)[i]); got != text {
			t.Errorf("%q comes back as %q", text, got)
		}
	}
	for _, c := range []call{
		{method: "GET", path: "/v1/conversations/" + string(conv) + "/messages"}, {method: "GET", path: "/v1/<script>alert(1)</script>"},
		{method: "GET", path: "/v1/users/<svg onload=alert(1)>"}, {method: "POST", path: "/v1/messages", body: `{"<script>":1}`},
	} {
		r := c.do(t, e.http, bob.http.Token())
		h := r.header
		if !strings.HasPrefix(h.Get("Content-Type"), "application/json") || h.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(string(r.body), "<script>") && r.status >= 400 {
			t.Errorf("%s: %v %s", c.path, h, r.body)
		}
	}
	r := call{method: "GET", path: "/"}.do(t, e.http, "")
	policy := r.header.Get("Content-Security-Policy")
	if r.status != 200 || policy == "" || strings.Contains(policy, "unsafe-") || strings.Contains(policy, "*") || !strings.Contains(policy, "script-src 'self'") && !strings.Contains(policy, "default-src 'self'") {
		t.Errorf("the page: %d, policy %q", r.status, policy)
	}
	if b := string(r.body); strings.Contains(b, "<script>") || strings.Contains(b, " onclick=") || strings.Contains(b, " onload=") {
		t.Error("the page has a script within it")
	}
}

// Words in disguise are found in whatever a text comes by; innocent texts are kept to the
// byte, joiners and all.
func TestAbuse_DisguisedWordsAreFoundWhereverTextGoes(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "words.txt")
	must(t, os.WriteFile(list, []byte("mask: heck\nreject: forbidden\nmask: cunt\n"), 0o600))
	e := startEngine(t, devtest.Start(t), shipped, func(c *configs.Config) { c.Logic.WordsFile = list })
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve", "dan")
	bob := people[3]
	ctx := t.Context()
	base, err := people[0].http.Send(ctx, textTo(bob.id, "for"), true)
	must(t, err)
	ada := people[0]
	react := func(kind im.ChangeKind, text string) error {
		content, _ := json.Marshal(im.TextContent{Text: text}) // a string always encodes
		_, err := ada.http.Change(ctx, protocol.Change{ClientChangeID: im.ClientChangeID(client.NewClientMsgID()), ConversationID: base.ConversationID, Seq: base.Seq, Kind: kind, Content: content}, true)
		return err
	}
	disguises := []string{
		"forbidden", "FORBIDDEN", "ｆｏｒｂｉｄｄｅｎ", "for\u200bbid\u200cden", "for\u200dbidden", "\ufefffor\u00adbidden", "fo\u0301rbi\u0308dden", "\u202eforbidden\u202c", "f🙂o🙂rbidden", "𝓯𝓸𝓻𝓫𝓲𝓭𝓭𝓮𝓷", "f\u20ddorbidden", "for\u0007bidden",
	}
	for i, s := range disguises {
		p := people[i%3]
		_, err := p.http.Send(ctx, textTo(bob.id, "a "+s+" word"), true)
		if !client.IsCode(err, "content_refused") {
			t.Errorf("%q sent: %v", s, err)
		}
		_, err = p.http.Schedule(ctx, textTo(bob.id, s), time.Now().Add(time.Hour))
		if !client.IsCode(err, "content_refused") {
			t.Errorf("%q scheduled: %v", s, err)
		}
		if err := react(im.ChangeEdit, s); !client.IsCode(err, "content_refused") { // "for" was the first half
			t.Errorf("%q as an edit: %v", s, err)
		}
		named := textTo(bob.id, "")
		named.Type = im.TypeFile
		named.Content = fmt.Appendf(nil, `{"url":"https://files.example/x","mime":"text/plain","size":9,"sha256":"%s","name":%q}`, strings.Repeat("ab", 32), strings.ReplaceAll(s, "\u0007", ""))
		if _, err := p.http.Send(ctx, named, true); !client.IsCode(err, "content_refused") {
			t.Errorf("%q as a file's name: %v", s, err)
		}
	}
	if err := react(im.ChangeEdit, "what the h\u200beck"); err != nil {
		t.Error(err)
	}
	ms := bob.history(base.ConversationID)
	if len(ms) != 1 || textOf(ms[0]) != "what the ****" && textOf(ms[0]) != "what the *****" {
		t.Errorf("after all of it Bob reads %q", textOf(ms[0]))
	}
	eve := people[1]
	for i, s := range []string{
		"Scunthorpe, Penistone and Lightwater", "👩‍👩‍👧‍👦 🏳️‍🌈 👨🏽‍🚀", "می‌خواهم", "क्‍ष", "e\u0301", "a check, heckler", "\u202babc\u202c", strings.Repeat("é", im.MaxTextBytes/2),
	} {
		sent, err := eve.http.Send(ctx, textTo(bob.id, s), true)
		must(t, err)
		if got := textOf(bob.history(sent.ConversationID)[i]); got != s {
			t.Errorf("%.40q comes back as %.40q", s, got)
		}
	}
}

// Two IDs that a database might take for one are two messages.
func TestAbuse_IDsThatDifferInCaseAreTwo(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	ada, bob, conv := e.pair(t)
	for i, id := range []im.ClientMsgID{"same-id-0a", "SAME-ID-0A", "Same-Id-0a", "same_id-0a", "same-id-0a0"} {
		m := textTo(bob.id, fmt.Sprint("as ", id))
		m.ClientMsgID = id
		sent, err := ada.http.Send(t.Context(), m, true)
		if err != nil || sent.Seq != im.Seq(i+1) {
			t.Errorf("%s: %+v, %v", id, sent, err)
		}
		again, err := ada.http.Send(t.Context(), m, true)
		if err != nil || again.Seq != sent.Seq {
			t.Errorf("%s again: %+v, %v", id, again, err)
		}
		m.Content = json.RawMessage(`{"text":"another"}`)
		if _, err := ada.http.Send(t.Context(), m, true); err == nil {
			t.Errorf("%s with another text is taken", id)
		}
	}
	if n := len(bob.history(conv)); n != 5 {
		t.Errorf("%d messages", n)
	}
	if r := (call{method: http.MethodPost, path: "/v1/messages", body: fmt.Sprintf(`{"client_msg_id":"same-id-0a ","to":{"user_id":"%s"},"content":{"text":"x"}}`, bob.id)}).do(t, ada.base, ada.http.Token()); r.status != 400 {
		t.Errorf("with a space after it: %d %s", r.status, r.body)
	}
}
