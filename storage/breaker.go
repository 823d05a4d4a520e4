package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	breakerFailures = 3                      // in a row, before calls fail at once
	breakerOpenMin  = 250 * time.Millisecond // then a single call may try
	breakerOpenMax  = time.Second
)

var errRedisAway = errors.New("redis did not answer a moment ago")

// breaker makes calls fail at once for a moment after Redis failed to answer, so
// that a frozen Redis costs a second once and not per call. After that moment
// one call tries; the others fail until it has succeeded. It sits in exec and not
// in the client's Limiter, which would also stop the handshake of the call that
// tries.
type breaker struct {
	metrics *redisMetrics

	mu       sync.Mutex // guards all below
	failures int
	until    time.Time // calls fail until then; zero: closed
	probing  bool
	pause    time.Duration
}

func newBreaker(m *redisMetrics) *breaker { return &breaker{metrics: m, pause: breakerOpenMin} }

// allow says whether a call may go out.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return nil
	}
	now := time.Now()
	if now.Before(b.until) {
		return errRedisAway
	}
	// Others wait for this one's report; should it never come, the next may try.
	b.until = now.Add(breakerOpenMax)
	b.probing = true
	return nil
}

// report learns from how a call ended. Replies of Redis, errors included,
// show that it is there, unless they say that it cannot serve.
func (b *breaker) report(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return // ours, and says nothing about Redis
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !isAway(err) {
		b.failures, b.until, b.probing, b.pause = 0, time.Time{}, false, breakerOpenMin
		b.metrics.open.Set(0)
		return
	}
	b.failures++
	if b.failures < breakerFailures && b.until.IsZero() {
		return
	}
	if b.probing {
		b.pause = min(2*b.pause, breakerOpenMax)
	}
	b.until, b.probing = time.Now().Add(b.pause), false
	b.metrics.open.Set(1)
}

// isAway tells an answer from no answer. LOADING and the like are no answer.
func isAway(err error) bool {
	if err == nil {
		return false
	}
	if redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsMasterDownError(err) || redis.IsMaxClientsError(err) ||
		redis.IsClusterDownError(err) || redis.IsTryAgainError(err) {
		return true
	}
	// Redirected again and again: the cluster does not agree yet on who has the slot.
	if _, moved := redis.IsMovedError(err); moved {
		return true
	}
	if _, ask := redis.IsAskError(err); ask {
		return true
	}
	var reply redis.Error
	return !errors.As(err, &reply)
}
