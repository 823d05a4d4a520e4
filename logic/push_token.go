package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// SetPush says how the device that asks is reached while it is not connected. Another
// device that had the token has it no longer; it ends with the device's login.
func (a *Auth) SetPush(ctx context.Context, who im.Identity, req protocol.SetPush) error {
	if err := im.ValidatePush(req.Provider, req.Token); err != nil {
		return err
	}
	err := a.accounts.SetPushToken(ctx, im.PushTarget{User: who.User, Device: who.Device, Provider: req.Provider, Token: req.Token})
	if err != nil {
		return fmt.Errorf("set push token: %w", err)
	}
	return nil
}

// ClearPush ends that; again is as once.
func (a *Auth) ClearPush(ctx context.Context, who im.Identity) error {
	if err := a.accounts.ClearPushToken(ctx, who.User, who.Device); err != nil {
		return fmt.Errorf("clear push token: %w", err)
	}
	return nil
}
