package logic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Sync returns everything that a starting client needs, in one round trip; with a
// position of this generation only what changed since, oldest change first. Before
// pages on through a full one; those pages leave out the offline sources, which the
// first has named.
func (s *Service) Sync(ctx context.Context, who im.Identity, req protocol.Sync) (protocol.Synced, error) {
	limit, err := pageLimit(req.Limit, maxPage)
	if err != nil {
		return protocol.Synced{}, err
	}
	before, err := syncBefore(req)
	if err != nil {
		return protocol.Synced{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	out := protocol.Synced{Full: true, ServerTime: s.now().UnixMilli(), Limits: s.Limits()}
	if out.User, err = s.senders.Profile(ctx, who.User); err != nil {
		return protocol.Synced{}, err
	}
	var states []im.ConversationState
	if req.Position != nil {
		changes, err := s.deps.Index.Changes(ctx, who.User, *req.Position, limit)
		if err != nil {
			return protocol.Synced{}, fmt.Errorf("sync changes: %w", storeError(err))
		}
		// A position of another generation, or one that cannot be held against
		// anything while Redis is away, is answered in full.
		if out.Full = changes.Void || changes.Degraded; !out.Full {
			states, out.Position, out.HasMore = changes.States, changes.Position, changes.HasMore
			total, degraded, err := s.deps.Index.UnreadTotal(ctx, who.User)
			if err != nil {
				return protocol.Synced{}, fmt.Errorf("sync unread: %w", storeError(err))
			}
			out.UnreadTotal, out.UnreadBadge, out.Degraded = total.All, total.Badge, degraded
		}
	}
	if out.Full {
		list, err := s.deps.Index.List(ctx, who.User, before, limit)
		if err != nil {
			return protocol.Synced{}, fmt.Errorf("sync list: %w", storeError(err))
		}
		states, out.Position, out.HasMore = list.States, list.Position, list.HasMore
		out.UnreadTotal, out.UnreadBadge, out.Degraded = list.UnreadTotal, list.UnreadBadge, list.Degraded
		out.Next = nextPage(list)
	}
	offline := protocol.OfflineSources{Items: []protocol.OfflineSource{}}
	if before == 0 {
		if offline, err = s.OfflineSources(ctx, who); err != nil {
			return protocol.Synced{}, err
		}
	}
	if before == 0 {
		version, err := s.deps.Accounts.ContactsVersion(ctx, who.User)
		if err == nil {
			out.ContactsVersion = &version
		} else {
			s.logUnlessAway("contacts version", err)
		}
	}
	rows, whole := s.rows(ctx, who.User, states)
	out.Offline, out.Conversations = offline.Items, rows
	out.Degraded = out.Degraded || offline.Degraded || !whole
	return out, nil
}

// syncBefore reads the place to page on from; 0 is the top.
func syncBefore(req protocol.Sync) (im.MessageID, error) {
	switch {
	case req.Before == "":
		return 0, nil
	case req.Position != nil:
		return 0, im.Invalid("before", "goes without a position")
	}
	before, err := im.ParseMessageID(req.Before)
	if err != nil {
		return 0, im.Invalid("before", "not what a page gave as next")
	}
	return before, nil
}

// Conversations returns a page of the user's list, or of what a filter lets through,
// newest first, from below before (0: from the top).
func (s *Service) Conversations(ctx context.Context, who im.Identity, only im.ListFilter, before im.MessageID, limit int) (protocol.Conversations, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err == nil {
		err = only.Validate()
	}
	if err != nil {
		return protocol.Conversations{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	list, err := s.deps.Index.ListOnly(ctx, who.User, only, before, limit)
	if err != nil {
		return protocol.Conversations{}, fmt.Errorf("list: %w", storeError(err))
	}
	rows, whole := s.rows(ctx, who.User, list.States)
	return protocol.Conversations{
		Items: rows, HasMore: list.HasMore, Next: nextPage(list),
		UnreadTotal: list.UnreadTotal, UnreadBadge: list.UnreadBadge, Degraded: list.Degraded || !whole,
	}, nil
}

// Conversation returns one row of the list; a one-to-one conversation in which nobody
// has spoken yet is an empty one.
func (s *Service) Conversation(ctx context.Context, who im.Identity, c im.ConversationID) (protocol.Conversation, error) {
	state, err := s.stateBy(ctx, who.User, c, s.deps.Index.Row)
	if isNotFound(err) {
		state.Conversation = c
		err = s.members.MayOpen(ctx, who.User, c)
	}
	if err != nil {
		return protocol.Conversation{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	rows, _ := s.rows(ctx, who.User, []im.ConversationState{state})
	return rows[0], nil
}

func nextPage(list im.ListPage) string {
	if !list.HasMore || len(list.States) == 0 {
		return ""
	}
	return list.States[len(list.States)-1].LastID.String()
}

// rows shows states with who the other side is and what was said last; whole is false
// where a store could not tell. The list itself does not wait for that.
func (s *Service) rows(ctx context.Context, u im.UserID, states []im.ConversationState) (rows []protocol.Conversation, whole bool) {
	rows = make([]protocol.Conversation, len(states))
	peers := newPeerSet(u, len(states))
	at := make(map[im.ConversationID]im.Seq, len(states))
	var drafted []im.ConversationID
	for _, st := range states {
		peers.add(st.Conversation)
		if top := st.Top(); top > st.Floor {
			at[st.Conversation] = top
		}
		if st.Settings.DraftAt > 0 {
			drafted = append(drafted, st.Conversation)
		}
	}
	profiles, whole := s.peerProfiles(ctx, peers)
	channels, known := s.channelRefs(ctx, peers.channels)
	whole = whole && known
	var last map[im.ConversationID]im.Message
	if len(at) > 0 {
		var err error
		if last, err = s.lastMessages(ctx, u, states, at); err != nil {
			whole = false
			s.logUnlessAway("last messages", err)
		}
	}
	drafts, read := s.drafts(ctx, u, drafted)
	whole = whole && read
	left := pageBytes
	for i, st := range states {
		rows[i] = protocol.Conversation{
			ConversationID: st.Conversation,
			Kind:           "direct",
			Peer:           peers.profile(profiles, st.Conversation),
			LastSeq:        st.Top(),
			LastChange:     st.LastChange,
			DeliveredSeq:   st.Delivered,
			ReadSeq:        min(st.Read, st.Top()),
			Unread:         st.Unread,
			PeerDelivered:  st.PeerDelivered,
			PeerRead:       st.PeerRead,
			MentionedSeq:   st.Mentioned(),
			Deletions:      st.Deletions,
			FloorSeq:       st.Floor,
			Hidden:         st.Top() > 0 && st.Hidden(),
			MarkedUnread:   st.MarkedUnread(),
		}
		if _, channel := st.Conversation.Channel(); channel {
			rows[i].Kind, rows[i].Channel, rows[i].Left = "channel", channels[st.Conversation], !st.In()
			if st.Join > 1 {
				rows[i].FirstSeq = st.Join
			}
		}
		if m, ok := last[st.Conversation]; ok && len(m.Content) <= left {
			left -= len(m.Content)
			rows[i].LastMessage = &m
		}
		if st.Settings.Version > 0 {
			var shown *im.Draft
			if d, ok := drafts[st.Conversation]; ok && len(d.Text) <= left {
				left -= len(d.Text)
				shown = &d
			}
			settings := protocol.ShowSettings(st.Settings, shown)
			rows[i].Settings = &settings
		}
	}
	return rows, whole
}

// lastMessages are those at the given places as u sees them.
func (s *Service) lastMessages(ctx context.Context, u im.UserID, states []im.ConversationState, at map[im.ConversationID]im.Seq) (map[im.ConversationID]im.Message, error) {
	found, err := s.deps.Records.LastMessages(ctx, at)
	if err != nil {
		return nil, err
	}
	deleted := make(map[im.ConversationID]bool)
	var in []im.ConversationID // whose end may have come since the states were read
	for _, st := range states {
		deleted[st.Conversation] = st.Deletions > 0
		if _, channel := st.Conversation.Channel(); channel && st.In() {
			in = append(in, st.Conversation)
		}
	}
	if err := s.clipLast(ctx, u, in, found); err != nil {
		return nil, err
	}
	items, err := s.decorate(ctx, u, slices.Collect(maps.Values(found)), func(c im.ConversationID) bool { return deleted[c] })
	if err != nil {
		return nil, err
	}
	for _, m := range items {
		found[m.Conversation] = m
	}
	return found, nil
}

// clipLast takes away what is out of sight since u was removed from, or has come back
// to, one of the channels ([L12]).
func (s *Service) clipLast(ctx context.Context, u im.UserID, in []im.ConversationID, found map[im.ConversationID]im.Message) error {
	if len(in) == 0 {
		return nil
	}
	members, err := s.deps.Records.Members(ctx, u, in)
	if err != nil {
		return err
	}
	for _, c := range in {
		m, ok := members[c]
		if w := windowOf(&m); !ok || !w.holds(found[c].Seq) {
			delete(found, c)
		}
	}
	return nil
}

// channelRefs says how channels are called; known is false where MySQL could not tell
// of all.
func (s *Service) channelRefs(ctx context.Context, convs []im.ConversationID) (refs map[im.ConversationID]*protocol.ChannelRef, known bool) {
	if len(convs) == 0 {
		return nil, true
	}
	infos, err := s.members.Channels(ctx, convs)
	if err != nil {
		s.logUnlessAway("channels", err)
	}
	refs = make(map[im.ConversationID]*protocol.ChannelRef, len(infos))
	for c, i := range infos {
		refs[c] = &protocol.ChannelRef{GroupID: i.Group, GroupName: i.GroupName, GroupAvatar: i.GroupAvatar,
			Name: i.Name, Main: c == i.GroupMain, Private: i.Private}
	}
	return refs, err == nil
}

// peerSet collects the other sides of a user's one-to-one conversations, and channels.
type peerSet struct {
	self     im.UserID
	ids      []im.UserID
	seen     map[im.UserID]struct{}
	channels []im.ConversationID
}

func newPeerSet(self im.UserID, size int) *peerSet {
	return &peerSet{self: self, ids: make([]im.UserID, 0, size), seen: make(map[im.UserID]struct{}, size)}
}

func (p *peerSet) add(c im.ConversationID) {
	if _, channel := c.Channel(); channel {
		p.channels = append(p.channels, c)
		return
	}
	peer, ok := c.Peer(p.self)
	if !ok || peer == im.SystemUser {
		return
	}
	if _, twice := p.seen[peer]; !twice {
		p.seen[peer] = struct{}{}
		p.ids = append(p.ids, peer)
	}
}

// profile is nil where it is not known.
func (p *peerSet) profile(all map[im.UserID]im.Profile, c im.ConversationID) *im.Profile {
	peer, ok := c.Peer(p.self)
	if ok && peer == im.SystemUser {
		system := systemProfile
		return &system
	}
	if profile, found := all[peer]; ok && found {
		return &profile
	}
	return nil
}

// peerProfiles looks the set up; named is false where no store could tell.
func (s *Service) peerProfiles(ctx context.Context, p *peerSet) (all map[im.UserID]im.Profile, named bool) {
	if len(p.ids) == 0 {
		return nil, true
	}
	all, err := s.deps.Profiles.Profiles(ctx, p.ids)
	if err != nil {
		s.logUnlessAway("peer profiles", err)
	}
	return all, err == nil
}

// logUnlessAway logs what an answer goes on without.
func (s *Service) logUnlessAway(what string, err error) {
	if !away(err) && !errors.Is(err, context.Canceled) {
		s.log.Error("answered without "+what, "err", err)
	}
}
