package logic

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// rows of the members table: since and until when somebody is in harbour.
func sits(w *world, u im.UserID, m im.Member) {
	w.set(func() { w.members[im.SendKey{Conversation: harbour, Sender: u}] = m })
}

// spoken is gathered with ten messages in the channel; ann and bob see them all.
func spoken() *world {
	w := gathered()
	for i := range im.Seq(10) {
		from := []im.UserID{ann, bob}[i%2]
		w.messages = append(w.messages, im.Message{Conversation: harbour, Seq: i + 1, ID: im.MessageID(i + 1), Sender: w.users[from].Sender(),
			Type: im.TypeText, Content: json.RawMessage(`{"text":"x"}`), StoredAt: w.now.UnixMilli()})
	}
	w.messages[9].Type, w.messages[9].Sender = im.TypeNotice, systemProfile.Sender()
	w.messages[9].Content = json.RawMessage(`{"kind":"joined","group_id":"3"}`)
	sits(w, ann, im.Member{Join: 1, Joined: 1})
	sits(w, bob, im.Member{Join: 1, Joined: 1})
	w.states[harbour] = im.ConversationState{Conversation: harbour, LastSeq: 10, LastID: 10, Join: 1, Joined: 1, Read: 5, Delivered: 5}
	return w
}

// toHarbour is a send of ann's to the channel.
func toHarbour(id im.ClientMsgID, words string) protocol.Send {
	m := text(id, words)
	m.To = protocol.To{ConversationID: harbour}
	return m
}

func TestChannel_WhoMaySend(t *testing.T) {
	now := newWorld().now.UnixMilli()
	for name, c := range map[string]struct {
		seat *im.Seat
		want string
	}{
		"a member":                        {&im.Seat{Role: im.RoleMember, In: true}, "ok"},
		"nobody there":                    {nil, "not_found refused"},
		"who has left":                    {&im.Seat{Role: im.RoleMember}, "not_found refused"},
		"muted":                           {&im.Seat{Role: im.RoleMember, In: true, MutedUntil: now + 1}, "muted refused"},
		"muted until now":                 {&im.Seat{Role: im.RoleMember, In: true, MutedUntil: now}, "ok"},
		"a muted admin":                   {&im.Seat{Role: im.RoleAdmin, In: true, MutedUntil: now + 1}, "muted refused"},
		"a member while all are muted":    {&im.Seat{Role: im.RoleMember, In: true, MutedAll: true}, "muted refused"},
		"an admin while all are muted":    {&im.Seat{Role: im.RoleAdmin, In: true, MutedAll: true}, "ok"},
		"the owner while all are muted":   {&im.Seat{Role: im.RoleOwner, In: true, MutedAll: true}, "ok"},
		"who has left while all are mute": {&im.Seat{Role: im.RoleMember, MutedAll: true}, "not_found refused"},
	} {
		w := spoken()
		delete(w.seats, seatKey{ann, harbour})
		if c.seat != nil {
			w.seats[seatKey{ann, harbour}] = *c.seat
		}
		s := w.service(t, Config{})
		_, err := s.SendAndWait(t.Context(), annsPhone, toHarbour("abcdefgh", "hello"), false)
		if code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if n := len(w.produced()); (n == 1) != (c.want == "ok") {
			t.Errorf("%s: %d in the log", name, n)
		}
		from := ann // a backend may no more than who it speaks for
		_, err = s.ServerSend(t.Context(), protocol.ServerSend{Send: toHarbour("abcdefgi", "hello"), From: &from}, false)
		if code(err) != c.want {
			t.Errorf("%s, by a backend: %v, want %s", name, err, c.want)
		}
	}
}

func TestChannel_TheSystemSpeaksWhereThereIsOne(t *testing.T) {
	w := spoken()
	w.channels["c5"] = im.ChannelInfo{Channel: im.Channel{ID: "c5", Group: team, Removed: true}}
	s := w.service(t, Config{})
	for conv, want := range map[im.ConversationID]string{harbour: "ok", "c5": "not_found refused", "c6": "not_found refused"} {
		m := toHarbour("abcdefgh", "low tide")
		m.To.ConversationID = conv
		if _, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: m}, false); code(err) != want {
			t.Errorf("%s: %v, want %s", conv, err, want)
		}
	}
	reply := toHarbour("abcdefgk", "indeed")
	reply.ReplyTo, reply.MentionsAll = &protocol.MessageRef{Seq: 2}, true
	if _, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: reply}, false); err != nil {
		t.Error(err)
	}
}

