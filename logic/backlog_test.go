package logic

import (
	"errors"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func (w *world) Backlog(im.ConversationID) im.Backlog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.behind
}

func (w *world) Least() im.Backlog { return w.Backlog("") }

// [L14]
func TestBacklog_PastABoundIsOverloadedWithATimeToComeBack(t *testing.T) {
	for name, test := range map[string]struct {
		behind im.Backlog
		refuse bool
		after  time.Duration // at least; half of it more at most
	}{
		"nothing waits":         {im.Backlog{}, false, 0},
		"at the bounds":         {im.Backlog{Age: 60 * time.Second, Records: 200_000}, false, 0},
		"a little too old":      {im.Backlog{Age: 60*time.Second + 1}, true, 2 * time.Second},
		"ten seconds too old":   {im.Backlog{Age: 70 * time.Second}, true, 10 * time.Second},
		"an hour too old":       {im.Backlog{Age: time.Hour}, true, 30 * time.Second},
		"too many":              {im.Backlog{Records: 200_001}, true, 2 * time.Second},
		"a stopped partition":   {im.Backlog{Stopped: true}, true, 30 * time.Second},
		"Kafka away: not known": {im.Backlog{}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.behind = test.behind
			s := w.service(t, Config{})
			err := s.room("d7-9")
			var over *im.OverloadError
			switch {
			case !test.refuse && err != nil:
				t.Fatalf("refused: %v", err)
			case test.refuse && !errors.As(err, &over):
				t.Fatalf("got %v", err)
			case test.refuse && (over.RetryAfter < test.after || over.RetryAfter > test.after*3/2):
				t.Fatalf("come back after %s", over.RetryAfter)
			}
		})
	}
}

// [L1] [L14]
func TestBacklog_WhatWouldMakeItLongerIsRefusedBeforeTheLog(t *testing.T) {
	w := newWorld()
	w.behind = im.Backlog{Age: 70 * time.Second}
	w.states["d7-9"] = im.ConversationState{Conversation: "d7-9", LastSeq: 10, LastID: 10, Join: 1, Joined: 1}
	s := w.service(t, Config{})
	for name, ask := range map[string]func() error{
		"send": func() error {
			_, err := sendNow(t, s, text("abcdefgh", "hello"))
			return err
		},
		"server send": func() error {
			_, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: text("abcdefgh", "hello")}, false)
			return err
		},
		"receipt": func() error {
			_, err := s.Receipts(t.Context(), annsPhone, "d7-9", protocol.Receipts{ReadSeq: 3})
			return err
		},
		"change": func() error {
			_, err := s.ChangeAndWait(t.Context(), annsPhone, ask1(im.ChangeRecall, 1), false)
			return err
		},
		"group": func() error {
			_, err := s.CreateGroup(t.Context(), annsPhone, protocol.CreateGroup{Name: "trip"})
			return err
		},
	} {
		shown := protocol.NewSendError(ask())
		if shown.Code != "overloaded" || shown.Outcome != im.OutcomeRefused || !shown.Retryable || shown.RetryAfterMS < 10_000 || shown.RetryAfterMS > 15_000 {
			t.Errorf("%s: %+v", name, shown)
		}
	}
	if n := len(w.produced()); n != 0 {
		t.Errorf("the log was given %d", n)
	}
	if w.calls["Peer"]+w.calls["CreateGroup"]+w.calls["Member"] != 0 {
		t.Errorf("MySQL was asked: %v", w.calls)
	}
}

// [L14] A retry is told what became of the first, however much waits behind it.
func TestBacklog_ARetryOfWhatIsStoredIsAnswered(t *testing.T) {
	w := newWorld()
	w.behind = im.Backlog{Stopped: true}
	w.hints[im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}] = im.StoredRef{Seq: 4, ID: 44, Hash: hashOf("hello")}
	s := w.service(t, Config{})
	if sent, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil || sent.State != protocol.StateStored || sent.Seq != 4 {
		t.Fatalf("a send: %+v, %v", sent, err)
	}
	recall := ask1(im.ChangeRecall, 1)
	task, _, err := readChange(ann, &recall)
	if err != nil {
		t.Fatal(err)
	}
	w.changed[im.ChangeKey{Conversation: "d7-9", Actor: ann, ClientChangeID: recall.ClientChangeID}] = im.ChangeRef{Change: 3, Hash: task.Hash}
	if answer, err := s.ChangeAndWait(t.Context(), annsPhone, recall, false); err != nil || answer.Change != 3 {
		t.Fatalf("a change: %+v, %v", answer, err)
	}
}

// [L12] [L14]
func TestBacklog_WhoIsTakenOutOfAGroupIsNotKeptInIt(t *testing.T) {
	w := newWorld()
	w.behind = im.Backlog{Stopped: true}
	s := w.service(t, Config{})
	for kind, refused := range map[string]bool{
		"remove_member": false, "remove_from_channel": false, "dissolve": false, "remove_channel": false, "mute_member": false,
		"create": true, "add_members": true, "join": true, "update": true, "create_channel": true,
	} {
		if err := s.roomForGroups(kind); (err != nil) != refused {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A notice that waits in the log is not put into it again and again.
func TestBacklog_NoticesAreNotToldAgainIntoIt(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{})
	page := []im.GroupOp{{ID: 1, Conversation: "c5"}}
	w.pending, w.behind = [][]im.GroupOp{page, page}, im.Backlog{Age: time.Hour}
	s.retellPage(t.Context())
	if n := len(w.produced()); n != 0 {
		t.Fatalf("%d told into a backlog", n)
	}
	w.set(func() { w.behind = im.Backlog{} })
	s.retellPage(t.Context())
	if n := len(w.produced()); n != 1 {
		t.Fatalf("%d told once there is room", n)
	}
}
