package storage

import (
	"context"
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
