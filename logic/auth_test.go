package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// registry is Accounts, Profiles, Limits and Kicker in memory. down makes the stores
// answer as if they were away.
type registry struct {
	Accounts // what is not below is not called

	mu       sync.Mutex // guards what follows
	now      time.Time
	down     error
	limited  error // of Limits alone
	asked    int   // how often AuthState was
	accounts map[string]*im.Account
	external map[string]im.UserID
	versions map[im.UserID]uint32
	devices  map[stateKey]*deviceRow
	policies map[im.UserID]im.MessagePolicy
	taken    map[string]int
	kicked   []string
}

type deviceRow struct {
	im.Login
	version uint32
	used    [32]byte
	revoked bool
}

func (r *registry) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *registry) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *registry) setDown(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = err
}

func (r *registry) lock() (unlock func(), err error) {
	r.mu.Lock()
	return r.mu.Unlock, r.down
}

func (r *registry) CreateUser(_ context.Context, u im.NewUser) (im.Profile, error) {
	unlock, err := r.lock()
	defer unlock()
	if err != nil {
		return im.Profile{}, err
	}
	if r.accounts[u.Handle] != nil {
		return im.Profile{}, im.ErrConflict
	}
	p := im.Profile{ID: im.UserID(len(r.accounts) + 1), Handle: u.Handle, Nickname: u.Nickname, Avatar: u.Avatar}
	r.accounts[u.Handle] = &im.Account{Profile: p, PasswordHash: u.PasswordHash, Active: true}
	return p, nil
}

func (r *registry) UpsertExternal(ctx context.Context, users []im.ExternalUser) (all []im.Profile, err error) {
	for _, u := range users {
		p, err := r.CreateUser(ctx, im.NewUser{Handle: u.Handle, Nickname: u.Nickname, Avatar: u.Avatar})
		if err != nil {
			return nil, err
		}
		r.external[u.ExternalID] = p.ID
		all = append(all, p)
	}
	return all, nil
}

func (r *registry) AccountByHandle(_ context.Context, handle string) (im.Account, error) {
	unlock, err := r.lock()
	defer unlock()
	if err != nil {
		return im.Account{}, err
	}
	if a := r.accounts[handle]; a != nil {
		return *a, nil
	}
	return im.Account{}, im.ErrNotFound
}

func (r *registry) UserByExternalID(_ context.Context, id string) (im.UserID, error) {
	if u, ok := r.external[id]; ok {
		return u, nil
	}
	return 0, im.ErrNotFound
}

func (r *registry) UserByHandle(ctx context.Context, handle string) (im.UserID, error) {
	a, err := r.AccountByHandle(ctx, handle)
	return a.ID, err
}

func (r *registry) Profiles(_ context.Context, users []im.UserID) (map[im.UserID]im.Profile, error) {
	unlock, err := r.lock()
	defer unlock()
	all := map[im.UserID]im.Profile{}
	for _, u := range users {
		if a := r.byID(u); a != nil {
			all[u] = a.Profile
		}
	}
	return all, err
}

func (r *registry) byID(u im.UserID) *im.Account {
	for _, a := range r.accounts {
		if a.ID == u {
			return a
		}
	}
	return nil
}

func (r *registry) UpdateProfile(_ context.Context, u im.UserID, nickname, avatar *string) (im.Profile, error) {
	unlock, err := r.lock()
	defer unlock()
	a := r.byID(u)
	if nickname != nil {
		a.Nickname = *nickname
	}
	if avatar != nil {
		a.Avatar = *avatar
	}
	return a.Profile, err
}

func (r *registry) SetPassword(_ context.Context, u im.UserID, hash string) error {
	unlock, err := r.lock()
	defer unlock()
	if err == nil {
		r.byID(u).PasswordHash = hash
		r.versions[u]++
	}
	return err
}

func (r *registry) SaveLogin(_ context.Context, l im.Login) (im.AuthState, error) {
	unlock, err := r.lock()
	defer unlock()
	if err != nil {
		return im.AuthState{}, err
	}
	key := stateKey{l.User, l.Device}
	row := r.devices[key]
	if row == nil {
		row = &deviceRow{version: 1}
		r.devices[key] = row
	}
	if l.PasswordHash != "" && r.byID(l.User).PasswordHash != l.PasswordHash {
		return im.AuthState{}, im.ErrUnauthenticated
	}
	row.Login, row.revoked = l, false
	return r.state(key), nil
}

