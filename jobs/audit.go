package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// AuditConfig says how much is looked at again. A zero field is its default.
type AuditConfig struct {
	// Every is the time between two rounds (default 1 min, and up to a tenth of it at
	// random; -1: never). A round waits for nothing but what looks wrong.
	Every time.Duration
	// Users is how many sealed users a round compares (default 20: about 60 ms of one
	// connection to each store, see BenchmarkAudit).
	Users int
	// Records is how many finished records of the realtime lane a round looks up in
	// MySQL, over all partitions (default 2,000, the newest; -1: none).
	Records int
	// Settle is how long a round waits for the workers to finish what was in the log
	// when something looked wrong (default 30 s); what has not settled then is left for
	// another round.
	Settle time.Duration
}

func (c AuditConfig) withDefaults() AuditConfig {
	if c.Every == 0 {
		c.Every = time.Minute
	}
	if c.Users == 0 {
		c.Users = 20
	}
	if c.Records == 0 {
		c.Records = 2000
	}
	if c.Settle == 0 {
		c.Settle = 30 * time.Second
	}
	return c
}

// Validate names the first bad field.
func (c AuditConfig) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Every < 100*time.Millisecond && c.Every != -1:
		return fmt.Errorf("jobs.audit.every: %s is below 100ms", c.Every)
	case c.Users < 1 || c.Users > 10_000:
		return fmt.Errorf("jobs.audit.users: %d is not in 1 to 10000", c.Users)
	case c.Records < -1 || c.Records > 1_000_000:
		return fmt.Errorf("jobs.audit.records: %d is not in -1 to 1000000", c.Records)
	case c.Settle < 100*time.Millisecond || c.Settle > 10*time.Minute:
		return fmt.Errorf("jobs.audit.settle: %s is not in 100ms to 10m", c.Settle)
	}
	return nil
}

