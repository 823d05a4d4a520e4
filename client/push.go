package client

import (
	"context"
	"net/http"

	"github.com/curlew-im/curlew/api/protocol"
)

// SetPush says how the device whose token is used is reached while it is not connected.
func (h *HTTP) SetPush(ctx context.Context, provider, token string) error {
	return h.Do(ctx, http.MethodPut, "/v1/auth/devices/me/push", protocol.SetPush{Provider: provider, Token: token}, nil)
}

// ClearPush ends that.
func (h *HTTP) ClearPush(ctx context.Context) error {
	return h.Do(ctx, http.MethodDelete, "/v1/auth/devices/me/push", nil, nil)
}
