package logic

import (
	"context"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// Accounts keeps who users are. storage implements it on MySQL or SQLite; every
// method returns im.ErrStore while that is away.
type Accounts interface {
	// CreateUser returns im.ErrConflict where the handle is taken.
	CreateUser(ctx context.Context, u im.NewUser) (im.Profile, error)
	// UpsertExternal creates or updates users known by external ID, in one go, and
	// returns their profiles in order. im.ErrConflict names a handle of somebody else.
	UpsertExternal(ctx context.Context, users []im.ExternalUser) ([]im.Profile, error)
	// AccountByHandle returns im.ErrNotFound for an unknown handle.
	AccountByHandle(ctx context.Context, handle string) (im.Account, error)
	UserByExternalID(ctx context.Context, externalID string) (im.UserID, error)
	// UpdateProfile changes what is not nil and drops cached copies.
	UpdateProfile(ctx context.Context, u im.UserID, nickname, avatar *string) (im.Profile, error)
	// SetPassword replaces the hash and raises the token version: all tokens end.
	SetPassword(ctx context.Context, u im.UserID, hash string) error

	// SaveLogin creates or renews the device and returns the versions that its tokens
	// must carry; im.ErrUnauthenticated where Login's password is the user's no more.
	SaveLogin(ctx context.Context, l im.Login) (im.AuthState, error)
	// RotateRefresh exchanges a refresh token for the next, once; the one exchanged last
	// for another next within a minute, since the answer may have been lost. A token that is
	// unknown or expired gives im.ErrUnauthenticated; one exchanged before that, or a next
	// that was ended by another, also revokes the device, since two hold it.
	RotateRefresh(ctx context.Context, old, next [32]byte, expires int64) (im.Login, im.AuthState, error)
	// RevokeDevice raises the device's version and drops its refresh token.
	// im.ErrNotFound where the user has no such device.
	RevokeDevice(ctx context.Context, u im.UserID, d im.DeviceID) error
	Devices(ctx context.Context, u im.UserID) ([]im.Device, error)
	// SetPushToken says how a device is reached while it is not connected; another device
	// that had the token has it no longer. im.ErrNotFound where there is no such device.
	SetPushToken(ctx context.Context, t im.PushTarget) error
	ClearPushToken(ctx context.Context, u im.UserID, d im.DeviceID) error
	AuthState(ctx context.Context, u im.UserID, d im.DeviceID) (im.AuthState, error)

	// Peer says what from must know of to before a message is accepted.
	Peer(ctx context.Context, from, to im.UserID) (im.Peer, error)
	// MessagePolicy is who may send u messages, as u has set it: everyone at first.
	MessagePolicy(ctx context.Context, u im.UserID) (im.MessagePolicy, error)
	SetMessagePolicy(ctx context.Context, u im.UserID, policy im.MessagePolicy) error
	// ContactsVersion is how far u's contacts have come; 0 where nothing ever happened.
	ContactsVersion(ctx context.Context, u im.UserID) (uint64, error)
}

// Contacts keeps who is whose contact and who has blocked whom, in MySQL: im.ErrStore
// while that is away. A change is one transaction over both sides. What was so already
// is no error and has no event. A request that is not u's to answer, or is none, is
// im.ErrNotFound; a list that is full im.FullError.
type Contacts interface {
	// RequestContact accepts where to has asked already. im.ErrNotFound where to is not
	// there, im.ErrBlocked where to has blocked from, im.ErrConflict where from has
	// blocked to.
	RequestContact(ctx context.Context, from, to im.UserID, message string) (im.ContactChange, error)
	AcceptContact(ctx context.Context, u im.UserID, r im.ContactRequestID) (im.ContactChange, error)
	// RefuseContact and WithdrawContact return im.ErrConflict where it was accepted.
	RefuseContact(ctx context.Context, u im.UserID, r im.ContactRequestID) (im.ContactChange, error)
	WithdrawContact(ctx context.Context, u im.UserID, r im.ContactRequestID) (im.ContactChange, error)
	RemoveContact(ctx context.Context, u, peer im.UserID) (im.ContactChange, error)
	// SetRemark returns im.ErrNotFound where peer is not a contact.
	SetRemark(ctx context.Context, u, peer im.UserID, remark string) (im.ContactChange, error)
	// Contacts is a page of contacts and pending requests, by peer, from above after.
	Contacts(ctx context.Context, u, after im.UserID, limit int) (im.ContactPage, error)
	// ContactsSince is what changed after a version; the top of the full list where it
	// cannot tell.
	ContactsSince(ctx context.Context, u im.UserID, since uint64, limit int) (im.ContactPage, error)
	// ContactRequests are the pending ones, the latest first, from below before (0: from
	// the top).
	ContactRequests(ctx context.Context, u im.UserID, incoming bool, before im.ContactRequestID, limit int) (items []im.Contact, more bool, err error)

	// SetBlock blocks or unblocks. Blocking ends a request that is pending between the
	// two. im.ErrNotFound for a block of nobody.
	SetBlock(ctx context.Context, u, blocked im.UserID, on bool) (im.ContactChange, error)
	Blocks(ctx context.Context, u im.UserID) ([]im.UserID, error)
}

// Profiles answers who people are, from Redis where it can.
type Profiles interface {
	// Profiles leaves unknown users out of the result.
	Profiles(ctx context.Context, users []im.UserID) (map[im.UserID]im.Profile, error)
	// UserByHandle returns im.ErrNotFound for an unknown handle.
	UserByHandle(ctx context.Context, handle string) (im.UserID, error)
}

// Index is each user's conversations and undelivered messages: the projection in
// Redis where it is sealed, rebuilt from MySQL where it is not, MySQL alone while
// Redis is away (Degraded). Unread counts are exact.
type Index interface {
	// List pages by the ID of the last message; before 0 starts at the newest.
	List(ctx context.Context, u im.UserID, before im.MessageID, limit int) (im.ListPage, error)
	// ListOnly is List with what a filter lets through; the totals are over all.
	ListOnly(ctx context.Context, u im.UserID, only im.ListFilter, before im.MessageID, limit int) (im.ListPage, error)
	// Changes returns what moved since a position, at most limit conversations.
	Changes(ctx context.Context, u im.UserID, since im.Position, limit int) (im.Changes, error)
	// State is one conversation of the user, without the unread count; im.ErrNotFound
	// where they are not in it.
	State(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error)
	// Row is State with the unread count.
	Row(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error)
	// Offline lists the sources with undelivered messages, newest first, at most limit.
	Offline(ctx context.Context, u im.UserID, limit int) (sources []im.OfflineSource, degraded bool, err error)
	// UnreadTotal is over the whole list.
	UnreadTotal(ctx context.Context, u im.UserID) (total im.UnreadTotal, degraded bool, err error)
}

// Settings keeps what users have set for their conversations, in MySQL and in the
// projection that Index reads: im.ErrStore while MySQL is away.
type Settings interface {
	// ChangeSettings returns im.ErrNotFound where u was never in c, im.ErrConflict where
	// the settings are at another version than was expected, im.FullError.
	ChangeSettings(ctx context.Context, u im.UserID, c im.ConversationID, ch im.SettingsChange) (im.SettingsRow, error)
	// DeleteConversation raises the floor, at most to the last seq.
	DeleteConversation(ctx context.Context, u im.UserID, c im.ConversationID, upTo im.Seq) (im.SettingsRow, error)
	// Drafts leaves out conversations without one.
	Drafts(ctx context.Context, u im.UserID, convs []im.ConversationID) (map[im.ConversationID]im.Draft, error)
}

// Records reads stored messages and members, from MySQL.
type Records interface {
	History(ctx context.Context, q im.HistoryQuery) (im.HistoryPage, error)
	// Member returns im.ErrNotFound where u was never in c. Who has left has Leave set.
	Member(ctx context.Context, c im.ConversationID, u im.UserID) (im.Member, error)
	// Members are u's rows in convs; one that u was never in is left out.
	Members(ctx context.Context, u im.UserID, convs []im.ConversationID) (map[im.ConversationID]im.Member, error)
	// LastMessages returns the message at each of the given places; a missing one is
	// left out.
	LastMessages(ctx context.Context, at map[im.ConversationID]im.Seq) (map[im.ConversationID]im.Message, error)
	// Changed returns what was changed after a change, as it now is.
	Changed(ctx context.Context, q im.ChangedQuery) (im.ChangedPage, error)
	// FindChange returns im.ErrNotFound where no such change is stored.
	FindChange(ctx context.Context, k im.ChangeKey) (im.ChangeRef, error)
	// FormerContents is what a message said before each edit, the first first.
	FormerContents(ctx context.Context, p im.Place) ([]im.FormerContent, error)
	// Reactors is who reacted to a message in one way, by change, after a change.
	Reactors(ctx context.Context, p im.Place, reaction string, after uint64, limit int) (all []im.Reactor, more bool, err error)
	// OwnReactions are u's to the messages at the places.
	OwnReactions(ctx context.Context, u im.UserID, places []im.Place) (map[im.ReactionKey]bool, error)
	// RecalledAmong are the places whose messages have been recalled.
	RecalledAmong(ctx context.Context, places []im.Place) (map[im.Place]bool, error)
	// HiddenAmong are the places whose messages u has deleted for themselves.
	HiddenAmong(ctx context.Context, u im.UserID, places []im.Place) (map[im.Place]bool, error)
	// Deletions is what u has deleted in c after a number, by number.
	Deletions(ctx context.Context, u im.UserID, c im.ConversationID, after uint64, limit int) (all []im.Hidden, more bool, err error)
	// MembersAmong are those of users who are in c now.
	MembersAmong(ctx context.Context, c im.ConversationID, users []im.UserID) (map[im.UserID]bool, error)
	// ReceiptCounts counts for each seq (at most 100) the members whose interval holds it,
	// its sender left out.
	ReceiptCounts(ctx context.Context, c im.ConversationID, seqs []im.Seq) ([]im.ReceiptCount, error)
	// Receipts are the recipients of one message in a state, by user, from above after.
	Receipts(ctx context.Context, c im.ConversationID, seq im.Seq, state im.ReceiptState, after im.UserID, limit int) (all []im.MemberCursors, more bool, err error)
	// FindStored looks up what became of accepted messages; unknown keys are left out.
	FindStored(ctx context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error)
}

// Groups keeps groups, their channels and who is in them, in MySQL: im.ErrStore while
// that is away. Each change is one transaction under the group's row: it checks what the
// actor may do, changes the group, and notes what the log must be told (Ops), which is
// returned. What the actor may not know of is im.ErrNotFound, what their role does not
// allow im.ErrForbidden, a bound im.FullError. Whose membership is so already has the Ops
// by which it became so, as far as they are not stored yet; nothing else that is so has any.
// A user whose last joining or leaving is still among the pending operations is
// im.ErrPending where their membership is to change again.
type Groups interface {
	// CreateGroup with the ClientGroupID of one that its owner has made returns that one.
	// Users that do not exist are im.ErrNotFound, one who has blocked the owner im.ErrBlocked,
	// one who takes messages from contacts only, and the owner is none, im.ErrNotContact.
	CreateGroup(ctx context.Context, g im.NewGroup) (im.GroupChange, error)
	UpdateGroup(ctx context.Context, actor im.UserID, g im.GroupID, p im.GroupPatch) (im.GroupChange, error)
	// DissolveGroup is the owner's.
	DissolveGroup(ctx context.Context, actor im.UserID, g im.GroupID) (im.GroupChange, error)
	// AddMembers invites: admins may. Who is in it already is passed over. im.ErrBlocked
	// for one who has blocked the actor, im.ErrNotContact for one who takes messages from
	// contacts only, and the actor is none, im.ErrNotFound for one who does not exist.
	AddMembers(ctx context.Context, actor im.UserID, g im.GroupID, users []im.UserID) (im.GroupChange, error)
	// RemoveMember takes user out, or has the actor leave where they are the same; admins
	// remove members, the owner also admins. The owner may not leave: im.ErrConflict.
	RemoveMember(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID) (im.GroupChange, error)
	// SetRole makes an admin or a member; the owner may.
	SetRole(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, role im.Role) (im.GroupChange, error)
	// TransferGroup makes user the owner and the owner an admin.
	TransferGroup(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID) (im.GroupChange, error)
	// MuteMember mutes until a time in Unix milliseconds, 0 ends it. As RemoveMember.
	MuteMember(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, until int64) (im.GroupChange, error)
	// AskToJoin joins an open group, and asks to join one that admins approve for
	// (pending). A closed one is im.ErrNotFound.
	AskToJoin(ctx context.Context, user im.UserID, g im.GroupID, message string) (c im.GroupChange, pending bool, err error)
	// WithdrawJoin takes a request back; im.ErrNotFound where there is none.
	WithdrawJoin(ctx context.Context, user im.UserID, g im.GroupID) error
	// DecideJoin accepts or refuses a request: admins may.
	DecideJoin(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, accept bool) (im.GroupChange, error)
	// CreateChannel, RenameChannel and RemoveChannel are for admins; the main channel
	// stays as long as the group: im.ErrConflict. Members of a private one must be in the group.
	CreateChannel(ctx context.Context, actor im.UserID, g im.GroupID, n im.NewChannel) (im.Channel, im.GroupChange, error)
	RenameChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, name string) (im.GroupChange, error)
	RemoveChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID) (im.GroupChange, error)
	// AddToChannel and RemoveFromChannel are of private channels, im.ErrConflict of others.
	// Admins may; who is in one may leave it.
	AddToChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, users []im.UserID) (im.GroupChange, error)
	RemoveFromChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, user im.UserID) (im.GroupChange, error)

	// Group is g as viewer sees it: im.ErrNotFound where they are not in it and it is
	// closed, or it is dissolved.
	Group(ctx context.Context, viewer im.UserID, g im.GroupID) (im.GroupView, error)
	// GroupsOf are the groups that u is in, by ID, from above after.
	GroupsOf(ctx context.Context, u im.UserID, after im.GroupID, limit int) (all []im.GroupView, more bool, err error)
	// GroupMembers is by user, from above after; im.ErrNotFound where viewer is not in g.
	GroupMembers(ctx context.Context, viewer im.UserID, g im.GroupID, after im.UserID, limit int) (all []im.GroupMember, more bool, err error)
	// ChannelMembers is GroupMembers of one channel that viewer is in, or manages.
	ChannelMembers(ctx context.Context, viewer im.UserID, g im.GroupID, c im.ConversationID, after im.UserID, limit int) (all []im.GroupMember, more bool, err error)
	// JoinRequests are those that wait, by user, from above after: admins may.
	JoinRequests(ctx context.Context, actor im.UserID, g im.GroupID, after im.UserID, limit int) (all []im.JoinRequestRow, more bool, err error)

	// Seat is what a send of u to a channel is decided by; im.ErrNotFound where they were
	// never in it.
	Seat(ctx context.Context, u im.UserID, c im.ConversationID) (im.Seat, error)
	// ChannelInfos names channels; unknown ones are left out.
	ChannelInfos(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelInfo, error)
	// PendingOps are those that nobody has told the log for a while, the oldest first; they
	// count as told from now on. What is stored is none any more.
	PendingOps(ctx context.Context, quiet time.Duration, limit int) ([]im.GroupOp, error)
}

