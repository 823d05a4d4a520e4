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
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
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
	var refused inbox[protocol.Rejected]
	ada.connect("phone", func(o *client.Options) {
		o.OnRejected = func(_ *client.Outgoing, err *protocol.Error) { refused.add(protocol.Rejected{Code: err.Code}) }
	})
	sent, err := ada.http.Schedule(t.Context(), textTo(bob.id, "am I?"), time.Now().Add(3*time.Second)) // beyond a copy of what may be ([L4])
	must(t, err)
	must(t, bob.http.Do(t.Context(), http.MethodPut, "/v1/blocks/"+ada.id.String(), nil, nil))
	if row := ada.ends(*sent.ScheduleID, im.ScheduleFailed); row.Reason != "blocked" {
		t.Errorf("%+v", row)
	}
	if all := bob.history(conv); len(all) > 0 {
		t.Errorf("%+v", all)
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
