package logic

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// rows of the members table: since and until when somebody is in harbour.
func sits(w *world, u im.UserID, m im.Member) {
	w.set(func() { w.members[im.SendKey{Conversation: harbour, Sender: u}] = m })
}

// spoken is gathered with ten messages in the channel; ann and bob see them all.
func spoken() *world {
	w := gathered()
	for i := range im.Seq(10) {
		from := []im.UserID{ann, bob}[i%2]
		w.messages = append(w.messages, im.Message{Conversation: harbour, Seq: i + 1, ID: im.MessageID(i + 1), Sender: w.users[from].Sender(),
			Type: im.TypeText, Content: json.RawMessage(`{"text":"x"}`), StoredAt: w.now.UnixMilli()})
	}
	w.messages[9].Type, w.messages[9].Sender = im.TypeNotice, systemProfile.Sender()
	w.messages[9].Content = json.RawMessage(`{"kind":"joined","group_id":"3"}`)
	sits(w, ann, im.Member{Join: 1, Joined: 1})
	sits(w, bob, im.Member{Join: 1, Joined: 1})
	w.states[harbour] = im.ConversationState{Conversation: harbour, LastSeq: 10, LastID: 10, Join: 1, Joined: 1, Read: 5, Delivered: 5}
	return w
}

// toHarbour is a send of ann's to the channel.
func toHarbour(id im.ClientMsgID, words string) protocol.Send {
	m := text(id, words)
	m.To = protocol.To{ConversationID: harbour}
	return m
}

func TestChannel_OnlyWhatOneMaySeeIsShown(t *testing.T) { // [L5]
	s := func(w *world) *Service { return w.service(t, Config{}) }
	calls := map[string]func(w *world) error{
		"history": func(w *world) error {
			_, err := s(w).History(t.Context(), annsPhone, protocol.History{ConversationID: harbour})
			return err
		},
		"changes": func(w *world) error {
			_, err := s(w).History(t.Context(), annsPhone, protocol.History{ConversationID: harbour, AfterChange: new(uint64)})
			return err
		},
		"edits": func(w *world) error { _, err := s(w).Edits(t.Context(), annsPhone, harbour, 3); return err },
		"reactors": func(w *world) error {
			_, err := s(w).Reactors(t.Context(), annsPhone, harbour, 3, "👍", 0, 0)
			return err
		},
		"deletions": func(w *world) error { _, err := s(w).Deletions(t.Context(), annsPhone, harbour, 0, 0); return err },
		"counts": func(w *world) error {
			_, err := s(w).ReceiptCounts(t.Context(), annsPhone, harbour, []im.Seq{3})
			return err
		},
		"recipients": func(w *world) error {
			_, err := s(w).Recipients(t.Context(), annsPhone, im.Place{Conversation: harbour, Seq: 3}, im.ReceiptRead, 0, 0)
			return err
		},
		"offline": func(w *world) error {
			_, err := s(w).OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: harbour})
			return err
		},
		"receipts": func(w *world) error {
			_, err := s(w).Receipts(t.Context(), annsPhone, harbour, protocol.Receipts{ReadSeq: 3})
			return err
		},
		"row": func(w *world) error { _, err := s(w).Conversation(t.Context(), annsPhone, harbour); return err },
	}
	for name, call := range calls {
		w := spoken()
		if err := call(w); err != nil {
			t.Errorf("%s of a member: %v", name, err)
		}
		sits(w, ann, im.Member{Join: 1, Joined: 1, Leave: 9})
		if err := call(w); err != nil {
			t.Errorf("%s of who has left: %v", name, err)
		}
		delete(w.members, im.SendKey{Conversation: harbour, Sender: ann})
		delete(w.states, harbour)
		if err := call(w); !errors.Is(err, im.ErrNotFound) {
			t.Errorf("%s of a stranger: %v", name, err)
		}
	}
}

func TestChannel_TheWindowEndsWithTheNoticeOfLeaving(t *testing.T) {
	for name, c := range map[string]struct {
		member      im.Member
		first, last im.Seq
	}{
		"in":             {im.Member{Join: 3, Joined: 3}, 3, 0},
		"left":           {im.Member{Join: 3, Joined: 3, Leave: 7}, 3, 7},
		"back":           {im.Member{Join: 9, Joined: 9, Leave: 7}, 9, 0},
		"back, with all": {im.Member{Join: 1, Joined: 9, Leave: 7}, 1, 0},
		"deleted some":   {im.Member{Join: 3, Joined: 3, Floor: 5}, 6, 0},
	} {
		w := spoken()
		sits(w, ann, c.member)
		if _, err := w.service(t, Config{}).History(t.Context(), annsPhone, protocol.History{ConversationID: harbour}); err != nil {
			t.Fatal(err)
		}
		if w.queried.First != c.first || w.queried.Last != c.last {
			t.Errorf("%s: asked for %d to %d", name, w.queried.First, w.queried.Last)
		}
	}
}

