package logic

import (
	"context"
	"fmt"

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

// UpdateProfile changes what is not nil. Messages keep the name they were sent under.
func (a *Auth) UpdateProfile(ctx context.Context, who im.Identity, nickname, avatar *string) (im.Profile, error) {
	if nickname == nil && avatar == nil {
		return a.profile(ctx, who.User)
	}
	if nickname != nil {
		clean, err := cleanNickname(*nickname, "")
		if err != nil {
			return im.Profile{}, err
		}
		if clean, err = a.filterName(ctx, clean); err != nil {
			return im.Profile{}, err
		}
		nickname = &clean
	}
	if avatar != nil {
		if err := checkAvatar(*avatar); err != nil {
			return im.Profile{}, err
		}
	}
	p, err := a.accounts.UpdateProfile(ctx, who.User, nickname, avatar)
	if err != nil {
		return im.Profile{}, fmt.Errorf("update profile: %w", err)
	}
	return p, nil
}

// filterName holds a nickname to the same words as messages.
func (a *Auth) filterName(ctx context.Context, nickname string) (string, error) {
	if a.names == nil {
		return nickname, nil
	}
	return a.names.Apply(ctx, nickname)
}

// Blocks lists whom the user has blocked.
func (a *Auth) Blocks(ctx context.Context, who im.Identity) ([]im.UserID, error) {
	blocked, err := a.accounts.Blocks(ctx, who.User)
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	return blocked, nil
}

// SetBlock blocks somebody or lets them write again. It reaches every node within the
// 2 s for which sends trust their copy of it.
func (a *Auth) SetBlock(ctx context.Context, who im.Identity, blocked im.UserID, on bool) error {
	if blocked == who.User || blocked == im.SystemUser {
		return im.Invalid("user_id", "cannot be blocked")
	}
	if on {
		if _, err := a.profile(ctx, blocked); err != nil {
			return err
		}
	}
	if err := a.accounts.SetBlock(ctx, who.User, blocked, on); err != nil {
		return fmt.Errorf("set block: %w", err)
	}
	return nil
}
