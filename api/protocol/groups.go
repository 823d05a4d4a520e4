package protocol

import "github.com/curlew-im/curlew/logic/im"

// ChannelRef names a channel in lists.
type ChannelRef struct {
	GroupID     im.GroupID `json:"group_id"`
	GroupName   string     `json:"group_name"`
	GroupAvatar string     `json:"group_avatar,omitempty"`
	Name        string     `json:"name"` // of the channel; "" for the main one
	Main        bool       `json:"main,omitempty"`
	Private     bool       `json:"private,omitempty"`
}

// CreateGroup is the body of POST /v1/groups. Its creator is its owner.
type CreateGroup struct {
	Name    string      `json:"name"`
	Avatar  string      `json:"avatar,omitempty"`
	Members []im.UserID `json:"members,omitempty"` // at most 200
	// JoinPolicy is closed (the default), request or open.
	JoinPolicy     im.JoinPolicy `json:"join_policy,omitempty"`
	HistoryVisible bool          `json:"history_visible,omitempty"` // who joins sees what was said before
	// ClientGroupID, of the form of a client_msg_id, makes a retry harmless.
	ClientGroupID im.ClientMsgID `json:"client_group_id,omitempty"`
}

// UpdateGroup is the body of PATCH /v1/groups/{group}; absent fields stay.
type UpdateGroup struct {
	Name           *string        `json:"name,omitempty"`
	Avatar         *string        `json:"avatar,omitempty"`
	JoinPolicy     *im.JoinPolicy `json:"join_policy,omitempty"`
	HistoryVisible *bool          `json:"history_visible,omitempty"`
	MutedAll       *bool          `json:"muted_all,omitempty"`
}

// Group is a group as its reader sees it.
type Group struct {
	ID             im.GroupID        `json:"id"`
	Name           string            `json:"name"`
	Avatar         string            `json:"avatar,omitempty"`
	OwnerID        im.UserID         `json:"owner_id"`
	MainChannelID  im.ConversationID `json:"main_channel_id"`
	Members        int               `json:"members"`
	JoinPolicy     im.JoinPolicy     `json:"join_policy"`
	HistoryVisible bool              `json:"history_visible"`
	MutedAll       bool              `json:"muted_all"`
	Version        uint64            `json:"version"` // counts up with each change
	CreatedAt      int64             `json:"created_at"`
	// Role is the reader's; absent where they are not in the group, and then channels too.
	Role       im.Role   `json:"role,omitempty"`
	MutedUntil int64     `json:"muted_until,omitempty"` // the reader, Unix ms
	Requested  bool      `json:"requested,omitempty"`   // the reader has asked to join
	Channels   []Channel `json:"channels,omitempty"`
}

// Channel is one conversation of a group.
type Channel struct {
	ConversationID im.ConversationID `json:"conversation_id"`
	Name           string            `json:"name"` // "" for the main one
	Main           bool              `json:"main,omitempty"`
	Private        bool              `json:"private,omitempty"`
	CreatedAt      int64             `json:"created_at"`
}

// GroupChanged answers every change of a group. Applied: the notices of it are stored and
// everyone who is connected is told (200); else they will be (202): the change itself
// holds in both cases.
type GroupChanged struct {
	Group   Group    `json:"group"`
	Applied bool     `json:"applied"`
	Channel *Channel `json:"channel,omitempty"` // of POST …/channels
	Pending bool     `json:"pending,omitempty"` // of POST …/join: an admin decides
}

// Groups answers GET /v1/groups, by ID.
type Groups struct {
	Items   []Group `json:"items"`
	HasMore bool    `json:"has_more"`
	Next    string  `json:"next,omitempty"` // pass as after
}

// GroupMember is one member of a group or channel.
type GroupMember struct {
	User       im.Profile `json:"user"`
	Role       im.Role    `json:"role"`
	MutedUntil int64      `json:"muted_until,omitempty"` // Unix ms
	JoinedAt   int64      `json:"joined_at"`
}

// GroupMembers answers GET …/members, by user ID.
type GroupMembers struct {
	Items   []GroupMember `json:"items"`
	HasMore bool          `json:"has_more"`
	Next    string        `json:"next,omitempty"` // pass as after
}

// AddMembers is the body of POST …/members, of a group or a private channel.
type AddMembers struct {
	UserIDs []im.UserID `json:"user_ids"` // 1 to 200
}

// SetRole is the body of PUT /v1/groups/{group}/members/{user}/role.
type SetRole struct {
	Role im.Role `json:"role"` // admin or member
}

// MuteMember is the body of PUT /v1/groups/{group}/members/{user}/mute.
type MuteMember struct {
	Until int64 `json:"until"` // Unix ms; 0: not muted
}

// TransferGroup is the body of POST /v1/groups/{group}/transfer.
type TransferGroup struct {
	UserID im.UserID `json:"user_id"`
}

// JoinGroup is the body of POST /v1/groups/{group}/join.
type JoinGroup struct {
	Message string `json:"message,omitempty"` // to the admins, at most 200 characters
}

// JoinRequest is one who waits to be let in.
type JoinRequest struct {
	User    im.Profile `json:"user"`
	Message string     `json:"message,omitempty"`
	AskedAt int64      `json:"asked_at"`
}

// JoinRequests answers GET /v1/groups/{group}/requests, by user ID.
type JoinRequests struct {
	Items   []JoinRequest `json:"items"`
	HasMore bool          `json:"has_more"`
	Next    string        `json:"next,omitempty"` // pass as after
}

// CreateChannel is the body of POST /v1/groups/{group}/channels.
type CreateChannel struct {
	Name    string      `json:"name"`
	Private bool        `json:"private,omitempty"` // for some members only
	Members []im.UserID `json:"members,omitempty"` // of a private one, at most 200
}

// RenameChannel is the body of PATCH /v1/groups/{group}/channels/{conversation}.
type RenameChannel struct {
	Name string `json:"name"`
}

// ReceiptCount is how many recipients a message has, and how many have received and read
// it. Who was a member when it was sent is a recipient, its sender aside.
type ReceiptCount struct {
	Seq        im.Seq `json:"seq"`
	Recipients int    `json:"recipients"`
	Delivered  int    `json:"delivered"`
	Read       int    `json:"read"`
}

// ReceiptCounts answers GET /v1/conversations/{id}/receipts?seq=…&seq=….
type ReceiptCounts struct {
	Items []ReceiptCount `json:"items"`
}

// Recipient is one recipient of a message and how far they have come.
type Recipient struct {
	User         im.Profile `json:"user"`
	DeliveredSeq im.Seq     `json:"delivered_seq"`
	ReadSeq      im.Seq     `json:"read_seq"`
}

// Recipients answers GET …/messages/{seq}/receipts?state=read|delivered|undelivered, by
// user ID.
type Recipients struct {
	Items   []Recipient `json:"items"`
	HasMore bool        `json:"has_more"`
	Next    string      `json:"next,omitempty"` // pass as after
}
