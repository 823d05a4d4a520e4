package logic

import (
	"context"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/curlew-im/curlew/logic/im"
)

// localBuckets bounds what one process remembers while Redis is away. Beyond it the
// bucket used longest ago starts anew: the limit then gives a little, memory does not.
const localBuckets = 50_000

// limiter takes single tokens of per-minute limits shared by all nodes. While Redis
// is away each process limits by itself.
type limiter struct {
	shared Limits
	clock  func() time.Time
	local  *lru.Cache[string, *rate.Limiter]
}

func newLimiter(shared Limits, clock func() time.Time) *limiter {
	local, _ := lru.New[string, *rate.Limiter](localBuckets) // fails for a size below 1 only
	return &limiter{shared: shared, clock: clock, local: local}
}

// take returns im.LimitError where the bucket is empty. perMinute is also the burst;
// negative: no limit. Nothing that a user wrote freely may enter the bucket's name.
func (l *limiter) take(ctx context.Context, limit, bucket string, perMinute int) error {
	if perMinute < 0 {
		return nil
	}
	name := limit + ":" + bucket
	perSecond := float64(perMinute) / 60
	granted, wait, err := l.shared.Take(ctx, name, 1, perSecond, perMinute)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		granted, wait = l.takeLocal(name, perSecond, perMinute)
	}
	if granted == 0 {
		return &im.LimitError{Limit: limit, RetryAfter: max(wait, time.Second)}
	}
	return nil
}

func (l *limiter) takeLocal(name string, perSecond float64, burst int) (granted int, wait time.Duration) {
	b, ok := l.local.Get(name)
	if !ok {
		b = rate.NewLimiter(rate.Limit(perSecond), burst)
		if prev, there, _ := l.local.PeekOrAdd(name, b); there {
			b = prev
		}
	}
	if b.AllowN(l.clock(), 1) {
		return 1, 0
	}
	return 0, time.Duration(float64(time.Second) / perSecond)
}

// addressBucket names who shares an address: one IPv4 address, or one IPv6 /64, since
// a single subscriber has all of that.
func addressBucket(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return "ip:unknown"
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // fails for more bits than the address has only
		return "ip:" + p.Masked().Addr().String()
	}
	return "ip:" + a.String()
}
