package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	poolFresh     = 10 * time.Second // for which a report is shown
	poolTTL       = time.Minute      // of all reports, from the newest; an older one is swept
	poolSettled   = 24 * time.Hour   // after which what was set for a process that is gone is forgotten
	poolTouched   = time.Hour        // how often one that lives says so there
	allProcesses  = ""
	poolScopeSize = 64 // bytes
)

// Pools is what operators have set of worker pools, in MySQL, and how the pools of all
// processes are, in Redis.
type Pools struct {
	redis *Redis
	db    *DB

	mu      sync.Mutex // guards what follows
	swept   time.Time
	touched time.Time
}

// NewPools makes Pools.
func NewPools(r *Redis, db *DB) *Pools { return &Pools{redis: r, db: db} }

// PoolPatches are what is set for a process, by lane: for all processes, overlaid by what
// is set for it alone.
func (p *Pools) PoolPatches(ctx context.Context, process string) (patches map[im.Lane]im.PoolPatch, err error) {
	if p.due(&p.touched, poolTouched) {
		if err := p.touch(ctx, process); err != nil {
			return nil, err
		}
	}
	ctx, done := p.db.begin(ctx, "pool_patches")
	defer done(&err)
	patches = make(map[im.Lane]im.PoolPatch)
	// '' sorts first: what is set for the process comes later, and over it.
	err = p.eachSet(ctx, func(_ string, lane im.Lane, patch im.PoolPatch) {
		patches[lane] = patch.Over(patches[lane])
	}, "scope IN (?, ?) ORDER BY scope, lane", allProcesses, process)
	return patches, err
}

// SetAlone is what is set of a lane's pool for one process alone, by process.
func (p *Pools) SetAlone(ctx context.Context, lane im.Lane) (alone map[string]im.PoolPatch, err error) {
	ctx, done := p.db.begin(ctx, "pools_set_alone")
	defer done(&err)
	alone = make(map[string]im.PoolPatch)
	err = p.eachSet(ctx, func(process string, _ im.Lane, patch im.PoolPatch) {
		alone[process] = patch
	}, "lane = ? AND scope <> ''", lane)
	return alone, err
}

func (p *Pools) eachSet(ctx context.Context, f func(scope string, lane im.Lane, patch im.PoolPatch), where string, args ...any) error {
	return queryEach(ctx, p.db.r, func(rows *sql.Rows) error {
		var scope string
		var lane im.Lane
		var settings []byte
		if err := rows.Scan(&scope, &lane, &settings); err != nil {
			return err
		}
		var patch im.PoolPatch
		if err := json.Unmarshal(settings, &patch); err != nil {
			return fmt.Errorf("settings of pool %s: %w", lane, err)
		}
		f(scope, lane, patch)
		return nil
	}, "SELECT scope, lane, settings FROM pool_settings WHERE "+where, args...)
}

// touch says that a process lives, and forgets what was set for those that have not said so
// for a day.
func (p *Pools) touch(ctx context.Context, process string) (err error) {
	ctx, done := p.db.begin(ctx, "touch_pools")
	defer done(&err)
	if _, err := p.db.w.ExecContext(ctx, p.db.d.timed("UPDATE pool_settings SET updated_at = %now WHERE scope = ? AND scope <> ''"), process); err != nil {
		return err
	}
	_, err = p.db.w.ExecContext(ctx, p.db.d.timed("DELETE FROM pool_settings WHERE scope <> '' AND updated_at < %now - ?"), poolSettled.Milliseconds())
	return err
}

// due says, once in a time, that the time has passed.
func (p *Pools) due(last *time.Time, every time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(*last) >= every {
		*last = now
		return true
	}
	return false
}

// SetPool sets a lane's pool, of one process or, where that is empty, of all. What was set
// before stays, where patch says nothing of it.
func (p *Pools) SetPool(ctx context.Context, process string, lane im.Lane, patch im.PoolPatch) (err error) {
	if len(process) > poolScopeSize {
		return im.Invalid("process", "there is none of that name")
	}
	ctx, done := p.db.begin(ctx, "set_pool")
	defer done(&err)
	return p.db.transact(ctx, func(tx *sql.Tx) error {
		// The row is there before it is read, so that two operators do not both find none.
		if _, err := tx.ExecContext(ctx, p.db.d.timed("INSERT INTO pool_settings (scope, lane, settings, updated_at) VALUES (?, ?, '{}', %now)"+
			p.db.d.keepPool), process, lane); err != nil {
			return err
		}
		var before []byte
		if err := tx.QueryRowContext(ctx, "SELECT settings FROM pool_settings WHERE scope = ? AND lane = ?"+p.db.d.forUpdate, process, lane).Scan(&before); err != nil {
			return err
		}
		var old im.PoolPatch
		if err := json.Unmarshal(before, &old); err != nil {
			return fmt.Errorf("settings of pool %s: %w", lane, err)
		}
		after, err := json.Marshal(patch.Over(old))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, p.db.d.timed("UPDATE pool_settings SET settings = ?, updated_at = %now WHERE scope = ? AND lane = ?"), string(after), process, lane)
		return err
	})
}

