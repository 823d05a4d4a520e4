package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// heardIn is what a device was shown of a channel: texts, and notices by their kind.
func (d *device) heardIn(conv im.ConversationID) (all []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.got[conv] {
		text := textOf(m)
		if n, err := client.NoticeOf(m); err == nil {
			text = "*" + string(n.Kind)
		}
		all = append(all, text)
	}
	return all
}

// hears waits until the device was shown exactly this, in this order.
func (d *device) hears(conv im.ConversationID, want string) {
	d.p.t.Helper()
	defer func() {
		if d.p.t.Failed() {
			d.p.t.Logf("%s heard %v", d.p.name, d.heardIn(conv))
		}
	}()
	devtest.Eventually(d.p.t, d.p.name+" hears "+want, func() bool { return strings.Join(d.heardIn(conv), " ") == want })
}

// G10, R7: a membership is an interval. Whoever is in it sees what was said then, from the
// notice by which they came to that by which they went.
func TestGroups_WhoIsInSeesWhatIsSaidThen(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	p := enrol(t, e.http, e.socket, "ada", "bob", "cal")
	ada, bob, cal := p[0], p[1], p[2]
	adas, bobs, cals := ada.connect("phone"), bob.connect("phone"), cal.connect("phone")
	g := ada.found("waders", im.JoinClosed, bob)
	c := g.MainChannelID
	bob.tell(c, "one")
	adas.hears(c, "*created one")
	bobs.hears(c, "*created one") // what bob's other device sends, this one shows

	ada.changed(ada.http.AddMembers(t.Context(), g.ID, cal.id))
	joined := ada.tell(c, "two") - 1
	cals.hears(c, "*joined two")
	if row := cal.row(c); row.Kind != "channel" || row.Channel == nil || row.Channel.GroupName != "waders" || !row.Channel.Main ||
		row.FirstSeq != joined || row.Unread != 1 || row.Left {
		t.Errorf("Cal's row: %+v %+v", row, row.Channel)
	}
	equal(t, "Cal's history", seqsOf(cal.history(c)), []im.Seq{joined, joined + 1})

	// Who is removed hears of it, and nothing more; what they say is refused at once here.
	ada.changed(ada.http.RemoveMember(t.Context(), g.ID, cal.id))
	_, err := cal.http.Send(t.Context(), protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(c), Content: []byte(`{"text":"x"}`)}, false)
	want(t, "not_found", err)
	want(t, "not_found", cals.Typing(t.Context(), c, true))
	ada.tell(c, "three")
	cals.hears(c, "*joined two *removed")
	equal(t, "Cal's history", seqsOf(cal.history(c)), []im.Seq{joined, joined + 1, joined + 2})
	devtest.Eventually(t, "Cal's row ends", func() bool {
		row := cal.row(c)
		return row.Left && row.LastSeq == joined+2 && row.LastMessage != nil && row.LastMessage.Type == im.TypeNotice
	})
	if _, err := cal.http.Group(t.Context(), g.ID); !client.IsCode(err, "not_found") {
		t.Errorf("the group to Cal: %v", err)
	}

	// Who comes back starts anew, on a device that knows the channel and on one that does not.
	ada.changed(ada.http.AddMembers(t.Context(), g.ID, cal.id))
	cal.tell(c, "four")
	cals.hears(c, "*joined two *removed *joined four")
	bobs.hears(c, "*created one *joined two *removed three *joined four")
	equal(t, "Cal's history", seqsOf(cal.history(c)), []im.Seq{joined + 4, joined + 5})

	// What was missed while away comes when one is back.
	bobs.leave()
	ada.changed(ada.http.RemoveMember(t.Context(), g.ID, bob.id))
	ada.tell(c, "five")
	have, position := bobs.Have()
	back := bob.connect("phone", func(o *client.Options) { o.Have, o.Position = have, position })
	back.hears(c, "*removed")

	ada.changed(ada.http.DissolveGroup(t.Context(), g.ID))
	cals.hears(c, "*joined two *removed *joined four *removed five *dissolved")
	adas.hears(c, "*created one *joined two *removed three *joined four *removed five *dissolved")
	if row := ada.row(c); !row.Left {
		t.Errorf("Ada's row: %+v", row)
	}
	_, err = serverAPI(e.http).ServerSend(t.Context(), protocol.ServerSend{Send: protocol.Send{ClientMsgID: "0123456789", Type: im.TypeSystem,
		To: client.ToConversation(c), Content: []byte(`{"text":"x"}`)}}, false)
	want(t, "not_found", err)
}

