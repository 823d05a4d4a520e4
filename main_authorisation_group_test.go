package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// groupRows: what there is in a group, closed to others, with a private channel; and in
// one that asks its admins who may join.
var groupRows = []permission{
	// nobody, a revoked device, a backend · a stranger, one who was removed · one who is
	// muted, a member, one in the private channel · an admin in it, the owner in it
	{"GET /v1/groups", "", "uuu .. ... .."},
	{"POST /v1/groups", `{"name":"another"}`, "uuu .. ... .."},
	{"POST /v1/groups", `{"name":"another","members":["{blocker}"]}`, "uuu bb bbb bb"},
	{"POST /v1/groups", `{"name":"another","members":["{noone}"]}`, "uuu nn nnn nn"},
	{"GET /v1/groups/{group}", "", "uuu nn ... .."},
	{"PATCH /v1/groups/{group}", `{"name":"renamed"}`, "uuu nn fff .."},
	{"PATCH /v1/groups/{group}", `{"muted_all":true}`, "uuu nn fff .."},
	{"DELETE /v1/groups/{group}", "", "uuu nn fff f."},
	{"GET /v1/groups/{group}/members", "", "uuu nn ... .."},
	{"POST /v1/groups/{group}/members", `{"user_ids":["{kim}"]}`, "uuu nn fff .."},
	{"POST /v1/groups/{group}/members", `{"user_ids":["{blocker}"]}`, "uuu nn fff bb"},
	{"DELETE /v1/groups/{group}/members/{tim}", "", "uuu nn fff .."},
	{"DELETE /v1/groups/{group}/members/{second}", "", "uuu nn fff f."},
	{"DELETE /v1/groups/{group}/members/{owner}", "", "uuu nn fff fc"},
	{"DELETE /v1/groups/{group}/members/me", "", "uuu nn ... .c"},
	{"PUT /v1/groups/{group}/members/{tim}/role", `{"role":"admin"}`, "uuu nn fff f."},
	{"PUT /v1/groups/{group}/members/{owner}/role", `{"role":"member"}`, "uuu nn fff fc"},
	{"PUT /v1/groups/{group}/members/{tim}/mute", `{"until":9007199254740991}`, "uuu nn fff .."},
	{"PUT /v1/groups/{group}/members/{second}/mute", `{"until":9007199254740991}`, "uuu nn fff f."},
	{"POST /v1/groups/{group}/transfer", `{"user_id":"{tim}"}`, "uuu nn fff f."},
	{"POST /v1/groups/{group}/join", `{}`, "uuu nn ... .."},
	{"DELETE /v1/groups/{group}/join", "", "uuu nn nnn nn"},
	{"POST /v1/groups/{asking}/join", `{}`, "uuu .. ... .."},
	{"DELETE /v1/groups/{asking}/join", "", "uuu .. nnn nn"},
	{"GET /v1/groups/{asking}", "", "uuu .. ... .."},
	{"GET /v1/groups/{asking}/members", "", "uuu nn ... .."},
	{"GET /v1/groups/{asking}/requests", "", "uuu nn fff .."},
	{"POST /v1/groups/{asking}/requests/{kim}/accept", "", "uuu nn fff .."},
	{"POST /v1/groups/{asking}/requests/{kim}/refuse", "", "uuu nn fff .."},
	{"POST /v1/groups/{group}/requests/{kim}/accept", "", "uuu nn fff nn"},
	{"POST /v1/groups/{group}/channels", `{"name":"new"}`, "uuu nn fff .."},
	{"POST /v1/groups/{group}/channels", `{"name":"new","private":true,"members":["{kim}"]}`, "uuu nn fff nn"},
	{"PATCH /v1/groups/{group}/channels/{private}", `{"name":"renamed"}`, "uuu nn nnf .."},
	{"PATCH /v1/groups/{group}/channels/{main}", `{"name":"renamed"}`, "uuu nn fff cc"},
	{"DELETE /v1/groups/{group}/channels/{private}", "", "uuu nn nnf .."},
	{"DELETE /v1/groups/{group}/channels/{main}", "", "uuu nn fff cc"},
	{"GET /v1/groups/{group}/channels/{main}/members", "", "uuu nn ... .."},
	{"GET /v1/groups/{group}/channels/{private}/members", "", "uuu nn nn. .."},
	{"POST /v1/groups/{group}/channels/{main}/members", `{"user_ids":["{tim}"]}`, "uuu nn fff cc"},
	{"POST /v1/groups/{group}/channels/{private}/members", `{"user_ids":["{tim}"]}`, "uuu nn nnf .."},
	{"POST /v1/groups/{group}/channels/{private}/members", `{"user_ids":["{kim}"]}`, "uuu nn nnf nn"},
	{"DELETE /v1/groups/{group}/channels/{private}/members/{owner}", "", "uuu nn nnf f."},
	{"DELETE /v1/groups/{group}/channels/{private}/members/me", "", "uuu nn nn. .."},
	// A channel by way of another group, which all but the stranger are in.
	{"GET /v1/groups/{asking}/channels/{private}/members", "", "uuu nn nnn nn"},
	{"PATCH /v1/groups/{asking}/channels/{private}", `{"name":"renamed"}`, "uuu nn nnn nn"},
	{"DELETE /v1/groups/{asking}/channels/{private}", "", "uuu nn nnn nn"},

	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{main}"},"content":{"text":"hm"}}`, "uuu nn m.. .."},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{private}"},"content":{"text":"hm"}}`, "uuu nn nn. .."},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{main}"},"content":{"text":"hm"},"mentions_all":true}`, "uuu nn mff .."},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"conversation_id":"{main}"},"content":{"text":"hm"},"mentions":["{kim}"]}`, "uuu nn mii ii"},
	{"POST /v1/messages", `{"client_msg_id":"{id}","to":{"user_id":"{kim}"},"forward":{"conversation_id":"{private}","seq":2}}`, "uuu ii ii. .."},
	{"send", `{"client_msg_id":"{id}","to":{"conversation_id":"{main}"},"content":{"text":"hm"}}`, "uuu nn m.. .."},
	{"send", `{"client_msg_id":"{id}","to":{"conversation_id":"{private}"},"content":{"text":"hm"}}`, "uuu nn nn. .."},
	{"typing", `{"conversation_id":"{main}","on":true}`, "uuu nn m.. .."},
	{"typing", `{"conversation_id":"{private}","on":true}`, "uuu nn nn. .."},
	{"GET /v1/conversations/{main}", "", "uuu n. ... .."},
	{"GET /v1/conversations/{private}", "", "uuu nn nn. .."},
	{"GET /v1/conversations/{main}/messages", "", "uuu n. ... .."},
	{"GET /v1/conversations/{private}/messages", "", "uuu nn nn. .."},
	{"GET /v1/conversations/{private}/messages?after_change=0", "", "uuu nn nn. .."},
	{"history", `{"conversation_id":"{main}"}`, "uuu n. ... .."},
	{"history", `{"conversation_id":"{private}","around":1}`, "uuu nn nn. .."},
	{"POST /v1/conversations/{main}/messages/{late}/changes", `{"client_change_id":"{id}","kind":"react","reaction":"👍"}`, "uuu nn m.. .."},
	{"POST /v1/conversations/{main}/messages/{early}/changes", `{"client_change_id":"{id}","kind":"unreact","reaction":"👍"}`, "uuu nn ... .."},
	{"POST /v1/conversations/{main}/messages/{late}/changes", `{"client_change_id":"{id}","kind":"edit","content":{"text":"no"}}`, "uuu nn fff ff"},
	{"POST /v1/conversations/{main}/messages/{late}/changes", `{"client_change_id":"{id}","kind":"recall"}`, "uuu nn fff .."},
	{"POST /v1/conversations/{main}/messages/1/changes", `{"client_change_id":"{id}","kind":"recall"}`, "uuu nn fff ff"},
	{"POST /v1/conversations/{private}/messages/2/changes", `{"client_change_id":"{id}","kind":"react","reaction":"👍"}`, "uuu nn nn. .."},
	{"change", `{"client_change_id":"{id}","conversation_id":"{main}","seq":1,"kind":"recall"}`, "uuu nn fff ff"},
	{"change", `{"client_change_id":"{id}","conversation_id":"{private}","seq":2,"kind":"react","reaction":"👍"}`, "uuu nn nn. .."},
	{"GET /v1/conversations/{main}/messages/{early}/edits", "", "uuu n. ... .."},
	{"GET /v1/conversations/{main}/messages/{late}/edits", "", "uuu nn ... .."},
	{"GET /v1/conversations/{private}/messages/2/edits", "", "uuu nn nn. .."},
	{"GET /v1/conversations/{main}/messages/{late}/reactions?reaction=%F0%9F%91%8D", "", "uuu nn ... .."},
	{"GET /v1/conversations/{private}/messages/2/reactions?reaction=%F0%9F%91%8D", "", "uuu nn nn. .."},
	{"GET /v1/conversations/{main}/messages/{late}/receipts?state=read", "", "uuu nn ... .."},
	{"GET /v1/conversations/{private}/messages/2/receipts?state=undelivered", "", "uuu nn nn. .."},
	{"GET /v1/conversations/{main}/receipts?seq={late}", "", "uuu n. ... .."},
	{"GET /v1/conversations/{private}/receipts?seq=1", "", "uuu nn nn. .."},
	{"POST /v1/conversations/{main}/receipts", `{"read_seq":1}`, "uuu n. ... .."},
	{"POST /v1/conversations/{private}/receipts", `{"read_seq":1}`, "uuu nn nn. .."},
	{"ack", `{"conversation_id":"{private}","seq":1}`, "uuu nn nn. .."},
	{"read", `{"conversation_id":"{private}","seq":1}`, "uuu nn nn. .."},
	{"POST /v1/conversations/{main}/deletions", `{"seqs":[{late}]}`, "uuu nn ... .."},
	{"POST /v1/conversations/{private}/deletions", `{"seqs":[1]}`, "uuu nn nn. .."},
	{"GET /v1/conversations/{private}/deletions", "", "uuu nn nn. .."},
	{"delete_messages", `{"conversation_id":"{private}","seqs":[1]}`, "uuu nn nn. .."},
	{"deletions", `{"conversation_id":"{private}"}`, "uuu nn nn. .."},
	{"PATCH /v1/conversations/{main}/settings", `{"pinned":true}`, "uuu n. ... .."},
	{"PATCH /v1/conversations/{private}/settings", `{"pinned":true}`, "uuu nn nn. .."},
	{"settings", `{"conversation_id":"{private}","pinned":false}`, "uuu nn nn. .."},
	{"GET /v1/offline/{private}", "", "uuu nn nn. .."},
	{"POST /v1/offline/{private}/ack", `{"seq":1}`, "uuu nn nn. .."},
	{"offline", `{"conversation_id":"{private}"}`, "uuu nn nn. .."},
	{"DELETE /v1/conversations/{private}?up_to_seq=1", "", "uuu nn nn. .."},
	{"delete_conversation", `{"conversation_id":"{private}","up_to_seq":1}`, "uuu nn nn. .."},
}

// groupWorld is the groups that one row is tried in; a change that was made uses them up.
type groupWorld struct {
	group, asking im.GroupID
	main, private im.ConversationID
	early, late   im.Seq // in the main channel, before and after somebody was removed
	used          bool
}

func TestAuthorisation_OfWhatThereIsInAGroup(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), lenient)
	names := []string{"owner", "admin", "second", "inside", "member", "muted", "removed", "tim", "stranger", "kim", "blocker"}
	people := map[string]*person{}
	for i, p := range enrol(t, e.http, e.socket, names...) {
		people[names[i]] = p
	}
	owner := people["owner"]
	tb := newTable(t, e, people["member"])
	for _, column := range []struct{ name, who string }{
		{"a stranger", "stranger"}, {"one who was removed", "removed"}, {"one who is muted", "muted"}, {"a member", "member"},
		{"one in the private channel", "inside"}, {"an admin", "admin"}, {"the owner", "owner"},
	} {
		tb.asks(column.name, people[column.who])
		must(t, people["blocker"].http.Do(t.Context(), http.MethodPut, "/v1/blocks/"+people[column.who].id.String(), nil, nil))
	}
	in := func(names ...string) (users []im.UserID) {
		for _, n := range names {
			users = append(users, people[n].id)
		}
		return users
	}
	build := func() *groupWorld {
		made := owner.changed(owner.http.CreateGroup(t.Context(), protocol.CreateGroup{
			Name: "waders", Members: in("admin", "second", "inside", "member", "muted", "removed", "tim")}))
		w := &groupWorld{group: made.Group.ID, main: made.Group.MainChannelID}
		for _, n := range []string{"admin", "second"} {
			owner.changed(owner.http.SetRole(t.Context(), w.group, people[n].id, im.RoleAdmin))
		}
		w.early = people["tim"].tell(w.main, "early")
		owner.changed(owner.http.RemoveMember(t.Context(), w.group, people["removed"].id))
		owner.changed(owner.http.MuteMember(t.Context(), w.group, people["muted"].id, im.MutedForever))
		w.late = people["tim"].tell(w.main, "late")
		w.private = owner.changed(owner.http.CreateChannel(t.Context(), w.group,
			protocol.CreateChannel{Name: "ringing", Private: true, Members: in("inside", "admin")})).Channel.ConversationID
		owner.tell(w.private, "between us")

		asking := owner.changed(owner.http.CreateGroup(t.Context(), protocol.CreateGroup{
			Name: "ducks", JoinPolicy: im.JoinRequest, Members: in("admin", "inside", "member", "muted", "tim")}))
		w.asking = asking.Group.ID
		owner.changed(owner.http.SetRole(t.Context(), w.asking, people["admin"].id, im.RoleAdmin))
		_, err := people["kim"].http.JoinGroup(t.Context(), w.asking, "")
		must(t, err)
		return w
	}
	w := build()
	tb.before = func(row permission, cell rune) {
		if w.used {
			w = build()
		}
		method, path, _ := strings.Cut(row.what, " ")
		changes := strings.HasPrefix(path, "/v1/groups/{") && method != http.MethodGet || strings.Contains(row.data, `"recall"`)
		w.used = changes && cell == '.' && !strings.HasSuffix(path, "{asking}/join") && !strings.HasSuffix(path, "{group}/join")
	}
	for name, value := range map[string]func(*person) string{
		"group": func(*person) string { return w.group.String() }, "asking": func(*person) string { return w.asking.String() },
		"main": func(*person) string { return string(w.main) }, "private": func(*person) string { return string(w.private) },
		"early": func(*person) string { return fmt.Sprint(w.early) }, "late": func(*person) string { return fmt.Sprint(w.late) },
		"id":    func(*person) string { return string(client.NewClientMsgID()) },
		"noone": fixed(uint64(1) << 50),
	} {
		tb.names[name] = value
	}
	for _, n := range []string{"owner", "second", "tim", "kim", "blocker"} {
		tb.names[n] = fixed(people[n].id)
	}
	tb.nobody = map[string]string{"group": "4000000", "main": "c4000000", "private": "c4000001"}
	tb.covers(personalRows, lastRows, groupRows)
	tb.hold(groupRows)
}
