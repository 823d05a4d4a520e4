// Package protocol is what clients and servers say to each other: the commands,
// replies and pushes of the socket, the bodies HTTP shares with it, their JSON
// codec, the table from errors to codes, and the batches in which workers hand
// pushes to connectors. It does no I/O and imports logic/im only.
//
//	[W1] a request has an id and gets exactly one reply with the same id
//	[W2] a push has no id and may be missing; what it says can be pulled
//	[W3] IDs are strings, seqs are numbers, times are Unix milliseconds
//	[W4] unknown keys are ignored; a repeated key that names an ID or a seq is refused
//	[W5] batches between our own processes keep their field numbers, so that two
//	     versions of Curlew understand each other during an upgrade
package protocol