func TestGroups_AdminsKeepOrder(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	p := enrol(t, e.http, e.socket, "ada", "bob", "cal")
	ada, bob, cal := p[0], p[1], p[2]
	var changed inbox[im.Message]
	var typing inbox[protocol.TypingNow]
	bobs := bob.connect("phone", func(o *client.Options) {
		o.OnChanged, o.OnTyping = changed.add, typing.add
	})
	adas := ada.connect("phone")
	g := ada.found("waders", im.JoinRequest, bob)
	c := g.MainChannelID

	// Joining by request.
	asked, err := cal.http.JoinGroup(t.Context(), g.ID, "Cal here")
	if err != nil || !asked.Pending || asked.Group.Role != "" || !asked.Group.Requested {
		t.Fatalf("asked: %+v, %v", asked, err)
	}
	waiting, err := ada.http.JoinRequests(t.Context(), g.ID, "", 0)
	if err != nil || len(waiting.Items) != 1 || waiting.Items[0].User.Nickname != "Cal" || waiting.Items[0].Message != "Cal here" {
		t.Fatalf("waiting: %+v, %v", waiting, err)
	}
	ada.changed(ada.http.DecideJoin(t.Context(), g.ID, cal.id, true))

	// Muted, one and all.
	say := func(p *person) error {
		_, err := p.http.Send(t.Context(), protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(c), Content: []byte(`{"text":"x"}`)}, true)
		return err
	}
	if err := say(cal); err != nil {
		t.Fatal(err)
	}
	ada.changed(ada.http.MuteMember(t.Context(), g.ID, cal.id, im.MutedForever))
	want(t, "muted", say(cal))
	ada.changed(ada.http.MuteMember(t.Context(), g.ID, cal.id, 0))
	muted := true
	ada.changed(ada.http.UpdateGroup(t.Context(), g.ID, protocol.UpdateGroup{MutedAll: &muted}))
	want(t, "muted", say(cal))
	if err := say(ada); err != nil {
		t.Errorf("an owner while all are muted: %v", err)
	}
	muted = false
	ada.changed(ada.http.UpdateGroup(t.Context(), g.ID, protocol.UpdateGroup{MutedAll: &muted}))

	// An admin takes back what somebody said, and mentions everyone.
	rude := cal.tell(c, "rude")
	want(t, "forbidden", bobs.Recall(t.Context(), c, rude))
	if err := adas.Recall(t.Context(), c, rude); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "Bob hears that it was taken back", func() bool {
		return slices.ContainsFunc(changed.all(), func(m im.Message) bool { return m.Seq == rude && m.RecalledAt != 0 })
	})
	all := protocol.Send{To: client.ToConversation(c), Content: []byte(`{"text":"tide is out"}`), MentionsAll: true, ClientMsgID: client.NewClientMsgID()}
	_, err = cal.http.Send(t.Context(), all, true)
	want(t, "forbidden", err)
	sent, err := ada.http.Send(t.Context(), all, true)
	if err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "Cal is mentioned", func() bool { return cal.row(c).MentionedSeq == sent.Seq })

	// Who has received and read it.
	devtest.Eventually(t, "Bob's phone has received it", func() bool { return slices.Contains(bobs.texts(c), "tide is out") })
	if err := cal.http.Receipts(t.Context(), c, protocol.Receipts{ReadSeq: sent.Seq}); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "one of two has read it, both have it", func() bool {
		r, err := ada.http.ReceiptCounts(t.Context(), c, sent.Seq)
		return err == nil && len(r.Items) == 1 && r.Items[0] == protocol.ReceiptCount{Seq: sent.Seq, Recipients: 2, Delivered: 2, Read: 1}
	})
	who, err := ada.http.Recipients(t.Context(), c, sent.Seq, im.ReceiptRead, "", 0)
	if err != nil || len(who.Items) != 1 || who.Items[0].User.ID != cal.id || who.Items[0].ReadSeq != sent.Seq {
		t.Errorf("readers: %+v, %v", who, err)
	}
	devtest.Eventually(t, "Ada is told", func() bool {
		return adas.count(func(d *device) bool {
			return slices.ContainsFunc(d.receipts, func(r protocol.CursorMoved) bool { return r.UserID == cal.id && r.ReadSeq == sent.Seq })
		})
	})

	// Typing reaches who is connected.
	if err := adas.Typing(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "Bob sees Ada typing", func() bool {
		return slices.ContainsFunc(typing.all(), func(n protocol.TypingNow) bool { return n.ConversationID == c && n.UserID == ada.id && n.On })
	})

	// A channel for some.
	made := ada.changed(ada.http.CreateChannel(t.Context(), g.ID, protocol.CreateChannel{Name: "ringing", Private: true, Members: []im.UserID{bob.id}}))
	private := made.Channel.ConversationID
	ada.tell(private, "psst")
	bobs.hears(private, "*channel_created psst")
	if row := cal.row(private); row.ConversationID != "" {
		t.Errorf("Cal has a row of it: %+v", row)
	}
	ada.changed(ada.http.RemoveFromChannel(t.Context(), g.ID, private, bob.id))
	ada.tell(private, "alone")
	bobs.hears(private, "*channel_created psst *removed")
	if row := bob.row(c); row.Left {
		t.Errorf("Bob is out of the group: %+v", row)
	}
}

// What is done twice is done once, and a notice is not lost with the log away.
func TestGroups_AChangeHoldsWhileTheLogIsAway(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t, devtest.OwnKafka)
	e := startEngine(t, s)
	p := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := p[0], p[1]
	bobs := bob.connect("phone")
	first, err := ada.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "waders", Members: []im.UserID{bob.id}, ClientGroupID: "01JF2K9M7G"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := ada.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "waders", Members: []im.UserID{bob.id}, ClientGroupID: "01JF2K9M7G"})
	if err != nil || second.Group.ID != first.Group.ID {
		t.Fatalf("again: %+v, %v", second, err)
	}
	c := first.Group.MainChannelID
	bobs.hears(c, "*created")
	s.Kafka.Stop()
	name := "waders of the north"
	late, err := ada.http.UpdateGroup(t.Context(), first.Group.ID, protocol.UpdateGroup{Name: &name})
	if err != nil || late.Applied || late.Group.Name != name {
		t.Fatalf("while the log is away: %+v, %v", late, err)
	}
	s.Kafka.Start()
	bobs.hears(c, "*created *updated")
	devtest.Eventually(t, "Bob's list has the new name", func() bool {
		row := bob.row(c)
		return row.Channel != nil && row.Channel.GroupName == name
	})
}
