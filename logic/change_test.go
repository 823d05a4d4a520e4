package logic

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// said is talked with times: ann's message is at 1, bob's are at 2 and 3.
func said() *world {
	w := talked()
	for i := range w.messages {
		w.messages[i].StoredAt = w.now.UnixMilli()
	}
	return w
}

func ask1(kind im.ChangeKind, seq im.Seq) protocol.Change {
	c := protocol.Change{ClientChangeID: "change-01", ConversationID: "d7-9", Seq: seq, Kind: kind}
	switch kind {
	case im.ChangeEdit:
		c.Content = json.RawMessage(`{"text":"better"}`)
	case im.ChangeReact, im.ChangeUnreact:
		c.Reaction = "👍"
	}
	return c
}

func TestChange_BecomesATaskAndIsAccepted(t *testing.T) {
	w := said()
	w.say = func(s string) (string, error) { return strings.ReplaceAll(s, "better", "******"), nil }
	s := w.service(t, Config{})
	answer, err := s.ChangeAndWait(t.Context(), annsPhone, ask1(im.ChangeEdit, 1), false)
	if err != nil || answer != (protocol.ChangeAnswer{State: protocol.StateAccepted, ConversationID: "d7-9", ClientChangeID: "change-01"}) {
		t.Fatalf("%+v, %v", answer, err)
	}
	c := w.produced()[0].Change
	if c.Actor != ann || c.Kind != im.ChangeEdit || c.Seq != 1 || string(c.Content) != `{"text":"******"}` ||
		c.Hash != im.HashChange(1, im.ChangeEdit, json.RawMessage(`{"text":"better"}`), nil, "") {
		t.Errorf("%+v", c)
	}
}

func TestChange_RefusalsComeBeforeTheLog(t *testing.T) { // [L1]
	base := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		name   string
		req    protocol.Change
		change func(w *world, req *protocol.Change)
		want   string
	}{
		{"no ID", ask1(im.ChangeRecall, 1), func(_ *world, r *protocol.Change) { r.ClientChangeID = "" }, "invalid_request"},
		{"another kind", ask1("explode", 1), nil, "invalid_request"},
		{"no seq", ask1(im.ChangeRecall, 0), nil, "invalid_request"},
		{"nothing there", ask1(im.ChangeRecall, 9), nil, "not_found"},
		{"somebody else's conversation", ask1(im.ChangeReact, 1), func(_ *world, r *protocol.Change) { r.ConversationID = "d9-11" }, "not_found"},
		{"before one joined", ask1(im.ChangeReact, 1), func(w *world, _ *protocol.Change) {
			w.members[im.SendKey{Conversation: "d7-9", Sender: ann}] = im.Member{Join: 2}
		}, "not_found"},
		{"somebody else's message recalled", ask1(im.ChangeRecall, 2), nil, "forbidden"},
		{"somebody else's message edited", ask1(im.ChangeEdit, 2), nil, "forbidden"},
		{"recalled already", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) { w.messages[0].RecalledAt = 1 }, "recalled"},
		{"recalled too late", ask1(im.ChangeRecall, 1), func(w *world, _ *protocol.Change) { w.now = w.now.Add(2*time.Minute + 1e6) }, "too_late"},
		{"edited too late", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) { w.now = w.now.Add(15*time.Minute + 1e6) }, "too_late"},
		{"edited since", ask1(im.ChangeEdit, 1), func(w *world, r *protocol.Change) {
			w.messages[0].Change, w.messages[0].EditChange, r.BaseChange = 5, 4, base(3)
		}, "edit_conflict"},
		{"a base that is not there yet", ask1(im.ChangeEdit, 1), func(_ *world, r *protocol.Change) { r.BaseChange = base(3) }, "invalid_request"},
		{"edited too often", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) { w.messages[0].Edits = im.MaxEdits }, "limit_reached"},
		{"not a text", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) { w.messages[0].Type = im.TypeImage }, "invalid_request"},
		{"somebody else's word", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) { w.messages[0].ForwardedFrom = &im.ForwardedFrom{} }, "forbidden"},
		{"an empty text", ask1(im.ChangeEdit, 1), func(_ *world, r *protocol.Change) { r.Content = json.RawMessage(`{"text":" "}`) }, "invalid_text"},
		{"a word that is refused", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) {
			w.say = func(string) (string, error) { return "", im.ErrContentRefused }
		}, "content_refused"},
		{"edited for who has blocked one", ask1(im.ChangeEdit, 1), func(w *world, _ *protocol.Change) { w.blocked[pair{ann, bob}] = true }, "blocked"},
		{"reacted to who has blocked one", ask1(im.ChangeReact, 2), func(w *world, _ *protocol.Change) { w.blocked[pair{ann, bob}] = true }, "blocked"},
		{"a word as a reaction", ask1(im.ChangeReact, 2), func(_ *world, r *protocol.Change) { r.Reaction = "no" }, "invalid_request"},
		{"one reaction too many", ask1(im.ChangeReact, 2), func(w *world, _ *protocol.Change) {
			for i := range im.MaxReactions {
				w.messages[1].Reactions = append(w.messages[1].Reactions, im.Reaction{Reaction: fmt.Sprint(i), Count: 1})
			}
		}, "limit_reached"},
		{"too many requests", ask1(im.ChangeReact, 2), func(w *world, _ *protocol.Change) {
			w.take = func(int) (int, time.Duration) { return 0, time.Second }
		}, "rate_limited"},
		{"a store that is away", ask1(im.ChangeReact, 2), func(w *world, _ *protocol.Change) { w.fail["LastMessages"] = im.ErrStore }, "store_unavailable"},
		{"one deleted it", ask1(im.ChangeReact, 2), func(w *world, _ *protocol.Change) {
			w.members[im.SendKey{Conversation: "d7-9", Sender: ann}] = im.Member{Join: 1, Deletions: 1}
			w.hidden[im.Place{Conversation: "d7-9", Seq: 2}] = im.Hidden{Seq: 2, Deletion: 1}
		}, "not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := said()
			if c.change != nil {
				c.change(w, &c.req)
			}
			s := w.service(t, Config{})
			for _, wait := range []bool{false, true} {
				if _, err := s.ChangeAndWait(t.Context(), annsPhone, c.req, wait); code(err) != c.want+" refused" {
					t.Errorf("got %s, want %s (%v)", code(err), c.want, err)
				}
			}
			if len(w.produced()) != 0 {
				t.Error("the log has it")
			}
		})
	}
}

