package protocol

import "github.com/curlew-im/curlew/logic/im"

// The bodies that only HTTP has. Those it shares with the socket are in frame.go.

// Register is the body of POST /v1/auth/register.
type Register struct {
	Handle   string      `json:"handle"`
	Password string      `json:"password"`
	Nickname string      `json:"nickname,omitempty"` // default: the handle
	Device   im.DeviceID `json:"device"`
	Platform string      `json:"platform,omitempty"`
}

// Login is the body of POST /v1/auth/login.
type Login struct {
	Handle   string      `json:"handle"`
	Password string      `json:"password"`
	Device   im.DeviceID `json:"device"`
	Platform string      `json:"platform,omitempty"`
}

// Tokens answers register, login, refresh and the issue of tokens by server key.
type Tokens struct {
	User             im.Profile  `json:"user"`
	Device           im.DeviceID `json:"device"`
	AccessToken      string      `json:"access_token"`
	ExpiresAt        int64       `json:"expires_at"`
	RefreshToken     string      `json:"refresh_token"` // good once; its exchange gives the next
	RefreshExpiresAt int64       `json:"refresh_expires_at"`
}

// RefreshTokens is the body of POST /v1/auth/refresh.
type RefreshTokens struct {
	RefreshToken string `json:"refresh_token"`
}

// ChangePassword is the body of POST /v1/auth/password. All tokens of the user end.
type ChangePassword struct {
	OldPassword string `json:"old_password"`
	NewPassword string `json:"new_password"`
}

// SetPush says how the device that asks is reached while it is not connected.
type SetPush struct {
	Provider string `json:"provider"`
	Token    string `json:"token"`
}

// Devices answers GET /v1/auth/devices.
type Devices struct {
	Items []im.Device `json:"items"`
}

// UpdateProfile is the body of PATCH /v1/users/me; absent fields stay.
type UpdateProfile struct {
	Nickname      *string           `json:"nickname,omitempty"`
	Avatar        *string           `json:"avatar,omitempty"`
	MessagePolicy *im.MessagePolicy `json:"message_policy,omitempty"` // who may send one messages
}

// Receipts is the body of POST /v1/conversations/{id}/receipts; at least one field.
type Receipts struct {
	DeliveredSeq im.Seq `json:"delivered_seq,omitempty"`
	ReadSeq      im.Seq `json:"read_seq,omitempty"` // implies delivered
}

// OfflineAck is the body of POST /v1/offline/{id}/ack.
type OfflineAck struct {
	Seq im.Seq `json:"seq"`
}

// Blocks answers GET /v1/blocks.
type Blocks struct {
	Items []im.UserID `json:"items"`
}

// ServerUser is one of a backend's own users in POST /v1/server/users.
type ServerUser struct {
	ExternalID string `json:"external_id"`
	Handle     string `json:"handle,omitempty"` // default: made of the external ID
	Nickname   string `json:"nickname,omitempty"`
	Avatar     string `json:"avatar,omitempty"`
}

// ServerUsers is the body of POST /v1/server/users, at most 500 a call.
type ServerUsers struct {
	Users []ServerUser `json:"users"`
}

// ServerProfiles answers POST /v1/server/users, in the order asked.
type ServerProfiles struct {
	Users []im.Profile `json:"users"`
}

// IssueTokens is the body of POST /v1/server/tokens; one of UserID and ExternalID.
type IssueTokens struct {
	UserID     *im.UserID  `json:"user_id,omitempty"`
	ExternalID string      `json:"external_id,omitempty"`
	Device     im.DeviceID `json:"device"`
	Platform   string      `json:"platform,omitempty"`
}

// ServerSend is the body of POST /v1/server/messages: Send on behalf of From, or by
// the system where From is absent.
type ServerSend struct {
	Send
	From *im.UserID `json:"from,omitempty"`
}

// MaxServerUsers bounds ServerUsers.Users.
const MaxServerUsers = 500

// Demo is the body of POST /v1/auth/demo, which the dev profile alone offers. It is
// answered as a registration.
type Demo struct {
	Device   im.DeviceID `json:"device"`
	Platform string      `json:"platform,omitempty"`
}

// PageConfig answers GET /config.json: what the page must know before it can speak.
type PageConfig struct {
	Socket string `json:"socket"` // ws:// or wss:// address of the connector
	Demo   bool   `json:"demo"`   // POST /v1/auth/demo exists
}

// HTTPLimits answers GET /v1/limits.
type HTTPLimits struct {
	Limits
	MaxBodyBytes     int64 `json:"max_body_bytes"`
	MaxContentBytes  int   `json:"max_content_bytes"` // of one message, as stored
	MaxServerUsers   int   `json:"max_server_users"`
	RequestTimeoutMS int64 `json:"request_timeout_ms"` // no answer takes longer, body transfer aside
}
