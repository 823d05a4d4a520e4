package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const channel im.ConversationID = "c4"

// said is a message of the channel; a notice where the system says it.
func said(seq im.Seq, from im.UserID) im.Message {
	m := message(seq, from, "")
	m.Conversation = channel
	if from == im.SystemUser {
		m.Type, m.Content = im.TypeNotice, json.RawMessage(`{"kind":"joined","group_id":"3","users":[{"id":"7","nickname":"me"}]}`)
	}
	return m
}

// [C2] Who joins starts with the notice that says so, whether it is pushed, or found by a
// heartbeat, or by a sync later on; what was said before is no hole.
func TestChannel_BeginsWithTheNoticeOfJoining(t *testing.T) {
	row := protocol.Conversation{ConversationID: channel, Kind: "channel", FirstSeq: 30, DeliveredSeq: 30, ReadSeq: 30, LastSeq: 31}
	all := []im.Message{said(30, im.SystemUser), said(31, peer)}
	after := func(r protocol.Request) protocol.Page {
		q := dataOf[protocol.History](t, r)
		return protocol.Page{FirstSeq: 30, Items: slices.DeleteFunc(slices.Clone(all), func(m im.Message) bool { return m.Seq <= *q.AfterSeq })}
	}
	for name, answer := range map[string]func(l link, r protocol.Request) (any, error){
		"pushed": func(l link, r protocol.Request) (any, error) {
			switch r.Cmd {
			case protocol.CmdPing:
				l.push(t, protocol.PushMessage, all[0])
				l.push(t, protocol.PushMessage, all[1])
			case protocol.CmdOffline: // joining is nothing to be delivered
				return protocol.Page{FirstSeq: 30}, nil
			}
			return nil, nil
		},
		"pushed late": func(l link, r protocol.Request) (any, error) {
			switch r.Cmd {
			case protocol.CmdPing:
				l.push(t, protocol.PushMessage, all[0])
			case protocol.CmdOffline: // and the next is stored by now
				return protocol.Page{FirstSeq: 30, Items: all[1:]}, nil
			case protocol.CmdHistory:
				return after(r), nil
			}
			return nil, nil
		},
		"found by a heartbeat": func(_ link, r protocol.Request) (any, error) {
			switch r.Cmd {
			case protocol.CmdPing:
				return protocol.Pong{Position: at(2), Conversations: []protocol.Digest{{ConversationID: channel, LastSeq: 31}}}, nil
			case protocol.CmdSync:
				if p := dataOf[protocol.Sync](t, r).Position; p != nil {
					return protocol.Synced{Position: at(2), Conversations: []protocol.Conversation{row}}, nil
				}
			case protocol.CmdHistory:
				return after(r), nil
			}
			return nil, nil
		},
		"synced": func(_ link, r protocol.Request) (any, error) {
			switch r.Cmd {
			case protocol.CmdSync:
				return protocol.Synced{Full: true, Position: at(1), Conversations: []protocol.Conversation{row}}, nil
			case protocol.CmdHistory:
				return after(r), nil
			}
			return nil, nil
		},
	} {
		shown := make(chan im.Message, 8)
		start(t, Options{Socket: serveFake(t, answer), OnMessage: func(m im.Message) { shown <- m }})
		for seq := im.Seq(30); seq <= 31; seq++ {
			m := soon(t, name, shown)
			if m.Seq != seq {
				t.Fatalf("%s: shown %d, want %d", name, m.Seq, seq)
			}
			if n, err := NoticeOf(m); (err == nil) != (seq == 30) || err == nil && (n.Kind != im.NoticeJoined || n.GroupID != 3) {
				t.Errorf("%s: notice %+v, %v", name, n, err)
			}
		}
	}
}

// [C2] Who comes back goes on with the new notice; what was said in between is not theirs.
func TestChannel_WhoComesBackHasNoHole(t *testing.T) {
	shown := make(chan im.Message, 8)
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdPing:
			l.push(t, protocol.PushMessage, said(61, im.SystemUser))
		case protocol.CmdHistory:
			return protocol.Page{FirstSeq: 61, Items: []im.Message{said(61, im.SystemUser), said(62, peer)}}, nil
		}
		return nil, nil
	})
	start(t, Options{Socket: socket, Have: map[im.ConversationID]im.Seq{channel: 40}, OnMessage: func(m im.Message) { shown <- m }})
	for _, seq := range []im.Seq{61, 62} {
		if m := soon(t, "what is said since", shown); m.Seq != seq {
			t.Errorf("shown %d, want %d", m.Seq, seq)
		}
	}
}

// The position goes back as it came, on both protocols.
func TestPosition_KeepsAllOfItself(t *testing.T) {
	pinged := make(chan im.Position, 1024)
	full := im.Position{Epoch: "e", Version: 3, MergedAt: 1767225600000001}
	socket := serveFake(t, func(_ link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdSync:
			return protocol.Synced{Full: true, Position: full}, nil
		case protocol.CmdPing:
			pinged <- *dataOf[protocol.Ping](t, r).Position
			return protocol.Pong{Position: full}, nil
		}
		return nil, nil
	})
	start(t, Options{Socket: socket})
	for range 2 {
		if p := soon(t, "a heartbeat", pinged); p != full {
			t.Errorf("pinged with %+v", p)
		}
	}
	asked := make(chan string, 1)
	h := &HTTP{Base: serveHTTP(t, func(r *http.Request, _ string) any { asked <- r.URL.RawQuery; return protocol.Synced{} })}
	if _, err := h.Sync(t.Context(), &full, 0); err != nil {
		t.Fatal(err)
	}
	if q := <-asked; q != "epoch=e&merged_at=1767225600000001&version=3" {
		t.Error(q)
	}
}

