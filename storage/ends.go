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

const (
	endFields = 6                 // numbers of an end, as packEnd has them
	endTTL    = uncountedTTL      // then MySQL is asked once more
	endSlack  = int64(10_000_000) // microseconds that the clocks of two lives of Redis, or of two masters, may differ
)

// appendEnds makes the calls that raise the ends of merged channels.
func appendEnds(ctx context.Context, cmds []command, ends []im.ChannelEnd) []command {
	for i := range ends {
		cmds = append(cmds, raiseEnd(ctx, &ends[i], ""))
	}
	return cmds
}

func raiseEnd(ctx context.Context, e *im.ChannelEnd, seal im.Generation) *redis.Cmd {
	return eval(ctx, endScript, []string{endKey(e.Conversation)}, string(seal), strconv.FormatInt(endTTL.Milliseconds(), 10), packEnd(e))
}

// layEnds puts the ends of merged channels over the states of a user who is in them.
// at is Redis's clock before they were read, 0 where there are none; merged says that
// there are.
func (x *Index) layEnds(ctx context.Context, gen im.Generation, all map[im.ConversationID]im.ConversationState) (at int64, merged bool, err error) {
	var convs []im.ConversationID
	for c, s := range all {
		if s.Merged && s.In() {
			convs = append(convs, c)
		}
	}
	if len(convs) == 0 {
		return 0, false, nil
	}
	ends, at, err := x.ends(ctx, gen, convs)
	if err != nil {
		return 0, false, err
	}
	for _, c := range convs {
		all[c] = layEnd(all[c], ends[c])
	}
	return at, true, nil
}

// layEnd is the state of a user as it would be had every message raised it.
func layEnd(s im.ConversationState, e im.ChannelEnd) im.ConversationState {
	if !s.Merged || !s.In() {
		return s
	}
	if e.Closed > s.Joined {
		s.Leave = max(s.Leave, e.Closed)
		e.LastSeq = min(e.LastSeq, e.Closed)
	}
	s.LastSeq, s.LastID, s.LastChange = max(s.LastSeq, e.LastSeq), max(s.LastID, e.LastID), max(s.LastChange, e.LastChange)
	s.LastUncounted, s.LastMention = max(s.LastUncounted, e.LastUncounted), max(s.LastMention, e.LastMention)
	return s
}

// ends reads the ends of channels, from MySQL those that are not sealed under gen. at
// is Redis's clock before the first was read; 0 where Redis did not answer.
func (x *Index) ends(ctx context.Context, gen im.Generation, convs []im.ConversationID) (all map[im.ConversationID]im.ChannelEnd, at int64, err error) {
	all = make(map[im.ConversationID]im.ChannelEnd, len(convs))
	now := x.redis.clock(ctx)
	cmds := append(make([]command, 0, 1+len(convs)), now.command)
	for _, c := range convs {
		cmds = append(cmds, redis.NewStringCmd(ctx, "get", endKey(c)))
	}
	for rest := cmds; len(rest) > 0; {
		n := min(len(rest), 4*projectBatch)
		opCtx, done := x.redis.op(ctx, "ends")
		err := x.redis.exec(opCtx, rest[:n]...)
		done()
		if err != nil {
			break // what has no answer has no seal
		}
		rest = rest[n:]
	}
	if t := now.at(); now.Err() == nil && !t.IsZero() {
		at = t.UnixMicro()
	}
	var unsealed []im.ConversationID
	for i, c := range convs {
		e, seal, ok := unpackEnd(c, cmds[1+i].(*redis.StringCmd).Val())
		if !ok || seal != gen {
			unsealed = append(unsealed, c)
			continue
		}
		all[c] = e
	}
	if len(unsealed) > 0 {
		err = x.rebuildEnds(ctx, gen, unsealed, all)
	}
	return all, at, err
}

// rebuildEnds completes ends from MySQL and seals them with gen, which was noted
// before. Redis refusing that is no error: what MySQL says holds then, and has no time.
func (x *Index) rebuildEnds(ctx context.Context, gen im.Generation, convs []im.ConversationID, to map[im.ConversationID]im.ChannelEnd) error {
	slices.Sort(convs)
	var key strings.Builder
	for _, c := range convs {
		key.WriteString(string(c) + " ")
	}
	ends, err := x.shared(ctx, "ends "+key.String()+string(gen), func(ctx context.Context) (any, error) {
		rows, err := x.record.ChannelEnds(ctx, convs)
		if err != nil {
			return nil, err
		}
		ends := make([]im.ChannelEnd, len(convs))
		cmds := make([]command, len(convs))
		for i, c := range convs {
			ends[i] = rows[c]
			ends[i].Conversation, ends[i].MovedAt = c, 0
			cmds[i] = raiseEnd(ctx, &ends[i], gen)
		}
		for part := range slices.Chunk(cmds, projectBatch) {
			opCtx, done := x.redis.op(ctx, "rebuild_ends")
			err := x.redis.exec(opCtx, part...)
			done()
			if err != nil {
				break
			}
		}
		for i, c := range convs {
			kept, _ := cmds[i].(*redis.Cmd).Text()
			if e, _, ok := unpackEnd(c, kept); ok {
				ends[i] = e
			}
		}
		return ends, nil
	})
	if err != nil {
		return fmt.Errorf("read the ends of %d channels: %w", len(convs), err)
	}
	for _, e := range ends.([]im.ChannelEnd) {
		to[e.Conversation] = e
	}
	return nil
}

// packEnd is an end as lua/end.lua takes it.
func packEnd(e *im.ChannelEnd) string {
	all := [endFields]uint64{uint64(e.LastSeq), uint64(e.LastID), e.LastChange, uint64(e.LastUncounted), uint64(e.LastMention), uint64(e.Closed)}
	return string(appendNumbers(make([]byte, 0, 96), all[:]))
}

// unpackEnd reads what lua/end.lua keeps.
func unpackEnd(c im.ConversationID, kept string) (e im.ChannelEnd, seal im.Generation, ok bool) {
	cut := strings.LastIndexByte(kept, ' ')
	if cut < 0 {
		return e, "", false
	}
	var n [endFields + 1]uint64
	if count, ok := unpackNumbers(n[:], kept[:cut]); !ok || count != len(n) {
		return e, "", false
	}
	return im.ChannelEnd{
		Conversation: c,
		LastSeq:      im.Seq(n[0]), LastID: im.MessageID(n[1]), LastChange: n[2],
		LastUncounted: im.Seq(n[3]), LastMention: im.Seq(n[4]), Closed: im.Seq(n[5]), MovedAt: int64(n[6]),
	}, im.Generation(kept[cut+1:]), true
}