// Schedules keeps messages for their time, in MySQL: im.ErrStore while that is away.
type Schedules interface {
	// Schedule notes a message and returns its row, or the one that is there already under
	// its client message ID, whatever that says. What is past is due now. im.FullError
	// where most (0: no bound) of the sender's are pending.
	Schedule(ctx context.Context, s im.Scheduled, partition, most int) (im.Scheduled, error)
	Scheduled(ctx context.Context, id im.ScheduleID) (im.Scheduled, error)
	ScheduledAs(ctx context.Context, k im.SendKey) (im.Scheduled, error)
	// ScheduledOf is by due time.
	ScheduledOf(ctx context.Context, q im.ScheduledQuery) (all []im.Scheduled, more bool, err error)
	// ChangeScheduled changes or cancels what is pending; im.ErrScheduleFinal where it is
	// pending no more. What is cancelled may be cancelled again.
	ChangeScheduled(ctx context.Context, id im.ScheduleID, p im.SchedulePatch) (im.Scheduled, error)
}

// Rooms knows which nodes have a member of a channel online.
type Rooms interface {
	RoomNodes(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID][]im.NodeID, error)
}

// Hints answers retries without the log. Best effort: an error counts as "unknown".
type Hints interface {
	Probe(ctx context.Context, k im.SendKey) (ref im.StoredRef, known bool, err error)
}

