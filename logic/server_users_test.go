package logic

import (
	"errors"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestAuth_ServerKeys(t *testing.T) {
	a := newTestAuth(t, newRegistry())
	for name, c := range map[string]struct {
		id, secret string
		want       error
	}{
		"right":         {"app", appSecret, nil},
		"the other":     {"app2", app2Secret, nil},
		"another's":     {"app", app2Secret, im.ErrUnauthenticated},
		"unknown":       {"nobody", appSecret, im.ErrUnauthenticated},
		"empty":         {"", "", im.ErrUnauthenticated},
		"unknown empty": {"nobody", "", im.ErrUnauthenticated},
	} {
		mustBe(t, name, a.VerifyServerKey(c.id, c.secret), c.want)
	}
}

func TestAuth_BackendsBringUsers(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	got, err := a.UpsertUsers(t.Context(), []protocol.ServerUser{
		{ExternalID: "auth0|17", Handle: "Zoë", Nickname: "Zoë"},
	})
	if l := new(im.InvalidError); !errors.As(err, &l) || l.Field != "handle" {
		t.Fatalf("handle outside the alphabet: %v, %v", got, err)
	}
	got, err = a.UpsertUsers(t.Context(), []protocol.ServerUser{
		{ExternalID: "auth0|17", Nickname: " Zoë ", Avatar: "https://a.example/1.png"}, {ExternalID: "18", Handle: "Yan"}})
	if err != nil || len(got) != 2 || got[0].Nickname != "Zoë" || got[1].Nickname != "yan" || len(got[0].Handle) != 25 {
		t.Fatalf("upserted %+v, %v", got, err)
	}
	tk, err := a.IssueTokens(t.Context(), protocol.IssueTokens{ExternalID: "18", Device: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	if id := verified(t, a, tk.AccessToken); id.User != got[1].ID || id.Device != "d1" {
		t.Errorf("identity %+v", id)
	}
	if _, err := a.Refresh(t.Context(), tk.RefreshToken); err != nil {
		t.Errorf("refresh: %v", err)
	}
	stranger, known := im.UserID(99), got[0].ID
	for name, c := range map[string]struct {
		req  protocol.IssueTokens
		want string
	}{
		"unknown user":        {protocol.IssueTokens{UserID: &stranger, Device: "d"}, "not_found"},
		"unknown external ID": {protocol.IssueTokens{ExternalID: "19", Device: "d"}, "not_found"},
		"both":                {protocol.IssueTokens{UserID: &known, ExternalID: "18", Device: "d"}, "invalid_request"},
		"neither":             {protocol.IssueTokens{Device: "d"}, "invalid_request"},
		"no device":           {protocol.IssueTokens{UserID: &known}, "invalid_request"},
		"platform":            {protocol.IssueTokens{UserID: &known, Device: "d", Platform: "a b"}, "invalid_request"},
	} {
		_, err := a.IssueTokens(t.Context(), c.req)
		if code := protocol.CodeOf(err).Name; code != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.accounts["yan"].Active = false
	_, err = a.IssueTokens(t.Context(), protocol.IssueTokens{ExternalID: "18", Device: "d1"})
	mustBe(t, "banned", err, im.ErrForbidden)
	for name, users := range map[string][]protocol.ServerUser{
		"none":           {},
		"too many":       make([]protocol.ServerUser, 501),
		"no external ID": {{Handle: "xena"}},
		"braces":         {{ExternalID: "{1}"}},
		"line end":       {{ExternalID: "1\r\n"}},
		"ID twice":       {{ExternalID: "1", Handle: "xena"}, {ExternalID: "1", Handle: "xeno"}},
		"handle twice":   {{ExternalID: "1", Handle: "xena"}, {ExternalID: "2", Handle: "XENA"}},
		"avatar":         {{ExternalID: "1", Handle: "xena", Avatar: "javascript:alert(1)"}},
	} {
		if _, err := a.UpsertUsers(t.Context(), users); protocol.CodeOf(err).Name != "invalid_request" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuth_Profiles(t *testing.T) {
	r := newRegistry()
	words := testWords(t, "testdata/words.txt")
	a := newTestAuth(t, r, func(c *AuthConfig, d *AuthDeps) { d.Names, c.LookupPerMinute = Chain{words}, 3 })
	ann, bob := register(t, a, "ann", "phone"), register(t, a, "bob", "phone")
	id := verified(t, a, ann.AccessToken)
	nick, avatar := "Ann fuck Lee", "https://a.example/ann.png"
	me, err := a.UpdateProfile(t.Context(), id, protocol.UpdateProfile{Nickname: &nick, Avatar: &avatar})
	if err != nil || me.Nickname != "Ann **** Lee" || me.Avatar != avatar || me.MessagePolicy != im.MessagesFromEveryone {
		t.Errorf("updated %+v, %v", me, err)
	}
	policy, other := im.MessagesFromContacts, im.MessagePolicy("nobody")
	me, err = a.UpdateProfile(t.Context(), id, protocol.UpdateProfile{MessagePolicy: &policy})
	if err != nil || me.MessagePolicy != policy || me.Nickname != "Ann **** Lee" {
		t.Errorf("policy set %+v, %v", me, err)
	}
	_, err = a.UpdateProfile(t.Context(), id, protocol.UpdateProfile{MessagePolicy: &other, Nickname: &avatar})
	if e := protocol.NewError(err); e.Code != "invalid_request" || !strings.HasPrefix(e.Message, "message_policy") {
		t.Errorf("another policy: %v", err)
	}
	if again, err := a.Me(t.Context(), id); err != nil || again != me {
		t.Errorf("me %+v, %v, want %+v", again, err, me)
	}
	bad := "法轮功"
	_, err = a.UpdateProfile(t.Context(), id, protocol.UpdateProfile{Nickname: &bad})
	mustBe(t, "refused word", err, im.ErrContentRefused)
	if p, err := a.FindByHandle(t.Context(), id, "BOB"); err != nil || p.ID != bob.User.ID {
		t.Errorf("found %+v, %v", p, err)
	}
	for _, h := range []string{"bo", "bobby"} {
		_, err = a.FindByHandle(t.Context(), id, h)
		mustBe(t, h, err, im.ErrNotFound)
	}
	_, err = a.FindByHandle(t.Context(), id, "bob")
	if l := new(im.LimitError); !errors.As(err, &l) || l.Limit != "lookup" {
		t.Errorf("fourth search: %v", err)
	}
}
