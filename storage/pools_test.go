package storage

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// What is set for all is overlaid by what is set for one; a reset leaves the other. Two
// operators who turn two knobs at once both have their way.
func TestPools_OneProcessOverAll(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *DB{"sqlite": newSQLite, "mysql": newMySQL} {
		t.Run(name, func(t *testing.T) {
			ctx, p := t.Context(), NewPools(nil, open(t))
			var both sync.WaitGroup
			for _, patch := range []im.PoolPatch{{Size: new(3), Batch: new(10)}, {Strands: new(4)}} {
				both.Go(func() {
					if err := p.SetPool(ctx, "", im.LaneRealtime, patch); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			must(t, p.SetPool(ctx, "jobs-a", im.LaneRealtime, im.PoolPatch{Size: new(7)}))
			linger := 5 * time.Millisecond
			must(t, p.SetPool(ctx, "jobs-a", im.LaneRetry, im.PoolPatch{Linger: &linger}))
			check := func(process, want string) {
				t.Helper()
				patches, err := p.PoolPatches(ctx, process)
				must(t, err)
				show := func(n *int) int {
					if n == nil {
						return 0
					}
					return *n
				}
				r := patches[im.LaneRealtime]
				got := fmt.Sprint(show(r.Size), show(r.Batch), show(r.Strands), patches[im.LaneRetry].Linger != nil)
				if got != want {
					t.Errorf("%q: %s, want %s", process, got, want)
				}
			}
			check("jobs-a", "7 10 4 true")
			check("jobs-b", "3 10 4 false")
			alone, err := p.SetAlone(ctx, im.LaneRealtime)
			must(t, err)
			if a := alone["jobs-a"]; len(alone) != 1 || a.Size == nil || *a.Size != 7 || a.Batch != nil {
				t.Errorf("set alone: %+v", alone)
			}
			must(t, p.ResetPool(ctx, "", im.LaneRealtime))
			check("jobs-a", "7 0 0 true")
			check("jobs-b", "0 0 0 false")
			must(t, p.forgetSettings(ctx, ""))
			must(t, p.SetPool(ctx, "", im.LaneRealtime, im.PoolPatch{Size: new(9)}))
			must(t, p.forgetSettings(ctx, "jobs-a"))
			must(t, p.forgetSettings(ctx, ""))
			check("jobs-a", "9 0 0 false")
		})
	}
}

// What was set for a process that died is forgotten a day later; of one that lives it
// stays, and so does what is set for all.
func TestPools_SettingsOfTheDeadAreForgotten(t *testing.T) {
	ctx, db := t.Context(), newSQLite(t)
	p := NewPools(nil, db)
	for _, process := range []string{"", "dead", "lives"} {
		must(t, p.SetPool(ctx, process, im.LaneDead, im.PoolPatch{Size: new(2)}))
	}
	_, err := db.w.ExecContext(ctx, "UPDATE pool_settings SET updated_at = updated_at - ?", 2*poolSettled.Milliseconds())
	must(t, err)
	must(t, p.touch(ctx, "lives"))
	for process, want := range map[string]int{"": 1, "lives": 1, "dead": 0} {
		var n int
		must(t, db.r.QueryRowContext(ctx, "SELECT COUNT(*) FROM pool_settings WHERE scope = ?", process).Scan(&n))
		if n != want {
			t.Errorf("%q has %d rows, want %d", process, n, want)
		}
	}
}

// Reports are shown while they are fresh, and swept when they are old.
func TestPools_ReportsAgeAndGo(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := s.openAs(t, newFakeRecord(), func(*RedisConfig) {})
		ctx, p := t.Context(), NewPools(r, newSQLite(t))
		now := time.Now()
		report := func(process string, age time.Duration) {
			t.Helper()
			must(t, p.ReportPools(ctx, []im.PoolReport{
				{Process: process, Lane: im.LaneRealtime, At: now.Add(-age).UnixMilli(), Steps: map[string]im.StepReport{"insert": {P50: 1.5}}},
				{Process: process, Lane: im.LaneRetry, At: now.Add(-age).UnixMilli()},
			}))
		}
		report("old", 2*time.Minute)
		report("silent", 30*time.Second)
		report("a", 0)
		report("b", 0)
		seen := func(want int) {
			t.Helper()
			all, err := p.PoolReports(ctx)
			must(t, err)
			if len(all) != want {
				t.Errorf("%d reports, want %d: %+v", len(all), want, all)
			}
		}
		seen(4)
		if n := s.admin.HLen(ctx, keyPools).Val(); n != 6 {
			t.Errorf("%d fields are left, want those of three processes", n)
		}
		must(t, p.ForgetProcess(ctx, "a"))
		seen(2)
		if ttl := s.admin.PTTL(ctx, keyPools).Val(); ttl <= 0 || ttl > poolTTL {
			t.Errorf("TTL %s", ttl)
		}
		must(t, r.Close())
		if _, err := p.PoolReports(ctx); !errors.Is(err, im.ErrCache) {
			t.Errorf("without Redis: %v", err)
		}
	})
}
