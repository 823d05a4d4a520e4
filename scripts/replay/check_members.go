package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// checkGroupList compares somebody's list: its order and last messages, what it says
// of their being a member, unread counts and their total.
func (g *groupReplay) checkGroupList(ctx context.Context, res *result, models map[im.ConversationID]*model, who *speaker) error {
	type row struct {
		m *model
		s span
	}
	var want []row
	for _, m := range models {
		if s, in := m.now(who); in {
			want = append(want, row{m, s})
		}
	}
	last := func(r row) im.MessageID { return r.m.places[r.m.top(r.s)-1].id }
	slices.SortFunc(want, func(a, b row) int { return cmp.Compare(last(b), last(a)) })
	var items []protocol.Conversation
	var total uint64
	read := func() error {
		items = nil
		for before := ""; ; {
			var page protocol.Conversations
			if err := again(ctx, func() (err error) { page, err = who.http.Conversations(ctx, before, 100); return err }); err != nil {
				return err
			}
			items, total = append(items, page.Items...), page.UnreadTotal
			if !page.HasMore {
				return nil
			}
			before = page.Next
		}
	}
	for _, part := range []struct {
		count *int
		wrong func(r row, it protocol.Conversation) string
	}{
		{&res.listWrong, func(r row, it protocol.Conversation) string {
			if top := r.m.top(r.s); it.LastSeq != top || it.LastMessage == nil || it.LastMessage.ID != last(r) {
				return fmt.Sprintf("it ends at %d, not at %d", it.LastSeq, top)
			}
			return ""
		}},
		{&res.membersWrong, func(r row, it protocol.Conversation) string {
			if left, first := r.s.last > 0, max(it.FirstSeq, 1); it.Left != left || first != r.s.first || it.Channel == nil || it.Channel.GroupID != g.id {
				return fmt.Sprintf("left %v, from %d on, not %v, %d", it.Left, first, left, r.s.first)
			}
			return ""
		}},
		{&res.unreadWrong, func(r row, it protocol.Conversation) string {
			if least, most := r.m.unread(who, r.s); it.Unread < uint64(least) || it.Unread > uint64(most) {
				return fmt.Sprintf("%d unread, not %d to %d", it.Unread, least, most)
			}
			return ""
		}},
	} {
		if err := g.settles(ctx, part.count, res, who.person, func() (string, error) {
			if err := read(); err != nil {
				return "", err
			}
			if len(items) != len(want) {
				return fmt.Sprintf("%d conversations, not %d", len(items), len(want)), nil
			}
			var sum uint64
			for i, r := range want {
				if items[i].ConversationID != r.m.room.id {
					return fmt.Sprintf("place %d is %s, not %s", i, items[i].ConversationID, r.m.room.id), nil
				}
				if wrong := part.wrong(r, items[i]); wrong != "" {
					return r.m.room.name + ": " + wrong, nil
				}
				sum += items[i].Unread
			}
			if total != sum {
				return fmt.Sprintf("%d unread in total, not %d", total, sum), nil
			}
			return "", nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// checkMembers compares the member pages of the group and of its channels.
func (g *groupReplay) checkMembers(ctx context.Context, res *result, models map[im.ConversationID]*model) error {
	for c, m := range models {
		path := g.path("/members")
		if m.room != g.main {
			path = g.path("/channels/" + string(c) + "/members")
		}
		if err := g.settles(ctx, &res.membersWrong, res, g.owner.person, func() (string, error) {
			want := map[im.UserID]bool{}
			for who := range m.spans {
				if s, _ := m.now(who); s.last == 0 {
					want[who.id()] = true
				}
			}
			for after := "0"; ; {
				var page protocol.GroupMembers
				if err := again(ctx, func() error {
					return g.owner.http.Do(ctx, "GET", path+"?limit=100&after="+after, nil, &page)
				}); err != nil {
					return "", err
				}
				for _, it := range page.Items {
					if !want[it.User.ID] {
						return fmt.Sprintf("%s: %d is no member, or is listed twice", m.room.name, it.User.ID), nil
					}
					delete(want, it.User.ID)
					if owner := it.User.ID == g.owner.id(); owner != (it.Role == im.RoleOwner) {
						return fmt.Sprintf("%s: %d is %s", m.room.name, it.User.ID, it.Role), nil
					}
				}
				if !page.HasMore {
					break
				}
				after = page.Next
			}
			if len(want) > 0 {
				return fmt.Sprintf("%s: %d members are missing", m.room.name, len(want)), nil
			}
			return "", nil
		}); err != nil {
			return err
		}
	}
	return nil
}

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

// checkFences reads both ends of each channel as somebody who is or was in it, and
// knocks at one that they never were in. Of the main channel, where all are, one in ten
// does.
func (g *groupReplay) checkFences(ctx context.Context, res *result, models map[im.ConversationID]*model, who *speaker) error {
	knocked := false
	for c, m := range models {
		s, in := m.now(who)
		if m.room == g.main && who.id()%10 != 0 && s.last == 0 {
			continue
		}
		first := im.Seq(0)
		for _, q := range []protocol.History{{ConversationID: c, AfterSeq: &first, Limit: 20}, {ConversationID: c, Limit: 20}} {
			var page protocol.Page
			err := again(ctx, func() (err error) { page, err = who.http.History(ctx, q); return err })
			switch {
			case !in && client.IsCode(err, "not_found"):
				continue
			case err != nil && in:
				return err
			}
			if !in {
				g.leak(res, "history", m, who, 0)
				continue
			}
			if len(page.Items) == 0 {
				g.log.Warn("an empty history", "channel", m.room.name, "user", who.nick)
				res.add(&res.lost, 1)
				continue
			}
			for _, it := range page.Items {
				if !s.holds(it.Seq) {
					g.leak(res, "history", m, who, it.Seq)
				}
			}
			end, want := page.Items[0].Seq, s.first
			if q.AfterSeq == nil {
				end, want = page.Items[len(page.Items)-1].Seq, m.top(s)
			}
			if end != want {
				g.log.Warn("a history that does not reach its end", "channel", m.room.name, "user", who.nick, "seq", end, "end", want)
				res.add(&res.lost, 1)
			}
		}
		if (!in || s.last > 0) && !knocked {
			knocked = true
			knock := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: protocol.To{ConversationID: c}, Content: json.RawMessage(`{"text":"let me in"}`)}
			if _, err := who.http.Send(ctx, knock, false); err == nil {
				g.log.Warn("a stranger's message was taken", "channel", m.room.name, "user", who.nick)
				res.add(&res.leaked, 1)
			}
		}
	}
	return nil
}
