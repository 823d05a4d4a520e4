package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// circle is a group.
type circle struct {
	id        im.GroupID
	name      string
	policy    im.JoinPolicy
	history   bool // who joins sees what was said before
	mutedAll  bool
	dissolved bool
	main      *thread
	channels  []*thread // also removed ones
	members   map[im.UserID]*membership
	muted     map[im.UserID]bool // also while they are away
	asked     map[im.UserID]bool // to join
}

type membership struct{ role im.Role }

// forEver is a time that does not come while a test runs.
const forEver = int64(im.MutedForever)

func (c *circle) manages(u im.UserID) bool {
	m := c.members[u]
	return m != nil && m.role.Manages()
}

func (c *circle) owner() im.UserID {
	for u, m := range c.members {
		if m.role == im.RoleOwner {
			return u
		}
	}
	return 0
}

// open are the channels where everyone is.
func (c *circle) open() (all []*thread) {
	for _, th := range c.channels {
		if !th.private && !th.removed {
			all = append(all, th)
		}
	}
	return all
}

// tell adds a notice to a channel, by which some join and some leave.
func (w *world) tell(th *thread, kind im.NoticeKind, name string, about, join, leave []im.UserID) {
	about = slices.Sorted(slices.Values(about))
	w.say(th, &utterance{sender: im.SystemUser, notice: kind, about: about, text: name})
	seq := th.last()
	for _, u := range join {
		s := th.seats[u]
		switch {
		case s == nil:
			s = &seat{join: seq}
			if th.circle.history {
				s.join = 1
			}
			th.seats[u] = s
		case s.in():
			continue
		case !th.circle.history:
			s.join = seq
		}
		s.joined, s.delivered, s.read = seq, max(s.delivered, seq), max(s.read, seq)
		s.spans = append(s.spans, span{first: s.join})
	}
	for _, u := range leave {
		if s := th.member(u); s != nil {
			s.leave = seq
			s.spans[len(s.spans)-1].last = seq
		}
	}
}

func (th *thread) everyone() (all []im.UserID) {
	for u, s := range th.seats {
		if s.in() {
			all = append(all, u)
		}
	}
	return all
}

// join lets users into the group.
func (w *world) join(c *circle, users ...im.UserID) {
	users = slices.DeleteFunc(users, func(u im.UserID) bool { return c.members[u] != nil })
	if len(users) == 0 {
		return
	}
	for _, u := range users {
		c.members[u] = &membership{role: im.RoleMember}
		delete(c.asked, u)
	}
	for _, th := range c.open() {
		w.tell(th, im.NoticeJoined, "", users, users, nil)
	}
}

// part ends a user's membership.
func (w *world) part(c *circle, u im.UserID, kind im.NoticeKind) {
	for _, th := range c.channels {
		if !th.removed && th.member(u) != nil {
			w.tell(th, kind, "", []im.UserID{u}, nil, []im.UserID{u})
		}
	}
	delete(c.members, u)
}

// channels are those of all groups, to whoever they belong.
func (g *play) channels() (all []*thread) {
	for _, c := range g.w.groups {
		all = append(all, c.channels...)
	}
	return all
}

// may is "" where the player may send there, else the code of the refusal.
func (g *play) may(p *player, th *thread) string {
	c := th.circle
	switch {
	case c == nil && p.id != th.low && p.id != th.high, c != nil && th.member(p.id) == nil:
		return "not_found"
	case c != nil && (c.muted[p.id] || c.mutedAll && !c.manages(p.id)):
		return "muted"
	}
	return ""
}

// asking is one request about a group, what must come of it, and what it does then.
type asking struct {
	ask    func() (protocol.GroupChanged, error)
	wanted string
	then   func(protocol.GroupChanged)
}

