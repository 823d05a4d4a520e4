package storage

import (
	"context"
	"errors"

	"github.com/curlew-im/curlew/logic/im"
)

// admission bounds the reads of whole users from MySQL: so many at a time, so many
// waiting, the rest refused.
type admission struct {
	slots chan struct{}
	queue chan struct{}
	full  error
}

func newAdmission(slots int, full error) *admission {
	return &admission{slots: make(chan struct{}, slots), queue: make(chan struct{}, slots*128), full: full}
}

// enter waits for a place; the returned function gives it back.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	select {
	case a.queue <- struct{}{}:
	default:
		return nil, a.full
	}
	defer func() { <-a.queue }()
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots }, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, im.ErrTimeout
		}
		return nil, ctx.Err()
	}
}
