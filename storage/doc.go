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
//	[S6] A refresh token is exchanged once, or again within a minute, the answer being lost;
//	     shown later, its device is revoked.
//	[S7] A node number has one holder at a time, by the database's clock.
//	[S8] An error says what it means: im.ErrStore heals by itself or by an operator,
//	     im.DuplicateError is a violated key, im.ErrUnstorable never succeeds.
//	[S9] Every call has a deadline.
//
// Promises of groups:
//
//	[S18] A change of a group is one transaction under the group's row: its counts and
//	      bounds are exact, it has one owner, and what the log must be told is noted if
//	      and only if the change is committed.
//	[S19] A notice is stored together with what it changes about who is in its channel,
//	      and ends its operation, or nothing is. Who is in has leave_seq <= joined_seq;
//	      both only rise.
//
// Promises of scheduled messages:
//
//	[S22] A scheduled message is cancelled or claimed, never both; what was claimed does
//	      not change any more. It is not due before the database's clock says so, and what
//	      is due is found by one range read, however many wait.
//
// Promises of the projection:
//
//	[S10] Redis may be emptied, restarted, failed over or full at any moment: the next
//	      answer is complete and exact, never partial.
//	[S11] One generation says that Redis has forgotten nothing. A user's structures are
//	      trusted only where they are sealed with the one that stands; else they are
//	      completed from the record first. On a cluster it stands for all masters: no
//	      connection to one is used before its life is known beside the generation.
//	[S12] Every number in Redis only rises: to project something twice changes nothing.
//	[S13] A version is taken when a change becomes visible: what moved since a position
//	      is complete.
//	[S14] An offline entry goes by a device's ack, or because its user deleted it, and by
//	      nothing else; in a channel also by being read.
//	[S15] While Redis is away answers come from the record, marked as degraded, or fail
//	      at once.
//	[S16] A session's entry is deleted by that session only.
//	[S17] Of a conversation's settings the higher version holds. A change that was cut
//	      short between MySQL and Redis shows everywhere or nowhere 10 s later.
//	[S20] The same history of a channel shows its members the same, be it written for
//	      each of them or merged at read.
//	[S21] A sweep takes a node out of rooms only where it had entered before the sweep
//	      found it dead; who lost its lease is told when it renews.
package storage
