package logic

import (
	"context"
	"errors"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Handle takes the next message of a session and answers it exactly once. Sends and
// receipts are answered when the log has them, the rest before Handle returns.
func (s *Service) Handle(ctx context.Context, session *im.Session, message []byte, answer func(protocol.Answer)) {
	req, err := protocol.DecodeRequest(message)
	if err != nil {
		if req.Cmd == protocol.CmdSend {
			s.refuse(err)
		}
		s.answer(req, nil, err, answer)
		return
	}
	switch req.Cmd {
	case protocol.CmdConnect, protocol.CmdRefresh, protocol.CmdPing: // which see to it themselves
	default:
		if !s.stands(ctx, session) {
			s.answer(req, nil, im.ErrUnauthenticated, answer)
			return
		}
	}
	switch req.Cmd {
	case protocol.CmdSend:
		s.handleSend(ctx, session, req, answer)
	case protocol.CmdAck, protocol.CmdRead:
		s.handleReceipt(ctx, session, req, answer)
	case protocol.CmdChange:
		s.handleChange(ctx, session, req, answer)
	case protocol.CmdDeleteMessages:
		s.handleDeleteMessages(ctx, session, req, answer)
	case protocol.CmdDeletions:
		data, err := decoded(req, func(r protocol.AskDeletions) (protocol.Deletions, error) {
			return s.Deletions(ctx, session.Identity, r.ConversationID, r.After, r.Limit)
		})
		s.answer(req, data, err, answer)
	case protocol.CmdConnect:
		s.count(req.Cmd, im.ErrForbidden)
		answer(protocol.Answer{Frame: s.reply(req.ID, nil, im.ErrForbidden), Close: closeOf(im.ErrForbidden)})
	case protocol.CmdRefresh:
		s.handleRefresh(ctx, session, req, answer)
	case protocol.CmdPresence:
		s.handlePresence(ctx, session, req, answer)
	case protocol.CmdTyping:
		data, err := decoded(req, func(r protocol.Typing) (protocol.Typing, error) { return r, s.types(ctx, session, r) })
		s.answer(req, data, err, answer)
	case protocol.CmdPing:
		data, err := decoded(req, func(p protocol.Ping) (protocol.Pong, error) { return s.ping(ctx, session, p) })
		s.answer(req, data, err, answer)
	case protocol.CmdSync:
		data, err := decoded(req, func(r protocol.Sync) (protocol.Synced, error) { return s.Sync(ctx, session.Identity, r) })
		s.answer(req, data, err, answer)
	case protocol.CmdHistory:
		data, err := decoded(req, func(r protocol.History) (protocol.Page, error) { return s.History(ctx, session.Identity, r) })
		s.answer(req, data, err, answer)
	case protocol.CmdOffline:
		data, err := decoded(req, func(r protocol.OfflinePull) (protocol.Page, error) { return s.OfflinePull(ctx, session.Identity, r) })
		s.answer(req, data, err, answer)
	case protocol.CmdSettings:
		data, err := decoded(req, func(r protocol.SettingsOf) (protocol.ConversationSettings, error) {
			return s.ChangeSettings(ctx, session.Identity, r.ConversationID, r.ChangeSettings)
		})
		s.answer(req, data, err, answer)
	case protocol.CmdDelete:
		data, err := decoded(req, func(r protocol.DeleteConversation) (protocol.ConversationSettings, error) {
			return s.DeleteConversation(ctx, session.Identity, r)
		})
		s.answer(req, data, err, answer)
	default:
		s.answer(req, nil, im.ErrUnsupported, answer)
	}
}

// decoded runs a command on its data.
func decoded[In, Out any](req protocol.Request, run func(In) (Out, error)) (any, error) {
	var in In
	if err := protocol.DecodeData(req.Data, &in); err != nil {
		return nil, err
	}
	return run(in)
}

func (s *Service) handleSend(ctx context.Context, session *im.Session, req protocol.Request, answer func(protocol.Answer)) {
	var m protocol.Send
	if err := protocol.DecodeData(req.Data, &m); err != nil {
		s.refuse(err)
		s.answer(req, nil, err, answer)
		return
	}
	s.Send(ctx, session, m, func(sent protocol.Sent, err error) {
		s.answer(req, sent, err, answer)
	})
}

func (s *Service) handleReceipt(ctx context.Context, session *im.Session, req protocol.Request, answer func(protocol.Answer)) {
	var r protocol.Receipt
	if err := protocol.DecodeData(req.Data, &r); err != nil {
		s.answer(req, nil, err, answer)
		return
	}
	move := protocol.Receipts{DeliveredSeq: r.Seq}
	if req.Cmd == protocol.CmdRead {
		move = protocol.Receipts{ReadSeq: r.Seq}
	}
	s.moveCursors(ctx, session.Identity, r.ConversationID, move, func(at protocol.Receipts, err error) {
		r.Seq = at.DeliveredSeq
		if req.Cmd == protocol.CmdRead {
			r.Seq = at.ReadSeq
		}
		s.answer(req, r, err, answer)
	})
}

func (s *Service) handleChange(ctx context.Context, session *im.Session, req protocol.Request, answer func(protocol.Answer)) {
	var c protocol.Change
	if err := protocol.DecodeData(req.Data, &c); err != nil {
		s.answer(req, nil, err, answer)
		return
	}
	from := im.Origin{Node: session.Node, Session: session.ID}
	s.Change(ctx, session.Identity, from, c, func(a protocol.ChangeAnswer, err error) { s.answer(req, a, err, answer) })
}

func (s *Service) handleDeleteMessages(ctx context.Context, session *im.Session, req protocol.Request, answer func(protocol.Answer)) {
	var d protocol.DeleteMessages
	if err := protocol.DecodeData(req.Data, &d); err != nil {
		s.answer(req, nil, err, answer)
		return
	}
	s.DeleteMessages(ctx, session.Identity, d, func(err error) { s.answer(req, d, err, answer) })
}

func (s *Service) handleRefresh(ctx context.Context, session *im.Session, req protocol.Request, answer func(protocol.Answer)) {
	var r protocol.Refresh
	err := protocol.DecodeData(req.Data, &r)
	var who im.Identity
	if err == nil {
		who, err = s.refresh(ctx, session, r)
	}
	if err != nil {
		s.answer(req, nil, err, answer)
		return
	}
	s.count(req.Cmd, nil)
	answer(protocol.Answer{Frame: s.reply(req.ID, protocol.Refreshed{ExpiresAt: who.ExpiresAt}, nil), Identity: &who})
}

// answer replies, and ends a session that is known to be no longer good.
func (s *Service) answer(req protocol.Request, data any, err error, answer func(protocol.Answer)) {
	s.count(req.Cmd, err)
	a := protocol.Answer{}
	switch {
	case err == nil:
		a.Frame = s.reply(req.ID, data, nil)
	case req.Cmd == protocol.CmdSend, req.Cmd == protocol.CmdChange:
		a.Frame = s.encode(protocol.Reply{ID: req.ID, Error: protocol.NewSendError(err)}, err)
	default:
		a.Frame = s.reply(req.ID, nil, err)
	}
	if errors.Is(err, im.ErrUnauthenticated) || req.Cmd == protocol.CmdRefresh && errors.Is(err, im.ErrForbidden) {
		a.Close = closeOf(err)
	}
	answer(a)
}

func (s *Service) reply(id string, data any, err error) []byte {
	if err != nil {
		return s.encode(protocol.Reply{ID: id, Error: protocol.NewError(err)}, err)
	}
	return s.encode(protocol.Reply{ID: id, Data: data}, nil)
}

// encode logs what the client sees as "internal" only.
func (s *Service) encode(r protocol.Reply, cause error) []byte {
	if r.Error != nil && r.Error.Code == "internal" {
		s.log.Error("request failed", "err", cause)
	}
	frame, err := protocol.EncodeReply(r)
	if err != nil {
		s.log.Error("reply cannot be encoded", "err", err)
		frame, _ = protocol.EncodeReply(protocol.Reply{ID: r.ID, Error: protocol.NewError(err)}) // plain strings always can
	}
	return frame
}

// count keeps the labels to the commands there are.
func (s *Service) count(cmd protocol.Command, err error) {
	switch cmd {
	case protocol.CmdConnect, protocol.CmdSend, protocol.CmdAck, protocol.CmdRead, protocol.CmdSync,
		protocol.CmdHistory, protocol.CmdOffline, protocol.CmdRefresh, protocol.CmdPing, protocol.CmdPresence, protocol.CmdTyping,
		protocol.CmdChange, protocol.CmdDeleteMessages, protocol.CmdDeletions, protocol.CmdSettings, protocol.CmdDelete:
	default:
		cmd = "unknown"
	}
	code := "ok"
	if err != nil {
		code = protocol.CodeOf(err).Name
	}
	s.metrics.requests.WithLabelValues(string(cmd), code).Inc()
}
