package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// book is Contacts that does what the test says.
type book struct {
	change  im.ContactChange
	page    im.ContactPage
	message string
	remark  string
}

var _ Contacts = (*book)(nil)

func (b *book) RequestContact(_ context.Context, _, _ im.UserID, message string) (im.ContactChange, error) {
	b.message = message
	return b.change, nil
}
func (b *book) AcceptContact(context.Context, im.UserID, im.ContactRequestID) (im.ContactChange, error) {
	return b.change, nil
}
func (b *book) RefuseContact(context.Context, im.UserID, im.ContactRequestID) (im.ContactChange, error) {
	return b.change, nil
}
func (b *book) WithdrawContact(context.Context, im.UserID, im.ContactRequestID) (im.ContactChange, error) {
	return b.change, nil
}
func (b *book) RemoveContact(context.Context, im.UserID, im.UserID) (im.ContactChange, error) {
	return b.change, nil
}
func (b *book) SetRemark(_ context.Context, _, _ im.UserID, remark string) (im.ContactChange, error) {
	b.remark = remark
	return b.change, nil
}
func (b *book) SetBlock(context.Context, im.UserID, im.UserID, bool) (im.ContactChange, error) {
	return b.change, nil
}
func (b *book) Blocks(context.Context, im.UserID) ([]im.UserID, error) { return nil, nil }
func (b *book) Contacts(context.Context, im.UserID, im.UserID, int) (im.ContactPage, error) {
	return b.page, nil
}
func (b *book) ContactsSince(context.Context, im.UserID, uint64, int) (im.ContactPage, error) {
	return b.page, nil
}
func (b *book) ContactRequests(context.Context, im.UserID, bool, im.ContactRequestID, int) ([]im.Contact, bool, error) {
	return b.page.Items, b.page.HasMore, nil
}

