package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

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