func TestSend_NobodyTakesTheSystemsPart(t *testing.T) {
	w := spoken()
	s := w.service(t, Config{})
	notice := toHarbour("abcdefgh", "")
	notice.Type, notice.Content = im.TypeNotice, json.RawMessage(`{"kind":"dissolved","group_id":"3"}`)
	for name, m := range map[string]protocol.Send{"a notice's ID": toHarbour("curlew-op-7", "x"), "a notice": notice,
		"a notice forwarded": {ClientMsgID: "abcdefgi", To: notice.To, Forward: &protocol.MessageRef{ConversationID: harbour, Seq: 10}}} {
		if _, err := s.SendAndWait(t.Context(), annsPhone, m, false); code(err) != "invalid_request refused" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: m}, false); code(err) != "invalid_request refused" {
			t.Errorf("%s, by the system: %v", name, err)
		}
	}
	if n := len(w.produced()); n != 0 {
		t.Errorf("%d in the log", n)
	}
}

func TestChannel_MentionsAreOfWhoIsInIt(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, m *protocol.Send)
		want   string
	}{
		"a member":          {func(_ *world, m *protocol.Send) { m.Mentions = []im.UserID{bob, ann, bob} }, "ok"},
		"a stranger":        {func(_ *world, m *protocol.Send) { m.Mentions = []im.UserID{bob, eve} }, "invalid_request refused"},
		"MySQL away":        {func(w *world, m *protocol.Send) { m.Mentions = []im.UserID{bob}; w.fail["MembersAmong"] = im.ErrStore }, "store_unavailable refused"},
		"all, by the owner": {func(_ *world, m *protocol.Send) { m.MentionsAll = true }, "ok"},
		"all, by a member": {func(w *world, m *protocol.Send) {
			m.MentionsAll = true
			w.seats[seatKey{ann, harbour}] = im.Seat{Role: im.RoleMember, In: true}
		}, "forbidden refused"},
		"all of a one-to-one": {func(_ *world, m *protocol.Send) { m.MentionsAll = true; m.To = protocol.To{UserID: ptr(bob)} }, "invalid_request refused"},
		"what one can see":    {func(_ *world, m *protocol.Send) { m.ReplyTo = &protocol.MessageRef{Seq: 2} }, "ok"},
		"from before one came": {func(w *world, m *protocol.Send) {
			sits(w, ann, im.Member{Join: 5, Joined: 5})
			m.ReplyTo = &protocol.MessageRef{Seq: 2}
		}, "invalid_request refused"},
	} {
		w := spoken()
		m := toHarbour("abcdefgh", "hello")
		c.change(w, &m)
		_, err := w.service(t, Config{}).SendAndWait(t.Context(), annsPhone, m, false)
		if code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if err != nil {
			continue
		}
		task := w.produced()[0].Send
		if task.About.MentionsAll != m.MentionsAll || (task.Hash == hashOf("hello")) == (len(m.Mentions) > 0 || m.MentionsAll || m.ReplyTo != nil) {
			t.Errorf("%s: %+v", name, task)
		}
		if len(m.Mentions) > 0 && !slices.Equal(task.About.Mentions, []im.UserID{ann, bob}) {
			t.Errorf("%s: mentions %v", name, task.About.Mentions)
		}
	}
}

