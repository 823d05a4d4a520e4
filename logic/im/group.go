package im

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds on groups. What is beyond them is refused with a FullError that names the limit.
const (
	MaxGroupMembers    = 10_000
	MaxGroupsPerUser   = 1_000
	MaxChannels        = 100 // of one group
	MaxMembersPerCall  = 200 // created with, invited or added at once
	MaxGroupAdmins     = 50
	MaxPendingRequests = 1_000 // to join one group
	MaxGroupNameBytes  = 255
	// MaxNoticeNames bounds the names in a Notice; Count says how many there are.
	MaxNoticeNames = 20
)

// GroupID is a group's number. It travels as a string in JSON.
type GroupID uint64

// ParseGroupID reads a decimal group ID, canonical form only.
func ParseGroupID(s string) (GroupID, error) {
	n, ok := parseID(s)
	if !ok || n == 0 {
		return 0, Invalid("group_id", "not a group ID")
	}
	return GroupID(n), nil
}

func (g GroupID) String() string { return strconv.FormatUint(uint64(g), 10) }

// MarshalText makes JSON show the ID as a string.
func (g GroupID) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(g), 10), nil }

// UnmarshalText accepts the canonical decimal form only.
func (g *GroupID) UnmarshalText(b []byte) error {
	n, err := ParseGroupID(string(b))
	*g = n
	return err
}

// ChannelConversation is the conversation of a group's channel by its number.
func ChannelConversation(n uint64) ConversationID {
	return ConversationID("c" + strconv.FormatUint(n, 10))
}

// Channel is the number of a channel's conversation; ok is false for a one-to-one.
func (c ConversationID) Channel() (n uint64, ok bool) {
	if !strings.HasPrefix(string(c), "c") {
		return 0, false
	}
	return parseID(string(c[1:]))
}

// Role is what a member may do in a group.
type Role string

const (
	RoleMember Role = "member"
	RoleAdmin  Role = "admin" // invites, removes, mutes members, approves, manages channels
	RoleOwner  Role = "owner" // one a group; also makes admins, transfers, dissolves
)

// Manages says whether r may do what admins may.
func (r Role) Manages() bool { return r == RoleAdmin || r == RoleOwner }

// JoinPolicy says how one gets into a group oneself.
type JoinPolicy string

const (
	JoinClosed  JoinPolicy = "closed"  // by invitation only; to others there is no such group
	JoinRequest JoinPolicy = "request" // an admin approves
	JoinOpen    JoinPolicy = "open"
)

// Known says whether p is one of the policies.
func (p JoinPolicy) Known() bool { return p == JoinClosed || p == JoinRequest || p == JoinOpen }

// Group is what a group is now.
type Group struct {
	ID         GroupID
	Name       string
	Avatar     string
	Owner      UserID
	Main       ConversationID // its first channel, where everyone is and notices about the group appear
	Members    int
	JoinPolicy JoinPolicy
	// HistoryVisible lets who joins see what was said before.
	HistoryVisible bool
	MutedAll       bool   // members may not send, admins may
	Version        uint64 // counts up with each change, of members too
	Dissolved      bool
	CreatedAt      int64
}

// Channel is one conversation of a group.
type Channel struct {
	ID        ConversationID
	Group     GroupID
	Name      string
	Private   bool // for a subset of the group's members
	Removed   bool
	CreatedAt int64
}

// ChannelInfo is what a list shows of a channel.
type ChannelInfo struct {
	Channel
	GroupName   string
	GroupAvatar string
	GroupMain   ConversationID
}

// GroupMember is one user in a group.
type GroupMember struct {
	User       UserID
	Role       Role
	MutedUntil int64 // Unix milliseconds; 0: not muted
	JoinedAt   int64
}

// GroupView is a group as one user sees it.
type GroupView struct {
	Group
	Role       Role // "" where they are not in it
	MutedUntil int64
	Channels   []Channel // that they are in; as an admin also private ones that they are not in
	Requested  bool      // they have asked to join
}

// NewGroup is what a group is created with.
type NewGroup struct {
	Owner          UserID
	Name, Avatar   string
	JoinPolicy     JoinPolicy
	HistoryVisible bool
	Members        []UserID // beside the owner
	// ClientGroupID, where set, makes a retry find the group that the first made.
	ClientGroupID ClientMsgID
}

// GroupPatch changes what is not nil.
type GroupPatch struct {
	Name, Avatar   *string
	JoinPolicy     *JoinPolicy
	HistoryVisible *bool
	MutedAll       *bool
}

// NewChannel is what a channel is created with. A public one has all members of the
// group.
type NewChannel struct {
	Name    string
	Private bool
	Members []UserID // of a private one, beside who creates it
}

// JoinRequestRow is one user's wish to join.
type JoinRequestRow struct {
	User    UserID
	Message string
	AskedAt int64
}

// ValidateGroupName takes a name of 1 to MaxGroupNameBytes bytes with something to see
// in it.
func ValidateGroupName(s string) error {
	if len(s) > MaxGroupNameBytes || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) ||
		strings.IndexFunc(s, Visible) < 0 {
		return Invalid("name", "must be 1 to 255 bytes of text on one line")
	}
	return nil
}

// Seat is what a send to a channel is decided by.
type Seat struct {
	Group      GroupID
	Role       Role
	In         bool // a member of the conversation, and nothing under way that ends it
	MutedUntil int64
	MutedAll   bool
}

// GroupChange is what a change of a group came to: the group as it now is, and the
// notices with which the log is to be told. Where nothing has changed those are what the
// log has not stored of the changes that made it so.
type GroupChange struct {
	Group Group
	Ops   []GroupOp
}

