package logic

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func ptr[T any](v T) *T { return &v }

// settling has ann's conversation with bob, of which something was set.
func settling(changed bool) *world {
	w := talked()
	w.rows = map[im.ConversationID]im.SettingsRow{"d7-9": {
		Conversation: "d7-9", Changed: changed, Settings: im.Settings{Version: 4, PinnedAt: 5, DraftAt: 6},
		Draft: im.Draft{Text: "low tide", Device: "phone", ChangedAt: 6},
	}}
	w.sessions[ann] = []im.SessionRef{
		{User: ann, Device: "phone", Session: "s1", Node: "n9"},
		{User: ann, Device: "tablet", Session: "s2", Node: "n9"},
		{User: ann, Device: "laptop", Session: "s3", Node: "n8"},
	}
	return w
}

func TestSettings_OtherDevicesAreTold(t *testing.T) {
	for name, do := range map[string]func(*Service) (protocol.ConversationSettings, error){
		"set": func(s *Service) (protocol.ConversationSettings, error) {
			return s.ChangeSettings(t.Context(), annsPhone, "d7-9", protocol.ChangeSettings{Pinned: ptr(true)})
		},
		"deleted": func(s *Service) (protocol.ConversationSettings, error) {
			return s.DeleteConversation(t.Context(), annsPhone, protocol.DeleteConversation{ConversationID: "d7-9", UpToSeq: 2})
		},
	} {
		for _, changed := range []bool{true, false} {
			w := settling(changed)
			got, err := do(w.service(t, Config{}))
			want := protocol.ConversationSettings{ConversationID: "d7-9", Settings: protocol.Settings{
				Version: 4, PinnedAt: 5, Draft: &protocol.Draft{Text: "low tide", Device: "phone", ChangedAt: 6}}}
			if name == "deleted" {
				want.FloorSeq = 2
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			told := map[im.SessionID]bool{}
			for _, batches := range w.batches {
				for node, batch := range batches {
					all, err := protocol.DecodeDeliveries(batch)
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range all {
						var push struct {
							Push protocol.Push
							Data protocol.ConversationSettings
						}
						if err := json.Unmarshal(d.Frame, &push); err != nil || push.Push != protocol.PushSettings || !reflect.DeepEqual(push.Data, want) {
							t.Errorf("%s: told %s, %v", name, d.Frame, err)
						}
						if told[d.Only] || (d.Only == "s3") != (node == "n8") {
							t.Errorf("%s: %s told twice or on %s", name, d.Only, node)
						}
						told[d.Only] = true
					}
				}
			}
			if expect := map[im.SessionID]bool{"s2": true, "s3": true}; changed && !reflect.DeepEqual(told, expect) || !changed && len(told) > 0 {
				t.Errorf("%s, changed %v: told %v", name, changed, told)
			}
		}
	}
}

// The answer does not wait for the push, and does not fail with it.
func TestSettings_StandWhereNobodyCanBeTold(t *testing.T) {
	for _, call := range []string{"Sessions", "Publish"} {
		w := settling(true)
		w.fail[call] = im.ErrCache
		if got, err := w.service(t, Config{}).ChangeSettings(t.Context(), annsPhone, "d7-9", protocol.ChangeSettings{Pinned: ptr(true)}); err != nil || got.Settings.Version != 4 {
			t.Errorf("%s away: %+v, %v", call, got, err)
		}
	}
}

func TestSettings_Refused(t *testing.T) {
	set := func(req protocol.ChangeSettings) func(*Service, im.ConversationID) error {
		return func(s *Service, c im.ConversationID) error {
			_, err := s.ChangeSettings(t.Context(), annsPhone, c, req)
			return err
		}
	}
	remove := func(upTo im.Seq) func(*Service, im.ConversationID) error {
		return func(s *Service, c im.ConversationID) error {
			_, err := s.DeleteConversation(t.Context(), annsPhone, protocol.DeleteConversation{ConversationID: c, UpToSeq: upTo})
			return err
		}
	}
	pin := set(protocol.ChangeSettings{Pinned: ptr(true)})
	for _, c := range []struct {
		name string
		conv im.ConversationID
		do   func(*Service, im.ConversationID) error
		prep func(*world)
		want string
	}{
		{"nothing to change", "d7-9", set(protocol.ChangeSettings{Version: ptr(uint64(3))}), nil, "invalid_request"},
		{"muted before time began", "d7-9", set(protocol.ChangeSettings{MutedUntil: ptr(int64(-1))}), nil, "invalid_request"},
		{"muted longer than for ever", "d7-9", set(protocol.ChangeSettings{MutedUntil: ptr(int64(1 << 53))}), nil, "invalid_request"},
		{"a long draft", "d7-9", set(protocol.ChangeSettings{Draft: ptr(strings.Repeat("ü", im.MaxDraftBytes/2) + "x")}), nil, "too_large"},
		{"a draft with NUL", "d7-9", set(protocol.ChangeSettings{Draft: ptr("a\x00")}), nil, "invalid_request"},
		{"a draft that is no text", "d7-9", set(protocol.ChangeSettings{Draft: ptr("\xff")}), nil, "invalid_request"},
		{"somebody else's", "d9-11", pin, nil, "not_found"},
		{"a channel that is not theirs", "c5", pin, nil, "not_found"},
		{"never spoken in", "d7-11", pin, nil, "not_found"},
		{"of nobody", "", pin, nil, "not_found"},
		{"another version", "d7-9", pin, func(w *world) { w.fail["ChangeSettings"] = im.ErrConflict }, "conflict"},
		{"too many pinned", "d7-9", pin, func(w *world) { w.fail["ChangeSettings"] = &im.FullError{Limit: "pinned", Max: 50} }, "limit_reached"},
		{"too often", "d7-9", pin, func(w *world) { w.take = func(int) (int, time.Duration) { return 0, time.Second } }, "rate_limited"},
		{"MySQL away", "d7-9", pin, func(w *world) { w.fail["ChangeSettings"] = im.ErrStore }, "store_unavailable"},
		{"MySQL frozen", "d7-9", pin, func(w *world) { w.hang["ChangeSettings"] = true }, "store_unavailable"},
		{"nothing deleted", "d7-9", remove(0), nil, "invalid_request"},
		{"somebody else's deleted", "d9-11", remove(3), nil, "not_found"},
		{"deleted too often", "d7-9", remove(3), func(w *world) { w.take = func(int) (int, time.Duration) { return 0, time.Second } }, "rate_limited"},
		{"deleted with MySQL away", "d7-9", remove(3), func(w *world) { w.fail["DeleteConversation"] = im.ErrStore }, "store_unavailable"},
	} {
		w := settling(true)
		if c.prep != nil {
			c.prep(w)
		}
		if err := c.do(w.service(t, Config{StoreTimeout: 50 * time.Millisecond}), c.conv); err == nil || protocol.CodeOf(err).Name != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(w.batches) > 0 {
			t.Errorf("%s: somebody was told", c.name)
		}
	}
}

func TestSettings_ChangeIsTakenAsItWasSaid(t *testing.T) {
	w := settling(true)
	a := ask(t, w.service(t, Config{}), `{"id":"1","cmd":"settings","data":{"conversation_id":"d7-9","version":3,"pinned":false,"muted_until":9007199254740991,`+
		`"marked_unread":true,"hidden_seq":2,"draft":""}}`)
	if !strings.HasPrefix(string(a.Frame), `{"id":"1","data":{"conversation_id":"d7-9","floor_seq":0,"settings":{"version":4,`) {
		t.Errorf("%s", a.Frame)
	}
	want := im.SettingsChange{Version: ptr(uint64(3)), Pinned: ptr(false), MutedUntil: ptr(im.MutedForever), MarkedUnread: ptr(true),
		Hidden: ptr(im.Seq(2)), Draft: ptr(""), Device: "phone"}
	if len(w.changing) != 1 || !reflect.DeepEqual(w.changing[0], want) {
		t.Errorf("%+v", w.changing)
	}
	a = ask(t, w.service(t, Config{}), `{"id":"2","cmd":"delete_conversation","data":{"conversation_id":"d7-9","up_to_seq":99}}`)
	if !strings.HasPrefix(string(a.Frame), `{"id":"2","data":{"conversation_id":"d7-9","floor_seq":3,`) {
		t.Errorf("%s", a.Frame)
	}
}

// Who reads ends the mark, also where the cursor need not move; who has only received
// does not.
func TestReceipts_ReadingEndsTheMark(t *testing.T) {
	for _, c := range []struct {
		name   string
		marked im.Seq
		in     protocol.Receipts
		ends   bool
		tasks  int
	}{
		{"read again", 4, protocol.Receipts{ReadSeq: 2}, true, 0},
		{"read on", 4, protocol.Receipts{ReadSeq: 3}, true, 1},
		{"received", 4, protocol.Receipts{DeliveredSeq: 3}, false, 1},
		{"read beyond the mark before", 2, protocol.Receipts{ReadSeq: 3}, false, 1},
		{"not marked", 0, protocol.Receipts{ReadSeq: 3}, false, 1},
	} {
		w := settling(true)
		st := w.states["d7-9"]
		st.Settings.Marked = c.marked
		w.states["d7-9"] = st
		_, err := w.service(t, Config{}).Receipts(t.Context(), annsPhone, "d7-9", c.in)
		if err != nil || len(w.produced()) != c.tasks || (len(w.changing) == 1) != c.ends {
			t.Errorf("%s: %d tasks, changes %+v, %v", c.name, len(w.produced()), w.changing, err)
		}
		if c.ends && !reflect.DeepEqual(w.changing[0], im.SettingsChange{MarkedUnread: ptr(false)}) {
			t.Errorf("%s: %+v", c.name, w.changing[0])
		}
	}
	w := settling(true)
	st := w.states["d7-9"]
	st.Settings.Marked = 4
	w.states["d7-9"], w.fail["ChangeSettings"] = st, im.ErrStore
	if _, err := w.service(t, Config{}).Receipts(t.Context(), annsPhone, "d7-9", protocol.Receipts{ReadSeq: 3}); !errors.Is(err, im.ErrStore) || len(w.produced()) > 0 {
		t.Errorf("a mark that cannot be ended: %v", err)
	}
}

func TestConversations_ShowWhatIsSet(t *testing.T) {
	w := talked()
	st := w.states["d7-9"]
	st.Floor, st.Read = 2, 2
	st.Settings = im.Settings{Version: 9, PinnedAt: 5, MutedUntil: im.MutedForever, Marked: 4, Hidden: 1, DraftAt: 6}
	w.list.States = []im.ConversationState{st}
	w.list.UnreadBadge = 7
	w.drafted = map[im.ConversationID]im.Draft{"d7-9": {Text: "low tide", Device: "tablet", ChangedAt: 6}}
	s := w.service(t, Config{})
	list, err := s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0)
	if err != nil || list.UnreadBadge != 7 {
		t.Fatalf("%+v, %v", list, err)
	}
	row := list.Items[0]
	want := &protocol.Settings{Version: 9, PinnedAt: 5, MutedUntil: im.MutedForever, MarkedSeq: 4, HiddenSeq: 1,
		Draft: &protocol.Draft{Text: "low tide", Device: "tablet", ChangedAt: 6}}
	if row.FloorSeq != 2 || row.Hidden || !row.MarkedUnread || !reflect.DeepEqual(row.Settings, want) || row.LastMessage == nil {
		t.Errorf("%+v %+v", row, row.Settings)
	}

	if _, err := s.Conversations(t.Context(), annsPhone, im.ListPinned, 0, 0); err != nil || w.only != im.ListPinned {
		t.Errorf("only %q, %v", w.only, err)
	}
	if _, err := s.Conversations(t.Context(), annsPhone, "muted", 0, 0); protocol.CodeOf(err).Name != "invalid_request" {
		t.Error(err)
	}

	w.fail["Drafts"] = im.ErrStore
	if list, err = s.Conversations(t.Context(), annsPhone, im.ListAll, 0, 0); err != nil || !list.Degraded || *list.Items[0].Settings.Draft != (protocol.Draft{ChangedAt: 6}) {
		t.Errorf("with drafts away: %+v, %v", list, err)
	}
	delete(w.fail, "Drafts")

	// Deleted to the end: nothing of it is shown, and a device that has it learns so.
	st.Floor = 3
	w.changes = im.Changes{States: []im.ConversationState{st}, Position: im.Position{Epoch: "g", Version: 6}}
	synced, err := s.Sync(t.Context(), annsPhone, protocol.Sync{Position: &im.Position{Epoch: "g", Version: 5}})
	if err != nil || synced.UnreadTotal != 3 || synced.UnreadBadge != 2 {
		t.Fatalf("%+v, %v", synced, err)
	}
	if row := synced.Conversations[0]; !row.Hidden || row.FloorSeq != 3 || row.LastMessage != nil || row.LastSeq != 3 {
		t.Errorf("%+v", row)
	}
	pong, err := s.ping(t.Context(), annsSession, protocol.Ping{Position: &im.Position{Epoch: "g", Version: 5}})
	if d := pong.Conversations[0]; err != nil || d.FloorSeq != 3 || d.SettingsVersion != 9 {
		t.Errorf("%+v, %v", pong, err)
	}
}

func TestHistory_SaysWhereItBegins(t *testing.T) {
	w := talked()
	s := w.service(t, Config{})
	for _, c := range []struct {
		member im.Member
		first  im.Seq
	}{{im.Member{Join: 1}, 0}, {im.Member{Join: 3}, 3}, {im.Member{Join: 1, Floor: 5}, 6}} {
		w.members[im.SendKey{Conversation: "d7-9", Sender: ann}] = c.member
		for _, req := range []protocol.History{{ConversationID: "d7-9"}, {ConversationID: "d7-9", BeforeSeq: seq(1)}} {
			if page, err := s.History(t.Context(), annsPhone, req); err != nil || page.FirstSeq != c.first {
				t.Errorf("%+v: begins at %d, want %d, %v", c.member, page.FirstSeq, c.first, err)
			}
		}
	}
}