func (w *world) people(b *book, cfg PeopleConfig) *People {
	return NewPeople(cfg, PeopleDeps{
		Contacts: b, Profiles: w, Limits: w, Texts: w, Sessions: w, Bus: w, Clock: func() time.Time { return w.now },
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
}

// pushes is what was published since the last time: "session: kind state of handle".
func (w *world) pushes(t *testing.T) (all []string) {
	t.Helper()
	for _, batches := range w.batches {
		for node, batch := range batches {
			ds, err := protocol.DecodeDeliveries(batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				var p struct {
					Push protocol.Push           `json:"push"`
					Data protocol.ContactChanged `json:"data"`
				}
				if err := protocol.DecodeData(d.Frame, &p); err != nil || p.Push != protocol.PushContact || len(d.Users) != 1 {
					t.Fatalf("%s: %s, %v", node, d.Frame, err)
				}
				all = append(all, fmt.Sprintf("%s: %s %s of %s%s at %d", d.Only, p.Data.Kind, p.Data.Contact.State,
					p.Data.Contact.User.Handle, p.Data.Contact.Message+p.Data.Contact.Remark, p.Data.Contact.Version))
			}
		}
	}
	w.batches = nil
	slices.Sort(all)
	return all
}

// [L8]
func TestPeople_AChangeIsPushedToAllDevicesButTheOneThatAsked(t *testing.T) {
	w, b := newWorld(), &book{}
	w.sessions = map[im.UserID][]im.SessionRef{
		ann: {{User: ann, Device: "phone", Session: "s1", Node: "n1"}, {User: ann, Device: "tablet", Session: "s2", Node: "n1"}},
		bob: {{User: bob, Device: "phone", Session: "s3", Node: "n2"}, {User: bob, Device: "desk", Session: "s4", Node: "n1"}},
	}
	p := w.people(b, PeopleConfig{})
	entry := func(u, peer im.UserID, s im.ContactState, version uint64) im.Contact {
		return im.Contact{User: u, Peer: peer, State: s, Version: version}
	}
	both := func(e im.ContactEvent, mine, theirs im.ContactState) im.ContactChange {
		return im.ContactChange{Event: e, Mine: entry(ann, bob, mine, 3), Theirs: entry(bob, ann, theirs, 8)}
	}
	want := func(kind, mine, theirs string) []string {
		return []string{"s2: " + kind + " " + mine + " of bob at 3", "s3: " + kind + " " + theirs + " of ann at 8", "s4: " + kind + " " + theirs + " of ann at 8"}
	}
	for _, c := range []struct {
		name   string
		change im.ContactChange
		do     func() error
		want   []string
	}{
		{"request", both(im.ContactRequested, im.ContactOutgoing, im.ContactIncoming), func() error {
			_, err := p.RequestContact(t.Context(), annsPhone, protocol.RequestContact{Handle: "BOB"})
			return err
		}, want("requested", "outgoing", "incoming")},
		{"accept", both(im.ContactAccepted, im.ContactYes, im.ContactYes), func() error {
			_, err := p.AcceptContact(t.Context(), annsPhone, 5)
			return err
		}, want("accepted", "contact", "contact")},
		{"refuse", both(im.ContactDeclined, im.ContactNone, im.ContactRefused), func() error { return p.RefuseContact(t.Context(), annsPhone, 5) },
			want("refused", "none", "refused")},
		{"withdraw", both(im.ContactWithdrawn, im.ContactNone, im.ContactNone), func() error { return p.WithdrawContact(t.Context(), annsPhone, 5) },
			want("withdrawn", "none", "none")},
		{"remove", both(im.ContactRemoved, im.ContactNone, im.ContactNone), func() error { return p.RemoveContact(t.Context(), annsPhone, bob) },
			want("removed", "none", "none")},
		{"block of who asks", both(im.ContactDeclined, im.ContactNone, im.ContactRefused), func() error { return p.SetBlock(t.Context(), annsPhone, bob, true) },
			want("refused", "none", "refused")},
		{"remark, which is private", im.ContactChange{Event: im.ContactRemarked, Mine: entry(ann, bob, im.ContactYes, 4)}, func() error {
			_, err := p.SetRemark(t.Context(), annsPhone, bob, "Bobby")
			return err
		}, []string{"s2: remark contact of bob at 4"}},
		{"what was so already", im.ContactChange{Mine: entry(ann, bob, im.ContactYes, 4)}, func() error {
			_, err := p.AcceptContact(t.Context(), annsPhone, 5)
			return err
		}, nil},
	} {
		b.change = c.change
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := w.pushes(t); !slices.Equal(got, c.want) {
			t.Errorf("%s: pushed %q, want %q", c.name, got, c.want)
		}
	}
}

// [L8]
func TestPeople_AChangeStandsThoughNobodyIsTold(t *testing.T) {
	for _, away := range []string{"Sessions", "Publish"} {
		w, b := newWorld(), &book{change: im.ContactChange{Event: im.ContactRemoved, Mine: im.Contact{User: ann, Peer: bob, Version: 2},
			Theirs: im.Contact{User: bob, Peer: ann, Version: 2}}}
		w.sessions = map[im.UserID][]im.SessionRef{bob: {{User: bob, Device: "phone", Session: "s3", Node: "n2"}}}
		w.fail[away] = im.ErrCache
		p := w.people(b, PeopleConfig{})
		if err := p.RemoveContact(t.Context(), annsPhone, bob); err != nil {
			t.Errorf("%s away: %v", away, err)
		}
		var lost dto.Metric
		if err := p.met.untold.Write(&lost); err != nil || lost.Counter.GetValue() != 1 {
			t.Errorf("%s away: %v counted, %v", away, lost.Counter, err)
		}
	}
}

func TestPeople_RequestIsCheckedBeforeItIsMade(t *testing.T) {
	w, b := newWorld(), &book{change: im.ContactChange{Mine: im.Contact{User: ann, Peer: bob, State: im.ContactOutgoing, Request: 5}}}
	p := w.people(b, PeopleConfig{})
	w.say = func(text string) (string, error) {
		if text == "refused" {
			return "", im.ErrContentRefused
		}
		return strings.ReplaceAll(text, "bad", "***"), nil
	}
	for _, c := range []struct {
		name string
		req  protocol.RequestContact
		code string
	}{
		{"by ID", protocol.RequestContact{UserID: userID(bob)}, ""},
		{"by handle in any case", protocol.RequestContact{Handle: "Bob"}, ""},
		{"with a text", protocol.RequestContact{Handle: "bob", Message: " a bad text "}, ""},
		{"of 200 characters", protocol.RequestContact{Handle: "bob", Message: strings.Repeat("ü", 200)}, ""},
		{"of 201 characters", protocol.RequestContact{Handle: "bob", Message: strings.Repeat("ü", 201)}, "invalid_request"},
		{"invisible", protocol.RequestContact{Handle: "bob", Message: "\u200b"}, "invalid_request"},
		{"with a control", protocol.RequestContact{Handle: "bob", Message: "a\u202eb"}, "invalid_request"},
		{"a refused text", protocol.RequestContact{Handle: "bob", Message: "refused"}, "content_refused"},
		{"nobody", protocol.RequestContact{}, "invalid_request"},
		{"two ways", protocol.RequestContact{UserID: userID(bob), Handle: "bob"}, "invalid_request"},
		{"oneself", protocol.RequestContact{UserID: userID(ann)}, "invalid_request"},
		{"oneself by handle", protocol.RequestContact{Handle: "ann"}, "invalid_request"},
		{"the system", protocol.RequestContact{UserID: userID(im.SystemUser)}, "invalid_request"},
		{"part of a handle", protocol.RequestContact{Handle: "bo"}, "not_found"},
		{"an unknown handle", protocol.RequestContact{Handle: "bobby"}, "not_found"},
	} {
		b.message = "not called"
		got, err := p.RequestContact(t.Context(), annsPhone, c.req)
		switch code := codeOf(err); {
		case code != c.code:
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		case code == "" && (got.User.Handle != "bob" || *got.RequestID != 5 || b.message == "not called"):
			t.Errorf("%s: %+v", c.name, got)
		case code != "" && b.message != "not called":
			t.Errorf("%s was asked of the store", c.name)
		}
		if c.name == "with a text" && b.message != "a *** text" {
			t.Errorf("stored %q", b.message)
		}
	}
	w.take = func(int) (int, time.Duration) { return 0, time.Minute }
	_, err := p.RequestContact(t.Context(), annsPhone, protocol.RequestContact{Handle: "bob"})
	if l := new(im.LimitError); !errors.As(err, &l) || l.Limit != "contact" {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := w.people(b, PeopleConfig{RequestsPerMinute: -1}).RequestContact(t.Context(), annsPhone, protocol.RequestContact{Handle: "bob"}); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return protocol.CodeOf(err).Name
}

func TestPeople_RemarkAndBlockAreChecked(t *testing.T) {
	w, b := newWorld(), &book{change: im.ContactChange{Mine: im.Contact{User: ann, Peer: bob, State: im.ContactYes}}}
	p := w.people(b, PeopleConfig{})
	for remark, want := range map[string]string{" Bobby ": "Bobby", "": "", "  ": "", strings.Repeat("𝛼", 64): strings.Repeat("𝛼", 64)} {
		if _, err := p.SetRemark(t.Context(), annsPhone, bob, remark); err != nil || b.remark != want {
			t.Errorf("%q: kept %q, %v", remark, b.remark, err)
		}
	}
	for _, remark := range []string{strings.Repeat("𝛼", 65), "\u200b", "a\nb", "\xff"} {
		if _, err := p.SetRemark(t.Context(), annsPhone, bob, remark); codeOf(err) != "invalid_request" {
			t.Errorf("%q: %v", remark, err)
		}
	}
	for _, u := range []im.UserID{ann, im.SystemUser} {
		if err := p.SetBlock(t.Context(), annsPhone, u, true); codeOf(err) != "invalid_request" {
			t.Errorf("block %d: %v", u, err)
		}
	}
}

func TestPeople_PagesSayWhereToGoOn(t *testing.T) {
	w := newWorld()
	items := []im.Contact{{User: ann, Peer: bob, State: im.ContactYes, Request: 4}, {User: ann, Peer: 404, State: im.ContactIncoming, Request: 6}}
	b := &book{page: im.ContactPage{Items: items, Full: true, HasMore: true, Version: 31}}
	p := w.people(b, PeopleConfig{})
	first, err := p.Contacts(t.Context(), annsPhone, 0, nil, 2)
	if err != nil || !first.Full || first.Next != "404" || *first.Version != 31 || first.Items[0].User.Handle != "bob" || first.Items[1].User.ID != 404 {
		t.Errorf("first page: %+v, %v", first, err)
	}
	if next, err := p.Contacts(t.Context(), annsPhone, 404, nil, 2); err != nil || next.Version != nil {
		t.Errorf("next page: %+v, %v", next, err)
	}
	since := uint64(7)
	if over, err := p.Contacts(t.Context(), annsPhone, 0, &since, 2); err != nil || !over.Full || over.Next != "404" || *over.Version != 31 {
		t.Errorf("start over: %+v, %v", over, err)
	}
	b.page.Full = false
	if diff, err := p.Contacts(t.Context(), annsPhone, 0, &since, 2); err != nil || diff.Full || diff.Next != "" || *diff.Version != 31 {
		t.Errorf("difference: %+v, %v", diff, err)
	}
	requests, err := p.ContactRequests(t.Context(), annsPhone, true, 0, 2)
	if err != nil || requests.Next != "6" || len(requests.Items) != 2 {
		t.Errorf("requests: %+v, %v", requests, err)
	}
	if _, err := p.Contacts(t.Context(), annsPhone, 0, nil, -1); codeOf(err) != "invalid_request" {
		t.Errorf("a negative limit: %v", err)
	}
}

// The stricter of the server's and the recipient's policy counts, in conversations
// there are already too; a backend is nobody's stranger.
func TestSend_StrangerIsRefusedWhereContactsOnly(t *testing.T) {
	for _, c := range []struct {
		name         string
		server       im.MessagePolicy
		shy, contact bool
		code         string
	}{
		{"everyone", "", false, false, ""},
		{"server contacts", im.MessagesFromContacts, false, false, "not_a_contact"},
		{"server contacts, and one is", im.MessagesFromContacts, false, true, ""},
		{"user contacts", im.MessagesFromEveryone, true, false, "not_a_contact"},
		{"user contacts, and one is", im.MessagesFromEveryone, true, true, ""},
		{"both", im.MessagesFromContacts, true, false, "not_a_contact"},
	} {
		w := newWorld()
		w.shy[bob], w.contacts[pair{ann, bob}] = c.shy, c.contact
		s := w.service(t, Config{MessagePolicy: c.server})
		byUser := text("aaaaaaaa", "hi")
		byConversation := text("bbbbbbbb", "hi")
		byConversation.To = protocol.To{ConversationID: "d7-9"}
		for _, req := range []protocol.Send{byUser, byConversation} {
			_, err := s.SendAndWait(t.Context(), annsPhone, req, false)
			if codeOf(err) != c.code {
				t.Errorf("%s: %v", c.name, err)
			}
			if err != nil && protocol.NewSendError(err).Outcome != im.OutcomeRefused {
				t.Errorf("%s: outcome of %v", c.name, err)
			}
		}
		if n := len(w.produced()); (n == 0) != (c.code != "") {
			t.Errorf("%s: %d were enqueued", c.name, n)
		}
		oneself := text("cccccccc", "note")
		oneself.To = protocol.To{UserID: userID(ann)}
		if _, err := s.SendAndWait(t.Context(), annsPhone, oneself, false); err != nil {
			t.Errorf("%s, to oneself: %v", c.name, err)
		}
		for name, from := range map[string]*im.UserID{"system": nil, "behalf": userID(ann)} {
			if _, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: text(im.ClientMsgID("server-"+name), "hi"), From: from}, false); err != nil {
				t.Errorf("%s, by server as %s: %v", c.name, name, err)
			}
		}
	}
}

// [L4]: one query answers for blocks and policy, and its copy is as old at most.
func TestMembership_PolicyIsCopiedAsBlocksAre(t *testing.T) {
	w := newWorld()
	m := w.service(t, Config{}).members
	may := func() error { return m.MaySend(t.Context(), ann, "d7-9") }
	if err := may(); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.shy[bob] = true })
	w.pass(2*time.Second - 1)
	if err := may(); err != nil {
		t.Fatal("the copy was good for another instant:", err)
	}
	w.pass(1)
	if err := may(); !errors.Is(err, im.ErrNotContact) {
		t.Fatal(err)
	}
	w.set(func() { w.fail["Peer"] = im.ErrStore })
	w.pass(59 * time.Second)
	if err := may(); !errors.Is(err, im.ErrNotContact) {
		t.Fatal("while MySQL is away:", err)
	}
	if n := w.count("Peer"); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

func TestSync_SaysHowFarContactsAre(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{})
	got, err := s.Sync(t.Context(), annsPhone, protocol.Sync{})
	if err != nil || got.ContactsVersion == nil || *got.ContactsVersion != 5 {
		t.Errorf("%v, %v", got.ContactsVersion, err)
	}
	if got, err := s.Sync(t.Context(), annsPhone, protocol.Sync{Before: "9"}); err != nil || got.ContactsVersion != nil {
		t.Errorf("a later page: %v, %v", got.ContactsVersion, err)
	}
	w.set(func() { w.fail["ContactsVersion"] = im.ErrStore })
	if got, err := s.Sync(t.Context(), annsPhone, protocol.Sync{}); err != nil || got.ContactsVersion != nil {
		t.Errorf("while MySQL is away: %v, %v", got.ContactsVersion, err)
	}
}