func TestSeat_ACopyIsAtMostTwoSecondsOldAndOutlivesMySQLForAMinute(t *testing.T) { // [L4]
	w := spoken()
	m := w.service(t, Config{}).members
	may := func(u im.UserID) error { return m.MaySend(t.Context(), u, harbour) }
	for range 3 {
		if err := may(ann); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count("Seat"); n != 1 {
		t.Fatalf("asked %d times", n)
	}
	w.set(func() { w.seats[seatKey{ann, harbour}] = im.Seat{Group: team} })
	w.pass(2*time.Second - 1)
	if err := may(ann); err != nil {
		t.Fatal("the copy was good for another instant:", err)
	}
	w.pass(1)
	if err := may(ann); !errors.Is(err, im.ErrNotFound) {
		t.Fatal(err)
	}
	w.set(func() { w.seats[seatKey{ann, harbour}] = im.Seat{Group: team, In: true} })
	w.pass(2 * time.Second / noPart)
	if err := may(ann); err != nil {
		t.Fatal("a no was kept too long:", err)
	}
	w.set(func() { w.fail["Seat"] = im.ErrStore })
	w.pass(59 * time.Second)
	if err := may(ann); err != nil {
		t.Fatal(err)
	}
	if err := may(bob); !errors.Is(err, im.ErrStore) {
		t.Fatal("nobody knows bob:", err)
	}
	w.pass(time.Second)
	if err := may(ann); !errors.Is(err, im.ErrStore) {
		t.Fatal("a copy of 60 s was trusted:", err)
	}
}

func TestSeat_WhatIsChangedHereHoldsAtOnce(t *testing.T) { // [L12]
	w := spoken()
	s := w.service(t, Config{})
	may := func() error { return s.members.MaySend(t.Context(), bob, harbour) }
	if err := may(); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.seats[seatKey{bob, harbour}] = im.Seat{Group: team} })
	w.pass(time.Millisecond)
	if _, err := s.RemoveMember(t.Context(), annsPhone, team, bob); err != nil {
		t.Fatal(err)
	}
	if err := may(); !errors.Is(err, im.ErrNotFound) {
		t.Fatal("a copy from before was used:", err)
	}
	w.set(func() { w.seats[seatKey{bob, harbour}] = im.Seat{Group: team, In: true} })
	w.pass(time.Millisecond)
	if _, err := s.AddMembers(t.Context(), annsPhone, team, protocol.AddMembers{UserIDs: []im.UserID{bob}}); err != nil {
		t.Fatal(err)
	}
	if err := may(); err != nil {
		t.Fatal("who was let in is refused:", err)
	}
	// While MySQL is away too.
	w.pass(time.Millisecond)
	if _, err := s.RemoveMember(t.Context(), annsPhone, team, bob); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.fail["Seat"] = im.ErrStore })
	if err := may(); !errors.Is(err, im.ErrStore) {
		t.Fatal(err)
	}
}

func TestSeat_AnAnswerOnItsWayDuringAChangeIsNotUsed(t *testing.T) { // [L12]
	w := spoken()
	s := w.service(t, Config{})
	w.meanwhile = map[string]func(){"Seat": func() {
		if w.count("Seat") == 1 { // bob is removed while the first answer is on its way
			w.pass(time.Millisecond)
			s.members.cut(team)
		}
	}}
	if _, err := s.members.Seat(t.Context(), bob, harbour); err != nil || w.count("Seat") != 2 {
		t.Errorf("%v after %d questions", err, w.count("Seat"))
	}
}

func TestChannel_OnlyWhatOneMaySeeIsShown(t *testing.T) { // [L5]
	s := func(w *world) *Service { return w.service(t, Config{}) }
	calls := map[string]func(w *world) error{
		"history": func(w *world) error {
			_, err := s(w).History(t.Context(), annsPhone, protocol.History{ConversationID: harbour})
			return err
		},
		"changes": func(w *world) error {
			_, err := s(w).History(t.Context(), annsPhone, protocol.History{ConversationID: harbour, AfterChange: new(uint64)})
			return err
		},
		"edits": func(w *world) error { _, err := s(w).Edits(t.Context(), annsPhone, harbour, 3); return err },
		"reactors": func(w *world) error {
			_, err := s(w).Reactors(t.Context(), annsPhone, harbour, 3, "👍", 0, 0)
			return err
		},
		"deletions": func(w *world) error { _, err := s(w).Deletions(t.Context(), annsPhone, harbour, 0, 0); return err },
		"counts": func(w *world) error {
			_, err := s(w).ReceiptCounts(t.Context(), annsPhone, harbour, []im.Seq{3})
			return err
		},
		"recipients": func(w *world) error {
			_, err := s(w).Recipients(t.Context(), annsPhone, im.Place{Conversation: harbour, Seq: 3}, im.ReceiptRead, 0, 0)
			return err
		},
		"offline": func(w *world) error {
			_, err := s(w).OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: harbour})
			return err
		},
		"receipts": func(w *world) error {
			_, err := s(w).Receipts(t.Context(), annsPhone, harbour, protocol.Receipts{ReadSeq: 3})
			return err
		},
		"row": func(w *world) error { _, err := s(w).Conversation(t.Context(), annsPhone, harbour); return err },
	}
	for name, call := range calls {
		w := spoken()
		if err := call(w); err != nil {
			t.Errorf("%s of a member: %v", name, err)
		}
		sits(w, ann, im.Member{Join: 1, Joined: 1, Leave: 9})
		if err := call(w); err != nil {
			t.Errorf("%s of who has left: %v", name, err)
		}
		delete(w.members, im.SendKey{Conversation: harbour, Sender: ann})
		delete(w.states, harbour)
		if err := call(w); !errors.Is(err, im.ErrNotFound) {
			t.Errorf("%s of a stranger: %v", name, err)
		}
	}
}

