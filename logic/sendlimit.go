package logic

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/curlew-im/curlew/logic/im"
)

// sendLimit bounds what one user sends over all nodes. Tokens are drawn from the
// shared bucket in chunks, so that Redis is not asked for each message; while it is
// away each node counts alone.
type sendLimit struct {
	limits Limits
	now    func() time.Time
	rate   float64 // per second; below 0: no limit
	burst  int
	chunk  int
	users  *lru.Cache[im.UserID, *userLimit]
}

// userLimit is one user's share on this node.
type userLimit struct {
	mu      sync.Mutex // guards the rest; held while the bucket is asked
	tokens  int        // drawn and not yet spent
	drawn   time.Time
	denied  time.Time // nothing is there before this
	alone   float64   // tokens of the local bucket, while Redis is away
	aloneAt time.Time
}

const (
	// drawnFor is how long drawn tokens are good: a store of them would let a user
	// exceed the burst later.
	drawnFor = 2 * time.Second
	// limitTimeout bounds the wait for Redis; past it the node counts alone.
	limitTimeout = 200 * time.Millisecond
)

func newSendLimit(cfg Config, deps Deps) (*sendLimit, error) {
	users, err := lru.New[im.UserID, *userLimit](cfg.Copies)
	if err != nil {
		return nil, fmt.Errorf("send limit: %w", err)
	}
	return &sendLimit{
		limits: deps.Limits, now: deps.Now, users: users,
		rate: float64(cfg.SendPerSecond), burst: cfg.SendBurst, chunk: max(1, min(cfg.SendBurst/5, 8)),
	}, nil
}

// Take spends one token of u, or returns an *im.LimitError.
func (l *sendLimit) Take(ctx context.Context, u im.UserID) error {
	if l.rate < 0 {
		return nil
	}
	user, ok := l.users.Get(u)
	if !ok {
		user = &userLimit{}
		if there, found, _ := l.users.PeekOrAdd(u, user); found {
			user = there
		}
	}
	user.mu.Lock()
	defer user.mu.Unlock()
	now := l.now()
	if user.tokens > 0 && now.Sub(user.drawn) < drawnFor {
		user.tokens--
		return nil
	}
	if wait := user.denied.Sub(now); wait > 0 {
		return &im.LimitError{Limit: "send", RetryAfter: wait}
	}
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	granted, wait, err := l.limits.Take(ctx, "send:"+u.String(), l.chunk, l.rate, l.burst)
	if err != nil {
		return l.takeAlone(user, now)
	}
	if granted == 0 {
		user.denied = now.Add(wait)
		return &im.LimitError{Limit: "send", RetryAfter: wait}
	}
	user.tokens, user.drawn = granted-1, now
	return nil
}

// takeAlone counts on this node only.
func (l *sendLimit) takeAlone(user *userLimit, now time.Time) error {
	if user.aloneAt.IsZero() {
		user.alone = float64(l.burst)
	} else {
		user.alone = min(user.alone+now.Sub(user.aloneAt).Seconds()*l.rate, float64(l.burst))
	}
	user.aloneAt = now
	if user.alone < 1 {
		wait := time.Duration((1 - user.alone) / l.rate * float64(time.Second))
		return &im.LimitError{Limit: "send", RetryAfter: wait}
	}
	user.alone--
	return nil
}
