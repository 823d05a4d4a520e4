package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// listFromRecord answers from MySQL while Redis is away. No position: the client
// starts over when Redis is back.
func (x *Index) listFromRecord(ctx context.Context, u im.UserID, only im.ListFilter, before im.MessageID, limit int) (im.ListPage, error) {
	all, err := x.statesFromRecord(ctx, u)
	if err != nil {
		return im.ListPage{}, err
	}
	total := totals(slices.Values(all))
	page := im.ListPage{Degraded: true, UnreadTotal: total.All, UnreadBadge: total.Badge}
	page.States, page.HasMore = newest(slices.Values(all), only, before, limit)
	return page, nil
}

func (x *Index) statesFromRecord(ctx context.Context, u im.UserID) ([]im.ConversationState, error) {
	leave, err := x.enterFallback(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	all, err := x.record.UserStates(ctx, u)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := x.countFromRecord(ctx, u, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (x *Index) stateFromRecord(ctx context.Context, u im.UserID, c im.ConversationID, unread bool) (im.ConversationState, error) {
	leave, err := x.enterFallback(ctx)
	if err != nil {
		return im.ConversationState{}, err
	}
	defer leave()
	s, err := x.record.UserState(ctx, u, c)
	if err == nil && unread {
		err = x.countFromRecord(ctx, u, &s)
	}
	return s, err
}

func (x *Index) countFromRecord(ctx context.Context, u im.UserID, s *im.ConversationState) error {
	var uncounted uint64
	if s.LastUncounted > s.Base() && s.Base() < s.Top() {
		var err error
		if uncounted, err = x.record.CountUncounted(ctx, s.Conversation, u, s.Base(), s.Top()); err != nil {
			return err
		}
	}
	s.Unread = s.CountUnread(uncounted)
	return nil
}

func (x *Index) enterFallback(ctx context.Context) (leave func(), err error) {
	leave, err = x.fallback.enter(ctx)
	if errors.Is(err, im.ErrCache) {
		x.redis.metrics.refused.WithLabelValues("fallback").Inc()
	}
	return leave, err
}