func TestChannel_TheWindowEndsWithTheNoticeOfLeaving(t *testing.T) {
	for name, c := range map[string]struct {
		member      im.Member
		first, last im.Seq
	}{
		"in":             {im.Member{Join: 3, Joined: 3}, 3, 0},
		"left":           {im.Member{Join: 3, Joined: 3, Leave: 7}, 3, 7},
		"back":           {im.Member{Join: 9, Joined: 9, Leave: 7}, 9, 0},
		"back, with all": {im.Member{Join: 1, Joined: 9, Leave: 7}, 1, 0},
		"deleted some":   {im.Member{Join: 3, Joined: 3, Floor: 5}, 6, 0},
	} {
		w := spoken()
		sits(w, ann, c.member)
		if _, err := w.service(t, Config{}).History(t.Context(), annsPhone, protocol.History{ConversationID: harbour}); err != nil {
			t.Fatal(err)
		}
		if w.queried.First != c.first || w.queried.Last != c.last {
			t.Errorf("%s: asked for %d to %d", name, w.queried.First, w.queried.Last)
		}
	}
}

// [L12] The member's row is read before the messages, and again after them: whoever was
// removed in between does not see what was said since.
func TestChannel_ARemovalWhileMessagesAreReadIsAFence(t *testing.T) {
	removed, back := im.Member{Join: 1, Joined: 1, Leave: 4}, im.Member{Join: 8, Joined: 8, Leave: 4}
	seqs := func(items []im.Message) (all []im.Seq) {
		for _, m := range items {
			all = append(all, m.Seq)
		}
		return all
	}
	for name, c := range map[string]struct {
		then im.Member
		want []im.Seq
	}{"removed": {removed, []im.Seq{1, 2, 3, 4}}, "removed, and back": {back, []im.Seq{8, 9, 10}}} {
		w := spoken()
		w.meanwhile = map[string]func(){"History": func() { sits(w, ann, c.then) }, "Changed": func() { sits(w, ann, c.then) }}
		w.page = im.ChangedPage{Items: w.messages, UpTo: 7}
		s := w.service(t, Config{})
		page, err := s.History(t.Context(), annsPhone, protocol.History{ConversationID: harbour, AfterSeq: seq(0)})
		if err != nil || !slices.Equal(seqs(page.Items), c.want) || page.HasMore {
			t.Errorf("%s: %v, more %t, %v", name, seqs(page.Items), page.HasMore, err)
		}
		sits(w, ann, im.Member{Join: 1, Joined: 1})
		page, err = s.History(t.Context(), annsPhone, protocol.History{ConversationID: harbour, AfterChange: new(uint64)})
		if err != nil || !slices.Equal(seqs(page.Items), c.want) || *page.Change != 7 {
			t.Errorf("%s, changes: %v, %v", name, seqs(page.Items), err)
		}
	}
	w := spoken()
	w.meanwhile = map[string]func(){"LastMessages": func() { sits(w, ann, removed) }}
	s := w.service(t, Config{})
	if _, err := s.Edits(t.Context(), annsPhone, harbour, 5); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("one message: %v", err)
	}
	sits(w, ann, im.Member{Join: 1, Joined: 1})
	row, err := s.Conversation(t.Context(), annsPhone, harbour)
	if err != nil || row.LastMessage != nil {
		t.Errorf("the list shows %+v, %v", row.LastMessage, err)
	}
}

