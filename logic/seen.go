package logic

import (
	"context"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// seenNow notes it in any case: a connection began or ended. seenEvery is how often
	// an open one is noted, at its pings: where its node is killed and nobody is left to
	// say when it ended, the record is no older than that and a ping.
	seenNow   = time.Duration(0)
	seenEvery = 5 * time.Minute
	// seenFlush is how often what was noted is written, in one statement for each 500.
	seenFlush = time.Second
	// seenMost bounds what waits, while MySQL is away; beyond it what comes is not noted.
	seenMost = 50_000
)

// seen notes when devices were last connected.
type seen struct {
	sight   Sight
	log     *slog.Logger
	now     func() time.Time
	timeout time.Duration
	metrics *metrics
	noted   *lru.Cache[stateKey, int64] // Unix milliseconds

	mu   sync.Mutex // guards wait
	wait map[stateKey]int64
}

func newSeen(cfg Config, deps Deps, m *metrics) *seen {
	noted, _ := lru.New[stateKey, int64](cfg.Copies) // fails for a size below 1 only
	return &seen{sight: deps.Sight, log: deps.Log, now: deps.Now, timeout: cfg.StoreTimeout, metrics: m,
		noted: noted, wait: make(map[stateKey]int64)}
}

// note notes that the session's device is there, or was until now, unless it did so
// less than every ago.
func (s *seen) note(session *im.Session, every time.Duration) {
	k, now := stateKey{session.User, session.Device}, s.now().UnixMilli()
	if at, known := s.noted.Get(k); known && now-at < every.Milliseconds() {
		return
	}
	s.noted.Add(k, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.wait[k]; !there && len(s.wait) >= seenMost {
		s.metrics.unseen.Inc()
		return
	}
	s.wait[k] = now
}

// run writes what was noted, the last of it when ctx has ended.
func (s *seen) run(ctx context.Context) {
	tick := time.NewTicker(seenFlush)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		s.flush(context.WithoutCancel(ctx))
	}
}

// flush writes what waits, and keeps it where MySQL is away.
func (s *seen) flush(ctx context.Context) {
	s.mu.Lock()
	wait := s.wait
	s.wait = make(map[stateKey]int64)
	s.mu.Unlock()
	if len(wait) == 0 {
		return
	}
	all := make([]im.DeviceSeen, 0, len(wait))
	for k, at := range wait {
		all = append(all, im.DeviceSeen{User: k.user, Device: k.device, At: at})
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := s.sight.MarkSeen(ctx, all)
	if err == nil {
		return
	}
	if !away(err) {
		s.log.Error("when devices were seen cannot be written", "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, at := range wait {
		if len(s.wait) >= seenMost {
			s.metrics.unseen.Inc()
		} else {
			s.wait[k] = max(s.wait[k], at)
		}
	}
}
