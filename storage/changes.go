package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// Changes returns what moved since a position, oldest first. While Redis is away
// it says Degraded and nothing else: the position stays.
func (x *Index) Changes(ctx context.Context, u im.UserID, since im.Position, limit int) (im.Changes, error) {
	var out im.Changes
	var merged []im.ConversationID
	gen, degraded, err := x.trusted(ctx, "changes", u, false, func(ctx context.Context) (gen im.Generation, err error) {
		out, merged, gen, err = x.readChanges(ctx, u, since, limit)
		return gen, err
	})
	if err != nil {
		return im.Changes{}, err
	}
	if degraded {
		return im.Changes{Position: since, Degraded: true}, nil
	}
	if out.Void {
		return out, nil
	}
	if len(merged) > 0 {
		if out, err = x.addMerged(ctx, u, gen, out, merged, since, limit); err != nil || out.Void || out.Degraded {
			return out, err
		}
	}
	if len(out.States) == 0 {
		return out, nil
	}
	all := make(map[im.ConversationID]im.ConversationState, len(out.States))
	for _, s := range out.States {
		all[s.Conversation] = s
	}
	if err := x.fillUnread(ctx, u, gen, all); err != nil {
		return im.Changes{}, err
	}
	for i := range out.States {
		out.States[i] = all[out.States[i].Conversation]
	}
	return out, nil
}

// addMerged lays the ends of the user's merged channels over what moved, and adds those
// channels of which only the end has: raised after the time that the position names, or
// up to endSlack before. A page that is full names the time of its last, and of those
// that it could not take the oldest come first in the next.
func (x *Index) addMerged(ctx context.Context, u im.UserID, gen im.Generation, out im.Changes, merged []im.ConversationID, since im.Position, limit int) (im.Changes, error) {
	ends, at, err := x.ends(ctx, gen, merged)
	if err != nil {
		return im.Changes{}, err
	}
	told := make(map[im.ConversationID]bool, len(out.States))
	for i, s := range out.States {
		out.States[i] = layEnd(s, ends[s.Conversation])
		told[s.Conversation] = true
	}
	out.Position.MergedAt = since.MergedAt
	if out.HasMore {
		return out, nil
	}
	var moved []im.ChannelEnd
	for _, e := range ends {
		if at == 0 || e.MovedAt == 0 { // Redis did not answer, or did not take it
			return im.Changes{Position: since, Degraded: true}, nil
		}
		if !told[e.Conversation] && e.MovedAt > since.MergedAt-endSlack {
			moved = append(moved, e)
		}
	}
	slices.SortFunc(moved, func(a, b im.ChannelEnd) int { return cmp.Compare(a.MovedAt, b.MovedAt) })
	room := max(limit-len(out.States), 0)
	switch {
	case len(moved) <= room:
		out.Position.MergedAt = at
	case room > 0:
		out.Position.MergedAt = moved[room-1].MovedAt + endSlack
		fallthrough
	default:
		out.HasMore, moved = true, moved[:room]
	}
	return x.addStates(ctx, u, gen, out, moved, since)
}

// addStates adds the states of channels whose ends have moved.
func (x *Index) addStates(ctx context.Context, u im.UserID, gen im.Generation, out im.Changes, moved []im.ChannelEnd, since im.Position) (im.Changes, error) {
	if len(moved) == 0 {
		return out, nil
	}
	convs := make([]im.ConversationID, len(moved))
	for i, e := range moved {
		convs[i] = e.Conversation
	}
	states, now, degraded, err := x.states(ctx, "changes", u, convs)
	switch {
	case err != nil:
		return im.Changes{}, err
	case degraded:
		return im.Changes{Position: since, Degraded: true}, nil
	case now != gen:
		return im.Changes{Void: true}, nil
	}
	for _, e := range moved {
		if s, in := states[e.Conversation]; in && s.Merged && s.In() {
			out.States = append(out.States, layEnd(s, e))
		}
	}
	return out, nil
}

func (x *Index) readChanges(ctx context.Context, u im.UserID, since im.Position, limit int) (out im.Changes, merged []im.ConversationID, gen im.Generation, err error) {
	token := getGeneration(ctx)
	call := eval(ctx, changesScript, []string{stateKey(u), versKey(u), settingsKey(u), mergedKey(u)},
		strconv.FormatUint(since.Version, 10), strconv.Itoa(limit+1))
	if err := x.redis.vouched(ctx, token, call); err != nil {
		return out, nil, "", err
	}
	gen = im.Generation(token.Val())
	if gen != "" && gen != since.Epoch {
		return im.Changes{Void: true}, nil, gen, nil
	}
	reply, err := call.Slice()
	if err != nil || len(reply) != 9 {
		return out, nil, gen, fmt.Errorf("changes script replied %v: %w", call.Val(), cacheError(err))
	}
	if seal, vers := text(reply[0]), text(reply[1]); gen == "" || seal != string(gen) || vers != "~"+string(gen) {
		return out, nil, gen, errUntrusted
	}
	merged, sealed := mergedOf(reply[8], gen)
	if !sealed {
		return out, nil, gen, errUntrusted
	}
	late := trustSettings(gen, text(reply[5]), text(reply[6]))
	if errors.Is(late, errUntrusted) {
		return out, nil, gen, errUntrusted
	}
	version := parseNumber(text(reply[2]))
	if since.Version > version {
		return im.Changes{Void: true}, nil, gen, nil // not a position of ours
	}
	moved, _ := reply[3].([]any)
	packed, _ := reply[4].([]any)
	settings, _ := reply[7].([]any)
	if len(settings) != len(packed) {
		return out, nil, gen, fmt.Errorf("changes script replied %v: %w", call.Val(), im.ErrCache)
	}
	out = im.Changes{Position: im.Position{Epoch: gen, Version: version}}
	if len(packed) > limit {
		out.HasMore, packed = true, packed[:limit]
		out.Position.Version = parseNumber(text(moved[2*limit-1]))
	}
	for i, p := range packed {
		s, err := unpackState(im.ConversationID(text(moved[2*i])), text(p))
		if err != nil {
			return out, nil, gen, fmt.Errorf("%w: %w", errUntrusted, err)
		}
		if s.Settings, err = unpackSettings(text(settings[i])); err != nil {
			return out, nil, gen, err
		}
		out.States = append(out.States, s)
	}
	return out, merged, gen, late
}

// mergedOf reads a user's set of merged channels; sealed: all of them.
func mergedOf(part any, gen im.Generation) (convs []im.ConversationID, sealed bool) {
	for _, m := range replyStrings(part) {
		if m == "~"+string(gen) {
			sealed = true
		} else if isChannel(im.ConversationID(m)) {
			convs = append(convs, im.ConversationID(m))
		}
	}
	return convs, sealed
}
