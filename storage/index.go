package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/curlew-im/curlew/logic/im"
)

// record is what the index asks of MySQL; *DB has it. Errors are im.ErrStore while
// it is away.
type record interface {
	// UserStates returns every conversation of u.
	UserStates(ctx context.Context, u im.UserID) ([]im.ConversationState, error)
	// UserState returns im.ErrNotFound where u is not in the conversation.
	UserState(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error)
	// Undelivered returns the newest messages of others after a seq.
	Undelivered(ctx context.Context, u im.UserID, c im.ConversationID, after im.Seq, limit int) ([]im.OfflineEntry, error)
	CountUncounted(ctx context.Context, c im.ConversationID, u im.UserID, after, upTo im.Seq) (uint64, error)
	// ChannelEnds reads how far channels have come; one that is not there is left out.
	ChannelEnds(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelEnd, error)
	// UncountedSeqs returns the newest.
	UncountedSeqs(ctx context.Context, c im.ConversationID, limit int) ([]im.UncountedSeq, error)
}

// trustTries bounds how often a reader completes what it does not trust before it
// answers from MySQL: each try fails only if a new generation came in between.
const trustTries = 3

// Index is each user's conversations and undelivered messages: from Redis where
// the seal matches the generation, completed from MySQL first where it does not
// [S11], from MySQL alone while Redis is away.
type Index struct {
	redis    *Redis
	record   record
	rebuilds *admission // of users, and of uncounted sets
	fallback *admission // answers from MySQL
	flights  singleflight.Group
}

// NewIndex makes an Index over Redis and the record (*DB).
func NewIndex(r *Redis, rec record) *Index {
	return &Index{
		redis: r, record: rec,
		rebuilds: newAdmission(r.cfg.Rebuilds, im.ErrOverloaded),
		fallback: newAdmission(r.cfg.Rebuilds, im.ErrCache),
	}
}

// errUntrusted says that Redis answered, and that what it holds is not known to
// be complete.
var errUntrusted = errors.New("not sealed under the generation that stands")

// errOverdue says that what was read is complete but for a change of settings that was
// cut short, if it was made at all: MySQL knows, and may be done without.
var errOverdue = errors.New("a change of settings was cut short")

// trusted runs read until what it reads is sealed, completing the user's
// projection in between. degraded: Redis cannot answer, MySQL is to.
func (x *Index) trusted(ctx context.Context, op string, u im.UserID, offline bool,
	read func(ctx context.Context) (im.Generation, error)) (gen im.Generation, degraded bool, err error) {
	for range trustTries {
		gen, err = x.readOnce(ctx, op, read)
		if err == nil {
			return gen, false, nil
		}
		if errors.Is(err, errOverdue) {
			if x.rebuild(ctx, u, gen, offline) != nil {
				return gen, false, nil
			}
			continue
		}
		if !errors.Is(err, errUntrusted) {
			break
		}
		if gen == "" {
			continue // emptied again since
		}
		if err = x.rebuild(ctx, u, gen, offline); err != nil {
			break
		}
		err = errUntrusted
	}
	if ctx.Err() != nil {
		return "", false, fmt.Errorf("%s of user %s: %w", op, u, ctx.Err())
	}
	if errors.Is(err, errOverdue) {
		return gen, false, nil
	}
	if errors.Is(err, im.ErrCache) || errors.Is(err, errUntrusted) {
		x.redis.metrics.degraded.WithLabelValues(op).Inc()
		return "", true, nil
	}
	return "", false, fmt.Errorf("%s of user %s: %w", op, u, err)
}

func (x *Index) readOnce(ctx context.Context, op string, read func(ctx context.Context) (im.Generation, error)) (im.Generation, error) {
	opCtx, done := x.redis.op(ctx, op)
	defer done()
	gen, err := read(opCtx)
	if gen == "" && (err == nil || errors.Is(err, errUntrusted)) {
		// Redis has been emptied, and nobody has noticed yet.
		if _, err := x.redis.gen.ensure(opCtx, x.redis); err != nil {
			return "", err
		}
		gen, err = read(opCtx)
	}
	if err != nil && !errors.Is(err, errUntrusted) && !errors.Is(err, errOverdue) {
		return "", cacheError(err)
	}
	x.redis.gen.saw(gen)
	return gen, err
}

// State is one conversation of the user, without the unread count: a receipt and a
// typing notice ask for it, and the count may take another round trip.
func (x *Index) State(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error) {
	return x.state(ctx, u, c, false)
}

