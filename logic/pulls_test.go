package logic

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func seq(n im.Seq) *im.Seq { return &n }

// talked has ann and bob with three messages, two of them bob's and one of those unread.
func talked() *world {
	w := newWorld()
	for i, from := range []im.UserID{ann, bob, bob} {
		w.messages = append(w.messages, im.Message{
			Conversation: "d7-9", Seq: im.Seq(i + 1), ID: im.MessageID(100 + i), ClientMsgID: "abcdefgh",
			Sender: w.users[from].Sender(), Type: im.TypeText, Content: json.RawMessage(`{"text":"x"}`),
		})
	}
	st := im.ConversationState{Conversation: "d7-9", LastSeq: 3, LastID: 102, Join: 1, Read: 2, Delivered: 2, PeerRead: 1, PeerDelivered: 1, Unread: 1}
	w.states["d7-9"] = st
	w.members[im.SendKey{Conversation: "d7-9", Sender: ann}] = im.Member{Join: 1}
	w.list = im.ListPage{States: []im.ConversationState{st}, Position: im.Position{Epoch: "g", Version: 5}, UnreadTotal: 1}
	w.offline = []im.OfflineSource{{Conversation: "d7-9", Count: 1, LastID: 102, Delivered: 2, LastSeq: 3}}
	return w
}

func TestHistory_AsksForWhatIsTheirs(t *testing.T) {
	for _, c := range []struct {
		name   string
		req    protocol.History
		member im.Member
		want   im.HistoryQuery
	}{
		{"the end", protocol.History{}, im.Member{Join: 1}, im.HistoryQuery{Limit: 50, First: 1}},
		{"before", protocol.History{BeforeSeq: seq(9), Limit: 7}, im.Member{Join: 1}, im.HistoryQuery{Before: 9, Limit: 7, First: 1}},
		{"after the very first", protocol.History{AfterSeq: seq(0), Limit: 1000}, im.Member{Join: 1}, im.HistoryQuery{After: seq(0), Limit: 100, First: 1}},
		{"around", protocol.History{Around: seq(5)}, im.Member{Join: 3, Leave: 8, Floor: 4}, im.HistoryQuery{Around: 5, Limit: 50, First: 5, Last: 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := talked()
			w.members[im.SendKey{Conversation: "d7-9", Sender: ann}] = c.member
			c.req.ConversationID, c.want.Conversation = "d7-9", "d7-9"
			page, err := w.service(t, Config{}).History(t.Context(), annsPhone, c.req)
			if err != nil || len(page.Items) != 3 {
				t.Fatalf("%+v, %v", page, err)
			}
			got := w.queried
			if (got.After == nil) != (c.want.After == nil) || got.After != nil && *got.After != *c.want.After {
				t.Fatalf("after %v", got.After)
			}
			got.After, c.want.After = nil, nil
			if got != c.want {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if page.Items[0].ClientMsgID == "" || page.Items[1].ClientMsgID != "" {
				t.Fatal("client message IDs are for their senders, and only for them")
			}
		})
	}
}

func TestHistory_RefusesOrIsEmpty(t *testing.T) {
	for _, c := range []struct {
		name string
		req  protocol.History
		fail string
		want string // "": an empty page
	}{
		{"two directions", protocol.History{ConversationID: "d7-9", BeforeSeq: seq(1), AfterSeq: seq(1)}, "", "invalid_request"},
		{"a negative limit", protocol.History{ConversationID: "d7-9", Limit: -1}, "", "invalid_request"},
		{"around nothing", protocol.History{ConversationID: "d7-9", Around: seq(0)}, "", "invalid_request"},
		{"no conversation", protocol.History{}, "", "not_found"},
		{"somebody else's", protocol.History{ConversationID: "d9-11"}, "", "not_found"},
		{"a channel that is not theirs", protocol.History{ConversationID: "c5"}, "", "not_found"},
		{"with nobody", protocol.History{ConversationID: "d7-404"}, "", "not_found"},
		{"nothing said yet", protocol.History{ConversationID: "d7-11"}, "", ""},
		{"nothing said by the system", protocol.History{ConversationID: "d0-7"}, "", ""},
		{"nothing said to oneself", protocol.History{ConversationID: "d7-7"}, "", ""},
		{"before the first", protocol.History{ConversationID: "d7-9", BeforeSeq: seq(0)}, "", ""},
		{"MySQL away at the member", protocol.History{ConversationID: "d7-9"}, "Member", "store_unavailable"},
		{"MySQL away at the page", protocol.History{ConversationID: "d7-9"}, "History", "store_unavailable"},
		{"MySQL away at the peer", protocol.History{ConversationID: "d7-11"}, "Peer", "store_unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := talked()
			if c.fail != "" {
				w.fail[c.fail] = im.ErrStore
			}
			page, err := w.service(t, Config{}).History(t.Context(), annsPhone, c.req)
			if c.want == "" && (err != nil || page.Items == nil || len(page.Items) != 0 || page.HasMore) {
				t.Fatalf("%+v, %v", page, err)
			}
			if c.want != "" && (err == nil || protocol.CodeOf(err).Name != c.want) {
				t.Fatal(err)
			}
		})
	}
}

