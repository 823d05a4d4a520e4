package main

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"
)

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
		t.broke(false, "%d transactions of a storm failed otherwise: %v", len(own.failed), errors.Join(own.failed[:min(3, len(own.failed))]...))
	}
}
