package logic

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// revocationPoll is how often the list is read: one range of its primary key.
	revocationPoll = time.Second
	revocationPage = 1000
	// revocationLag is for how long one may be committed behind others above it: longer
	// than a transaction may take. It is read again for so long.
	revocationLag = 15 * time.Second
	// revocationKeep is how long they stay in the record.
	revocationKeep = time.Hour
)

// revocations reads what open sessions must learn, and tells it, each of it once,
// whatever became of the pushes that said the same ([L7]).
type revocations struct {
	from    Revocations
	log     *slog.Logger
	timeout time.Duration

	mu   sync.Mutex // guards tell
	tell []func([]im.Revocation)

	// The loop's own.
	begun  bool
	floor  uint64               // nothing will be committed at or below it
	told   map[uint64]time.Time // above it
	forgot time.Time
	failed bool
}

func (r *revocations) listen(tell func([]im.Revocation)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell = append(r.tell, tell)
}

func (r *revocations) run(ctx context.Context) {
	tick := time.NewTicker(revocationPoll)
	defer tick.Stop()
	for {
		r.poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// poll reads and tells what is new, where anybody listens.
func (r *revocations) poll(ctx context.Context) {
	r.mu.Lock()
	tell := r.tell
	r.mu.Unlock()
	if len(tell) == 0 {
		return
	}
	news, err := r.read(ctx, time.Now())
	if err != nil && ctx.Err() == nil && !r.failed {
		r.log.Warn("revocations cannot be read, sessions are ended at their pings meanwhile", "err", err)
	}
	r.failed = err != nil
	if len(news) == 0 {
		return
	}
	for _, f := range tell {
		f(news)
	}
}

func (r *revocations) read(ctx context.Context, now time.Time) (news []im.Revocation, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if !r.begun {
		last, err := r.from.LastRevocation(ctx)
		if err != nil {
			return nil, err
		}
		// Those under way now have IDs near the last; older ones are nobody's here.
		r.begun, r.floor, r.told = true, last-min(last, revocationPage), make(map[uint64]time.Time)
	}
	for after := r.floor; ; {
		page, err := r.from.Revocations(ctx, after, revocationPage)
		if err != nil {
			return news, err
		}
		for _, what := range page {
			after = what.ID
			if _, known := r.told[what.ID]; !known {
				r.told[what.ID] = now
				news = append(news, what)
			}
		}
		if len(page) < revocationPage {
			break
		}
	}
	r.forget(ctx, now)
	return news, nil
}

// forget drops what is old, here and, now and then, in the record.
func (r *revocations) forget(ctx context.Context, now time.Time) {
	for id, at := range r.told {
		if now.Sub(at) > revocationLag {
			r.floor = max(r.floor, id)
		}
	}
	for id := range r.told {
		if id <= r.floor {
			delete(r.told, id)
		}
	}
	if now.Sub(r.forgot) < revocationKeep/4 {
		return
	}
	r.forgot = now
	if err := r.from.ForgetRevocations(ctx, revocationKeep); err != nil {
		r.log.Warn("old revocations are not deleted, later then", "err", err)
	}
}

// Revoked has the next request of a revoked session, or of one whose user has changed
// their password, ask MySQL instead of a copy. It is told what Service.OnRevoked tells.
func (a *Auth) Revoked(all []im.Revocation) {
	users := make(map[im.UserID]bool)
	for i := range all {
		switch r := &all[i]; {
		case r.Hidden != 0:
		case r.Device == "":
			users[r.User] = true
		default:
			a.states.forget(stateKey{r.User, r.Device})
		}
	}
	if len(users) == 0 {
		return
	}
	for _, k := range a.states.entries.Keys() {
		if users[k.user] {
			a.states.forget(k)
		}
	}
}