func TestChange_RecallIsForOnesOwnAlsoWhenBlocked(t *testing.T) {
	w := said()
	w.blocked[pair{ann, bob}] = true
	if _, err := w.service(t, Config{}).ChangeAndWait(t.Context(), annsPhone, ask1(im.ChangeRecall, 1), false); err != nil {
		t.Fatal(err)
	}
}

// A retry is what it was the first time, also where the first is what would refuse it.
func TestChange_RetryIsKnownByItsID(t *testing.T) {
	w := said()
	s := w.service(t, Config{})
	req := ask1(im.ChangeRecall, 1)
	key := im.ChangeKey{Conversation: "d7-9", Actor: ann, ClientChangeID: "change-01"}
	w.messages[0].RecalledAt = 1
	ref := im.ChangeRef{Change: 4, Seq: 1, Hash: im.HashChange(1, im.ChangeRecall, nil, nil, "")}
	w.changed[key] = ref
	if answer, err := s.ChangeAndWait(t.Context(), annsPhone, req, true); err != nil || answer.State != protocol.StateStored || answer.Change != 4 {
		t.Errorf("%+v, %v", answer, err)
	}
	ref.Outcome = im.ChangeMoved
	w.changed[key] = ref
	if _, err := s.ChangeAndWait(t.Context(), annsPhone, req, true); code(err) != "edit_conflict rejected" {
		t.Errorf("one that was rejected: %s", code(err))
	}
	req.Seq = 2
	if _, err := s.ChangeAndWait(t.Context(), annsPhone, req, true); code(err) != "client_change_id_conflict refused" {
		t.Errorf("another under its ID: %s", code(err))
	}
}