// ResetPool forgets what was set of a lane's pool for one process, or for all processes:
// then what is set for one alone stands. The configuration counts where nothing is set.
func (p *Pools) ResetPool(ctx context.Context, process string, lane im.Lane) (err error) {
	ctx, done := p.db.begin(ctx, "reset_pool")
	defer done(&err)
	_, err = p.db.w.ExecContext(ctx, "DELETE FROM pool_settings WHERE scope = ? AND lane = ?", process, lane)
	return err
}

// ReportPools shows a process's pools to the others for 10 s.
func (p *Pools) ReportPools(ctx context.Context, reports []im.PoolReport) error {
	if len(reports) == 0 {
		return nil
	}
	set := []any{"hset", keyPools}
	for _, r := range reports {
		b, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("report of pool %s: %w", r.Lane, err)
		}
		set = append(set, poolField(r.Process, r.Lane), b)
	}
	if p.due(&p.swept, poolTTL) {
		if _, err := p.PoolReports(ctx); err != nil {
			return err
		}
	}
	ctx, done := p.redis.op(ctx, "report_pools")
	defer done()
	return cacheError(p.redis.exec(ctx, redis.NewIntCmd(ctx, set...), redis.NewBoolCmd(ctx, "pexpire", keyPools, poolTTL.Milliseconds())))
}

func poolField(process string, lane im.Lane) string { return process + "/" + string(lane) }

// PoolReports is what the processes have reported of late; im.ErrCache while Redis is
// away. It sweeps what processes that have died have left.
func (p *Pools) PoolReports(ctx context.Context) ([]im.PoolReport, error) {
	ctx, done := p.redis.op(ctx, "pools")
	defer done()
	all := redis.NewMapStringStringCmd(ctx, "hgetall", keyPools)
	if err := p.redis.exec(ctx, all); err != nil {
		return nil, cacheError(err)
	}
	var reports []im.PoolReport
	now := time.Now()
	stale := []any{"hdel", keyPools}
	for field, value := range all.Val() {
		var r im.PoolReport
		err := json.Unmarshal([]byte(value), &r)
		switch age := now.Sub(time.UnixMilli(r.At)); {
		case err != nil || age > poolTTL:
			stale = append(stale, field)
		case age <= poolFresh:
			reports = append(reports, r)
		}
	}
	if len(stale) > 2 {
		if err := p.redis.exec(ctx, redis.NewIntCmd(ctx, stale...)); err != nil {
			return nil, cacheError(err)
		}
	}
	return reports, nil
}

// ForgetProcess removes a process's reports and what is set for it alone.
func (p *Pools) ForgetProcess(ctx context.Context, process string) error {
	return errors.Join(p.forgetReports(ctx, process), p.forgetSettings(ctx, process))
}

func (p *Pools) forgetReports(ctx context.Context, process string) error {
	ctx, done := p.redis.op(ctx, "forget_pools")
	defer done()
	fields := redis.NewStringSliceCmd(ctx, "hkeys", keyPools)
	if err := p.redis.exec(ctx, fields); err != nil {
		return cacheError(err)
	}
	gone := []any{"hdel", keyPools}
	for _, f := range fields.Val() {
		if strings.HasPrefix(f, process+"/") {
			gone = append(gone, f)
		}
	}
	if len(gone) == 2 {
		return nil
	}
	return cacheError(p.redis.exec(ctx, redis.NewIntCmd(ctx, gone...)))
}

func (p *Pools) forgetSettings(ctx context.Context, process string) (err error) {
	ctx, done := p.db.begin(ctx, "forget_pools")
	defer done(&err)
	_, err = p.db.w.ExecContext(ctx, "DELETE FROM pool_settings WHERE scope = ? AND scope <> ''", process)
	return err
}
