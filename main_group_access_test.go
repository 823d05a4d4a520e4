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

// found makes a group of the person's with others in it.
func (p *person) found(name string, policy im.JoinPolicy, others ...*person) protocol.Group {
	p.t.Helper()
	req := protocol.CreateGroup{Name: name, JoinPolicy: policy}
	for _, o := range others {
		req.Members = append(req.Members, o.id)
	}
	return p.changed(p.http.CreateGroup(p.t.Context(), req)).Group
}

// changed is a change of a group that everyone has been told of.
func (p *person) changed(c protocol.GroupChanged, err error) protocol.GroupChanged {
	p.t.Helper()
	if err != nil || !c.Applied {
		p.t.Fatalf("%s's change: applied %t, %v", p.name, c.Applied, err)
	}
	return c
}

// tell sends a text to a channel and waits until it is stored.
func (p *person) tell(conv im.ConversationID, text string) im.Seq {
	p.t.Helper()
	sent, err := p.http.Send(p.t.Context(), protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(conv),
		Content: fmt.Appendf(nil, `{"text":%q}`, text)}, true)
	if err != nil || sent.Seq == 0 {
		p.t.Fatalf("%s says %q: %+v, %v", p.name, text, sent, err)
	}
	return sent.Seq
}

// groupRoutes are all routes of one group; %s is the group, c%s its private channel, and
// u the user they are about. member is what a member gets who is neither admin nor in the
// channel.
var groupRoutes = []struct {
	method, path, body string
	member             string
}{
	{"GET", "/v1/groups/%[1]s", "", ""},
	{"GET", "/v1/groups/%[1]s/members", "", ""},
	{"PATCH", "/v1/groups/%[1]s", `{"name":"mine now"}`, "forbidden"},
	{"PATCH", "/v1/groups/%[1]s", `{"muted_all":true}`, "forbidden"},
	{"DELETE", "/v1/groups/%[1]s", "", "forbidden"},
	{"POST", "/v1/groups/%[1]s/members", `{"user_ids":["%[3]s"]}`, "forbidden"},
	{"DELETE", "/v1/groups/%[1]s/members/%[4]s", "", "forbidden"},
	{"PUT", "/v1/groups/%[1]s/members/%[4]s/role", `{"role":"admin"}`, "forbidden"},
	{"PUT", "/v1/groups/%[1]s/members/%[4]s/mute", `{"until":9007199254740991}`, "forbidden"},
	{"POST", "/v1/groups/%[1]s/transfer", `{"user_id":"%[4]s"}`, "forbidden"},
	{"GET", "/v1/groups/%[1]s/requests", "", "forbidden"},
	{"POST", "/v1/groups/%[1]s/requests/%[3]s/accept", "", "forbidden"},
	{"POST", "/v1/groups/%[1]s/requests/%[3]s/refuse", "", "forbidden"},
	{"POST", "/v1/groups/%[1]s/channels", `{"name":"mine"}`, "forbidden"},
	{"PATCH", "/v1/groups/%[1]s/channels/%[2]s", `{"name":"mine"}`, "hidden"},
	{"DELETE", "/v1/groups/%[1]s/channels/%[2]s", "", "hidden"},
	{"GET", "/v1/groups/%[1]s/channels/%[2]s/members", "", "not_found"},
	{"POST", "/v1/groups/%[1]s/channels/%[2]s/members", `{"user_ids":["%[3]s"]}`, "hidden"},
	{"DELETE", "/v1/groups/%[1]s/channels/%[2]s/members/%[4]s", "", "hidden"},
	{"DELETE", "/v1/groups/%[1]s/channels/%[2]s/members/me", "", "not_found"},
}

// channelRoutes are those of a conversation that somebody is not in.
var channelRoutes = []call{
	{method: "GET", path: "/v1/conversations/%s"},
	{method: "GET", path: "/v1/conversations/%s/messages"},
	{method: "GET", path: "/v1/conversations/%s/messages?after_change=0"},
	{method: "GET", path: "/v1/conversations/%s/messages/1/edits"},
	{method: "GET", path: "/v1/conversations/%s/messages/1/reactions?reaction=%%F0%%9F%%91%%8D"},
	{method: "GET", path: "/v1/conversations/%s/messages/1/receipts?state=read"},
	{method: "GET", path: "/v1/conversations/%s/receipts?seq=1"},
	{method: "GET", path: "/v1/conversations/%s/deletions"},
	{method: "GET", path: "/v1/offline/%s"},
	{method: "POST", path: "/v1/offline/%s/ack", body: `{"seq":1}`},
	{method: "POST", path: "/v1/conversations/%s/receipts", body: `{"read_seq":1}`},
	{method: "POST", path: "/v1/conversations/%s/deletions", body: `{"seqs":[1]}`},
	{method: "POST", path: "/v1/conversations/%s/messages/1/changes", body: `{"client_change_id":"abcdefgh","kind":"recall"}`},
	{method: "POST", path: "/v1/conversations/%s/messages/1/changes", body: `{"client_change_id":"abcdefgi","kind":"react","reaction":"👍"}`},
	{method: "PATCH", path: "/v1/conversations/%s/settings", body: `{"pinned":true}`},
	{method: "DELETE", path: "/v1/conversations/%s?up_to_seq=1"},
}

// bare is an answer without what differs from request to request.
func (r reply) bare() string {
	return fmt.Sprint(r.status, " ", strings.ReplaceAll(string(r.body), r.err.RequestID, ""))
}

