package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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
	usedAt  time.Time
	revoked bool
	push    im.PushTarget
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
		case row.used == old && row.RefreshHash != [32]byte{} && r.now.Sub(row.usedAt) < time.Minute:
			row.RefreshHash, row.RefreshExpires = next, expires
			return row.Login, r.state(key), nil
		case row.used == old:
			row.version++
			row.RefreshHash = [32]byte{}
		case row.RefreshHash == old && row.RefreshExpires > r.now.UnixMilli():
			row.used, row.usedAt, row.RefreshHash, row.RefreshExpires = old, r.now, next, expires
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

func (r *registry) SetPushToken(_ context.Context, t im.PushTarget) error {
	unlock, err := r.lock()
	defer unlock()
	row := r.devices[stateKey{t.User, t.Device}]
	if err == nil && (row == nil || row.revoked) {
		return im.ErrNotFound
	}
	if err == nil {
		row.push = t
	}
	return err
}

func (r *registry) ClearPushToken(_ context.Context, u im.UserID, d im.DeviceID) error {
	unlock, err := r.lock()
	defer unlock()
	if row := r.devices[stateKey{u, d}]; row != nil && err == nil {
		row.push = im.PushTarget{}
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

// The secrets of the two server keys.
const (
	appSecret  = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERIT"
	app2Secret = "FBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAx"
)

func newTestAuth(t testing.TB, r *registry, change ...func(*AuthConfig, *AuthDeps)) *Auth {
	t.Helper()
	cfg := AuthConfig{KeysFile: filepath.Join(t.TempDir(), "keys"), GenerateKeys: true,
		ServerKeys: []ServerKey{{"app", appSecret}, {"app2", app2Secret}}}
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
