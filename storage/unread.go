package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// span is the part (base, top] of a conversation of which the uncounted rows count.
type span struct {
	conv      im.ConversationID
	base, top im.Seq
}

// look is what the conversation's uncounted set says about a span.
type look struct {
	span
	seal  *redis.StringSliceCmd
	rows  *redis.StringSliceCmd // members in (base, top]
	kept  *redis.IntCmd         // with the seal
	least *redis.StringSliceCmd // the oldest kept
}

// UnreadTotal is over the whole list.
func (x *Index) UnreadTotal(ctx context.Context, u im.UserID) (im.UnreadTotal, bool, error) {
	var all map[im.ConversationID]im.ConversationState
	gen, degraded, err := x.trusted(ctx, "unread", u, false, func(ctx context.Context) (im.Generation, error) {
		token := getGeneration(ctx)
		states := redis.NewStringSliceCmd(ctx, "hgetall", stateKey(u))
		settings := redis.NewStringSliceCmd(ctx, "hgetall", settingsKey(u))
		if err := x.redis.vouched(ctx, token, states, settings); err != nil {
			return "", err
		}
		gen := im.Generation(token.Val())
		var own map[string]string
		var err error
		if all, own, err = unpackAll(states.Val()); err != nil {
			return gen, fmt.Errorf("%w: %w", errUntrusted, err)
		}
		if gen == "" || own[fieldSeal] != string(gen) {
			return gen, errUntrusted
		}
		return gen, addSettings(settings.Val(), gen, all)
	})
	if err != nil {
		return im.UnreadTotal{}, false, err
	}
	if degraded {
		page, err := x.listFromRecord(ctx, u, im.ListAll, 0, 0)
		return im.UnreadTotal{All: page.UnreadTotal, Badge: page.UnreadBadge}, true, err
	}
	if _, _, err := x.layEnds(ctx, gen, all); err != nil {
		return im.UnreadTotal{}, false, err
	}
	if err := x.fillUnread(ctx, u, gen, all); err != nil {
		return im.UnreadTotal{}, false, err
	}
	return totals(maps.Values(all)), false, nil
}

// fillUnread computes each state's unread count (contract 7). Only conversations
// with an uncounted row above Base need a look at their uncounted set.
func (x *Index) fillUnread(ctx context.Context, u im.UserID, gen im.Generation, all map[im.ConversationID]im.ConversationState) error {
	var spans []span
	for c, s := range all {
		if s.LastUncounted > s.Base() && s.Base() < s.Top() {
			spans = append(spans, span{c, s.Base(), s.Top()})
			continue
		}
		s.Unread = s.CountUnread(0)
		all[c] = s
	}
	counts, err := x.countUncounted(ctx, u, gen, spans)
	if err != nil {
		return fmt.Errorf("count unread of user %s: %w", u, err)
	}
	for i, sp := range spans {
		s := all[sp.conv]
		s.Unread = s.CountUnread(counts[i])
		all[sp.conv] = s
	}
	return nil
}

// countUncounted counts what does not count for u, from the conversations' uncounted
// sets, which are trusted under the same rule as everything else.
func (x *Index) countUncounted(ctx context.Context, u im.UserID, gen im.Generation, spans []span) ([]uint64, error) {
	looks := make([]look, len(spans))
	cmds := make([]command, 0, 4*len(spans))
	for i, sp := range spans {
		key := uncountedKey(sp.conv)
		looks[i] = look{
			span: sp, seal: getSeal(ctx, key),
			rows: redis.NewStringSliceCmd(ctx, "zrangebyscore", key,
				"("+strconv.FormatUint(uint64(sp.base), 10), strconv.FormatUint(uint64(sp.top), 10)),
			kept:  redis.NewIntCmd(ctx, "zcard", key),
			least: redis.NewStringSliceCmd(ctx, "zrangebyscore", key, "0", "+inf", "limit", 0, 1),
		}
		cmds = append(cmds, looks[i].seal, looks[i].rows, looks[i].kept, looks[i].least)
	}
	for len(cmds) > 0 {
		n := min(len(cmds), 4*projectBatch)
		opCtx, done := x.redis.op(ctx, "uncounted")
		err := x.redis.exec(opCtx, cmds[:n]...)
		done()
		if err != nil {
			break // the looks without an answer have no seal
		}
		cmds = cmds[n:]
	}
	counts := make([]uint64, len(spans))
	for i := range looks {
		var err error
		if counts[i], err = x.uncounted(ctx, u, gen, &looks[i]); err != nil {
			return nil, err
		}
	}
	return counts, nil
}

func (x *Index) uncounted(ctx context.Context, u im.UserID, gen im.Generation, l *look) (uint64, error) {
	if slices.Contains(l.seal.Val(), "~"+string(gen)) {
		if complete(l) {
			return countMembers(l.rows.Val(), u), nil
		}
	} else if err := x.rebuildUncounted(ctx, l.conv, gen); err != nil {
		return 0, err
	}
	return x.record.CountUncounted(ctx, l.conv, u, l.base, l.top)
}

// complete says whether the set, which keeps the newest only, reaches below the rows
// after base: of the least seq it holds, the rows of other users may be gone.
func complete(l *look) bool {
	least := l.least.Val()
	if len(least) == 0 || l.kept.Val()-1 < uncountedKeep {
		return true
	}
	seq, _, _ := strings.Cut(least[0], ":")
	return parseNumber(seq) <= uint64(l.base)
}

// countMembers counts seqs, not rows: one may be uncounted for a user and for all.
func countMembers(members []string, u im.UserID) uint64 {
	var n uint64
	last := ""
	for _, m := range members { // by seq
		seq, user, personal := strings.Cut(m, ":")
		if (!personal || user == u.String()) && seq != last {
			n++
			last = seq
		}
	}
	return n
}

// rebuildUncounted completes a conversation's uncounted set from MySQL. Redis
// refusing it is no error: MySQL counts then.
func (x *Index) rebuildUncounted(ctx context.Context, c im.ConversationID, gen im.Generation) error {
	_, err := x.shared(ctx, string(c)+"/"+string(gen), func(ctx context.Context) (any, error) {
		rows, err := x.record.UncountedSeqs(ctx, c, uncountedKeep)
		if err != nil {
			return nil, err
		}
		opCtx, done := x.redis.op(ctx, "rebuild_uncounted")
		defer done()
		_ = x.redis.exec(opCtx, addUncounted(opCtx, c, rows, gen))
		return nil, nil
	})
	return err
}
