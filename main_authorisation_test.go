package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// Who may do what: every route and every command, asked by everybody. A row without a
// cell for somebody, or a route or command without a row, fails.

// personalRows: what one has with Ada, or Ada and Bob have with each other.
var personalRows = []permission{
	// nobody, a revoked device, a backend · a stranger, one whom Ada has blocked, her contact Bob
	{"GET /health", "", "... ..."},
	{"GET /v1/limits", "", "... ..."},
	{"POST /v1/auth/register", `{"handle":"{fresh}","password":"a-password-of-theirs","device":"web"}`, "... ..."},
	{"POST /v1/auth/login", `{"handle":"ada","password":"not-a-password","device":"web"}`, "uuu uuu"},
	{"POST /v1/auth/refresh", `{"refresh_token":"not-a-token"}`, "uuu uuu"},
	{"POST /v1/auth/password", `{"old_password":"not-a-password","new_password":"another-password"}`, "uuu fff"},
	{"GET /v1/auth/devices", "", "uuu ..."},
	{"DELETE /v1/auth/devices/{adas}", "", "uuu nnn"},
	{"DELETE /v1/auth/devices/{own_device}", "", "uuu ..."},
	{"PUT /v1/auth/devices/me/push", `{"provider":"fcm","token":"dGlkZQ:APA91b"}`, "uuu ..."},
	{"DELETE /v1/auth/devices/me/push", "", "uuu ..."},

	{"GET /v1/users?handle=bob", "", "uuu ..."},
	{"GET /v1/users/me", "", "uuu ..."},
	{"PATCH /v1/users/me", `{"avatar":""}`, "uuu ..."},
	{"GET /v1/users/{ada}", "", "uuu ..."},
	{"GET /v1/contacts", "", "uuu ..."},
	{"PATCH /v1/contacts/{ada}", `{"remark":"Countess"}`, "uuu nn."},
	{"PATCH /v1/contacts/{carl}", `{"remark":"Carl"}`, "uuu nnn"},
	{"DELETE /v1/contacts/{carl}", "", "uuu ..."},
	{"GET /v1/contacts/requests?direction=incoming", "", "uuu ..."},
	{"POST /v1/contacts/requests", `{"user_id":"{ada}"}`, "uuu .b."},
	{"DELETE /v1/contacts/requests/{request}", "", "uuu nnn"},
	{"POST /v1/contacts/requests/{request}/accept", "", "uuu nnn"},
	{"POST /v1/contacts/requests/{request}/refuse", "", "uuu nnn"},
	{"DELETE /v1/contacts/requests/{from_self}", "", "uuu ..."},
	{"POST /v1/contacts/requests/{to_self}/refuse", "", "uuu ..."},
	{"POST /v1/contacts/requests/{to_self}/accept", "", "uuu ..."},
	{"GET /v1/presence?users={ada}", "", "uuu ..."},
	{"presence", `{"users":["{ada}"],"subscribe":true}`, "uuu ..."},
	{"GET /v1/blocks", "", "uuu ..."},
	{"PUT /v1/blocks/{carl}", "", "uuu ..."},
	{"DELETE /v1/blocks/{carl}", "", "uuu ..."},

	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{theirs}"},"content":{"text":"hm"}}`, "uuu nn."},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{mine}"},"content":{"text":"hm"}}`, "uuu .b."},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"user_id":"{carl}"},"forward":{"conversation_id":"{theirs}","seq":1}}`, "uuu ii."},
	{"send", `{"client_msg_id":"{id}","to":{"conversation_id":"{theirs}"},"content":{"text":"hm"}}`, "uuu nn."},
	{"send", `{"client_msg_id":"{id}","to":{"conversation_id":"{mine}"},"content":{"text":"hm"}}`, "uuu .b."},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{theirs}"},"content":{"text":"hm"},"deliver_at":{hence}}`, "uuu nn."},
	{"send", `{"client_msg_id":"{id}","to":{"conversation_id":"{mine}"},"content":{"text":"hm"},"deliver_at":{hence}}`, "uuu .b."},
	{"GET /v1/scheduled", "", "uuu ..."},
	{"GET /v1/scheduled?conversation_id={theirs}", "", "uuu ..."},
	{"GET /v1/scheduled/{scheduled}", "", "uuu nnn"},
	{"PATCH /v1/scheduled/{scheduled}", `{"content":{"text":"no"}}`, "uuu nnn"},
	{"DELETE /v1/scheduled/{scheduled}", "", "uuu nnn"},
	{"POST /v1/scheduled/{scheduled}/send", "", "uuu nnn"},
	{"GET /v1/scheduled/{own_scheduled}", "", "uuu ..."},
	{"PATCH /v1/scheduled/{own_scheduled}", `{"deliver_at":{hence}}`, "uuu ..."},
	{"POST /v1/scheduled/{own_scheduled}/send", "", "uuu ..."},
	{"DELETE /v1/scheduled/{own_scheduled}", "", "uuu ..."},
	{"typing", `{"conversation_id":"{theirs}","on":true}`, "uuu nn."},
	{"typing", `{"conversation_id":"{mine}","on":true}`, "uuu .b."},
	{"GET /v1/conversations", "", "uuu ..."},
	{"GET /v1/conversations/{theirs}", "", "uuu nn."},
	{"GET /v1/conversations/{mine}", "", "uuu ..."},
	{"PATCH /v1/conversations/{theirs}/settings", `{"pinned":true}`, "uuu nn."},
	{"settings", `{"conversation_id":"{theirs}","pinned":false}`, "uuu nn."},
	{"GET /v1/conversations/{theirs}/messages", "", "uuu nn."},
	{"GET /v1/conversations/{theirs}/messages?after_change=0", "", "uuu nn."},
	{"GET /v1/conversations/{mine}/messages", "", "uuu ..."},
	{"history", `{"conversation_id":"{theirs}","around":1}`, "uuu nn."},
	{"history", `{"conversation_id":"{theirs}","after_change":0}`, "uuu nn."},
	{"POST /v1/conversations/{theirs}/messages/1/changes", `{"client_change_id":"{id}","kind":"react","reaction":"👍"}`, "uuu nn."},
	{"POST /v1/conversations/{theirs}/messages/1/changes", `{"client_change_id":"{id}","kind":"unreact","reaction":"👍"}`, "uuu nn."},
	{"POST /v1/conversations/{theirs}/messages/1/changes", `{"client_change_id":"{id}","kind":"edit","content":{"text":"no"}}`, "uuu nnf"},
	{"POST /v1/conversations/{theirs}/messages/1/changes", `{"client_change_id":"{id}","kind":"recall"}`, "uuu nnf"},
	{"POST /v1/conversations/{theirs}/messages/{said}/changes", `{"client_change_id":"{id}","kind":"edit","content":{"text":"yes"}}`, "uuu nn."},
	{"POST /v1/conversations/{theirs}/messages/{said}/changes", `{"client_change_id":"{id}","kind":"recall"}`, "uuu nn."},
	{"POST /v1/conversations/{mine}/messages/1/changes", `{"client_change_id":"{id}","kind":"react","reaction":"👍"}`, "uuu .b."},
	{"change", `{"client_change_id":"{id}","conversation_id":"{theirs}","seq":1,"kind":"react","reaction":"👍"}`, "uuu nn."},
	{"change", `{"client_change_id":"{id}","conversation_id":"{theirs}","seq":1,"kind":"recall"}`, "uuu nnf"},
	{"change", `{"client_change_id":"{id}","conversation_id":"{mine}","seq":1,"kind":"react","reaction":"👍"}`, "uuu .b."},
	{"GET /v1/conversations/{theirs}/messages/1/edits", "", "uuu nn."},
	{"GET /v1/conversations/{theirs}/messages/1/reactions?reaction=%F0%9F%91%8D", "", "uuu nn."},
	{"POST /v1/conversations/{theirs}/deletions", `{"seqs":[2]}`, "uuu nn."},
	{"GET /v1/conversations/{theirs}/deletions", "", "uuu nn."},
	{"delete_messages", `{"conversation_id":"{theirs}","seqs":[2]}`, "uuu nn."},
	{"deletions", `{"conversation_id":"{theirs}"}`, "uuu nn."},
	{"POST /v1/conversations/{theirs}/receipts", `{"read_seq":1}`, "uuu nn."},
	{"POST /v1/conversations/{mine}/receipts", `{"read_seq":1}`, "uuu ..."},
	{"ack", `{"conversation_id":"{theirs}","seq":1}`, "uuu nn."},
	{"read", `{"conversation_id":"{theirs}","seq":1}`, "uuu nn."},
	{"GET /v1/offline", "", "uuu ..."},
	{"GET /v1/offline/{theirs}", "", "uuu nn."},
	{"POST /v1/offline/{theirs}/ack", `{"seq":1}`, "uuu nn."},
	{"offline", `{"conversation_id":"{theirs}"}`, "uuu nn."},
	{"GET /v1/sync", "", "uuu ..."},
	{"sync", `{}`, "uuu ..."},
	{"ping", `{}`, "uuu ..."},
	{"DELETE /v1/conversations/{theirs}?up_to_seq=1", "", "uuu nn."},
	{"delete_conversation", `{"conversation_id":"{theirs}","up_to_seq":1}`, "uuu nn."},

	{"POST /v1/server/users", `{"users":[{"external_id":"ext-new"}]}`, "uu. uuu"},
	{"POST /v1/server/tokens", `{"external_id":"ext-new","device":"web"}`, "uu. uuu"},
	{"POST /v1/server/messages", `{"client_msg_id":"{id}","to":{"user_id":"{ada}"},"content":{"text":"hm"}}`, "uu. uuu"},
	{"GET /v1/server/scheduled/{scheduled}", "", "uun uuu"},
	{"DELETE /v1/server/scheduled/{scheduled}", "", "uun uuu"},
	{"GET /v1/server/scheduled/{noticed}", "", "uu. uuu"},
	{"DELETE /v1/server/scheduled/{noticed}", "", "uu. uuu"},
}

