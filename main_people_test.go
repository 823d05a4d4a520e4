package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// heard collects the contact pushes of one device.
type heard struct{ inbox[protocol.ContactChanged] }

func (h *heard) hear(o *client.Options) { o.OnContact = h.add }

// kinds is what was heard, as "kind:state".
func (h *heard) kinds() (kinds []string) {
	for _, c := range h.all() {
		kinds = append(kinds, string(c.Kind)+":"+string(c.Contact.State))
	}
	return kinds
}

// elsewhere is the person as another engine serves them.
func (p *person) elsewhere(e *engine) *person {
	there := *p
	there.base, there.socket = e.http, e.socket
	there.http = &client.HTTP{Base: e.http, Token: p.http.Token}
	return &there
}

// befriend makes two people contacts.
func befriend(t *testing.T, a, b *person) {
	t.Helper()
	c, err := a.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &b.id})
	if err == nil {
		_, err = b.http.AcceptContact(t.Context(), *c.RequestID)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPeople_TwoBecomeContactsAndPart(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, _ := e.pair(t)
	var adas, bobs heard
	ada.connect("phone", adas.hear)
	away := bob.connect("tablet")
	bob.connect("phone", bobs.hear)
	if v := away.syncs[0].ContactsVersion; v == nil || *v != 0 {
		t.Errorf("before anything: contacts_version %v", v)
	}
	away.leave()

	asked, err := ada.http.RequestContact(t.Context(), protocol.RequestContact{Handle: "BOB", Message: "it's Ada"})
	if err != nil || asked.State != im.ContactOutgoing || asked.User.ID != bob.id || asked.RequestID == nil {
		t.Fatalf("asked: %+v, %v", asked, err)
	}
	devtest.Eventually(t, "Bob's phone and Ada's phone hear of it", func() bool {
		return slices.Equal(bobs.kinds(), []string{"requested:incoming"}) && slices.Equal(adas.kinds(), []string{"requested:outgoing"})
	})
	if got := bobs.all()[0].Contact; got.User.ID != ada.id || got.User.Nickname != "Ada" || got.Message != "it's Ada" || *got.RequestID != *asked.RequestID {
		t.Errorf("Bob hears %+v", got)
	}
	for incoming, p := range map[bool]*person{true: bob, false: ada} {
		r, err := p.http.ContactRequests(t.Context(), incoming, "", 0)
		if err != nil || len(r.Items) != 1 || *r.Items[0].RequestID != *asked.RequestID {
			t.Errorf("%s's requests: %+v, %v", p.name, r, err)
		}
		if r, err := p.http.ContactRequests(t.Context(), !incoming, "", 0); err != nil || len(r.Items) != 0 {
			t.Errorf("%s's requests the other way: %+v, %v", p.name, r, err)
		}
	}

	for range 2 { // an answer may get lost
		if c, err := bob.http.AcceptContact(t.Context(), *asked.RequestID); err != nil || c.State != im.ContactYes || c.User.ID != ada.id {
			t.Fatalf("accepted: %+v, %v", c, err)
		}
	}
	if c, err := bob.http.SetRemark(t.Context(), ada.id, "Countess"); err != nil || c.Remark != "Countess" {
		t.Fatalf("remark: %+v, %v", c, err)
	}
	devtest.Eventually(t, "each hears what concerns them", func() bool {
		return slices.Equal(bobs.kinds(), []string{"requested:incoming", "accepted:contact", "remark:contact"}) &&
			slices.Equal(adas.kinds(), []string{"requested:outgoing", "accepted:contact"})
	})
	list, err := ada.http.Contacts(t.Context(), "", 0)
	if err != nil || !list.Full || len(list.Items) != 1 || list.Items[0].User.ID != bob.id || list.Items[0].Remark != "" {
		t.Errorf("Ada's list: %+v, %v", list, err)
	}

	// The tablet was away: sync says that there is something, since brings all of it.
	back := bob.connect("tablet")
	diff, err := bob.http.ContactsSince(t.Context(), 0, 0)
	if err != nil || diff.Full || len(diff.Items) != 1 || diff.Items[0].Remark != "Countess" || *diff.Version != 3 {
		t.Errorf("Bob's difference: %+v, %v", diff, err)
	}
	if v := back.syncs[0].ContactsVersion; v == nil || *v != *diff.Version {
		t.Errorf("contacts_version %v, want %d", v, *diff.Version)
	}

	for range 2 {
		if err := ada.http.RemoveContact(t.Context(), bob.id); err != nil {
			t.Fatal(err)
		}
	}
	devtest.Eventually(t, "both hear the end, once", func() bool {
		return bobs.kinds()[len(bobs.kinds())-1] == "removed:none" && adas.kinds()[len(adas.kinds())-1] == "removed:none"
	})
	diff, err = bob.http.ContactsSince(t.Context(), *diff.Version, 0)
	if err != nil || len(diff.Items) != 1 || diff.Items[0].State != im.ContactNone || diff.Items[0].Remark != "" {
		t.Errorf("Bob's next difference: %+v, %v", diff, err)
	}
	if n := len(bobs.kinds()); n != 4 {
		t.Errorf("Bob heard %v", bobs.kinds())
	}
}

// refusedWithin waits until a send by every way is refused with the code, and then
// looks whether it stays so.
func refusedWithin(t *testing.T, what, code string, sends ...func(text string) error) {
	t.Helper()
	start := time.Now()
	for _, send := range sends {
		devtest.Eventually(t, what, func() bool { return client.IsCode(send("maybe"), code) })
	}
	t.Logf("%s: after %s", what, time.Since(start).Round(time.Millisecond))
	for range 5 {
		for _, send := range sends {
			want(t, code, send("never"))
		}
	}
}

// byEveryWay is a send over the socket of a device, and over HTTP.
func byEveryWay(t *testing.T, d *device, to *person) []func(text string) error {
	return []func(string) error{
		func(text string) error { return d.Do(t.Context(), protocol.CmdSend, textTo(to.id, text), nil) },
		func(text string) error {
			_, err := d.p.http.Send(t.Context(), textTo(to.id, text), false)
			return err
		},
		func(text string) error {
			m := textTo(to.id, text)
			m.To = protocol.To{ConversationID: im.DirectConversation(d.p.id, to.id)}
			return d.Do(t.Context(), protocol.CmdSend, m, nil)
		},
	}
}

func TestPeople_StrangersMessagesAreRefusedWherePolicySaysContacts(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	ada, bob, conv := one.pair(t)
	there := ada.elsewhere(two)
	phone, tablet := ada.connect("phone"), there.connect("tablet")
	phone.say(bob, "before") // the conversation is there already

	policy := im.MessagesFromContacts
	me, err := bob.http.UpdateMe(t.Context(), protocol.UpdateProfile{MessagePolicy: &policy})
	if err != nil || me.MessagePolicy != policy {
		t.Fatalf("me: %+v, %v", me, err)
	}
	refusedWithin(t, "strangers are refused on both nodes", "not_a_contact", append(byEveryWay(t, phone, bob), byEveryWay(t, tablet, bob)...)...)

	// A backend and the system are no strangers; who has set it may write themselves.
	content, _ := json.Marshal(im.TextContent{Text: "by server"})
	for _, from := range []*im.UserID{nil, &ada.id} {
		m := protocol.ServerSend{From: from, Send: protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(bob.id), Content: content}}
		if _, err := serverAPI(one.http).ServerSend(t.Context(), m, true); err != nil {
			t.Errorf("by server, from %v: %v", from, err)
		}
	}
	if _, err := bob.http.Send(t.Context(), textTo(ada.id, "I may"), true); err != nil {
		t.Error(err)
	}

	befriend(t, ada, bob)
	for i, send := range append(byEveryWay(t, phone, bob), byEveryWay(t, tablet, bob)...) {
		devtest.Eventually(t, "a contact may write", func() bool {
			err := send("as a contact")
			if err != nil && !client.IsCode(err, "not_a_contact") {
				t.Fatalf("way %d: %v", i, err)
			}
			return err == nil
		})
	}
	if err := bob.http.RemoveContact(t.Context(), ada.id); err != nil {
		t.Fatal(err)
	}
	refusedWithin(t, "who is removed is a stranger again", "not_a_contact", append(byEveryWay(t, phone, bob), byEveryWay(t, tablet, bob)...)...)

	for _, m := range bob.history(conv) {
		if textOf(m) == "never" {
			t.Errorf("refused, and there: %+v", m)
		}
	}
}