func TestChannel_ARowSaysHowItIsCalled(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Join, st.Joined = 4, 4
	left := st
	left.Leave = 9
	w.list.States = []im.ConversationState{st}
	w.offline = []im.OfflineSource{{Conversation: harbour, Count: 2, LastID: 10, LastSeq: 10, Delivered: 5}}
	s := w.service(t, Config{})
	want := protocol.ChannelRef{GroupID: team, GroupName: "waders", GroupAvatar: "https://example.org/w.png", Name: "harbour", Private: true}
	page, err := s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0)
	if err != nil || page.Degraded || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	row := page.Items[0]
	if row.Kind != "channel" || *row.Channel != want || row.FirstSeq != 4 || row.Left || row.Peer != nil || row.LastMessage.Seq != 10 {
		t.Errorf("%+v", row)
	}
	sources, err := s.OfflineSources(t.Context(), annsPhone)
	if err != nil || sources.Degraded || *sources.Items[0].Channel != want || w.count("ChannelInfos") != 1 {
		t.Errorf("%+v, %v, asked %d times", sources, err, w.count("ChannelInfos"))
	}
	w.states[harbour] = left
	sits(w, ann, im.Member{Join: 4, Joined: 4, Leave: 9})
	row, err = s.Conversation(t.Context(), annsPhone, harbour)
	if err != nil || !row.Left || row.LastSeq != 9 || row.LastMessage.Seq != 9 {
		t.Errorf("%+v, %v", row, err)
	}
	w.set(func() { w.fail["ChannelInfos"] = im.ErrStore })
	w.pass(time.Hour)
	if page, err = s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0); err != nil || !page.Degraded || *page.Items[0].Channel != want {
		t.Errorf("MySQL away: %+v, %v", page, err)
	}
}

func TestChannel_WhoMayChangeAMessage(t *testing.T) {
	member := im.Seat{Group: team, Role: im.RoleMember, In: true}
	admin := im.Seat{Group: team, Role: im.RoleAdmin, In: true}
	muted := member
	muted.MutedAll = true
	old := func(w *world) { w.pass(time.Hour) }
	for name, c := range map[string]struct {
		kind    im.ChangeKind
		seq     im.Seq // ann's are odd, bob's even, the last a notice
		seat    im.Seat
		prep    func(*world)
		want    string
		manages bool
	}{
		"one's own recalled":              {im.ChangeRecall, 1, member, nil, "ok", false},
		"one's own recalled, muted":       {im.ChangeRecall, 1, muted, nil, "ok", false},
		"one's own recalled late":         {im.ChangeRecall, 1, member, old, "too_late refused", false},
		"an admin's own recalled late":    {im.ChangeRecall, 1, admin, old, "too_late refused", false},
		"another's recalled":              {im.ChangeRecall, 2, member, nil, "forbidden refused", false},
		"another's recalled by admin":     {im.ChangeRecall, 2, admin, nil, "ok", true},
		"the same, late":                  {im.ChangeRecall, 2, admin, old, "ok", true},
		"a notice recalled by admin":      {im.ChangeRecall, 10, admin, nil, "forbidden refused", false},
		"another's edited by admin":       {im.ChangeEdit, 2, admin, nil, "forbidden refused", false},
		"one's own edited":                {im.ChangeEdit, 1, member, nil, "ok", false},
		"one's own edited, muted":         {im.ChangeEdit, 1, muted, nil, "muted refused", false},
		"reacted":                         {im.ChangeReact, 2, member, nil, "ok", false},
		"reacted, muted":                  {im.ChangeReact, 2, muted, nil, "muted refused", false},
		"taken back, muted":               {im.ChangeUnreact, 2, muted, nil, "ok", false},
		"one's own recalled, having left": {im.ChangeRecall, 1, im.Seat{Group: team}, nil, "not_found refused", false},
		"taken back, having left":         {im.ChangeUnreact, 2, im.Seat{Group: team}, nil, "not_found refused", false},
		"recalled by one who was admin":   {im.ChangeRecall, 2, im.Seat{Group: team, Role: im.RoleAdmin}, nil, "not_found refused", false},
		"recalled again by admin":         {im.ChangeRecall, 2, admin, func(w *world) { w.messages[1].RecalledAt = 1 }, "recalled refused", false},
		"nobody knows the seat":           {im.ChangeRecall, 2, admin, func(w *world) { w.fail["Seat"] = im.ErrStore }, "store_unavailable refused", false},
	} {
		w := spoken()
		w.seats[seatKey{ann, harbour}] = c.seat
		if c.prep != nil {
			c.prep(w)
		}
		req := ask1(c.kind, c.seq)
		req.ConversationID = harbour
		_, err := w.service(t, Config{}).ChangeAndWait(t.Context(), annsPhone, req, false)
		if code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if err == nil && w.produced()[0].Change.Manages != c.manages {
			t.Errorf("%s: manages %t", name, w.produced()[0].Change.Manages)
		}
	}
}

