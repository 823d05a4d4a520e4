package logic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// sendNow sends as ann from her phone and waits for the answer.
func sendNow(t *testing.T, s *Service, req protocol.Send) (protocol.Sent, error) {
	t.Helper()
	return s.SendAndWait(t.Context(), annsPhone, req, false)
}

func code(err error) string {
	if err == nil {
		return "ok"
	}
	e := protocol.NewSendError(err)
	return e.Code + " " + string(e.Outcome)
}

func TestSend_BecomesATaskAndIsAccepted(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{})
	got := make(chan protocol.Sent, 1)
	from := im.Origin{Node: "n9", Session: "s9"}
	s.Send(t.Context(), &im.Session{Identity: annsPhone, Node: from.Node, ID: from.Session}, text("abcdefgh", "a < b & c"), func(sent protocol.Sent, err error) {
		if err != nil {
			t.Error(err)
		}
		got <- sent
	})
	if sent := <-got; sent != (protocol.Sent{State: protocol.StateAccepted, ConversationID: "d7-9", ClientMsgID: "abcdefgh"}) {
		t.Fatalf("answered %+v", sent)
	}
	task := w.produced()[0]
	m := task.Send
	switch {
	case task.Conversation != "d7-9" || m == nil || task.Receipt != nil:
		t.Fatalf("task %+v", task)
	case m.Sender != (im.Sender{ID: ann, Handle: "ann", Nickname: "ann"}), m.ClientMsgID != "abcdefgh", m.Type != im.TypeText,
		string(m.Content) != `{"text":"a < b & c"}`, m.Hash != hashOf("a < b & c"), m.Uncounted != im.CountedForAll, !m.AdvanceRead,
		m.AcceptedAt != 1767225600000, m.Origin != from:
		t.Fatalf("send %+v", m)
	}
}

func TestSend_RefusalsComeBeforeTheLog(t *testing.T) { // [L1]
	long := strings.Repeat("x", im.MaxTextBytes+1)
	for _, c := range []struct {
		name   string
		world  func(*world)
		change func(*protocol.Send)
		want   string
	}{
		{"no client message ID", nil, func(m *protocol.Send) { m.ClientMsgID = "" }, "invalid_request refused"},
		{"a bad client message ID", nil, func(m *protocol.Send) { m.ClientMsgID = "with space" }, "invalid_request refused"},
		{"an unknown type", nil, func(m *protocol.Send) { m.Type = "video" }, "invalid_request refused"},
		{"a system message of a user", nil, func(m *protocol.Send) { m.Type = im.TypeSystem }, "invalid_request refused"},
		{"no content", nil, func(m *protocol.Send) { m.Content = nil }, "invalid_request refused"},
		{"a text that is none", nil, func(m *protocol.Send) { m.Content = json.RawMessage(`{"text":7}`) }, "invalid_request refused"},
		{"an empty text", nil, func(m *protocol.Send) { *m = text("abcdefgh", " \u200b\n") }, "invalid_text refused"},
		{"a NUL", nil, func(m *protocol.Send) { *m = text("abcdefgh", "a\x00b") }, "invalid_text refused"},
		{"a text too long", nil, func(m *protocol.Send) { *m = text("abcdefgh", long) }, "too_large refused"},
		{"a custom array", nil, func(m *protocol.Send) { m.Type, m.Content = im.TypeCustom, json.RawMessage(`[]`) }, "invalid_request refused"},
		{"a custom message too long", nil, func(m *protocol.Send) {
			m.Type, m.Content = im.TypeCustom, json.RawMessage(`{"a":"`+long+long+`"}`)
		}, "too_large refused"},
		{"no destination", nil, func(m *protocol.Send) { m.To = protocol.To{} }, "invalid_request refused"},
		{"two destinations", nil, func(m *protocol.Send) { m.To.Handle = "bob" }, "invalid_request refused"},
		{"an unknown user", nil, func(m *protocol.Send) { m.To.UserID = userID(404) }, "not_found refused"},
		{"an unknown handle", nil, func(m *protocol.Send) { m.To = protocol.To{Handle: "nobody"} }, "not_found refused"},
		{"a handle that cannot be", nil, func(m *protocol.Send) { m.To = protocol.To{Handle: "{*}"} }, "invalid_request refused"},
		{"an unknown external ID", nil, func(m *protocol.Send) { m.To = protocol.To{ExternalID: "x"} }, "not_found refused"},
		{"the conversation of others", nil, func(m *protocol.Send) { m.To = protocol.To{ConversationID: "d9-11"} }, "not_found refused"},
		{"a channel that is not theirs", nil, func(m *protocol.Send) { m.To = protocol.To{ConversationID: "c1"} }, "not_found refused"},
		{"the system", nil, func(m *protocol.Send) { m.To = protocol.To{UserID: userID(im.SystemUser)} }, "forbidden refused"},
		{"who has blocked them", func(w *world) { w.blocked[pair{ann, bob}] = true }, nil, "blocked refused"},
		{"the limit reached", func(w *world) { w.take = func(int) (int, time.Duration) { return 0, time.Second } }, nil, "rate_limited refused"},
		{"a word refused", func(w *world) { w.say = func(string) (string, error) { return "", im.ErrContentRefused } }, nil, "content_refused refused"},
		{"an author who is no more", func(w *world) { delete(w.users, ann) }, nil, "unauthenticated refused"},
		{"an ID used for something else", func(w *world) {
			w.hints[im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}] = im.StoredRef{Seq: 1, Hash: hashOf("other")}
		}, nil, "client_msg_id_conflict refused"},
		{"a recipient nobody can look up", func(w *world) { w.fail["Peer"] = im.ErrStore }, nil, "store_unavailable refused"},
		{"a recipient that takes too long to look up", func(w *world) { w.hang["Peer"] = true }, nil, "store_unavailable refused"},
		{"a handle nobody can look up", func(w *world) { w.fail["UserByHandle"] = im.ErrStore }, func(m *protocol.Send) { m.To = protocol.To{Handle: "bob"} }, "store_unavailable refused"},
		{"an author nobody can look up", func(w *world) { w.fail["Profiles"] = im.ErrStore }, nil, "store_unavailable refused"},
		{"a bug below", func(w *world) { w.fail["Profiles"] = errors.New("SELECT oops") }, nil, "internal unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			if c.world != nil {
				c.world(w)
			}
			m := text("abcdefgh", "hello")
			if c.change != nil {
				c.change(&m)
			}
			s := w.service(t, Config{StoreTimeout: 50 * time.Millisecond})
			if _, err := sendNow(t, s, m); code(err) != c.want {
				t.Fatalf("got %q (%v), want %q", code(err), err, c.want)
			}
			if n := len(w.produced()); n != 0 {
				t.Fatalf("%d tasks reached the log", n)
			}
		})
	}
}

