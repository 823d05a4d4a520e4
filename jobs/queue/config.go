package queue

import (
	"fmt"
	"time"
)

// Config says where Kafka is and how it is used. A zero field means the default.
type Config struct {
	// Brokers are host:port of some of the cluster's brokers; it tells us the others.
	Brokers []string
	// Prefix starts the topics' names (default "im."), so that two installations can
	// share a cluster. It must be at most 100 of a–z A–Z 0–9 . _ -.
	Prefix string
	// Partitions is the pinned partition count of each topic (default 8, at most 1024).
	// It decides which partition holds which conversation, so it never changes in
	// use; start fails where a topic has another count (RELIABILITY.md, R10).
	Partitions int
	// Replication is the replication factor with which topics are created (default 1;
	// production: 3, with min.insync.replicas 2).
	Replication int
	// CreateTopics lets start create missing topics (dev; else `curlew migrate` does).
	CreateTopics bool
	// Retention is how long topics keep records (default 7 days, at least that: it is
	// how long jobs may stand still before accepted messages are lost).
	Retention time.Duration
	// GroupPrefix starts the consumer groups' names (default "curlew-").
	GroupPrefix string

	// ProduceBudget is the longest a task waits for its answer (default 3 s; a send
	// must be answered in 5 s). ProduceAttempt bounds one request (default 1.5 s).
	ProduceBudget  time.Duration
	ProduceAttempt time.Duration
	// ProduceInFlight is how many requests may be on their way at once (default 2); a
	// partition is in one of them at most. More lets a slow disk be waited for by
	// several at once, fewer gather more per request.
	ProduceInFlight int
	// WaitingRecords and WaitingBytes bound what waits to be produced (defaults 20,000
	// and 64 MiB); beyond it tasks are refused with im.ErrOverloaded.
	WaitingRecords int
	WaitingBytes   int
	// BatchRecords and BatchBytes bound one partition's share of a request (defaults
	// 500 and 512 KiB; brokers refuse batches over 1 MiB by default).
	BatchRecords int
	BatchBytes   int
	// CompressAbove is the size in bytes from which a batch is compressed with lz4
	// (default 4 KiB: below, it saves nothing worth the time).
	CompressAbove int

	// SessionTimeout, RebalanceTimeout, Heartbeat and JoinBackoff are the consumer
	// group's (defaults 10 s, 10 s, 500 ms, 1 s). By a heartbeat a member hears that another
	// has joined or left: partitions that change hands wait for one (measured: 2.0 s with
	// 2 s, 0.6 s with 500 ms, which costs two requests a second, lane and process). After a
	// crash, the partitions of the dead are taken over once the session has timed out.
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration
	Heartbeat        time.Duration
	JoinBackoff      time.Duration
	// FetchBytes bounds what is fetched of one partition at once, and what waits of it
	// to be handled (default 1 MiB); FetchWait is how long a fetch without records waits
	// at the broker (default 1 s; a record ends the wait).
	FetchBytes int
	FetchWait  time.Duration
}

// WithDefaults fills the zero fields.
func (c Config) WithDefaults() Config {
	text := func(f *string, d string) {
		if *f == "" {
			*f = d
		}
	}
	number := func(f *int, d int) {
		if *f == 0 {
			*f = d
		}
	}
	span := func(f *time.Duration, d time.Duration) {
		if *f == 0 {
			*f = d
		}
	}
	text(&c.Prefix, "im.")
	text(&c.GroupPrefix, "curlew-")
	number(&c.Partitions, 8)
	number(&c.Replication, 1)
	span(&c.Retention, 7*24*time.Hour)
	span(&c.ProduceBudget, 3*time.Second)
	span(&c.ProduceAttempt, 1500*time.Millisecond)
	number(&c.ProduceInFlight, 2)
	number(&c.WaitingRecords, 20_000)
	number(&c.WaitingBytes, 64<<20)
	number(&c.BatchRecords, 500)
	number(&c.BatchBytes, 512<<10)
	number(&c.CompressAbove, 4<<10)
	span(&c.SessionTimeout, 10*time.Second)
	span(&c.RebalanceTimeout, 10*time.Second)
	span(&c.Heartbeat, 500*time.Millisecond)
	span(&c.JoinBackoff, time.Second)
	number(&c.FetchBytes, 1<<20)
	span(&c.FetchWait, time.Second)
	return c
}

// Validate names the first bad field.
func (c Config) Validate() error {
	c = c.WithDefaults()
	bad := func(field, why string, args ...any) error {
		return fmt.Errorf("queue.%s: %s", field, fmt.Sprintf(why, args...))
	}
	switch {
	case len(c.Brokers) == 0:
		return bad("brokers", "at least one host:port is needed")
	case !validName(c.Prefix):
		return bad("prefix", "%q is not 1 to 100 of a-z A-Z 0-9 . _ -", c.Prefix)
	case !validName(c.GroupPrefix):
		return bad("group_prefix", "%q is not 1 to 100 of a-z A-Z 0-9 . _ -", c.GroupPrefix)
	case c.Partitions < 1 || c.Partitions > 1024:
		return bad("partitions", "%d is not in 1 to 1024", c.Partitions)
	case c.Replication < 1:
		return bad("replication", "%d is below 1", c.Replication)
	case c.Retention < 7*24*time.Hour:
		return bad("retention", "%s is below 7 days", c.Retention)
	case c.ProduceBudget < 100*time.Millisecond || c.ProduceBudget > 4*time.Second:
		return bad("produce_budget", "%s is not in 100ms to 4s: a send is answered within 5s", c.ProduceBudget)
	case c.ProduceAttempt < 50*time.Millisecond || c.ProduceAttempt > c.ProduceBudget:
		return bad("produce_attempt", "%s is not in 50ms to produce_budget", c.ProduceAttempt)
	case c.ProduceInFlight < 1 || c.ProduceInFlight > 64:
		return bad("produce_in_flight", "%d is not in 1 to 64", c.ProduceInFlight)
	case c.WaitingRecords < 1:
		return bad("waiting_records", "%d is below 1", c.WaitingRecords)
	case c.WaitingBytes < MaxTaskBytes:
		return bad("waiting_bytes", "%d is below %d, the largest task", c.WaitingBytes, MaxTaskBytes)
	case c.BatchRecords < 1:
		return bad("batch_records", "%d is below 1", c.BatchRecords)
	case c.BatchBytes < MaxTaskBytes || c.BatchBytes > 900<<10:
		return bad("batch_bytes", "%d is not in %d to 921600: brokers refuse batches over 1 MiB", c.BatchBytes, MaxTaskBytes)
	case c.CompressAbove < 1:
		return bad("compress_above", "%d is below 1", c.CompressAbove)
	case c.Heartbeat < 10*time.Millisecond || c.Heartbeat > c.SessionTimeout/3:
		return bad("heartbeat", "%s is not in 10ms to a third of session_timeout", c.Heartbeat)
	case c.RebalanceTimeout < 100*time.Millisecond:
		return bad("rebalance_timeout", "%s is below 100ms", c.RebalanceTimeout)
	case c.JoinBackoff < time.Millisecond:
		return bad("join_backoff", "%s is below 1ms", c.JoinBackoff)
	case c.FetchBytes < 64<<10:
		return bad("fetch_bytes", "%d is below 65536", c.FetchBytes)
	case c.FetchWait < 10*time.Millisecond || c.FetchWait > 5*time.Second:
		return bad("fetch_wait", "%s is not in 10ms to 5s", c.FetchWait)
	}
	return nil
}

func validName(s string) bool {
	if len(s) < 1 || len(s) > 100 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
