package main

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// recordFaults leave MySQL up and keep the engine from its rows.
var recordFaults = []fault{
	{name: "F13", about: "MySQL stands still", full: 10, hold: 15 * time.Second, healed: true, membership: true, inject: freezeRecord},
	{name: "F13r", about: "MySQL is read-only", full: 10, hold: 15 * time.Second, healed: true, membership: true, inject: closeRecord},
	{name: "F13l", about: "rows of a conversation are locked by somebody else", full: 10, hold: 20 * time.Second, healed: true, inject: lockRecord},
	{name: "F14", about: "64 others lock the same rows in any order: deadlocks and timeouts", full: 10, hold: 8 * time.Second,
		healed: true, membership: true, inject: stormLocks},
}

// freezeRecord lets MySQL stand still: who is connected gets no answer.
func freezeRecord(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	heal, err := freezeStore("mysql")(ctx, c)
	if err != nil {
		return nil, err
	}
	from := c.load.r.now()
	c.tally.broke(c.stores.silent(ctx), "MySQL answers though it is stopped")
	return func(ctx context.Context) error {
		c.stalled(from, "stall_s", nil)
		return heal(ctx)
	}, nil
}

// soon is how long a question waits to which there is to be no answer; asks is how often it
// is asked: what is stopped may end what it has begun.
const (
	soon = time.Second
	asks = 5
)

// silent says that MySQL does not answer.
func (s *stores) silent(ctx context.Context) bool {
	for range asks {
		asking, cancel := context.WithTimeout(ctx, soon)
		var one int
		err := s.admin.QueryRowContext(asking, "SELECT 1").Scan(&one)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return true
		}
		if pause(ctx, soon/asks) != nil {
			break
		}
	}
	return false
}

// closeRecord has MySQL refuse writes. Whoever may write all the same is nobody of the
// engine's: its account is another.
func closeRecord(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	engine, err := sql.Open("mysql", c.stores.engineDSN())
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	if _, err := c.stores.admin.ExecContext(ctx, "SET GLOBAL read_only = 1"); err != nil {
		return nil, err
	}
	from := c.load.r.now()
	_, err = engine.ExecContext(ctx, "DELETE FROM messages WHERE conversation = ''")
	c.tally.broke(number(err) == 1290, "a write of the engine's account is answered %v", err)
	return func(ctx context.Context) error {
		c.stalled(from, "stall_s", nil)
		_, err := c.stores.admin.ExecContext(ctx, "SET GLOBAL read_only = 0")
		return err
	}, nil
}

// number is of an error of MySQL's; 0: it is none.
func number(err error) uint16 {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number
	}
	return 0
}

// besides is how long a message of a partition in which nothing is locked may be held: as
// long as one wait for a lock. What is beyond is said on the line.
const besides = 5

// lockRecord locks the rows of one conversation. It says how long messages were held in
// it, in others of its partition, and in the other partitions.
func lockRecord(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	convs := c.load.w.convs
	locked := convs[rand.IntN(len(convs))]
	unlock, err := c.stores.lock(ctx, []*conv{locked})
	if err != nil {
		return nil, err
	}
	from := c.load.r.now()
	n := (queue.Config{}).WithDefaults().Partitions
	at := queue.Partition(locked.id, n)
	watching, stop := context.WithCancel(ctx)
	waits := make(chan int, 1)
	go func() { waits <- c.stores.waits(watching) }()
	return func(context.Context) error {
		stop()
		met := <-waits
		c.tally.broke(met > 0 || c.tally.last(), "nobody has waited for the locked rows of %s", locked.id)
		c.tally.count("lock_waits_seen", float64(met))
		c.stalled(from, "stall_locked_s", func(id im.ConversationID) bool { return id == locked.id })
		c.stalled(from, "stall_beside_s", func(id im.ConversationID) bool { return id != locked.id && queue.Partition(id, n) == at })
		c.stalledAtMost(from, "stall_others_s", besides, func(id im.ConversationID) bool { return queue.Partition(id, n) != at })
		return unlock()
	}, nil
}

// waits counts in how many looks somebody has waited for a row for over a second, which
// nobody of the engine's makes another wait; until ctx ends.
func (s *stores) waits(ctx context.Context) (looks int) {
	for pause(ctx, 100*time.Millisecond) == nil {
		var n int
		if err := s.admin.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_wait_started < NOW() - INTERVAL 1 SECOND").Scan(&n); err == nil && n > 0 {
			looks++
		}
	}
	return looks
}

// stalled notes, when the run has ended, how long each conversation's messages that were
// acked since from and up to now were held at most.
func (c *cluster) stalled(from time.Duration, name string, of func(im.ConversationID) bool) {
	c.stalledAtMost(from, name, 0, of)
}

func (c *cluster) stalledAtMost(from time.Duration, name string, most float64, of func(im.ConversationID) bool) {
	to, t, r := c.load.r.now(), c.tally, c.load.r
	t.atEnd(func(_ context.Context, e *ending) error {
		for id, d := range stalls(helds(r, e), from, to) {
			if of == nil || of(id) {
				t.sample(name, most, d.Seconds())
			}
		}
		return nil
	})
}