// lastRows end what they are asked with.
var lastRows = []permission{
	{"refresh", `{"token":"{adas_token}"}`, "uuu fff"},
	{"connect", `{"token":"not-a-token","device":"wire"}`, "uuu fff"},
	{"POST /v1/auth/logout", "", "uuu ..."},
}

func TestAuthorisation_OfWhatTwoHaveWithEachOther(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	people := enrol(t, e.http, e.socket, "ada", "bob", "bella", "eve", "carl")
	ada, bob, bella, eve, carl := people[0], people[1], people[2], people[3], people[4]
	befriend(t, ada, bob)
	for _, p := range []*person{bob, bella, eve} {
		for _, way := range [][2]*person{{ada, p}, {p, ada}, {p, carl}} {
			if _, err := way[0].http.Send(t.Context(), textTo(way[1].id, "hello"), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	foreign, err := carl.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &ada.id})
	must(t, err)
	must(t, ada.http.Do(t.Context(), http.MethodPut, "/v1/blocks/"+bella.id.String(), nil, nil))
	ada.issue("adas")
	devtest.Eventually(t, "Bella is blocked", func() bool {
		_, err := bella.http.Send(t.Context(), textTo(ada.id, "am I?"), false)
		return client.IsCode(err, "blocked")
	})

	tb := newTable(t, e, bob)
	tb.asks("a stranger", eve)
	tb.asks("one who is blocked", bella)
	tb.asks("the other side", bob)
	theirs := im.DirectConversation(ada.id, bob.id)
	request := func(from, to *person) string {
		c, err := from.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &to.id})
		must(t, err)
		return c.RequestID.String()
	}
	hence := time.Now().Add(time.Hour)
	waits := func(p *person, to im.UserID) string {
		sent, err := p.http.Schedule(t.Context(), textTo(to, "later"), hence)
		must(t, err)
		return sent.ScheduleID.String()
	}
	noticed, err := serverAPI(e.http).ServerSend(t.Context(), protocol.ServerSend{Send: protocol.Send{ClientMsgID: client.NewClientMsgID(),
		To: client.ToUser(ada.id), Content: json.RawMessage(`{"text":"hm"}`), DeliverAt: hence.UnixMilli()}}, false)
	must(t, err)
	fresh := 0
	another := func() *person {
		fresh++
		return enrol(t, e.http, e.socket, fmt.Sprint("another-", fresh))[0]
	}
	for name, value := range map[string]func(*person) string{
		"ada": fixed(ada.id), "carl": fixed(carl.id),
		"theirs": fixed(theirs), "adas": fixed("adas"), "request": fixed(foreign.RequestID),
		"mine":       func(p *person) string { return string(im.DirectConversation(ada.id, p.id)) },
		"id":         func(*person) string { return string(client.NewClientMsgID()) },
		"adas_token": fixed(ada.issue("wire").AccessToken),
		"own_device": func(p *person) string { p.issue("spare"); return "spare" },
		"hence":      fixed(hence.UnixMilli()), "scheduled": fixed(waits(ada, bob.id)), "noticed": fixed(noticed.ScheduleID),
		"own_scheduled": func(p *person) string { return waits(p, carl.id) },
		"to_self":       func(p *person) string { return request(another(), p) },
		"from_self":     func(p *person) string { return request(p, another()) },
		"fresh":         func(*person) string { fresh++; return fmt.Sprint("newcomer-", fresh) },
		// Of the asker where they may say something there, else of one who may.
		"said": func(*person) string {
			sent, err := bob.http.Send(t.Context(), textTo(ada.id, "mine to change"), true)
			must(t, err)
			return fmt.Sprint(sent.Seq)
		},
	} {
		tb.names[name] = value
	}
	// "adas" is somebody else's device, which is none of the asker's.
	tb.nobody = map[string]string{"theirs": "d900000001-900000002", "adas": "nobodys", "request": "900000003", "scheduled": "900000004"}
	tb.hold(personalRows)
	tb.hold(lastRows)

	// What is answered to everybody is each one's own.
	for _, p := range []*person{bella, eve} {
		again := p.issue("http2").AccessToken
		p.http.Token = func() string { return "Bearer " + again }
		for _, row := range p.list() {
			if row.ConversationID == theirs {
				t.Errorf("%s's list has what Ada and Bob have", p.name)
			}
		}
		requests, err := p.http.ContactRequests(t.Context(), true, "", 100)
		must(t, err)
		for _, r := range requests.Items {
			if *r.RequestID == *foreign.RequestID {
				t.Errorf("%s sees what Ada was asked", p.name)
			}
		}
		if shown, _ := json.Marshal(mustPresence(t, p, ada.id)); string(shown) != fmt.Sprintf(`[{"user_id":"%s","online":false}]`, ada.id) && p == bella {
			t.Errorf("%s sees of Ada %s", p.name, shown)
		}
	}
}

func mustPresence(t *testing.T, p *person, users ...im.UserID) []protocol.Presence {
	t.Helper()
	d := p.wire("presence")
	a := d.ask("1", protocol.CmdPresence, protocol.AskPresence{Users: users})
	var shown protocol.Presences
	must(t, json.Unmarshal(a.Data, &shown))
	return shown.Items
}
