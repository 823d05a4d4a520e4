package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// RELIABILITY.md, 4.3: who may do what, each row on a running engine with the limits of
// the production profile (shipped), unless a row needs the inside of a package.
//
//	foreign conversation, group, channel,  TestAuthorisation_OfWhatTwoHaveWithEachOther, TestAuthorisation_OfWhatThereIsInAGroup
//	 message: as an unknown one             (every route and command, by every asker), TestPeople_ForeignIsAsUnknown, TestSettings_ForeignIsAsUnknown
//	member without the role                TestAuthorisation_OfWhatThereIsInAGroup
//	channel of one group by way of another, TestAuthorisation_OfWhatThereIsInAGroup ("by way of another group")
//	 message of X by way of Y               TestAuthorisation_OfWhatTwoHaveWithEachOther (a seq is of its conversation alone; forwards)
//	history outside one's time; odd seqs   TestGroups_WhoIsInSeesWhatIsSaidThen, TestInput_*, TestAbuse_ProbingEveryRouteIsNeverInternal
//	receipts of others, beyond the end     TestInput_BadFramesAreAnsweredOrClosed, TestAbuse_WhatTheServerDecidesIsNotTakenFromClients
//	sender, IDs, seq, time from a client   TestAbuse_WhatTheServerDecidesIsNotTakenFromClients; TestAbuse_RolesAreNotAssigned
//	blocked, removed, not in the channel   TestBlocks_BlockedSenderIsRefused, TestRooms_MembershipReachesLiveSocketsElsewhere
//	typing, presence of strangers          TestTyping_IsSeenByTheOtherSideAlone, TestPresence_IsToldToFriendsOnAnyNodeAndToNobodyElse
//	owners that race                       TestAbuse_OwnersRaceAndOneIsLeft; storage TestGroups_* (group_race_test.go)
//	addresses to loopback, file:, gopher:  TestAbuse_AddressesAreKeptAndNeverFetched; jobs' webhook guards its own dialling

// What only the server sets is nothing that a client may say, by either way; nor may a
// receipt be somebody else's.
func TestAbuse_WhatTheServerDecidesIsNotTakenFromClients(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	ada, bob, eve := people[0], people[1], people[2]
	conv := im.DirectConversation(ada.id, bob.id)
	forged := func(id string) string {
		return fmt.Sprintf(`{"client_msg_id":%q,"to":{"user_id":"%s"},"content":{"text":"hers","sender":{"id":"%s"},"seq":7},"sender":{"id":"%s"},"sender_id":"%s","from":"%s",`+
			`"seq":4000,"message_id":"1","stored_at":1,"sent_at":1,"conversation_id":"d8-9","mentions_me":true,"recalled":true,"state":"stored"}`, id, bob.id, bob.id, eve.id, bob.id, eve.id)
	}
	auth := ada.http.Token()
	if r := (call{method: "POST", path: "/v1/messages?wait=stored", body: forged("forged-0001")}).do(t, ada.base, auth); r.status >= 300 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	phone := ada.wire("phone")
	if a := phone.text(`{"id":"1","cmd":"send","data":` + forged("forged-0002") + `,"user_id":"9","device":"x"}`); a.Error != nil {
		t.Fatal(a.Error)
	}
	var ms []im.Message
	devtest.Eventually(t, "both are stored", func() bool { ms = bob.history(conv); return len(ms) == 2 })
	for i, m := range ms {
		var content map[string]any
		must(t, json.Unmarshal(m.Content, &content))
		if m.Sender.ID != ada.id || m.Seq != im.Seq(i+1) || m.ID < 2 || m.StoredAt < 1e12 || m.Conversation != conv || len(content) != 1 {
			t.Errorf("stored as %+v %s", m, m.Content)
		}
	}
	for _, c := range []struct{ who, body string }{
		{"", `{"read_seq":2,"delivered_seq":2,"user_id":"%s"}`}, {"", `{"read_seq":9007199254740991,"user":"%s","at":1}`},
	} {
		if r := (call{method: "POST", path: "/v1/conversations/" + string(conv) + "/receipts", body: fmt.Sprintf(c.body, bob.id)}).do(t, ada.base, auth); r.status >= 300 {
			t.Errorf("%s: %d %s", c.body, r.status, r.body)
		}
	}
	if row := bob.row(conv); row.ReadSeq != 0 || row.Unread != 2 {
		t.Errorf("Ada has read for Bob: %+v", row)
	}
	devtest.Eventually(t, "what Ada has read ends with what there is", func() bool { return ada.row(conv).ReadSeq == 2 })
}

