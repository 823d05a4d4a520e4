package protocol

import "github.com/curlew-im/curlew/logic/im"

// Hello is what a connector knows of a connection before it has authenticated.
type Hello struct {
	Session im.SessionID
	Node    im.NodeID
	IP      string
}

// ConnectAnswer accepts a connection (Session set; Frame is the reply, to be written
// after the route is registered) or refuses it (Frame may hold the error reply, Close
// is set).
type ConnectAnswer struct {
	Session *im.Session
	Frame   []byte
	Close   Close
}

// Answer is what one message of a session leads to.
type Answer struct {
	Frame []byte // the reply; empty: nothing to write
	// Identity, where set, replaces the session's (refresh).
	Identity *im.Identity
	Close    Close // code 0: stays open
	// Watch begins and ends what the session is told of others' presence.
	Watch []Watch
}

// Watch is one user whose presence a session is told, or told no longer (End).
type Watch struct {
	User im.UserID
	// State is what Frame says of the user now (im.Presence.State): only what differs
	// from it is news.
	State string
	End   bool
}