func (r *registry) state(key stateKey) im.AuthState {
	s := im.AuthState{TokenVersion: r.versions[key.user]}
	if a := r.byID(key.user); a != nil {
		s.Active = a.Active
	}
	if row := r.devices[key]; row != nil {
		s.DeviceKnown, s.DeviceVersion = true, row.version
	}
	return s
}

func (r *registry) AuthState(_ context.Context, u im.UserID, d im.DeviceID) (im.AuthState, error) {
	unlock, err := r.lock()
	defer unlock()
	r.asked++
	return r.state(stateKey{u, d}), err
}

func (r *registry) RotateRefresh(_ context.Context, old, next [32]byte, expires int64) (im.Login, im.AuthState, error) {
	unlock, err := r.lock()
	defer unlock()
	if err != nil {
		return im.Login{}, im.AuthState{}, err
	}
	for key, row := range r.devices {
		switch {
		case row.used == old:
			row.version++
			row.RefreshHash = [32]byte{}
		case row.RefreshHash == old && row.RefreshExpires > r.now.UnixMilli():
			row.used, row.RefreshHash, row.RefreshExpires = old, next, expires
			return row.Login, r.state(key), nil
		}
	}
	return im.Login{}, im.AuthState{}, im.ErrUnauthenticated
}

func (r *registry) RevokeDevice(_ context.Context, u im.UserID, d im.DeviceID) error {
	unlock, err := r.lock()
	defer unlock()
	row := r.devices[stateKey{u, d}]
	if err == nil && (row == nil || row.revoked) {
		return im.ErrNotFound
	}
	if err == nil {
		row.version++
		row.revoked, row.RefreshHash = true, [32]byte{}
	}
	return err
}

func (r *registry) Devices(_ context.Context, u im.UserID) (all []im.Device, err error) {
	unlock, err := r.lock()
	defer unlock()
	for key, row := range r.devices {
		if key.user == u && !row.revoked {
			all = append(all, im.Device{ID: key.device, Platform: row.Platform})
		}
	}
	return all, err
}

func (r *registry) MessagePolicy(_ context.Context, u im.UserID) (im.MessagePolicy, error) {
	unlock, err := r.lock()
	defer unlock()
	if p, set := r.policies[u]; set {
		return p, err
	}
	return im.MessagesFromEveryone, err
}

func (r *registry) SetMessagePolicy(_ context.Context, u im.UserID, p im.MessagePolicy) error {
	unlock, err := r.lock()
	defer unlock()
	r.policies[u] = p
	return err
}

func (r *registry) Take(_ context.Context, bucket string, n int, _ float64, burst int) (int, time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limited != nil {
		return 0, 0, r.limited
	}
	if r.taken[bucket] >= burst {
		return 0, 3 * time.Second, nil
	}
	r.taken[bucket] += n
	return n, 0, nil
}

func (r *registry) Kick(_ context.Context, u im.UserID, d im.DeviceID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kicked = append(r.kicked, fmt.Sprint(u, "/", d))
	return nil
}

func newRegistry() *registry {
	return &registry{now: time.UnixMilli(1790000000000), accounts: map[string]*im.Account{}, external: map[string]im.UserID{},
		versions: map[im.UserID]uint32{}, devices: map[stateKey]*deviceRow{}, policies: map[im.UserID]im.MessagePolicy{}, taken: map[string]int{}}
}