func TestSend_TheLogsAnswerIsTheOutcome(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{im.ErrQueue, "queue_unavailable refused"},
		{im.ErrOverloaded, "overloaded refused"},
		{fmt.Errorf("produce: %w", im.ErrUnknownOutcome), "outcome_unknown unknown"},
	} {
		w := newWorld()
		w.produce = func(_ im.Task, done func(error)) { go done(c.err) }
		if _, err := sendNow(t, w.service(t, Config{}), text("abcdefgh", "hello")); code(err) != c.want {
			t.Errorf("got %q, want %q", code(err), c.want)
		}
	}
}

func TestSend_EveryNameOfARecipientIsOneConversation(t *testing.T) {
	w := newWorld()
	w.external["their-bob"] = bob
	s := w.service(t, Config{})
	for i, to := range []protocol.To{
		{UserID: userID(bob)}, {Handle: "bob"}, {Handle: "BOB"}, {ExternalID: "their-bob"}, {ConversationID: "d7-9"},
	} {
		m := text(im.ClientMsgID(fmt.Sprintf("abcdefg%d", i)), "hello")
		m.To = to
		if sent, err := sendNow(t, s, m); err != nil || sent.ConversationID != "d7-9" {
			t.Fatalf("%+v: %+v, %v", to, sent, err)
		}
	}
	m := text("abcdefgh", "note to self")
	m.To.UserID = userID(ann)
	if sent, err := sendNow(t, s, m); err != nil || sent.ConversationID != "d7-7" {
		t.Fatalf("%+v, %v", sent, err)
	}
}

func TestSend_CustomContentIsCarriedCompact(t *testing.T) {
	w := newWorld()
	w.say = func(string) (string, error) { return "", im.ErrContentRefused } // not asked
	m := text("abcdefgh", "")
	m.Type, m.Content = im.TypeCustom, json.RawMessage("{ \"a\": [1, \"<b>\"],\n\"a\":2 }")
	if _, err := sendNow(t, w.service(t, Config{}), m); err != nil {
		t.Fatal(err)
	}
	task := w.produced()[0].Send
	if string(task.Content) != `{"a":[1,"<b>"],"a":2}` || task.Hash != im.HashContent(im.TypeCustom, task.Content) {
		t.Fatalf("%s", task.Content)
	}
}