func TestPeople_ServerPolicyHoldsForEverybody(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), func(c *configs.Config) { c.Logic.MessagePolicy = im.MessagesFromContacts })
	ada, bob, conv := e.pair(t)
	phone := ada.connect("phone")
	for _, send := range byEveryWay(t, phone, bob) {
		want(t, "not_a_contact", send("never"))
	}
	if all := bob.history(conv); len(all) != 0 {
		t.Errorf("refused, and there: %v", all)
	}
	befriend(t, ada, bob)
	devtest.Eventually(t, "contacts talk", func() bool { return byEveryWay(t, phone, bob)[0]("hello") == nil })
}

func TestPeople_BlockHoldsOnEveryNode(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	ada, bob, _ := one.pair(t)
	there := ada.elsewhere(two)
	phone := there.connect("phone")
	phone.say(bob, "before")
	asked, err := there.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &bob.id})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := bob.http.SetBlock(t.Context(), ada.id, true); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := bob.http.Blocks(t.Context()); err != nil || !slices.Equal(b.Items, []im.UserID{ada.id}) {
		t.Errorf("blocks: %+v, %v", b, err)
	}
	_, err = bob.http.AcceptContact(t.Context(), *asked.RequestID)
	want(t, "not_found", err)
	_, err = there.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &bob.id})
	want(t, "blocked", err)
	_, err = bob.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &ada.id})
	want(t, "conflict", err)
	refusedWithin(t, "the blocked is refused on the other node", "blocked", byEveryWay(t, phone, bob)...)

	if err := bob.http.SetBlock(t.Context(), ada.id, false); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "unblocked, she may write", func() bool { return byEveryWay(t, phone, bob)[0]("hello") == nil })
}

