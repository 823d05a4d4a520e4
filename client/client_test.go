package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// me is whom every fake server greets, peer whom they talk to.
const me, peer im.UserID = 7, 9

var talk = im.DirectConversation(me, peer)

// link is the server's end of one connection.
type link struct {
	net.Conn
	number int // 1 for the first
}

func (l link) write(t *testing.T, v any) {
	t.Helper()
	b, err := protocol.EncodeJSON(v)
	if err != nil {
		t.Error(err)
		return
	}
	_ = wsutil.WriteServerText(l, b) // the client may be gone
}

func (l link) push(t *testing.T, kind protocol.Push, data any) {
	t.Helper()
	l.write(t, protocol.PushFrame{Push: kind, Data: data})
}

// serveFake answers connect and the requests of which answer says nothing (nil, nil):
// an empty sync, an empty pong, an accepted send.
func serveFake(t *testing.T, answer func(l link, r protocol.Request) (any, error)) (socket string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { lis.Close() })
	wg.Go(func() {
		for n := 1; ; n++ {
			nc, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				u := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == protocol.Subprotocol }}
				if _, err := u.Upgrade(nc); err != nil {
					return
				}
				serveLink(t, link{nc, n}, answer)
			})
		}
	})
	return "ws://" + lis.Addr().String() + "/v1/ws"
}

func serveLink(t *testing.T, l link, answer func(l link, r protocol.Request) (any, error)) {
	for {
		message, err := wsutil.ReadClientText(l)
		if err != nil {
			return
		}
		r, err := protocol.DecodeRequest(message)
		if err != nil {
			t.Error(err)
			return
		}
		data, err := answer(l, r)
		switch {
		case err != nil:
			l.write(t, protocol.Reply{ID: r.ID, Error: protocol.NewError(err)})
			continue
		case data != nil:
		case r.Cmd == protocol.CmdConnect:
			data = protocol.Connected{User: im.Profile{ID: me}, HeartbeatMS: 20}
		case r.Cmd == protocol.CmdSync:
			data = protocol.Synced{Full: true, Position: at(1)}
		case r.Cmd == protocol.CmdPing:
			data = protocol.Pong{Position: at(1)}
		case r.Cmd == protocol.CmdSend:
			data = sentOf(t, r, 0)
		default:
			data = struct{}{}
		}
		l.write(t, protocol.Reply{ID: r.ID, Data: data})
	}
}

func at(version uint64) im.Position { return im.Position{Epoch: "e", Version: version} }

// sentOf answers a send: stored at seq, or accepted where that is 0.
func sentOf(t *testing.T, r protocol.Request, seq im.Seq) protocol.Sent {
	s := dataOf[protocol.Send](t, r)
	sent := protocol.Sent{State: protocol.StateAccepted, ConversationID: talk, ClientMsgID: s.ClientMsgID}
	if seq > 0 {
		id := im.MessageID(seq)
		sent.State, sent.Seq, sent.MessageID = protocol.StateStored, seq, &id
	}
	return sent
}

func dataOf[T any](t *testing.T, r protocol.Request) (v T) {
	t.Helper()
	if err := protocol.DecodeData(r.Data, &v); err != nil {
		t.Error(err)
	}
	return v
}

func message(seq im.Seq, from im.UserID, client im.ClientMsgID) im.Message {
	return im.Message{Conversation: talk, Seq: seq, ID: im.MessageID(seq), ClientMsgID: client, Sender: im.Sender{ID: from},
		Type: im.TypeText, Content: json.RawMessage(`{"text":"x"}`)}
}

// history answers a history or offline request from all, which begins at seq 1.
func history(t *testing.T, r protocol.Request, all []im.Message) protocol.Page {
	var after im.Seq
	if r.Cmd == protocol.CmdHistory {
		after = *dataOf[protocol.History](t, r).AfterSeq
	}
	return protocol.Page{Items: all[min(int(after), len(all)):]}
}

