package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

func ptr[T any](v T) *T { return &v }

// noted collects the settings pushes of one device.
type noted struct {
	inbox[protocol.ConversationSettings]
}

func (n *noted) hear(o *client.Options) { o.OnSettings = n.add }

// last is what was heard last of a conversation.
func (n *noted) last(conv im.ConversationID) (last protocol.ConversationSettings) {
	for _, s := range n.all() {
		if s.ConversationID == conv {
			last = s
		}
	}
	return last
}

// shown is a row as a test compares it, the same on every device and node.
func shown(row protocol.Conversation) string {
	row.LastMessage, row.Peer = nil, nil
	b, _ := json.Marshal(row) // plain fields always encode
	return string(b)
}

func (p *person) rows() (rows []string) {
	for _, row := range p.list() {
		rows = append(rows, shown(row))
	}
	return rows
}

func TestSettings_TwoDevicesOnTwoNodesSeeTheSame(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	people := enrol(t, one.http, one.socket, "ada", "bob", "carol")
	ada, bob, carol := people[0], people[1], people[2]
	there := ada.elsewhere(two)
	withBob, withCarol := im.DirectConversation(ada.id, bob.id), im.DirectConversation(ada.id, carol.id)
	var phones, tablets noted
	phone, tablet := ada.connect("phone", phones.hear), there.connect("tablet", tablets.hear)
	bobs, carols := bob.connect("phone"), carol.connect("phone")
	for i := range 3 {
		bobs.say(ada, fmt.Sprint("from Bob ", i+1))
	}
	carols.say(ada, "from Carol 1")
	carols.say(ada, "from Carol 2")
	devtest.Eventually(t, "both are in the list", func() bool { return len(ada.list()) == 2 && ada.row(withCarol).Unread == 2 })

	set := func(d *device, conv im.ConversationID, ch protocol.ChangeSettings) protocol.ConversationSettings {
		t.Helper()
		got, err := d.ChangeSettings(t.Context(), conv, ch)
		if err != nil {
			t.Fatal(err)
		}
		hears := &tablets
		if d == tablet {
			hears = &phones
		}
		devtest.Eventually(t, "the other device hears of it", func() bool { return hears.last(conv).Settings.Version == got.Settings.Version })
		// What the devices ack in between may part them for a moment.
		devtest.Eventually(t, "both nodes show the same", func() bool { return shown(ada.row(conv)) == shown(there.row(conv)) })
		return got
	}

	// Pinned on one device, muted on the other.
	pinned := set(phone, withBob, protocol.ChangeSettings{Pinned: ptr(true)})
	muted := set(tablet, withCarol, protocol.ChangeSettings{MutedUntil: ptr(im.MutedForever)})
	if pinned.Settings.PinnedAt == 0 || pinned.Settings.Version != 1 || muted.Settings.MutedUntil != im.MutedForever {
		t.Errorf("%+v, %+v", pinned, muted)
	}
	if tablets.last(withCarol).Settings.Version != 0 || phones.last(withBob).Settings.Version != 0 {
		t.Error("a device was told of what it had asked for")
	}
	list, err := ada.http.Conversations(t.Context(), "", 0)
	if err != nil || list.UnreadTotal != 5 || list.UnreadBadge != 3 || list.Items[0].ConversationID != withCarol {
		t.Errorf("%d unread, badge %d, first %s, %v", list.UnreadTotal, list.UnreadBadge, list.Items[0].ConversationID, err)
	}

	if only, err := there.http.ConversationsOnly(t.Context(), im.ListPinned, "", 0); err != nil || len(only.Items) != 1 || only.Items[0].ConversationID != withBob || only.UnreadTotal != 5 {
		t.Errorf("the pinned: %+v, %v", only, err)
	}

	// Read, marked as unread again, and read again: the cursor does not go back.
	if err := phone.Read(t.Context(), withBob, 3); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "all is read", func() bool { return ada.row(withBob).Unread == 0 })
	set(tablet, withBob, protocol.ChangeSettings{MarkedUnread: ptr(true)})
	if row := ada.row(withBob); !row.MarkedUnread || row.Unread != 0 || row.ReadSeq != 3 {
		t.Errorf("marked: %s", shown(row))
	}
	if err := phone.Read(t.Context(), withBob, 3); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "the mark is gone, and the tablet hears of it", func() bool {
		return !ada.row(withBob).MarkedUnread && !there.row(withBob).MarkedUnread && tablets.last(withBob).Settings.Version == 3
	})

	// The draft that was written last holds, unless its writer named what they changed.
	draft := set(phone, withBob, protocol.ChangeSettings{Draft: ptr("low tide at")})
	later := set(tablet, withBob, protocol.ChangeSettings{Draft: ptr("low tide at six"), Version: &draft.Settings.Version})
	if d := later.Settings.Draft; d == nil || d.Text != "low tide at six" || d.Device != "tablet" || d.ChangedAt == 0 {
		t.Errorf("%+v", later.Settings)
	}
	_, err = phone.ChangeSettings(t.Context(), withBob, protocol.ChangeSettings{Draft: ptr("overtaken"), Version: &draft.Settings.Version})
	want(t, "conflict", err)
	if row := ada.row(withBob); row.Settings.Draft.Text != "low tide at six" || row.Settings.PinnedAt == 0 {
		t.Errorf("%+v", row.Settings)
	}

	// Hidden until there is something new.
	set(phone, withCarol, protocol.ChangeSettings{HiddenSeq: ptr(im.Seq(2))})
	if rows := ada.list(); len(rows) != 1 || rows[0].ConversationID != withBob {
		t.Errorf("%d in the list", len(rows))
	}
	if row, err := there.http.Conversation(t.Context(), withCarol); err != nil || !row.Hidden || row.Unread != 2 {
		t.Errorf("%+v, %v", row, err)
	}
	carols.say(ada, "from Carol 3")
	devtest.Eventually(t, "it is back, and acked", func() bool {
		return there.row(withCarol).Unread == 3 && ada.row(withCarol).Unread == 3 && ada.row(withCarol).DeliveredSeq == 3
	})

	// Redis forgets, MySQL does not.
	before := ada.rows()
	s.Redis.Flush()
	devtest.Eventually(t, "all is as it was, on both nodes", func() bool {
		return slices.Equal(there.rows(), before) && slices.Equal(ada.rows(), before)
	})
	if n := len(bob.list()); n != 1 || bob.row(withBob).Settings != nil {
		t.Errorf("Bob sees %d, with %+v", n, bob.row(withBob).Settings)
	}
}

