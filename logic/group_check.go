package logic

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/curlew-im/curlew/logic/im"
)

// maxJoinMessage bounds what who asks to join says to the admins, in characters.
const maxJoinMessage = 200

// groupName is a name as it may be given to a group or channel: of the shape that
// im.ValidateGroupName takes, and held to the same words as messages.
func (s *Service) groupName(ctx context.Context, name string) (string, error) {
	clean := norm.NFC.String(strings.TrimSpace(name))
	if err := im.ValidateGroupName(clean); err != nil {
		return "", err
	}
	if strings.ContainsFunc(clean, unprintable) {
		return "", im.Invalid("name", "contains control or direction characters")
	}
	said, err := s.deps.Filter.Apply(ctx, clean)
	if err != nil {
		return "", fmt.Errorf("filter: %w", err)
	}
	return said, nil
}

// groupUsers is a list of users with each in it once, self left out.
func groupUsers(field string, users []im.UserID, self im.UserID) ([]im.UserID, error) {
	if len(users) > im.MaxMembersPerCall {
		return nil, im.Invalid(field, fmt.Sprintf("at most %d user IDs", im.MaxMembersPerCall))
	}
	users = slices.Clone(users)
	slices.Sort(users)
	users = slices.Compact(users)
	if len(users) > 0 && users[0] == im.SystemUser {
		return nil, im.Invalid(field, "the system is in no group")
	}
	return slices.DeleteFunc(users, func(u im.UserID) bool { return u == self }), nil
}

// someUsers is groupUsers of at least one.
func someUsers(users []im.UserID) ([]im.UserID, error) {
	if len(users) == 0 {
		return nil, im.Invalid("user_ids", fmt.Sprintf("must be 1 to %d user IDs", im.MaxMembersPerCall))
	}
	return groupUsers("user_ids", users, im.SystemUser)
}

// channelOf refuses what names no channel as one that does not exist.
func channelOf(c im.ConversationID) error {
	if _, ok := c.Channel(); !ok {
		return im.ErrNotFound
	}
	return nil
}

// mayAskGroups counts a request against one of the rates of groups.
func (s *Service) mayAskGroups(ctx context.Context, limit string, u im.UserID, perMinute int) error {
	return s.asks.take(ctx, limit, "u:"+u.String(), perMinute)
}