// Limits are token buckets shared by all nodes, in Redis.
type Limits interface {
	// Take takes up to n tokens of the bucket that refills at rate per second up to
	// burst. It grants 0 with the time until one is there.
	Take(ctx context.Context, bucket string, n int, rate float64, burst int) (granted int, retryAfter time.Duration, err error)
}

// Queue is the log of accepted work.
type Queue interface {
	// Produce enqueues in call order per conversation and returns at once; done is
	// called exactly once, from another goroutine, within 5 s: nil when the log has it
	// (acks=all), im.ErrQueue or im.ErrOverloaded where it never will,
	// im.ErrUnknownOutcome where it may.
	Produce(t im.Task, done func(error))
}

// Backlog knows how far the workers are behind the log. Answers come from memory.
type Backlog interface {
	// Backlog is of the partition of c, seconds old at most.
	Backlog(c im.ConversationID) im.Backlog
	// Least is of the partition that is the least behind.
	Least() im.Backlog
}

// Sessions knows who is connected where.
type Sessions interface {
	Sessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error)
}

// Presences reads who is online, from the sessions and the leases of their nodes:
// im.ErrCache while Redis is away. Every user asked for is in the answer.
type Presences interface {
	Presence(ctx context.Context, users []im.UserID) (map[im.UserID]im.Presence, error)
}

