package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Profile is what anyone may see of a user; im.ErrNotFound where there is none.
func (a *Auth) Profile(ctx context.Context, _ im.Identity, u im.UserID) (im.Profile, error) {
	return a.profile(ctx, u)
}

func (a *Auth) profile(ctx context.Context, u im.UserID) (im.Profile, error) {
	all, err := a.profiles.Profiles(ctx, []im.UserID{u})
	if err != nil {
		return im.Profile{}, fmt.Errorf("profile: %w", err)
	}
	p, ok := all[u]
	if !ok {
		return im.Profile{}, im.ErrNotFound
	}
	return p, nil
}

// FindByHandle finds exact handles only, in any case or width, and so many a minute,
// so that users are not enumerated.
func (a *Auth) FindByHandle(ctx context.Context, who im.Identity, handle string) (im.Profile, error) {
	if err := a.limits.take(ctx, "lookup", "u:"+who.User.String(), a.cfg.LookupPerMinute); err != nil {
		return im.Profile{}, err
	}
	h, err := NormalizeHandle(handle)
	if err != nil {
		return im.Profile{}, im.ErrNotFound
	}
	u, err := a.profiles.UserByHandle(ctx, h)
	if err != nil {
		return im.Profile{}, fmt.Errorf("user by handle: %w", err)
	}
	return a.profile(ctx, u)
}

// Me is the caller's own profile with what they have set.
func (a *Auth) Me(ctx context.Context, who im.Identity) (protocol.Me, error) {
	p, err := a.profile(ctx, who.User)
	if err != nil {
		return protocol.Me{}, err
	}
	return a.me(ctx, p)
}

func (a *Auth) me(ctx context.Context, p im.Profile) (protocol.Me, error) {
	policy, err := a.accounts.MessagePolicy(ctx, p.ID)
	if err != nil {
		return protocol.Me{}, fmt.Errorf("message policy: %w", err)
	}
	return protocol.Me{Profile: p, MessagePolicy: policy}, nil
}

// UpdateProfile changes what is not nil. Messages keep the name they were sent under;
// new ones and lists show the new one within 5 s, sends obey a policy within 2 s.
func (a *Auth) UpdateProfile(ctx context.Context, who im.Identity, req protocol.UpdateProfile) (protocol.Me, error) {
	if req.Nickname != nil {
		clean, err := cleanNickname(*req.Nickname, "")
		if err != nil {
			return protocol.Me{}, err
		}
		if clean, err = a.filterName(ctx, clean); err != nil {
			return protocol.Me{}, err
		}
		req.Nickname = &clean
	}
	if req.Avatar != nil {
		if err := checkAvatar(*req.Avatar); err != nil {
			return protocol.Me{}, err
		}
	}
	if req.MessagePolicy != nil {
		if err := req.MessagePolicy.Validate(); err != nil {
			return protocol.Me{}, err
		}
		if err := a.accounts.SetMessagePolicy(ctx, who.User, *req.MessagePolicy); err != nil {
			return protocol.Me{}, fmt.Errorf("set message policy: %w", err)
		}
	}
	if req.Nickname == nil && req.Avatar == nil {
		return a.Me(ctx, who)
	}
	p, err := a.accounts.UpdateProfile(ctx, who.User, req.Nickname, req.Avatar)
	if err != nil {
		return protocol.Me{}, fmt.Errorf("update profile: %w", err)
	}
	return a.me(ctx, p)
}

// filterName holds a nickname to the same words as messages.
func (a *Auth) filterName(ctx context.Context, nickname string) (string, error) {
	if a.names == nil {
		return nickname, nil
	}
	return a.names.Apply(ctx, nickname)
}
