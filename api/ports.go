package api

import (
	"context"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Chat answers what a user asks about messages. logic.Service implements it.
type Chat interface {
	// SendAndWait returns once the log has the message (or the probe knows it stored);
	// with wait once it is stored, or accepted at 4.5 s.
	SendAndWait(ctx context.Context, who im.Identity, req protocol.Send, wait bool) (protocol.Sent, error)
	Conversations(ctx context.Context, who im.Identity, only im.ListFilter, before im.MessageID, limit int) (protocol.Conversations, error)
	Conversation(ctx context.Context, who im.Identity, c im.ConversationID) (protocol.Conversation, error)
	History(ctx context.Context, who im.Identity, req protocol.History) (protocol.Page, error)
	Receipts(ctx context.Context, who im.Identity, c im.ConversationID, r protocol.Receipts) (protocol.Receipts, error)
	ChangeSettings(ctx context.Context, who im.Identity, c im.ConversationID, req protocol.ChangeSettings) (protocol.ConversationSettings, error)
	DeleteConversation(ctx context.Context, who im.Identity, req protocol.DeleteConversation) (protocol.ConversationSettings, error)
	// ReceiptCounts counts recipients, Recipients lists them.
	ReceiptCounts(ctx context.Context, who im.Identity, c im.ConversationID, seqs []im.Seq) (protocol.ReceiptCounts, error)
	Recipients(ctx context.Context, who im.Identity, at im.Place, state im.ReceiptState, after im.UserID, limit int) (protocol.Recipients, error)
	OfflineSources(ctx context.Context, who im.Identity) (protocol.OfflineSources, error)
	OfflinePull(ctx context.Context, who im.Identity, req protocol.OfflinePull) (protocol.Page, error)
	Sync(ctx context.Context, who im.Identity, req protocol.Sync) (protocol.Synced, error)
	// Presence is who of users is online, as far as the caller may see.
	Presence(ctx context.Context, who im.Identity, users []im.UserID) (protocol.Presences, error)
	// ChangeAndWait recalls, edits or reacts; it returns as SendAndWait does.
	ChangeAndWait(ctx context.Context, who im.Identity, req protocol.Change, wait bool) (protocol.ChangeAnswer, error)
	Edits(ctx context.Context, who im.Identity, c im.ConversationID, seq im.Seq) (protocol.Edits, error)
	Reactors(ctx context.Context, who im.Identity, c im.ConversationID, seq im.Seq, reaction string, after uint64, limit int) (protocol.Reactors, error)
	// DeleteMessagesNow returns once the log has it.
	DeleteMessagesNow(ctx context.Context, who im.Identity, req protocol.DeleteMessages) error
	Deletions(ctx context.Context, who im.Identity, c im.ConversationID, after uint64, limit int) (protocol.Deletions, error)
	// ServerSend sends for a backend, answered as SendAndWait.
	ServerSend(ctx context.Context, req protocol.ServerSend, wait bool) (protocol.Sent, error)
	// ScheduledList is what the caller has scheduled, in one state, by due time.
	ScheduledList(ctx context.Context, who im.Identity, ask protocol.AskScheduled) (protocol.ScheduledPage, error)
	ScheduledOne(ctx context.Context, who im.Identity, id im.ScheduleID) (protocol.Scheduled, error)
	// ChangeScheduled, CancelScheduled and SendScheduled return im.ErrScheduleFinal where it
	// is pending no more.
	ChangeScheduled(ctx context.Context, who im.Identity, id im.ScheduleID, req protocol.ChangeScheduled) (protocol.Scheduled, error)
	CancelScheduled(ctx context.Context, who im.Identity, id im.ScheduleID) (protocol.Scheduled, error)
	SendScheduled(ctx context.Context, who im.Identity, id im.ScheduleID) (protocol.Scheduled, error)
	ServerScheduledOne(ctx context.Context, id im.ScheduleID) (protocol.Scheduled, error)
	ServerCancelScheduled(ctx context.Context, id im.ScheduleID) (protocol.Scheduled, error)
	Limits() protocol.Limits
}

// Accounts answers who somebody is, and changes it. logic.Auth implements it.
type Accounts interface {
	Register(ctx context.Context, req protocol.Register, ip string) (protocol.Tokens, error)
	Login(ctx context.Context, req protocol.Login, ip string) (protocol.Tokens, error)
	Refresh(ctx context.Context, refreshToken string) (protocol.Tokens, error)
	// Verify returns im.ErrUnauthenticated for a token that is not good.
	Verify(ctx context.Context, accessToken string) (im.Identity, error)
	Logout(ctx context.Context, who im.Identity) error
	ChangePassword(ctx context.Context, who im.Identity, req protocol.ChangePassword) error
	Devices(ctx context.Context, who im.Identity) ([]im.Device, error)
	RevokeDevice(ctx context.Context, who im.Identity, d im.DeviceID) error
	SetPush(ctx context.Context, who im.Identity, req protocol.SetPush) error
	ClearPush(ctx context.Context, who im.Identity) error

	Profile(ctx context.Context, who im.Identity, u im.UserID) (im.Profile, error)
	FindByHandle(ctx context.Context, who im.Identity, handle string) (im.Profile, error)
	Me(ctx context.Context, who im.Identity) (protocol.Me, error)
	UpdateProfile(ctx context.Context, who im.Identity, req protocol.UpdateProfile) (protocol.Me, error)

	// VerifyServerKey returns im.ErrUnauthenticated for a backend's key that is not good.
	VerifyServerKey(id, secret string) error
	UpsertUsers(ctx context.Context, users []protocol.ServerUser) ([]im.Profile, error)
	IssueTokens(ctx context.Context, req protocol.IssueTokens) (protocol.Tokens, error)
}

// People answers who is whose contact, and changes it. logic.People implements it.
type People interface {
	RequestContact(ctx context.Context, who im.Identity, req protocol.RequestContact) (protocol.Contact, error)
	AcceptContact(ctx context.Context, who im.Identity, r im.ContactRequestID) (protocol.Contact, error)
	RefuseContact(ctx context.Context, who im.Identity, r im.ContactRequestID) error
	WithdrawContact(ctx context.Context, who im.Identity, r im.ContactRequestID) error
	RemoveContact(ctx context.Context, who im.Identity, peer im.UserID) error
	SetRemark(ctx context.Context, who im.Identity, peer im.UserID, remark string) (protocol.Contact, error)
	// Contacts is a page of the full list from above after, or what changed since.
	Contacts(ctx context.Context, who im.Identity, after im.UserID, since *uint64, limit int) (protocol.Contacts, error)
	ContactRequests(ctx context.Context, who im.Identity, incoming bool, before im.ContactRequestID, limit int) (protocol.ContactRequests, error)
	Blocks(ctx context.Context, who im.Identity) ([]im.UserID, error)
	SetBlock(ctx context.Context, who im.Identity, blocked im.UserID, on bool) error
}

// Groups answers who is in which group, and changes it. logic.Service implements it.
type Groups interface {
	CreateGroup(ctx context.Context, who im.Identity, req protocol.CreateGroup) (protocol.GroupChanged, error)
	UpdateGroup(ctx context.Context, who im.Identity, g im.GroupID, req protocol.UpdateGroup) (protocol.GroupChanged, error)
	DissolveGroup(ctx context.Context, who im.Identity, g im.GroupID) (protocol.GroupChanged, error)
	Group(ctx context.Context, who im.Identity, g im.GroupID) (protocol.Group, error)
	Groups(ctx context.Context, who im.Identity, after im.GroupID, limit int) (protocol.Groups, error)

	AddMembers(ctx context.Context, who im.Identity, g im.GroupID, req protocol.AddMembers) (protocol.GroupChanged, error)
	RemoveMember(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID) (protocol.GroupChanged, error)
	SetRole(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID, role im.Role) (protocol.GroupChanged, error)
	MuteMember(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID, until int64) (protocol.GroupChanged, error)
	TransferGroup(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID) (protocol.GroupChanged, error)
	GroupMembers(ctx context.Context, who im.Identity, g im.GroupID, after im.UserID, limit int) (protocol.GroupMembers, error)

	JoinGroup(ctx context.Context, who im.Identity, g im.GroupID, req protocol.JoinGroup) (protocol.GroupChanged, error)
	WithdrawJoin(ctx context.Context, who im.Identity, g im.GroupID) error
	JoinRequests(ctx context.Context, who im.Identity, g im.GroupID, after im.UserID, limit int) (protocol.JoinRequests, error)
	DecideJoin(ctx context.Context, who im.Identity, g im.GroupID, user im.UserID, accept bool) (protocol.GroupChanged, error)

	CreateChannel(ctx context.Context, who im.Identity, g im.GroupID, req protocol.CreateChannel) (protocol.GroupChanged, error)
	RenameChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, name string) (protocol.GroupChanged, error)
	RemoveChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID) (protocol.GroupChanged, error)
	AddToChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, req protocol.AddMembers) (protocol.GroupChanged, error)
	RemoveFromChannel(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, user im.UserID) (protocol.GroupChanged, error)
	ChannelMembers(ctx context.Context, who im.Identity, g im.GroupID, c im.ConversationID, after im.UserID, limit int) (protocol.GroupMembers, error)
}
