package logic

import (
	"context"
	"fmt"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// ReceiptCounts says for messages that the caller can see how many have received and
// read them. What they cannot see is left out.
func (s *Service) ReceiptCounts(ctx context.Context, who im.Identity, c im.ConversationID, seqs []im.Seq) (protocol.ReceiptCounts, error) {
	if len(seqs) == 0 || len(seqs) > maxPage {
		return protocol.ReceiptCounts{}, im.Invalid("seq", "must be given 1 to 100 times")
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	w, err := s.members.MaySee(ctx, who.User, c)
	if err != nil {
		return protocol.ReceiptCounts{}, err
	}
	seqs = slices.Clone(seqs)
	slices.Sort(seqs)
	seqs = slices.DeleteFunc(slices.Compact(seqs), func(seq im.Seq) bool { return !w.holds(seq) })
	out := protocol.ReceiptCounts{Items: []protocol.ReceiptCount{}}
	if len(seqs) == 0 {
		return out, nil
	}
	counts, err := s.deps.Records.ReceiptCounts(ctx, c, seqs)
	if err != nil {
		return protocol.ReceiptCounts{}, fmt.Errorf("receipt counts: %w", storeError(err))
	}
	for _, n := range counts {
		out.Items = append(out.Items, protocol.ReceiptCount{Seq: n.Seq, Recipients: n.Recipients, Delivered: n.Delivered, Read: n.Read})
	}
	return out, nil
}

// Recipients is a page of who has read or received a message that the caller can see, or
// has not, by user, from above after.
func (s *Service) Recipients(ctx context.Context, who im.Identity, at im.Place, state im.ReceiptState, after im.UserID, limit int) (protocol.Recipients, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err != nil {
		return protocol.Recipients{}, err
	}
	if state != im.ReceiptRead && state != im.ReceiptDelivered && state != im.ReceiptUndelivered {
		return protocol.Recipients{}, im.Invalid("state", "must be read, delivered or undelivered")
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if _, err := s.visible(ctx, who.User, at); err != nil {
		return protocol.Recipients{}, err
	}
	all, more, err := s.deps.Records.Receipts(ctx, at.Conversation, at.Seq, state, after, limit)
	if err != nil {
		return protocol.Recipients{}, fmt.Errorf("recipients: %w", storeError(err))
	}
	w, err := s.members.MaySee(ctx, who.User, at.Conversation)
	if err != nil {
		return protocol.Recipients{}, err
	}
	users := make([]im.UserID, len(all))
	for i, m := range all {
		users[i] = m.User
	}
	profiles, err := s.profilesOf(ctx, users)
	if err != nil {
		return protocol.Recipients{}, err
	}
	page := protocol.Recipients{Items: make([]protocol.Recipient, len(all)), HasMore: more}
	for i, m := range all {
		if w.last != 0 { // who has left learns nothing of what came later ([L12])
			m.Delivered, m.Read = min(m.Delivered, w.last), min(m.Read, w.last)
		}
		page.Items[i] = protocol.Recipient{User: profiles[i], DeliveredSeq: m.Delivered, ReadSeq: m.Read}
	}
	if more {
		page.Next = users[len(users)-1].String()
	}
	return page, nil
}