// [L12] The member's row is read before the messages, and again after them: whoever was
// removed in between does not see what was said since.
func TestChannel_ARemovalWhileMessagesAreReadIsAFence(t *testing.T) {
	removed, back := im.Member{Join: 1, Joined: 1, Leave: 4}, im.Member{Join: 8, Joined: 8, Leave: 4}
	seqs := func(items []im.Message) (all []im.Seq) {
		for _, m := range items {
			all = append(all, m.Seq)
		}
		return all
	}
	for name, c := range map[string]struct {
		then im.Member
		want []im.Seq
	}{"removed": {removed, []im.Seq{1, 2, 3, 4}}, "removed, and back": {back, []im.Seq{8, 9, 10}}} {
		w := spoken()
		w.meanwhile = map[string]func(){"History": func() { sits(w, ann, c.then) }, "Changed": func() { sits(w, ann, c.then) }}
		w.page = im.ChangedPage{Items: w.messages, UpTo: 7}
		s := w.service(t, Config{})
		page, err := s.History(t.Context(), annsPhone, protocol.History{ConversationID: harbour, AfterSeq: seq(0)})
		if err != nil || !slices.Equal(seqs(page.Items), c.want) || page.HasMore {
			t.Errorf("%s: %v, more %t, %v", name, seqs(page.Items), page.HasMore, err)
		}
		sits(w, ann, im.Member{Join: 1, Joined: 1})
		page, err = s.History(t.Context(), annsPhone, protocol.History{ConversationID: harbour, AfterChange: new(uint64)})
		if err != nil || !slices.Equal(seqs(page.Items), c.want) || *page.Change != 7 {
			t.Errorf("%s, changes: %v, %v", name, seqs(page.Items), err)
		}
	}
	w := spoken()
	w.meanwhile = map[string]func(){"LastMessages": func() { sits(w, ann, removed) }}
	s := w.service(t, Config{})
	if _, err := s.Edits(t.Context(), annsPhone, harbour, 5); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("one message: %v", err)
	}
	sits(w, ann, im.Member{Join: 1, Joined: 1})
	row, err := s.Conversation(t.Context(), annsPhone, harbour)
	if err != nil || row.LastMessage != nil {
		t.Errorf("the list shows %+v, %v", row.LastMessage, err)
	}
}

func TestChannel_ARowSaysHowItIsCalled(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Join, st.Joined = 4, 4
	left := st
	left.Leave = 9
	w.list.States = []im.ConversationState{st}
	w.offline = []im.OfflineSource{{Conversation: harbour, Count: 2, LastID: 10, LastSeq: 10, Delivered: 5}}
	s := w.service(t, Config{})
	want := protocol.ChannelRef{GroupID: team, GroupName: "waders", GroupAvatar: "https://example.org/w.png", Name: "harbour", Private: true}
	page, err := s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0)
	if err != nil || page.Degraded || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	row := page.Items[0]
	if row.Kind != "channel" || *row.Channel != want || row.FirstSeq != 4 || row.Left || row.Peer != nil || row.LastMessage.Seq != 10 {
		t.Errorf("%+v", row)
	}
	sources, err := s.OfflineSources(t.Context(), annsPhone)
	if err != nil || sources.Degraded || *sources.Items[0].Channel != want || w.count("ChannelInfos") != 1 {
		t.Errorf("%+v, %v, asked %d times", sources, err, w.count("ChannelInfos"))
	}
	w.states[harbour] = left
	sits(w, ann, im.Member{Join: 4, Joined: 4, Leave: 9})
	row, err = s.Conversation(t.Context(), annsPhone, harbour)
	if err != nil || !row.Left || row.LastSeq != 9 || row.LastMessage.Seq != 9 {
		t.Errorf("%+v, %v", row, err)
	}
	w.set(func() { w.fail["ChannelInfos"] = im.ErrStore })
	w.pass(time.Hour)
	if page, err = s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0); err != nil || !page.Degraded || *page.Items[0].Channel != want {
		t.Errorf("MySQL away: %+v, %v", page, err)
	}
}

func TestChannel_ReceiptsOfWhoHasLeftEndWithTheirWindow(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Leave = 8
	w.states[harbour] = st
	s := w.service(t, Config{})
	at, err := s.Receipts(t.Context(), annsPhone, harbour, protocol.Receipts{ReadSeq: 10})
	if err != nil || at.ReadSeq != 8 || at.DeliveredSeq != 8 {
		t.Fatalf("%+v, %v", at, err)
	}
	if r := w.produced()[0].Receipt; r.Read != 8 || r.Delivered != 8 {
		t.Errorf("the log has %+v", r)
	}
	st.Read, st.Delivered = 8, 8
	w.states[harbour] = st
	if _, err := s.Receipts(t.Context(), annsPhone, harbour, protocol.Receipts{ReadSeq: 10}); err != nil || len(w.produced()) != 1 {
		t.Errorf("what moves nothing is in the log: %v, %v", err, w.produced())
	}
}