func TestSettings_DeletedIsGoneForOne(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	ada, bob, conv := one.pair(t)
	there := ada.elsewhere(two)
	bobs := bob.connect("phone")
	for i := range 4 {
		bobs.say(ada, fmt.Sprint("old ", i+1))
	}
	first := there.connect("tablet")
	devtest.Eventually(t, "the tablet has four, and has acked them", func() bool {
		return len(first.texts(conv)) == 4 && ada.row(conv).DeliveredSeq == 4
	})
	first.leave()
	have, position := first.Have()
	for i := range 4 {
		bobs.say(ada, fmt.Sprint("newer ", i+1))
	}
	var phones noted
	phone := ada.connect("phone", phones.hear, func(o *client.Options) { o.ManualAck = true })
	devtest.Eventually(t, "four wait", func() bool { return ada.offline()[conv].Count == 4 })
	if _, err := ada.http.ChangeSettings(t.Context(), conv, protocol.ChangeSettings{Pinned: ptr(true), MutedUntil: ptr(im.MutedForever), Draft: ptr("never mind")}); err != nil {
		t.Fatal(err)
	}

	for range 2 { // an answer may get lost
		got, err := there.http.DeleteConversation(t.Context(), conv, 6)
		if err != nil || got.FloorSeq != 6 || got.Settings.PinnedAt != 0 || got.Settings.Draft != nil || got.Settings.MutedUntil != im.MutedForever {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	devtest.Eventually(t, "the phone hears of it", func() bool { return phones.last(conv).FloorSeq == 6 })
	equal(t, "what is left of it", seqsOf(ada.history(conv)), []im.Seq{7, 8})
	if o := ada.offline()[conv]; o.Count != 2 {
		t.Errorf("%d wait", o.Count)
	}
	if row := ada.row(conv); row.Unread != 2 || row.FloorSeq != 6 || row.LastMessage == nil {
		t.Errorf("%s", shown(row))
	}

	if _, err := phone.DeleteConversation(t.Context(), conv, 8); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*person{ada, there} {
		if rows := p.list(); len(rows) != 0 {
			t.Errorf("in the list: %+v", rows)
		}
		if h := p.history(conv); len(h) != 0 {
			t.Errorf("in the history: %v", seqsOf(h))
		}
		if o := p.offline(); len(o) != 0 {
			t.Errorf("waiting: %+v", o)
		}
		row, err := p.http.Conversation(t.Context(), conv)
		if err != nil || !row.Hidden || row.Unread != 0 || row.LastMessage != nil {
			t.Errorf("%s, %v", shown(row), err)
		}
	}
	if sources, err := ada.http.Sync(t.Context(), nil, 0); err != nil || sources.UnreadTotal != 0 || len(sources.Conversations)+len(sources.Offline) != 0 {
		t.Errorf("%+v, %v", sources, err)
	}

	// The other side has all of it; the tablet, which was away, learns of it and waits for
	// nothing that is gone.
	equal(t, "Bob's history", seqsOf(bob.history(conv)), sequence(1, 8))
	back := there.connect("tablet", func(o *client.Options) { o.Have, o.Position = have, position })
	if got := back.syncs[0]; got.Full || len(got.Conversations) != 1 || !got.Conversations[0].Hidden || got.Conversations[0].FloorSeq != 8 {
		t.Errorf("the difference: %+v", got)
	}
	bobs.say(ada, "after it")
	devtest.Eventually(t, "the next message comes to both, and the conversation with it", func() bool {
		return slices.Equal(back.texts(conv), []string{"after it"}) && slices.Contains(phone.texts(conv), "after it") && ada.row(conv).LastSeq == 9
	})
	if row := there.row(conv); row.Unread != 1 || row.Hidden || row.Settings.PinnedAt != 0 || row.Settings.MutedUntil != im.MutedForever {
		t.Errorf("%s", shown(row))
	}
	devtest.Eventually(t, "it is acked", func() bool { return ada.row(conv).DeliveredSeq == 9 })
	before := ada.rows()
	s.Redis.Flush()
	devtest.Eventually(t, "all is as it was", func() bool { return slices.Equal(there.rows(), before) })
	equal(t, "what is left of it", seqsOf(there.history(conv)), []im.Seq{9})
}

// A lost push of settings is found by the heartbeat, without further traffic.
func TestSettings_LostPushIsFound(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s, heartbeat), startEngine(t, s, heartbeat)
	ada, bob, conv := one.pair(t)
	var tablets noted
	tablet := ada.elsewhere(two).connect("tablet", tablets.hear)
	bob.connect("phone").say(ada, "hello")
	devtest.Eventually(t, "it is in the list", func() bool { return len(ada.list()) == 1 })
	// Nobody is told: as if the push had been lost. What the fake has no say in is the
	// projection, which moves the position.
	set := one.service
	quiet := im.Identity{User: ada.id, Device: "tablet"} // the device that is not told is the one that asks
	if _, err := set.ChangeSettings(t.Context(), quiet, conv, protocol.ChangeSettings{Pinned: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "the tablet syncs", func() bool {
		return tablet.count(func(d *device) bool {
			for _, s := range d.syncs {
				for _, row := range s.Conversations {
					if !s.Full && row.ConversationID == conv && row.Settings != nil && row.Settings.PinnedAt > 0 {
						return true
					}
				}
			}
			return false
		})
	})
	if n := tablets.last(conv); n.Settings.Version != 0 {
		t.Errorf("it was told: %+v", n)
	}
}

func heartbeat(c *configs.Config) { c.Logic.Heartbeat = 1e9 }

func TestSettings_ForeignIsAsUnknown(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	ada, bob, eve := people[0], people[1], people[2]
	conv := im.DirectConversation(ada.id, bob.id)
	ada.connect("phone").say(bob, "between us")
	eves := eve.wire("phone")
	for _, c := range []struct{ method, rest, body string }{
		{"PATCH", "/settings", `{"pinned":true}`},
		{"PATCH", "/settings", `{"draft":"x","version":0}`},
		{"DELETE", "?up_to_seq=1", ""},
	} {
		path := func(c im.ConversationID) string { return "/v1/conversations/" + string(c) }
		foreign := answerTo(t, eve, c.method, path(conv)+c.rest, c.body)
		for _, unknown := range []im.ConversationID{"d800-900", "c77", im.DirectConversation(eve.id, ada.id)} {
			if n := answerTo(t, eve, c.method, path(unknown)+c.rest, c.body); foreign != n || !strings.HasPrefix(foreign, "404 ") {
				t.Errorf("%s %s: %q, of %s %q", c.method, c.rest, foreign, unknown, n)
			}
		}
	}
	for cmd, rest := range map[protocol.Command]string{protocol.CmdSettings: `"pinned":true`, protocol.CmdDelete: `"up_to_seq":1`} {
		var codes []string
		for i, id := range []im.ConversationID{conv, "d800-900", "c77"} {
			a := eves.ask(fmt.Sprint(cmd, i), cmd, json.RawMessage(fmt.Sprintf(`{"conversation_id":%q,%s}`, id, rest)))
			if a.Error == nil {
				t.Fatalf("%s of %s: %s", cmd, id, a.Data)
			}
			codes = append(codes, a.Error.Code+a.Error.Message)
		}
		if codes[0] != codes[1] || codes[0] != codes[2] || !strings.HasPrefix(codes[0], "not_found") {
			t.Errorf("%s: %q", cmd, codes)
		}
	}
	for _, p := range []*person{ada, bob} {
		if row := p.row(conv); row.Settings != nil || row.FloorSeq != 0 || row.Hidden {
			t.Errorf("%s's row: %s", p.name, shown(row))
		}
	}
	path := "/v1/conversations/" + string(conv)
	for _, c := range []struct{ method, path, body, want string }{
		{"DELETE", path, "", "400"},
		{"DELETE", path + "?up_to_seq=0", "", "400"},
		{"DELETE", path + "?up_to_seq=-1", "", "400"},
		{"DELETE", path + "?up_to_seq=9007199254740992", "", "400"},
		{"DELETE", path + "?up_to_seq=1&up_to_seq=1", "", "400"},
		{"GET", "/v1/conversations?filter=muted", "", "400"},
		{"GET", "/v1/conversations?filter=", "", "400"},
		{"PATCH", path + "/settings", `{}`, "400"},
		{"PATCH", path + "/settings", `{"hidden_seq":-1}`, "400"},
		{"PATCH", path + "/settings", `{"hidden_seq":1,"hidden_seq":1}`, "400"},
		{"PATCH", path + "/settings", `{"muted_until":-1}`, "400"},
		{"PATCH", path + "/settings", `{"muted_until":1e308}`, "400"},
		{"PATCH", path + "/settings", `{"version":-1,"pinned":true}`, "400"},
		{"PATCH", path + "/settings", `{"pinned":"yes"}`, "400"},
		{"PATCH", path + "/settings", `{"draft":"a\u0000"}`, "400"},
		{"PATCH", path + "/settings", fmt.Sprintf(`{"draft":%q}`, strings.Repeat("x", im.MaxDraftBytes+1)), "413"},
		{"PATCH", path + "/settings", fmt.Sprintf(`{"draft":%q}`, strings.Repeat("x", im.MaxDraftBytes)), "200"},
		{"PATCH", path + "/settings", `{"version":0,"pinned":true}`, "409"},
		{"PATCH", path + "/settings", `{"hidden_seq":9007199254740991}`, "200"},
		{"DELETE", path + "?up_to_seq=9007199254740991", "", "200"},
	} {
		if got := answerTo(t, ada, c.method, c.path, c.body); !strings.HasPrefix(got, c.want+" ") {
			t.Errorf("%s %s %.60s: %.200s", c.method, c.path, c.body, got)
		}
	}
}
