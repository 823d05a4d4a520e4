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
	if req.AfterChange != nil {
		given++
	}
	if given > 1 {
		return protocol.Page{}, im.Invalid("before_seq", "give at most one of before_seq, after_seq, around and after_change")
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
		return protocol.Page{Items: []im.Message{}, Change: req.AfterChange, FirstSeq: first}, nil
	}
	if req.AfterChange != nil {
		return s.changed(ctx, who.User, w, im.ChangedQuery{Conversation: req.ConversationID, After: *req.AfterChange, Limit: limit})
	}
	q.First, q.Last = w.first, w.last
	found, err := s.deps.Records.History(ctx, q)
	if err != nil {
		return protocol.Page{}, fmt.Errorf("history: %w", storeError(err))
	}
	found = fit(found, q)
	if found, err = s.clip(ctx, who.User, q.Conversation, w, found); err != nil {
		return protocol.Page{}, err
	}
	items, err := s.show(ctx, who.User, w, found.Items)
	if err != nil {
		return protocol.Page{}, fmt.Errorf("history: %w", storeError(err))
	}
	page := protocol.Page{Items: items, HasMore: found.HasMoreBefore, FirstSeq: first}
	switch {
	case req.AfterSeq != nil:
		page.HasMore = found.HasMoreAfter
	case req.Around != nil:
		page.HasMoreAfter = found.HasMoreAfter
	}
	return page, nil
}

// changed is a page of what was changed after a change.
func (s *Service) changed(ctx context.Context, u im.UserID, w window, q im.ChangedQuery) (protocol.Page, error) {
	q.First, q.Last = w.first, w.last
	found, err := s.deps.Records.Changed(ctx, q)
	if err != nil {
		return protocol.Page{}, fmt.Errorf("changes: %w", storeError(err))
	}
	kept, err := s.clip(ctx, u, q.Conversation, w, im.HistoryPage{Items: found.Items})
	if err != nil {
		return protocol.Page{}, err
	}
	found.Items = kept.Items
	left := pageBytes
	for i, m := range found.Items {
		if left -= len(m.Content); left < 0 && i > 0 {
			found.Items, found.HasMore, found.UpTo = found.Items[:i], true, found.Items[i-1].Change
			break
		}
	}
	items, err := s.show(ctx, u, w, found.Items)
	if err != nil {
		return protocol.Page{}, fmt.Errorf("changes: %w", storeError(err))
	}
	return protocol.Page{Items: items, HasMore: found.HasMore, Change: &found.UpTo}, nil
}

// clip leaves of messages that were read through a window what is in it still ([L12]).
func (s *Service) clip(ctx context.Context, u im.UserID, c im.ConversationID, w window, p im.HistoryPage) (im.HistoryPage, error) {
	if len(p.Items) == 0 {
		return p, nil
	}
	now, err := s.members.again(ctx, u, c, w)
	if err != nil || now == w {
		return p, err
	}
	var kept []im.Message
	for _, m := range p.Items {
		if now.holds(m.Seq) {
			kept = append(kept, m)
		}
	}
	if !now.holds(p.Items[0].Seq) {
		p.HasMoreBefore = false
	}
	if !now.holds(p.Items[len(p.Items)-1].Seq) {
		p.HasMoreAfter = false
	}
	p.Items = kept
	return p, nil
}

// show is messages of one conversation as u sees them.
func (s *Service) show(ctx context.Context, u im.UserID, w window, items []im.Message) ([]im.Message, error) {
	return s.decorate(ctx, u, items, func(im.ConversationID) bool { return w.deletions > 0 })
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