func TestChange_WaitsForItsNumber(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame protocol.PushFrame
		ref   *im.ChangeRef
		want  string
	}{
		{"stored", protocol.PushFrame{Push: protocol.PushChanged, Data: protocol.Changed{ConversationID: "d7-9", Change: 7}}, nil, "7"},
		{"rejected", protocol.PushFrame{Push: protocol.PushRejected, Data: protocol.Rejected{ConversationID: "d7-9", ClientChangeID: "change-01", Code: "recalled"}},
			&im.ChangeRef{Change: 8, Outcome: im.ChangeRecalled}, "recalled rejected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := said()
			w.produce = func(task im.Task, done func(error)) {
				go func() {
					if c.ref != nil {
						c.ref.Hash = task.Change.Hash
						w.set(func() {
							w.changed[im.ChangeKey{Conversation: task.Conversation, Actor: ann, ClientChangeID: "change-01"}] = *c.ref
						})
					}
					done(nil)
					frame, _ := protocol.EncodePush(c.frame)
					w.notes <- protocol.AppendDelivery(nil, &protocol.Delivery{Request: task.Change.Origin.Request, Frame: frame})
				}()
			}
			s := w.service(t, Config{})
			go func() { _ = s.Run(t.Context()) }()
			answer, err := s.ChangeAndWait(t.Context(), annsPhone, ask1(im.ChangeReact, 2), true)
			if got := fmt.Sprint(answer.Change); err == nil && got != c.want || err != nil && code(err) != c.want {
				t.Errorf("%+v, %v", answer, err)
			}
		})
	}
}

func TestHistory_ShowsWhatItsReaderSees(t *testing.T) {
	w := said()
	w.members[im.SendKey{Conversation: "d7-9", Sender: ann}] = im.Member{Join: 1, Deletions: 1}
	w.hidden[im.Place{Conversation: "d7-9", Seq: 3}] = im.Hidden{Seq: 3, Deletion: 1}
	w.messages[0].Recall(1, 5)
	w.messages[1].ReplyTo = &im.Quote{Seq: 1, Text: "secret"}
	w.messages[1].Reactions = []im.Reaction{{Reaction: "👍", Count: 2}, {Reaction: "🎉", Count: 1}}
	w.own[im.ReactionKey{Place: im.Place{Conversation: "d7-9", Seq: 2}, User: ann, Reaction: "🎉"}] = true
	s := w.service(t, Config{})
	page, err := s.History(t.Context(), annsPhone, protocol.History{ConversationID: "d7-9"})
	if err != nil {
		t.Fatal(err)
	}
	reply, gone := page.Items[1], page.Items[2]
	if q := reply.ReplyTo; !q.Recalled || q.Text != "" || reply.Reactions[0].Mine || !reply.Reactions[1].Mine {
		t.Errorf("%+v, %+v", q, reply.Reactions)
	}
	if !gone.Deleted || string(gone.Content) != "{}" || gone.Seq != 3 {
		t.Errorf("deleted for oneself: %+v", gone)
	}
	w.page = im.ChangedPage{Items: w.messages[:1], UpTo: 4, HasMore: true}
	page, err = s.History(t.Context(), annsPhone, protocol.History{ConversationID: "d7-9", AfterChange: new(uint64)})
	if err != nil || *page.Change != 4 || !page.HasMore || len(page.Items) != 1 {
		t.Errorf("after_change: %+v, %v", page, err)
	}
	w.fail["HiddenAmong"] = im.ErrStore
	if _, err := s.History(t.Context(), annsPhone, protocol.History{ConversationID: "d7-9"}); !errors.Is(err, im.ErrStore) {
		t.Errorf("what cannot be looked up is not shown: %v", err)
	}
}

func TestDelete_IsForWhatIsThere(t *testing.T) {
	w := said()
	s := w.service(t, Config{})
	for _, c := range []struct {
		seqs []im.Seq
		want string
	}{{nil, "invalid_request"}, {make([]im.Seq, im.MaxHidden+1), "invalid_request"}, {[]im.Seq{1, 4}, "not_found"}, {[]im.Seq{0}, "not_found"}, {[]im.Seq{3, 1}, "ok"}} {
		err := s.DeleteMessagesNow(t.Context(), annsPhone, protocol.DeleteMessages{ConversationID: "d7-9", Seqs: c.seqs})
		if got := code(err); got != c.want && got != c.want+" refused" {
			t.Errorf("%v: %s, want %s", c.seqs, got, c.want)
		}
	}
	if tasks := w.produced(); len(tasks) != 1 || tasks[0].Hide.User != ann || len(tasks[0].Hide.Seqs) != 2 {
		t.Errorf("tasks %+v", tasks)
	}
}

