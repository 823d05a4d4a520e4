// Package client is the Go SDK of Curlew: log in over HTTP, connect the socket,
// send, receive, catch up. It speaks the public protocol only.
//
//	[C1] a message handed to Send keeps its client message ID through every resend,
//	     so it appears at most once, and exactly once when Stored reports it
//	[C2] OnMessage sees each conversation's messages in seq order, none twice, none
//	     left out from where this device starts: a hole is pulled before what follows
//	     is shown
//	[C3] a lost connection is made again with full jitter; what was not yet stored is
//	     sent again, in order, and what was missed is pulled
//	[C4] every queue has a bound: Send refuses with ErrBacklog, pushes beyond the
//	     bound are dropped and pulled again
//	[C5] OnChanged and OnDeleted leave out no change and no deletion from where this
//	     device starts: a hole in their numbers is pulled before what follows is told
package client
