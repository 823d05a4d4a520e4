package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// Offline lists the sources with undelivered messages, newest first. A source's
// entries go only by a device's ack, which moves its delivered seq [S14].
func (x *Index) Offline(ctx context.Context, u im.UserID, limit int) ([]im.OfflineSource, bool, error) {
	var sources []im.OfflineSource
	_, degraded, err := x.trusted(ctx, "offline", u, true, func(ctx context.Context) (gen im.Generation, err error) {
		sources, gen, err = x.readOffline(ctx, u, limit)
		return gen, err
	})
	if err != nil {
		return nil, false, err
	}
	if degraded {
		sources, err = x.offlineFromRecord(ctx, u, limit)
	}
	return sources, degraded, err
}

func (x *Index) readOffline(ctx context.Context, u im.UserID, limit int) ([]im.OfflineSource, im.Generation, error) {
	token := getGeneration(ctx)
	call := eval(ctx, offlineScript, []string{stateKey(u), offlineKey(u)}, strconv.Itoa(limit))
	if err := x.redis.exec(ctx, token, call); err != nil {
		return nil, "", err
	}
	gen := im.Generation(token.Val())
	reply, err := call.Slice()
	if err != nil || len(reply) != 3 {
		return nil, gen, fmt.Errorf("offline script replied %v: %w", call.Val(), cacheError(err))
	}
	if gen == "" || text(reply[0]) != string(gen) || text(reply[1]) != "~"+string(gen) {
		return nil, gen, errUntrusted
	}
	rows, _ := reply[2].([]any)
	sources := make([]im.OfflineSource, 0, len(rows)/5)
	for ; len(rows) >= 5; rows = rows[5:] {
		c := im.ConversationID(text(rows[0]))
		s, err := unpackState(c, text(rows[2]))
		if err != nil {
			return nil, gen, fmt.Errorf("%w: %w", errUntrusted, err)
		}
		if text(rows[3]) != "~"+string(gen) {
			return nil, gen, errUntrusted // the list of this source was lost or is new to the index
		}
		count, _ := rows[4].(int64)
		sources = append(sources, im.OfflineSource{
			Conversation: c,
			Count:        uint64(min(count, offlineKeep)),
			LastID:       im.MessageID(parseNumber(text(rows[1]))),
			Delivered:    s.Delivered,
			LastSeq:      s.LastSeq,
		})
	}
	return sources, gen, nil
}

func (x *Index) offlineFromRecord(ctx context.Context, u im.UserID, limit int) ([]im.OfflineSource, error) {
	leave, err := x.enterFallback(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	states, err := x.record.UserStates(ctx, u)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(states, newestFirst)
	var sources []im.OfflineSource
	for _, s := range states {
		if s.LastSeq <= s.Settled() {
			continue
		}
		// The newest undelivered message is no newer than the last of the conversation,
		// which orders states: no later one can make it into a full list.
		if len(sources) >= limit && s.LastID < sources[limit-1].LastID {
			break
		}
		entries, err := x.record.Undelivered(ctx, u, s.Conversation, s.Settled(), offlineKeep)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			continue
		}
		newest := slices.MaxFunc(entries, func(a, b im.OfflineEntry) int { return cmp.Compare(a.Seq, b.Seq) })
		sources = append(sources, im.OfflineSource{
			Conversation: s.Conversation, Count: uint64(len(entries)), LastID: newest.ID,
			Delivered: s.Delivered, LastSeq: s.LastSeq,
		})
		slices.SortFunc(sources, func(a, b im.OfflineSource) int { return cmp.Compare(b.LastID, a.LastID) })
	}
	return sources[:min(len(sources), limit)], nil
}
