package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	walkPage  = 500                    // users read at once
	walkTries = 5                      // at one user, while a store is away
	walkPause = 500 * time.Millisecond // between two of them
)

// Rebuilder completes what Redis says of users from MySQL, for operators and for the
// auditor: one user from nothing, or all of them, those whom nobody reads too.
type Rebuilder struct {
	x     *Index
	db    *DB
	log   *slog.Logger
	begin chan struct{}

	mu       sync.Mutex // guards progress
	progress im.RebuildProgress
}

// NewRebuilder makes a Rebuilder; RebuildAll needs its Run.
func NewRebuilder(r *Redis, db *DB, log *slog.Logger) *Rebuilder {
	return &Rebuilder{x: NewIndex(r, db), db: db, log: log, begin: make(chan struct{}, 1)}
}

// HandleID finds a user; im.ErrNotFound.
func (b *Rebuilder) HandleID(ctx context.Context, handle string) (im.UserID, error) {
	return b.db.HandleID(ctx, handle)
}

// RebuildUser drops what Redis says of a user, what is too high included, and builds it
// anew before it returns. Readers meanwhile find it unsealed, as after a loss. Returns
// im.ErrNotFound for who does not exist.
func (b *Rebuilder) RebuildUser(ctx context.Context, u im.UserID) error {
	found, err := b.db.ProfilesByID(ctx, []im.UserID{u})
	if err != nil {
		return err
	}
	if _, ok := found[u]; !ok {
		return im.ErrNotFound
	}
	return b.x.rebuildFromNothing(ctx, u)
}

func (x *Index) rebuildFromNothing(ctx context.Context, u im.UserID) error {
	gen, err := x.redis.gen.ensure(ctx, x.redis)
	if err != nil {
		return err
	}
	opCtx, done := x.redis.op(ctx, "drop")
	err = x.redis.exec(opCtx, eval(opCtx, dropScript, []string{stateKey(u), convsKey(u), versKey(u), offlineKey(u),
		mergedKey(u), settingsKey(u)}, rand.Text()))
	done()
	if err != nil {
		return fmt.Errorf("drop user %s: %w", u, cacheError(err))
	}
	// Not with others that are under way: they may have read before the drop.
	leave, err := x.rebuilds.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return x.rebuildUser(ctx, u, gen, true)
}

// RebuildConversation drops what Redis says of a conversation for all of its members,
// and builds it anew.
func (b *Rebuilder) RebuildConversation(ctx context.Context, c im.ConversationID) error {
	gen, err := b.x.redis.gen.ensure(ctx, b.x.redis)
	if err != nil {
		return err
	}
	opCtx, done := b.x.redis.op(ctx, "drop")
	err = b.x.redis.exec(opCtx, redis.NewIntCmd(opCtx, "del", uncountedKey(c)), redis.NewIntCmd(opCtx, "del", endKey(c)))
	done()
	if err != nil {
		return fmt.Errorf("drop conversation %s: %w", c, cacheError(err))
	}
	if err := b.x.rebuildUncounted(ctx, c, gen); err != nil || !isChannel(c) {
		return err
	}
	return b.x.rebuildEnds(ctx, gen, []im.ConversationID{c}, map[im.ConversationID]im.ChannelEnd{})
}

// RebuildAll begins to walk through all users that there are now. Those whose lists are
// sealed, since somebody has read them, are passed by: set a new generation first.
// Returns im.ErrConflict while one walk goes on.
func (b *Rebuilder) RebuildAll(ctx context.Context) (im.RebuildProgress, error) {
	last, err := b.db.LastUser(ctx)
	if err != nil {
		return im.RebuildProgress{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.progress.Running() {
		return b.progress, fmt.Errorf("a walk goes on: %w", im.ErrConflict)
	}
	b.progress = im.RebuildProgress{StartedAt: time.Now().UnixMilli(), Last: last}
	b.begin <- struct{}{} // has room: no walk goes on
	return b.progress, nil
}

// Progress is of the walk that goes on, else of the last.
func (b *Rebuilder) Progress() im.RebuildProgress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.progress
}

// Run walks when it is asked to, until ctx ends.
func (b *Rebuilder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.begin:
			b.walk(ctx)
		}
	}
}

func (b *Rebuilder) walk(ctx context.Context) {
	b.log.Info("rebuilding all users", "last", b.Progress().Last)
	for ctx.Err() == nil {
		at := b.Progress()
		page, err := b.db.UserIDs(ctx, at.At, walkPage)
		if err != nil {
			b.log.Warn("rebuild all users: read the next; waiting", "err", err)
			pause(ctx, walkPause)
			continue
		}
		g := errgroup.Group{}
		// A half, so that those who read now do not wait for those who do not.
		g.SetLimit(max(b.x.redis.cfg.Rebuilds/2, 1))
		for _, u := range page {
			if u > at.Last {
				break
			}
			g.Go(func() error {
				err := b.one(ctx, u)
				b.mu.Lock()
				defer b.mu.Unlock()
				if err != nil {
					b.progress.Failed++
				} else {
					b.progress.Users++
				}
				return nil
			})
		}
		_ = g.Wait()
		b.mu.Lock()
		if len(page) < walkPage || page[len(page)-1] >= at.Last {
			b.progress.At, b.progress.EndedAt = at.Last, time.Now().UnixMilli()
		} else {
			b.progress.At = page[len(page)-1]
		}
		p := b.progress
		b.mu.Unlock()
		if !p.Running() {
			b.log.Info("rebuilt all users", "users", p.Users, "failed", p.Failed, "dur", time.Duration(p.EndedAt-p.StartedAt)*time.Millisecond)
			return
		}
	}
}

// one completes one user, if they are not, and waits for stores that are away.
func (b *Rebuilder) one(ctx context.Context, u im.UserID) error {
	for try := 1; ; try++ {
		err := b.x.complete(ctx, u)
		if err == nil || ctx.Err() != nil {
			return err
		}
		waits := errors.Is(err, im.ErrStore) || errors.Is(err, im.ErrCache) || errors.Is(err, im.ErrOverloaded) || errors.Is(err, im.ErrTimeout)
		if !waits || try == walkTries {
			b.log.Warn("rebuild all users: one failed", "user", u, "err", err)
			return err
		}
		pause(ctx, walkPause)
	}
}

// complete seals a user's lists, the offline index among them, if they are not.
func (x *Index) complete(ctx context.Context, u im.UserID) error {
	opCtx, done := x.redis.op(ctx, "sealed")
	token, state, offline := getGeneration(opCtx), redis.NewStringCmd(opCtx, "hget", stateKey(u), fieldSeal), getSeal(opCtx, offlineKey(u))
	err := x.redis.vouched(opCtx, token, state, offline)
	done()
	if err != nil {
		return cacheError(err)
	}
	gen := im.Generation(token.Val())
	if gen == "" {
		if gen, err = x.redis.gen.ensure(ctx, x.redis); err != nil {
			return err
		}
	}
	if state.Val() == string(gen) && len(offline.Val()) == 1 && offline.Val()[0] == "~"+string(gen) {
		return nil
	}
	return x.rebuild(ctx, u, gen, true)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