// serveHTTP answers every call.
func serveHTTP(t *testing.T, answer func(r *http.Request, body string) any) (base string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(answer(r, string(body)))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestGroups_CallsAreWhatTheContractSays(t *testing.T) {
	asked := make(chan string, 1)
	h := &HTTP{Base: serveHTTP(t, func(r *http.Request, body string) any {
		asked <- fmt.Sprintf("%s %s %s", r.Method, r.URL.RequestURI(), body)
		return struct{}{}
	})}
	ctx := t.Context()
	name := "waders"
	changed := func(_ protocol.GroupChanged, err error) error { return err }
	for want, call := range map[string]func() error{
		`POST /v1/groups {"name":"waders","members":["9"]}`: func() error {
			return changed(h.CreateGroup(ctx, protocol.CreateGroup{Name: name, Members: []im.UserID{9}}))
		},
		`GET /v1/groups?after=3&limit=5 `: func() error { _, err := h.Groups(ctx, "3", 5); return err },
		`GET /v1/groups/3 `:               func() error { _, err := h.Group(ctx, 3); return err },
		`PATCH /v1/groups/3 {"name":"waders"}`: func() error {
			return changed(h.UpdateGroup(ctx, 3, protocol.UpdateGroup{Name: &name}))
		},
		`DELETE /v1/groups/3 `:                              func() error { return changed(h.DissolveGroup(ctx, 3)) },
		`GET /v1/groups/3/members? `:                        func() error { _, err := h.GroupMembers(ctx, 3, "", 0); return err },
		`POST /v1/groups/3/members {"user_ids":["9","11"]}`: func() error { return changed(h.AddMembers(ctx, 3, 9, 11)) },
		`DELETE /v1/groups/3/members/9 `:                    func() error { return changed(h.RemoveMember(ctx, 3, 9)) },
		`DELETE /v1/groups/3/members/me `:                   func() error { return changed(h.LeaveGroup(ctx, 3)) },
		`PUT /v1/groups/3/members/9/role {"role":"admin"}`:  func() error { return changed(h.SetRole(ctx, 3, 9, im.RoleAdmin)) },
		`PUT /v1/groups/3/members/9/mute {"until":0}`:       func() error { return changed(h.MuteMember(ctx, 3, 9, 0)) },
		`POST /v1/groups/3/transfer {"user_id":"9"}`:        func() error { return changed(h.TransferGroup(ctx, 3, 9)) },
		`POST /v1/groups/3/join {"message":"hi"}`:           func() error { return changed(h.JoinGroup(ctx, 3, "hi")) },
		`DELETE /v1/groups/3/join `:                         func() error { return h.WithdrawJoin(ctx, 3) },
		`GET /v1/groups/3/requests?limit=2 `:                func() error { _, err := h.JoinRequests(ctx, 3, "", 2); return err },
		`POST /v1/groups/3/requests/9/accept `:              func() error { return changed(h.DecideJoin(ctx, 3, 9, true)) },
		`POST /v1/groups/3/requests/9/refuse `:              func() error { return changed(h.DecideJoin(ctx, 3, 9, false)) },
		`POST /v1/groups/3/channels {"name":"waders","private":true}`: func() error {
			return changed(h.CreateChannel(ctx, 3, protocol.CreateChannel{Name: name, Private: true}))
		},
		`PATCH /v1/groups/3/channels/c4 {"name":"waders"}`:         func() error { return changed(h.RenameChannel(ctx, 3, channel, name)) },
		`DELETE /v1/groups/3/channels/c4 `:                         func() error { return changed(h.RemoveChannel(ctx, 3, channel)) },
		`GET /v1/groups/3/channels/c4/members?after=9 `:            func() error { _, err := h.ChannelMembers(ctx, 3, channel, "9", 0); return err },
		`POST /v1/groups/3/channels/c4/members {"user_ids":["9"]}`: func() error { return changed(h.AddToChannel(ctx, 3, channel, 9)) },
		`DELETE /v1/groups/3/channels/c4/members/9 `:               func() error { return changed(h.RemoveFromChannel(ctx, 3, channel, 9)) },
		`GET /v1/conversations/c4/receipts?seq=3&seq=4 `:           func() error { _, err := h.ReceiptCounts(ctx, channel, 3, 4); return err },
		`GET /v1/conversations/c4/messages/3/receipts?state=read&after=9 `: func() error {
			_, err := h.Recipients(ctx, channel, 3, im.ReceiptRead, "9", 0)
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := <-asked; got != want {
			t.Errorf("asked %s\nwant  %s", got, want)
		}
	}
}