// A page of the largest messages is cut where a connection could not take it, on the
// side where the next page goes on.
func TestHistory_APageIsBoundedInBytes(t *testing.T) {
	w := talked()
	w.messages = nil
	for i := range 100 {
		w.messages = append(w.messages, im.Message{Conversation: "d7-9", Seq: im.Seq(i + 1), Content: make([]byte, 20<<10)})
	}
	const fits = pageBytes / (20 << 10)
	s := w.service(t, Config{})
	for _, c := range []struct {
		name        string
		req         protocol.History
		first, last im.Seq
		more, after bool
	}{
		{"the end", protocol.History{}, 101 - fits, 100, true, false},
		{"before", protocol.History{BeforeSeq: seq(101)}, 101 - fits, 100, true, false},
		{"after", protocol.History{AfterSeq: seq(0)}, 1, fits, true, false},
		{"around the middle", protocol.History{Around: seq(50)}, 38, 62, true, true},
		{"around the end", protocol.History{Around: seq(100)}, 101 - fits, 100, true, false},
	} {
		c.req.ConversationID = "d7-9"
		page, err := s.History(t.Context(), annsPhone, c.req)
		if err != nil || len(page.Items) != fits {
			t.Errorf("%s: %d messages, %v", c.name, len(page.Items), err)
			continue
		}
		if first, last := page.Items[0].Seq, page.Items[fits-1].Seq; first != c.first || last != c.last || page.HasMore != c.more || page.HasMoreAfter != c.after {
			t.Errorf("%s: %d to %d, more %v, after %v", c.name, first, last, page.HasMore, page.HasMoreAfter)
		}
	}
}

func TestSync_IsEverythingAtOnce(t *testing.T) {
	w := talked()
	got, err := w.service(t, Config{}).Sync(t.Context(), annsPhone, protocol.Sync{})
	if err != nil {
		t.Fatal(err)
	}
	row := got.Conversations[0]
	switch {
	case !got.Full, got.User.Handle != "ann", got.UnreadTotal != 1, got.Position.Version != 5, got.Limits.MaxPage != 100, got.Degraded,
		len(got.Offline) != 1, got.Offline[0].Peer.Handle != "bob", got.Offline[0].Count != 1:
		t.Fatalf("%+v", got)
	case row.Peer.Handle != "bob", row.LastMessage.Seq != 3, row.LastMessage.ClientMsgID != "", row.Unread != 1, row.ReadSeq != 2,
		row.PeerRead != 1, row.Kind != "direct":
		t.Fatalf("%+v", row)
	}
}

