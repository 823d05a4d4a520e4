package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// AddMembers invites users into a group; admins may.
func (s *Service) AddMembers(ctx context.Context, who im.Identity, g im.GroupID, req protocol.AddMembers) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "add_members", func(ctx context.Context) (im.GroupChange, error) {
		users, err := someUsers(req.UserIDs)
		if err != nil {
			return im.GroupChange{}, err
		}
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.AddMembers(ctx, who.User, g, users)
	})
}

// RemoveMember takes a user out of a group, or has the caller leave. Applied: nothing
// that is said from now on reaches them ([L12]).
func (s *Service) RemoveMember(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "remove_member", func(ctx context.Context) (im.GroupChange, error) {
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.RemoveMember(ctx, who.User, g, user)
	})
}

// SetRole makes somebody an admin, or a member again; the owner may.
func (s *Service) SetRole(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID, role im.Role) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "set_role", func(ctx context.Context) (im.GroupChange, error) {
		if role != im.RoleAdmin && role != im.RoleMember {
			return im.GroupChange{}, im.Invalid("role", "must be admin or member")
		}
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.SetRole(ctx, who.User, g, user, role)
	})
}

// TransferGroup gives the group to somebody else in it; the owner may, and is an admin
// then.
func (s *Service) TransferGroup(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "transfer", func(ctx context.Context) (im.GroupChange, error) {
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.TransferGroup(ctx, who.User, g, user)
	})
}

// MuteMember keeps a member from sending until a time, 0 ends it.
func (s *Service) MuteMember(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID, until int64) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "mute_member", func(ctx context.Context) (im.GroupChange, error) {
		if until != 0 && (until <= s.now().UnixMilli() || until > im.MutedForever) {
			return im.GroupChange{}, im.Invalid("until", "must be 0 or a time to come, in Unix milliseconds")
		}
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.MuteMember(ctx, who.User, g, user, until)
	})
}

// JoinGroup joins an open group, or asks the admins of one that they approve for
// (Pending). im.ErrNotFound for a closed one.
func (s *Service) JoinGroup(ctx context.Context, who im.Identity, g im.GroupID, req protocol.JoinGroup) (protocol.GroupChanged, error) {
	var pending bool
	answer, err := s.changeGroup(ctx, who, "join", func(ctx context.Context) (change im.GroupChange, err error) {
		message, err := cleanLine("message", req.Message, maxJoinMessage)
		if err != nil {
			return change, err
		}
		if err := s.mayAskGroups(ctx, "group_joins", who.User, s.cfg.GroupJoinsPerMinute); err != nil {
			return change, err
		}
		if message != "" {
			if message, err = s.deps.Filter.Apply(ctx, message); err != nil {
				return change, fmt.Errorf("filter: %w", err)
			}
		}
		change, pending, err = s.deps.Groups.AskToJoin(ctx, who.User, g, message)
		return change, err
	})
	answer.Pending = pending
	return answer, err
}

// WithdrawJoin takes a request to join back; im.ErrNotFound where there is none.
func (s *Service) WithdrawJoin(ctx context.Context, who im.Identity, g im.GroupID) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	err := s.mayChangeGroup(ctx, who)
	if err == nil {
		err = s.deps.Groups.WithdrawJoin(ctx, who.User, g)
	}
	s.metrics.groups.WithLabelValues("withdraw_join", codeName(err)).Inc()
	if err != nil {
		return fmt.Errorf("withdraw join: %w", storeError(err))
	}
	return nil
}

// DecideJoin accepts or refuses a request to join; admins may.
func (s *Service) DecideJoin(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID, accept bool) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, "decide_join", func(ctx context.Context) (im.GroupChange, error) {
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.DecideJoin(ctx, who.User, g, user, accept)
	})
}

// GroupMembers is a page of who is in a group, by user, from above after.
func (s *Service) GroupMembers(ctx context.Context, who im.Identity, g im.GroupID, after im.UserID, limit int) (protocol.GroupMembers, error) {
	return s.membersPage(ctx, limit, func(ctx context.Context, limit int) ([]im.GroupMember, bool, error) {
		return s.deps.Groups.GroupMembers(ctx, who.User, g, after, limit)
	})
}

// JoinRequests is a page of who waits to be let in, by user, from above after; admins may
// see it.
func (s *Service) JoinRequests(ctx context.Context, who im.Identity, g im.GroupID, after im.UserID, limit int) (protocol.JoinRequests, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err != nil {
		return protocol.JoinRequests{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	all, more, err := s.deps.Groups.JoinRequests(ctx, who.User, g, after, limit)
	if err != nil {
		return protocol.JoinRequests{}, fmt.Errorf("join requests: %w", storeError(err))
	}
	users := make([]im.UserID, len(all))
	for i, r := range all {
		users[i] = r.User
	}
	profiles, err := s.profilesOf(ctx, users)
	if err != nil {
		return protocol.JoinRequests{}, err
	}
	page := protocol.JoinRequests{Items: make([]protocol.JoinRequest, len(all)), HasMore: more}
	for i, r := range all {
		page.Items[i] = protocol.JoinRequest{User: profiles[i], Message: r.Message, AskedAt: r.AskedAt}
	}
	if more {
		page.Next = users[len(users)-1].String()
	}
	return page, nil
}

// membersPage shows a page of members with who they are.
func (s *Service) membersPage(ctx context.Context, limit int, read func(context.Context, int) ([]im.GroupMember, bool, error)) (protocol.GroupMembers, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err != nil {
		return protocol.GroupMembers{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	all, more, err := read(ctx, limit)
	if err != nil {
		return protocol.GroupMembers{}, fmt.Errorf("members: %w", storeError(err))
	}
	users := make([]im.UserID, len(all))
	for i, m := range all {
		users[i] = m.User
	}
	profiles, err := s.profilesOf(ctx, users)
	if err != nil {
		return protocol.GroupMembers{}, err
	}
	page := protocol.GroupMembers{Items: make([]protocol.GroupMember, len(all)), HasMore: more}
	for i, m := range all {
		page.Items[i] = protocol.GroupMember{User: profiles[i], Role: m.Role, MutedUntil: m.MutedUntil, JoinedAt: m.JoinedAt}
	}
	if more {
		page.Next = users[len(users)-1].String()
	}
	return page, nil
}

// profilesOf are those of users in their order; of one who is no more, the ID.
func (s *Service) profilesOf(ctx context.Context, users []im.UserID) ([]im.Profile, error) {
	if len(users) == 0 {
		return nil, nil
	}
	all, err := s.deps.Profiles.Profiles(ctx, users)
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", storeError(err))
	}
	out := make([]im.Profile, len(users))
	for i, u := range users {
		out[i] = all[u]
		out[i].ID = u
	}
	return out, nil
}
