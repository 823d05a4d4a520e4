package protocol

import "github.com/curlew-im/curlew/logic/im"

// AskPresence is the data of presence.
type AskPresence struct {
	Users []im.UserID `json:"users"` // 1 to 200
	// Subscribe true has this connection told of changes from now on, of at most 1,000
	// users (beyond it the one asked for longest ago is dropped), false no longer;
	// absent changes nothing. It ends with the connection.
	Subscribe *bool `json:"subscribe,omitempty"`
}

// Presences answers presence, each user once, in the order asked.
type Presences struct {
	Items []Presence `json:"items"`
}

// Presence is whether a user has a connected device. Who may not know sees them
// offline, never seen.
type Presence struct {
	UserID    im.UserID `json:"user_id"`
	Online    bool      `json:"online"`
	LastSeen  int64     `json:"last_seen,omitempty"` // where offline and known
	Platforms []string  `json:"platforms,omitempty"` // of the connected devices that name theirs
}

// ShowPresence is p as who may know sees it.
func ShowPresence(p *im.Presence) Presence {
	shown := Presence{UserID: p.User, Online: p.Online, Platforms: p.Platforms}
	if !p.Online {
		shown.LastSeen = p.SeenAt
	}
	return shown
}

// Typing is the data of typing.
type Typing struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	On             bool              `json:"on"`
}

// TypingExpires is how long a typing push holds unless it is repeated, in
// milliseconds; a client says it again each 3 s while it goes on.
const TypingExpires = 6000

// TypingNow says that somebody types, or has stopped.
type TypingNow struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	UserID         im.UserID         `json:"user_id"`
	On             bool              `json:"on"`
	ExpiresMS      int               `json:"expires_ms"`
}
