package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/logic/im/joint"
)

const (
	profileTTL   = time.Hour
	profileFresh = 5 * time.Second // how long this process trusts its own copy
	// profileHold keeps a changed profile out of Redis for longer than any read of
	// MySQL lasts, so that who read the old one cannot put it back.
	profileHold = 10 * time.Second
)

// people is what profiles ask of MySQL; *DB has it.
type people interface {
	// ProfilesByID leaves unknown users out, and may hold others.
	ProfilesByID(ctx context.Context, ids []im.UserID) (map[im.UserID]im.Profile, error)
	// HandleID returns im.ErrNotFound.
	HandleID(ctx context.Context, handle string) (im.UserID, error)
}

// Profiles says who people are: from a copy in this process (5 s), from Redis
// (1 h, dropped at a change), from MySQL.
type Profiles struct {
	redis   *Redis
	people  people
	asks    *joint.Call[[]im.UserID, map[im.UserID]im.Profile]
	local   *lru.Cache[im.UserID, localProfile]
	handles *lru.Cache[string, im.UserID]
	now     func() time.Time
}

type localProfile struct {
	profile im.Profile
	until   time.Time
}

// NewProfiles makes Profiles over Redis and the record (*DB).
func NewProfiles(r *Redis, p people) (*Profiles, error) {
	local, err := lru.New[im.UserID, localProfile](r.cfg.ProfileCache)
	if err != nil {
		return nil, fmt.Errorf("profile cache: %w", err)
	}
	handles, err := lru.New[string, im.UserID](r.cfg.ProfileCache)
	if err != nil {
		return nil, fmt.Errorf("handle cache: %w", err)
	}
	ps := &Profiles{redis: r, people: p, local: local, handles: handles, now: time.Now}
	ps.asks = joinUsers(ps.fetch)
	return ps, nil
}

// Profiles leaves unknown users out of the result.
func (p *Profiles) Profiles(ctx context.Context, users []im.UserID) (map[im.UserID]im.Profile, error) {
	out := make(map[im.UserID]im.Profile, len(users))
	now := p.now()
	var missing []im.UserID
	for _, u := range users {
		if l, ok := p.local.Get(u); ok && now.Before(l.until) {
			out[u] = l.profile
		} else {
			missing = append(missing, u)
		}
	}
	for part := range slices.Chunk(missing, projectBatch) {
		found, err := p.asks.Do(ctx, part) // with who else asks now, as all do who connect
		if err != nil {
			return nil, err
		}
		for _, u := range part {
			if pr, known := found[u]; known {
				out[u] = pr
			}
		}
	}
	return out, nil
}

func (p *Profiles) fetch(ctx context.Context, users []im.UserID) (map[im.UserID]im.Profile, error) {
	out := make(map[im.UserID]im.Profile, len(users))
	var unknown []im.UserID
	gets := make([]command, len(users))
	for i, u := range users {
		gets[i] = redis.NewStringCmd(ctx, "get", profileKey(u))
	}
	opCtx, done := p.redis.op(ctx, "profiles")
	err := p.redis.exec(opCtx, gets...) // where it fails, all come from MySQL
	done()
	for i, u := range users {
		var pr im.Profile
		raw, getErr := gets[i].(*redis.StringCmd).Bytes()
		if err != nil || getErr != nil || json.Unmarshal(raw, &pr) != nil || pr.ID != u {
			unknown = append(unknown, u)
			continue
		}
		p.keep(pr)
		out[u] = pr
	}
	if len(unknown) == 0 {
		return out, nil
	}
	found, err := p.people.ProfilesByID(ctx, unknown)
	if err != nil {
		return nil, fmt.Errorf("profiles of %d users: %w", len(unknown), err)
	}
	sets := make([]command, 0, len(found))
	for _, u := range unknown {
		pr, known := found[u]
		if !known {
			continue
		}
		out[u] = pr
		p.keep(pr)
		if raw, err := json.Marshal(pr); err == nil {
			// NX: never over what Forget holds the place with.
			sets = append(sets, redis.NewBoolCmd(ctx, "set", profileKey(u), raw, "px", profileTTL.Milliseconds(), "nx"))
		}
	}
	if len(sets) > 0 {
		opCtx, done := p.redis.op(ctx, "profiles")
		_ = p.redis.exec(opCtx, sets...) // a cache not filled is asked again
		done()
	}
	return out, nil
}

func (p *Profiles) keep(pr im.Profile) {
	p.local.Add(pr.ID, localProfile{profile: pr, until: p.now().Add(profileFresh)})
}

// UserByHandle returns im.ErrNotFound for an unknown handle. A known one is checked
// against its owner's profile: a backend may rename its users.
func (p *Profiles) UserByHandle(ctx context.Context, handle string) (im.UserID, error) {
	if u, ok := p.handles.Get(handle); ok {
		found, err := p.Profiles(ctx, []im.UserID{u})
		if err != nil {
			return 0, err
		}
		if found[u].Handle == handle {
			return u, nil
		}
		p.handles.Remove(handle)
	}
	u, err := p.people.HandleID(ctx, handle)
	if err != nil {
		if errors.Is(err, im.ErrNotFound) {
			return 0, im.ErrNotFound
		}
		return 0, fmt.Errorf("user by handle: %w", err)
	}
	p.handles.Add(handle, u)
	return u, nil
}

// Forget drops the cached copies of changed profiles. Call it after the change was
// committed. Other processes see the change within 5 s; where this returns
// im.ErrCache, within the hour.
func (p *Profiles) Forget(ctx context.Context, users ...im.UserID) error {
	for _, u := range users {
		p.local.Remove(u)
	}
	ctx, done := p.redis.op(ctx, "forget")
	defer done()
	cmds := make([]command, len(users))
	for i, u := range users {
		cmds[i] = redis.NewStatusCmd(ctx, "set", profileKey(u), "", "px", profileHold.Milliseconds())
	}
	if err := p.redis.exec(ctx, cmds...); err != nil {
		return fmt.Errorf("forget %d profiles: %w", len(users), cacheError(err))
	}
	return nil
}