// start runs a client until the test ends.
func start(t *testing.T, opt Options) *Client {
	t.Helper()
	opt.Device = "d"
	opt.RetryMin = time.Millisecond
	if opt.Token == nil {
		opt.Token = func(context.Context) (string, error) { return "good", nil }
	}
	c := New(opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// soon is the next of ch.
func soon[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		t.Fatal("never came: " + what)
	}
	return v
}

// [C2] The place of a message that was lost with its connection is learned from the
// answer to the resend, and the message is not shown to who sent it.
func TestSend_ResentAfterALossIsNotShownToItsSender(t *testing.T) {
	var mu sync.Mutex
	var all []im.Message
	resent := make(chan im.ClientMsgID, 1)
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Cmd == protocol.CmdSend && l.number == 1: // stored, and nobody is told
			all = append(all, message(1, me, dataOf[protocol.Send](t, r).ClientMsgID))
			l.Close()
			return struct{}{}, nil
		case r.Cmd == protocol.CmdSend:
			resent <- dataOf[protocol.Send](t, r).ClientMsgID
			return sentOf(t, r, 1), nil
		case r.Cmd == protocol.CmdPing && len(resent) > 0: // the next heartbeat
			<-resent
			all = append(all, message(2, peer, ""))
			l.push(t, protocol.PushMessage, all[1])
		case r.Cmd == protocol.CmdHistory, r.Cmd == protocol.CmdOffline:
			return history(t, r, all), nil
		}
		return nil, nil
	})
	shown := make(chan im.Message, 8)
	c := start(t, Options{Socket: socket, OnMessage: func(m im.Message) { shown <- m }})
	o, err := c.SendText(ToUser(peer), "x")
	if err != nil {
		t.Fatal(err)
	}
	if m := soon(t, "the peer's message", shown); m.Seq != 2 {
		t.Errorf("shown: seq %d of user %s", m.Seq, m.Sender.ID)
	}
	if s, err := o.Stored(t.Context()); err != nil || s.Seq != 1 {
		t.Errorf("stored at %d, %v", s.Seq, err)
	}
}

// [C2]
func TestStored_InAConversationNotKnownYetBringsWhatWasSaidBefore(t *testing.T) {
	var all []im.Message
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdSend: // the peer was faster, and the push of theirs is lost
			id := dataOf[protocol.Send](t, r).ClientMsgID
			all = []im.Message{message(1, peer, ""), message(2, me, id), message(3, peer, "")}
			l.push(t, protocol.PushStored, protocol.Stored{ConversationID: talk, ClientMsgID: id, Seq: 2, MessageID: 2})
		case protocol.CmdHistory, protocol.CmdOffline:
			return history(t, r, all), nil
		}
		return nil, nil
	})
	shown := make(chan im.Message, 8)
	stored := make(chan *Outgoing, 8)
	c := start(t, Options{Socket: socket, OnMessage: func(m im.Message) { shown <- m }, OnStored: func(o *Outgoing) { stored <- o }})
	if _, err := c.SendText(ToUser(peer), "x"); err != nil {
		t.Fatal(err)
	}
	first, second := soon(t, "seq 1", shown), soon(t, "seq 3", shown)
	if first.Seq != 1 || second.Seq != 3 {
		t.Errorf("shown: %d, %d", first.Seq, second.Seq)
	}
	soon(t, "stored", stored)
	if len(stored) > 0 || len(shown) > 0 {
		t.Errorf("told twice: %d stored, %d shown", len(stored), len(shown))
	}
}

