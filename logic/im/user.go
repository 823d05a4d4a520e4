package im

// Profile is what others see of a user.
type Profile struct {
	ID       UserID `json:"id"`
	Handle   string `json:"handle"`
	Nickname string `json:"nickname"`
	Avatar   string `json:"avatar,omitempty"`
}

// Sender is the profile as it is copied into a message.
func (p Profile) Sender() Sender { return Sender(p) }

// NewUser is what a user is created from. Handle is normalised (NFKC, case fold)
// and checked by logic before it gets here.
type NewUser struct {
	Handle       string
	Nickname     string
	Avatar       string
	PasswordHash string // empty: cannot log in by password
}

// ExternalUser is one of a backend's own users, known by its external ID.
type ExternalUser struct {
	ExternalID string
	Handle     string
	Nickname   string
	Avatar     string
}

// Account is a user with what login needs.
type Account struct {
	Profile
	PasswordHash string
	Active       bool
}

// AuthState is what makes a token good: it must carry both versions.
type AuthState struct {
	TokenVersion  uint32 // of the user: a password change or ban raises it
	DeviceVersion uint32 // of the device: logout and revocation raise it
	Active        bool   // neither banned nor deleted
	DeviceKnown   bool
}

// Device is one device of a user as the devices list shows it.
type Device struct {
	ID        DeviceID `json:"device"`
	Platform  string   `json:"platform"`
	CreatedAt int64    `json:"created_at"` // Unix milliseconds
	SeenAt    int64    `json:"seen_at"`    // last login, refresh or end of a connection, Unix milliseconds
}

// Login is a device that has proved who it is, with the refresh token to keep.
type Login struct {
	User           UserID
	Device         DeviceID
	Platform       string
	PasswordHash   string   // that was compared; empty where none was
	RefreshHash    [32]byte // SHA-256 of the token; the token itself is not kept
	RefreshExpires int64    // Unix milliseconds
}
