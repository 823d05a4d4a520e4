package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// groupFacts is the groups that p is in, who else is, and who has received what.
func (g *play) groupFacts(p *player) string {
	groups, err := p.http.Groups(bg, "", 10)
	if err != nil {
		return fmt.Sprintf("groups: %v", err)
	}
	var got, want []string
	for _, x := range groups.Items {
		muted := x.MutedUntil > 0
		line := fmt.Sprint(x.ID, x.Name, x.OwnerID, x.MainChannelID, x.Members, x.JoinPolicy, x.HistoryVisible, x.MutedAll, x.Role, muted)
		for _, ch := range x.Channels {
			line += fmt.Sprint(" ", ch.ConversationID, ch.Name, ch.Main, ch.Private)
		}
		got = append(got, line)
	}
	for _, c := range g.w.groups {
		m := c.members[p.id]
		if m == nil {
			if diff := g.outside(p, c); diff != "" {
				return diff
			}
			continue
		}
		line := fmt.Sprint(c.id, c.name, c.owner(), c.main.id, len(c.members), c.policy, c.history, c.mutedAll, m.role, c.muted[p.id])
		for _, th := range c.channels {
			if c.sees(p, th) == "" {
				line += fmt.Sprint(" ", th.id, th.name, th == c.main, th.private)
			}
		}
		want = append(want, line)
		if diff := g.memberships(p, c); diff != "" {
			return diff
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("groups:\n got %q\nwant %q", got, want)
	}
	for _, th := range g.w.of(p.id) {
		if diff := g.receipts(p, th); diff != "" {
			return diff
		}
	}
	return ""
}

// outside is what who is not in a group sees of it.
func (g *play) outside(p *player, c *circle) string {
	wanted := ""
	if c.dissolved || c.policy == im.JoinClosed {
		wanted = "not_found"
	}
	x, err := p.http.Group(bg, c.id)
	if codeOf(err) != wanted || err == nil && (x.Name != c.name || x.Role != "" || len(x.Channels) > 0 || x.Requested != c.asked[p.id]) {
		return fmt.Sprintf("group %s from outside: %+v, %v; want %q", c.id, x, err, wanted)
	}
	if _, err := p.http.GroupMembers(bg, c.id, "", 10); codeOf(err) != "not_found" {
		return fmt.Sprintf("members of %s from outside: %v", c.id, err)
	}
	return ""
}

func (g *play) memberships(p *player, c *circle) string {
	said := func(all []protocol.GroupMember) string {
		var b strings.Builder
		for _, m := range all {
			fmt.Fprint(&b, m.User.ID, m.Role, m.MutedUntil > 0, " ")
		}
		return b.String()
	}
	wanted := func(users []im.UserID) string {
		var b strings.Builder
		for _, u := range slices.Sorted(slices.Values(users)) {
			fmt.Fprint(&b, u, c.members[u].role, c.muted[u], " ")
		}
		return b.String()
	}
	members, err := p.http.GroupMembers(bg, c.id, "", 10)
	if want := wanted(slices.Collect(maps.Keys(c.members))); err != nil || said(members.Items) != want {
		return fmt.Sprintf("members of group %s: %s, %v; want %s", c.id, said(members.Items), err, want)
	}
	for _, th := range c.channels {
		members, err := p.http.ChannelMembers(bg, c.id, th.id, "", 10)
		if code := c.sees(p, th); codeOf(err) != code {
			return fmt.Sprintf("members of %s: %v, want %q", th.id, err, code)
		}
		if want := wanted(th.everyone()); err == nil && said(members.Items) != want {
			return fmt.Sprintf("members of %s: %s, want %s", th.id, said(members.Items), want)
		}
	}
	requests, err := p.http.JoinRequests(bg, c.id, "", 10)
	if code := c.refuses(p, true); codeOf(err) != code {
		return fmt.Sprintf("requests to join %s: %v, want %q", c.id, err, code)
	}
	var asked []im.UserID
	for _, r := range requests.Items {
		asked = append(asked, r.User.ID)
	}
	if want := slices.Sorted(maps.Keys(c.asked)); err == nil && !slices.Equal(asked, want) {
		return fmt.Sprintf("requests to join %s: %v, want %v", c.id, asked, want)
	}
	return ""
}

// receipts is how many have received and read each message, and of one of them who.
func (g *play) receipts(p *player, th *thread) string {
	s := th.seats[p.id]
	var seqs []im.Seq
	var want []protocol.ReceiptCount
	var who []im.UserID // of the last
	for seq := max(s.first(), th.top(s)-min(th.top(s), 90)); seq <= th.top(s); seq++ {
		n := protocol.ReceiptCount{Seq: seq}
		who = nil
		for u, x := range th.seats {
			if u == th.at(seq).sender || x.joined > seq || !x.in() && x.leave < seq {
				continue
			}
			n.Recipients++
			if max(x.delivered, x.read) >= seq {
				n.Delivered++
			} else {
				who = append(who, u)
			}
			if x.read >= seq {
				n.Read++
			}
		}
		seqs, want = append(seqs, seq), append(want, n)
	}
	if len(seqs) == 0 {
		return ""
	}
	counts, err := p.http.ReceiptCounts(bg, th.id, seqs...)
	if err != nil || !slices.Equal(counts.Items, want) {
		return fmt.Sprintf("receipts in %s: %v, %v; want %v", th.id, counts.Items, err, want)
	}
	if s.gone[seqs[len(seqs)-1]] > 0 {
		return ""
	}
	recipients, err := p.http.Recipients(bg, th.id, seqs[len(seqs)-1], im.ReceiptUndelivered, "", 10)
	var got []im.UserID
	for _, r := range recipients.Items {
		got = append(got, r.User.ID)
	}
	slices.Sort(who)
	if err != nil || !slices.Equal(got, who) {
		return fmt.Sprintf("who has not received %d of %s: %v, %v; want %v", seqs[len(seqs)-1], th.id, got, err, who)
	}
	return ""
}