func newTestAuth(t testing.TB, r *registry, change ...func(*AuthConfig, *AuthDeps)) *Auth {
	t.Helper()
	cfg := AuthConfig{KeysFile: filepath.Join(t.TempDir(), "keys"), GenerateKeys: true,
		ServerKeys: []ServerKey{{"app", strings.Repeat("s", 32)}, {"app2", strings.Repeat("t", 40)}}}
	deps := AuthDeps{Accounts: r, Profiles: r, Limits: r, Kick: r, Clock: r.clock,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	for _, c := range change {
		c(&cfg, &deps)
	}
	a, err := NewAuth(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const secret = "correct horse"

func register(t testing.TB, a *Auth, handle string, d im.DeviceID) protocol.Tokens {
	t.Helper()
	tk, err := a.Register(t.Context(), protocol.Register{Handle: handle, Password: secret, Device: d, Platform: "web"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func verified(t testing.TB, a *Auth, token string) im.Identity {
	t.Helper()
	id, err := a.Verify(t.Context(), token)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return id
}

func mustBe(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

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

func TestAuth_VerifyWhileTheStoreIsAway(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	tk := register(t, a, "ann", "phone")
	verified(t, a, tk.AccessToken)
	r.setDown(im.ErrStore)
	r.advance(59 * time.Second)
	verified(t, a, tk.AccessToken)
	r.advance(2 * time.Second)
	_, err := a.Verify(t.Context(), tk.AccessToken)
	mustBe(t, "copy too old", err, im.ErrStore)
	_, err = a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret, Device: "phone"}, "192.0.2.1")
	mustBe(t, "login", err, im.ErrStore)
	r.setDown(nil)
	r.advance(breakerPause)
	verified(t, a, tk.AccessToken)
}

// A database that hangs costs one question a second, and not each request its time.
func TestAuth_VerifyWhileTheStoreHangs(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	b := newTestAuth(t, r, func(c *AuthConfig, _ *AuthDeps) { c.KeysFile, c.GenerateKeys = a.cfg.KeysFile, false })
	tk := register(t, a, "ann", "phone")
	verified(t, b, tk.AccessToken)
	change := protocol.ChangePassword{OldPassword: secret, NewPassword: secret + "2"}
	if err := a.ChangePassword(t.Context(), verified(t, a, tk.AccessToken), change); err != nil {
		t.Fatal(err)
	}
	back, err := a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret + "2", Device: "phone"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	r.advance(stateFresh + time.Millisecond)
	r.setDown(context.DeadlineExceeded)
	asked := r.asked
	for range 10 {
		verified(t, a, back.AccessToken)
	}
	if r.asked != asked+1 {
		t.Errorf("asked %d times", r.asked-asked)
	}
	_, err = b.Verify(t.Context(), back.AccessToken) // b's copy is older than the token
	mustBe(t, "a token that this process cannot know", err, im.ErrStore)
}

func TestAuth_BannedAndDeletedUsersTokensEnd(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	ann, bob := register(t, a, "ann", "phone"), register(t, a, "bob", "phone")
	r.accounts["ann"].Active = false
	delete(r.accounts, "bob")
	r.advance(stateFresh + time.Millisecond)
	_, err := a.Verify(t.Context(), ann.AccessToken)
	mustBe(t, "banned", err, im.ErrUnauthenticated)
	_, err = a.Verify(t.Context(), bob.AccessToken)
	mustBe(t, "deleted", err, im.ErrUnauthenticated)
}

func TestAuth_OneQuestionForManyVerifications(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	tk := register(t, a, "ann", "phone")
	r.advance(stateFresh + time.Millisecond)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { verified(t, a, tk.AccessToken) })
	}
	wg.Wait()
	if r.asked < 1 || r.asked > 5 {
		t.Errorf("the store was asked %d times", r.asked)
	}
}

func TestAuth_ServerKeys(t *testing.T) {
	a := newTestAuth(t, newRegistry())
	for name, c := range map[string]struct {
		id, secret string
		want       error
	}{
		"right":         {"app", strings.Repeat("s", 32), nil},
		"the other":     {"app2", strings.Repeat("t", 40), nil},
		"another's":     {"app", strings.Repeat("t", 40), im.ErrUnauthenticated},
		"unknown":       {"nobody", strings.Repeat("s", 32), im.ErrUnauthenticated},
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
		"short server key":  {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a", strings.Repeat("x", 31)}}}, "logic.auth.server_keys[0].secret"},
		"server key twice":  {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a", strings.Repeat("x", 32)}, {"a", strings.Repeat("y", 32)}}}, "logic.auth.server_keys[1].id"},
		"server key ID":     {AuthConfig{KeysFile: "k", ServerKeys: []ServerKey{{"a b", strings.Repeat("x", 32)}}}, "logic.auth.server_keys[0].id"},
		"access TTL":        {AuthConfig{KeysFile: "k", AccessTTL: time.Second}, "logic.auth.access_ttl"},
		"refresh TTL":       {AuthConfig{KeysFile: "k", AccessTTL: time.Hour, RefreshTTL: time.Minute}, "logic.auth.refresh_ttl"},
	} {
		if _, err := NewAuth(c.cfg, deps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
