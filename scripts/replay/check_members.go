package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
			items, total, err := who.list(ctx)
			if err != nil {
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
