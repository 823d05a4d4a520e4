package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// textTo is a text message with a client message ID of its own.
func textTo(to im.UserID, text string) protocol.Send {
	content, _ := json.Marshal(im.TextContent{Text: text}) // a string always encodes
	return protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(to), Type: im.TypeText, Content: content}
}

// Two nodes, both protocols, eight at a time: one message.
func TestSend_SameIDFromEverywhereIsOneMessage(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	ada, bob, conv := one.pair(t)
	there := *ada
	there.base, there.socket = two.http, two.socket
	there.http = &client.HTTP{Base: two.http, Token: ada.http.Token}
	phone, tablet := ada.connect("phone"), there.connect("tablet")

	const rounds = 5
	for round := range rounds {
		m := textTo(bob.id, fmt.Sprint("once ", round))
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		for i := range 8 {
			wg.Go(func() {
				var res protocol.Sent
				var err error
				switch i % 4 {
				case 0:
					err = phone.Do(t.Context(), protocol.CmdSend, m, &res)
				case 1:
					err = tablet.Do(t.Context(), protocol.CmdSend, m, &res)
				case 2:
					res, err = ada.http.Send(t.Context(), m, i > 4)
				case 3:
					res, err = there.http.Send(t.Context(), m, i > 4)
				}
				if err == nil && res.State == protocol.StateStored && res.Seq != im.Seq(round+1) {
					err = fmt.Errorf("stored at %d", res.Seq)
				}
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		devtest.Eventually(t, "it is stored", func() bool { return len(ada.history(conv)) > round })
		// Known by now, on whichever node it is asked again.
		for _, api := range []*client.HTTP{ada.http, there.http} {
			if res, err := api.Send(t.Context(), m, true); err != nil || res.State != protocol.StateStored || res.Seq != im.Seq(round+1) {
				t.Errorf("asked again: %+v, %v", res, err)
			}
			other := m
			other.Content = textTo(bob.id, "something else").Content
			_, err := api.Send(t.Context(), other, false)
			want(t, "client_msg_id_conflict", err)
		}
	}
	equal(t, "the history", seqsOf(bob.history(conv)), sequence(1, rounds))
	for i, m := range bob.history(conv) {
		if textOf(m) != fmt.Sprint("once ", i) {
			t.Errorf("message %d says %q", i, textOf(m))
		}
	}
	// An ID is the sender's own: the same one of somebody else is another message.
	m := textTo(bob.id, "mine")
	if _, err := ada.http.Send(t.Context(), m, true); err != nil {
		t.Fatal(err)
	}
	m.To, m.Content = client.ToUser(ada.id), textTo(ada.id, "mine too").Content
	if res, err := bob.http.Send(t.Context(), m, true); err != nil || res.Seq != rounds+2 {
		t.Errorf("Bob's: %+v, %v", res, err)
	}
}

// Where no hint tells, the first in the log wins and the other is rejected, to its
// sender's socket.
func TestSend_SameIDOtherContentIsRejectedAfterAcceptance(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	front := startEngine(t, s, roles(configs.RoleConnector, configs.RoleLogic, configs.RoleAPI))
	ada, bob, conv := front.pair(t)
	w := ada.wire("phone")
	first := textTo(bob.id, "first")
	second := first
	second.Content = textTo(bob.id, "second").Content
	if res, err := ada.http.Send(t.Context(), first, false); err != nil || res.State != protocol.StateAccepted {
		t.Fatalf("first: %+v, %v", res, err)
	}
	if a := w.ask("1", protocol.CmdSend, second); a.Error != nil {
		t.Fatal(a.Error)
	}
	startEngine(t, s, roles(configs.RoleJobs))
	var r protocol.Rejected
	if err := json.Unmarshal(w.pushed(protocol.PushRejected, nil), &r); err != nil {
		t.Fatal(err)
	}
	if r.ClientMsgID != first.ClientMsgID || r.Code != "client_msg_id_conflict" || r.ConversationID != conv {
		t.Errorf("rejected: %+v", r)
	}
	if ms := bob.history(conv); len(ms) != 1 || textOf(ms[0]) != "first" {
		t.Errorf("Bob sees %+v", ms)
	}
}

// Messages of one connection keep their order, also when the connection is cut in the
// middle and what was not stored is sent again.
func TestSend_PipelinedKeepsOrder(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve", "fay")
	front := devtest.NewProxy(t, e.connectorAddr())
	const n = 150
	var wg sync.WaitGroup
	for i, from := range people {
		to := people[(i+1)%len(people)]
		from.socket = "ws://" + front.Addr() + "/v1/ws"
		d := from.connect("phone", func(o *client.Options) { o.Window = 64 })
		wg.Go(func() {
			for k := range n {
				o, err := d.SendText(client.ToUser(to.id), fmt.Sprint(k))
				if err != nil {
					t.Error(err)
					return
				}
				if k == n/3 || k == 2*n/3 {
					from.stored(o) // the cut meets some sent and not yet stored
				}
			}
		})
	}
	for range 4 {
		time.Sleep(50 * time.Millisecond) // no fact to wait for: the cut may come at any moment
		front.Stop()
		front.Start()
	}
	wg.Wait()
	for i, from := range people {
		to := people[(i+1)%len(people)]
		conv := im.DirectConversation(from.id, to.id)
		var got []string
		devtest.Eventually(t, from.name+"'s are stored", func() bool {
			got = nil
			for _, m := range to.history(conv) {
				if m.Sender.ID == from.id {
					got = append(got, textOf(m))
				}
			}
			return len(got) >= n
		})
		var want []string
		for k := range n {
			want = append(want, fmt.Sprint(k))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s's messages: %v", from.name, got)
		}
	}
}

// What a device sees of a conversation is never out of order and has no hole, while
// everyone writes at once.
func TestSend_LoadWithoutFault(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	l := startLoad(t, e.http, e.socket)
	l.more(400)
	l.finish()
	l.check(true)
	if len(l.refused) > 0 {
		t.Errorf("refused without a fault: %v", l.refused)
	}
	for _, d := range l.devices {
		if d.count(func(d *device) bool { return len(d.lost) > 0 }) {
			t.Errorf("%s lost connections without a fault: %v", d.p.name, d.lost)
		}
	}
}

// connectorAddr is the connector's host:port.
func (e *engine) connectorAddr() string { return e.App.socket }
