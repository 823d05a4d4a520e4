package logic

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

var helloKey = im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}

// waiting runs a send with wait=stored inside a bubble, whose clock moves only when
// everything waits, and returns how long it took.
func waiting(t *testing.T, arrange func(w *world, s *Service)) (sent protocol.Sent, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := w.serviceAt(t, Config{}, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if arrange != nil {
			arrange(w, s)
		}
		go s.Run(ctx)
		start := time.Now()
		sent, err = s.SendAndWait(ctx, annsPhone, text("abcdefgh", "hello"), true)
		took = time.Since(start)
		if n := len(s.waiters.notes); n != 0 {
			t.Errorf("%d waiters left", n)
		}
	})
	return sent, took, err
}

// noteAfter has the worker answer the request some time after the log took it.
func noteAfter(w *world, d time.Duration, push protocol.PushFrame) {
	w.produce = func(task im.Task, done func(error)) {
		go func() {
			done(nil)
			time.Sleep(d)
			frame, _ := protocol.EncodePush(push)
			w.notes <- protocol.AppendDelivery(nil, &protocol.Delivery{Users: []im.UserID{1}, Frame: []byte("x")}) // somebody else's
			w.notes <- protocol.AppendDelivery(nil, &protocol.Delivery{Request: task.Send.Origin.Request, Frame: frame})
		}()
	}
}

func TestWait_TheNoteAnswers(t *testing.T) {
	sent, took, err := waiting(t, func(w *world, _ *Service) {
		noteAfter(w, 3*time.Millisecond, protocol.PushFrame{Push: protocol.PushStored, Data: protocol.Stored{ConversationID: "d7-9", Seq: 4, MessageID: 8, StoredAt: 9}})
	})
	if err != nil || sent.State != protocol.StateStored || sent.Seq != 4 || *sent.MessageID != 8 || took != 3*time.Millisecond {
		t.Fatalf("%+v after %s, %v", sent, took, err)
	}
}

func TestWait_TheNoteMayComeBeforeTheLogsAnswer(t *testing.T) {
	sent, _, err := waiting(t, func(w *world, s *Service) {
		w.produce = func(task im.Task, done func(error)) {
			frame, _ := protocol.EncodePush(protocol.PushFrame{Push: protocol.PushStored, Data: protocol.Stored{ConversationID: "d7-9", Seq: 4}})
			s.waiters.hear(protocol.AppendDelivery(nil, &protocol.Delivery{Request: task.Send.Origin.Request, Frame: frame}))
			go done(nil)
		}
	})
	if err != nil || sent.Seq != 4 {
		t.Fatalf("%+v, %v", sent, err)
	}
}

func TestWait_ARejectionIsAnError(t *testing.T) {
	for name, want := range map[string]string{"client_msg_id_conflict": "client_msg_id_conflict rejected", "unstorable": "unstorable rejected"} {
		_, _, err := waiting(t, func(w *world, _ *Service) {
			noteAfter(w, 0, protocol.PushFrame{Push: protocol.PushRejected, Data: protocol.Rejected{ConversationID: "d7-9", Code: name}})
		})
		if code(err) != want {
			t.Errorf("got %q, want %q", code(err), want)
		}
	}
}

func TestWait_ALostNoteIsLookedUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		stored time.Duration // after the log took it
		ref    im.StoredRef
		want   string
		took   time.Duration
	}{
		{"at 1 s", 500 * time.Millisecond, im.StoredRef{Seq: 4, Hash: hashOf("hello")}, "ok", time.Second},
		{"at 3 s", 2 * time.Second, im.StoredRef{Seq: 4, Hash: hashOf("hello")}, "ok", 3 * time.Second},
		{"as somebody's other message", 0, im.StoredRef{Seq: 4, Hash: hashOf("other")}, "client_msg_id_conflict rejected", time.Second},
		{"as parked", 0, im.StoredRef{Hash: hashOf("hello"), Parked: true}, "unstorable rejected", time.Second},
	} {
		sent, took, err := waiting(t, func(w *world, _ *Service) {
			w.produce = func(_ im.Task, done func(error)) {
				go done(nil)
				go func() {
					time.Sleep(c.stored)
					w.set(func() { w.stored[helloKey] = c.ref })
				}()
			}
		})
		if code(err) != c.want || took != c.took || err == nil && (sent.State != protocol.StateStored || sent.Seq != 4) {
			t.Errorf("%s: %+v after %s, %v", c.name, sent, took, err)
		}
	}
}

func TestWait_EndsWithAcceptedAfter4500Milliseconds(t *testing.T) {
	for name, arrange := range map[string]func(*world, *Service){
		"nothing is known":    nil,
		"MySQL is away":       func(w *world, _ *Service) { w.fail["FindStored"] = im.ErrStore },
		"MySQL hangs":         func(w *world, _ *Service) { w.hang["FindStored"] = true },
		"the notes cannot be": func(w *world, _ *Service) { w.fail["Subscribe"] = im.ErrCache },
	} {
		sent, took, err := waiting(t, arrange)
		if err != nil || sent.State != protocol.StateAccepted || took != answerBy {
			t.Errorf("%s: %+v after %s, %v", name, sent, took, err)
		}
	}
}

func TestWait_ALogThatBreaksItsWordIsUnknown(t *testing.T) { // [L3]
	_, took, err := waiting(t, func(w *world, _ *Service) { w.produce = func(im.Task, func(error)) {} })
	if !errors.Is(err, im.ErrUnknownOutcome) || took != acceptedBy {
		t.Fatalf("%v after %s", err, took)
	}
}

func TestWait_WhoGoesAwayIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.produce = func(im.Task, func(error)) {}
		s := w.serviceAt(t, Config{}, time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.SendAndWait(ctx, annsPhone, text("abcdefgh", "hello"), true); !errors.Is(err, im.ErrUnknownOutcome) {
			t.Fatal(err)
		}
	})
}

func TestWait_MoreThanTheBoundAreRefused(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{Waiters: 1})
	request, _, err := s.waiters.enter()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SendAndWait(t.Context(), annsPhone, text("abcdefgh", "hello"), true); code(err) != "overloaded refused" {
		t.Fatal(err)
	}
	if len(w.produced()) != 0 {
		t.Fatal("it reached the log all the same")
	}
	s.waiters.leave(request)
	if _, err := s.SendAndWait(t.Context(), annsPhone, text("abcdefgh", "hello"), false); err != nil {
		t.Fatal(err)
	}
}

func TestWait_GarbageOnTheChannelIsIgnored(t *testing.T) {
	s := newWorld().service(t, Config{})
	request, notes, err := s.waiters.enter()
	if err != nil {
		t.Fatal(err)
	}
	s.waiters.hear([]byte{0xff})
	for _, frame := range []string{``, `{`, `{"push":"message","data":{}}`, `{"push":"stored","data":{"seq":-1}}`} {
		s.waiters.hear(protocol.AppendDelivery(nil, &protocol.Delivery{Request: request, Frame: []byte(frame)}))
	}
	if len(notes) != 0 {
		t.Fatalf("%+v", <-notes)
	}
	good := protocol.AppendDelivery(nil, &protocol.Delivery{Request: request, Frame: []byte(`{"push":"stored","data":{"seq":1}}`)})
	s.waiters.hear(append(good, good...)) // twice is once
	if len(notes) != 1 {
		t.Fatal("the note is missing")
	}
}
