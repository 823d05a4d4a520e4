// Package storage is everything kept: in MySQL or SQLite what must last (type DB),
// in Redis the projection of it that must be fast. It decides nothing and imports
// the vocabulary only.
//
// Promises of the record:
//
//	[S1] A batch of messages is stored whole or not at all, by plain INSERTs: no row
//	     is skipped in silence.
//	[S2] Three unique keys fence it: (conversation, seq), (conversation, sender,
//	     client message ID), (message ID). A violated one is named.
//	[S3] What returned nil is committed, and survives the crash of any process.
//	[S4] A page of history is one range read of the primary key.
//	[S5] Cursors only rise.
//	[S6] A refresh token is exchanged once; shown again, its device is revoked.
//	[S7] A node number has one holder at a time, by the database's clock.
//	[S8] An error says what it means: im.ErrStore heals by itself or by an operator,
//	     im.DuplicateError is a violated key, im.ErrUnstorable never succeeds.
//	[S9] Every call has a deadline.
package storage
