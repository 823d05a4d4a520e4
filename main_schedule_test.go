package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// ends waits until a scheduled message has come to a state.
func (p *person) ends(id im.ScheduleID, state im.ScheduleState) (row protocol.Scheduled) {
	p.t.Helper()
	devtest.Eventually(p.t, fmt.Sprintf("%s's scheduled message %s is %s", p.name, id, state), func() bool {
		var err error
		row, err = p.http.ScheduledOne(p.t.Context(), id)
		return err == nil && row.State == state.String()
	})
	return row
}

func TestSchedule_IsSentWhenItIsDueAndNotBefore(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	his := bob.connect("phone")
	hers := ada.connect("phone")
	due := time.Now().Add(1200 * time.Millisecond)
	texts := []string{"first", "second", "third"}
	ids := make([]im.ScheduleID, len(texts))
	for _, i := range []int{2, 0, 1} { // not in the order of their times
		o, err := hers.Send(protocol.Send{To: client.ToUser(bob.id), Content: json.RawMessage(fmt.Sprintf(`{"text":%q}`, texts[i])),
			DeliverAt: due.Add(time.Duration(i) * 10 * time.Millisecond).UnixMilli()})
		must(t, err)
		sent := ada.stored(o)
		if sent.State != protocol.StateScheduled {
			t.Fatalf("%+v", sent)
		}
		ids[i] = *sent.ScheduleID
	}
	page, err := ada.http.Scheduled(t.Context(), protocol.AskScheduled{ConversationID: conv})
	must(t, err)
	if len(page.Items) != 3 || page.Items[0].ScheduleID != ids[0] || page.Items[2].ScheduleID != ids[2] || string(page.Items[0].Content) != `{"text":"first"}` {
		t.Errorf("%+v", page)
	}
	devtest.Eventually(t, "Bob is shown them in the order of their times", func() bool { return slices.Equal(his.texts(conv), texts) })
	for _, id := range ids {
		ada.ends(id, im.ScheduleSent)
	}
	for i, m := range bob.history(conv) {
		if at := due.Add(time.Duration(i) * 10 * time.Millisecond).UnixMilli(); m.StoredAt < at || m.Sender.Handle != "ada" {
			t.Errorf("%s, due at %d: %+v", texts[i], at, m)
		}
	}
	// They were sent while she was away: nothing to count for her, nothing read.
	for p, unread := range map[*person]uint64{ada: 0, bob: 3} {
		devtest.Eventually(t, p.name+"'s row says so", func() bool {
			row, err := p.http.Conversation(t.Context(), conv)
			return err == nil && row.LastSeq == 3 && row.Unread == unread && row.ReadSeq == 0
		})
	}
}