func TestChannel_ReceiptsOfWhoHasLeftEndWithTheirWindow(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Leave = 8
	w.states[harbour] = st
	s := w.service(t, Config{})
	at, err := s.Receipts(t.Context(), annsPhone, harbour, protocol.Receipts{ReadSeq: 10})
	if err != nil || at.ReadSeq != 8 || at.DeliveredSeq != 8 {
		t.Fatalf("%+v, %v", at, err)
	}
	if r := w.produced()[0].Receipt; r.Read != 8 || r.Delivered != 8 {
		t.Errorf("the log has %+v", r)
	}
	st.Read, st.Delivered = 8, 8
	w.states[harbour] = st
	if _, err := s.Receipts(t.Context(), annsPhone, harbour, protocol.Receipts{ReadSeq: 10}); err != nil || len(w.produced()) != 1 {
		t.Errorf("what moves nothing is in the log: %v, %v", err, w.produced())
	}
}

// What was sent from one device is no reason to keep from another what came before it.
func TestChannel_OfflineBeginsAfterWhatIsAcked(t *testing.T) {
	w := spoken()
	w.states[harbour] = im.ConversationState{Conversation: harbour, LastSeq: 10, Join: 3, Joined: 3, Delivered: 4, Read: 6}
	if _, err := w.service(t, Config{}).OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: harbour}); err != nil {
		t.Fatal(err)
	}
	if *w.queried.After != 4 {
		t.Errorf("pulled after %d", *w.queried.After)
	}
}

func TestReceiptCounts_AreOfWhatOneSees(t *testing.T) {
	w := spoken()
	sits(w, ann, im.Member{Join: 3, Joined: 3, Leave: 8})
	w.counts = []im.ReceiptCount{{Seq: 3, Recipients: 4, Delivered: 2, Read: 1}}
	w.readers = []im.MemberCursors{{User: bob, Delivered: 9, Read: 7}, {User: nobody}}
	s, ctx := w.service(t, Config{}), t.Context()
	got, err := s.ReceiptCounts(ctx, annsPhone, harbour, []im.Seq{9, 3, 8, 2, 3})
	if err != nil || len(got.Items) != 1 || got.Items[0] != (protocol.ReceiptCount{Seq: 3, Recipients: 4, Delivered: 2, Read: 1}) || w.asked[0] != "ReceiptCounts [3 8]" {
		t.Errorf("%+v, %v, asked %q", got, err, w.asked)
	}
	if got, err := s.ReceiptCounts(ctx, annsPhone, harbour, []im.Seq{1}); err != nil || got.Items == nil || len(got.Items) != 0 || len(w.asked) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, seqs := range map[string][]im.Seq{"none": nil, "too many": make([]im.Seq, 101)} {
		if _, err := s.ReceiptCounts(ctx, annsPhone, harbour, seqs); codeOf(err) != "invalid_request" {
			t.Errorf("%s: %v", name, err)
		}
	}
	who := func(n im.Seq, state im.ReceiptState, limit int) (protocol.Recipients, error) {
		return s.Recipients(ctx, annsPhone, im.Place{Conversation: harbour, Seq: n}, state, 0, limit)
	}
	page, err := who(3, im.ReceiptRead, 1)
	if err != nil || !page.HasMore || page.Next != "9" || page.Items[0] != (protocol.Recipient{User: w.users[bob], DeliveredSeq: 9, ReadSeq: 7}) {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err := who(9, im.ReceiptRead, 1); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("of what one does not see: %v", err)
	}
	if _, err := who(3, "", 1); codeOf(err) != "invalid_request" {
		t.Error(err)
	}
}