// Sight is what MySQL knows of presence.
type Sight interface {
	// Visible is whom of users the viewer may see, each with when they were last seen
	// (Unix milliseconds, 0: never).
	Visible(ctx context.Context, viewer im.UserID, users []im.UserID) (map[im.UserID]int64, error)
	// MarkSeen raises when devices were last seen.
	MarkSeen(ctx context.Context, seen []im.DeviceSeen) error
}

// Revocations is the list of what open sessions must learn.
type Revocations interface {
	// Revocations are those above an ID, in its order. One may be committed later than
	// others above it.
	Revocations(ctx context.Context, after uint64, limit int) ([]im.Revocation, error)
	// LastRevocation is the ID of the newest; 0 where there is none.
	LastRevocation(ctx context.Context) (uint64, error)
	ForgetRevocations(ctx context.Context, age time.Duration) error
}

// Bus carries push batches (api/protocol.AppendDelivery) to nodes. Best effort.
type Bus interface {
	Publish(ctx context.Context, batches map[im.NodeID][]byte) error
}

// Notes brings what was published to this process's own channel; the other end of
// Bus. Only a process that serves ?wait=stored needs it.
type Notes interface {
	// Subscribe delivers the node's batches until ctx ends. lost is called after each
	// interruption: notes may be missing.
	Subscribe(ctx context.Context, node im.NodeID, batch func([]byte), lost func()) error
}

// Authenticator says who a token speaks for. Auth implements it.
type Authenticator interface {
	// Verify returns im.ErrUnauthenticated for a token that is not good.
	Verify(ctx context.Context, accessToken string) (im.Identity, error)
	// Recheck says whether an identity verified before still holds: neither revoked,
	// banned nor expired since, as far as was known no longer than fresh ago.
	Recheck(ctx context.Context, who im.Identity, fresh time.Duration) error
}

// Filter looks at what a text says before it is accepted. Chain implements it.
type Filter interface {
	// Apply returns the text as it may be said, or im.ErrContentRefused.
	Apply(ctx context.Context, text string) (string, error)
}
