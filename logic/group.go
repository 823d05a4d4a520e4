package logic

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// A change of a group is a transaction in MySQL, which says what the log must be told;
// each method here returns once those notices are stored (Applied), or at 4.5 s, or at
// once where the log is away: the change holds in any case, and its notices follow
// ([L11]).

// CreateGroup makes a group that the caller owns, with its main channel.
func (s *Service) CreateGroup(ctx context.Context, who im.Identity, req protocol.CreateGroup) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "create", func(ctx context.Context) (im.GroupChange, error) {
		n := im.NewGroup{Owner: who.User, Avatar: req.Avatar, JoinPolicy: req.JoinPolicy,
			HistoryVisible: req.HistoryVisible, ClientGroupID: req.ClientGroupID}
		var err error
		if n.JoinPolicy == "" {
			n.JoinPolicy = im.JoinClosed
		}
		if err = checkGroup(&n.Avatar, &n.JoinPolicy); err != nil {
			return im.GroupChange{}, err
		}
		if n.ClientGroupID != "" && n.ClientGroupID.Validate() != nil {
			return im.GroupChange{}, im.Invalid("client_group_id", "must be 8 to 64 characters of A-Z a-z 0-9 _ -")
		}
		if n.Members, err = groupUsers("members", req.Members, who.User); err != nil {
			return im.GroupChange{}, err
		}
		if n.Name, err = s.groupName(ctx, req.Name); err != nil {
			return im.GroupChange{}, err
		}
		if err = s.mayAskGroups(ctx, "groups", who.User, s.cfg.GroupsPerMinute); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.CreateGroup(ctx, n)
	})
}

// UpdateGroup changes what is not nil.
func (s *Service) UpdateGroup(ctx context.Context, who im.Identity, g im.GroupID, req protocol.UpdateGroup) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "update", func(ctx context.Context) (im.GroupChange, error) {
		p := im.GroupPatch{Name: req.Name, Avatar: req.Avatar, JoinPolicy: req.JoinPolicy,
			HistoryVisible: req.HistoryVisible, MutedAll: req.MutedAll}
		if p == (im.GroupPatch{}) {
			return im.GroupChange{}, im.Invalid("name", "nothing to change is given")
		}
		if err := checkGroup(p.Avatar, p.JoinPolicy); err != nil {
			return im.GroupChange{}, err
		}
		if p.Name != nil {
			name, err := s.groupName(ctx, *p.Name)
			if err != nil {
				return im.GroupChange{}, err
			}
			p.Name = &name
		}
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.UpdateGroup(ctx, who.User, g, p)
	})
}

// DissolveGroup ends it for everyone; the owner may.
func (s *Service) DissolveGroup(ctx context.Context, who im.Identity, g im.GroupID) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "dissolve", func(ctx context.Context) (im.GroupChange, error) {
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.DissolveGroup(ctx, who.User, g)
	})
}

// Group is one group as the caller sees it; im.ErrNotFound where they may not know of it.
func (s *Service) Group(ctx context.Context, who im.Identity, g im.GroupID) (protocol.Group, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	view, err := s.deps.Groups.Group(ctx, who.User, g)
	if err != nil {
		return protocol.Group{}, fmt.Errorf("group: %w", storeError(err))
	}
	return showGroup(&view), nil
}

// Groups is a page of the groups that the caller is in, by ID, from above after.
func (s *Service) Groups(ctx context.Context, who im.Identity, after im.GroupID, limit int) (protocol.Groups, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err != nil {
		return protocol.Groups{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	all, more, err := s.deps.Groups.GroupsOf(ctx, who.User, after, limit)
	if err != nil {
		return protocol.Groups{}, fmt.Errorf("groups: %w", storeError(err))
	}
	page := protocol.Groups{Items: make([]protocol.Group, len(all)), HasMore: more}
	for i := range all {
		page.Items[i] = showGroup(&all[i])
	}
	if more {
		page.Next = all[len(all)-1].ID.String()
	}
	return page, nil
}

// changeGroup runs a change and tells the log of it. What the stores may take bounds
// the change, what a request may take the rest.
func (s *Service) changeGroup(ctx context.Context, who im.Identity, kind string, change func(context.Context) (im.GroupChange, error)) (protocol.GroupChanged, error) {
	start := time.Now()
	done, err := func() (im.GroupChange, error) {
		if err := s.roomForGroups(kind); err != nil {
			return im.GroupChange{}, err
		}
		ctx, cancel := s.within(ctx)
		defer cancel()
		return change(ctx)
	}()
	s.metrics.groups.WithLabelValues(kind, codeName(err)).Inc()
	if err != nil {
		return protocol.GroupChanged{}, fmt.Errorf("%s: %w", kind, storeError(err))
	}
	s.members.cut(done.Group.ID)
	told := s.tellOps(start, done.Ops)
	answer := protocol.GroupChanged{Group: s.viewAfter(ctx, who.User, done.Group)}
	if answer.Applied = told.wait(ctx); answer.Applied {
		s.members.cut(done.Group.ID) // who joined by it is in it only now
	}
	return answer, nil
}

func (s *Service) mayChangeGroup(ctx context.Context, who im.Identity) error {
	return s.mayAskGroups(ctx, "group_changes", who.User, s.cfg.GroupChangesPerMinute)
}

// viewAfter is the group as u sees it after a change; without their own part where they
// are in it no longer, or the store has gone since.
func (s *Service) viewAfter(ctx context.Context, u im.UserID, g im.Group) protocol.Group {
	ctx, cancel := s.within(ctx)
	defer cancel()
	view, err := s.deps.Groups.Group(ctx, u, g.ID)
	if err != nil {
		if !isNotFound(err) {
			s.logUnlessAway("the caller's part of a group", err)
		}
		view = im.GroupView{Group: g}
	}
	return showGroup(&view)
}

// checkGroup checks what is not nil.
func checkGroup(avatar *string, policy *im.JoinPolicy) error {
	if avatar != nil {
		if err := checkAvatar(*avatar); err != nil {
			return err
		}
	}
	if policy != nil && !policy.Known() {
		return im.Invalid("join_policy", "must be closed, request or open")
	}
	return nil
}

func showGroup(v *im.GroupView) protocol.Group {
	g := protocol.Group{
		ID: v.ID, Name: v.Name, Avatar: v.Avatar, OwnerID: v.Owner, MainChannelID: v.Main, Members: v.Members,
		JoinPolicy: v.JoinPolicy, HistoryVisible: v.HistoryVisible, MutedAll: v.MutedAll, Version: v.Version,
		CreatedAt: v.CreatedAt, Role: v.Role, MutedUntil: v.MutedUntil, Requested: v.Requested,
	}
	for i := range v.Channels {
		g.Channels = append(g.Channels, showChannel(&v.Channels[i], v.Main))
	}
	return g
}

func showChannel(c *im.Channel, main im.ConversationID) protocol.Channel {
	return protocol.Channel{ConversationID: c.ID, Name: c.Name, Main: c.ID == main, Private: c.Private, CreatedAt: c.CreatedAt}
}

// codeName labels how something ended.
func codeName(err error) string {
	if err == nil {
		return "ok"
	}
	return protocol.CodeOf(err).Name
}
