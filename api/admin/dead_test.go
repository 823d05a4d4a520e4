package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// letters are dead letters in memory.
type letters struct {
	asked  []string
	all    []im.DeadLetter
	resent bool
	err    error
}

func newLetters() *letters {
	return &letters{all: []im.DeadLetter{
		{ID: 3, Topic: "im.realtime", Partition: 1, Offset: 9, Key: im.SendKey{Conversation: "d1-2", Sender: 1, ClientMsgID: "message-1"},
			Reason: "unstorable", ParkedAt: 1_700_000_000_000, Payload: []byte("record")},
		{ID: 4, Topic: "im.retry", Reason: "the webhook answered 400", Attempts: 1, ParkedAt: 1_700_000_000_001, Payload: []byte("other")},
		{ID: 5, Topic: "im.realtime", Reason: "undecodable record", ParkedAt: 1_700_000_000_002, Payload: []byte{0xff}},
	}}
}

func (l *letters) List(_ context.Context, lane im.Lane, q im.DeadQuery) (all []im.DeadLetter, more bool, err error) {
	state := "any"
	if q.State != nil {
		state = q.State.String()
	}
	l.asked = append(l.asked, fmt.Sprintf("list %s %s %s %d", lane, state, q.After, q.Limit))
	if len(l.all) > q.Limit {
		return l.all[:q.Limit], true, l.err
	}
	return l.all, false, l.err
}

func (l *letters) Letter(_ context.Context, id im.DeadID) (im.DeadLetter, im.Task, string, error) {
	switch id {
	case 3:
		return l.all[0], im.Task{Conversation: "d1-2", Send: &im.SendTask{Sender: im.Sender{ID: 1}, ClientMsgID: "message-1", Type: im.TypeText,
			Content: json.RawMessage(`{"text":"private"}`)}}, "", l.err
	case 4:
		return l.all[1], im.Task{Conversation: "c5", Notify: &im.NotifyTask{Seq: 3}}, "", l.err
	case 5:
		return l.all[2], im.Task{}, "undecodable record: version 255", l.err
	}
	return im.DeadLetter{}, im.Task{}, "", im.ErrNotFound
}

func (l *letters) Replay(_ context.Context, id im.DeadID, force bool) error {
	l.asked = append(l.asked, fmt.Sprintf("replay %s %v", id, force))
	if l.resent && !force {
		return &im.ResentError{Copies: []im.StoredCopy{{Seq: 8, ClientMsgID: "message-2", StoredAt: 1_700_000_000_009}}}
	}
	return l.err
}

func (l *letters) Discard(_ context.Context, id im.DeadID) error {
	l.asked = append(l.asked, "discard "+id.String())
	return l.err
}

func TestDead_IsListedInPagesWithoutWhatPeopleSaid(t *testing.T) {
	s, _ := newServer(t, Config{})
	l := s.deps.Dead.(*letters)
	w := ask(t, s, "GET", "/v1/admin/dead?state=open&lane=retry&after=2&limit=2", "")
	var page DeadLetters
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if len(page.Items) != 2 || page.After != "4" || page.Items[0].State != "open" || page.Items[0].Bytes != 6 || strings.Contains(w.Body.String(), "payload") {
		t.Errorf("%s", w.Body)
	}
	if w := ask(t, s, "GET", "/v1/admin/dead", ""); w.Code != 200 || strings.Contains(w.Body.String(), "after") {
		t.Errorf("all: %d %s", w.Code, w.Body)
	}
	if got := strings.Join(l.asked, ", "); got != "list retry open 2 2, list  any 0 50" {
		t.Errorf("asked %s", got)
	}
	for _, bad := range []string{"state=x", "lane=x", "after=x", "after=-1", "limit=0", "limit=101", "limit=x", "order=id"} {
		if w := ask(t, s, "GET", "/v1/admin/dead?"+bad, ""); w.Code != 400 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestDead_WhatItHoldsIsShownWhereAskedFor(t *testing.T) {
	s, _ := newServer(t, Config{})
	if w := ask(t, s, "GET", "/v1/admin/dead/3", ""); w.Code != 200 || strings.Contains(w.Body.String(), "private") || !strings.Contains(w.Body.String(), `"kind":"message"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, s, "GET", "/v1/admin/dead/3?payload=true", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "private") || !strings.Contains(w.Body.String(), `"record":"cmVjb3Jk"`) {
		t.Errorf("with the payload: %d %s", w.Code, w.Body)
	}
	if w := ask(t, s, "GET", "/v1/admin/dead/4?payload=true", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"conversation_id":"c5"`) {
		t.Errorf("a notification: %d %s", w.Code, w.Body)
	}
	if w := ask(t, s, "GET", "/v1/admin/dead/5?payload=true", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "version 255") || !strings.Contains(w.Body.String(), `"record":"/w=="`) {
		t.Errorf("unreadable: %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/v1/admin/dead/9", "/v1/admin/dead/x", "/v1/admin/dead/03"} {
		if w := ask(t, s, "GET", path, ""); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestDead_IsReplayedOrDiscarded(t *testing.T) {
	s, _ := newServer(t, Config{})
	l := s.deps.Dead.(*letters)
	for _, c := range []struct{ path, body string }{
		{"/v1/admin/dead/3/replay", ""}, {"/v1/admin/dead/3/replay", `{}`}, {"/v1/admin/dead/3/replay", `{"force":true}`}, {"/v1/admin/dead/4/discard", ""},
	} {
		if w := ask(t, s, "POST", c.path, c.body); w.Code != 204 {
			t.Errorf("%s %s: %d %s", c.path, c.body, w.Code, w.Body)
		}
	}
	if got := strings.Join(l.asked, ", "); got != "replay 3 false, replay 3 false, replay 3 true, discard 4" {
		t.Errorf("asked %s", got)
	}
	for _, body := range []string{`{"forced":true}`, `[]`, `{}{}`} {
		if w := ask(t, s, "POST", "/v1/admin/dead/3/replay", body); w.Code != 400 {
			t.Errorf("%s: %d", body, w.Code)
		}
	}
	l.resent = true
	if w := ask(t, s, "POST", "/v1/admin/dead/3/replay", ""); w.Code != 409 || !strings.Contains(w.Body.String(), `"code":"resent_since"`) ||
		!strings.Contains(w.Body.String(), `"copies":[{"seq":8,"client_msg_id":"message-2","stored_at":1700000000009}]`) {
		t.Errorf("resent: %d %s", w.Code, w.Body)
	}
	for err, want := range map[error]int{im.ErrConflict: 409, im.ErrUnstorable: 422, im.ErrNotFound: 404, im.ErrQueue: 503, im.ErrStore: 503} {
		l.err, l.resent = fmt.Errorf("10.0.0.5: %w", err), false
		if w := ask(t, s, "POST", "/v1/admin/dead/3/replay", ""); w.Code != want || strings.Contains(w.Body.String(), "10.0") {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}
