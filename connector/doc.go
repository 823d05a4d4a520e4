// Package connector holds WebSocket connections: bytes become frames, frames become
// messages for logic, and what logic and workers say becomes bytes again. It knows
// sessions, not rules.
//
//	[P1]  what arrives means the same however it was cut or glued on the way
//	[P2]  no size that a peer declares is allocated before it is checked
//	[P3]  messages of a connection reach logic in order, one at a time
//	[P4]  a session is in the registry and in the routes before its connect is answered
//	      (in the routes as soon as they can be reached again, where they cannot)
//	[P5]  a reply is written or the connection ends; it is never dropped in silence
//	[P6]  pushes of a conversation reach a connection in seq order; late ones are dropped
//	[P7]  what waits for a client is bounded; a client that stays behind is closed 4508
//	[P8]  an idle connection has no goroutine, no timer and no buffer (on Linux, without TLS)
//	[P9]  a slow or hostile client holds no event loop and no worker
//	[P10] a stop answers what was taken and tells every session when to come back
//	[P11] a newer session of the same user and device wins, on whichever node it is; so
//	      it does over other devices where their policy says so
//	[P12] presence is read from the sessions when it is told: it is right within 30 s of
//	      whatever happened, and told of one user at most once a second
//	[P13] a session whose login was ended ends within 5 s, even if its kick is lost
//	[P14] a push to a channel reaches those connected here who are in it by the roster
//	      that the push names; after the notice that somebody has left, nothing later
//	      of the channel is written to them
//	[P15] a room whose roster is in doubt asks before it delivers; what waits is bounded,
//	      keeps its order, and is never waited for by the pushes of others
//	[P16] a node is in the registry of a channel before whoever is the first in it here
//	      hears of that, or is nudged when it is; with the last it leaves
package connector
