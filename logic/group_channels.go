package logic

import (
	"context"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// CreateChannel adds a conversation to a group, for all of its members or, where it is
// private, for some; admins may.
func (s *Service) CreateChannel(ctx context.Context, who im.Identity, g im.GroupID, req protocol.CreateChannel) (protocol.GroupChanged, error) {
	var made im.Channel
	answer, err := s.changeGroup(ctx, who, "create_channel", func(ctx context.Context) (change im.GroupChange, err error) {
		n := im.NewChannel{Private: req.Private}
		if len(req.Members) > 0 && !req.Private {
			return change, im.Invalid("members", "goes with private only")
		}
		if n.Members, err = groupUsers("members", req.Members, who.User); err != nil {
			return change, err
		}
		if n.Name, err = s.groupName(ctx, req.Name); err != nil {
			return change, err
		}
		if err = s.mayAskGroups(ctx, "groups", who.User, s.cfg.GroupsPerMinute); err != nil {
			return change, err
		}
		made, change, err = s.deps.Groups.CreateChannel(ctx, who.User, g, n)
		return change, err
	})
	if err == nil {
		shown := showChannel(&made, answer.Group.MainChannelID)
		answer.Channel = &shown
	}
	return answer, err
}

// RenameChannel renames one; admins may.
func (s *Service) RenameChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, name string) (protocol.GroupChanged, error) {
	return s.changeChannel(ctx, who, "rename_channel", c, func(ctx context.Context) (im.GroupChange, error) {
		name, err := s.groupName(ctx, name)
		if err != nil {
			return im.GroupChange{}, err
		}
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.RenameChannel(ctx, who.User, g, c, name)
	})
}

// RemoveChannel ends one for everyone in it; admins may. The main one stays.
func (s *Service) RemoveChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID) (protocol.GroupChanged, error) {
	return s.changeChannel(ctx, who, "remove_channel", c, func(ctx context.Context) (im.GroupChange, error) {
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.RemoveChannel(ctx, who.User, g, c)
	})
}

// AddToChannel adds members of the group to a private channel; admins may.
func (s *Service) AddToChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, req protocol.AddMembers) (protocol.GroupChanged, error) {
	return s.changeChannel(ctx, who, "add_to_channel", c, func(ctx context.Context) (im.GroupChange, error) {
		users, err := someUsers(req.UserIDs)
		if err != nil {
			return im.GroupChange{}, err
		}
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.AddToChannel(ctx, who.User, g, c, users)
	})
}

// RemoveFromChannel takes somebody out of a private channel, or has the caller leave it.
func (s *Service) RemoveFromChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, user im.UserID) (protocol.GroupChanged, error) {
	return s.changeChannel(ctx, who, "remove_from_channel", c, func(ctx context.Context) (im.GroupChange, error) {
		if err := s.mayChangeGroup(ctx, who); err != nil {
			return im.GroupChange{}, err
		}
		return s.deps.Groups.RemoveFromChannel(ctx, who.User, g, c, user)
	})
}

// ChannelMembers is a page of who is in a channel, by user, from above after.
func (s *Service) ChannelMembers(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, after im.UserID, limit int) (protocol.GroupMembers, error) {
	if err := channelOf(c); err != nil {
		return protocol.GroupMembers{}, err
	}
	return s.membersPage(ctx, limit, func(ctx context.Context, limit int) ([]im.GroupMember, bool, error) {
		return s.deps.Groups.ChannelMembers(ctx, who.User, g, c, after, limit)
	})
}

func (s *Service) changeChannel(ctx context.Context, who im.Identity, kind string, c im.ConversationID, change func(context.Context) (im.GroupChange, error)) (protocol.GroupChanged, error) {
	return s.changeGroup(ctx, who, kind, func(ctx context.Context) (im.GroupChange, error) {
		if err := channelOf(c); err != nil {
			return im.GroupChange{}, err
		}
		return change(ctx)
	})
}
