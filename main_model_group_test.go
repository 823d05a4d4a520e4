package main

import (
	"context"
	"fmt"
	"slices"

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