func TestPeople_ANewNameShowsInMessagesAndListsOfEveryNode(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	ada, bob, conv := one.pair(t)
	there, bobThere := ada.elsewhere(two), bob.elsewhere(two)
	phone, tablet := ada.connect("phone"), there.connect("tablet")
	phone.say(bob, "as Ada")
	tablet.say(bob, "as Ada") // both nodes have her old name in their copies
	befriend(t, ada, bob)
	shown := func(p *person) string {
		contacts, err := p.http.Contacts(t.Context(), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return p.row(conv).Peer.Nickname + " " + p.row(conv).Peer.Avatar + " " + contacts.Items[0].User.Nickname
	}
	if a, b := shown(bob), shown(bobThere); a != "Ada  Ada" || b != a {
		t.Fatalf("before: %q and %q", a, b)
	}

	name, avatar := "Countess", "https://example.org/ada.png"
	if _, err := ada.http.UpdateMe(t.Context(), protocol.UpdateProfile{Nickname: &name, Avatar: &avatar}); err != nil {
		t.Fatal(err)
	}
	start, new := time.Now(), "Countess https://example.org/ada.png Countess"
	devtest.Eventually(t, "Bob's lists say so on both nodes", func() bool { return shown(bob) == new && shown(bobThere) == new })
	t.Logf("lists: after %s", time.Since(start).Round(time.Millisecond))
	devtest.Eventually(t, "what she sends says so on both nodes", func() bool {
		a, b := phone.say(bob, "as Countess").Seq, tablet.say(bob, "as Countess").Seq
		all := bob.history(conv)
		return all[a-1].Sender.Nickname == name && all[b-1].Sender.Nickname == name && all[b-1].Sender.Avatar == avatar
	})
	t.Logf("messages: after %s", time.Since(start).Round(time.Millisecond))
	if all := bob.history(conv); all[0].Sender.Nickname != "Ada" {
		t.Errorf("the old message is now by %q", all[0].Sender.Nickname)
	}
	if p, err := bob.http.FindUser(t.Context(), "ADA"); err != nil || p.Nickname != name {
		t.Errorf("found %+v, %v", p, err)
	}
	_, err := bob.http.FindUser(t.Context(), "ad")
	want(t, "not_found", err)
}

// [L5]: what is not yours answers as what does not exist, to the byte.
func TestPeople_ForeignIsAsUnknown(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve", "dan")
	ada, bob, eve, dan := people[0], people[1], people[2], people[3]
	asked, err := ada.http.RequestContact(t.Context(), protocol.RequestContact{UserID: &bob.id})
	if err != nil {
		t.Fatal(err)
	}
	befriend(t, ada, dan)
	done, err := ada.http.Contacts(t.Context(), "", 0)
	if err != nil || len(done.Items) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	accepted := done.Items[1].RequestID
	if done.Items[0].State == im.ContactYes {
		accepted = done.Items[0].RequestID
	}
	requests := "/v1/contacts/requests/"
	for _, c := range []struct {
		name, method string
		who          *person
		foreign, no  string
		body         string
	}{
		{"a stranger accepts", "POST", eve, requests + asked.RequestID.String() + "/accept", requests + "9007199254740991/accept", ""},
		{"a stranger refuses", "POST", eve, requests + asked.RequestID.String() + "/refuse", requests + "9007199254740991/refuse", ""},
		{"a stranger withdraws", "DELETE", eve, requests + asked.RequestID.String(), requests + "9007199254740991", ""},
		{"a stranger accepts what is accepted", "POST", eve, requests + accepted.String() + "/accept", requests + "9007199254740991/accept", ""},
		{"a stranger refuses what is accepted", "POST", eve, requests + accepted.String() + "/refuse", requests + "9007199254740991/refuse", ""},
		{"who asked accepts", "POST", ada, requests + asked.RequestID.String() + "/accept", requests + "9007199254740991/accept", ""},
		{"who asked refuses", "POST", ada, requests + asked.RequestID.String() + "/refuse", requests + "9007199254740991/refuse", ""},
		{"who was asked withdraws", "DELETE", bob, requests + asked.RequestID.String(), requests + "9007199254740991", ""},
		{"remark about a stranger", "PATCH", eve, "/v1/contacts/" + ada.id.String(), "/v1/contacts/9007199254740991", `{"remark":"x"}`},
		{"remark about who has not answered", "PATCH", ada, "/v1/contacts/" + bob.id.String(), "/v1/contacts/9007199254740991", `{"remark":"x"}`},
		{"remove a stranger", "DELETE", eve, "/v1/contacts/" + ada.id.String(), "/v1/contacts/9007199254740991", ""},
		{"unblock a stranger", "DELETE", eve, "/v1/blocks/" + ada.id.String(), "/v1/blocks/9007199254740991", ""},
	} {
		if f, n := answerTo(t, c.who, c.method, c.foreign, c.body), answerTo(t, c.who, c.method, c.no, c.body); f != n || !strings.HasPrefix(f, "404 ") && !strings.HasPrefix(f, "204 ") {
			t.Errorf("%s: %q, of nobody %q", c.name, f, n)
		}
	}
	// Nobody's lists show anything of others.
	if l, err := eve.http.ContactsSince(t.Context(), 0, 0); err != nil || len(l.Items) != 0 {
		t.Errorf("Eve's contacts: %+v, %v", l, err)
	}
	if l, err := bob.http.Contacts(t.Context(), "", 0); err != nil || len(l.Items) != 1 || l.Items[0].State != im.ContactIncoming {
		t.Errorf("Bob's contacts: %+v, %v", l, err)
	}
}

// answerTo is status and body of one request, without its ID.
func answerTo(t *testing.T, p *person, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", p.http.Token())
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", strings.ReplaceAll(string(b), resp.Header.Get("X-Request-Id"), ""))
}
