package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// Deps are the neighbours and the world of a Runner.
type Deps struct {
	Queue     *queue.Cluster
	Archive   Archive
	Nodes     Nodes
	Projector Projector
	Sessions  Sessions
	Rooms     Rooms
	Bus       Bus
	// Schedules and Decider are of the lane delay; nil: this process has nothing to do in it.
	Schedules Schedules
	Decider   Decider
	// Producers are of every lane; nil in tests of realtime, which produces nothing.
	Producers map[im.Lane]Producer
	// Notifier tells devices that are not connected, those that Devices knows of, with what
	// Badges counts; nil: nobody does, and the others may be nil.
	Notifier Notifier
	Devices  Devices
	Badges   Badges
	// Process names this life of this process to operators; Pools is what they have set. Nil:
	// nobody looks.
	Process string
	Pools   PoolBook
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Now is the clock of message IDs and stored_at; nil: time.Now.
	Now func() time.Time
	// Steps, where set, is told of each step between two effects of a batch (insert,
	// cursors, project, publish, commit), after it was taken; an error ends the
	// assignment there and then, as a crash would. Tests only.
	Steps func(step string) error
}

// Runner is the workers of this process: a pool for each lane, and what they share.
type Runner struct {
	cfg        Config
	deps       Deps
	partitions int
	log        *slog.Logger
	m          *metrics
	notices    *notifyMetrics
	ids        *nodeIDs
	inserts    *jointInserts
	cache      *breaker // of projections
	told       *breaker // of pushes: a lost one is pulled, a lost projection voids every seal
	pools      []*Pool
	cpu        func() time.Duration // that the process has used
	cores      atomic.Int64         // of late: ns of CPU a second
}

// lanes are those that have a pool, in the order in which they are shown.
var lanes = []im.Lane{im.LaneRealtime, im.LaneDelay, im.LaneRetry, im.LaneDead}

// NewRunner checks cfg and prepares; Run does the work.
func NewRunner(cfg Config, deps Deps) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Runner{cfg: cfg.WithDefaults(), deps: deps, log: deps.Log, cpu: processCPU, m: newMetrics(deps.Metrics), notices: newNotifyMetrics(deps.Metrics)}
	if r.deps.Now == nil {
		r.deps.Now = time.Now
	}
	r.inserts = joinInserts(deps.Archive, &r.cfg)
	r.deps.Projector, r.deps.Bus = joinProjector(deps.Projector, &r.cfg), joinBus(deps.Bus, &r.cfg)
	if deps.Queue != nil {
		r.partitions = deps.Queue.Partitions()
		if limit := deps.Queue.RebalanceTimeout(); r.cfg.DrainTimeout >= limit {
			return nil, fmt.Errorf("jobs.drain_timeout: %s is not below queue.rebalance_timeout, %s", r.cfg.DrainTimeout, limit)
		}
	}
	r.ids = newNodeIDs(deps.Nodes, r.cfg.NodeLease, r.deps.Now, r.log, r.m)
	r.cache = &breaker{open: r.cfg.CacheBreak}
	r.told = &breaker{open: r.cfg.CacheBreak}
	for _, lane := range lanes {
		p, err := newPool(r, lane)
		if err != nil {
			return nil, err
		}
		if p.work = p.laneWork(); p.work == nil {
			p.ants.Release()
			continue
		}
		r.pools = append(r.pools, p)
	}
	return r, nil
}

// laneWork is what the pool does with its records; nil for a lane that this process has
// nothing to do in.
func (p *Pool) laneWork() laneWork {
	switch {
	case p.lane == im.LaneRealtime:
		return (*scribes)(p)
	case p.lane == im.LaneDelay && p.deps.Decider != nil:
		return newDelay(p)
	case p.lane == im.LaneRetry && p.deps.Notifier != nil:
		return p.newNotifiers()
	case p.lane == im.LaneDead && p.deps.Producers != nil:
		return (*undertakers)(p)
	}
	return nil
}

// Run works until ctx ends, then finishes what it has taken, commits, leaves the
// groups and returns; where one lane fails, it ends the others. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	return r.share(ctx, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, p := range r.pools {
			g.Go(func() error { return p.run(ctx) })
		}
		return g.Wait()
	})
}

// share runs what the lanes share, around serve.
func (r *Runner) share(ctx context.Context, serve func(context.Context) error) error {
	var shared sync.WaitGroup
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	shared.Go(func() { r.ids.run(background) })
	shared.Go(func() { r.keep(background) })
	defer func() {
		stop()
		shared.Wait()
	}()
	return serve(ctx)
}

// step tells the tests' hook where a batch has come.
func (r *Runner) step(name string) error {
	if r.deps.Steps == nil {
		return nil
	}
	return r.deps.Steps(name)
}
