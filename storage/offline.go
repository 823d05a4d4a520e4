package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// Offline lists the sources with undelivered messages, newest first. The entries of a
// one-to-one go only by a device's ack, which moves its delivered seq [S14]; those of a
// channel are counted from what is settled to its end.
func (x *Index) Offline(ctx context.Context, u im.UserID, limit int) ([]im.OfflineSource, bool, error) {
	var sources []offlineSource
	var merged []im.ConversationID
	gen, degraded, err := x.trusted(ctx, "offline", u, true, func(ctx context.Context) (gen im.Generation, err error) {
		sources, merged, gen, err = x.readOffline(ctx, u, limit)
		return gen, err
	})
	if err == nil && !degraded && len(merged) > 0 {
		sources, gen, degraded, err = x.offlineMerged(ctx, u, sources, merged)
	}
	if err != nil {
		return nil, false, err
	}
	if degraded {
		out, err := x.offlineFromRecord(ctx, u, limit)
		return out, true, err
	}
	slices.SortFunc(sources, func(a, b offlineSource) int { return cmp.Compare(b.LastID, a.LastID) })
	out, err := x.countOffline(ctx, u, gen, sources[:min(len(sources), limit)])
	return out, false, err
}

// offlineSource is a source of which, if it is a channel, the entries are not counted
// yet.
type offlineSource struct {
	im.OfflineSource
	state im.ConversationState
}

func (x *Index) readOffline(ctx context.Context, u im.UserID, limit int) (sources []offlineSource, merged []im.ConversationID, gen im.Generation, err error) {
	token := getGeneration(ctx)
	call := eval(ctx, offlineScript, []string{stateKey(u), offlineKey(u), mergedKey(u)}, strconv.Itoa(limit))
	if err := x.redis.vouched(ctx, token, call); err != nil {
		return nil, nil, "", err
	}
	gen = im.Generation(token.Val())
	reply, err := call.Slice()
	if err != nil || len(reply) != 4 {
		return nil, nil, gen, fmt.Errorf("offline script replied %v: %w", call.Val(), cacheError(err))
	}
	if gen == "" || text(reply[0]) != string(gen) || text(reply[1]) != "~"+string(gen) {
		return nil, nil, gen, errUntrusted
	}
	merged, sealed := mergedOf(reply[3], gen)
	if !sealed {
		return nil, nil, gen, errUntrusted
	}
	rows, _ := reply[2].([]any)
	for ; len(rows) >= 5; rows = rows[5:] {
		s, err := unpackState(im.ConversationID(text(rows[0])), text(rows[2]))
		if err != nil {
			return nil, nil, gen, fmt.Errorf("%w: %w", errUntrusted, err)
		}
		if isChannel(s.Conversation) {
			sources = append(sources, channelSource(s))
			continue
		}
		if text(rows[3]) != "~"+string(gen) {
			return nil, nil, gen, errUntrusted // the list of this source was lost or is new to the index
		}
		count, _ := rows[4].(int64)
		sources = append(sources, offlineSource{im.OfflineSource{
			Conversation: s.Conversation,
			Count:        uint64(min(count, offlineKeep)),
			LastID:       im.MessageID(parseNumber(text(rows[1]))),
			Delivered:    s.Delivered,
			LastSeq:      s.LastSeq,
		}, s})
	}
	return sources, merged, gen, nil
}

// channelSource is a channel as a source, before its entries are counted.
func channelSource(s im.ConversationState) offlineSource {
	return offlineSource{im.OfflineSource{Conversation: s.Conversation, LastID: s.LastID, Delivered: s.Delivered, LastSeq: s.Top()}, s}
}

// offlineMerged adds those merged channels to the sources in which something waits.
func (x *Index) offlineMerged(ctx context.Context, u im.UserID, sources []offlineSource, merged []im.ConversationID) ([]offlineSource, im.Generation, bool, error) {
	states, gen, degraded, err := x.states(ctx, "offline", u, merged)
	if err != nil || degraded {
		return nil, "", degraded, err
	}
	if _, _, err := x.layEnds(ctx, gen, states); err != nil {
		return nil, "", false, err
	}
	for _, s := range states {
		if s.Top() > s.Settled() {
			sources = append(sources, channelSource(s))
		}
	}
	return sources, gen, false, nil
}

// countOffline counts the entries of channels: what is not settled, without what does
// not count.
func (x *Index) countOffline(ctx context.Context, u im.UserID, gen im.Generation, sources []offlineSource) ([]im.OfflineSource, error) {
	var spans []span
	for _, o := range sources {
		if s := &o.state; isChannel(s.Conversation) && s.LastUncounted > s.Settled() {
			spans = append(spans, span{s.Conversation, s.Settled(), s.Top()})
		}
	}
	counts, err := x.countUncounted(ctx, u, gen, spans)
	if err != nil {
		return nil, fmt.Errorf("count what waits for user %s: %w", u, err)
	}
	out := make([]im.OfflineSource, len(sources))
	for i, o := range sources {
		if s := &o.state; isChannel(s.Conversation) {
			var uncounted uint64
			if s.LastUncounted > s.Settled() {
				uncounted, counts = counts[0], counts[1:]
			}
			o.Count = waiting(s, uncounted)
		}
		out[i] = o.OfflineSource
	}
	return out, nil
}

// waiting is how many entries a channel has.
func waiting(s *im.ConversationState, uncounted uint64) uint64 {
	all := uint64(s.Top() - s.Settled())
	return min(all-min(uncounted, all), offlineKeep)
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
		if s.Top() <= s.Settled() {
			continue
		}
		// The newest undelivered message is no newer than the last of the conversation,
		// which orders states: no later one can make it into a full list.
		if len(sources) >= limit && s.LastID < sources[limit-1].LastID {
			break
		}
		o, some, err := x.sourceFromRecord(ctx, u, s)
		if err != nil {
			return nil, err
		}
		if !some {
			continue
		}
		sources = append(sources, o)
		slices.SortFunc(sources, func(a, b im.OfflineSource) int { return cmp.Compare(b.LastID, a.LastID) })
	}
	return sources[:min(len(sources), limit)], nil
}

// sourceFromRecord is what waits in a conversation; some is false where nothing does.
func (x *Index) sourceFromRecord(ctx context.Context, u im.UserID, s im.ConversationState) (o im.OfflineSource, some bool, err error) {
	if isChannel(s.Conversation) {
		var uncounted uint64
		if s.LastUncounted > s.Settled() {
			uncounted, err = x.record.CountUncounted(ctx, s.Conversation, u, s.Settled(), s.Top())
		}
		o = channelSource(s).OfflineSource
		o.Count = waiting(&s, uncounted)
		return o, true, err
	}
	entries, err := x.record.Undelivered(ctx, u, s.Conversation, s.Settled(), offlineKeep)
	if err != nil || len(entries) == 0 {
		return o, false, err
	}
	newest := slices.MaxFunc(entries, func(a, b im.OfflineEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	return im.OfflineSource{
		Conversation: s.Conversation, Count: uint64(len(entries)), LastID: newest.ID,
		Delivered: s.Delivered, LastSeq: s.LastSeq,
	}, true, nil
}