func TestSchedule_IsChangedCancelledAndSentAtOnce(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	soon := func(text string, in time.Duration) im.ScheduleID {
		t.Helper()
		sent, err := ada.http.Schedule(t.Context(), textTo(bob.id, text), time.Now().Add(in))
		must(t, err)
		return *sent.ScheduleID
	}
	changed, cancelled, last := soon("draft", time.Hour), soon("never", time.Second), soon("last", 1500*time.Millisecond)
	_, err := ada.http.ChangeScheduled(t.Context(), changed, protocol.ChangeScheduled{Content: json.RawMessage(`{"text":"as it should be"}`)})
	must(t, err)
	if row, err := ada.http.CancelScheduled(t.Context(), cancelled); err != nil || row.State != "cancelled" {
		t.Fatalf("%+v %v", row, err)
	}
	_, err = ada.http.SendScheduled(t.Context(), changed)
	must(t, err)
	ada.ends(changed, im.ScheduleSent)
	ada.ends(last, im.ScheduleSent)
	for _, id := range []im.ScheduleID{changed, last} {
		for name, err := range map[string]error{
			"cancel": ada.http.Do(t.Context(), http.MethodDelete, "/v1/scheduled/"+id.String(), nil, nil),
			"send":   ada.http.Do(t.Context(), http.MethodPost, "/v1/scheduled/"+id.String()+"/send", nil, nil),
		} {
			if !client.IsCode(err, "schedule_final") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	devtest.Eventually(t, "Bob has the two", func() bool {
		var texts []string
		for _, m := range bob.history(conv) {
			texts = append(texts, textOf(m))
		}
		return slices.Equal(texts, []string{"as it should be", "last"})
	})
}

func TestSchedule_IsDecidedAgainWhenItIsDue(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	sent, err := ada.http.Schedule(t.Context(), textTo(bob.id, "am I?"), time.Now().Add(3*time.Second)) // beyond a copy of what may be ([L4])
	must(t, err)
	must(t, bob.http.Do(t.Context(), http.MethodPut, "/v1/blocks/"+ada.id.String(), nil, nil))
	group, err := bob.http.CreateGroup(t.Context(), protocol.CreateGroup{Name: "Waders", Members: []im.UserID{ada.id}})
	must(t, err)
	main := group.Group.Channels[0].ConversationID
	inGroup := textTo(bob.id, "am I in?")
	inGroup.To = protocol.To{ConversationID: main}
	member, err := ada.http.Schedule(t.Context(), inGroup, time.Now().Add(time.Second))
	must(t, err)
	_, err = bob.http.RemoveMember(t.Context(), group.Group.ID, ada.id)
	must(t, err)
	for id, code := range map[im.ScheduleID]string{*sent.ScheduleID: "blocked", *member.ScheduleID: "not_found"} {
		if row := ada.ends(id, im.ScheduleFailed); row.Reason != code {
			t.Errorf("failed for %s: %+v", code, row)
		}
	}
	if all := bob.history(conv); len(all) > 0 {
		t.Errorf("%+v", all)
	}
}

// Workers in a process of their own decide without those who send.
func TestSchedule_IsSentByAProcessThatOnlyWorks(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	between.engine(t, s, configs.RoleJobs)
	face := between.engine(t, s, configs.RoleAPI)
	ada, bob, conv := face.pair(t)
	blocked := enrol(t, face.http, "", "eve")[0]
	sent, err := ada.http.Schedule(t.Context(), textTo(bob.id, "hello"), time.Now().Add(time.Second))
	must(t, err)
	refused, err := blocked.http.Schedule(t.Context(), textTo(bob.id, "hello"), time.Now().Add(time.Second))
	must(t, err)
	must(t, bob.http.Do(t.Context(), http.MethodPut, "/v1/blocks/"+blocked.id.String(), nil, nil))
	ada.ends(*sent.ScheduleID, im.ScheduleSent)
	if row := blocked.ends(*refused.ScheduleID, im.ScheduleFailed); row.Reason != "blocked" {
		t.Errorf("%+v", row)
	}
	devtest.Eventually(t, "Bob has it", func() bool { all := bob.history(conv); return len(all) == 1 && textOf(all[0]) == "hello" })
}

// Whatever is said of times and pages, it is read or refused (RELIABILITY.md, 4.3).
func TestSchedule_BadInputIsRefused(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, _ := e.pair(t)
	auth := ada.http.Token()
	for _, at := range []string{"-1", `"soon"`, "1.5", "1e30", "9007199254740993", "9223372036854775808", "NaN", "[]", "true"} {
		body := fmt.Sprintf(`{"client_msg_id":%q,"to":{"user_id":%q},"content":{"text":"hm"},"deliver_at":%s}`, client.NewClientMsgID(), bob.id, at)
		if r := (call{method: http.MethodPost, path: "/v1/messages", body: body}).do(t, e.http, auth); r.status != http.StatusBadRequest {
			t.Errorf("deliver_at %s: %d %s", at, r.status, r.body)
		}
	}
	sent, err := ada.http.Schedule(t.Context(), textTo(bob.id, "hm"), time.Now().Add(time.Hour))
	must(t, err)
	own := "/v1/scheduled/" + sent.ScheduleID.String()
	for _, c := range []call{
		{method: http.MethodGet, path: "/v1/scheduled?after=9223372036854775808-1"}, {method: http.MethodGet, path: "/v1/scheduled?after=1--1"},
		{method: http.MethodGet, path: "/v1/scheduled?state=0"}, {method: http.MethodGet, path: "/v1/scheduled?conversation_id=d2-1"},
		{method: http.MethodGet, path: "/v1/scheduled?limit=0"}, {method: http.MethodGet, path: "/v1/scheduled/NaN"},
		{method: http.MethodDelete, path: "/v1/scheduled/9223372036854775808"}, {method: http.MethodPost, path: "/v1/scheduled/-1/send"},
		{method: http.MethodPatch, path: own, body: `{}`}, {method: http.MethodPatch, path: own, body: `{"deliver_at":null}`},
		{method: http.MethodPatch, path: own, body: `{"deliver_at":0}`}, {method: http.MethodPatch, path: own, body: `{"content":"hm"}`},
		{method: http.MethodPatch, path: own, body: `{"content":{"text":"\u0000"}}`},
	} {
		if r := c.do(t, e.http, auth); r.status != http.StatusBadRequest {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, r.status, r.body)
		}
	}
	// What is the server's to say is not the client's.
	patch := call{method: http.MethodPatch, path: own, body: `{"deliver_at":` + fmt.Sprint(time.Now().Add(2*time.Hour).UnixMilli()) + `,"state":"sent","conversation_id":"d1-1","by_server":true}`}
	if r := patch.do(t, e.http, auth); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	if row, err := ada.http.ScheduledOne(t.Context(), *sent.ScheduleID); err != nil || row.State != "pending" || row.ByServer || row.ConversationID != sent.ConversationID {
		t.Errorf("%+v %v", row, err)
	}
}

// The shipped bound: a user's thousandth is the last, a backend's is not.
func TestSchedule_AUserHasABound(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, _ := e.pair(t)
	hence := time.Now().Add(time.Hour)
	for i := range 1000 {
		m := protocol.ServerSend{Send: textTo(bob.id, fmt.Sprint(i)), From: &ada.id}
		m.DeliverAt = hence.UnixMilli()
		again(t, "schedule", func() error { _, err := serverAPI(e.http).ServerSend(t.Context(), m, false); return err })
	}
	if _, err := ada.http.Schedule(t.Context(), textTo(bob.id, "one more"), hence); !client.IsCode(err, "limit_reached") {
		t.Errorf("the user's: %v", err)
	}
	m := protocol.ServerSend{Send: textTo(bob.id, "one more"), From: &ada.id}
	m.DeliverAt = hence.UnixMilli()
	if _, err := serverAPI(e.http).ServerSend(t.Context(), m, false); err != nil {
		t.Errorf("the backend's: %v", err)
	}
}
