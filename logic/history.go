package logic

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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
	first := w.first
	if first <= 1 {
		first = 0
	}
	if nothing || w.empty {
		return protocol.Page{Items: []im.Message{}, FirstSeq: first}, nil
	}
	q.First, q.Last = w.first, w.last
	found, err := s.deps.Records.History(ctx, q)
	if err != nil {
		return protocol.Page{}, fmt.Errorf("history: %w", storeError(err))
	}
	found = fit(found, q)
	page := protocol.Page{Items: forReader(found.Items, who.User), HasMore: found.HasMoreBefore, FirstSeq: first}
	switch {
	case req.AfterSeq != nil:
		page.HasMore = found.HasMoreAfter
	case req.Around != nil:
		page.HasMoreAfter = found.HasMoreAfter
	}
	return page, nil
}

// pageBytes bounds the contents of one page: a hundred of the largest messages would
// be more than a connection's outbox or a client takes at once. The rest is the next
// page's.
const pageBytes = 512 << 10

// fit leaves of a page what pageBytes allows, at least one message: from the place that
// was asked for, so that the next page goes on where this one ends.
func fit(p im.HistoryPage, q im.HistoryQuery) im.HistoryPage {
	if len(p.Items) == 0 {
		return p
	}
	from := len(p.Items) - 1 // before, or from the end
	switch {
	case q.After != nil:
		from = 0
	case q.Around > 0:
		from, _ = slices.BinarySearchFunc(p.Items, q.Around, func(m im.Message, s im.Seq) int { return cmp.Compare(m.Seq, s) })
		from = min(from, len(p.Items)-1)
	}
	low, high, left := from, from+1, pageBytes-len(p.Items[from].Content)
	take := func(i int) bool {
		if i < 0 || i == len(p.Items) || len(p.Items[i].Content) > left {
			return false
		}
		left -= len(p.Items[i].Content)
		return true
	}
	for grown := true; grown; {
		grown = false
		if take(high) {
			high, grown = high+1, true
		}
		if take(low - 1) {
			low, grown = low-1, true
		}
	}
	p.HasMoreBefore = p.HasMoreBefore || low > 0
	p.HasMoreAfter = p.HasMoreAfter || high < len(p.Items)
	p.Items = p.Items[low:high]
	return p
}

// forReader hides what only senders see; never nil, so that JSON shows an array.
func forReader(items []im.Message, u im.UserID) []im.Message {
	shown := make([]im.Message, len(items))
	for i, m := range items {
		shown[i] = m.ForReader(u)
	}
	return shown
}