// Row is State with the unread count.
func (x *Index) Row(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error) {
	return x.state(ctx, u, c, true)
}

func (x *Index) state(ctx context.Context, u im.UserID, c im.ConversationID, unread bool) (im.ConversationState, error) {
	all, gen, degraded, err := x.states(ctx, "state", u, []im.ConversationID{c})
	if err != nil {
		return im.ConversationState{}, err
	}
	if degraded {
		return x.stateFromRecord(ctx, u, c, unread)
	}
	if _, found := all[c]; !found {
		return im.ConversationState{}, im.ErrNotFound
	}
	if _, _, err := x.layEnds(ctx, gen, all); err != nil {
		return im.ConversationState{}, err
	}
	if unread {
		if err := x.fillUnread(ctx, u, gen, all); err != nil {
			return im.ConversationState{}, err
		}
	}
	return all[c], nil
}

// states reads some of the user's conversations, with neither ends nor unread counts;
// those that the user is not in are left out.
func (x *Index) states(ctx context.Context, op string, u im.UserID, convs []im.ConversationID) (
	all map[im.ConversationID]im.ConversationState, gen im.Generation, degraded bool, err error) {
	gen, degraded, err = x.trusted(ctx, op, u, false, func(ctx context.Context) (im.Generation, error) {
		all = make(map[im.ConversationID]im.ConversationState, len(convs))
		token := getGeneration(ctx)
		var cmds []command
		for part := range slices.Chunk(convs, raiseConvs) {
			state, settings := []any{"hmget", stateKey(u), fieldSeal}, []any{"hmget", settingsKey(u), fieldSeal, fieldOpen}
			for _, c := range part {
				state, settings = append(state, string(c)), append(settings, string(c))
			}
			cmds = append(cmds, redis.NewSliceCmd(ctx, state...), redis.NewSliceCmd(ctx, settings...))
		}
		if err := x.redis.vouched(ctx, token, cmds...); err != nil {
			return "", err
		}
		var late error
		gen, rest := im.Generation(token.Val()), cmds
		for part := range slices.Chunk(convs, raiseConvs) {
			v, set := rest[0].(*redis.SliceCmd).Val(), rest[1].(*redis.SliceCmd).Val()
			rest = rest[2:]
			if gen == "" || len(v) != 1+len(part) || len(set) != 2+len(part) || text(v[0]) != string(gen) {
				return gen, errUntrusted
			}
			if late = trustSettings(gen, text(set[0]), text(set[1])); errors.Is(late, errUntrusted) {
				return gen, errUntrusted
			}
			for i, c := range part {
				if v[1+i] == nil {
					continue
				}
				s, err := unpackState(c, text(v[1+i]))
				if err != nil {
					return gen, fmt.Errorf("%w: %w", errUntrusted, err)
				}
				if s.Settings, err = unpackSettings(text(set[2+i])); err != nil {
					return gen, err
				}
				all[c] = s
			}
		}
		return gen, late
	})
	return all, gen, degraded, err
}

// unpackAll reads the whole state hash: conversations, and the hash's own fields.
func unpackAll(hash []string) (all map[im.ConversationID]im.ConversationState, own map[string]string, err error) {
	all = make(map[im.ConversationID]im.ConversationState, len(hash)/2)
	own = make(map[string]string, 2)
	for ; len(hash) >= 2; hash = hash[2:] {
		if hash[0] == fieldSeal || hash[0] == fieldVersion || hash[0] == fieldVoid {
			own[hash[0]] = hash[1]
			continue
		}
		s, err := unpackState(im.ConversationID(hash[0]), hash[1])
		if err != nil {
			return nil, nil, err
		}
		all[s.Conversation] = s
	}
	return all, own, nil
}

func getGeneration(ctx context.Context) *redis.StringCmd {
	return redis.NewStringCmd(ctx, "hget", keyGeneration, "token")
}

func getSeal(ctx context.Context, key string) *redis.StringSliceCmd {
	return redis.NewStringSliceCmd(ctx, "zrangebyscore", key, "-1", "-1")
}

// texts is one reply, a list of strings, out of those of an EXEC.
func texts(exec *redis.SliceCmd, i int) []string {
	if len(exec.Val()) <= i {
		return nil
	}
	reply, _ := exec.Val()[i].([]any)
	out := make([]string, len(reply))
	for j, v := range reply {
		out[j] = text(v)
	}
	return out
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func parseNumber(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

func newestFirst(a, b im.ConversationState) int { return cmp.Compare(b.LastID, a.LastID) }
