package api

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

var waders = protocol.Group{
	ID: 3, Name: "Waders", OwnerID: 7, MainChannelID: "c3", Members: 2, JoinPolicy: im.JoinRequest, Version: 5, CreatedAt: 1792846180000,
	Role: im.RoleOwner, MutedUntil: 1, Requested: true, Channels: []protocol.Channel{ringing},
}

var ringing = protocol.Channel{ConversationID: "c4", Name: "ringing", Private: true, CreatedAt: 1792846180000}

var channelRow = protocol.Conversation{
	ConversationID: "c4", Kind: "channel", FirstSeq: 9, Left: true, LastSeq: 42, LastMessage: &notice,
	Channel: &protocol.ChannelRef{GroupID: 3, GroupName: "Waders", GroupAvatar: "https://example.org/w.png", Name: "ringing", Private: true},
}

var notice = im.Message{
	Conversation: "c4", Seq: 42, ID: 104942118400, Sender: im.Sender{ID: 0, Handle: "system", Nickname: "System"}, Type: im.TypeNotice,
	Content: []byte(`{"kind":"joined","group_id":"3","users":[{"id":"12","nickname":"Godwit"}],"count":1,"name":"ringing"}`), StoredAt: 1,
	About: im.About{MentionsAll: true},
}

// changing is what a call to groups asked, answered as all are.
func (f *fake) changing(args ...any) (protocol.GroupChanged, error) {
	f.asked = append(f.asked, fmt.Sprintln(args...))
	err := f.err()
	return protocol.GroupChanged{Group: waders, Applied: !f.late, Channel: &ringing, Pending: true}, err
}

func (f *fake) CreateGroup(_ context.Context, who im.Identity, req protocol.CreateGroup) (protocol.GroupChanged, error) {
	return f.changing("create", who.User, req.Name, req.Members, req.JoinPolicy, req.HistoryVisible, req.ClientGroupID)
}
func (f *fake) UpdateGroup(_ context.Context, who im.Identity, g im.GroupID, req protocol.UpdateGroup) (protocol.GroupChanged, error) {
	return f.changing("update", who.User, g, req.Name != nil, req.MutedAll != nil)
}
func (f *fake) DissolveGroup(_ context.Context, who im.Identity, g im.GroupID) (protocol.GroupChanged, error) {
	return f.changing("dissolve", who.User, g)
}
func (f *fake) Group(context.Context, im.Identity, im.GroupID) (protocol.Group, error) {
	return waders, f.err()
}
func (f *fake) Groups(_ context.Context, _ im.Identity, after im.GroupID, limit int) (protocol.Groups, error) {
	_, err := f.changing("groups", after, limit)
	return protocol.Groups{Items: []protocol.Group{waders}, HasMore: true, Next: "3"}, err
}
func (f *fake) AddMembers(_ context.Context, who im.Identity, g im.GroupID, req protocol.AddMembers) (protocol.GroupChanged, error) {
	return f.changing("add", who.User, g, req.UserIDs)
}
func (f *fake) RemoveMember(_ context.Context, who im.Identity, g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
	return f.changing("remove", who.User, g, user)
}
func (f *fake) SetRole(_ context.Context, who im.Identity, g im.GroupID, user im.UserID, role im.Role) (protocol.GroupChanged, error) {
	return f.changing("role", who.User, g, user, role)
}
func (f *fake) MuteMember(_ context.Context, who im.Identity, g im.GroupID, user im.UserID, until int64) (protocol.GroupChanged, error) {
	return f.changing("mute", who.User, g, user, until)
}
func (f *fake) TransferGroup(_ context.Context, who im.Identity, g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
	return f.changing("transfer", who.User, g, user)
}

var members = protocol.GroupMembers{Items: []protocol.GroupMember{{User: curlew, Role: im.RoleOwner, MutedUntil: 2, JoinedAt: 1}}, HasMore: true, Next: "7"}

func (f *fake) GroupMembers(_ context.Context, _ im.Identity, g im.GroupID, after im.UserID, limit int) (protocol.GroupMembers, error) {
	_, err := f.changing("members", g, after, limit)
	return members, err
}
func (f *fake) JoinGroup(_ context.Context, who im.Identity, g im.GroupID, req protocol.JoinGroup) (protocol.GroupChanged, error) {
	return f.changing("join", who.User, g, req.Message)
}
func (f *fake) WithdrawJoin(_ context.Context, who im.Identity, g im.GroupID) error {
	_, err := f.changing("withdraw", who.User, g)
	return err
}
func (f *fake) JoinRequests(_ context.Context, _ im.Identity, g im.GroupID, after im.UserID, limit int) (protocol.JoinRequests, error) {
	_, err := f.changing("requests", g, after, limit)
	return protocol.JoinRequests{Items: []protocol.JoinRequest{{User: godwit, Message: "hi", AskedAt: 1}}}, err
}
func (f *fake) DecideJoin(_ context.Context, who im.Identity, g im.GroupID, user im.UserID, accept bool) (protocol.GroupChanged, error) {
	return f.changing("decide", who.User, g, user, accept)
}
func (f *fake) CreateChannel(_ context.Context, who im.Identity, g im.GroupID, req protocol.CreateChannel) (protocol.GroupChanged, error) {
	return f.changing("channel", who.User, g, req.Name, req.Private, req.Members)
}
func (f *fake) RenameChannel(_ context.Context, who im.Identity, g im.GroupID, c im.ConversationID, name string) (protocol.GroupChanged, error) {
	return f.changing("rename", who.User, g, c, name)
}
func (f *fake) RemoveChannel(_ context.Context, who im.Identity, g im.GroupID, c im.ConversationID) (protocol.GroupChanged, error) {
	return f.changing("remove channel", who.User, g, c)
}
func (f *fake) AddToChannel(_ context.Context, who im.Identity, g im.GroupID, c im.ConversationID, req protocol.AddMembers) (protocol.GroupChanged, error) {
	return f.changing("add to", who.User, g, c, req.UserIDs)
}
func (f *fake) RemoveFromChannel(_ context.Context, who im.Identity, g im.GroupID, c im.ConversationID, user im.UserID) (protocol.GroupChanged, error) {
	return f.changing("remove from", who.User, g, c, user)
}
func (f *fake) ChannelMembers(_ context.Context, _ im.Identity, g im.GroupID, c im.ConversationID, after im.UserID, limit int) (protocol.GroupMembers, error) {
	_, err := f.changing("channel members", g, c, after, limit)
	return members, err
}

func (f *fake) ReceiptCounts(_ context.Context, _ im.Identity, c im.ConversationID, seqs []im.Seq) (protocol.ReceiptCounts, error) {
	_, err := f.changing("counts", c, seqs)
	return protocol.ReceiptCounts{Items: []protocol.ReceiptCount{{Seq: 3, Recipients: 4, Delivered: 2, Read: 1}}}, err
}
func (f *fake) Recipients(_ context.Context, _ im.Identity, at im.Place, state im.ReceiptState, after im.UserID, limit int) (protocol.Recipients, error) {
	_, err := f.changing("recipients", at.Conversation, at.Seq, state, after, limit)
	return protocol.Recipients{Items: []protocol.Recipient{{User: godwit, DeliveredSeq: 3, ReadSeq: 2}}, HasMore: true, Next: "12"}, err
}
