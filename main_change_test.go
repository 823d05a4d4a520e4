package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// screen is what an application keeps of a conversation by what its device tells it:
// messages as they come, changed and deleted as they are told.
type screen struct {
	mu       sync.Mutex
	messages map[im.Seq]im.Message
	gone     map[im.Seq]bool
	rejected []protocol.Rejected
}

func (p *person) look(name im.DeviceID, change ...func(*client.Options)) (*device, *screen) {
	s := &screen{messages: map[im.Seq]im.Message{}, gone: map[im.Seq]bool{}}
	show := func(m im.Message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if old, ok := s.messages[m.Seq]; !ok || old.Change <= m.Change {
			s.messages[m.Seq] = m
		}
	}
	d := p.connect(name, append([]func(*client.Options){func(o *client.Options) {
		o.OnMessage, o.OnChanged = show, show
		o.OnDeleted = func(_ im.ConversationID, seq im.Seq) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.gone[seq] = true
		}
		o.OnChangeRejected = func(r protocol.Rejected) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rejected = append(s.rejected, r)
		}
	}}, change...)...)
	return d, s
}

// shows is the screen in short: text or what took its place, and reactions.
func (s *screen) shows(seq im.Seq) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.messages[seq]
	if !ok {
		return ""
	}
	return inShort(m, s.gone[seq])
}

func inShort(m im.Message, gone bool) string {
	what := textOf(m)
	switch {
	case gone || m.Deleted:
		return "deleted"
	case m.RecalledAt != 0:
		return "recalled"
	case m.EditedAt != 0:
		what += " (edited)"
	}
	for _, r := range m.Reactions {
		what += fmt.Sprintf(" %s%d", r.Reaction, r.Count)
	}
	return what
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Everybody sees a message as it now is: who is there, who returns, who pulls, also
// after Redis was emptied; and nobody else's numbers than these.
func TestChange_IsLearnedByEveryone(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	ada, bob, conv := e.pair(t)
	a, _ := ada.look("phone")
	b, bobs := bob.look("phone")
	away, aways := bob.look("tablet")
	for i := range 5 {
		a.say(bob, fmt.Sprint("message ", i+1))
	}
	devtest.Eventually(t, "both of Bob's devices have them", func() bool { return bobs.shows(5) != "" && aways.shows(5) != "" })
	away.leave()
	have, position := away.Have()
	changed := away.HaveChanged()

	must(t, a.Recall(t.Context(), conv, 2))
	must(t, a.Edit(t.Context(), conv, 3, "said better"))
	must(t, b.React(t.Context(), conv, 3, "👍", true))
	must(t, a.React(t.Context(), conv, 3, "👍", true))
	must(t, b.React(t.Context(), conv, 4, "🎉", true))
	must(t, b.React(t.Context(), conv, 4, "🎉", false))
	must(t, b.DeleteMessages(t.Context(), conv, 5))
	want := map[im.Seq]string{1: "message 1", 2: "recalled", 3: "said better (edited) 👍2", 4: "message 4", 5: "deleted"}
	same := func(who string, shows func(im.Seq) string) {
		t.Helper()
		devtest.Eventually(t, who+" sees the messages as they now are", func() bool {
			for seq, text := range want {
				if got := shows(seq); got != "" && got != text || got == "" && seq > 1 {
					return false
				}
			}
			return true
		})
	}
	same("Bob, who was there,", bobs.shows)
	_, late := bob.look("tablet", func(o *client.Options) { o.Have, o.Position, o.HaveChanged = have, position, changed })
	devtest.Eventually(t, "Bob's returning device has learned of all changes", func() bool {
		return late.shows(2) == "recalled" && strings.HasPrefix(late.shows(3), "said better") && func() bool {
			late.mu.Lock()
			defer late.mu.Unlock()
			return late.gone[5]
		}()
	})
	for _, step := range []string{"before", "after"} {
		same("Bob, who pulls "+step+" a wipe,", func(seq im.Seq) string { return inShort(bob.history(conv)[seq-1], false) })
		devtest.Eventually(t, "the rows are exact "+step+" a wipe", func() bool { // cursors are written each second
			mine, theirs := ada.row(conv), bob.row(conv)
			return theirs.Unread == 3 && theirs.LastChange == 6 && theirs.Deletions == 1 && theirs.LastMessage.Deleted &&
				mine.Unread == 0 && mine.LastChange == 6 && mine.Deletions == 0 && textOf(*mine.LastMessage) == "message 5"
		})
		s.Redis.Flush()
	}
	if h := bob.history(conv); !h[2].Reactions[0].Mine || h[2].Change != 4 {
		t.Errorf("Bob's own reaction: %+v", h[2])
	}
	page, err := ada.http.History(t.Context(), protocol.History{ConversationID: conv, AfterChange: new(uint64)})
	must(t, err)
	equal(t, "after_change, by change and each once", seqsOf(page.Items), []im.Seq{2, 3, 4})
	if page.Change == nil || *page.Change != 6 || page.HasMore {
		t.Errorf("complete up to %v", page.Change)
	}
	edits, err := bob.http.Edits(t.Context(), conv, 3)
	must(t, err)
	if len(edits.Items) != 2 || string(edits.Items[0].Content) != `{"text":"message 3"}` || edits.Items[1].Change != 2 {
		t.Errorf("edits %+v", edits)
	}
	who, err := ada.http.Reactors(t.Context(), conv, 3, "👍", "", 1)
	must(t, err)
	if len(who.Items) != 1 || who.Items[0].User.ID != bob.id || !who.HasMore {
		t.Errorf("reactors %+v", who)
	}
}

// What is refused, what is a retry, and what wait=stored answers.
func TestChange_AnswersOverHTTP(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), func(c *configs.Config) { c.Logic.RecallWithin = time.Hour })
	ada, bob, conv := e.pair(t)
	a, b := ada.connect("phone"), bob.connect("phone")
	a.say(bob, "first")
	b.say(ada, "second")
	edit := func(text string, base *uint64) protocol.Change {
		content, _ := json.Marshal(im.TextContent{Text: text})
		return protocol.Change{ClientChangeID: client.NewClientChangeID(), ConversationID: conv, Seq: 1, Kind: im.ChangeEdit, Content: content, BaseChange: base}
	}
	none := uint64(0)
	first := edit("better", &none)
	for range 2 { // again is as once
		if answer, err := ada.http.Change(t.Context(), first, true); err != nil || answer.State != protocol.StateStored || answer.Change != 1 {
			t.Fatalf("%+v, %v", answer, err)
		}
	}
	other := edit("something else", &none)
	other.ClientChangeID = first.ClientChangeID
	_, err := ada.http.Change(t.Context(), other, true)
	want(t, "client_change_id_conflict", err)
	_, err = ada.http.Change(t.Context(), edit("on an old one", &none), true)
	want(t, "edit_conflict", err)
	_, err = bob.http.Change(t.Context(), edit("not mine", nil), true)
	want(t, "forbidden", err)
	eve := enrol(t, e.http, e.socket, "eve")[0]
	_, err = eve.http.Change(t.Context(), edit("not even to see", nil), true)
	want(t, "not_found", err)
	recall := protocol.Change{ClientChangeID: client.NewClientChangeID(), ConversationID: conv, Seq: 1, Kind: im.ChangeRecall}
	for range 2 {
		if answer, err := ada.http.Change(t.Context(), recall, true); err != nil || answer.Change != 2 {
			t.Fatalf("%+v, %v", answer, err)
		}
	}
	_, err = ada.http.Change(t.Context(), edit("too late", nil), true)
	want(t, "recalled", err)
	_, err = ada.http.Edits(t.Context(), conv, 1)
	want(t, "recalled", err)
	if h := bob.history(conv); string(h[0].Content) != "{}" || h[0].RecalledAt == 0 {
		t.Errorf("the tombstone: %+v", h[0])
	}
}

