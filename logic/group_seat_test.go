package logic

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

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
	// Of who was never in it a copy does not know the group.
	const newcomer = im.UserID(99)
	if err := s.members.MaySend(t.Context(), newcomer, harbour); !errors.Is(err, im.ErrNotFound) {
		t.Fatal(err)
	}
	w.set(func() { w.seats[seatKey{newcomer, harbour}] = im.Seat{Group: team, In: true} })
	w.pass(time.Millisecond)
	if _, err := s.AddMembers(t.Context(), annsPhone, team, protocol.AddMembers{UserIDs: []im.UserID{newcomer}}); err != nil {
		t.Fatal(err)
	}
	if err := s.members.MaySend(t.Context(), newcomer, harbour); err != nil {
		t.Fatal("who was let in for the first time is refused:", err)
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
