package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// History returns one page of a conversation, clipped to what the user may see.
func (s *Service) History(ctx context.Context, who im.Identity, req protocol.History) (protocol.Page, error) {
	limit, err := pageLimit(req.Limit, defaultPage)
	if err != nil {
		return protocol.Page{}, err
	}
	q := im.HistoryQuery{Conversation: req.ConversationID, Limit: limit, After: req.AfterSeq}
	given := 0
	if req.AfterSeq != nil {
		given++
	}
	nothing := false
	if req.BeforeSeq != nil {
		given++
		q.Before = *req.BeforeSeq
		nothing = q.Before <= 1 // there is no seq below 1, and 0 would mean the end
	}
	if req.Around != nil {
		given++
		if q.Around = *req.Around; q.Around == 0 {
			return protocol.Page{}, im.Invalid("around", "must be at least 1")
		}
	}
	if given > 1 {
		return protocol.Page{}, im.Invalid("before_seq", "give at most one of before_seq, after_seq and around")
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	w, err := s.members.MaySee(ctx, who.User, req.ConversationID)
	if err != nil {
		return protocol.Page{}, err
	}
	if nothing || w.empty {
		return protocol.Page{Items: []im.Message{}}, nil
	}
	q.First, q.Last = w.first, w.last
	found, err := s.deps.Records.History(ctx, q)
	if err != nil {
		return protocol.Page{}, fmt.Errorf("history: %w", storeError(err))
	}
	page := protocol.Page{Items: forReader(found.Items, who.User), HasMore: found.HasMoreBefore}
	switch {
	case req.AfterSeq != nil:
		page.HasMore = found.HasMoreAfter
	case req.Around != nil:
		page.HasMoreAfter = found.HasMoreAfter
	}
	return page, nil
}

// forReader hides what only senders see; never nil, so that JSON shows an array.
func forReader(items []im.Message, u im.UserID) []im.Message {
	shown := make([]im.Message, len(items))
	for i, m := range items {
		shown[i] = m.ForReader(u)
	}
	return shown
}
