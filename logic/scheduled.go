package logic

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// ScheduledList pages through what the user has scheduled, in one state, by due time.
func (s *Service) ScheduledList(ctx context.Context, who im.Identity, ask protocol.AskScheduled) (protocol.ScheduledPage, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	limit, err := pageLimit(ask.Limit, defaultPage)
	if err != nil {
		return protocol.ScheduledPage{}, err
	}
	q := im.ScheduledQuery{Sender: who.User, State: ask.State, Conversation: ask.ConversationID, Limit: limit}
	if q.After, err = parseAfter(ask.After); err != nil {
		return protocol.ScheduledPage{}, err
	}
	rows, more, err := s.deps.Schedules.ScheduledOf(ctx, q)
	if err != nil {
		return protocol.ScheduledPage{}, fmt.Errorf("scheduled messages: %w", storeError(err))
	}
	page := protocol.ScheduledPage{Items: make([]protocol.Scheduled, len(rows)), HasMore: more}
	for i := range rows {
		if page.Items[i], err = showScheduled(&rows[i]); err != nil {
			return protocol.ScheduledPage{}, err
		}
	}
	if more {
		last := &rows[len(rows)-1]
		page.Next = fmt.Sprintf("%d-%d", last.DueAt, last.ID)
	}
	return page, nil
}

// parseAfter reads where a page begins: "<deliver_at>-<schedule_id>".
func parseAfter(s string) (at im.FireTask, err error) {
	if s == "" {
		return at, nil
	}
	due, id, _ := strings.Cut(s, "-")
	n, err := strconv.ParseUint(due, 10, 53)
	if err == nil {
		at.DueAt = int64(n)
		at.Schedule, err = im.ParseScheduleID(id)
	}
	if err != nil {
		return at, im.Invalid("after", "not the next of a page")
	}
	return at, nil
}

func showScheduled(row *im.Scheduled) (protocol.Scheduled, error) {
	r, err := decodeRequest(row)
	return protocol.Scheduled{
		ScheduleID: row.ID, State: row.State.String(), ConversationID: row.Conversation, ClientMsgID: row.ClientMsgID, DeliverAt: row.DueAt,
		Type: r.Type, Content: r.Content, ReplyTo: r.ReplyTo, Forward: r.Forward, Mentions: r.Mentions, MentionsAll: r.MentionsAll,
		ByServer: row.ByServer, Reason: row.Reason, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}, err
}

// ScheduledOne is one of the user's own; anybody else's is im.ErrNotFound ([L5]).
func (s *Service) ScheduledOne(ctx context.Context, who im.Identity, id im.ScheduleID) (protocol.Scheduled, error) {
	return s.withScheduled(ctx, id, ownedBy(who), nil)
}

// ChangeScheduled gives a pending message another content or another time.
// im.ErrScheduleFinal where it is pending no more.
func (s *Service) ChangeScheduled(ctx context.Context, who im.Identity, id im.ScheduleID, req protocol.ChangeScheduled) (protocol.Scheduled, error) {
	if len(req.Content) == 0 && req.DeliverAt == nil {
		return protocol.Scheduled{}, im.Invalid("content", "give content, deliver_at or both")
	}
	if req.DeliverAt != nil {
		if err := checkDue(*req.DeliverAt, s.now()); err != nil {
			return protocol.Scheduled{}, err
		}
	}
	return s.withScheduled(ctx, id, ownedBy(who), func(ctx context.Context, row *im.Scheduled) (p im.SchedulePatch, err error) {
		p.DueAt = req.DeliverAt
		if err := s.limit.Take(ctx, who.User); err != nil || len(req.Content) == 0 {
			return p, err
		}
		if row.State != im.SchedulePending {
			return p, im.ErrScheduleFinal
		}
		r, err := decodeRequest(row)
		if err != nil {
			return p, err
		}
		if r.Forward != nil {
			return p, im.Invalid("content", "of what is forwarded cannot be changed")
		}
		r.Content = req.Content
		a := author{user: row.Sender, byServer: row.ByServer, away: true}
		w, err := s.word(ctx, a, &r.Send)
		if err != nil {
			return p, err
		}
		w.hash = row.Hash // as edits do, a change keeps the hash of what was asked for first
		if _, _, _, err := s.judge(ctx, a, &r.Send, &w, s.now()); err != nil {
			return p, err
		}
		p.Request, err = encodeRequest(&r.Send, &w)
		return p, err
	})
}

// CancelScheduled cancels a pending message: it never appears. Again is as once.
func (s *Service) CancelScheduled(ctx context.Context, who im.Identity, id im.ScheduleID) (protocol.Scheduled, error) {
	return s.withScheduled(ctx, id, ownedBy(who), cancelled)
}

// SendScheduled makes a pending message due.
func (s *Service) SendScheduled(ctx context.Context, who im.Identity, id im.ScheduleID) (protocol.Scheduled, error) {
	return s.withScheduled(ctx, id, ownedBy(who), func(ctx context.Context, _ *im.Scheduled) (im.SchedulePatch, error) {
		now := int64(1) // what is past is due at once
		return im.SchedulePatch{DueAt: &now}, s.limit.Take(ctx, who.User)
	})
}

// ServerScheduledOne is one that a backend has scheduled.
func (s *Service) ServerScheduledOne(ctx context.Context, id im.ScheduleID) (protocol.Scheduled, error) {
	return s.withScheduled(ctx, id, byBackend, nil)
}

// ServerCancelScheduled cancels one that a backend has scheduled.
func (s *Service) ServerCancelScheduled(ctx context.Context, id im.ScheduleID) (protocol.Scheduled, error) {
	return s.withScheduled(ctx, id, byBackend, cancelled)
}

func ownedBy(who im.Identity) func(*im.Scheduled) bool {
	return func(row *im.Scheduled) bool { return row.Sender == who.User }
}

func byBackend(row *im.Scheduled) bool { return row.ByServer }

func cancelled(context.Context, *im.Scheduled) (im.SchedulePatch, error) {
	return im.SchedulePatch{Cancel: true}, nil
}

// withScheduled shows a row that is the caller's, after a change of it where there is one.
func (s *Service) withScheduled(ctx context.Context, id im.ScheduleID, theirs func(*im.Scheduled) bool,
	change func(context.Context, *im.Scheduled) (im.SchedulePatch, error)) (protocol.Scheduled, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	row, err := s.deps.Schedules.Scheduled(ctx, id)
	if err == nil && !theirs(&row) {
		err = im.ErrNotFound
	}
	if err != nil {
		return protocol.Scheduled{}, fmt.Errorf("scheduled message: %w", storeError(err))
	}
	if change != nil {
		p, err := change(ctx, &row)
		if err != nil {
			return protocol.Scheduled{}, err
		}
		if row, err = s.deps.Schedules.ChangeScheduled(ctx, id, p); err != nil {
			return protocol.Scheduled{}, fmt.Errorf("change a scheduled message: %w", storeError(err))
		}
	}
	return showScheduled(&row)
}
