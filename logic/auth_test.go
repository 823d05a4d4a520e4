package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestAuth_RegisterLoginVerify(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	tk := register(t, a, "Ann.Lee", "phone")
	if tk.User.Handle != "ann.lee" || tk.User.Nickname != "ann.lee" || tk.ExpiresAt != r.now.Add(time.Hour).UnixMilli() {
		t.Errorf("registered %+v", tk)
	}
	want := im.Identity{User: tk.User.ID, Device: "phone", Platform: "web", ExpiresAt: tk.ExpiresAt, DeviceVersion: 1}
	if id := verified(t, a, tk.AccessToken); id != want {
		t.Errorf("identity %+v, want %+v", id, want)
	}
	again, err := a.Login(t.Context(), protocol.Login{Handle: "ＡＮＮ.lee", Password: secret, Device: "desk"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if id := verified(t, a, again.AccessToken); id.Device != "desk" || id.User != tk.User.ID {
		t.Errorf("identity %+v", id)
	}
	_, err = a.Register(t.Context(), protocol.Register{Handle: "ANN.LEE", Password: secret, Device: "phone"}, "192.0.2.1")
	mustBe(t, "case twin", err, im.ErrConflict)
	for _, stored := range r.accounts {
		if strings.Contains(stored.PasswordHash, secret) || !strings.HasPrefix(stored.PasswordHash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("stored as %s", stored.PasswordHash)
		}
	}
}

func TestAuth_LoginRefusesAllAlike(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r, func(c *AuthConfig, _ *AuthDeps) { c.LoginPerMinute, c.RegisterPerMinute = -1, -1 })
	register(t, a, "ann", "phone")
	register(t, a, "banned", "phone")
	r.accounts["banned"].Active = false
	if _, err := a.UpsertUsers(t.Context(), []protocol.ServerUser{{ExternalID: "1", Handle: "nopassword"}}); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]protocol.Login{
		"wrong password":           {Handle: "ann", Password: "wrong horse"},
		"unknown handle":           {Handle: "nobody", Password: secret},
		"what cannot be a handle":  {Handle: "\u202Eann", Password: secret},
		"banned":                   {Handle: "banned", Password: secret},
		"no password, empty":       {Handle: "nopassword"},
		"no password, the dummy's": {Handle: "nopassword", Password: "nobody's password"},
		"NUL":                      {Handle: "ann", Password: secret + "\x00"},
		"too long":                 {Handle: "ann", Password: strings.Repeat("x", 100_000)},
	} {
		l.Device = "phone"
		_, err := a.Login(t.Context(), l, "192.0.2.1")
		if err != im.ErrUnauthenticated { //nolint:errorlint // nothing may be wrapped around it
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuth_LimitsCountPerAccountAndPerAddress(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r, func(c *AuthConfig, _ *AuthDeps) { c.LoginPerMinute = 3 })
	register(t, a, "ann", "phone")
	register(t, a, "bob", "phone")
	try := func(handle, password, ip string) error {
		_, err := a.Login(t.Context(), protocol.Login{Handle: handle, Password: password, Device: "phone"}, ip)
		return err
	}
	limited := func(err error) bool {
		var l *im.LimitError
		return errors.As(err, &l) && l.Limit == "login" && l.RetryAfter >= time.Second
	}
	for i := range 3 {
		mustBe(t, "within", try("ann", "wrong horse", fmt.Sprint("192.0.2.", i)), im.ErrUnauthenticated)
	}
	if err := try("ann", "wrong horse", "192.0.2.9"); !limited(err) {
		t.Errorf("account: %v", err)
	}
	if err := try("ann", secret, "192.0.2.10"); !limited(err) {
		t.Errorf("right password in lockout: %v", err)
	}
	if err := try("bob", secret, "192.0.2.11"); err != nil {
		t.Errorf("another account: %v", err)
	}
	for _, h := range []string{"c01", "c02", "c03"} {
		mustBe(t, h, try(h, secret, "2001:db8::1"), im.ErrUnauthenticated)
	}
	if err := try("c04", secret, "2001:db8::ffff"); !limited(err) {
		t.Errorf("same /64: %v", err)
	}
	mustBe(t, "another /64", try("c04", secret, "2001:db8:0:1::1"), im.ErrUnauthenticated)
	r.limited = im.ErrCache // each process limits by itself
	for range 3 {
		mustBe(t, "without Redis, within", try("c05", secret, "192.0.2.77"), im.ErrUnauthenticated)
	}
	if err := try("c06", secret, "192.0.2.77"); !limited(err) {
		t.Errorf("without Redis, address: %v", err)
	}
	r.advance(time.Minute)
	mustBe(t, "a minute later", try("c06", secret, "192.0.2.77"), im.ErrUnauthenticated)
}

func TestAuth_RegistrationIsLimitedPerAddress(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r, func(c *AuthConfig, _ *AuthDeps) { c.RegisterPerMinute = 2 })
	register(t, a, "ann", "phone")
	register(t, a, "bob", "phone")
	_, err := a.Register(t.Context(), protocol.Register{Handle: "eve", Password: secret, Device: "d"}, "192.0.2.1")
	if l := new(im.LimitError); !errors.As(err, &l) || l.Limit != "register" {
		t.Errorf("third: %v", err)
	}
	if _, err = a.Register(t.Context(), protocol.Register{Handle: "eve", Password: secret, Device: "d"}, "192.0.2.2"); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
}

func TestAuth_RefreshIsGoodOnceAndTheftEndsTheDevice(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	first := register(t, a, "ann", "phone")
	r.advance(30 * time.Minute)
	second, err := a.Refresh(t.Context(), first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.User != first.User || second.Device != "phone" || second.RefreshToken == first.RefreshToken || second.ExpiresAt <= first.ExpiresAt {
		t.Errorf("second %+v", second)
	}
	verified(t, a, second.AccessToken)
	r.advance(59 * time.Second)
	if second, err = a.Refresh(t.Context(), first.RefreshToken); err != nil {
		t.Fatal("the answer was lost:", err)
	}
	verified(t, a, second.AccessToken)
	r.advance(time.Second)
	_, err = a.Refresh(t.Context(), first.RefreshToken)
	mustBe(t, "used again", err, im.ErrUnauthenticated)
	_, err = a.Refresh(t.Context(), second.RefreshToken)
	mustBe(t, "the thief's or the owner's next", err, im.ErrUnauthenticated)
	r.advance(6 * time.Second)
	_, err = a.Verify(t.Context(), second.AccessToken)
	mustBe(t, "access token of the ended device", err, im.ErrUnauthenticated)
	for name, token := range map[string]string{
		"access as refresh": second.AccessToken, "empty": "", "short": "abc", "with line end": second.RefreshToken[:42] + "\n",
		"unknown": strings.Repeat("A", 43), "loose bits": strings.Repeat("A", 42) + "B",
	} {
		_, err := a.Refresh(t.Context(), token)
		mustBe(t, name, err, im.ErrUnauthenticated)
	}
	_, err = a.Verify(t.Context(), second.RefreshToken)
	mustBe(t, "refresh as access", err, im.ErrUnauthenticated)
}

func TestAuth_LogoutTakesEffectHereAtOnceAndElsewhereWithin5s(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	b := newTestAuth(t, r, func(c *AuthConfig, _ *AuthDeps) { c.KeysFile, c.GenerateKeys = a.cfg.KeysFile, false })
	phone, desk := register(t, a, "ann", "phone"), protocol.Tokens{}
	desk, err := a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret, Device: "desk"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	id := verified(t, b, phone.AccessToken)
	if err := a.Logout(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	_, err = a.Verify(t.Context(), phone.AccessToken)
	mustBe(t, "here", err, im.ErrUnauthenticated)
	r.advance(stateFresh + time.Millisecond)
	_, err = b.Verify(t.Context(), phone.AccessToken)
	mustBe(t, "elsewhere", err, im.ErrUnauthenticated)
	mustBe(t, "recheck of a live session", b.Recheck(t.Context(), id, stateFresh), im.ErrUnauthenticated)
	verified(t, b, desk.AccessToken)
	if fmt.Sprint(r.kicked) != "[1/phone]" {
		t.Errorf("kicked %v", r.kicked)
	}
	mustBe(t, "again", a.Logout(t.Context(), id), im.ErrNotFound)
	back, err := a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret, Device: "phone"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	verified(t, b, back.AccessToken) // b's copy says revoked; the token is newer
	_, err = b.Verify(t.Context(), phone.AccessToken)
	mustBe(t, "the old token after a new login", err, im.ErrUnauthenticated)
}

// meanwhile does something between the comparing of a password and the login's end.
type meanwhile struct {
	*registry
	do func()
}

func (m meanwhile) SaveLogin(ctx context.Context, l im.Login) (im.AuthState, error) {
	m.do()
	return m.registry.SaveLogin(ctx, l)
}

func TestAuth_PasswordChangeEndsLoginsUnderWay(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	register(t, a, "ann", "phone")
	late := newTestAuth(t, r, func(c *AuthConfig, d *AuthDeps) {
		c.KeysFile, c.GenerateKeys = a.cfg.KeysFile, false
		d.Accounts = meanwhile{r, func() { _ = r.SetPassword(t.Context(), 1, "another") }}
	})
	_, err := late.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret, Device: "thief"}, "192.0.2.1")
	mustBe(t, "a login by the old password", err, im.ErrUnauthenticated)
}

func TestAuth_PasswordChangeEndsEverything(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	tk := register(t, a, "ann", "phone")
	id := verified(t, a, tk.AccessToken)
	change := func(old, next string) error {
		return a.ChangePassword(t.Context(), id, protocol.ChangePassword{OldPassword: old, NewPassword: next})
	}
	mustBe(t, "wrong old password", change("wrong horse", "battery staple"), im.ErrForbidden)
	var invalid *im.InvalidError
	if err := change(secret, "short"); !errors.As(err, &invalid) || invalid.Field != "new_password" {
		t.Errorf("short: %v", err)
	}
	if err := change(secret, "battery staple"); err != nil {
		t.Fatal(err)
	}
	_, err := a.Verify(t.Context(), tk.AccessToken)
	mustBe(t, "old token", err, im.ErrUnauthenticated)
	if fmt.Sprint(r.kicked) != "[1/]" {
		t.Errorf("kicked %v", r.kicked)
	}
	_, err = a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret, Device: "phone"}, "192.0.2.1")
	mustBe(t, "old password", err, im.ErrUnauthenticated)
	next, err := a.Login(t.Context(), protocol.Login{Handle: "ann", Password: "battery staple", Device: "phone"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	verified(t, a, next.AccessToken)
}

func TestNewAuth_RefusesToStart(t *testing.T) {
	r := newRegistry()
	deps := AuthDeps{Accounts: r, Profiles: r, Limits: r, Clock: r.clock, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cfg  AuthConfig
		want string
	}{
		"no keys file":      {AuthConfig{}, "logic.auth.keys_file"},
		"missing keys file": {AuthConfig{KeysFile: filepath.Join(dir, "none")}, "signing keys"},
		"short server key":  {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a", appSecret[:31]}}}, "logic.auth.server_keys[0].secret"},
		"typed server key":  {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a", strings.Repeat("x", 64)}}}, "logic.auth.server_keys[0].secret"},
		"server key twice":  {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a", appSecret}, {"a", app2Secret}}}, "logic.auth.server_keys[1].id"},
		"server key ID":     {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a b", appSecret}}}, "logic.auth.server_keys[0].id"},
		"access TTL":        {AuthConfig{KeysFile: "k", AccessTTL: time.Second}, "logic.auth.access_ttl"},
		"refresh TTL":       {AuthConfig{KeysFile: "k", AccessTTL: time.Hour, RefreshTTL: time.Minute}, "logic.auth.refresh_ttl"},
	} {
		if _, err := NewAuth(c.cfg, deps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
