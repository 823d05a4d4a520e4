package logic

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// settingsPerMinute bounds what one user sets and deletes: each is a commit of its own.
// A client saves a draft when its user pauses or leaves.
const settingsPerMinute = 120

// ChangeSettings pins, mutes, marks, hides or keeps the draft of a conversation, for
// all of the user's devices; those that are connected are told ([L10]). im.ErrNotFound
// where the conversation is not theirs or nothing was said in it yet, im.ErrConflict,
// im.FullError, im.LimitError.
func (s *Service) ChangeSettings(ctx context.Context, who im.Identity, c im.ConversationID, req protocol.ChangeSettings) (protocol.ConversationSettings, error) {
	ch := im.SettingsChange{
		Version: req.Version, Pinned: req.Pinned, MutedUntil: req.MutedUntil, MarkedUnread: req.MarkedUnread,
		Hidden: req.HiddenSeq, Draft: req.Draft, Device: who.Device,
	}
	if err := ch.Validate(); err != nil {
		return protocol.ConversationSettings{}, err
	}
	if err := s.asks.take(ctx, "settings", "u:"+who.User.String(), settingsPerMinute); err != nil {
		return protocol.ConversationSettings{}, err
	}
	return s.changeSettings(ctx, who, c, ch)
}

func (s *Service) changeSettings(ctx context.Context, who im.Identity, c im.ConversationID, ch im.SettingsChange) (protocol.ConversationSettings, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	row, err := s.deps.Settings.ChangeSettings(ctx, who.User, c, ch)
	if err != nil {
		return protocol.ConversationSettings{}, fmt.Errorf("change settings of %s: %w", c, storeError(err))
	}
	return s.settled(ctx, who, row), nil
}

// DeleteConversation takes what was said up to a seq away from the user, and the
// conversation out of their list until something is said after it. The other side
// keeps all of it. Again is as once.
func (s *Service) DeleteConversation(ctx context.Context, who im.Identity, req protocol.DeleteConversation) (protocol.ConversationSettings, error) {
	if req.UpToSeq == 0 {
		return protocol.ConversationSettings{}, im.Invalid("up_to_seq", "must be at least 1")
	}
	if err := s.asks.take(ctx, "settings", "u:"+who.User.String(), settingsPerMinute); err != nil {
		return protocol.ConversationSettings{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	row, err := s.deps.Settings.DeleteConversation(ctx, who.User, req.ConversationID, req.UpToSeq)
	if err != nil {
		return protocol.ConversationSettings{}, fmt.Errorf("delete %s: %w", req.ConversationID, storeError(err))
	}
	return s.settled(ctx, who, row), nil
}

// unmark ends a mark because the user reads. The read cursor alone need not move by it:
// all may have been read when it was marked.
func (s *Service) unmark(ctx context.Context, who im.Identity, c im.ConversationID) error {
	no := false
	_, err := s.changeSettings(ctx, who, c, im.SettingsChange{MarkedUnread: &no})
	return err
}

// settled shows a row, and tells it to the user's other devices where it has changed.
func (s *Service) settled(ctx context.Context, who im.Identity, row im.SettingsRow) protocol.ConversationSettings {
	shown := protocol.ConversationSettings{
		ConversationID: row.Conversation, FloorSeq: row.Floor, Settings: protocol.ShowSettings(row.Settings, &row.Draft),
	}
	if !row.Changed {
		return shown
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer cancel()
	if err := s.tellSettings(ctx, who, shown); err != nil {
		s.metrics.untold.Inc()
		if !away(err) {
			s.log.Warn("settings not told", "user", who.User, "conv", row.Conversation, "err", err)
		}
	}
	return shown
}

func (s *Service) tellSettings(ctx context.Context, who im.Identity, shown protocol.ConversationSettings) error {
	sessions, err := s.deps.Sessions.Sessions(ctx, []im.UserID{who.User})
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	frame, err := protocol.EncodePush(protocol.PushFrame{Push: protocol.PushSettings, Data: shown})
	if err != nil {
		return err
	}
	batches := make(map[im.NodeID][]byte)
	for _, ref := range sessions[who.User] {
		if ref.Device != who.Device { // which has the answer
			batches[ref.Node] = protocol.AppendDelivery(batches[ref.Node], &protocol.Delivery{
				Users: []im.UserID{who.User}, Only: ref.Session, Frame: frame,
			})
		}
	}
	if len(batches) == 0 {
		return nil
	}
	return s.deps.Bus.Publish(ctx, batches)
}

// drafts reads the texts of drafts; read is false where MySQL could not tell.
func (s *Service) drafts(ctx context.Context, u im.UserID, convs []im.ConversationID) (drafts map[im.ConversationID]im.Draft, read bool) {
	if len(convs) == 0 {
		return nil, true
	}
	drafts, err := s.deps.Settings.Drafts(ctx, u, convs)
	if err != nil {
		s.logUnlessAway("drafts", err)
	}
	return drafts, err == nil
}