// What is not one's own answers as what does not exist, byte for byte; what one may not
// do in a group that one is in is forbidden.
func TestGroups_OnlyWhoMayIsLetIn(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	p := enrol(t, e.http, e.socket, "ada", "bob", "cal", "eve")
	ada, bob, cal, eve := p[0], p[1], p[2], p[3]
	g := ada.found("waders", im.JoinClosed, bob, cal)
	ada.changed(ada.http.SetRole(t.Context(), g.ID, cal.id, im.RoleAdmin))
	made := ada.changed(ada.http.CreateChannel(t.Context(), g.ID, protocol.CreateChannel{Name: "ringing", Private: true, Members: []im.UserID{cal.id}}))
	private := made.Channel.ConversationID
	ada.tell(private, "between us")
	own := eve.found("ducks", im.JoinClosed)

	ask := func(who *person, method, path, body string) reply {
		return call{method: method, path: path, body: body}.do(t, e.http, who.http.Token())
	}
	for _, r := range groupRoutes {
		at := func(group im.GroupID, channel im.ConversationID) (path, body string) {
			args := []any{group.String(), string(channel), eve.id.String(), cal.id.String()}
			return fmt.Sprintf(r.path+"%.0[1]s%.0[2]s%.0[3]s%.0[4]s", args...), fmt.Sprintf(r.body+"%.0[1]s%.0[2]s%.0[3]s%.0[4]s", args...)
		}
		name := r.method + " " + r.path
		path, body := at(g.ID, private)
		nowhere, same := at(4_000_000, "c4000000")
		stranger, unknown := ask(eve, r.method, path, body), ask(eve, r.method, nowhere, same)
		if stranger.err.Code != "not_found" || stranger.bare() != unknown.bare() {
			t.Errorf("%s by a stranger: %s; an unknown one: %s", name, stranger.bare(), unknown.bare())
		}
		switch got := ask(bob, r.method, path, body); {
		case r.member == "hidden" && got.err.Code != "forbidden" && got.err.Code != "not_found", r.member != "hidden" && got.err.Code != r.member:
			t.Errorf("%s by a member: %s, want %s", name, got.bare(), r.member)
		}
		if strings.Contains(r.path, "channels/") { // a channel of another's group by way of one's own
			path, body := at(own.ID, private)
			_, none := at(own.ID, "c4000000")
			through, unknown := ask(eve, r.method, path, body), ask(eve, r.method, strings.Replace(path, string(private), "c4000000", 1), none)
			if through.err.Code != "not_found" || through.bare() != unknown.bare() {
				t.Errorf("%s through another group: %s; an unknown one: %s", name, through.bare(), unknown.bare())
			}
		}
	}
	for _, who := range []*person{bob, eve} {
		for _, r := range channelRoutes {
			there, nowhere := ask(who, r.method, fmt.Sprintf(r.path, private), r.body), ask(who, r.method, fmt.Sprintf(r.path, "c4000000"), r.body)
			if there.status != 404 || there.err.Code != "not_found" || there.bare() != nowhere.bare() {
				t.Errorf("%s %s by %s: %s; an unknown one: %s", r.method, r.path, who.name, there.bare(), nowhere.bare())
			}
		}
		for _, conv := range []im.ConversationID{private, "c4000000", own.MainChannelID} {
			if who == eve && conv == own.MainChannelID {
				continue
			}
			_, err := who.http.Send(t.Context(), protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(conv), Content: []byte(`{"text":"x"}`)}, false)
			want(t, "not_found", err)
		}
	}

	// An admin is no owner.
	for _, r := range []call{
		{method: "DELETE", path: "/v1/groups/%s"},
		{method: "POST", path: "/v1/groups/%s/transfer", body: `{"user_id":"` + cal.id.String() + `"}`},
		{method: "PUT", path: "/v1/groups/%s/members/" + bob.id.String() + "/role", body: `{"role":"admin"}`},
		{method: "DELETE", path: "/v1/groups/%s/members/" + ada.id.String()},
		{method: "PUT", path: "/v1/groups/%s/members/" + ada.id.String() + "/mute", body: `{"until":9007199254740991}`},
	} {
		if got := ask(cal, r.method, fmt.Sprintf(r.path, g.ID), r.body); got.err.Code != "forbidden" {
			t.Errorf("%s %s by an admin: %s", r.method, r.path, got.bare())
		}
	}
	// Who has blocked somebody is not brought into their groups.
	if err := eve.http.SetBlock(t.Context(), ada.id, true); err != nil {
		t.Fatal(err)
	}
	_, err := ada.http.AddMembers(t.Context(), g.ID, eve.id)
	want(t, "blocked", err)
	_, err = ada.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "again", Members: []im.UserID{bob.id, eve.id}})
	want(t, "blocked", err)
	_, err = ada.http.AddMembers(t.Context(), g.ID, 4_000_000)
	want(t, "not_found", err)
	_, err = ada.http.AddToChannel(t.Context(), g.ID, private, eve.id)
	want(t, "not_found", err)
	// Nothing of all that has changed anything.
	after, err := ada.http.Group(t.Context(), g.ID)
	if err != nil || after.Version != made.Group.Version || after.Members != 3 || after.Name != "waders" {
		t.Errorf("the group is now %+v, %v", after, err)
	}
	if got := ask(eve, http.MethodGet, "/v1/groups", ""); strings.Contains(string(got.body), "waders") {
		t.Errorf("Eve's groups: %s", got.body)
	}
}
