// Package logic decides: who somebody is, what they may send and see, and in which
// order it is taken. It answers the commands of the socket (Connect, Handle) and the
// calls of the HTTP face (the typed methods of Service). What it accepts it hands to
// the log; what it shows it reads from the projection and the record.
//
//	[L1] a refusal comes before the log: what was refused never appears
//	[L2] sends of one connection enter the log in the order in which they came
//	[L3] every request is answered once, within 5 s, whatever is away
//	[L4] a copy of a membership or block is at most 2 s old, 60 s while MySQL is away
//	[L5] what is not yours answers as what does not exist
//	[L6] the same client message ID with other content is refused where the hint is
//	     still known, and rejected after acceptance where it is not
//	[L7] a revoked token's connections end within 5 s, even if the kick is lost: by the
//	     list of revocations, read each second; while MySQL is away at their next ping
//	     after it, or their first other message after that was due
//	[L8] a change of contacts moves the version of each side it changes: what a device
//	     was not pushed it learns by asking since its own
//	[L9] presence and typing are for contacts and for who shares a conversation, unless
//	     blocked; to anybody else a user is offline, as one that does not exist
//	[L10] what a user sets for a conversation is the same on all of their devices: what
//	     one was not pushed it learns by its position
//	[L11] a change of a group that was answered holds, whatever is away: its notices are
//	     given to the log until they are stored
//	[L12] who was removed from a channel sees nothing beyond their leave notice, and sends
//	     nothing more once a copy of their membership has had its time ([L4]), through the
//	     process that removed them at once
//	[L13] a scheduled message is refused when it is scheduled or when it is due, and what
//	     was decided then is decided once; a cancel that was answered means never
//	[L14] past a bound of the backlog what would make it longer is refused with a time to
//	     come back; a retry of what is stored is answered, and who takes somebody out of a
//	     group is never kept waiting
package logic
