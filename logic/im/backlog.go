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