func TestSend_RefersToWhatItsSenderSees(t *testing.T) {
	send := func(change func(*protocol.Send)) protocol.Send {
		m := text("abcdefgh", "yes")
		m.To = protocol.To{ConversationID: "d7-9"}
		change(&m)
		return m
	}
	reply := func(c im.ConversationID, seq im.Seq) protocol.Send {
		return send(func(m *protocol.Send) { m.ReplyTo = &protocol.MessageRef{ConversationID: c, Seq: seq} })
	}
	forward := func(c im.ConversationID, seq im.Seq) protocol.Send {
		return send(func(m *protocol.Send) {
			m.Type, m.Content, m.Forward = "", nil, &protocol.MessageRef{ConversationID: c, Seq: seq}
		})
	}
	mention := func(users ...im.UserID) protocol.Send {
		return send(func(m *protocol.Send) { m.Mentions = users })
	}
	for _, c := range []struct {
		name string
		req  protocol.Send
		want string
	}{
		{"a reply", reply("", 2), "ok"},
		{"a reply that names the conversation", reply("d7-9", 2), "ok"},
		{"a reply into another", reply("d7-11", 2), "invalid_request refused"},
		{"a reply to nothing", reply("", 9), "invalid_request refused"},
		{"a reply to what was recalled", reply("", 3), "recalled refused"},
		{"a forward", forward("d7-9", 2), "ok"},
		{"a forward of somebody else's", forward("d9-11", 2), "invalid_request refused"},
		{"a forward of what was recalled", forward("d7-9", 3), "recalled refused"},
		{"a forward with content", send(func(m *protocol.Send) { m.Forward = &protocol.MessageRef{ConversationID: "d7-9", Seq: 2} }), "invalid_request refused"},
		{"mentions", mention(bob, ann, bob), "ok"},
		{"a stranger mentioned", mention(eve), "invalid_request refused"},
		{"too many mentions", mention(make([]im.UserID, im.MaxMentions+1)...), "invalid_request refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := said()
			w.messages[1].Content = json.RawMessage(`{"text":"` + strings.Repeat("ü ", 80) + `"}`)
			w.messages[2].Recall(1, 1)
			s := w.service(t, Config{})
			_, err := sendNow(t, s, c.req)
			if got := code(err); got != c.want {
				t.Fatalf("%s, want %s (%v)", got, c.want, err)
			}
			if err != nil {
				return
			}
			m := w.produced()[0].Send
			switch {
			case c.req.ReplyTo != nil && (m.About.ReplyTo.Sender.ID != bob || len([]rune(m.About.ReplyTo.Text)) != im.QuoteLength):
				t.Errorf("quote %+v", m.About.ReplyTo)
			case c.req.Forward != nil && (m.Type != im.TypeText || string(m.Content) != string(w.messages[1].Content) || m.About.ForwardedFrom.Nickname != "bob" || m.Sender.ID != ann):
				t.Errorf("forwarded %+v", m)
			case len(c.req.Mentions) > 0 && fmt.Sprint(m.About.Mentions) != "[7 9]":
				t.Errorf("mentions %v", m.About.Mentions)
			}
			if m.Hash == hashOf("yes") {
				t.Error("what else is said is not part of the hash")
			}
		})
	}
}

const sum = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"

