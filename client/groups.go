package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// ToConversation addresses a conversation: a channel, or a one-to-one by its name.
func ToConversation(c im.ConversationID) protocol.To { return protocol.To{ConversationID: c} }

// NoticeOf reads what a message of im.TypeNotice says has happened to a group.
func NoticeOf(m im.Message) (n im.Notice, err error) {
	if m.Type != im.TypeNotice {
		return n, fmt.Errorf("a %s is no notice: %w", m.Type, im.ErrUnsupported)
	}
	return n, json.Unmarshal(m.Content, &n)
}

func groupPath(g im.GroupID) string { return "/v1/groups/" + g.String() }

func memberPath(g im.GroupID, u im.UserID) string { return groupPath(g) + "/members/" + u.String() }

func channelPath(g im.GroupID, c im.ConversationID) string {
	return groupPath(g) + "/channels/" + url.PathEscape(string(c))
}

// changeGroup asks for a change; Applied says that everyone who is connected is told.
func (h *HTTP) changeGroup(ctx context.Context, method, path string, in any) (g protocol.GroupChanged, err error) {
	return g, h.Do(ctx, method, path, in, &g)
}

// CreateGroup makes a group of which this user is the owner.
func (h *HTTP) CreateGroup(ctx context.Context, g protocol.CreateGroup) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPost, "/v1/groups", g)
}

// Groups pages through the groups that this user is in; after is the last page's Next.
func (h *HTTP) Groups(ctx context.Context, after string, limit int) (g protocol.Groups, err error) {
	return g, h.Do(ctx, http.MethodGet, "/v1/groups?"+pageQuery("after", after, limit), nil, &g)
}

// Group is one group as this user sees it.
func (h *HTTP) Group(ctx context.Context, id im.GroupID) (g protocol.Group, err error) {
	return g, h.Do(ctx, http.MethodGet, groupPath(id), nil, &g)
}

// UpdateGroup changes what is not nil; admins may.
func (h *HTTP) UpdateGroup(ctx context.Context, g im.GroupID, u protocol.UpdateGroup) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPatch, groupPath(g), u)
}

// DissolveGroup ends a group; the owner may.
func (h *HTTP) DissolveGroup(ctx context.Context, g im.GroupID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodDelete, groupPath(g), nil)
}

// GroupMembers pages through who is in a group; after is the last page's Next.
func (h *HTTP) GroupMembers(ctx context.Context, g im.GroupID, after string, limit int) (m protocol.GroupMembers, err error) {
	return m, h.Do(ctx, http.MethodGet, groupPath(g)+"/members?"+pageQuery("after", after, limit), nil, &m)
}

// AddMembers invites users; admins may.
func (h *HTTP) AddMembers(ctx context.Context, g im.GroupID, users ...im.UserID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPost, groupPath(g)+"/members", protocol.AddMembers{UserIDs: users})
}

// RemoveMember takes a user out of a group.
func (h *HTTP) RemoveMember(ctx context.Context, g im.GroupID, u im.UserID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodDelete, memberPath(g, u), nil)
}

// LeaveGroup takes this user out of a group.
func (h *HTTP) LeaveGroup(ctx context.Context, g im.GroupID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodDelete, groupPath(g)+"/members/me", nil)
}

// SetRole makes a member an admin, or a member again; the owner may.
func (h *HTTP) SetRole(ctx context.Context, g im.GroupID, u im.UserID, role im.Role) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPut, memberPath(g, u)+"/role", protocol.SetRole{Role: role})
}

// MuteMember keeps a member from sending until a time in Unix milliseconds; 0 ends it.
func (h *HTTP) MuteMember(ctx context.Context, g im.GroupID, u im.UserID, until int64) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPut, memberPath(g, u)+"/mute", protocol.MuteMember{Until: until})
}

// TransferGroup makes another member the owner.
func (h *HTTP) TransferGroup(ctx context.Context, g im.GroupID, u im.UserID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPost, groupPath(g)+"/transfer", protocol.TransferGroup{UserID: u})
}

