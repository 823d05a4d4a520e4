// Package jobs does the slow half of a send: it takes accepted tasks from the log,
// stores them, projects them into Redis, pushes them to who is online, and only then
// lets the log forget them.
//
//	[J1] a message is stored once, at the next seq of its conversation, without holes, in the order of the log
//	[J2] nothing is pushed that is not committed in MySQL, and nothing is pushed before its recipients' indexes have it
//	[J3] an offset is committed when everything before it is stored, projected (or doubted), pushed once, and its cursor moves are in MySQL
//	[J4] a duplicate repeats its side effects; every effect is a max by seq, so a replay changes nothing
//	[J5] a store that is away blocks the partition in place; what can never be stored is parked alone, its sender told, its neighbours flow
//	[J6] accepted = stored + parked, counted by distinct (conversation, sender, client message ID), but for an ID reused with other content
//	[J7] changes of messages are numbered 1, 2, 3 … in their conversation, in the order of the log, each decided once for ever
//	[J8] who is told of a channel's message is who is in when it gets its seq, a leave notice being a member's last and a join notice their first; above Config.MergeAbove members only the channel's end is raised
//	[J9] a channel's message is one delivery for each node with a member online, and nobody's sessions are read for it but its sender's and those of who joins or leaves
//	[J10] a scheduled message is sent once, not before the database's clock says that it is due, in the order of its conversation's due times, and never after a cancel that was answered: what is decided of it is decided once, and kept before it is sent
//	[J11] what operators turn while it runs (size, batch, linger, strands, window, attempts, backoff) loses and reorders nothing
//	[J12] who is to be told while not connected is asked of the lane retry before the message's record is done; there each device is told at least once, or its token is gone, or a dead letter says so: a device knows a repeat by its key
//
// A record's way through the files: pool.go is its lane's in this process, partition.go takes
// it, strand.go gives it a place, its lane's worker does it; that of realtime is scribe.go:
// realtime.go runs archive.go → change.go → receipt.go → project.go → push.go, and the partition
// in commit.go commits. poison.go is for what fails. Of channels, roster.go says who is in,
// notice.go what a notice does to whom, project_room.go and push_room.go reach them, and
// receipt_group.go tells who spoke. Of what waits for its time delay_look.go finds what is due,
// delay_fire.go sends it, and delay.go is the lane in between. Who is not connected
// notify_strand.go asks for, retry.go tells by way of a Notifier, webhook.go's or another; what
// is given up goes by the lane dead into the table, and deadletter.go is what an operator does
// about it. pools.go is what operators turn and see, meter.go and recent.go what is measured,
// advisor.go what that says.
package jobs