// OpID numbers what groups tell the log.
type OpID uint64

// OpPrefix begins the client message ID of every notice; nobody else may use it.
const OpPrefix = "curlew-op-"

// ClientMsgID is the notice's, and makes telling the log twice harmless.
func (id OpID) ClientMsgID() ClientMsgID {
	return ClientMsgID(OpPrefix + strconv.FormatUint(uint64(id), 10))
}

// GroupOp is a notice that the log must be told, kept in MySQL from the transaction that
// changed the group until the strand has stored the notice.
type GroupOp struct {
	ID           OpID
	Conversation ConversationID
	Notice       Notice
	Membership   Membership
	At           int64
}

// Membership is what a notice changes about who is in its conversation. The strand
// gives the notice its seq and writes join_seq or leave_seq with it, in one transaction.
type Membership struct {
	Op    OpID    `json:"op"`
	Group GroupID `json:"group"`
	// Join are new members; who is one already stays as they are. Leave end to be
	// members; who is none stays so.
	Join  []UserID `json:"join,omitempty"`
	Leave []UserID `json:"leave,omitempty"`
	// JoinAll is everyone who is in the group when it is stored, LeaveAll everyone who is
	// in the conversation then.
	JoinAll  bool `json:"join_all,omitempty"`
	LeaveAll bool `json:"leave_all,omitempty"`
	// Merge says, set by the strand, that the channel is merged at read from here on.
	Merge bool `json:"-"`
	// History shows who joins what was said before.
	History bool `json:"history,omitempty"`
}

// Moves says that somebody joins or leaves by it.
func (m *Membership) Moves() bool {
	return m != nil && (len(m.Join) > 0 || len(m.Leave) > 0 || m.JoinAll || m.LeaveAll)
}

// NoticeKind says what a notice is about.
type NoticeKind string

const (
	NoticeCreated        NoticeKind = "created" // the group; its first notice, by which its members join
	NoticeDissolved      NoticeKind = "dissolved"
	NoticeUpdated        NoticeKind = "updated" // name, avatar, join policy, visibility of history
	NoticeJoined         NoticeKind = "joined"  // by themselves; or by Actor, who invited or approved
	NoticeLeft           NoticeKind = "left"
	NoticeRemoved        NoticeKind = "removed" // by Actor
	NoticeRole           NoticeKind = "role"    // Users have Role now
	NoticeTransferred    NoticeKind = "transferred"
	NoticeMuted          NoticeKind = "muted" // Users, until Until
	NoticeUnmuted        NoticeKind = "unmuted"
	NoticeMutedAll       NoticeKind = "muted_all"
	NoticeUnmutedAll     NoticeKind = "unmuted_all"
	NoticeChannelCreated NoticeKind = "channel_created" // its first notice, in the channel itself
	NoticeChannelRenamed NoticeKind = "channel_renamed" // in the channel itself
	NoticeChannelRemoved NoticeKind = "channel_removed" // the last in the channel
)

// Notice is the content of a message of TypeNotice: what has happened to the group.
type Notice struct {
	Kind    NoticeKind   `json:"kind"`
	GroupID GroupID      `json:"group_id"`
	Actor   *NoticeUser  `json:"actor,omitempty"` // absent: the system
	Users   []NoticeUser `json:"users,omitempty"` // whom it is about, the first 20
	Count   int          `json:"count,omitempty"` // how many it is about
	Name    string       `json:"name,omitempty"`  // of the group or channel, as it is now
	Role    Role         `json:"role,omitempty"`
	Until   int64        `json:"until,omitempty"` // Unix milliseconds
}

// NoticeUser is somebody as they were called then.
type NoticeUser struct {
	ID       UserID `json:"id"`
	Nickname string `json:"nickname"`
}

// Roster is who is in a channel as its strand must know it.
type Roster struct {
	// Version is the seq of the last notice that changed it.
	Version Seq
	// Merged says that the channel is merged at read: nobody's list is written, and
	// Members is left empty. Once so, always so.
	Merged  bool
	Members []RosterMember // by user
}

// RosterMember is one member, who sees from First on.
type RosterMember struct {
	User  UserID
	First Seq
}

// Room is a channel that a user is in, as a connector must know it.
type Room struct {
	Conversation ConversationID
	Version      Seq // of the roster that says so
	First        Seq // the user sees from here on
}

// ChannelEnd is how far a merged channel has come, for all of its members. Every field
// only rises.
type ChannelEnd struct {
	Conversation  ConversationID
	LastSeq       Seq
	LastID        MessageID
	LastChange    uint64
	LastUncounted Seq // for all
	LastMention   Seq // of all
	Closed        Seq // everyone's last, where the channel is no more
	// MovedAt is when it last rose, microseconds of Redis's clock; who raises it leaves it out.
	MovedAt int64
}

// MemberCursors is how far one member of a conversation has come.
type MemberCursors struct {
	User      UserID
	Delivered Seq
	Read      Seq
}

// ReceiptState says which recipients of a message are asked for.
type ReceiptState string

const (
	ReceiptRead        ReceiptState = "read"
	ReceiptDelivered   ReceiptState = "delivered" // to a device; who has read it is among them
	ReceiptUndelivered ReceiptState = "undelivered"
)

// ReceiptCount is how many recipients a message has (members when it was sent, without
// its sender), and how many have received and read it.
type ReceiptCount struct {
	Seq        Seq
	Recipients int
	Delivered  int
	Read       int
}
