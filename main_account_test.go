package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// soon is how long a revocation may take to close a socket: 5 s by contract, and what
// a busy machine adds.
const soon = 8 * time.Second

func TestAccounts_RegisterLoginRefreshLogout(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	open := &client.HTTP{Base: e.http}
	first, err := open.Register(t.Context(), protocol.Register{Handle: "Ada", Password: "correct horse", Nickname: "Ada L.", Device: "phone"})
	if err != nil || first.User.Handle != "ada" || first.User.Nickname != "Ada L." {
		t.Fatalf("%+v, %v", first.User, err)
	}
	_, err = open.Register(t.Context(), protocol.Register{Handle: "ADA", Password: "another horse", Device: "phone"})
	want(t, "conflict", err)
	_, err = open.Login(t.Context(), protocol.Login{Handle: "ada", Password: "wrong horse", Device: "phone"})
	want(t, "unauthenticated", err)
	_, err = open.Login(t.Context(), protocol.Login{Handle: "nobody", Password: "wrong horse", Device: "phone"})
	want(t, "unauthenticated", err)

	second, err := open.Login(t.Context(), protocol.Login{Handle: "ada", Password: "correct horse", Device: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := open.Refresh(t.Context(), second.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	third, err := open.Refresh(t.Context(), second.RefreshToken) // the answer was lost
	if err != nil {
		t.Fatal(err)
	}
	_, err = open.Refresh(t.Context(), third.AccessToken)
	want(t, "unauthenticated", err)

	me := func(token string) error {
		h := &client.HTTP{Base: e.http, Token: func() string { return "Bearer " + token }}
		return h.Do(t.Context(), http.MethodGet, "/v1/users/me", nil, nil)
	}
	if err := me(first.AccessToken); err != nil {
		t.Errorf("the phone's token, while the laptop comes and goes: %v", err)
	}
	h := &client.HTTP{Base: e.http, Token: func() string { return "Bearer " + first.AccessToken }}
	if err := h.Do(t.Context(), http.MethodPost, "/v1/auth/logout", nil, nil); err != nil {
		t.Fatal(err)
	}
	want(t, "unauthenticated", me(first.AccessToken))
	want(t, "unauthenticated", me(third.RefreshToken))
	_, err = open.Refresh(t.Context(), lost.RefreshToken) // it was not lost: two hold the laptop's
	want(t, "unauthenticated", err)
	_, err = open.Refresh(t.Context(), third.RefreshToken)
	want(t, "unauthenticated", err)
}

// What ends a token ends its sockets: a password change, a revoked device.
func TestAccounts_RevocationClosesSockets(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s) // the socket is on another node than the call
	open := &client.HTTP{Base: one.http}
	for name, revoke := range map[string]func(h *client.HTTP) error{
		"password": func(h *client.HTTP) error {
			return h.Do(t.Context(), http.MethodPost, "/v1/auth/password", protocol.ChangePassword{OldPassword: "correct horse", NewPassword: "battery staple"}, nil)
		},
		"device": func(h *client.HTTP) error {
			return h.Do(t.Context(), http.MethodDelete, "/v1/auth/devices/phone", nil, nil)
		},
		"logout, and the kick is lost": func(h *client.HTTP) error {
			s.Redis.Flush() // nobody knows where the session is
			return h.Do(t.Context(), http.MethodPost, "/v1/auth/logout", nil, nil)
		},
	} {
		handle := "u" + fmt.Sprint(len(name))
		tokens, err := open.Register(t.Context(), protocol.Register{Handle: handle + "x", Password: "correct horse", Device: "phone"})
		if err != nil {
			t.Fatal(err)
		}
		c := client.New(client.Options{Socket: two.socket, Device: "phone", Platform: "test",
			Token: func(context.Context) (string, error) { return tokens.AccessToken, nil }})
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- c.Run(ctx) }()
		devtest.Eventually(t, "the phone has connected", c.Connected)
		start := time.Now()
		if err := revoke(&client.HTTP{Base: one.http, Token: func() string { return "Bearer " + tokens.AccessToken }}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		select {
		case err := <-done: // the client does not come back with that token
			wantClose(t, name, err, protocol.CloseUnauthenticated)
		case <-time.After(time.Minute):
			t.Errorf("%s: the socket stays", name)
		}
		if took := time.Since(start); took > soon {
			t.Errorf("%s: closed after %s", name, took)
		}
		cancel()
	}
}

func wantClose(t *testing.T, what string, err error, code protocol.CloseCode) {
	t.Helper()
	if c, ok := err.(*client.CloseError); !ok || c.Code != code {
		t.Errorf("%s: ended with %v, want close code %d", what, err, code)
	}
}

// forge signs changed claims of a good token with the engine's own key.
func (e *engine) forge(t *testing.T, token string, change func(jwt.MapClaims)) string {
	t.Helper()
	keys, err := logic.LoadSigningKeys(e.cfg.Logic.Auth.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(token, claims); err != nil {
		t.Fatal(err)
	}
	change(claims)
	forged := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	forged.Header["kid"] = keys[0].ID
	signed, err := forged.SignedString(keys[0].Secret)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestAccounts_ExpiryClosesTheSocketUnlessRefreshed(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, _, _ := e.pair(t)
	const life = 4 * time.Second
	end := time.Now().Add(life)
	short := func(device im.DeviceID) string {
		return e.forge(t, ada.issue(device).AccessToken, func(c jwt.MapClaims) { c["exp"] = end.Unix() })
	}
	left, stays := dialWire(t, ada.socket), dialWire(t, ada.socket)
	if a := left.ask("1", protocol.CmdConnect, protocol.Connect{Token: short("left"), Device: "left"}); a.Error != nil {
		t.Fatal(a.Error)
	}
	renewed := ada.issue("stays").AccessToken
	if a := stays.ask("1", protocol.CmdConnect, protocol.Connect{
		Token: e.forge(t, renewed, func(c jwt.MapClaims) { c["exp"] = end.Unix() }), Device: "stays",
	}); a.Error != nil {
		t.Fatal(a.Error)
	}
	if a := stays.ask("2", protocol.CmdRefresh, protocol.Refresh{Token: renewed}); a.Error != nil {
		t.Fatal(a.Error)
	}
	if code, reason := left.ends(); code != protocol.CloseUnauthenticated || reason != "token_expired" {
		t.Errorf("closed with %d %s", code, reason)
	}
	if early := time.Until(end.Truncate(time.Second)); early > 0 {
		t.Errorf("closed %s before its end", early)
	}
	if late := time.Since(end); late > soon {
		t.Errorf("closed %s after its end", late)
	}
	stays.alive("the end of the token that was refreshed")
}

// The newer session of the same device wins, on the same node and on another; the
// older one's end takes nothing from it.
func TestSessions_NewerOneOfADeviceWins(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	one, two := startEngine(t, s), startEngine(t, s)
	ada, bob, conv := one.pair(t)
	sender := bob.connect("phone")
	first := ada.connect("phone")
	for i, node := range []*engine{one, two, one} {
		ada.socket = node.socket
		second := ada.connect("phone")
		select {
		case err := <-first.done:
			wantClose(t, "the older session", err, protocol.CloseReplaced)
			first.done <- err
		case <-time.After(time.Minute):
			t.Fatal("the older session stays")
		}
		sender.say(ada, fmt.Sprint("to the newer one ", i))
		devtest.Eventually(t, "the newer session gets what comes", func() bool {
			got := second.texts(conv)
			return len(got) > 0 && got[len(got)-1] == fmt.Sprint("to the newer one ", i)
		})
		first = second
	}
}

func TestBlocks_BlockedSenderIsRefused(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	phone, his := ada.connect("phone"), bob.connect("phone")
	phone.say(bob, "before")
	block := func(method string) {
		t.Helper()
		if err := bob.http.Do(t.Context(), method, "/v1/blocks/"+ada.id.String(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	block(http.MethodPut)
	devtest.Eventually(t, "Ada is refused by HTTP", func() bool { // within 2 s, by contract
		_, err := ada.http.Send(t.Context(), textTo(bob.id, "by HTTP"), false)
		return client.IsCode(err, "blocked")
	})
	var sent protocol.Sent
	want(t, "blocked", phone.Do(t.Context(), protocol.CmdSend, textTo(bob.id, "refused"), &sent))
	his.say(ada, "I can still write")
	block(http.MethodDelete)
	devtest.Eventually(t, "Ada is heard again", func() bool {
		_, err := ada.http.Send(t.Context(), textTo(bob.id, "after"), true)
		return err == nil
	})
	for _, m := range bob.history(conv) {
		if textOf(m) == "refused" {
			t.Error("what was refused is there")
		}
	}
	// Whoever was told `accepted` before the block took hold is in the history, too.
	ms := bob.history(conv)
	if textOf(ms[0]) != "before" || textOf(ms[len(ms)-1]) != "after" {
		t.Errorf("the history is %+v", ms)
	}
}

// A backend brings its users, issues their tokens, and speaks: as the system, which is
// unread to nobody, and for somebody who is away, to whom it is neither read nor unread.
func TestServerKey_UsersTokensMessages(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	server := serverAPI(e.http)

	renamed, err := server.UpsertUsers(t.Context(), []protocol.ServerUser{
		{ExternalID: "ext-ada", Handle: "ada", Nickname: "Ada Lovelace"}, {ExternalID: "ext-new", Nickname: "New"},
	})
	if err != nil || renamed.Users[0].ID != ada.id || renamed.Users[0].Nickname != "Ada Lovelace" || renamed.Users[1].ID == bob.id {
		t.Fatalf("%+v, %v", renamed, err)
	}
	_, err = server.UpsertUsers(t.Context(), []protocol.ServerUser{{ExternalID: "ext-thief", Handle: "bob"}})
	want(t, "conflict", err)
	_, err = server.IssueTokens(t.Context(), protocol.IssueTokens{ExternalID: "ext-nobody", Device: "x"})
	want(t, "not_found", err)
	bad := client.ServerKey(e.http, devtest.ServerKeyID, strings.Repeat("x", len(devtest.ServerKeySecret)))
	_, err = bad.UpsertUsers(t.Context(), []protocol.ServerUser{{ExternalID: "x"}})
	want(t, "unauthenticated", err)
	_, err = ada.http.UpsertUsers(t.Context(), []protocol.ServerUser{{ExternalID: "x"}}) // a user's token is no server's key
	want(t, "unauthenticated", err)

	his := bob.connect("phone")
	phone := ada.connect("phone")
	phone.say(bob, "hello, Bob") // by the new name
	behalf := protocol.ServerSend{Send: textTo(bob.id, "on her behalf"), From: &ada.id}
	if res, err := server.ServerSend(t.Context(), behalf, true); err != nil || res.Seq != 2 || res.ConversationID != conv {
		t.Fatalf("on behalf: %+v, %v", res, err)
	}
	if res, err := server.ServerSend(t.Context(), behalf, true); err != nil || res.Seq != 2 {
		t.Errorf("again: %+v, %v", res, err)
	}
	devtest.Eventually(t, "Bob has both, and Ada's phone what was said for her", func() bool {
		return len(his.texts(conv)) == 2 && len(phone.texts(conv)) == 1
	})
	if m := his.got[conv][1]; m.Sender.ID != ada.id || m.Sender.Nickname != "Ada Lovelace" {
		t.Errorf("Bob sees it from %+v", m.Sender)
	}
	devtest.Eventually(t, "both are unread to Bob; Ada has read hers, and the other is not counted", func() bool {
		b, a := bob.row(conv), ada.row(conv)
		return b.Unread == 2 && a.Unread == 0 && a.ReadSeq == 1 && a.LastSeq == 2
	})

	system := im.DirectConversation(im.SystemUser, bob.id)
	note := protocol.ServerSend{Send: protocol.Send{
		ClientMsgID: client.NewClientMsgID(), To: client.ToUser(bob.id), Type: im.TypeSystem,
		Content: json.RawMessage(`{"text":"maintenance tonight"}`),
	}}
	if res, err := server.ServerSend(t.Context(), note, true); err != nil || res.ConversationID != system || res.Seq != 1 {
		t.Fatalf("as the system: %+v, %v", res, err)
	}
	devtest.Eventually(t, "Bob is shown it", func() bool { return len(his.texts(system)) == 1 })
	devtest.Eventually(t, "it is on top of his list, and unread to nobody", func() bool {
		rows := bob.list()
		return len(rows) == 2 && rows[0].ConversationID == system && rows[0].Unread == 0 && rows[1].Unread == 2
	})
	var sent protocol.Sent
	forged := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(bob.id), Type: im.TypeSystem, Content: note.Content}
	want(t, "invalid_request", phone.Do(t.Context(), protocol.CmdSend, forged, &sent)) // no user speaks as the system
	_, err = bob.http.Send(t.Context(), protocol.Send{
		ClientMsgID: client.NewClientMsgID(), To: protocol.To{ConversationID: system}, Content: note.Content}, false)
	want(t, "forbidden", err)
}
