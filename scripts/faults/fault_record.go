package main

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
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

// soon is how long something is asked of a store that is not to answer.
const soon = time.Second

// freezeRecord lets MySQL stand still: who is connected gets no answer.
func freezeRecord(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	heal, err := freezeStore("mysql")(ctx, c)
	if err != nil {
		return nil, err
	}
	from := c.load.r.now()
	asking, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	var one int
	err = c.stores.admin.QueryRowContext(asking, "SELECT 1").Scan(&one)
	c.tally.broke(err != nil, "MySQL answers though it is stopped")
	return func(ctx context.Context) error {
		c.stalled(from, "stall_s", nil)
		return heal(ctx)
	}, nil
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

// waits counts in how many looks somebody waits for a row, until ctx ends.
func (s *stores) waits(ctx context.Context) (looks int) {
	for pause(ctx, 100*time.Millisecond) == nil {
		var n int
		if err := s.admin.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.INNODB_LOCK_WAITS").Scan(&n); err == nil && n > 0 {
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

// stormers lock rows at once, each a few and for a moment; every lazy one keeps them for
// longer than anybody waits (innodb_lock_wait_timeout is 5 s).
const (
	stormers = 64
	lazy     = 16
	lazyFor  = 8 * time.Second
)

// stormLocks keeps locking members, groups and messages of the load's conversations, in
// no order that anybody else keeps to. What it meets itself and what the engine meets is
// told apart by what MySQL counts of both.
func stormLocks(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	before, err := c.stores.lockFailures(ctx)
	if err != nil {
		return nil, err
	}
	storming, cancel := context.WithCancel(ctx)
	db, err := sql.Open("mysql", c.stores.dsn(c.stores.addr("mysql")))
	if err != nil {
		cancel()
		return nil, err
	}
	db.SetMaxOpenConns(stormers)
	convs := c.load.w.convs
	ends := make(chan stormed, stormers)
	for i := range stormers {
		keep := 20 * time.Millisecond
		if i%lazy == 0 {
			keep = lazyFor
		}
		go func() { ends <- storm(storming, db, convs, keep) }()
	}
	return func(ctx context.Context) error {
		cancel()
		var own stormed
		for range stormers {
			own = own.plus(<-ends)
		}
		err := db.Close()
		after, late := c.stores.lockFailures(ctx)
		if err = errors.Join(err, late); err != nil {
			return err
		}
		c.tally.atEnd(func(context.Context, *ending) error {
			tried := c.tally.counted("engine_1213") + c.tally.counted("engine_1205")
			c.tally.set("retries_per_1k", 1000*tried/float64(max(c.load.r.counts()[acked], 1)))
			return nil
		})
		c.tally.stormed(own, lockFailures{after.deadlocks - before.deadlocks, after.timeouts - before.timeouts})
		return nil
	}, nil
}

// lockFailures are errors 1213 and 1205.
type lockFailures struct{ deadlocks, timeouts int }

// lockFailures are what the server has counted since it started.
func (s *stores) lockFailures(ctx context.Context) (n lockFailures, err error) {
	err = s.admin.QueryRowContext(ctx, "SELECT SUM(IF(name = 'lock_deadlocks', count, 0)), SUM(IF(name = 'lock_timeouts', count, 0))"+
		" FROM information_schema.INNODB_METRICS").Scan(&n.deadlocks, &n.timeouts)
	return n, err
}

// stormed is what stormers have met.
type stormed struct {
	lockFailures
	done   int
	failed []error // anything else
}

func (s stormed) plus(o stormed) stormed {
	s.deadlocks, s.timeouts, s.done = s.deadlocks+o.deadlocks, s.timeouts+o.timeouts, s.done+o.done
	s.failed = append(s.failed, o.failed...)
	return s
}

// storm locks until ctx ends.
func storm(ctx context.Context, db *sql.DB, convs []*conv, keep time.Duration) (s stormed) {
	for ctx.Err() == nil {
		err := lockSome(ctx, db, convs, keep)
		switch n := number(err); {
		case n == 1213:
			s.deadlocks++
		case n == 1205:
			s.timeouts++
		case err == nil:
			s.done++
		case ctx.Err() == nil:
			s.failed = append(s.failed, err)
		}
	}
	return s
}

// lockSome is one transaction that is rolled back, after half of keep or up to all of it.
func lockSome(ctx context.Context, db *sql.DB, convs []*conv, keep time.Duration) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		// The error that ended it says what it was; ended by the server, it is none to roll back.
		if back := tx.Rollback(); err == nil {
			err = back
		}
	}()
	for range 3 {
		conv := convs[rand.IntN(len(convs))]
		q := []string{
			"SELECT COUNT(*) FROM members WHERE conversation = ? AND user_id > 0 FOR UPDATE",
			"SELECT COUNT(*) FROM messages WHERE conversation = ? AND seq > 5 FOR UPDATE",
			"SELECT COUNT(*) FROM conversations WHERE id = ? FOR UPDATE",
		}[rand.IntN(3)]
		var n int
		if err := tx.QueryRowContext(ctx, q, string(conv.id)).Scan(&n); err != nil {
			return err
		}
	}
	return pause(ctx, keep/2+rand.N(keep/2))
}

// stormed notes one storm: what the stormers have met, and all that MySQL has counted.
// What is not theirs the engine has met, and tried again.
func (t *tally) stormed(own stormed, all lockFailures) {
	engine := lockFailures{max(0, all.deadlocks-own.deadlocks), max(0, all.timeouts-own.timeouts)}
	t.count("own_1213", float64(own.deadlocks))
	t.count("own_1205", float64(own.timeouts))
	t.count("engine_1213", float64(engine.deadlocks))
	t.count("engine_1205", float64(engine.timeouts))
	t.broke(all.deadlocks+all.timeouts > 0, "a storm of %d transactions without a deadlock or a timeout", own.done)
	t.broke(engine != lockFailures{} || t.last(), "the engine has met none of the %d deadlocks and %d timeouts", all.deadlocks, all.timeouts)
	if len(own.failed) > 0 {
		t.broke(false, "%d transactions of a storm failed otherwise: %v", len(own.failed), errors.Join(slices.Clone(own.failed)[:min(3, len(own.failed))]...))
	}
}
