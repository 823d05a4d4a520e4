package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// recipient is somebody to whom a message of a channel may have been sent.
type recipient struct {
	who             *speaker
	s               span
	delivered, read bounds
}

// wholists is of how many messages of a channel the names are compared too.
const wholists = 4

// checkReceipts compares how many have received and read each message of a channel, and
// of some of them who.
func (g *groupReplay) checkReceipts(ctx context.Context, res *result, m *model) error {
	var all []recipient
	for who := range m.spans {
		s, _ := m.now(who)
		all = append(all, recipient{who, s, m.delivered(who, s), m.read(who, s)})
	}
	var seqs []im.Seq
	for i, p := range m.places {
		if p.said != nil {
			seqs = append(seqs, im.Seq(i+1))
		}
	}
	for part := range slices.Chunk(seqs, 100) {
		q := url.Values{}
		for _, seq := range part {
			q.Add("seq", strconv.FormatUint(uint64(seq), 10))
		}
		if err := g.settles(ctx, &res.receiptsWrong, res, g.owner.person, func() (string, error) {
			var got protocol.ReceiptCounts
			if err := again(ctx, func() error {
				return g.owner.http.Do(ctx, "GET", "/v1/conversations/"+string(m.room.id)+"/receipts?"+q.Encode(), nil, &got)
			}); err != nil {
				return "", err
			}
			if len(got.Items) != len(part) {
				return fmt.Sprintf("%s: counts of %d messages, not %d", m.room.name, len(got.Items), len(part)), nil
			}
			for i, n := range got.Items {
				var recipients int
				var delivered, read bounds // of how many
				for _, r := range all {
					if !r.s.holds(n.Seq) || m.places[n.Seq-1].said.from == r.who {
						continue
					}
					recipients++
					delivered, read = delivered.count(r.delivered, n.Seq), read.count(r.read, n.Seq)
				}
				if n.Seq != part[i] || n.Recipients != recipients || !delivered.hold(n.Delivered) || !read.hold(n.Read) {
					return fmt.Sprintf("%s at %d: recipients %d delivered %d read %d, not %d %d %d", m.room.name, n.Seq,
						n.Recipients, n.Delivered, n.Read, recipients, delivered, read), nil
				}
			}
			return "", nil
		}); err != nil {
			return err
		}
	}
	for i := range min(wholists, len(seqs)) {
		seq := seqs[len(seqs)*(i+1)/(wholists+1)]
		for _, state := range []im.ReceiptState{im.ReceiptRead, im.ReceiptDelivered, im.ReceiptUndelivered} {
			if err := g.settles(ctx, &res.receiptsWrong, res, g.owner.person, func() (string, error) {
				return g.checkWho(ctx, m, all, seq, state)
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// count is b with one more, who has surely or perhaps come to seq.
func (b bounds) count(r bounds, seq im.Seq) bounds {
	if r.low >= seq {
		b.low++
	}
	if r.high >= seq {
		b.high++
	}
	return b
}

func (b bounds) hold(n int) bool { return im.Seq(n) >= b.low && im.Seq(n) <= b.high }

func (g *groupReplay) checkWho(ctx context.Context, m *model, all []recipient, seq im.Seq, state im.ReceiptState) (string, error) {
	listed := map[im.UserID]bool{}
	for after := "0"; ; {
		var page protocol.Recipients
		path := fmt.Sprintf("/v1/conversations/%s/messages/%d/receipts?state=%s&limit=100&after=%s", m.room.id, seq, state, after)
		if err := again(ctx, func() error { return g.owner.http.Do(ctx, "GET", path, nil, &page) }); err != nil {
			return "", err
		}
		for _, it := range page.Items {
			if listed[it.User.ID] {
				return fmt.Sprintf("%s at %d: %d is listed twice as %s", m.room.name, seq, it.User.ID, state), nil
			}
			listed[it.User.ID] = true
		}
		if !page.HasMore {
			break
		}
		after = page.Next
	}
	for _, r := range all {
		there := listed[r.who.id()]
		delete(listed, r.who.id())
		sure, perhaps := false, false
		if r.s.holds(seq) && m.places[seq-1].said.from != r.who {
			switch state {
			case im.ReceiptRead:
				sure, perhaps = r.read.low >= seq, r.read.high >= seq
			case im.ReceiptDelivered:
				sure, perhaps = r.delivered.low >= seq, r.delivered.high >= seq
			case im.ReceiptUndelivered:
				sure, perhaps = r.delivered.high < seq, r.delivered.low < seq
			}
		}
		if there && !perhaps || !there && sure {
			return fmt.Sprintf("%s at %d: %s, come to %v and having read to %v, is listed as %s: %v", m.room.name, seq,
				r.who.nick, r.delivered, r.read, state, there), nil
		}
	}
	if len(listed) > 0 {
		return fmt.Sprintf("%s at %d: strangers are listed as %s", m.room.name, seq, state), nil
	}
	return "", nil
}