// Whatever owners and admins do to each other at once, a group has one owner after it.
func TestAbuse_OwnersRaceAndOneIsLeft(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	ada, bob, eve := people[0], people[1], people[2]
	for round := range 6 {
		g := ada.found(fmt.Sprint("race ", round), im.JoinOpen, bob, eve)
		for _, p := range []*person{bob, eve} {
			ada.changed(ada.http.SetRole(t.Context(), g.ID, p.id, im.RoleAdmin))
		}
		var gave atomic.Int32
		var all sync.WaitGroup
		for name, act := range map[string]func() (protocol.GroupChanged, error){
			"ada gives it to bob": func() (protocol.GroupChanged, error) { return ada.http.TransferGroup(t.Context(), g.ID, bob.id) },
			"ada gives it to eve": func() (protocol.GroupChanged, error) { return ada.http.TransferGroup(t.Context(), g.ID, eve.id) },
			"ada demotes bob": func() (protocol.GroupChanged, error) {
				return ada.http.SetRole(t.Context(), g.ID, bob.id, im.RoleMember)
			},
			"bob demotes ada": func() (protocol.GroupChanged, error) {
				return bob.http.SetRole(t.Context(), g.ID, ada.id, im.RoleMember)
			},
			"ada leaves":      func() (protocol.GroupChanged, error) { return ada.http.LeaveGroup(t.Context(), g.ID) },
			"bob leaves":      func() (protocol.GroupChanged, error) { return bob.http.LeaveGroup(t.Context(), g.ID) },
			"eve removes bob": func() (protocol.GroupChanged, error) { return eve.http.RemoveMember(t.Context(), g.ID, bob.id) },
		} {
			all.Go(func() {
				_, err := act()
				if err == nil && strings.Contains(name, "gives") {
					gave.Add(1)
				}
				for _, code := range []string{"forbidden", "conflict", "not_found"} {
					if client.IsCode(err, code) {
						return
					}
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
		owners := map[im.UserID]bool{}
		for _, p := range people {
			page, err := p.http.GroupMembers(t.Context(), g.ID, "", 100)
			if err != nil {
				want(t, "not_found", err) // is not in it any more
				continue
			}
			n := 0
			for _, m := range page.Items {
				if m.Role == im.RoleOwner {
					n++
					owners[m.User.ID] = true
				}
			}
			if n != 1 {
				t.Errorf("round %d: %s sees %d owners in %+v", round, p.name, n, page.Items)
			}
		}
		// Whom it was given to may give it on: both may have succeeded, if Ada was owner for neither.
		if len(owners) != 1 || gave.Load() > 1 {
			t.Errorf("round %d: %d owners, given %d times", round, len(owners), gave.Load())
		}
	}
}

// Addresses are for clients to open: the engine keeps them, and opens none. Those that
// are not of the web are refused.
func TestAbuse_AddressesAreKeptAndNeverFetched(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	people := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := people[0], people[1]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var visits atomic.Int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			visits.Add(1)
			c.Close()
		}
	}()
	auth := ada.http.Token()
	g := ada.found("links", im.JoinOpen, bob)
	media := func(url, thumbnail string) string {
		return fmt.Sprintf(`{"client_msg_id":%q,"to":{"user_id":"%s"},"type":"image","content":{"url":%q,"mime":"image/png","size":9,"sha256":"%s","thumbnail":{"url":%q,"width":1,"height":1}}}`,
			client.NewClientMsgID(), bob.id, url, strings.Repeat("ab", 32), thumbnail)
	}
	const fine = "https://files.example/x.png"
	places := map[string]func(url string) reply{
		"one's avatar": func(u string) reply {
			return call{method: "PATCH", path: "/v1/users/me", body: fmt.Sprintf(`{"avatar":%q}`, u)}.do(t, ada.base, auth)
		},
		"a new group's avatar": func(u string) reply {
			return call{method: "PATCH", path: "/v1/groups/" + g.ID.String(), body: fmt.Sprintf(`{"avatar":%q}`, u)}.do(t, ada.base, auth)
		},
		"a backend's user's": func(u string) reply {
			return call{method: "POST", path: "/v1/server/users", body: fmt.Sprintf(`{"users":[{"external_id":"ext-links","avatar":%q}]}`, u)}.
				do(t, ada.base, "ServerKey "+devtest.ServerKeyID+":"+devtest.ServerKeySecret)
		},
		"an image": func(u string) reply {
			return call{method: "POST", path: "/v1/messages?wait=stored", body: media(u, fine)}.do(t, ada.base, auth)
		},
		"a thumbnail": func(u string) reply {
			return call{method: "POST", path: "/v1/messages?wait=stored", body: media(fine, u)}.do(t, ada.base, auth)
		},
	}
	for place, put := range places {
		for _, bad := range []string{
			"file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "ftp://x/y", "javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "JavaScript:alert(1)",
			"//evil.example/x", "/relative", "http://", "http:///x", "https://user:pw@evil.example/", "vbscript:x", "blob:https://x/y", "ws://x/", "\thttps://x/", "https://x/\r\ny",
			"https://x/" + strings.Repeat("y", 3000),
		} {
			if r := put(bad); r.status != 400 && r.status != 413 || r.err.Code == "" {
				t.Errorf("%s as %s: %d %s", bad, place, r.status, r.body)
			}
		}
		for _, good := range []string{"http://" + l.Addr().String() + "/" + strings.ReplaceAll(place, " ", "-"), "http://169.254.169.254/latest/meta-data/"} {
			if r := put(good); r.status >= 300 {
				t.Errorf("%s as %s: %d %s", good, place, r.status, r.body)
			}
		}
	}
	// All of it is shown, in rows, profiles and messages, and a link in a text too.
	phone := bob.connect("phone")
	ada.connect("phone").say(bob, "look: http://"+l.Addr().String()+"/text")
	devtest.Eventually(t, "Bob has it", func() bool { return len(phone.texts(im.DirectConversation(ada.id, bob.id))) > 0 })
	for _, path := range []string{"/v1/users/" + ada.id.String(), "/v1/conversations", "/v1/groups", "/v1/conversations/" + string(im.DirectConversation(ada.id, bob.id)) + "/messages"} {
		if r := (call{method: "GET", path: path}).do(t, bob.base, bob.http.Token()); r.status != 200 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	e.stop() // whatever it does in the background is done
	l.Close()
	<-ended
	if n := visits.Load(); n != 0 {
		t.Errorf("the engine came to look %d times", n)
	}
}