// A reply carries what it replies to until that is recalled; a forward names its first
// author and not the conversation; a mention marks the conversation until it is read.
func TestSend_RepliesForwardsAndMentions(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	people := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	ada, bob, eve := people[0], people[1], people[2]
	conv := im.DirectConversation(ada.id, bob.id)
	a, b := ada.connect("phone"), bob.connect("phone")
	a.say(bob, "the secret")
	send := func(d *device, m protocol.Send) protocol.Sent {
		t.Helper()
		o, err := d.Send(m)
		must(t, err)
		return d.p.stored(o)
	}
	send(b, protocol.Send{To: client.ToUser(ada.id), Content: json.RawMessage(`{"text":"really?"}`), ReplyTo: &protocol.MessageRef{Seq: 1}, Mentions: []im.UserID{ada.id}})
	devtest.Eventually(t, "the reply is pushed with its quote", func() bool {
		return a.count(func(d *device) bool { return len(d.got[conv]) == 1 && d.got[conv][0].ReplyTo != nil })
	})
	send(b, protocol.Send{To: client.ToUser(eve.id), Forward: &protocol.MessageRef{ConversationID: conv, Seq: 1}})
	forwarded := eve.history(im.DirectConversation(bob.id, eve.id))
	if m := forwarded[0]; textOf(m) != "the secret" || m.ForwardedFrom == nil || m.ForwardedFrom.Nickname != "Ada" || m.Sender.ID != bob.id {
		t.Errorf("forwarded: %+v", m)
	}
	for range 2 {
		if row := ada.row(conv); row.MentionedSeq != 2 {
			t.Errorf("mentioned at %d", row.MentionedSeq)
		}
		s.Redis.Flush()
	}
	must(t, a.Read(t.Context(), conv, 2))
	devtest.Eventually(t, "reading ends the mark", func() bool { return ada.row(conv).MentionedSeq == 0 })

	if q := ada.history(conv)[1].ReplyTo; q == nil || q.Text != "the secret" || q.Sender.ID != ada.id {
		t.Errorf("quote %+v", q)
	}
	must(t, a.Recall(t.Context(), conv, 1))
	devtest.Eventually(t, "the quote goes with what it quotes", func() bool {
		q := bob.history(conv)[1].ReplyTo
		return q.Recalled && q.Text == ""
	})
	_, err := bob.http.Send(t.Context(), protocol.Send{ClientMsgID: "reply-to-recalled", To: client.ToUser(ada.id), Content: json.RawMessage(`{"text":"hm"}`), ReplyTo: &protocol.MessageRef{Seq: 1}}, false)
	want(t, "recalled", err)
	_, err = bob.http.Send(t.Context(), protocol.Send{ClientMsgID: "reply-to-nothing", To: client.ToUser(ada.id), Content: json.RawMessage(`{"text":"hm"}`), ReplyTo: &protocol.MessageRef{Seq: 99}}, false)
	want(t, "invalid_request", err)
	_, err = eve.http.Send(t.Context(), protocol.Send{ClientMsgID: "forward-of-foreign", To: client.ToUser(bob.id), Forward: &protocol.MessageRef{ConversationID: conv, Seq: 2}}, false)
	want(t, "invalid_request", err)
	_, err = bob.http.Send(t.Context(), protocol.Send{ClientMsgID: "mentions-a-stranger", To: client.ToUser(ada.id), Content: json.RawMessage(`{"text":"hm"}`), Mentions: []im.UserID{eve.id}}, false)
	want(t, "invalid_request", err)
}

