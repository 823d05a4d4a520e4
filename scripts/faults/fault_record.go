package main

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// recordFaults leave MySQL up and keep the engine from its rows.
var recordFaults = []fault{
	{name: "F13", about: "MySQL stands still, is read-only, or has rows locked by somebody else", full: 20, hold: 8 * time.Second,
		healed: true, membership: true, inject: hinderRecord},
	{name: "F14", about: "64 others lock the same rows in any order: deadlocks and timeouts", full: 10, hold: 8 * time.Second,
		healed: true, membership: true, inject: stormLocks},
}

// hinderRecord does one of the three.
func hinderRecord(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	switch rand.IntN(3) {
	case 0:
		return freezeStore("mysql")(ctx, c)
	case 1:
		// Whoever may write all the same is nobody of the engine's: its account is another.
		if _, err := c.stores.admin.ExecContext(ctx, "SET GLOBAL read_only = 1"); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			_, err := c.stores.admin.ExecContext(ctx, "SET GLOBAL read_only = 0")
			return err
		}, nil
	default:
		convs := c.load.w.convs
		unlock, err := c.stores.lock(ctx, convs[:1+rand.IntN(len(convs)/2)])
		return func(context.Context) error { return unlock() }, err
	}
}

// stormers lock rows at once, each a few and for a moment.
const stormers = 64

// stormLocks keeps locking members, groups and messages of the load's conversations, in
// no order that anybody else keeps to.
func stormLocks(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	db, err := sql.Open("mysql", c.stores.dsn(c.stores.addr("mysql")))
	if err != nil {
		cancel()
		return nil, err
	}
	db.SetMaxOpenConns(stormers)
	var all sync.WaitGroup
	for range stormers {
		all.Go(func() {
			for ctx.Err() == nil {
				_ = lockSome(ctx, db, c.load.w.convs) // a deadlock is what it is there for
			}
		})
	}
	return func(context.Context) error {
		cancel()
		all.Wait()
		return db.Close()
	}, nil
}

// lockSome is one transaction that is rolled back.
func lockSome(ctx context.Context, db *sql.DB, convs []*conv) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for range 3 {
		conv := convs[rand.IntN(len(convs))]
		q := []string{
			"SELECT COUNT(*) FROM members WHERE conversation = ? AND user_id > 0 FOR UPDATE",
			"SELECT COUNT(*) FROM messages WHERE conversation = ? AND seq > 5 FOR UPDATE",
			"SELECT COUNT(*) FROM conversations WHERE id = ? FOR UPDATE",
		}[rand.IntN(3)]
		var n int
		if err := tx.QueryRowContext(ctx, q, string(conv.id)).Scan(&n); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	err = pause(ctx, rand.N(20*time.Millisecond))
	return errors.Join(err, tx.Rollback())
}
