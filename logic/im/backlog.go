package im

import (
	"fmt"
	"time"
)

// Backlog is how far what is stored is behind what is accepted, of one partition of the
// log. The zero Backlog says that nothing waits, or that nothing is known.
type Backlog struct {
	Age     time.Duration // of the oldest record that is not done
	Records int64         // accepted and not done
	// Stopped says that records are missing from the log: nothing goes on until an
	// operator has decided where.
	Stopped bool
}

// OverloadError is ErrOverloaded with when to come back.
type OverloadError struct {
	What       string // what there is too much of, for the log
	RetryAfter time.Duration
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("%s: %v, retry after %s", e.What, ErrOverloaded, e.RetryAfter)
}

func (e *OverloadError) Unwrap() error { return ErrOverloaded }

// PartitionLag is where the workers of a lane stand in one partition of its topic.
type PartitionLag struct {
	Lane      Lane
	Partition int
	Start     int64 // the first offset there is
	Committed int64 // the next to be done; -1 where nothing was ever committed
	End       int64 // the next to be written
	Records   int64 // that wait
	Age       time.Duration
	Owner     string // as the broker knows the process; empty: nobody works on it
	Missing   bool   // records that should be in the log are not
	Stopped   bool   // it stands still in the process that was asked
	Unknown   bool   // the rest: mostly nobody leads the partition
}

// Ends of a partition, as Kafka numbers them.
const (
	OffsetLatest   int64 = -1
	OffsetEarliest int64 = -2
)