func TestSend_ContentIsAsItsTypeSays(t *testing.T) {
	media := `{"url":"https://files.example/a.png","mime":"image/png","size":9,"sha256":"` + sum + `"`
	for _, c := range []struct {
		kind    im.MessageType
		content string
		want    string // what is stored, or the code
	}{
		{im.TypeImage, media + `,"width":3,"height":4,"secret":1,"thumbnail":{"url":"http://t.example/t","width":1}}`,
			`{"url":"https://files.example/a.png","mime":"image/png","size":9,"sha256":"` + strings.ToLower(sum) + `","width":3,"height":4,"thumbnail":{"url":"http://t.example/t","width":1}}`},
		{im.TypeFile, media + `,"name":"a b.pdf"}`, `{"url":"https://files.example/a.png","mime":"image/png","size":9,"sha256":"` + strings.ToLower(sum) + `","name":"a b.pdf"}`},
		{im.TypeAudio, media + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, "https:", "javascript:", 1) + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, "files.", "user:pass@files.", 1) + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, "https://files.example", "", 1) + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, "a.png", strings.Repeat("a", 2048), 1) + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, `"size":9`, `"size":0`, 1) + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, `"size":9`, `"size":104857601`, 1) + `}`, "too_large"},
		{im.TypeImage, strings.Replace(media, "9F86", "9G86", 1) + `}`, "invalid_request"},
		{im.TypeImage, strings.Replace(media, "image/png", "text", 1) + `}`, "invalid_request"},
		{im.TypeImage, media + `,"width":-1}`, "invalid_request"},
		{im.TypeImage, media + `,"name":"../../etc/passwd"}`, "invalid_request"},
		{im.TypeImage, media + `,"thumbnail":{"url":"file:///x"}}`, "invalid_request"},
		{im.TypeImage, `{}`, "invalid_request"},
		{im.TypeLocation, `{"latitude":0,"longitude":-180,"name":"the line"}`, `{"latitude":0,"longitude":-180,"name":"the line"}`},
		{im.TypeLocation, `{"longitude":1}`, "invalid_request"},
		{im.TypeLocation, `{"latitude":90.1,"longitude":1}`, "invalid_request"},
		{im.TypeLocation, `{"latitude":"1","longitude":1}`, "invalid_request"},
		{im.TypeCustom, `{"any":[1,{"x":null}]}`, `{"any":[1,{"x":null}]}`},
		{"sticker", `{}`, "invalid_request"},
		{im.TypeSystem, `{"text":"I am the system"}`, "invalid_request"},
	} {
		w := newWorld()
		m := text("abcdefgh", "x")
		m.Type, m.Content = c.kind, json.RawMessage(c.content)
		_, err := sendNow(t, w.service(t, Config{}), m)
		got := strings.TrimSuffix(code(err), " refused")
		if err == nil {
			got = string(w.produced()[0].Send.Content)
		}
		if got != c.want {
			t.Errorf("%s %.90s\n got %s\nwant %s (%v)", c.kind, c.content, got, c.want, err)
		}
	}
}

func TestSend_NamesOfFilesAreFiltered(t *testing.T) {
	w := newWorld()
	w.say = func(s string) (string, error) { return strings.ReplaceAll(s, "bad", "***"), nil }
	m := text("abcdefgh", "x")
	m.Type, m.Content = im.TypeFile, json.RawMessage(`{"url":"https://f.example/bad","mime":"text/plain","size":1,"sha256":"`+sum+`","name":"bad.txt"}`)
	if _, err := sendNow(t, w.service(t, Config{}), m); err != nil {
		t.Fatal(err)
	}
	if got := string(w.produced()[0].Send.Content); !strings.Contains(got, `"name":"***.txt"`) || !strings.Contains(got, "example/bad") {
		t.Error(got)
	}
}

func TestReaction_IsAnEmojiAndNoWord(t *testing.T) {
	for s, good := range map[string]bool{
		"👍": true, "👍🏽": true, "❤️": true, "👩‍👩‍👧": true, "1️⃣": true, "🏴󠁧󠁢󠁥󠁮󠁧󠁿": true, "🇳🇱": true, "‼️": true, "ℹ️": true, "↔️": true,
		"": false, "a": false, "+1": false, "1": false, "no": false, "ого": false, " 👍": false, "👍 ": false, "👍a": false, "👍👍👍👍👍👍👍👍👍": false,
		"\u200d": false, "\u202e👍": false, "\xff": false, "👍\x00": false,
	} {
		if err := im.ValidateReaction(s); (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
	}
}