// A store that is away is asked again on the same connection, and what was missed comes.
func TestServe_WhatCannotBePulledNowIsPulledLater(t *testing.T) {
	var mu sync.Mutex
	links, asked := 0, 0
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		links = max(links, l.number)
		switch r.Cmd {
		case protocol.CmdSync:
			return protocol.Synced{Full: true, Position: at(1), Conversations: []protocol.Conversation{{ConversationID: talk, LastSeq: 2}}}, nil
		case protocol.CmdHistory:
			if asked++; asked <= 2 {
				return nil, fmt.Errorf("history: %w", im.ErrStore)
			}
			return history(t, r, []im.Message{message(1, peer, ""), message(2, peer, "")}), nil
		}
		return nil, nil
	})
	shown := make(chan im.Message, 8)
	start(t, Options{Socket: socket, OnMessage: func(m im.Message) { shown <- m }})
	for seq := im.Seq(1); seq <= 2; seq++ {
		if m := soon(t, "a message", shown); m.Seq != seq {
			t.Errorf("seq %d, want %d", m.Seq, seq)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if links != 1 {
		t.Errorf("%d connections for one answer", links)
	}
}

// A server that says when to ask again is not asked at each heartbeat meanwhile: where
// thousands come at once, that is what would keep it from ever answering.
func TestServe_AsksNoSoonerThanTheServerSays(t *testing.T) {
	wait := 300 * time.Millisecond // 15 heartbeats
	var mu sync.Mutex
	var asked []time.Time
	synced := make(chan struct{})
	socket := serveFake(t, func(_ link, r protocol.Request) (any, error) {
		if r.Cmd != protocol.CmdSync {
			return nil, nil
		}
		mu.Lock()
		defer mu.Unlock()
		if asked = append(asked, time.Now()); len(asked) == 1 {
			return nil, &im.LimitError{Limit: "sync", RetryAfter: wait}
		}
		return nil, nil
	})
	start(t, Options{Socket: socket, OnSync: func(protocol.Synced) { close(synced) }})
	soon(t, "a sync", synced)
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 || asked[1].Sub(asked[0]) < wait {
		t.Errorf("asked %d times, at last %s after the first", len(asked), asked[len(asked)-1].Sub(asked[0]))
	}
}

func TestSend_AnEndedTokenIsNotTheEndOfTheMessage(t *testing.T) {
	var tokens sync.Map
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch {
		case r.Cmd == protocol.CmdConnect:
			tokens.Store(dataOf[protocol.Connect](t, r).Token, true)
		case r.Cmd == protocol.CmdSend && l.number == 1:
			l.write(t, protocol.Reply{ID: r.ID, Error: protocol.NewSendError(im.ErrUnauthenticated)})
			_ = ws.WriteFrame(l, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(protocol.CloseUnauthenticated), "revoked")))
			return nil, im.ErrUnauthenticated // a reply nobody waits for
		case r.Cmd == protocol.CmdSend:
			return sentOf(t, r, 1), nil
		}
		return nil, nil
	})
	asked := 0
	c := start(t, Options{Socket: socket, Token: func(context.Context) (string, error) {
		asked++
		return fmt.Sprint("token-", asked), nil
	}})
	o, err := c.SendText(ToUser(peer), "x")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := o.Stored(t.Context()); err != nil || s.Seq != 1 {
		t.Errorf("stored at %d, %v", s.Seq, err)
	}
	if _, renewed := tokens.Load("token-2"); !renewed {
		t.Error("the second connection shows the token that was refused")
	}
}

// [C3]
func TestRun_ComesBackNoSoonerThanTheServerSays(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want time.Duration
	}{
		{"a farewell", &CloseError{Code: protocol.CloseRestart, Reason: `{"retry_after_ms":4000}`}, 4 * time.Second},
		{"a word", &CloseError{Code: protocol.CloseSlow, Reason: "slow_consumer"}, 0},
		{"a refused connect", fmt.Errorf("connect: %w", &protocol.Error{Code: "rate_limited", RetryAfterMS: 30_000}), 30 * time.Second},
		{"nonsense", &CloseError{Reason: `{"retry_after_ms":-5}`}, 0},
		{"an age", &CloseError{Reason: `{"retry_after_ms":99999999}`}, time.Minute},
		{"a lost connection", net.ErrClosed, 0},
	} {
		if got := comeBack(c.err); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A device that showed a message and whose ack was lost acks it in its next life.
func TestSync_AcksWhatWasShownInAnEarlierLife(t *testing.T) {
	acks := make(chan protocol.Receipt, 8)
	socket := serveFake(t, func(_ link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdSync:
			return protocol.Synced{Position: at(5), Offline: []protocol.OfflineSource{{ConversationID: talk, Count: 1, DeliveredSeq: 2, LastSeq: 3}}}, nil
		case protocol.CmdAck:
			acks <- dataOf[protocol.Receipt](t, r)
		}
		return nil, nil
	})
	position := at(5)
	start(t, Options{Socket: socket, Have: map[im.ConversationID]im.Seq{talk: 3}, Position: &position})
	if a := soon(t, "the ack", acks); a.Seq != 3 || a.ConversationID != talk {
		t.Errorf("ack %+v", a)
	}
}
