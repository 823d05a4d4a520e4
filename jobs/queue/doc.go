// Package queue speaks Kafka: the record of a task, the topics, a producer that
// gathers what is waiting, and a consumer that hands out each partition in order and
// commits what is finished.
//
//	[Q1] tasks of one conversation are in the log in the order in which Produce was called
//	[Q2] nil means the log has the task (acks=all); im.ErrQueue and im.ErrOverloaded mean it never will; im.ErrUnknownOutcome means it may
//	[Q3] every task is answered within Config.ProduceBudget
//	[Q4] a partition is handed out without holes: a record that should be there and is not stops it, loudly
//	[Q5] an offset is committed only by the generation that fetched it
//	[Q6] a partition beyond Config.Partitions is neither produced to nor read, and alarmed
package queue
