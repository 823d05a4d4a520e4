package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Schedule has a message sent at a time. The same client message ID again is answered
// with what was scheduled under it; an empty one is filled in.
func (h *HTTP) Schedule(ctx context.Context, m protocol.Send, at time.Time) (protocol.Sent, error) {
	if m.ClientMsgID == "" {
		m.ClientMsgID = NewClientMsgID()
	}
	m.DeliverAt = at.UnixMilli()
	return h.Send(ctx, m, false)
}

// Scheduled pages through what this user has scheduled, in one state, by time; After is
// the last page's Next.
func (h *HTTP) Scheduled(ctx context.Context, ask protocol.AskScheduled) (p protocol.ScheduledPage, err error) {
	q := url.Values{"state": {ask.State.String()}}
	if ask.ConversationID != "" {
		q.Set("conversation_id", string(ask.ConversationID))
	}
	if ask.After != "" {
		q.Set("after", ask.After)
	}
	if ask.Limit > 0 {
		q.Set("limit", strconv.Itoa(ask.Limit))
	}
	return p, h.Do(ctx, http.MethodGet, "/v1/scheduled?"+q.Encode(), nil, &p)
}

// ScheduledOne is one of this user's scheduled messages.
func (h *HTTP) ScheduledOne(ctx context.Context, id im.ScheduleID) (s protocol.Scheduled, err error) {
	return s, h.Do(ctx, http.MethodGet, "/v1/scheduled/"+id.String(), nil, &s)
}

// ChangeScheduled gives a pending message another content or time.
func (h *HTTP) ChangeScheduled(ctx context.Context, id im.ScheduleID, change protocol.ChangeScheduled) (s protocol.Scheduled, err error) {
	return s, h.Do(ctx, http.MethodPatch, "/v1/scheduled/"+id.String(), change, &s)
}

// CancelScheduled cancels a pending message: it never appears.
func (h *HTTP) CancelScheduled(ctx context.Context, id im.ScheduleID) (s protocol.Scheduled, err error) {
	return s, h.Do(ctx, http.MethodDelete, "/v1/scheduled/"+id.String(), nil, &s)
}

// SendScheduled makes a pending message due.
func (h *HTTP) SendScheduled(ctx context.Context, id im.ScheduleID) (s protocol.Scheduled, err error) {
	return s, h.Do(ctx, http.MethodPost, "/v1/scheduled/"+id.String()+"/send", nil, &s)
}