// Workers die after each of their steps while two people change the same messages, and
// Redis is emptied: everyone ends with the same, and the numbers have no hole.
func TestChange_WorkersDieMeanwhile(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, front())
	ada, bob, conv := e.pair(t)
	a, _ := ada.look("phone")
	b, bobs := bob.look("phone")
	const messages, changes = 10, 12 // of each of the two, per death
	for i := range messages {
		_, err := a.SendText(client.ToUser(bob.id), fmt.Sprint("message ", i+1))
		must(t, err)
	}
	worker := startEngine(t, s, roles(configs.RoleJobs))
	devtest.Eventually(t, "the messages are there", func() bool { return bobs.shows(messages) != "" })
	worker.stop()
	died := errors.New("died here")
	all := uint64(0)
	for _, step := range append([]string{"change"}, steps...) {
		if step == "moves" || step == "insert" { // changes move no cursors, and insert nothing
			continue
		}
		var dead atomic.Bool
		worker := startSteps(t, s, func(now string) error {
			if now == step {
				dead.Store(true)
			}
			if dead.Load() {
				return died
			}
			return nil
		}, roles(configs.RoleJobs))
		for i := range changes {
			seq := im.Seq(1 + i%messages)
			must(t, a.Edit(t.Context(), conv, seq, fmt.Sprint("edit before ", step, i)))
			must(t, b.React(t.Context(), conv, seq, []string{"👍", "🎉"}[i%2], i%3 > 0))
			all += 2
		}
		devtest.Eventually(t, "a worker has died after "+step, dead.Load)
		worker.stop()
		s.Redis.Flush()
	}
	startEngine(t, s, roles(configs.RoleJobs))
	devtest.Eventually(t, "all changes are stored", func() bool { return ada.row(conv).LastChange == all })
	for _, m := range ada.history(conv) {
		devtest.Eventually(t, fmt.Sprint("Bob shows ", m.Seq, " as it is"), func() bool { return bobs.shows(m.Seq) == inShort(m, false) })
	}
	var seen []uint64
	after := uint64(0)
	for {
		page, err := bob.http.History(t.Context(), protocol.History{ConversationID: conv, AfterChange: &after, Limit: 7})
		must(t, err)
		for _, m := range page.Items {
			seen = append(seen, m.Change)
		}
		if after = *page.Change; !page.HasMore {
			break
		}
	}
	if !slices.IsSorted(seen) || len(seen) != messages || after != all {
		t.Errorf("after_change in pages: %v up to %d of %d", seen, after, all)
	}
}