// groupDeeds are what is done to groups. A group is chosen by the step, and somebody else.
var groupDeeds = map[string]func(g *play, c *circle, p, other *player, n int) asking{
	"invite": func(g *play, c *circle, p, other *player, n int) asking {
		users := []im.UserID{other.id}
		if n%3 == 0 {
			users = append(users, g.players[n%len(g.players)].id)
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.AddMembers(bg, c.id, users...) },
			c.refuses(p, true), func(protocol.GroupChanged) { g.w.join(c, slices.Compact(slices.Sorted(slices.Values(users)))...) },
		}
	},
	"kick": func(g *play, c *circle, p, other *player, n int) asking {
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.RemoveMember(bg, c.id, other.id) },
			c.over(p, other, true), func(protocol.GroupChanged) {
				if c.members[other.id] != nil {
					g.w.part(c, other.id, im.NoticeRemoved)
				}
			},
		}
	},
	"quit": func(g *play, c *circle, p, other *player, n int) asking {
		wanted := c.refuses(p, false)
		if wanted == "" && c.owner() == p.id {
			wanted = "conflict"
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.LeaveGroup(bg, c.id) },
			wanted, func(protocol.GroupChanged) { g.w.part(c, p.id, im.NoticeLeft) },
		}
	},
	"promote": func(g *play, c *circle, p, other *player, n int) asking {
		role := []im.Role{im.RoleAdmin, im.RoleMember}[n%2]
		wanted := c.owns(p)
		if wanted == "" && c.members[other.id] == nil {
			wanted = "not_found"
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.SetRole(bg, c.id, other.id, role) },
			wanted, func(protocol.GroupChanged) {
				if m := c.members[other.id]; m.role != role {
					m.role = role
					g.w.tell(c.main, im.NoticeRole, "", []im.UserID{other.id}, nil, nil)
				}
			},
		}
	},
	"transfer": func(g *play, c *circle, p, other *player, n int) asking {
		wanted := c.owns(p)
		if wanted == "" && c.members[other.id] == nil {
			wanted = "not_found"
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.TransferGroup(bg, c.id, other.id) },
			wanted, func(protocol.GroupChanged) {
				c.members[p.id].role, c.members[other.id].role = im.RoleAdmin, im.RoleOwner
				g.w.tell(c.main, im.NoticeTransferred, "", []im.UserID{other.id}, nil, nil)
			},
		}
	},
	"mute": func(g *play, c *circle, p, other *player, n int) asking {
		on, kind, until := n%3 > 0, im.NoticeMuted, forEver
		if !on {
			kind, until = im.NoticeUnmuted, 0
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.MuteMember(bg, c.id, other.id, until) },
			c.over(p, other, false), func(protocol.GroupChanged) {
				if c.muted[other.id] != on {
					c.muted[other.id] = on
					g.w.tell(c.main, kind, "", []im.UserID{other.id}, nil, nil)
				}
			},
		}
	},
	"update": func(g *play, c *circle, p, other *player, n int) asking {
		var u protocol.UpdateGroup
		on := n/4%2 == 0
		name, policy := fmt.Sprint("group ", n), []im.JoinPolicy{im.JoinOpen, im.JoinRequest, im.JoinClosed}[n/4%3]
		kind := im.NoticeUpdated
		var set func() bool
		switch n % 4 {
		case 0:
			u.Name, set = &name, func() bool { was := c.name; c.name = name; return was != name }
		case 1:
			u.JoinPolicy, set = &policy, func() bool { was := c.policy; c.policy = policy; return was != policy }
		case 2:
			u.HistoryVisible, set = &on, func() bool { was := c.history; c.history = on; return was != on }
		case 3:
			kind = im.NoticeUnmutedAll
			if on {
				kind = im.NoticeMutedAll
			}
			u.MutedAll, set = &on, func() bool { was := c.mutedAll; c.mutedAll = on; return was != on }
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.UpdateGroup(bg, c.id, u) },
			c.refuses(p, true), func(protocol.GroupChanged) {
				if !set() {
					return
				}
				name := ""
				if kind == im.NoticeUpdated {
					name = c.name
				}
				g.w.tell(c.main, kind, name, nil, nil, nil)
			},
		}
	},
	"join": func(g *play, c *circle, p, other *player, n int) asking {
		wanted := ""
		if c.dissolved || c.policy == im.JoinClosed && c.members[p.id] == nil {
			wanted = "not_found"
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.JoinGroup(bg, c.id, "") },
			wanted, func(protocol.GroupChanged) {
				switch {
				case c.members[p.id] != nil:
				case c.policy == im.JoinOpen:
					g.w.join(c, p.id)
				default:
					c.asked[p.id] = true
				}
			},
		}
	},
	"decide": func(g *play, c *circle, p, other *player, n int) asking {
		wanted := c.refuses(p, true)
		if wanted == "" && !c.asked[other.id] {
			wanted = "not_found"
		}
		accept := n%3 > 0
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.DecideJoin(bg, c.id, other.id, accept) },
			wanted, func(protocol.GroupChanged) {
				if delete(c.asked, other.id); accept {
					g.w.join(c, other.id)
				}
			},
		}
	},
	"channel": func(g *play, c *circle, p, other *player, n int) asking {
		if len(c.channels) > 3 {
			return asking{}
		}
		req := protocol.CreateChannel{Name: fmt.Sprint("channel ", n), Private: n%2 == 0}
		wanted := c.refuses(p, true)
		in := []im.UserID{p.id}
		if req.Private && other.id != p.id {
			req.Members = []im.UserID{other.id}
			if wanted == "" && c.members[other.id] == nil {
				wanted = "not_found"
			}
			in = append(in, other.id)
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.CreateChannel(bg, c.id, req) },
			wanted, func(made protocol.GroupChanged) {
				th := &thread{id: made.Channel.ConversationID, circle: c, name: req.Name, private: req.Private, seats: map[im.UserID]*seat{}}
				c.channels = append(c.channels, th)
				g.w.convs[th.id] = th
				if !req.Private {
					in = slices.Collect(maps.Keys(c.members))
				}
				g.w.tell(th, im.NoticeChannelCreated, req.Name, nil, in, nil)
			},
		}
	},
	"rename": func(g *play, c *circle, p, other *player, n int) asking {
		th := c.channels[n%len(c.channels)]
		name := fmt.Sprint("channel ", n, " renamed")
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.RenameChannel(bg, c.id, th.id, name) },
			c.side(p, th), func(protocol.GroupChanged) {
				if th.name != name {
					th.name = name
					g.w.tell(th, im.NoticeChannelRenamed, name, nil, nil, nil)
				}
			},
		}
	},
	"close": func(g *play, c *circle, p, other *player, n int) asking {
		th := c.channels[n%len(c.channels)]
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.RemoveChannel(bg, c.id, th.id) },
			c.side(p, th), func(protocol.GroupChanged) {
				g.w.tell(th, im.NoticeChannelRemoved, th.name, nil, nil, th.everyone())
				th.removed = true
			},
		}
	},
	"admit": func(g *play, c *circle, p, other *player, n int) asking {
		th := c.channels[n%len(c.channels)]
		wanted := c.sees(p, th)
		switch {
		case wanted != "":
		case !c.manages(p.id):
			wanted = "forbidden"
		case !th.private:
			wanted = "conflict"
		case c.members[other.id] == nil:
			wanted = "not_found"
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.AddToChannel(bg, c.id, th.id, other.id) },
			wanted, func(protocol.GroupChanged) {
				if th.member(other.id) == nil {
					g.w.tell(th, im.NoticeJoined, "", []im.UserID{other.id}, []im.UserID{other.id}, nil)
				}
			},
		}
	},
	"expel": func(g *play, c *circle, p, other *player, n int) asking {
		th := c.channels[n%len(c.channels)]
		if n%2 == 0 {
			other = p
		}
		wanted := c.sees(p, th)
		switch {
		case wanted != "":
		case other != p && !c.manages(p.id):
			wanted = "forbidden"
		case !th.private:
			wanted = "conflict"
		case other != p:
			wanted = c.over(p, other, true)
		}
		kind := im.NoticeRemoved
		if other == p {
			kind = im.NoticeLeft
		}
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.RemoveFromChannel(bg, c.id, th.id, other.id) },
			wanted, func(protocol.GroupChanged) {
				if th.member(other.id) != nil {
					g.w.tell(th, kind, "", []im.UserID{other.id}, nil, []im.UserID{other.id})
				}
			},
		}
	},
	"dissolve": func(g *play, c *circle, p, other *player, n int) asking {
		return asking{
			func() (protocol.GroupChanged, error) { return p.http.DissolveGroup(bg, c.id) },
			c.owns(p), func(protocol.GroupChanged) {
				for _, th := range c.channels {
					if !th.removed {
						g.w.tell(th, im.NoticeDissolved, c.name, nil, nil, th.everyone())
					}
				}
				c.dissolved, c.members, c.asked = true, map[im.UserID]*membership{}, map[im.UserID]bool{}
			},
		}
	},
}

