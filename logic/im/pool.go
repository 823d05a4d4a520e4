package im

import (
	"fmt"
	"time"
)

// PoolSettings are the knobs of one worker pool: what an operator turns while it runs.
type PoolSettings struct {
	Size          int           `json:"size"`           // strands that work at once
	Batch         int           `json:"batch"`          // records a strand takes at once, at most
	Linger        time.Duration `json:"linger"`         // how long a strand waits for a fuller batch; 0: not at all
	Strands       int           `json:"strands"`        // of each partition; changed after a drain
	WindowRecords int           `json:"window_records"` // taken and not finished, of each partition
	Attempts      int           `json:"attempts"`       // at a record or batch that fails for an unknown reason (retry: at a delivery)
	BackoffMin    time.Duration `json:"backoff_min"`
	BackoffMax    time.Duration `json:"backoff_max"`
}

// PoolPatch changes what is not nil.
type PoolPatch struct {
	Size          *int           `json:"size,omitempty"`
	Batch         *int           `json:"batch,omitempty"`
	Linger        *time.Duration `json:"linger,omitempty"`
	Strands       *int           `json:"strands,omitempty"`
	WindowRecords *int           `json:"window_records,omitempty"`
	Attempts      *int           `json:"attempts,omitempty"`
	BackoffMin    *time.Duration `json:"backoff_min,omitempty"`
	BackoffMax    *time.Duration `json:"backoff_max,omitempty"`
}

// Empty says that nothing is to be changed.
func (p PoolPatch) Empty() bool { return p == PoolPatch{} }

// Over is p where it says something, else older.
func (p PoolPatch) Over(older PoolPatch) PoolPatch {
	older.Size = first(p.Size, older.Size)
	older.Batch = first(p.Batch, older.Batch)
	older.Linger = first(p.Linger, older.Linger)
	older.Strands = first(p.Strands, older.Strands)
	older.WindowRecords = first(p.WindowRecords, older.WindowRecords)
	older.Attempts = first(p.Attempts, older.Attempts)
	older.BackoffMin = first(p.BackoffMin, older.BackoffMin)
	older.BackoffMax = first(p.BackoffMax, older.BackoffMax)
	return older
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// With is s with what p says.
func (s PoolSettings) With(p PoolPatch) PoolSettings {
	set(&s.Size, p.Size)
	set(&s.Batch, p.Batch)
	set(&s.Linger, p.Linger)
	set(&s.Strands, p.Strands)
	set(&s.WindowRecords, p.WindowRecords)
	set(&s.Attempts, p.Attempts)
	set(&s.BackoffMin, p.BackoffMin)
	set(&s.BackoffMax, p.BackoffMax)
	return s
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Validate returns an InvalidError that names the first knob out of its range.
func (s PoolSettings) Validate() error {
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"size", s.Size, 1, 4096},
		{"batch", s.Batch, 1, 5000},
		{"strands", s.Strands, 1, 64},
		{"window_records", s.WindowRecords, 1, 1_000_000},
		{"attempts", s.Attempts, 1, 1000},
	} {
		if f.value < f.min || f.value > f.max {
			return Invalid(f.name, fmt.Sprintf("%d is not in %d to %d", f.value, f.min, f.max))
		}
	}
	for _, f := range []struct {
		name            string
		value, min, max time.Duration
	}{
		{"linger", s.Linger, 0, time.Second},
		{"backoff_min", s.BackoffMin, time.Millisecond, time.Hour},
		{"backoff_max", s.BackoffMax, s.BackoffMin, 24 * time.Hour},
	} {
		if f.value < f.min || f.value > f.max {
			return Invalid(f.name, fmt.Sprintf("%s is not in %s to %s", f.value, f.min, f.max))
		}
	}
	return nil
}

// PoolReport is what one process says of one of its pools.
type PoolReport struct {
	Process    string                `json:"process"` // one life of a process, as it names itself to the others
	Lane       Lane                  `json:"lane"`
	At         int64                 `json:"at"` // Unix ms
	Settings   PoolSettings          `json:"settings"`
	LagRecords int64                 `json:"lag_records"` // in the log and not finished, over its partitions
	LagSeconds float64               `json:"lag_seconds"` // age of the oldest of them
	Busy       int                   `json:"busy"`        // strands at work
	Waiting    int                   `json:"waiting"`     // strands in line for the pool
	InFlight   int                   `json:"in_flight"`   // records taken and not finished
	Rate       float64               `json:"rate"`        // records finished a second, of late
	BatchP50   float64               `json:"batch_p50"`
	BatchP99   float64               `json:"batch_p99"`
	CPU        float64               `json:"cpu"` // cores that the whole process uses, of late
	Steps      map[string]StepReport `json:"steps"`
	Partitions []int                 `json:"partitions"`
	Stopped    []int                 `json:"stopped,omitempty"` // partitions that stand still because records are missing
	Advice     *Advice               `json:"advice,omitempty"`
}

// StepReport is how long one step of a batch has taken of late.
type StepReport struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Share float64 `json:"share"` // of the time that strands were at work
}

// Advice names what limits a pool, as measured, and what would move it.
type Advice struct {
	Bottleneck string `json:"bottleneck"` // none, commit, redis, fanout, cpu, partitions, pool
	Knob       string `json:"knob"`
	Why        string `json:"why"`
}