func TestSend_TheHashIsTakenBeforeTheFilter(t *testing.T) {
	w := newWorld()
	w.say = func(s string) (string, error) { return strings.ReplaceAll(s, "damn", "****"), nil }
	if _, err := sendNow(t, w.service(t, Config{}), text("abcdefgh", "damn rain")); err != nil {
		t.Fatal(err)
	}
	m := w.produced()[0].Send
	if string(m.Content) != `{"text":"**** rain"}` || m.Hash != hashOf("damn rain") {
		t.Fatalf("%s", m.Content)
	}
}

func TestSend_ARetryIsAnsweredWithItsPlace(t *testing.T) {
	w := newWorld()
	key := im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}
	w.hints[key] = im.StoredRef{Seq: 5, ID: 77, StoredAt: 3, Hash: hashOf("hello")}
	s := w.service(t, Config{})
	sent, err := sendNow(t, s, text("abcdefgh", "hello"))
	if err != nil || sent.State != protocol.StateStored || sent.Seq != 5 || *sent.MessageID != 77 || sent.StoredAt != 3 {
		t.Fatalf("%+v, %v", sent, err)
	}
	if len(w.produced()) != 0 {
		t.Fatal("the retry reached the log")
	}
	w.set(func() { w.fail["Probe"] = im.ErrCache }) // a hint lost: the strand decides
	if sent, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil || sent.State != protocol.StateAccepted {
		t.Fatalf("%+v, %v", sent, err)
	}
}

// Who has just connected may bring again what another connection has taken; who has
// been there for a while costs nobody a look, unless the message would be refused.
func TestSend_LooksForARetryOnlyWhereItMayBeOne(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{})
	key := im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}
	w.hints[key] = im.StoredRef{Seq: 5, ID: 77, Hash: hashOf("hello")}
	send := func(age time.Duration) protocol.SendState {
		session := &im.Session{Identity: annsPhone, Since: w.now.Add(-age).UnixMilli()}
		got := make(chan protocol.SendState, 1)
		s.Send(t.Context(), session, text("abcdefgh", "hello"), func(sent protocol.Sent, err error) {
			if err != nil {
				t.Error(err)
			}
			got <- sent.State
		})
		return <-got
	}
	if state := send(time.Second); state != protocol.StateStored || w.count("Probe") != 1 {
		t.Errorf("just connected: %s, looked %d times", state, w.count("Probe"))
	}
	if state := send(time.Minute); state != protocol.StateAccepted || w.count("Probe") != 1 {
		t.Errorf("a minute later: %s, looked %d times", state, w.count("Probe"))
	}
	w.set(func() { w.say = func(string) (string, error) { return "", im.ErrContentRefused } })
	if state := send(time.Minute); state != protocol.StateStored {
		t.Errorf("the word is listed since: %s", state)
	}
}

func TestSend_ARetryOfWhatIsStoredIsNotRefusedForWhatChangedSince(t *testing.T) { // [L1]
	for name, change := range map[string]func(*world){
		"blocked meanwhile":       func(w *world) { w.blocked[pair{ann, bob}] = true },
		"the recipient is gone":   func(w *world) { delete(w.users, bob) },
		"the word is listed now":  func(w *world) { w.say = func(string) (string, error) { return "", im.ErrContentRefused } },
		"nobody can be looked up": func(w *world) { w.fail["Peer"] = im.ErrStore },
	} {
		w := newWorld()
		w.hints[im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}] = im.StoredRef{Seq: 5, ID: 77, Hash: hashOf("hello")}
		change(w)
		s := w.service(t, Config{})
		if sent, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil || sent.State != protocol.StateStored || sent.Seq != 5 {
			t.Errorf("%s: %+v, %v", name, sent, err)
		}
		if _, err := sendNow(t, s, text("abcdefgi", "hello")); err == nil {
			t.Errorf("%s: another message is let through", name)
		}
	}
}

func TestSend_AParkedMessageStaysRejected(t *testing.T) {
	w := newWorld()
	w.hints[im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}] = im.StoredRef{Hash: hashOf("hello"), Parked: true}
	if _, err := sendNow(t, w.service(t, Config{}), text("abcdefgh", "hello")); code(err) != "unstorable rejected" {
		t.Fatal(err)
	}
}

