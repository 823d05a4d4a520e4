package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

func TestEngine_TwoPeopleTalk(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	phone, tablet := ada.connect("phone"), ada.connect("tablet")
	other := bob.connect("phone")

	o, err := phone.SendText(client.ToUser(bob.id), "hello, Bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Accepted(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := ada.stored(o)
	if sent.State != protocol.StateStored || sent.Seq != 1 || sent.ConversationID != conv || sent.MessageID == nil || sent.StoredAt == 0 {
		t.Errorf("stored: %+v", sent)
	}
	devtest.Eventually(t, "Bob and Ada's other device see it", func() bool {
		return len(other.texts(conv)) == 1 && len(tablet.texts(conv)) == 1
	})
	m := other.got[conv][0]
	if m.Seq != 1 || m.ID != *sent.MessageID || m.Sender.ID != ada.id || m.Sender.Nickname != "Ada" || textOf(m) != "hello, Bob" || m.ClientMsgID != "" {
		t.Errorf("Bob sees %+v", m)
	}
	if m := tablet.got[conv][0]; m.ClientMsgID != o.Message.ClientMsgID {
		t.Errorf("Ada's tablet sees %+v", m)
	}
	if len(phone.texts(conv)) != 0 {
		t.Error("the device that sent it is shown it again")
	}

	ticks := func(delivered, read im.Seq) func() bool {
		return func() bool {
			return phone.count(func(d *device) bool {
				var del, rd im.Seq
				for _, r := range d.receipts {
					if r.ConversationID == conv && r.UserID == bob.id {
						del, rd = max(del, r.DeliveredSeq), max(rd, r.ReadSeq)
					}
				}
				return del >= delivered && rd >= read
			})
		}
	}
	devtest.Eventually(t, "Ada sees that Bob's device has it", ticks(1, 0))
	if row := bob.row(conv); row.Unread != 1 || row.LastSeq != 1 || row.Peer == nil || row.Peer.ID != ada.id ||
		row.LastMessage == nil || textOf(*row.LastMessage) != "hello, Bob" {
		t.Errorf("Bob's list says %+v", row)
	}
	if row := ada.row(conv); row.Unread != 0 || row.ReadSeq != 1 {
		t.Errorf("Ada's own message is unread to her: %+v", row)
	}

	second := bob.connect("laptop")
	if err := other.Read(t.Context(), conv, 1); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "Ada sees that Bob has read it", ticks(1, 1))
	devtest.Eventually(t, "Bob's laptop learns it too", func() bool {
		return second.count(func(d *device) bool { return len(d.readSelf) > 0 && d.readSelf[len(d.readSelf)-1].ReadSeq == 1 })
	})
	devtest.Eventually(t, "nothing is unread to Bob, Ada's row says so", func() bool {
		return bob.row(conv).Unread == 0 && ada.row(conv).PeerRead == 1 && ada.row(conv).PeerDelivered == 1
	})

	if s := other.say(ada, "hello yourself"); s.Seq != 2 {
		t.Errorf("the answer has seq %d", s.Seq)
	}
	devtest.Eventually(t, "both of Ada's devices see the answer", func() bool {
		return len(phone.texts(conv)) == 1 && len(tablet.texts(conv)) == 2
	})
	// Two devices of hers, one count: read on one, read on both.
	if got := ada.row(conv).Unread; got != 1 {
		t.Errorf("%d unread to Ada, want 1", got)
	}
	if err := tablet.Read(t.Context(), conv, 2); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "it is read on both", func() bool {
		return ada.row(conv).Unread == 0 && phone.count(func(d *device) bool { return len(d.readSelf) > 0 })
	})
}

