package jobs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// poolsEvery is how often a process asks what operators have set, and says how it is.
	poolsEvery = time.Second
	// poolsTimeout bounds either.
	poolsTimeout = 900 * time.Millisecond
)

// keep turns the pools as operators have set them and reports, until ctx ends.
func (r *Runner) keep(ctx context.Context) {
	tick := time.NewTicker(poolsEvery)
	defer tick.Stop()
	turned, read := time.Now(), time.Now()
	cpu := r.cpu()
	failing := false
	for {
		if r.deps.Pools != nil {
			err := r.readBook(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				r.log.Warn("what operators have set of the pools is not known; the last known stands", "err", err)
			}
			failing = err != nil
		}
		select {
		case <-ctx.Done():
			r.forgetBook(ctx)
			return
		case <-tick.C:
			// A round takes longer than a tick where a store does not answer.
			now, used := time.Now(), r.cpu()
			r.cores.Store(int64(float64(used-cpu) / now.Sub(read).Seconds()))
			cpu, read = used, now
			if now.Sub(turned) >= recentSpan {
				turned = now
				for _, p := range r.pools {
					p.meter.turn(now)
				}
			}
		}
		if r.deps.Pools != nil {
			call, cancel := context.WithTimeout(ctx, poolsTimeout)
			_ = r.deps.Pools.ReportPools(call, r.PoolReports()) // Redis is away: seen elsewhere, and again in a second
			cancel()
		}
	}
}

// readBook turns the pools as the book says.
func (r *Runner) readBook(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, poolsTimeout)
	defer cancel()
	patches, err := r.deps.Pools.PoolPatches(call, r.deps.Process)
	if err != nil {
		return err
	}
	for _, p := range r.pools {
		p.turn(patches[p.lane])
	}
	return nil
}

// forgetBook leaves nothing of this life behind; where it fails, who reads the book does
// not see what is old.
func (r *Runner) forgetBook(ctx context.Context) {
	if r.deps.Pools == nil {
		return
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), poolsTimeout)
	defer cancel()
	if err := r.deps.Pools.ForgetProcess(call, r.deps.Process); err != nil {
		r.log.Warn("forget what was set for this process", "err", err)
	}
}

// turn sets the pool: what the configuration says, but for what patch says. Nothing is lost
// by it, and nothing reordered: the size is that of a pool which has no order, strands
// change when they have drained, and the rest is looked up when it is next used.
func (p *Pool) turn(patch im.PoolPatch) {
	next := im.PoolSettings(p.cfg.pool(p.lane)).With(patch)
	before := *p.set()
	if next == before {
		p.refused = im.PoolSettings{}
		return
	}
	if err := next.Validate(); err != nil {
		if p.refused != next { // set for all processes, and not fitting this one's configuration
			p.refused = next
			p.log.Warn("what was set of the pool does not fit its configuration; the last settings stand", "err", err)
		}
		return
	}
	p.settings.Store(&next)
	if next.Size != before.Size {
		p.ants.Tune(next.Size)
	}
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.assigned))
	p.mu.Unlock()
	for _, part := range all {
		part.wakeAll() // there may be room now
	}
	p.log.Info("pool set", "settings", next)
}

// PoolReports says how the pools of this process are.
func (r *Runner) PoolReports() []im.PoolReport {
	all := make([]im.PoolReport, len(r.pools))
	for i, p := range r.pools {
		all[i] = p.report(time.Now())
	}
	return all
}

// report measures the pool, and asks the advisor.
func (p *Pool) report(now time.Time) im.PoolReport {
	batch, working, waited := p.meter.batch.read(now), p.meter.working.read(now), p.meter.waited.read(now)
	rep := im.PoolReport{
		Process: p.deps.Process, Lane: p.lane, At: now.UnixMilli(), Settings: *p.set(),
		Busy: int(p.meter.busy.Load()), Waiting: int(p.meter.lined.Load()),
		Rate: batch.perSecond(), BatchP50: batch.quantile(.5), BatchP99: batch.quantile(.99),
		CPU: float64(p.cores.Load()) / float64(time.Second), Steps: make(map[string]im.StepReport), Partitions: []int{},
	}
	load := load{cores: rep.CPU, size: rep.Settings.Size, batches: float64(max(working.n, 1)), records: batch.mean(),
		busy: working.perSecond() / 1e9, line: waited.perSecond() / 1e9}
	for name, s := range *p.meter.steps.Load() {
		step := s.recent.read(now)
		if step.n == 0 {
			continue
		}
		rep.Steps[name] = im.StepReport{
			Count: step.n, P50: step.quantile(.5) / 1e6, P99: step.quantile(.99) / 1e6, Share: partOf(step.sum, working.sum),
		}
		load.took(name, s.store, time.Duration(step.sum))
	}
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.assigned))
	p.mu.Unlock()
	for _, part := range all {
		s := part.standing(now)
		rep.Partitions = append(rep.Partitions, part.src.Place().Partition)
		if s.stopped {
			rep.Stopped = append(rep.Stopped, part.src.Place().Partition)
		}
		rep.InFlight += s.records
		rep.LagRecords += max(s.behind, int64(s.records))
		rep.LagSeconds = max(rep.LagSeconds, s.age.Seconds())
		if s.records > 0 {
			load.loaded++
		}
	}
	slices.Sort(rep.Partitions)
	slices.Sort(rep.Stopped)
	load.late = rep.LagSeconds
	advice := load.advise()
	rep.Advice = &advice
	return rep
}

// partOf is a part of a whole; what is done beside the strands may be more than that.
func partOf(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return min(part/whole, 1)
}

// standing is how a partition is.
type standing struct {
	records int           // taken and not finished, but for what is held
	behind  int64         // in the log and not finished
	age     time.Duration // of the oldest
	stopped bool
}

func (p *partition) standing(now time.Time) standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := standing{records: p.records - len(p.held), stopped: errors.Is(p.failed, queue.ErrMissing)}
	if p.water != nil {
		s.behind = p.src.Behind(p.water.Next())
	}
	if at := p.oldest(); !at.IsZero() {
		s.age = max(now.Sub(at), 0)
	}
	return s
}