func TestServerSend_CountsAsDESIGNSays(t *testing.T) {
	w := newWorld()
	w.take = func(int) (int, time.Duration) { return 0, time.Second } // a backend has no send limit
	s := w.service(t, Config{})
	custom := json.RawMessage(`{"a":1}`)
	for _, c := range []struct {
		name      string
		from      *im.UserID
		kind      im.MessageType
		content   json.RawMessage
		sender    string
		conv      im.ConversationID
		uncounted im.Uncounted
	}{
		{"a notice of the system", nil, im.TypeSystem, nil, "system", "d0-9", im.UncountedForAll},
		{"a text of the system", nil, im.TypeText, nil, "system", "d0-9", im.CountedForAll},
		{"a text on behalf", userID(ann), im.TypeText, nil, "ann", "d7-9", im.UncountedForSender},
		{"something custom on behalf", userID(ann), im.TypeCustom, custom, "ann", "d7-9", im.UncountedForSender},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := protocol.ServerSend{Send: text("abcdefgh", "hello"), From: c.from}
			req.Type = c.kind
			if c.content != nil {
				req.Content = c.content
			}
			if _, err := s.ServerSend(t.Context(), req, false); err != nil {
				t.Fatal(err)
			}
			tasks := w.produced()
			task := tasks[len(tasks)-1]
			if task.Conversation != c.conv || task.Send.Sender.Handle != c.sender || task.Send.Uncounted != c.uncounted || task.Send.AdvanceRead {
				t.Fatalf("%s %+v", task.Conversation, task.Send)
			}
		})
	}
	for _, c := range []struct {
		name string
		req  protocol.ServerSend
		want string
	}{
		{"a system message on behalf", protocol.ServerSend{Send: protocol.Send{Type: im.TypeSystem}, From: userID(ann)}, "invalid_request refused"},
		{"an unknown author", protocol.ServerSend{From: userID(404)}, "not_found refused"},
		{"the system to itself", protocol.ServerSend{Send: protocol.Send{To: protocol.To{UserID: userID(0)}}}, "forbidden refused"},
	} {
		m := text("abcdefgh", "hello")
		m.Type = c.req.Type
		if c.req.To.UserID != nil {
			m.To = c.req.To
		}
		if _, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: m, From: c.req.From}, false); code(err) != c.want {
			t.Errorf("%s: got %q, want %q", c.name, code(err), c.want)
		}
	}
}

func TestSend_TheOrderOfAConnectionIsKept(t *testing.T) { // [L2]
	w := newWorld()
	s := w.service(t, Config{SendPerSecond: -1})
	const connections, each = 8, 200
	var answers sync.WaitGroup
	var senders sync.WaitGroup
	for c := range connections {
		answers.Add(each)
		senders.Go(func() {
			for i := range each {
				m := text(im.ClientMsgID(fmt.Sprintf("msg-%d-%05d", c, i)), "hello")
				s.Send(context.Background(), &im.Session{Identity: annsPhone}, m, func(_ protocol.Sent, err error) {
					if err != nil {
						t.Error(err)
					}
					answers.Done()
				})
			}
		})
	}
	senders.Wait()
	answers.Wait()
	last := map[string]string{}
	for _, task := range w.produced() {
		id := string(task.Send.ClientMsgID)
		connection := id[:6]
		if id <= last[connection] {
			t.Fatalf("%s after %s", id, last[connection])
		}
		last[connection] = id
	}
	if len(last) != connections {
		t.Fatalf("%d connections", len(last))
	}
}

func TestSend_GoesOnWithoutRedis(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{SendBurst: 3, SendPerSecond: 1})
	w.fail["Take"], w.fail["Probe"], w.fail["Sessions"] = im.ErrCache, im.ErrCache, im.ErrCache
	for i := range 3 {
		if _, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil {
			t.Fatal(i, err)
		}
	}
	_, err := sendNow(t, s, text("abcdefgh", "hello")) // this node counts alone
	var limit *im.LimitError
	if !errors.As(err, &limit) || limit.RetryAfter != time.Second {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if _, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil {
		t.Fatal(err)
	}
}

func TestSend_KnowsTheAuthorWhileNoStoreDoes(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{})
	if _, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.fail["Profiles"] = im.ErrStore })
	asked := w.count("Profiles")
	for _, id := range []im.ClientMsgID{"abcdefgi", "abcdefgj", "abcdefgk"} {
		if _, err := sendNow(t, s, text(id, "hello")); err != nil {
			t.Fatal(err)
		}
	}
	if m := w.produced()[3].Send; m.Sender.Handle != "ann" {
		t.Fatalf("%+v", m.Sender)
	}
	if n := w.count("Profiles") - asked; n != 1 { // a frozen store costs one of them its time, not each
		t.Fatalf("asked %d times", n)
	}
}

func BenchmarkSend(b *testing.B) {
	w := newWorld()
	s := w.service(b, Config{SendPerSecond: -1})
	m := text("abcdefgh", "See you at the station at half past seven, the usual place. Bring the long umbrella, it rains again.")
	w.produce = func(_ im.Task, done func(error)) { w.tasks = w.tasks[:0]; done(nil) }
	session := &im.Session{Identity: annsPhone, Node: "n", ID: "s"}
	b.ReportAllocs()
	for b.Loop() {
		s.Send(b.Context(), session, m, func(protocol.Sent, error) {})
	}
}
