package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// laneWork is what a lane does with its records.
type laneWork interface {
	// newWorker is called once for each strand of an assignment.
	newWorker(p *partition) worker
	// attend runs beside an assignment for as long as it lasts, until ctx ends.
	attend(ctx context.Context, p *partition)
	// accepts says why a task is not one of this lane, or can never be done; else nil.
	accepts(t *im.Task) error
}

// worker works on the batches of one strand, one at a time, in the order of the log.
type worker interface {
	// handle returns when each record of the batch is done for good, or an error where the
	// assignment has ended.
	handle(ctx context.Context, items []*item) error
}

// Pool is one lane's worker pool in this process: one member of the lane's consumer
// group, whose partitions share an ants pool. What is of the process and not of a lane is
// the Runner's.
type Pool struct {
	*Runner
	lane     im.Lane
	work     laneWork
	log      *slog.Logger
	settings atomic.Pointer[im.PoolSettings]
	ants     *ants.Pool
	meter    meter
	refused  im.PoolSettings // what was set and did not fit; of Runner.keep

	mu       sync.Mutex // guards what follows
	wake     sync.Cond
	ready    []*strand // each at most once
	assigned map[*partition]bool
	closing  bool

	leaveMu sync.Mutex
	leave   context.CancelCauseFunc // leaves the group; nil before Run
}

func newPool(r *Runner, lane im.Lane) (*Pool, error) {
	p := &Pool{Runner: r, lane: lane, log: r.log.With("lane", lane), assigned: make(map[*partition]bool)}
	settings := im.PoolSettings(r.cfg.pool(lane))
	p.settings.Store(&settings)
	p.wake.L = &p.mu
	p.meter.init(r.m, lane)
	var err error
	if p.ants, err = ants.NewPool(settings.Size); err != nil {
		return nil, fmt.Errorf("jobs.%s.size: %w", lane, err)
	}
	return p, nil
}

// set is how the pool is set now.
func (p *Pool) set() *im.PoolSettings { return p.settings.Load() }

var errStalled = errors.New("no progress")

// run is a member of the lane's group until ctx ends.
func (p *Pool) run(ctx context.Context) error {
	return p.serve(ctx, func(ctx context.Context) error {
		return queue.NewConsumer(p.deps.Queue, p.lane, func(ctx context.Context, a *queue.Assignment) {
			p.assign(ctx, a)
		}).Run(ctx)
	})
}

// serve runs what the partitions of the lane share, around consume, which hands partitions
// to assign until its context ends.
func (p *Pool) serve(ctx context.Context, consume func(context.Context) error) error {
	var shared sync.WaitGroup
	shared.Go(p.dispatch)
	defer func() {
		p.mu.Lock()
		p.closing = true
		p.wake.Broadcast()
		p.mu.Unlock()
		shared.Wait()
		p.ants.Release()
	}()
	for {
		member, leave := context.WithCancelCause(ctx)
		p.leaveMu.Lock()
		p.leave = leave
		p.leaveMu.Unlock()
		err := consume(member)
		stalled := errors.Is(context.Cause(member), errStalled)
		leave(nil)
		if ctx.Err() != nil || err != nil || !stalled {
			return err
		}
		p.m.stalls.Inc()
		p.log.Error("left the consumer group for want of progress; back when the store answers")
		if err := p.awaitStore(ctx); err != nil {
			return nil
		}
	}
}

// stall makes this process leave the group.
func (p *Pool) stall() {
	p.leaveMu.Lock()
	defer p.leaveMu.Unlock()
	if p.leave != nil {
		p.leave(errStalled)
	}
}

// awaitStore returns when MySQL answers a read, or with the error of ctx.
func (p *Pool) awaitStore(ctx context.Context) error {
	_, err := untilStore(ctx, p, "probe", func(ctx context.Context) (struct{}, error) {
		_, err := p.deps.Archive.Lasts(ctx, []im.ConversationID{im.DirectConversation(im.SystemUser, im.SystemUser)})
		return struct{}{}, err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p.log.Warn("probe the store", "err", err)
	}
	return nil
}

// enqueue lines a strand up for the pool.
func (p *Pool) enqueue(s *strand) {
	s.lined = time.Now()
	p.meter.lined.Add(1)
	p.mu.Lock()
	p.ready = append(p.ready, s)
	p.wake.Signal()
	p.mu.Unlock()
}

// dispatch submits strands to the pool. It is the only one who does: a task that
// submitted to its own full pool would wait for itself.
func (p *Pool) dispatch() {
	for {
		p.mu.Lock()
		for len(p.ready) == 0 && !p.closing {
			p.wake.Wait()
		}
		if len(p.ready) == 0 {
			p.mu.Unlock()
			return
		}
		s := p.ready[0]
		p.ready = p.ready[1:]
		p.mu.Unlock()
		if err := p.ants.Submit(s.run); err != nil {
			p.log.Error("submit a strand; running it here", "err", err)
			s.run()
		}
	}
}

// untilStore calls f until MySQL answers, however long that takes: for as long as it
// is away nothing else would succeed either. Other errors are returned.
func untilStore[T any](ctx context.Context, p *Pool, op string, f func(context.Context) (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := callStore(ctx, p, op, f)
		if err == nil || ctx.Err() != nil || !away(err) {
			return v, err
		}
		if err := p.backoff(ctx, op, try, err); err != nil {
			return v, err
		}
	}
}

// insist calls f until it succeeds, whatever its errors say: what neither this nor the
// next owner can find out must wait for a person.
func insist[T any](ctx context.Context, p *Pool, op string, f func(context.Context) (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := callStore(ctx, p, op, f)
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		if err := p.backoff(ctx, op, try, err); err != nil {
			return v, err
		}
	}
}

// callStore is one call to MySQL, with its deadline.
func callStore[T any](ctx context.Context, p *Pool, op string, f func(context.Context) (T, error)) (T, error) {
	call, cancel := context.WithTimeout(ctx, p.cfg.StoreTimeout)
	defer cancel()
	start := time.Now()
	v, err := f(call)
	p.meter.store(op, start)
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
func (p *Pool) backoff(ctx context.Context, op string, try int, cause error) error {
	p.m.waits.WithLabelValues(op).Inc()
	set := p.set()
	pause := set.BackoffMax
	if try < 16 {
		pause = min(set.BackoffMin<<try, set.BackoffMax)
	}
	if try == 0 || pause == set.BackoffMax {
		p.log.Warn("a store is away; waiting", "op", op, "attempt", try+1, "err", cause)
	}
	return sleep(ctx, pause/2+rand.N(pause/2+1))
}
