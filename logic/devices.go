package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

// Devices lists where the user is logged in.
func (a *Auth) Devices(ctx context.Context, who im.Identity) ([]im.Device, error) {
	devices, err := a.accounts.Devices(ctx, who.User)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	return devices, nil
}

// Logout ends the device that asks.
func (a *Auth) Logout(ctx context.Context, who im.Identity) (err error) {
	defer a.met.count("logout", &err)
	return a.RevokeDevice(ctx, who, who.Device)
}

// RevokeDevice ends one device of the user: its tokens are refused here at once and
// everywhere within 5 s, its connections closed. im.ErrNotFound where there is none.
func (a *Auth) RevokeDevice(ctx context.Context, who im.Identity, d im.DeviceID) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if err := a.accounts.RevokeDevice(ctx, who.User, d); err != nil {
		return fmt.Errorf("revoke device: %w", err)
	}
	a.states.revoke(who.User, d)
	a.closeSessions(ctx, who.User, d)
	return nil
}