// AuditDeps are the neighbours of an Auditor.
type AuditDeps struct {
	Users   AuditedUsers
	Log     AuditedLog
	Stored  AuditedRecord
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

const (
	auditTry     = 4                // candidates for each user compared: most users' lists are not sealed
	auditCall    = 10 * time.Second // of one step
	auditSettle  = 50 * time.Millisecond
	auditAgain   = time.Hour        // drift that comes back within this was not mended by rebuilding the user
	auditReset   = 10 * time.Minute // least time between two generations set because of that
	auditMemory  = 1000             // repairs that are remembered
	auditMissing = 1000             // missing messages that are looked for a second time
	auditNamed   = 10               // differences that are logged of one user
)

// Auditor proves the contract on what runs: it holds what Redis says of a sample of
// users against MySQL, and what the log says was done against what is stored ([J6]).
//
// Both sides move. What differs is therefore looked at again when the workers have
// finished everything that was in the log by then: what was on its way has arrived, and
// what differs in exactly the same way was not on its way. All numbers only rise, so
// that what has moved meanwhile is told by them.
type Auditor struct {
	cfg  AuditConfig
	deps AuditDeps
	m    *auditMetrics

	// Of Run alone.
	repaired map[string]time.Time // users and conversations, by name
	resetAt  time.Time
	seen     []int64   // by partition: records below were looked up
	lost     []missing // not found there, and not looked for a second time yet
}

// NewAuditor checks cfg; Run does the work.
func NewAuditor(cfg AuditConfig, deps AuditDeps) (*Auditor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Auditor{cfg: cfg.withDefaults(), deps: deps, m: newAuditMetrics(deps.Metrics), repaired: make(map[string]time.Time)}, nil
}

// Run makes rounds until ctx ends.
func (a *Auditor) Run(ctx context.Context) error {
	if a.cfg.Every < 0 {
		<-ctx.Done()
		return nil
	}
	for {
		timer := time.NewTimer(a.cfg.Every + rand.N(a.cfg.Every/10))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := a.round(ctx); err != nil && ctx.Err() == nil {
			a.m.rounds.WithLabelValues("failed").Inc()
			a.deps.Logger.Warn("audit: a store is away; again in the next round", "err", err)
			continue
		}
		a.m.rounds.WithLabelValues("done").Inc()
	}
}

// round looks at a sample of everything once.
func (a *Auditor) round(ctx context.Context) error {
	defer func(start time.Time) { a.m.seconds.Observe(time.Since(start).Seconds()) }(time.Now())
	if err := a.users(ctx); err != nil {
		return err
	}
	return a.ledger(ctx)
}

// users compares a sample of users.
func (a *Auditor) users(ctx context.Context) error {
	candidates, err := audit(ctx, func(ctx context.Context) ([]im.UserID, error) {
		return a.deps.Users.Sample(ctx, auditTry*a.cfg.Users)
	})
	if err != nil {
		return err
	}
	suspects := make(map[im.UserID]im.Comparison)
	var order []im.UserID
	compared := 0
	for _, u := range candidates {
		if compared == a.cfg.Users {
			break
		}
		c, err := a.compare(ctx, u)
		if err != nil {
			return err
		}
		switch {
		case !c.Sealed:
			a.m.users.WithLabelValues("unsealed").Inc()
			continue
		case len(c.Drift) == 0:
			a.m.users.WithLabelValues("alike").Inc()
		default:
			suspects[u] = c
			order = append(order, u)
		}
		compared++
	}
	if len(suspects) == 0 {
		return nil
	}
	settled, err := a.settle(ctx)
	if err != nil {
		return err
	}
	for _, u := range order {
		if !settled {
			a.m.users.WithLabelValues("moving").Inc()
			continue
		}
		if err := a.again(ctx, u, suspects[u]); err != nil {
			return err
		}
	}
	return nil
}

func (a *Auditor) compare(ctx context.Context, u im.UserID) (im.Comparison, error) {
	return audit(ctx, func(ctx context.Context) (im.Comparison, error) { return a.deps.Users.Compare(ctx, u) })
}

// again looks a second time, and repairs what differs as it did at the first.
func (a *Auditor) again(ctx context.Context, u im.UserID, before im.Comparison) error {
	// Before Redis is read: a doubt that is gone by then was acted on, and the generation
	// is another.
	doubtful, err := audit(ctx, a.deps.Users.Doubtful)
	if err != nil {
		return err
	}
	now, err := a.compare(ctx, u)
	if err != nil {
		return err
	}
	if doubtful || !now.Sealed || now.Generation != before.Generation {
		a.m.users.WithLabelValues("moving").Inc()
		return nil
	}
	was := make(map[im.Drift]bool, len(before.Drift))
	for _, d := range before.Drift {
		was[d] = true
	}
	var drift []im.Drift
	for _, d := range now.Drift {
		if was[d] {
			drift = append(drift, d)
		}
	}
	if len(drift) == 0 {
		a.m.users.WithLabelValues("moving").Inc()
		return nil
	}
	a.m.users.WithLabelValues("drifted").Inc()
	for i, d := range drift {
		a.m.drift.WithLabelValues(string(d.Field)).Inc()
		if i < auditNamed {
			a.deps.Logger.Error("audit: Redis and MySQL differ; repairing", "user", u, "conv", d.Conversation, "field", d.Field,
				"redis", d.Redis, "mysql", d.Record)
		}
	}
	return a.repair(ctx, u, drift)
}

// repair builds anew what differs; where that did not help the last time, all of Redis
// is no longer trusted.
func (a *Auditor) repair(ctx context.Context, u im.UserID, drift []im.Drift) error {
	type part struct {
		name  string
		build func(context.Context) error
	}
	parts := map[string]part{}
	for _, d := range drift {
		p := part{"user " + u.String(), func(ctx context.Context) error { return a.deps.Users.RebuildUser(ctx, u) }}
		if d.Field.OfConversation() {
			p = part{"conversation " + string(d.Conversation), func(ctx context.Context) error {
				return a.deps.Users.RebuildConversation(ctx, d.Conversation)
			}}
		}
		parts[p.name] = p
	}
	came := false
	for _, p := range parts {
		came = came || time.Since(a.repaired[p.name]) < auditAgain
		if _, err := audit(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, p.build(ctx) }); err != nil {
			return fmt.Errorf("rebuild %s: %w", p.name, err)
		}
		a.m.repairs.WithLabelValues("rebuilt").Inc()
		if len(a.repaired) >= auditMemory {
			clear(a.repaired)
		}
		a.repaired[p.name] = time.Now()
	}
	if !came || time.Since(a.resetAt) < auditReset {
		return nil
	}
	a.deps.Logger.Error("audit: what was rebuilt differs again; a new generation has all of Redis completed anew", "user", u)
	_, err := audit(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, a.deps.Users.Reset(ctx) })
	if err == nil {
		a.m.repairs.WithLabelValues("generation").Inc()
		a.resetAt = time.Now()
	}
	return err
}

// settle waits until the workers have finished what is in the log now.
func (a *Auditor) settle(ctx context.Context) (bool, error) {
	goal, err := audit(ctx, a.deps.Log.Positions)
	if err != nil {
		return false, err
	}
	limit := time.NewTimer(a.cfg.Settle)
	defer limit.Stop()
	tick := time.NewTicker(auditSettle)
	defer tick.Stop()
	for {
		now, err := audit(ctx, a.deps.Log.Positions)
		if err != nil {
			return false, err
		}
		if reached(now, goal) {
			return true, nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// reached says that everything below the ends of goal has been finished.
func reached(now, goal []queue.Position) bool {
	for i, g := range goal {
		// A partition that was never written to has nothing to commit.
		if g.End > g.Start && now[i].Committed < g.End {
			return false
		}
	}
	return true
}

// audit is one step, with its deadline.
func audit[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, auditCall)
	defer cancel()
	return f(ctx)
}