// What was sent from one device is no reason to keep from another what came before it.
func TestChannel_OfflineBeginsAfterWhatIsAcked(t *testing.T) {
	w := spoken()
	w.states[harbour] = im.ConversationState{Conversation: harbour, LastSeq: 10, Join: 3, Joined: 3, Delivered: 4, Read: 6}
	if _, err := w.service(t, Config{}).OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: harbour}); err != nil {
		t.Fatal(err)
	}
	if *w.queried.After != 4 {
		t.Errorf("pulled after %d", *w.queried.After)
	}
}

func TestReceiptCounts_AreOfWhatOneSees(t *testing.T) {
	w := spoken()
	sits(w, ann, im.Member{Join: 3, Joined: 3, Leave: 8})
	w.counts = []im.ReceiptCount{{Seq: 3, Recipients: 4, Delivered: 2, Read: 1}}
	w.readers = []im.MemberCursors{{User: bob, Delivered: 9, Read: 7}, {User: nobody}}
	s, ctx := w.service(t, Config{}), t.Context()
	got, err := s.ReceiptCounts(ctx, annsPhone, harbour, []im.Seq{9, 3, 8, 2, 3})
	if err != nil || len(got.Items) != 1 || got.Items[0] != (protocol.ReceiptCount{Seq: 3, Recipients: 4, Delivered: 2, Read: 1}) || w.asked[0] != "ReceiptCounts [3 8]" {
		t.Errorf("%+v, %v, asked %q", got, err, w.asked)
	}
	if got, err := s.ReceiptCounts(ctx, annsPhone, harbour, []im.Seq{1}); err != nil || got.Items == nil || len(got.Items) != 0 || len(w.asked) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	sits(w, ann, im.Member{Join: 3, Joined: 3})
	if page, err := s.Recipients(ctx, annsPhone, im.Place{Conversation: harbour, Seq: 3}, im.ReceiptRead, 0, 1); err != nil || page.Items[0].DeliveredSeq != 9 {
		t.Errorf("%+v, %v", page, err)
	}
	sits(w, ann, im.Member{Join: 3, Joined: 3, Leave: 8})
	for name, seqs := range map[string][]im.Seq{"none": nil, "too many": make([]im.Seq, 101)} {
		if _, err := s.ReceiptCounts(ctx, annsPhone, harbour, seqs); codeOf(err) != "invalid_request" {
			t.Errorf("%s: %v", name, err)
		}
	}
	who := func(n im.Seq, state im.ReceiptState, limit int) (protocol.Recipients, error) {
		return s.Recipients(ctx, annsPhone, im.Place{Conversation: harbour, Seq: n}, state, 0, limit)
	}
	page, err := who(3, im.ReceiptRead, 1)
	if err != nil || !page.HasMore || page.Next != "9" || page.Items[0] != (protocol.Recipient{User: w.users[bob], DeliveredSeq: 8, ReadSeq: 7}) {
		t.Errorf("%+v, %v, want it cut at where one left", page, err)
	}
	if _, err := who(9, im.ReceiptRead, 1); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("of what one does not see: %v", err)
	}
	if _, err := who(3, "", 1); codeOf(err) != "invalid_request" {
		t.Error(err)
	}
}

func TestDeletion_NotOfWhatWasSaidBeforeOneCame(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Join, st.Joined = 4, 4
	w.states[harbour] = st
	s := w.service(t, Config{})
	for at, want := range map[im.Seq]string{3: "not_found", 4: "", 10: "", 11: "not_found"} {
		err := s.DeleteMessagesNow(t.Context(), annsPhone, protocol.DeleteMessages{ConversationID: harbour, Seqs: []im.Seq{at}})
		if codeOf(err) != want {
			t.Errorf("%d: %v", at, err)
		}
	}
}

func TestPosition_KeepsWhenMergedChannelsWereSeen(t *testing.T) {
	w := spoken()
	st := w.states[harbour]
	st.Merged = true
	full := im.Position{Epoch: "g", Version: 5, MergedAt: 1767225600000001}
	w.changes = im.Changes{States: []im.ConversationState{st}, Position: full}
	s := w.service(t, Config{})
	a := ask(t, s, `{"id":"1","cmd":"ping","data":{"position":{"epoch":"g","version":4,"merged_at":1767225590000001}}}`)
	if got := string(a.Frame); !strings.Contains(got, `"position":{"epoch":"g","version":5,"merged_at":1767225600000001}`) || !strings.Contains(got, `"conversation_id":"c4","last_seq":10`) {
		t.Errorf("%s", got)
	}
	synced, err := s.Sync(t.Context(), annsPhone, protocol.Sync{Position: &im.Position{Epoch: "g", Version: 4, MergedAt: 3}})
	if err != nil || synced.Position != full || fmt.Sprint(w.since) != "[g/4 g/4]" || w.since[1].MergedAt != 3 || w.since[0].MergedAt != 1767225590000001 {
		t.Errorf("%+v since %+v, %v", synced.Position, w.since, err)
	}
}
