package logic

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Kicker tells every node to close connections of a user with 4401, all of them
// where device is empty. Best effort: the list of revocations is read each second.
type Kicker interface {
	Kick(ctx context.Context, user im.UserID, device im.DeviceID) error
}

// AuthDeps is what Auth is built from. Names and Kick may be nil: names are then not
// filtered, and a revoked session ends when the list of revocations is read next.
type AuthDeps struct {
	Accounts Accounts
	Profiles Profiles
	Limits   Limits
	Names    Filter // over nicknames
	Kick     Kicker
	Clock    func() time.Time
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Auth knows who somebody is: passwords, tokens, devices, profiles and the keys of
// backends. One Auth serves a whole process.
type Auth struct {
	cfg        AuthConfig
	accounts   Accounts
	profiles   Profiles
	names      Filter
	kick       Kicker
	clock      func() time.Time
	log        *slog.Logger
	limits     *limiter
	hasher     *hasher
	tokens     *tokens
	states     *authStates
	serverKeys map[string][sha256.Size]byte
	met        *authMetrics
}

// NewAuth reads the signing keys and refuses to start without good ones.
func NewAuth(cfg AuthConfig, d AuthDeps) (*Auth, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if d.Accounts == nil || d.Profiles == nil || d.Limits == nil || d.Clock == nil || d.Log == nil || d.Metrics == nil {
		return nil, errors.New("auth: Accounts, Profiles, Limits, Clock, Log and Metrics are needed")
	}
	if cfg.GenerateKeys {
		if err := generateKeysFile(cfg.KeysFile); err != nil {
			return nil, err
		}
	}
	tk, err := newTokens(cfg.KeysFile, d.Clock)
	if err != nil {
		return nil, err
	}
	a := &Auth{
		cfg: cfg, accounts: d.Accounts, profiles: d.Profiles, names: d.Names, kick: d.Kick,
		clock: d.Clock, log: d.Log, tokens: tk,
		met:        newAuthMetrics(d.Metrics),
		hasher:     newHasher(cfg.ConcurrentHashes, cfg.WaitingHashes),
		serverKeys: make(map[string][sha256.Size]byte, len(cfg.ServerKeys)),
	}
	a.limits = newLimiter(d.Limits, d.Clock)
	a.states = newAuthStates(cfg.StateCacheSize, d.Accounts, d.Clock)
	for _, k := range cfg.ServerKeys {
		a.serverKeys[k.ID] = sha256.Sum256([]byte(k.Secret))
	}
	return a, nil
}

// Run reads the signing keys again whenever their file changes, until ctx ends. A
// file that is no good leaves the old keys in use.
func (a *Auth) Run(ctx context.Context) error {
	return watchFile(ctx, a.cfg.KeysFile, a.tokens.stamp, a.tokens.reload, a.log)
}

// Register creates a user and logs the device in. im.ErrConflict: the handle is
// taken, also where it differs in case or width only.
func (a *Auth) Register(ctx context.Context, req protocol.Register, ip string) (t protocol.Tokens, err error) {
	defer a.met.count("register", &err)
	handle, err := NormalizeHandle(req.Handle)
	if err != nil {
		return t, err
	}
	nickname, err := cleanNickname(req.Nickname, handle)
	if err != nil {
		return t, err
	}
	if err := checkDevice(req.Device, req.Platform); err != nil {
		return t, err
	}
	password, err := newPassword("password", req.Password)
	if err != nil {
		return t, err
	}
	if err := a.limits.take(ctx, "register", addressBucket(ip), a.cfg.RegisterPerMinute); err != nil {
		return t, err
	}
	if nickname, err = a.filterName(ctx, nickname); err != nil {
		return t, err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return t, err
	}
	p, err := a.accounts.CreateUser(ctx, im.NewUser{Handle: handle, Nickname: nickname, PasswordHash: hash})
	if err != nil {
		return t, fmt.Errorf("create user: %w", err)
	}
	return a.issue(ctx, p, im.Login{Device: req.Device, Platform: req.Platform})
}

// Login answers im.ErrUnauthenticated alike for an unknown handle, a wrong password,
// a banned user and one who has no password, after the same work. Beyond the limit
// per account or per address it answers im.LimitError, whatever the password.
func (a *Auth) Login(ctx context.Context, req protocol.Login, ip string) (t protocol.Tokens, err error) {
	defer a.met.count("login", &err)
	if err := checkDevice(req.Device, req.Platform); err != nil {
		return t, err
	}
	handle, shapeErr := NormalizeHandle(req.Handle)
	if err := a.limits.take(ctx, "login", addressBucket(ip), a.cfg.LoginPerMinute); err != nil {
		return t, err
	}
	acc, err := a.checkPassword(ctx, handle, shapeErr == nil, req.Password)
	if err != nil {
		return t, err
	}
	// Hashing takes a while: a password changed meanwhile ends this login too.
	return a.issue(ctx, acc.Profile, im.Login{Device: req.Device, Platform: req.Platform, PasswordHash: acc.PasswordHash})
}

// checkPassword is the one place where a password is compared. known is false for
// what cannot be a handle; the work is the same.
func (a *Auth) checkPassword(ctx context.Context, handle string, known bool, password string) (acc im.Account, err error) {
	if known {
		if err := a.limits.take(ctx, "login", "u:"+handle, a.cfg.LoginPerMinute); err != nil {
			return acc, err
		}
		acc, err = a.accounts.AccountByHandle(ctx, handle)
		if err != nil && !errors.Is(err, im.ErrNotFound) {
			return acc, fmt.Errorf("account by handle: %w", err)
		}
	}
	ok, err := a.hasher.verify(ctx, acc.PasswordHash, password)
	if err != nil {
		return acc, err
	}
	if !ok || !acc.Active {
		return acc, im.ErrUnauthenticated
	}
	return acc, nil
}

// issue saves the device of l and makes its tokens.
func (a *Auth) issue(ctx context.Context, p im.Profile, l im.Login) (protocol.Tokens, error) {
	var refresh string
	refresh, l.RefreshHash = newRefreshToken()
	l.User, l.RefreshExpires = p.ID, a.clock().Add(a.cfg.RefreshTTL).UnixMilli()
	state, err := a.accounts.SaveLogin(ctx, l)
	if err != nil {
		return protocol.Tokens{}, fmt.Errorf("save login: %w", err)
	}
	return a.pair(p, l.Device, l.Platform, state, refresh, l.RefreshExpires)
}

func (a *Auth) pair(p im.Profile, d im.DeviceID, platform string, state im.AuthState, refresh string, refreshExpires int64) (protocol.Tokens, error) {
	if !state.Active {
		return protocol.Tokens{}, im.ErrUnauthenticated
	}
	a.states.put(p.ID, d, state)
	id := im.Identity{User: p.ID, Device: d, Platform: platform,
		TokenVersion: state.TokenVersion, DeviceVersion: state.DeviceVersion,
		ExpiresAt: a.clock().Add(a.cfg.AccessTTL).Truncate(time.Second).UnixMilli()}
	access, err := a.tokens.sign(id)
	if err != nil {
		return protocol.Tokens{}, err
	}
	return protocol.Tokens{User: p, Device: d, AccessToken: access, ExpiresAt: id.ExpiresAt,
		RefreshToken: refresh, RefreshExpiresAt: refreshExpires}, nil
}

// Refresh exchanges a refresh token, once, for new tokens; within a minute again, since the
// answer may have been lost, and then the first new ones are given up. Used later than
// that it ends the device: two hold it, and we cannot tell which is the owner.
func (a *Auth) Refresh(ctx context.Context, refreshToken string) (t protocol.Tokens, err error) {
	defer a.met.count("refresh", &err)
	old, ok := refreshHash(refreshToken)
	if !ok {
		return t, im.ErrUnauthenticated
	}
	next, hash := newRefreshToken()
	expires := a.clock().Add(a.cfg.RefreshTTL).UnixMilli()
	login, state, err := a.accounts.RotateRefresh(ctx, old, hash, expires)
	if err != nil {
		return t, fmt.Errorf("rotate refresh token: %w", err)
	}
	p, err := a.profile(ctx, login.User)
	if err != nil {
		return t, err
	}
	return a.pair(p, login.Device, login.Platform, state, next, expires)
}

// ChangePassword ends every token of the user, this device's too, and closes their
// connections. The limit is that of Login; a wrong old password is im.ErrForbidden,
// since the token is good.
func (a *Auth) ChangePassword(ctx context.Context, who im.Identity, req protocol.ChangePassword) (err error) {
	defer a.met.count("password", &err)
	password, err := newPassword("new_password", req.NewPassword)
	if err != nil {
		return err
	}
	p, err := a.profile(ctx, who.User)
	if err != nil {
		return err
	}
	acc, err := a.checkPassword(ctx, p.Handle, true, req.OldPassword)
	if errors.Is(err, im.ErrUnauthenticated) || (err == nil && acc.ID != who.User) {
		return im.ErrForbidden
	}
	if err != nil {
		return err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	if err := a.accounts.SetPassword(ctx, who.User, hash); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	a.states.forgetUser(who.User)
	a.closeSessions(ctx, who.User, "")
	return nil
}

// Verify says whom an access token speaks for. Signature and claims need no store;
// the versions come from a copy at most 5 s old, or 60 s while MySQL is away, then
// im.ErrStore. Whatever is wrong with a token is im.ErrUnauthenticated.
func (a *Auth) Verify(ctx context.Context, accessToken string) (im.Identity, error) {
	id, err := a.tokens.verify(accessToken)
	if err != nil {
		return im.Identity{}, err
	}
	if err := a.Recheck(ctx, id, stateFresh); err != nil {
		return im.Identity{}, err
	}
	return id, nil
}

// Recheck says whether an identity verified earlier still stands: not expired, its
// device not logged out, its user not banned, by a copy no older than fresh. It is
// Verify without the signature.
func (a *Auth) Recheck(ctx context.Context, id im.Identity, fresh time.Duration) error {
	if a.clock().UnixMilli() >= id.ExpiresAt {
		return im.ErrUnauthenticated
	}
	return a.states.check(ctx, id, fresh)
}

// closeSessions is best effort: the list of revocations ends what it misses.
func (a *Auth) closeSessions(ctx context.Context, u im.UserID, d im.DeviceID) {
	if a.kick == nil {
		return
	}
	if err := a.kick.Kick(ctx, u, d); err != nil {
		a.log.Warn("revoked sessions not told, they end when the list of revocations is read", "user", u, "device", d, "err", err)
	}
}

const refreshBytes = 32

// newRefreshToken is 256 random bits. Only the hash is kept: who reads the table
// cannot log in with it.
func newRefreshToken() (token string, hash [32]byte) {
	var raw [refreshBytes]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(raw[:]), sha256.Sum256(raw[:])
}

func refreshHash(token string) (hash [32]byte, ok bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(refreshBytes) || strings.ContainsAny(token, "\r\n") {
		return hash, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != refreshBytes {
		return hash, false
	}
	return sha256.Sum256(raw), true
}

// checkDevice checks what a device says of itself.
func checkDevice(d im.DeviceID, platform string) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if len(platform) > 32 || im.DeviceID("x"+platform).Validate() != nil || !utf8.ValidString(platform) {
		return im.Invalid("platform", "must be at most 32 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}
