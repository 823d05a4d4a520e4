package api

import (
	"context"
	"net/http"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

var awaited = protocol.Scheduled{
	ScheduleID: 7, State: "failed", ConversationID: "d7-12", ClientMsgID: "01JF2K9M7S", DeliverAt: 1798761600000, Type: im.TypeText, Content: message.Content,
	ReplyTo: &protocol.MessageRef{ConversationID: "d7-12", Seq: 3}, Mentions: []im.UserID{12}, ByServer: true, Reason: "blocked", CreatedAt: 1, UpdatedAt: 2,
}

func (f *fake) ScheduledList(_ context.Context, _ im.Identity, ask protocol.AskScheduled) (protocol.ScheduledPage, error) {
	f.lastAsk = ask
	return protocol.ScheduledPage{Items: []protocol.Scheduled{awaited}, HasMore: true, Next: "1798761600000-7"}, f.err()
}
func (f *fake) ScheduledOne(context.Context, im.Identity, im.ScheduleID) (protocol.Scheduled, error) {
	return awaited, f.err()
}
func (f *fake) ChangeScheduled(_ context.Context, _ im.Identity, _ im.ScheduleID, req protocol.ChangeScheduled) (protocol.Scheduled, error) {
	f.lastPatch = req
	return awaited, f.err()
}
func (f *fake) CancelScheduled(context.Context, im.Identity, im.ScheduleID) (protocol.Scheduled, error) {
	return awaited, f.err()
}
func (f *fake) SendScheduled(context.Context, im.Identity, im.ScheduleID) (protocol.Scheduled, error) {
	return awaited, f.err()
}
func (f *fake) ServerScheduledOne(context.Context, im.ScheduleID) (protocol.Scheduled, error) {
	return awaited, f.err()
}
func (f *fake) ServerCancelScheduled(context.Context, im.ScheduleID) (protocol.Scheduled, error) {
	return awaited, f.err()
}

func TestScheduled_TheQueryIsReadAndHeldToItsForm(t *testing.T) {
	f := newFace(t)
	ask := func(query string) int {
		return f.do(request{method: "GET", path: "/v1/scheduled" + query, auth: asUser}).Code
	}
	if code := ask("?state=in_queue&conversation_id=c4&after=5-6&limit=7"); code != http.StatusOK ||
		f.lastAsk != (protocol.AskScheduled{State: im.ScheduleQueued, ConversationID: "c4", After: "5-6", Limit: 7}) {
		t.Errorf("%d %+v", code, f.lastAsk)
	}
	if code := ask(""); code != http.StatusOK || f.lastAsk != (protocol.AskScheduled{}) {
		t.Errorf("%d %+v", code, f.lastAsk)
	}
	for _, bad := range []string{"?state=maybe", "?state=sent&state=failed", "?conversation_id=x", "?conversation_id=c4&conversation_id=c5", "?limit=0", "?limit=-1", "?after=a&after=b"} {
		if code := ask(bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, code)
		}
	}
	for _, bad := range []string{"x", "-1", "07", "9007199254740992"} {
		want(t, bad, f.do(request{method: "DELETE", path: "/v1/scheduled/" + bad, auth: asUser}), http.StatusBadRequest, "invalid_request")
	}
}

func TestScheduled_ASendWithATimeIsAnswered201(t *testing.T) {
	f := newFace(t)
	id := im.ScheduleID(7)
	f.sent.State, f.sent.ScheduleID, f.sent.DeliverAt = protocol.StateScheduled, &id, 1798761600000
	body := `{"client_msg_id":"01JF2K9M7S","to":{"user_id":"12"},"content":{"text":"x"},"deliver_at":1798761600000}`
	for _, path := range []string{"/v1/messages", "/v1/messages?wait=stored"} {
		want(t, path, f.do(request{method: "POST", path: path, auth: asUser, body: body}), http.StatusCreated, "")
		if f.lastSend.DeliverAt != 1798761600000 {
			t.Errorf("%+v", f.lastSend)
		}
	}
	f.fail = im.ErrScheduleFinal
	want(t, "repeated after the end", f.do(request{method: "POST", path: "/v1/messages", auth: asUser, body: body}), http.StatusConflict, "schedule_final")
	want(t, "cancelled after the end", f.do(request{method: "DELETE", path: "/v1/scheduled/7", auth: asUser}), http.StatusConflict, "schedule_final")
}
