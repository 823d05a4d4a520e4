// Package im is the vocabulary of Curlew: users, conversations, messages,
// cursors, sessions, tasks and the errors a caller may see. It does no I/O and
// every other package may import it.
//
// A type enters here when two floors must speak of it, and brings its rules along.
package im