func TestDeletion_NotOfWhatWasSaidBeforeOneCame(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Join, st.Joined = 4, 4
	w.states[harbour] = st
	s := w.service(t, Config{})
	for at, want := range map[im.Seq]string{3: "not_found", 4: "", 10: "", 11: "not_found"} {
		err := s.DeleteMessagesNow(t.Context(), annsPhone, protocol.DeleteMessages{ConversationID: harbour, Seqs: []im.Seq{at}})
		if codeOf(err) != want {
			t.Errorf("%d: %v", at, err)
		}
	}
}

func TestTyping_OfAChannelGoesToItsNodesOnce(t *testing.T) {
	const typing = `{"id":"1","cmd":"typing","data":{"conversation_id":"c4","on":true}}`
	for name, c := range map[string]struct {
		prep  func(*world)
		reply string
		nodes []im.NodeID
	}{
		"told":              {nil, `"data"`, []im.NodeID{"n1", "n2"}},
		"merged":            {func(w *world) { st := w.states[harbour]; st.Merged = true; w.states[harbour] = st }, `"data"`, nil},
		"nobody is on":      {func(w *world) { w.rooms = nil }, `"data"`, nil},
		"Redis away":        {func(w *world) { w.fail["RoomNodes"] = im.ErrCache }, `"data"`, nil},
		"no state as yet":   {func(w *world) { delete(w.states, harbour) }, `"data"`, nil},
		"muted":             {func(w *world) { w.seats[seatKey{ann, harbour}] = im.Seat{In: true, MutedAll: true} }, `"code":"muted"`, nil},
		"not a member":      {func(w *world) { delete(w.seats, seatKey{ann, harbour}) }, `"code":"not_found"`, nil},
		"nobody knows that": {func(w *world) { w.fail["Seat"] = im.ErrStore }, `"code":"store_unavailable"`, nil},
	} {
		w := spoken()
		w.rooms = []im.NodeID{"n1", "n2"}
		if c.prep != nil {
			c.prep(w)
		}
		a := ask(t, w.service(t, Config{}), typing)
		if !strings.Contains(string(a.Frame), c.reply) {
			t.Errorf("%s: %s", name, a.Frame)
		}
		told := 0
		for _, batches := range w.batches {
			for node, batch := range batches {
				all, err := protocol.DecodeDeliveries(batch)
				if err != nil || len(all) != 1 || all[0].Room != harbour || all[0].ExceptUser != ann || all[0].Version != 0 || len(all[0].Users) != 0 ||
					string(all[0].Frame) != `{"push":"typing","data":{"conversation_id":"c4","user_id":"7","on":true,"expires_ms":6000}}` {
					t.Errorf("%s: %s got %+v, %v", name, node, all, err)
				}
				told++
			}
		}
		if told != len(c.nodes) {
			t.Errorf("%s: %d nodes told, want %d", name, told, len(c.nodes))
		}
	}
}

func TestPosition_KeepsWhenMergedChannelsWereSeen(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Merged = true
	full := im.Position{Epoch: "g", Version: 5, MergedAt: 1767225600000001}
	w.changes = im.Changes{States: []im.ConversationState{st}, Position: full}
	s := w.service(t, Config{})
	a := ask(t, s, `{"id":"1","cmd":"ping","data":{"position":{"epoch":"g","version":4,"merged_at":1767225590000001}}}`)
	if got := string(a.Frame); !strings.Contains(got, `"position":{"epoch":"g","version":5,"merged_at":1767225600000001}`) || !strings.Contains(got, `"conversation_id":"c4","last_seq":10`) {
		t.Errorf("%s", got)
	}
	synced, err := s.Sync(t.Context(), annsPhone, protocol.Sync{Position: &im.Position{Epoch: "g", Version: 4, MergedAt: 3}})
	if err != nil || synced.Position != full || fmt.Sprint(w.since) != "[g/4 g/4]" || w.since[1].MergedAt != 3 || w.since[0].MergedAt != 1767225590000001 {
		t.Errorf("%+v since %+v, %v", synced.Position, w.since, err)
	}
}
