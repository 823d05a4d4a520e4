package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	rebuildTimeout = 4 * time.Second // within the 5 s of any call
	rebuildReads   = 4               // ranges of undelivered messages read at the same time, per user
	rebuildEntries = 2000            // offline entries in one script call, so that none holds Redis for long
)

// rebuild completes a user's projection from MySQL and seals it with gen, which
// was noted before anything was read: what is committed after that is projected by
// its writer, sealed or not. Should another generation stand by the time of
// the seal, nobody trusts it. Callers for the same user share one.
func (x *Index) rebuild(ctx context.Context, u im.UserID, gen im.Generation, offline bool) error {
	key := "u" + u.String() + "/" + string(gen) + flag(offline)
	_, err := x.shared(ctx, key, func(ctx context.Context) (any, error) {
		start := time.Now()
		err := x.rebuildUser(ctx, u, gen, offline)
		for try := 1; errors.Is(err, errDropped) && try < trustTries; try++ {
			err = x.rebuildUser(ctx, u, gen, offline)
		}
		x.redis.metrics.rebuild.Observe(time.Since(start).Seconds())
		result := "ok"
		if err != nil {
			result = "failed"
		}
		x.redis.metrics.rebuilds.WithLabelValues(result).Inc()
		return nil, err
	})
	return err
}

// errDropped says that a rebuild had read MySQL when what Redis said of the user was
// dropped: what was written there meanwhile is in neither.
var errDropped = fmt.Errorf("dropped meanwhile: %w", im.ErrCache)

// voided is what a rebuild notes before it reads MySQL.
func (x *Index) voided(ctx context.Context, u im.UserID) (string, error) {
	ctx, done := x.redis.op(ctx, "voided")
	defer done()
	cmd := redis.NewStringCmd(ctx, "hget", stateKey(u), fieldVoid)
	if err := x.redis.exec(ctx, cmd); err != nil {
		return "", cacheError(err)
	}
	return cmd.Val(), nil
}

// dropped says that a step of a rebuild was refused for that.
func dropped(cmd *redis.Cmd) bool { return errors.Is(cmd.Err(), redis.Nil) }

// shared runs work once for all who ask for it at the same time. It has its own
// deadline: the first caller going away must not fail the others.
func (x *Index) shared(ctx context.Context, key string, work func(ctx context.Context) (any, error)) (any, error) {
	flight := x.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebuildTimeout)
		defer cancel()
		leave, err := x.rebuilds.enter(ctx)
		if err != nil {
			if errors.Is(err, im.ErrOverloaded) {
				x.redis.metrics.refused.WithLabelValues("rebuild").Inc()
			}
			return nil, err
		}
		defer leave()
		return work(ctx)
	})
	select {
	case r := <-flight:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (x *Index) rebuildUser(ctx context.Context, u im.UserID, gen im.Generation, offline bool) error {
	began := time.Now()
	void, err := x.voided(ctx, u)
	if err != nil {
		return fmt.Errorf("rebuild user %s: %w", u, err)
	}
	states, err := x.record.UserStates(ctx, u)
	if err != nil {
		return fmt.Errorf("rebuild user %s: %w", u, err)
	}
	entries := make([][]im.OfflineEntry, len(states))
	if offline {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(rebuildReads)
		for i, s := range states {
			if s.LastSeq <= s.Settled() || isChannel(s.Conversation) {
				continue
			}
			g.Go(func() (err error) {
				entries[i], err = x.record.Undelivered(gctx, u, s.Conversation, s.Settled(), offlineKeep)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("rebuild offline index of user %s: %w", u, err)
		}
	}
	if err := x.rebuildSettings(ctx, u, gen, began, void, states); err != nil {
		return err
	}
	for first := 0; ; {
		var step []im.UserRaise
		size := 0
		for i := first; i < len(states) && len(step) < raiseConvs && (size == 0 || size+len(entries[i]) <= rebuildEntries); i++ {
			step = append(step, im.UserRaise{User: u, State: states[i], Offline: entries[i]})
			size += len(entries[i])
		}
		first += len(step)
		last := first == len(states)
		cmd := raise(ctx, u, step, sealing{generation: gen, last: last, offline: offline, void: void})
		opCtx, done := x.redis.op(ctx, "rebuild")
		err := x.redis.exec(opCtx, cmd)
		done()
		switch {
		case dropped(cmd):
			return errDropped
		case err != nil:
			return fmt.Errorf("rebuild user %s: %w", u, cacheError(err))
		}
		if last {
			return nil
		}
	}
}
