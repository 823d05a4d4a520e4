package im

// Identity is who a verified access token speaks for.
type Identity struct {
	User          UserID
	Device        DeviceID
	Platform      string
	ExpiresAt     int64 // of the token, Unix milliseconds
	TokenVersion  uint32
	DeviceVersion uint32
}

// SessionRef says where one live connection of a user is.
type SessionRef struct {
	User     UserID
	Device   DeviceID
	Session  SessionID
	Node     NodeID
	Platform string
	Since    int64        // when it connected, Unix milliseconds; of two that exclude each other the later stays
	Policy   DevicePolicy // which others it leaves a place to; empty: all
}

// Session is one live connection with its identity.
type Session struct {
	Identity
	ID     SessionID
	Node   NodeID
	IP     string // of the peer, for limits and logs
	Since  int64  // when it connected, Unix milliseconds
	Policy DevicePolicy
}

// Ref is where the session is.
func (s *Session) Ref() SessionRef {
	return SessionRef{User: s.User, Device: s.Device, Session: s.ID, Node: s.Node, Platform: s.Platform, Since: s.Since, Policy: s.Policy}
}
