package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

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
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	// Now is the clock of message IDs and stored_at; nil: time.Now.
	Now func() time.Time
	// Steps, where set, is told of each step between two effects of a batch (insert,
	// cursors, project, publish, commit), after it was taken; an error ends the
	// assignment there and then, as a crash would. Tests only.
	Steps func(step string) error
}

// Runner works on the realtime lane: one member of its consumer group, whose
// partitions share one pool.
type Runner struct {
	cfg        Config
	deps       Deps
	partitions int
	log        *slog.Logger
	m          *metrics
	ids        *nodeIDs
	cache      *breaker // of projections
	told       *breaker // of pushes: a lost one is pulled, a lost projection voids every seal
	pool       *ants.Pool

	mu      sync.Mutex // guards ready and closing
	wake    sync.Cond
	ready   []*strand // each at most once
	closing bool

	leaveMu sync.Mutex
	leave   context.CancelCauseFunc // leaves the group; nil before Run
}

// NewRunner checks cfg and prepares; Run does the work.
func NewRunner(cfg Config, deps Deps) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Runner{cfg: cfg.WithDefaults(), deps: deps, log: deps.Log.With("lane", im.LaneRealtime), m: newMetrics(deps.Metrics)}
	if r.deps.Now == nil {
		r.deps.Now = time.Now
	}
	if deps.Queue != nil {
		r.partitions = deps.Queue.Partitions()
		if limit := deps.Queue.RebalanceTimeout(); r.cfg.DrainTimeout >= limit {
			return nil, fmt.Errorf("jobs.drain_timeout: %s is not below queue.rebalance_timeout, %s", r.cfg.DrainTimeout, limit)
		}
	}
	r.wake.L = &r.mu
	r.ids = newNodeIDs(deps.Nodes, r.cfg.NodeLease, r.deps.Now, r.log, r.m)
	r.cache = &breaker{open: r.cfg.CacheBreak}
	r.told = &breaker{open: r.cfg.CacheBreak}
	pool, err := ants.NewPool(r.cfg.Pool)
	if err != nil {
		return nil, fmt.Errorf("jobs.pool: %w", err)
	}
	r.pool = pool
	return r, nil
}

var errStalled = errors.New("no progress")

// Run works until ctx ends, then finishes what it has taken, commits, leaves the
// group and returns. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	return r.serve(ctx, func(ctx context.Context) error {
		return queue.NewConsumer(r.deps.Queue, im.LaneRealtime, func(ctx context.Context, a *queue.Assignment) {
			r.work(ctx, a)
		}).Run(ctx)
	})
}

// serve runs what the partitions share, around consume, which hands partitions to
// work until its context ends.
func (r *Runner) serve(ctx context.Context, consume func(context.Context) error) error {
	var shared sync.WaitGroup
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	shared.Go(func() { r.ids.run(background) })
	shared.Go(r.dispatch)
	defer func() {
		stop()
		r.mu.Lock()
		r.closing = true
		r.wake.Broadcast()
		r.mu.Unlock()
		shared.Wait()
		r.pool.Release()
	}()
	for {
		member, leave := context.WithCancelCause(ctx)
		r.leaveMu.Lock()
		r.leave = leave
		r.leaveMu.Unlock()
		err := consume(member)
		stalled := errors.Is(context.Cause(member), errStalled)
		leave(nil)
		if ctx.Err() != nil || err != nil || !stalled {
			return err
		}
		r.m.stalls.Inc()
		r.log.Error("left the consumer group for want of progress; back when the store answers")
		if err := r.awaitStore(ctx); err != nil {
			return nil
		}
	}
}

// stall makes this process leave the group.
func (r *Runner) stall() {
	r.leaveMu.Lock()
	defer r.leaveMu.Unlock()
	if r.leave != nil {
		r.leave(errStalled)
	}
}

// awaitStore returns when MySQL answers a read, or with the error of ctx.
func (r *Runner) awaitStore(ctx context.Context) error {
	_, err := untilStore(ctx, r, "probe", func(ctx context.Context) (struct{}, error) {
		_, err := r.deps.Archive.Lasts(ctx, []im.ConversationID{im.DirectConversation(im.SystemUser, im.SystemUser)})
		return struct{}{}, err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.log.Warn("probe the store", "err", err)
	}
	return nil
}

// enqueue lines a strand up for the pool.
func (r *Runner) enqueue(s *strand) {
	r.mu.Lock()
	r.ready = append(r.ready, s)
	r.wake.Signal()
	r.mu.Unlock()
}

// dispatch submits strands to the pool. It is the only one who does: a task that
// submitted to its own full pool would wait for itself.
func (r *Runner) dispatch() {
	for {
		r.mu.Lock()
		for len(r.ready) == 0 && !r.closing {
			r.wake.Wait()
		}
		if len(r.ready) == 0 {
			r.mu.Unlock()
			return
		}
		s := r.ready[0]
		r.ready = r.ready[1:]
		r.mu.Unlock()
		if err := r.pool.Submit(s.run); err != nil {
			r.log.Error("submit a strand; running it here", "err", err)
			s.run()
		}
	}
}

// step tells the tests' hook where a batch has come.
func (r *Runner) step(name string) error {
	if r.deps.Steps == nil {
		return nil
	}
	return r.deps.Steps(name)
}

// untilStore calls f until MySQL answers, however long that takes: for as long as it
// is away nothing else would succeed either. Other errors are returned.
func untilStore[T any](ctx context.Context, r *Runner, op string, f func(context.Context) (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := callStore(ctx, r, op, f)
		if err == nil || ctx.Err() != nil || !away(err) {
			return v, err
		}
		if err := r.backoff(ctx, op, try, err); err != nil {
			return v, err
		}
	}
}

// callStore is one call to MySQL, with its deadline.
func callStore[T any](ctx context.Context, r *Runner, op string, f func(context.Context) (T, error)) (T, error) {
	call, cancel := context.WithTimeout(ctx, r.cfg.StoreTimeout)
	defer cancel()
	start := time.Now()
	v, err := f(call)
	r.m.step(op, start)
	if err != nil {
		err = fmt.Errorf("%s: %w", op, err)
	}
	return v, err
}

// away says whether an error heals by itself: the store is away, or did not answer
// in time.
func away(err error) bool {
	return errors.Is(err, im.ErrStore) || errors.Is(err, context.DeadlineExceeded)
}

// backoff waits before the next attempt, or returns the error of ctx.
func (r *Runner) backoff(ctx context.Context, op string, try int, cause error) error {
	r.m.waits.WithLabelValues(op).Inc()
	pause := r.cfg.BackoffMax
	if try < 16 {
		pause = min(r.cfg.BackoffMin<<try, r.cfg.BackoffMax)
	}
	if try == 0 || pause == r.cfg.BackoffMax {
		r.log.Warn("a store is away; waiting", "op", op, "attempt", try+1, "err", cause)
	}
	pause = pause/2 + rand.N(pause/2+1)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