var bg = context.Background()

// refuses is what who is not in the group is told, or who may not change it.
func (c *circle) refuses(p *player, manages bool) string {
	switch {
	case c.members[p.id] == nil:
		return "not_found"
	case manages && !c.manages(p.id):
		return "forbidden"
	}
	return ""
}

func (c *circle) owns(p *player) string {
	if wanted := c.refuses(p, false); wanted != "" || c.owner() == p.id {
		return wanted
	}
	return "forbidden"
}

// over says whether p may take it up with other. Who is not in it is as removed already.
func (c *circle) over(p, other *player, away bool) string {
	wanted := c.refuses(p, true)
	m := c.members[other.id]
	switch {
	case wanted != "":
	case m == nil && away:
	case m == nil:
		return "not_found"
	case m.role == im.RoleOwner, m.role == im.RoleAdmin && c.owner() != p.id:
		return "forbidden"
	}
	return wanted
}

// sees says whether p may know of a channel.
func (c *circle) sees(p *player, th *thread) string {
	if c.members[p.id] == nil || th.removed || th.private && th.member(p.id) == nil && !c.manages(p.id) {
		return "not_found"
	}
	return ""
}

// side is a channel other than the main one, for admins.
func (c *circle) side(p *player, th *thread) string {
	switch wanted := c.sees(p, th); {
	case wanted != "":
		return wanted
	case !c.manages(p.id):
		return "forbidden"
	case th == c.main:
		return "conflict"
	}
	return ""
}