func TestSync_FromAPositionIsWhatChanged(t *testing.T) {
	w := talked()
	s := w.service(t, Config{})
	since := protocol.Sync{Position: &im.Position{Epoch: "g", Version: 4}}
	w.changes = im.Changes{Position: im.Position{Epoch: "g", Version: 6}, HasMore: true}
	got, err := s.Sync(t.Context(), annsPhone, since)
	if err != nil || got.Full || got.Position.Version != 6 || !got.HasMore || got.UnreadTotal != 3 || got.Conversations == nil || w.count("List") != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, changes := range map[string]im.Changes{"another generation": {Void: true}, "Redis away": {Degraded: true}} {
		w.changes = changes
		if got, err = s.Sync(t.Context(), annsPhone, since); err != nil || !got.Full || len(got.Conversations) != 1 {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestSync_GoesOnWithoutTheTexts(t *testing.T) {
	w := talked()
	w.fail["LastMessages"] = im.ErrStore
	s := w.service(t, Config{})
	got, err := s.Sync(t.Context(), annsPhone, protocol.Sync{})
	if err != nil || !got.Degraded || got.Conversations[0].LastMessage != nil || got.Conversations[0].Unread != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	list, err := s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0)
	if err != nil || !list.Degraded || len(list.Items) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
}

func TestSync_RefusesWhatItCannotKnow(t *testing.T) {
	for _, call := range []string{"List", "Offline", "Profiles"} {
		w := talked()
		w.fail[call] = im.ErrStore
		if _, err := w.service(t, Config{}).Sync(t.Context(), annsPhone, protocol.Sync{}); !errors.Is(err, im.ErrStore) {
			t.Errorf("%s: %v", call, err)
		}
	}
	if _, err := talked().service(t, Config{}).Sync(t.Context(), annsPhone, protocol.Sync{Limit: -1}); protocol.CodeOf(err).Name != "invalid_request" {
		t.Error(err)
	}
}

func TestConversations_NextIsTheLastShown(t *testing.T) {
	w := talked()
	w.list.HasMore = true
	got, err := w.service(t, Config{}).Conversations(t.Context(), annsPhone, im.ListAll, 0, 1)
	if err != nil || got.Next != "102" || !got.HasMore || got.UnreadTotal != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestConversation_OneRow(t *testing.T) {
	w := talked()
	s := w.service(t, Config{})
	for c, want := range map[im.ConversationID]string{
		"d7-9": "bob", "d7-11": "eve", "d0-7": "system", "d7-7": "ann", "d7-404": "not_found", "d9-11": "not_found", "c1": "not_found",
	} {
		row, err := s.Conversation(t.Context(), annsPhone, c)
		got := ""
		if err != nil {
			got = protocol.CodeOf(err).Name
		} else {
			got = row.Peer.Handle
		}
		if got != want || err == nil && (row.Unread == 1) != (c == "d7-9") || err == nil && (row.ConversationID != c || (row.LastMessage != nil) != (c == "d7-9")) {
			t.Errorf("%s: got %s, want %s: %+v, %v", c, got, want, row, err)
		}
	}
}

func TestOfflinePull_StartsAfterWhatWasAcked(t *testing.T) {
	for _, c := range []struct{ after, want im.Seq }{{0, 2}, {1, 2}, {5, 5}} {
		w := talked()
		page, err := w.service(t, Config{}).OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: "d7-9", AfterSeq: c.after})
		if err != nil || *w.queried.After != c.want || w.queried.Limit != 100 || page.HasMore {
			t.Errorf("after %d: %+v, %v", c.after, w.queried, err)
		}
	}
	w := talked()
	s := w.service(t, Config{})
	if page, err := s.OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: "d7-11"}); err != nil || len(page.Items) != 0 {
		t.Fatalf("%+v, %v", page, err)
	}
	if _, err := s.OfflinePull(t.Context(), annsPhone, protocol.OfflinePull{ConversationID: "d9-11"}); !errors.Is(err, im.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestReceipts_MoveForwardThroughTheLog(t *testing.T) {
	for _, c := range []struct {
		name string
		in   protocol.Receipts
		task *im.ReceiptTask
		out  protocol.Receipts
	}{
		{"delivered", protocol.Receipts{DeliveredSeq: 3}, &im.ReceiptTask{Delivered: 3}, protocol.Receipts{DeliveredSeq: 3, ReadSeq: 2}},
		{"read implies delivered", protocol.Receipts{ReadSeq: 3}, &im.ReceiptTask{Delivered: 3, Read: 3}, protocol.Receipts{DeliveredSeq: 3, ReadSeq: 3}},
		{"beyond the end is cut", protocol.Receipts{ReadSeq: 1 << 40}, &im.ReceiptTask{Delivered: 1 << 40, Read: 1 << 40}, protocol.Receipts{DeliveredSeq: 3, ReadSeq: 3}},
		{"said before", protocol.Receipts{DeliveredSeq: 2, ReadSeq: 1}, nil, protocol.Receipts{DeliveredSeq: 2, ReadSeq: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := talked()
			got, err := w.service(t, Config{}).Receipts(t.Context(), annsPhone, "d7-9", c.in)
			if err != nil || got != c.out {
				t.Fatalf("%+v, %v", got, err)
			}
			tasks := w.produced()
			if c.task == nil {
				if len(tasks) != 0 {
					t.Fatalf("%+v", tasks)
				}
				return
			}
			c.task.User, c.task.Device = ann, "phone"
			if tasks[0].Conversation != "d7-9" || *tasks[0].Receipt != *c.task {
				t.Fatalf("%+v", tasks[0].Receipt)
			}
		})
	}
}

func TestReceipts_Refused(t *testing.T) {
	for _, c := range []struct {
		name string
		conv im.ConversationID
		in   protocol.Receipts
		prep func(*world)
		want string
	}{
		{"nothing said", "d7-9", protocol.Receipts{}, nil, "invalid_request"},
		{"somebody else's", "d9-11", protocol.Receipts{ReadSeq: 1}, nil, "not_found"},
		{"never spoken in", "d7-11", protocol.Receipts{ReadSeq: 1}, nil, "not_found"},
		{"the queue away", "d7-9", protocol.Receipts{ReadSeq: 3}, func(w *world) {
			w.produce = func(_ im.Task, done func(error)) { go done(im.ErrQueue) }
		}, "queue_unavailable"},
		{"both stores away", "d7-9", protocol.Receipts{ReadSeq: 3}, func(w *world) { w.fail["State"] = im.ErrStore }, "store_unavailable"},
	} {
		w := talked()
		if c.prep != nil {
			c.prep(w)
		}
		if _, err := w.service(t, Config{}).Receipts(t.Context(), annsPhone, c.conv, c.in); err == nil || protocol.CodeOf(err).Name != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
