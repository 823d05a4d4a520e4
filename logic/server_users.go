package logic

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	maxUpsertUsers   = 500
	maxExternalBytes = 128
)

// VerifyServerKey checks a backend's key in constant time, also for an unknown ID.
func (a *Auth) VerifyServerKey(id, secret string) error {
	want, known := a.serverKeys[id]
	got := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !known {
		return im.ErrUnauthenticated
	}
	return nil
}

// UpsertUsers creates or updates a backend's own users, at most 500 a call, all or
// none, and returns their profiles in order. Names are the backend's word and not
// filtered. im.ErrConflict where a handle is somebody else's.
func (a *Auth) UpsertUsers(ctx context.Context, users []protocol.ServerUser) ([]im.Profile, error) {
	if len(users) == 0 || len(users) > maxUpsertUsers {
		return nil, im.Invalid("users", "must be 1 to 500")
	}
	all := make([]im.ExternalUser, len(users))
	ids, handles := make(map[string]bool, len(users)), make(map[string]bool, len(users))
	for i, u := range users {
		e, err := cleanExternal(u)
		if err != nil {
			return nil, fmt.Errorf("users[%d]: %w", i, err)
		}
		if ids[e.ExternalID] || handles[e.Handle] {
			return nil, im.Invalid(fmt.Sprintf("users[%d]", i), "repeats an external_id or handle")
		}
		ids[e.ExternalID], handles[e.Handle] = true, true
		all[i] = e
	}
	profiles, err := a.accounts.UpsertExternal(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("upsert users: %w", err)
	}
	return profiles, nil
}

func cleanExternal(u protocol.ServerUser) (e im.ExternalUser, err error) {
	if err := checkExternalID(u.ExternalID); err != nil {
		return e, err
	}
	handle := u.Handle
	if handle == "" {
		// The same user gets the same handle at every upsert that names none.
		sum := sha256.Sum256([]byte(u.ExternalID))
		handle = "x" + hex.EncodeToString(sum[:12])
	}
	if handle, err = NormalizeHandle(handle); err != nil {
		return e, err
	}
	nickname, err := cleanNickname(u.Nickname, handle)
	if err != nil {
		return e, err
	}
	if err := checkAvatar(u.Avatar); err != nil {
		return e, err
	}
	return im.ExternalUser{ExternalID: u.ExternalID, Handle: handle, Nickname: nickname, Avatar: u.Avatar}, nil
}

// checkExternalID accepts 1 to 128 printable ASCII characters without space, quotes,
// braces, backslash and asterisk: numbers, UUIDs, addresses, "provider|id".
func checkExternalID(s string) error {
	ok := len(s) >= 1 && len(s) <= maxExternalBytes
	for i := 0; ok && i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ', c >= 0x7F, c == '"', c == '\'', c == '`', c == '{', c == '}', c == '\\', c == '*':
			ok = false
		}
	}
	if !ok {
		return im.Invalid("external_id", "must be 1 to 128 printable ASCII characters without space, quotes, braces, backslash or *")
	}
	return nil
}

// IssueTokens logs a device of a backend's user in, on the backend's word.
// im.ErrForbidden for a banned user.
func (a *Auth) IssueTokens(ctx context.Context, req protocol.IssueTokens) (t protocol.Tokens, err error) {
	defer a.met.count("issue", &err)
	if err := checkDevice(req.Device, req.Platform); err != nil {
		return t, err
	}
	var user im.UserID
	switch {
	case (req.UserID != nil) == (req.ExternalID != ""):
		return t, im.Invalid("user_id", "exactly one of user_id and external_id")
	case req.UserID != nil:
		user = *req.UserID
	default:
		if err := checkExternalID(req.ExternalID); err != nil {
			return t, err
		}
		if user, err = a.accounts.UserByExternalID(ctx, req.ExternalID); err != nil {
			return t, fmt.Errorf("user by external ID: %w", err)
		}
	}
	p, err := a.profile(ctx, user)
	if err != nil {
		return t, err
	}
	t, err = a.issue(ctx, p, im.Login{Device: req.Device, Platform: req.Platform})
	if protocol.CodeOf(err).Name == protocol.CodeOf(im.ErrUnauthenticated).Name {
		return t, im.ErrForbidden // the server's key is good; the user is banned
	}
	return t, err
}
