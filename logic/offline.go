package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// OfflineSources lists the conversations with messages that no device of the user has
// acked, newest first, at most 100. Only an ack removes one (contract 6).
func (s *Service) OfflineSources(ctx context.Context, who im.Identity) (protocol.OfflineSources, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	sources, degraded, err := s.deps.Index.Offline(ctx, who.User, maxPage)
	if err != nil {
		return protocol.OfflineSources{}, fmt.Errorf("offline sources: %w", storeError(err))
	}
	shown := protocol.OfflineSources{Items: make([]protocol.OfflineSource, len(sources)), Degraded: degraded}
	peers := newPeerSet(who.User, len(sources))
	for _, o := range sources {
		peers.add(o.Conversation)
	}
	profiles, named := s.peerProfiles(ctx, peers)
	channels, known := s.channelRefs(ctx, peers.channels)
	shown.Degraded = shown.Degraded || !named || !known
	for i, o := range sources {
		shown.Items[i] = protocol.OfflineSource{
			ConversationID: o.Conversation,
			Peer:           peers.profile(profiles, o.Conversation),
			Channel:        channels[o.Conversation],
			Count:          o.Count,
			LastMessageID:  o.LastID,
			DeliveredSeq:   o.Delivered,
			LastSeq:        o.LastSeq,
		}
	}
	return shown, nil
}

// OfflinePull returns the messages after what was last acked, or after AfterSeq where
// that is further: a pull may be repeated, and paged, without losing anything.
func (s *Service) OfflinePull(ctx context.Context, who im.Identity, req protocol.OfflinePull) (protocol.Page, error) {
	limit, err := pageLimit(req.Limit, maxPage)
	if err != nil {
		return protocol.Page{}, err
	}
	after := req.AfterSeq
	state, err := s.state(ctx, who.User, req.ConversationID)
	switch {
	case isNotFound(err): // nothing said in it yet, or not theirs: History tells which
	case err != nil:
		return protocol.Page{}, err
	default:
		after = max(after, state.Delivered)
	}
	return s.History(ctx, who, protocol.History{ConversationID: req.ConversationID, AfterSeq: &after, Limit: limit})
}
