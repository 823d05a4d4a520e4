package logic

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	team    im.GroupID        = 3
	harbour im.ConversationID = "c4" // a channel of team
)

// groupWorld stands in for the groups. A change is answered with change, what was asked
// is in asked.
type groupWorld struct {
	seats    map[seatKey]im.Seat
	change   im.GroupChange
	view     im.GroupView
	asked    []string
	roster   []im.GroupMember
	waiting  []im.JoinRequestRow
	channels map[im.ConversationID]im.ChannelInfo
	pending  [][]im.GroupOp // pages
	rooms    []im.NodeID
	counts   []im.ReceiptCount
	readers  []im.MemberCursors
	among    map[im.UserID]bool
}

// changing counts a change and remembers what was asked.
func (w *world) changingGroup(ctx context.Context, name string, args ...any) (im.GroupChange, error) {
	err := w.called(ctx, name)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, name+fmt.Sprint(args...))
	if err != nil {
		return im.GroupChange{}, err
	}
	return w.change, nil
}

func (w *world) CreateGroup(ctx context.Context, g im.NewGroup) (im.GroupChange, error) {
	return w.changingGroup(ctx, "CreateGroup", " ", g)
}
func (w *world) UpdateGroup(ctx context.Context, actor im.UserID, g im.GroupID, p im.GroupPatch) (im.GroupChange, error) {
	name := ""
	if p.Name != nil {
		name = *p.Name
	}
	return w.changingGroup(ctx, "UpdateGroup", " ", actor, " ", g, " ", name)
}
func (w *world) DissolveGroup(ctx context.Context, actor im.UserID, g im.GroupID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "DissolveGroup", " ", actor, " ", g)
}
func (w *world) AddMembers(ctx context.Context, actor im.UserID, g im.GroupID, users []im.UserID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "AddMembers", " ", actor, " ", g, " ", users)
}
func (w *world) RemoveMember(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "RemoveMember", " ", actor, " ", g, " ", user)
}
func (w *world) SetRole(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, role im.Role) (im.GroupChange, error) {
	return w.changingGroup(ctx, "SetRole", " ", actor, " ", g, " ", user, " ", role)
}
func (w *world) TransferGroup(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "TransferGroup", " ", actor, " ", g, " ", user)
}
func (w *world) MuteMember(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, until int64) (im.GroupChange, error) {
	return w.changingGroup(ctx, "MuteMember", " ", actor, " ", g, " ", user, " ", until)
}
func (w *world) AskToJoin(ctx context.Context, user im.UserID, g im.GroupID, message string) (im.GroupChange, bool, error) {
	c, err := w.changingGroup(ctx, "AskToJoin", " ", user, " ", g, " ", message)
	return c, err == nil && c.Group.JoinPolicy == im.JoinRequest, err
}
func (w *world) WithdrawJoin(ctx context.Context, user im.UserID, g im.GroupID) error {
	_, err := w.changingGroup(ctx, "WithdrawJoin", " ", user, " ", g)
	return err
}
func (w *world) DecideJoin(ctx context.Context, actor im.UserID, g im.GroupID, user im.UserID, accept bool) (im.GroupChange, error) {
	return w.changingGroup(ctx, "DecideJoin", " ", actor, " ", g, " ", user, " ", accept)
}
func (w *world) CreateChannel(ctx context.Context, actor im.UserID, g im.GroupID, n im.NewChannel) (im.Channel, im.GroupChange, error) {
	c, err := w.changingGroup(ctx, "CreateChannel", " ", actor, " ", g, " ", n)
	return im.Channel{ID: harbour, Group: g, Name: n.Name, Private: n.Private}, c, err
}
func (w *world) RenameChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, name string) (im.GroupChange, error) {
	return w.changingGroup(ctx, "RenameChannel", " ", actor, " ", g, " ", c, " ", name)
}
func (w *world) RemoveChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "RemoveChannel", " ", actor, " ", g, " ", c)
}
func (w *world) AddToChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, users []im.UserID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "AddToChannel", " ", actor, " ", g, " ", c, " ", users)
}
func (w *world) RemoveFromChannel(ctx context.Context, actor im.UserID, g im.GroupID, c im.ConversationID, user im.UserID) (im.GroupChange, error) {
	return w.changingGroup(ctx, "RemoveFromChannel", " ", actor, " ", g, " ", c, " ", user)
}

