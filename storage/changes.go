package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// Changes returns what moved since a position, oldest first. While Redis is away
// it says Degraded and nothing else: the position stays.
func (x *Index) Changes(ctx context.Context, u im.UserID, since im.Position, limit int) (im.Changes, error) {
	var out im.Changes
	gen, degraded, err := x.trusted(ctx, "changes", u, false, func(ctx context.Context) (gen im.Generation, err error) {
		out, gen, err = x.readChanges(ctx, u, since, limit)
		return gen, err
	})
	if err != nil {
		return im.Changes{}, err
	}
	if degraded {
		return im.Changes{Position: since, Degraded: true}, nil
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

func (x *Index) readChanges(ctx context.Context, u im.UserID, since im.Position, limit int) (im.Changes, im.Generation, error) {
	token := getGeneration(ctx)
	call := eval(ctx, changesScript, []string{stateKey(u), versKey(u), settingsKey(u)},
		strconv.FormatUint(since.Version, 10), strconv.Itoa(limit+1))
	if err := x.redis.exec(ctx, token, call); err != nil {
		return im.Changes{}, "", err
	}
	gen := im.Generation(token.Val())
	if gen != "" && gen != since.Epoch {
		return im.Changes{Void: true}, gen, nil
	}
	reply, err := call.Slice()
	if err != nil || len(reply) != 8 {
		return im.Changes{}, gen, fmt.Errorf("changes script replied %v: %w", call.Val(), cacheError(err))
	}
	if seal, vers := text(reply[0]), text(reply[1]); gen == "" || seal != string(gen) || vers != "~"+string(gen) {
		return im.Changes{}, gen, errUntrusted
	}
	late := trustSettings(gen, text(reply[5]), text(reply[6]))
	if errors.Is(late, errUntrusted) {
		return im.Changes{}, gen, errUntrusted
	}
	version := parseNumber(text(reply[2]))
	if since.Version > version {
		return im.Changes{Void: true}, gen, nil // not a position of ours
	}
	moved, _ := reply[3].([]any)
	packed, _ := reply[4].([]any)
	settings, _ := reply[7].([]any)
	if len(settings) != len(packed) {
		return im.Changes{}, gen, fmt.Errorf("changes script replied %v: %w", call.Val(), im.ErrCache)
	}
	out := im.Changes{Position: im.Position{Epoch: gen, Version: version}}
	if len(packed) > limit {
		out.HasMore, packed = true, packed[:limit]
		out.Position.Version = parseNumber(text(moved[2*limit-1]))
	}
	for i, p := range packed {
		s, err := unpackState(im.ConversationID(text(moved[2*i])), text(p))
		if err != nil {
			return im.Changes{}, gen, fmt.Errorf("%w: %w", errUntrusted, err)
		}
		if s.Settings, err = unpackSettings(text(settings[i])); err != nil {
			return im.Changes{}, gen, err
		}
		out.States = append(out.States, s)
	}
	return out, gen, late
}