func TestEngine_OneLeavesAndReturns(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	carol := enrol(t, e.http, e.socket, "carol")[0]
	fromCarol := im.DirectConversation(bob.id, carol.id)
	phone, hers := ada.connect("phone"), carol.connect("phone")
	first := bob.connect("phone")
	for i := range 3 {
		phone.say(bob, fmt.Sprint("while there ", i+1))
	}
	devtest.Eventually(t, "Bob has seen and acked three", func() bool {
		return len(first.texts(conv)) == 3 && bob.row(conv).DeliveredSeq == 3
	})
	first.leave()
	have, position := first.Have()

	for i := range 5 {
		phone.say(bob, fmt.Sprint("while away ", i+1))
	}
	hers.say(bob, "it's Carol")
	devtest.Eventually(t, "six wait in two sources", func() bool {
		o := bob.offline()
		return len(o) == 2 && o[conv].Count == 5 && o[fromCarol].Count == 1
	})
	if s := bob.offline()[conv]; s.DeliveredSeq != 3 || s.LastSeq != 8 || s.Peer == nil || s.Peer.ID != ada.id {
		t.Errorf("the source says %+v", s)
	}

	// Pulling clears nothing; an ack clears up to its seq and no further.
	for range 2 {
		page, err := bob.http.OfflinePull(t.Context(), protocol.OfflinePull{ConversationID: conv})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "pulled", seqsOf(page.Items), sequence(4, 8))
	}
	if err := bob.http.OfflineAck(t.Context(), conv, 6); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "two and one are left", func() bool {
		o := bob.offline()
		return o[conv].Count == 2 && o[conv].DeliveredSeq == 6 && o[fromCarol].Count == 1
	})
	if got := bob.row(conv); got.Unread != 8 {
		t.Errorf("%d unread, want 8: an ack reads nothing", got.Unread)
	}

	// The device that left goes on from its own position, whatever another has acked.
	back := bob.connect("phone", func(o *client.Options) { o.Have, o.Position = have, position })
	devtest.Eventually(t, "it has what it missed", func() bool { return len(back.texts(conv)) == 5 && len(back.texts(fromCarol)) == 1 })
	if s := back.syncs[0]; s.Full || len(s.Conversations) != 2 {
		t.Errorf("with a position that stands, sync is not the difference: full=%v, %d conversations", s.Full, len(s.Conversations))
	}
	equal(t, "in order", back.texts(conv), []string{"while away 1", "while away 2", "while away 3", "while away 4", "while away 5"})
	devtest.Eventually(t, "its acks clear the rest", func() bool { return len(bob.offline()) == 0 })

	// A position of another generation is told to start over, and loses nothing.
	old := *position
	old.Epoch = "of-another-life"
	s, err := bob.http.Sync(t.Context(), &old, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Full || len(s.Conversations) != 2 || s.Conversations[0].ConversationID != fromCarol || s.UnreadTotal != 9 {
		t.Errorf("sync from a void position: %+v", s)
	}
}

func TestEngine_HistoryPages(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	phone := ada.connect("phone")
	const n = 25
	var out []*client.Outgoing
	for i := range n {
		o, err := phone.SendText(client.ToUser(bob.id), fmt.Sprint("m", i+1))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	for i, o := range out {
		if s := ada.stored(o); s.Seq != im.Seq(i+1) {
			t.Fatalf("message %d has seq %d", i+1, s.Seq)
		}
	}
	for _, c := range []struct {
		name        string
		q           protocol.History
		from, to    im.Seq // none where to is 0
		more, after bool
	}{
		{"newest", protocol.History{Limit: 10}, 16, 25, true, false},
		{"before", protocol.History{BeforeSeq: seq(16), Limit: 10}, 6, 15, true, false},
		{"before, the last page", protocol.History{BeforeSeq: seq(6), Limit: 10}, 1, 5, false, false},
		{"before the first", protocol.History{BeforeSeq: seq(1), Limit: 10}, 0, 0, false, false},
		{"before, beyond the end", protocol.History{BeforeSeq: seq(1000), Limit: 3}, 23, 25, true, false},
		{"after", protocol.History{AfterSeq: seq(0), Limit: 10}, 1, 10, true, false},
		{"after, the last page", protocol.History{AfterSeq: seq(20), Limit: 10}, 21, 25, false, false},
		{"after the end", protocol.History{AfterSeq: seq(25), Limit: 10}, 0, 0, false, false},
		{"around", protocol.History{Around: seq(12), Limit: 5}, 10, 14, true, true},
		{"default limit", protocol.History{}, 1, 25, false, false},
	} {
		c.q.ConversationID = conv
		byHTTP, err := bob.http.History(t.Context(), c.q)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		bySocket, err := phone.History(t.Context(), c.q)
		if err != nil {
			t.Errorf("%s by socket: %v", c.name, err)
			continue
		}
		var want []im.Seq
		if c.to > 0 {
			want = sequence(c.from, c.to)
		}
		equal(t, c.name, seqsOf(byHTTP.Items), want)
		equal(t, c.name+" by socket", seqsOf(bySocket.Items), want)
		if byHTTP.HasMore != c.more || byHTTP.HasMoreAfter != c.after {
			t.Errorf("%s: more %v and after %v, want %v and %v", c.name, byHTTP.HasMore, byHTTP.HasMoreAfter, c.more, c.after)
		}
	}
	// A page is the same from both ends.
	equal(t, "whole", seqsOf(bob.history(conv)), sequence(1, n))
}

func textOf(m im.Message) string {
	var c im.TextContent
	if json.Unmarshal(m.Content, &c) != nil {
		return ""
	}
	return c.Text
}