// JoinGroup joins an open group, or asks to be let in (Pending).
func (h *HTTP) JoinGroup(ctx context.Context, g im.GroupID, message string) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPost, groupPath(g)+"/join", protocol.JoinGroup{Message: message})
}

// WithdrawJoin takes a request to join back.
func (h *HTTP) WithdrawJoin(ctx context.Context, g im.GroupID) error {
	return h.Do(ctx, http.MethodDelete, groupPath(g)+"/join", nil, nil)
}

// JoinRequests pages through who waits to be let in; after is the last page's Next.
func (h *HTTP) JoinRequests(ctx context.Context, g im.GroupID, after string, limit int) (r protocol.JoinRequests, err error) {
	return r, h.Do(ctx, http.MethodGet, groupPath(g)+"/requests?"+pageQuery("after", after, limit), nil, &r)
}

// DecideJoin accepts or refuses a request to join; admins may.
func (h *HTTP) DecideJoin(ctx context.Context, g im.GroupID, u im.UserID, accept bool) (protocol.GroupChanged, error) {
	decision := "/refuse"
	if accept {
		decision = "/accept"
	}
	return h.changeGroup(ctx, http.MethodPost, groupPath(g)+"/requests/"+u.String()+decision, nil)
}

// CreateChannel adds a channel to a group; admins may.
func (h *HTTP) CreateChannel(ctx context.Context, g im.GroupID, c protocol.CreateChannel) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPost, groupPath(g)+"/channels", c)
}

// RenameChannel renames one; admins may.
func (h *HTTP) RenameChannel(ctx context.Context, g im.GroupID, c im.ConversationID, name string) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPatch, channelPath(g, c), protocol.RenameChannel{Name: name})
}

// RemoveChannel ends one; admins may.
func (h *HTTP) RemoveChannel(ctx context.Context, g im.GroupID, c im.ConversationID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodDelete, channelPath(g, c), nil)
}

// ChannelMembers pages through who is in a channel; after is the last page's Next.
func (h *HTTP) ChannelMembers(ctx context.Context, g im.GroupID, c im.ConversationID, after string, limit int) (m protocol.GroupMembers, err error) {
	return m, h.Do(ctx, http.MethodGet, channelPath(g, c)+"/members?"+pageQuery("after", after, limit), nil, &m)
}

// AddToChannel adds members of the group to a private channel; admins may.
func (h *HTTP) AddToChannel(ctx context.Context, g im.GroupID, c im.ConversationID, users ...im.UserID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodPost, channelPath(g, c)+"/members", protocol.AddMembers{UserIDs: users})
}

// RemoveFromChannel takes a user, perhaps this one, out of a private channel.
func (h *HTTP) RemoveFromChannel(ctx context.Context, g im.GroupID, c im.ConversationID, u im.UserID) (protocol.GroupChanged, error) {
	return h.changeGroup(ctx, http.MethodDelete, channelPath(g, c)+"/members/"+u.String(), nil)
}

// ReceiptCounts says for at most 100 messages how many have received and read them.
func (h *HTTP) ReceiptCounts(ctx context.Context, c im.ConversationID, seqs ...im.Seq) (r protocol.ReceiptCounts, err error) {
	q := url.Values{}
	for _, seq := range seqs {
		q.Add("seq", strconv.FormatUint(uint64(seq), 10))
	}
	return r, h.Do(ctx, http.MethodGet, "/v1/conversations/"+url.PathEscape(string(c))+"/receipts?"+q.Encode(), nil, &r)
}

// Recipients pages through who has read or received a message, or has not; after is the
// last page's Next.
func (h *HTTP) Recipients(ctx context.Context, c im.ConversationID, seq im.Seq, state im.ReceiptState, after string, limit int) (r protocol.Recipients, err error) {
	path := messagePath(c, seq) + "/receipts?state=" + url.QueryEscape(string(state)) + "&" + pageQuery("after", after, limit)
	return r, h.Do(ctx, http.MethodGet, path, nil, &r)
}
