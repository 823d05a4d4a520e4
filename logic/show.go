package logic

import (
	"context"
	"errors"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Edits returns all that a message ever said, the present last.
func (s *Service) Edits(ctx context.Context, who im.Identity, c im.ConversationID, seq im.Seq) (protocol.Edits, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	place := im.Place{Conversation: c, Seq: seq}
	m, err := s.visible(ctx, who.User, place)
	if err != nil {
		return protocol.Edits{}, err
	}
	if m.RecalledAt != 0 {
		return protocol.Edits{}, im.ErrRecalled
	}
	former, err := s.deps.Records.FormerContents(ctx, place)
	if err != nil {
		return protocol.Edits{}, fmt.Errorf("edits: %w", storeError(err))
	}
	items := make([]protocol.Edit, 0, len(former)+1)
	var since uint64
	for _, f := range former {
		items = append(items, protocol.Edit{Change: since, Content: f.Content, At: f.At})
		since = f.Change
	}
	at := m.EditedAt
	if at == 0 {
		at = m.StoredAt
	}
	return protocol.Edits{Items: append(items, protocol.Edit{Change: m.EditChange, Content: m.Content, At: at})}, nil
}

// Reactors returns who reacted to a message in one way, by change, after a change.
func (s *Service) Reactors(ctx context.Context, who im.Identity, c im.ConversationID, seq im.Seq, reaction string, after uint64, limit int) (protocol.Reactors, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err != nil {
		return protocol.Reactors{}, err
	}
	if err := im.ValidateReaction(reaction); err != nil {
		return protocol.Reactors{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	place := im.Place{Conversation: c, Seq: seq}
	if _, err := s.visible(ctx, who.User, place); err != nil {
		return protocol.Reactors{}, err
	}
	found, more, err := s.deps.Records.Reactors(ctx, place, reaction, after, limit)
	if err != nil {
		return protocol.Reactors{}, fmt.Errorf("reactors: %w", storeError(err))
	}
	users := make([]im.UserID, len(found))
	for i, r := range found {
		users[i] = r.User
	}
	profiles, err := s.deps.Profiles.Profiles(ctx, users)
	if err != nil {
		return protocol.Reactors{}, fmt.Errorf("look up reactors: %w", storeError(err))
	}
	page := protocol.Reactors{Items: make([]protocol.Reactor, len(found)), HasMore: more}
	for i, r := range found {
		p, ok := profiles[r.User]
		if !ok {
			p.ID = r.User // gone since
		}
		page.Items[i] = protocol.Reactor{User: p, Reaction: r.Reaction, Change: r.Change}
	}
	if more {
		page.Next = fmt.Sprint(found[len(found)-1].Change)
	}
	return page, nil
}

// decorate makes stored messages what their reader sees: what they deleted for
// themselves is empty, their own reactions are marked, a quote of what was recalled
// since says so. deleted: they have deleted something where the messages are from.
func (s *Service) decorate(ctx context.Context, u im.UserID, items []im.Message, deleted func(im.ConversationID) bool) ([]im.Message, error) {
	shown := make([]im.Message, len(items)) // never nil, so that JSON shows an array
	var mayHide, reacted, quoted []im.Place
	for i, m := range items {
		shown[i] = m.ForReader(u)
		p := im.Place{Conversation: m.Conversation, Seq: m.Seq}
		if deleted(m.Conversation) {
			mayHide = append(mayHide, p)
		}
		if len(m.Reactions) > 0 {
			reacted = append(reacted, p)
		}
		if m.ReplyTo != nil {
			quoted = append(quoted, im.Place{Conversation: m.Conversation, Seq: m.ReplyTo.Seq})
		}
	}
	var hidden, gone map[im.Place]bool
	var own map[im.ReactionKey]bool
	var errs [3]error
	if len(mayHide) > 0 {
		hidden, errs[0] = s.deps.Records.HiddenAmong(ctx, u, mayHide)
	}
	if len(quoted) > 0 {
		gone, errs[1] = s.deps.Records.RecalledAmong(ctx, quoted)
	}
	if len(reacted) > 0 {
		own, errs[2] = s.deps.Records.OwnReactions(ctx, u, reacted)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for i := range shown {
		m := &shown[i]
		p := im.Place{Conversation: m.Conversation, Seq: m.Seq}
		if hidden[p] {
			m.Delete()
		}
		for k := range m.Reactions {
			m.Reactions[k].Mine = own[im.ReactionKey{Place: p, User: u, Reaction: m.Reactions[k].Reaction}]
		}
		if m.ReplyTo != nil && gone[im.Place{Conversation: m.Conversation, Seq: m.ReplyTo.Seq}] {
			quote := *m.ReplyTo
			quote.Text, quote.Recalled = "", true
			m.ReplyTo = &quote
		}
	}
	return shown, nil
}
