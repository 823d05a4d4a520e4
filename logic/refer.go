package logic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// encodeRefs is what else a send says, for its hash; nil for nothing.
func encodeRefs(req *protocol.Send) (json.RawMessage, error) {
	if req.ReplyTo == nil && req.Forward == nil && len(req.Mentions) == 0 && !req.MentionsAll {
		return nil, nil
	}
	return protocol.EncodeJSON(protocol.Send{ReplyTo: req.ReplyTo, Forward: req.Forward, Mentions: req.Mentions, MentionsAll: req.MentionsAll})
}

// refer looks up what a send refers to: whom it mentions, what it replies to, what it
// forwards, which becomes its content.
func (s *Service) refer(ctx context.Context, from im.UserID, conv im.ConversationID, req *protocol.Send, b body) (body, im.About, error) {
	var about im.About
	if len(b.refs) == 0 {
		return b, about, nil
	}
	var err error
	if about.Mentions, err = s.mentioned(ctx, conv, req.Mentions); err != nil {
		return b, about, err
	}
	if about.MentionsAll = req.MentionsAll; req.MentionsAll {
		if err := s.mayMentionAll(ctx, from, conv); err != nil {
			return b, about, err
		}
	}
	if r := req.ReplyTo; r != nil {
		if r.ConversationID != "" && r.ConversationID != conv {
			return b, about, im.Invalid("reply_to", "is in another conversation")
		}
		m, err := s.referred(ctx, from, im.Place{Conversation: conv, Seq: r.Seq}, "reply_to")
		if err != nil {
			return b, about, err
		}
		about.ReplyTo = quote(m)
	}
	if r := req.Forward; r != nil {
		m, err := s.referred(ctx, from, im.Place{Conversation: r.ConversationID, Seq: r.Seq}, "forward")
		if err != nil {
			return b, about, err
		}
		if isSystem(m.Type) {
			return b, about, im.Invalid("forward", "what the system says cannot be forwarded")
		}
		about.ForwardedFrom = m.ForwardedFrom
		if about.ForwardedFrom == nil {
			about.ForwardedFrom = &im.ForwardedFrom{Nickname: m.Sender.Nickname}
		}
		if b, err = forwarded(m, b.refs); err != nil {
			return b, about, err
		}
	}
	return b, about, nil
}

// referred is a message that may be replied to or forwarded.
func (s *Service) referred(ctx context.Context, u im.UserID, p im.Place, field string) (im.Message, error) {
	m, err := s.visible(ctx, u, p)
	switch {
	case isNotFound(err):
		return m, im.Invalid(field, "there is no such message")
	case err != nil:
		return m, fmt.Errorf("%s: %w", field, err)
	case m.RecalledAt != 0:
		return m, im.ErrRecalled
	}
	return m, nil
}

// mentioned checks that all are members of the conversation now.
func (s *Service) mentioned(ctx context.Context, conv im.ConversationID, users []im.UserID) ([]im.UserID, error) {
	if len(users) > im.MaxMentions {
		return nil, im.Invalid("mentions", "at most 50")
	}
	users = slices.Clone(users)
	slices.Sort(users)
	users = slices.Compact(users)
	member := func(u im.UserID) bool {
		_, in := conv.Peer(u)
		return in && u != im.SystemUser
	}
	if _, channel := conv.Channel(); channel && len(users) > 0 {
		in, err := s.deps.Records.MembersAmong(ctx, conv, users)
		if err != nil {
			return nil, fmt.Errorf("mentions: %w", storeError(err))
		}
		member = func(u im.UserID) bool { return in[u] }
	}
	for _, u := range users {
		if !member(u) {
			return nil, im.Invalid("mentions", "not a member of the conversation")
		}
	}
	return users, nil
}

// mayMentionAll lets the admins of a channel mention everyone in it.
func (s *Service) mayMentionAll(ctx context.Context, from im.UserID, conv im.ConversationID) error {
	if _, channel := conv.Channel(); !channel {
		return im.Invalid("mentions_all", "in a channel only")
	}
	may, err := s.members.manages(ctx, from, conv)
	if err == nil && !may {
		err = im.ErrForbidden
	}
	return err
}

// quote is the beginning of a message, as a reply carries it.
func quote(m im.Message) *im.Quote {
	q := &im.Quote{Seq: m.Seq, Sender: m.Sender, Type: m.Type}
	q.Text, _ = words(m.Type, m.Content) // what is stored can be read
	q.Text = strings.Join(strings.Fields(q.Text), " ")
	n := 0
	for i := range q.Text {
		if n == im.QuoteLength {
			q.Text = q.Text[:i]
			break
		}
		n++
	}
	return q
}

// forwarded is a stored message's content as that of another.
func forwarded(m im.Message, refs json.RawMessage) (body, error) {
	text, err := words(m.Type, m.Content)
	if err != nil {
		return body{}, errors.Join(im.ErrUnsupported, err)
	}
	return body{kind: m.Type, content: m.Content, text: text, refs: refs}, nil
}