func (w *world) Group(ctx context.Context, _ im.UserID, _ im.GroupID) (im.GroupView, error) {
	return w.view, w.called(ctx, "Group")
}
func (w *world) GroupsOf(ctx context.Context, _ im.UserID, _ im.GroupID, limit int) ([]im.GroupView, bool, error) {
	return []im.GroupView{w.view}, limit == 1, w.called(ctx, "GroupsOf")
}
func (w *world) GroupMembers(ctx context.Context, _ im.UserID, _ im.GroupID, _ im.UserID, limit int) ([]im.GroupMember, bool, error) {
	return w.roster[:min(limit, len(w.roster))], len(w.roster) > limit, w.called(ctx, "GroupMembers")
}
func (w *world) ChannelMembers(ctx context.Context, viewer im.UserID, g im.GroupID, _ im.ConversationID, after im.UserID, limit int) ([]im.GroupMember, bool, error) {
	return w.GroupMembers(ctx, viewer, g, after, limit)
}
func (w *world) JoinRequests(ctx context.Context, _ im.UserID, _ im.GroupID, _ im.UserID, limit int) ([]im.JoinRequestRow, bool, error) {
	return w.waiting[:min(limit, len(w.waiting))], len(w.waiting) > limit, w.called(ctx, "JoinRequests")
}

func (w *world) Seat(ctx context.Context, u im.UserID, c im.ConversationID) (im.Seat, error) {
	if err := w.called(ctx, "Seat"); err != nil {
		return im.Seat{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seat, ok := w.seats[seatKey{u, c}]
	if !ok {
		return seat, im.ErrNotFound
	}
	return seat, nil
}

func (w *world) ChannelInfos(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.ChannelInfo, error) {
	if err := w.called(ctx, "ChannelInfos"); err != nil {
		return nil, err
	}
	out := map[im.ConversationID]im.ChannelInfo{}
	for _, c := range convs {
		if i, ok := w.channels[c]; ok {
			out[c] = i
		}
	}
	return out, nil
}

func (w *world) PendingOps(ctx context.Context, _ time.Duration, _ int) (page []im.GroupOp, err error) {
	if err := w.called(ctx, "PendingOps"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) > 0 {
		page, w.pending = w.pending[0], w.pending[1:]
	}
	return page, nil
}

func (w *world) RoomNodes(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID][]im.NodeID, error) {
	return map[im.ConversationID][]im.NodeID{convs[0]: w.rooms}, w.called(ctx, "RoomNodes")
}

func (w *world) Members(ctx context.Context, u im.UserID, convs []im.ConversationID) (map[im.ConversationID]im.Member, error) {
	out := map[im.ConversationID]im.Member{}
	for _, c := range convs {
		if m, ok := w.members[im.SendKey{Conversation: c, Sender: u}]; ok {
			m.Conversation = c
			out[c] = m
		}
	}
	return out, w.called(ctx, "Members")
}

func (w *world) MembersAmong(ctx context.Context, _ im.ConversationID, users []im.UserID) (map[im.UserID]bool, error) {
	return w.among, w.called(ctx, "MembersAmong")
}

func (w *world) ReceiptCounts(ctx context.Context, _ im.ConversationID, seqs []im.Seq) ([]im.ReceiptCount, error) {
	w.mu.Lock()
	w.asked = append(w.asked, fmt.Sprint("ReceiptCounts ", seqs))
	w.mu.Unlock()
	return w.counts, w.called(ctx, "ReceiptCounts")
}

func (w *world) Receipts(ctx context.Context, _ im.ConversationID, _ im.Seq, _ im.ReceiptState, _ im.UserID, limit int) ([]im.MemberCursors, bool, error) {
	return w.readers[:min(limit, len(w.readers))], len(w.readers) > limit, w.called(ctx, "Receipts")
}
