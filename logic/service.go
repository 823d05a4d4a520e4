package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Service decides. Its methods may be called from any goroutine; those of one
// connection in the order of its messages ([L2]).
type Service struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	members *membership
	senders *senders
	limit   *sendLimit
	waiters *waiters
	asks    *limiter // of questions about presence, and changes of settings and groups
	sights  *sights
	typing  *typing
	seen    *seen
	revoked *revocations
}

// Deps are the ports a Service works with, all of them required but Notes.
type Deps struct {
	Accounts Accounts
	Profiles Profiles
	Index    Index
	Records  Records
	Settings Settings
	Groups   Groups
	// Schedules keep messages for their time; Partition is where a conversation's fire.
	Schedules Schedules
	Partition func(im.ConversationID) int

	Rooms    Rooms
	Hints    Hints
	Limits   Limits
	Queue    Queue
	Backlog  Backlog
	Sessions Sessions
	Auth     Authenticator
	Filter   Filter

	Presences   Presences
	Sight       Sight
	Revocations Revocations
	Bus         Bus

	// Node is the channel on which this process hears of what its HTTP requests sent.
	// It is not the node of a connector in the same process: each would have to read
	// the other's batches.
	Node im.NodeID
	// Notes brings that channel. Without it nobody can wait for stored.
	Notes Notes

	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// NewService checks cfg and returns a Service. Run must be running for ?wait=stored.
func NewService(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	s := &Service{cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, metrics: newMetrics(deps.Registerer)}
	var err error
	if s.members, err = newMembership(cfg, deps, s.metrics); err != nil {
		return nil, err
	}
	if s.senders, err = newSenders(cfg, deps, s.metrics); err != nil {
		return nil, err
	}
	if s.limit, err = newSendLimit(cfg, deps); err != nil {
		return nil, err
	}
	s.waiters = newWaiters(cfg.Waiters, s.metrics)
	s.asks = newLimiter(deps.Limits, deps.Now)
	s.sights = newSights(cfg, deps)
	s.typing = newTyping(cfg.Copies)
	s.seen = newSeen(cfg, deps, s.metrics)
	s.revoked = &revocations{from: deps.Revocations, log: deps.Log, timeout: cfg.StoreTimeout}
	return s, nil
}

// Run does what is not the answer to a request until ctx ends: it listens for the notes
// about what was stored, tells what was revoked and who has stopped typing, notes when
// devices were seen, and tells the log what groups have left over.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx) })
	wg.Go(func() { s.revoked.run(ctx) })
	wg.Go(func() { s.seen.run(ctx) })
	wg.Go(func() { s.runTyping(ctx) })
	wg.Go(func() { s.retell(ctx) })
	<-ctx.Done()
	wg.Wait()
	return nil
}

// listen hears what was stored.
func (s *Service) listen(ctx context.Context) {
	for s.deps.Notes != nil && ctx.Err() == nil {
		err := s.deps.Notes.Subscribe(ctx, s.deps.Node, s.waiters.hear, func() {})
		if ctx.Err() != nil {
			break
		}
		s.log.Warn("listening for notes ended, trying again", "node", s.deps.Node, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// Limits are what a client should keep to; a rate of 0 is unlimited.
func (s *Service) Limits() protocol.Limits {
	return protocol.Limits{
		MaxMessageBytes: s.cfg.MaxMessageBytes,
		MaxTextBytes:    im.MaxTextBytes,
		MaxPage:         maxPage,
		SendPerSecond:   max(s.cfg.SendPerSecond, 0),
		SendBurst:       s.cfg.SendBurst,
	}
}

// within bounds what a request spends on the stores ([L3]).
func (s *Service) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return withTimeout(ctx, s.cfg.StoreTimeout)
}

// away says that err is a store that does not answer, rather than an answer.
func away(err error) bool {
	return errors.Is(err, im.ErrStore) || errors.Is(err, im.ErrCache) || errors.Is(err, im.ErrOverloaded) ||
		errors.Is(err, context.DeadlineExceeded)
}

// storeError names what a deadline means where only MySQL can have missed it.
func storeError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", im.ErrStore, err)
	}
	return err
}
