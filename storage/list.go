package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// List pages by the ID of the last message.
func (x *Index) List(ctx context.Context, u im.UserID, before im.MessageID, limit int) (im.ListPage, error) {
	return x.ListOnly(ctx, u, im.ListAll, before, limit)
}

// ListOnly is List with what a filter lets through. The totals are over the whole list
// all the same.
func (x *Index) ListOnly(ctx context.Context, u im.UserID, only im.ListFilter, before im.MessageID, limit int) (im.ListPage, error) {
	var page im.ListPage
	var all map[im.ConversationID]im.ConversationState
	gen, degraded, err := x.trusted(ctx, "list", u, false, func(ctx context.Context) (gen im.Generation, err error) {
		page, all, gen, err = x.readList(ctx, u, before, limit)
		return gen, err
	})
	if err != nil {
		return im.ListPage{}, err
	}
	if degraded {
		return x.listFromRecord(ctx, u, only, before, limit)
	}
	at, merged, err := x.layEnds(ctx, gen, all)
	if err != nil {
		return im.ListPage{}, err
	}
	page.Position.MergedAt = at
	if err := x.fillUnread(ctx, u, gen, all); err != nil {
		return im.ListPage{}, err
	}
	if only == im.ListAll && !merged { // else the order knows nothing of the ends
		for i := range page.States {
			page.States[i] = all[page.States[i].Conversation]
		}
	} else {
		page.States, page.HasMore = newest(maps.Values(all), only, before, limit)
	}
	total := totals(maps.Values(all))
	page.UnreadTotal, page.UnreadBadge = total.All, total.Badge
	return page, nil
}

// readList reads states and order at one instant: the next page begins below the
// last message of this one, so both must say the same about it.
func (x *Index) readList(ctx context.Context, u im.UserID, before im.MessageID, limit int) (
	page im.ListPage, all map[im.ConversationID]im.ConversationState, gen im.Generation, err error) {
	last := "+inf"
	if before > 0 {
		last = "(" + before.String()
	}
	// MULTI and not a script, which would take a large hash apart and put it together
	// again.
	token := getGeneration(ctx)
	instant, err := x.redis.instant(ctx, token,
		[]any{"hgetall", stateKey(u)},
		[]any{"zrangebyscore", convsKey(u), "-1", "-1"},
		[]any{"zrevrangebyscore", convsKey(u), last, "0", "limit", 0, limit + 1},
		[]any{"hgetall", settingsKey(u)})
	if err != nil {
		return page, nil, "", err
	}
	gen = im.Generation(token.Val())
	hash, seal, order := instant[0], instant[1], instant[2]
	all, own, err := unpackAll(hash)
	if err != nil {
		return page, nil, gen, fmt.Errorf("%w: %w", errUntrusted, err)
	}
	if gen == "" || own[fieldSeal] != string(gen) || !slices.Contains(seal, "~"+string(gen)) {
		return page, nil, gen, errUntrusted
	}
	err = addSettings(instant[3], gen, all)
	if err != nil && !errors.Is(err, errOverdue) {
		return page, nil, gen, err
	}
	if len(order) > limit {
		page.HasMore, order = true, order[:limit]
	}
	page.States = make([]im.ConversationState, 0, len(order))
	for _, c := range order {
		s, ok := all[im.ConversationID(c)]
		if !ok {
			return page, nil, gen, errUntrusted
		}
		if s.Hidden() { // seldom: the order knows nothing of it
			page.States, page.HasMore = newest(maps.Values(all), im.ListAll, before, limit)
			break
		}
		page.States = append(page.States, s)
	}
	page.Position = im.Position{Epoch: gen, Version: parseNumber(own[fieldVersion])}
	return page, all, gen, err
}

// totals is what is unread in a user's list.
func totals(states iter.Seq[im.ConversationState]) (t im.UnreadTotal) {
	now := time.Now().UnixMilli()
	for s := range states {
		if s.Hidden() {
			continue
		}
		t.All += s.Unread
		if !s.Settings.Muted(now) {
			t.Badge += s.Unread
		}
	}
	return t
}

// newest is a page of a list, from below before (0: from its top).
func newest(states iter.Seq[im.ConversationState], only im.ListFilter, before im.MessageID, limit int) (page []im.ConversationState, more bool) {
	page = slices.SortedFunc(func(yield func(im.ConversationState) bool) {
		for s := range states {
			if s.LastID > 0 && (before == 0 || s.LastID < before) && !s.Hidden() && only.Takes(&s) && !yield(s) {
				return
			}
		}
	}, newestFirst)
	if len(page) > limit {
		return page[:limit], true
	}
	return page, false
}
