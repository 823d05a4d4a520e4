package logic

import (
	"errors"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestSetPush_IsOfTheDeviceThatAsks(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	who := verified(t, a, register(t, a, "ann", "phone").AccessToken)
	if err := a.SetPush(t.Context(), who, protocol.SetPush{Provider: "fcm", Token: "dGlkZQ:APA91b"}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.devices[stateKey{who.User, "phone"}].push, (im.PushTarget{User: who.User, Device: "phone", Provider: "fcm", Token: "dGlkZQ:APA91b"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := a.ClearPush(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if got := r.devices[stateKey{who.User, "phone"}].push; got != (im.PushTarget{}) {
		t.Errorf("cleared: %+v", got)
	}
	mustBe(t, "again", a.ClearPush(t.Context(), who), nil)
	if err := a.Logout(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "after the logout", a.SetPush(t.Context(), who, protocol.SetPush{Provider: "fcm", Token: "x"}), im.ErrNotFound)
}

func TestSetPush_RefusesWhatIsNoToken(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	who := verified(t, a, register(t, a, "ann", "phone").AccessToken)
	for _, c := range []struct{ provider, token, field string }{
		{"", "x", "provider"}, {"FCM", "x", "provider"}, {"f cm", "x", "provider"}, {strings.Repeat("p", 33), "x", "provider"}, {"fçm", "x", "provider"},
		{"fcm", "", "token"}, {"fcm", "a b", "token"}, {"fcm", "a\r\nX: y", "token"}, {"fcm", "é", "token"}, {"fcm", strings.Repeat("t", 513), "token"},
	} {
		err := a.SetPush(t.Context(), who, protocol.SetPush{Provider: c.provider, Token: c.token})
		var invalid *im.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != c.field {
			t.Errorf("%q %q: %v", c.provider, c.token, err)
		}
	}
}
