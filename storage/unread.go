package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// look is one conversation whose uncounted rows must be looked at.
type look struct {
	conv  im.ConversationID
	seal  *redis.StringSliceCmd
	rows  *redis.StringSliceCmd // members in (Base, Top]
	kept  *redis.IntCmd         // with the seal
	least *redis.StringSliceCmd // the oldest kept
}

// fillUnread computes each state's unread count (contract 7). Only conversations
// with an uncounted row above Base need a look at their uncounted set, which is
// trusted under the same rule as everything else.
func (x *Index) fillUnread(ctx context.Context, u im.UserID, gen im.Generation, all map[im.ConversationID]im.ConversationState) error {
	var looks []look
	var cmds []command
	for c, s := range all {
		if s.LastUncounted <= s.Base() || s.Base() >= s.Top() {
			s.Unread = s.CountUnread(0)
			all[c] = s
			continue
		}
		key := uncountedKey(c)
		l := look{
			conv: c, seal: getSeal(ctx, key),
			rows: redis.NewStringSliceCmd(ctx, "zrangebyscore", key,
				"("+strconv.FormatUint(uint64(s.Base()), 10), strconv.FormatUint(uint64(s.Top()), 10)),
			kept:  redis.NewIntCmd(ctx, "zcard", key),
			least: redis.NewStringSliceCmd(ctx, "zrangebyscore", key, "0", "+inf", "limit", 0, 1),
		}
		looks = append(looks, l)
		cmds = append(cmds, l.seal, l.rows, l.kept, l.least)
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
	for _, l := range looks {
		s := all[l.conv]
		n, err := x.uncounted(ctx, u, gen, s, l)
		if err != nil {
			return fmt.Errorf("count unread of user %s: %w", u, err)
		}
		s.Unread = s.CountUnread(n)
		all[l.conv] = s
	}
	return nil
}

// uncounted counts the rows in (Base, Top] that do not count for u.
func (x *Index) uncounted(ctx context.Context, u im.UserID, gen im.Generation, s im.ConversationState, l look) (uint64, error) {
	if slices.Contains(l.seal.Val(), "~"+string(gen)) {
		if complete(l, s.Base()) {
			return countMembers(l.rows.Val(), u), nil
		}
	} else if err := x.rebuildUncounted(ctx, s.Conversation, gen); err != nil {
		return 0, err
	}
	return x.record.CountUncounted(ctx, s.Conversation, u, s.Base(), s.Top())
}

// complete says whether the set, which keeps the newest only, reaches below the rows
// after base: of the least seq it holds, the rows of other users may be gone.
func complete(l look, base im.Seq) bool {
	least := l.least.Val()
	if len(least) == 0 || l.kept.Val()-1 < uncountedKeep {
		return true
	}
	seq, _, _ := strings.Cut(least[0], ":")
	return parseNumber(seq) <= uint64(base)
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
	return x.shared(ctx, string(c)+"/"+string(gen), func(ctx context.Context) error {
		rows, err := x.record.UncountedSeqs(ctx, c, uncountedKeep)
		if err != nil {
			return err
		}
		opCtx, done := x.redis.op(ctx, "rebuild_uncounted")
		defer done()
		_ = x.redis.exec(opCtx, addUncounted(opCtx, c, rows, gen))
		return nil
	})
}