// regroup does what a step says to a group.
func (g *play) regroup(p *player, s step) {
	if len(g.w.groups) == 0 || s.Do == "group" {
		g.found(p, s.What)
		return
	}
	c := g.w.groups[s.Where%len(g.w.groups)]
	other := g.players[s.What%len(g.players)]
	if other == p {
		other = g.players[(s.What+1)%len(g.players)]
	}
	a := groupDeeds[s.Do](g, c, p, other, s.What)
	if a.ask == nil {
		return
	}
	var made protocol.GroupChanged
	err := g.retry(func() (err error) { made, err = a.ask(); return err })
	if codeOf(err) != a.wanted {
		failf("%s's %s in group %s: %v, want %q", p.name, s.Do, c.id, err, a.wanted)
	}
	if err == nil {
		a.then(made)
		g.settle(made)
	}
}

// settle waits for what a change has said in channels, where its answer did not.
func (g *play) settle(made protocol.GroupChanged) {
	if made.Applied {
		return
	}
	for _, c := range g.w.groups {
		for _, th := range c.channels {
			for u, s := range th.seats {
				i := slices.IndexFunc(g.players, func(p *player) bool { return p.id == u })
				g.must("a notice", func() error {
					row, err := g.players[i].http.Conversation(bg, th.id)
					if err == nil && row.LastSeq < th.top(s) {
						return &protocol.Error{Code: "not_told", Retryable: true}
					}
					return err
				})
			}
		}
	}
}

// found makes a group.
func (g *play) found(p *player, n int) {
	if len(g.w.groups) == 2 {
		return
	}
	req := protocol.CreateGroup{
		Name: fmt.Sprint("group ", len(g.w.groups)), JoinPolicy: []im.JoinPolicy{im.JoinClosed, im.JoinRequest, im.JoinOpen}[n%3],
		HistoryVisible: n/3%2 == 0, ClientGroupID: "founded-" + im.ClientMsgID(p.name) + im.ClientMsgID(fmt.Sprint(len(g.w.groups))),
	}
	in := []im.UserID{p.id}
	for i, other := range g.players {
		if other != p && n>>i&1 == 0 {
			req.Members, in = append(req.Members, other.id), append(in, other.id)
		}
	}
	var made protocol.GroupChanged
	for range 1 + n%2 { // again is as once
		g.must("a group", func() (err error) { made, err = p.http.CreateGroup(bg, req); return err })
	}
	c := &circle{
		id: made.Group.ID, name: req.Name, policy: req.JoinPolicy, history: req.HistoryVisible,
		members: map[im.UserID]*membership{}, muted: map[im.UserID]bool{}, asked: map[im.UserID]bool{},
	}
	for _, u := range in {
		c.members[u] = &membership{role: im.RoleMember}
	}
	c.members[p.id].role = im.RoleOwner
	c.main = &thread{id: made.Group.MainChannelID, circle: c, seats: map[im.UserID]*seat{}}
	c.channels = []*thread{c.main}
	g.w.groups, g.w.convs[c.main.id] = append(g.w.groups, c), c.main
	g.w.tell(c.main, im.NoticeCreated, c.name, req.Members, in, nil)
	g.settle(made)
}

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
