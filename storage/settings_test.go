package storage

import (
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestSettings(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"ChangeSettings_WhatIsAbsentStays":             testSettingsStay,
		"ChangeSettings_AnotherVersionIsAConflict":     testSettingsConflict,
		"ChangeSettings_OfAStrangerIsNotFound":         testSettingsStranger,
		"ChangeSettings_AtMost50Pinned":                testPinned,
		"ChangeSettings_ConcurrentOnesAllCount":        testSettingsConcurrent,
		"ChangeSettings_DoubtIsNotedWithTheChangeOnly": testSettingsDoubt,
		"DeleteConversation_FloorOnlyRises":            testDelete,
		"Drafts_EachUsersOwn":                          testDrafts,
	})
}

func ptr[T any](v T) *T { return &v }

func testSettingsStay(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 5, a, b)
	var want im.Settings
	for i, step := range []struct {
		name   string
		change im.SettingsChange
		expect func(s *im.Settings, got im.SettingsRow)
	}{
		{"pin", im.SettingsChange{Pinned: ptr(true)}, func(s *im.Settings, got im.SettingsRow) { s.PinnedAt = got.Settings.PinnedAt }},
		{"mute", im.SettingsChange{MutedUntil: ptr(im.MutedForever)}, func(s *im.Settings, _ im.SettingsRow) { s.MutedUntil = im.MutedForever }},
		{"mark", im.SettingsChange{MarkedUnread: ptr(true)}, func(s *im.Settings, _ im.SettingsRow) { s.Marked = 6 }},
		{"hide beyond the end", im.SettingsChange{Hidden: ptr(im.Seq(99))}, func(s *im.Settings, _ im.SettingsRow) { s.Hidden = 5 }},
		{"draft", im.SettingsChange{Draft: ptr("Zoë 🐦 '\\"), Device: "phone"}, func(s *im.Settings, got im.SettingsRow) { s.DraftAt = got.Settings.DraftAt }},
		{"show and unmark", im.SettingsChange{Hidden: ptr(im.Seq(0)), MarkedUnread: ptr(false)}, func(s *im.Settings, _ im.SettingsRow) { s.Hidden, s.Marked = 0, 0 }},
		{"all at once", im.SettingsChange{Pinned: ptr(false), MutedUntil: ptr(int64(0)), Draft: ptr("")}, func(s *im.Settings, _ im.SettingsRow) { *s = im.Settings{} }},
	} {
		version := uint64(i + 1)
		got, err := db.ChangeSettings(t.Context(), a, c, step.change, false)
		must(t, err)
		step.expect(&want, got)
		want.Version = version
		if !got.Changed || got.Settings != want || got.Conversation != c || got.Floor != 0 {
			t.Fatalf("%s: %+v, want %+v", step.name, got, want)
		}
		switch step.name {
		case "pin":
			if now, err := db.NowMilli(t.Context()); err != nil || want.PinnedAt == 0 || want.PinnedAt > now {
				t.Errorf("pinned at %d, now %d, %v", want.PinnedAt, now, err)
			}
		case "draft":
			if got.Draft.Text != "Zoë 🐦 '\\" || got.Draft.Device != "phone" || got.Draft.ChangedAt != got.Settings.DraftAt || want.DraftAt == 0 {
				t.Errorf("draft %+v", got.Draft)
			}
		}
		again, err := db.ChangeSettings(t.Context(), a, c, step.change, false)
		if step.change.Hidden == nil || *step.change.Hidden == 0 { // what is so already is no change
			if err != nil || again.Changed || again.Settings != want {
				t.Errorf("%s, again: %+v, %v", step.name, again, err)
			}
		}
		if s, err := db.UserState(t.Context(), a, c); err != nil || s.Settings != want {
			t.Errorf("%s: the state has %+v, want %+v (%v)", step.name, s.Settings, want, err)
		}
	}
	if s, err := db.UserState(t.Context(), b, c); err != nil || s.Settings != (im.Settings{}) {
		t.Errorf("the other side: %+v, %v", s.Settings, err)
	}
}

func testSettingsConflict(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	for _, version := range []uint64{1, 7} {
		if _, err := db.ChangeSettings(t.Context(), a, c, im.SettingsChange{Version: &version, Pinned: ptr(true)}, false); !errors.Is(err, im.ErrConflict) {
			t.Errorf("version %d of what was never set: %v", version, err)
		}
	}
	for version := range uint64(3) {
		row, err := db.ChangeSettings(t.Context(), a, c, im.SettingsChange{Version: &version, MutedUntil: ptr(int64(version + 1))}, false)
		if err != nil || row.Settings.Version != version+1 {
			t.Errorf("at version %d: %+v, %v", version, row, err)
		}
		if _, err := db.ChangeSettings(t.Context(), a, c, im.SettingsChange{Version: &version, MutedUntil: ptr(int64(9))}, false); !errors.Is(err, im.ErrConflict) {
			t.Errorf("at version %d a second time: %v", version, err)
		}
	}
	if s, err := db.UserState(t.Context(), a, c); err != nil || s.Settings != (im.Settings{Version: 3, MutedUntil: 3}) {
		t.Errorf("%+v, %v", s.Settings, err)
	}
}

func testSettingsStranger(t *testing.T, db *DB) {
	_, _, c := newPair(t, db)
	stranger := newUser(t, db)
	unknown := im.DirectConversation(stranger, im.MaxID)
	for _, conv := range []im.ConversationID{c, unknown, "c99"} {
		if _, err := db.ChangeSettings(t.Context(), stranger, conv, im.SettingsChange{Pinned: ptr(true)}, true); err != im.ErrNotFound {
			t.Errorf("settings of %s: %v", conv, err)
		}
		if _, err := db.DeleteConversation(t.Context(), stranger, conv, 1, true); err != im.ErrNotFound {
			t.Errorf("delete %s: %v", conv, err)
		}
	}
}

// Many pin at once: the places are counted one at a time.
func testPinned(t *testing.T, db *DB) {
	a := newUser(t, db)
	var convs []im.NewConversation
	for range im.MaxPinned + 6 {
		peer := newUser(t, db)
		convs = append(convs, im.NewConversation{ID: im.DirectConversation(a, peer), Members: []im.UserID{a, peer}})
	}
	must(t, db.EnsureConversations(t.Context(), convs))
	var wg sync.WaitGroup
	var mu sync.Mutex
	pinned := map[im.ConversationID]bool{}
	for _, conv := range convs {
		wg.Go(func() {
			_, err := db.ChangeSettings(t.Context(), a, conv.ID, im.SettingsChange{Pinned: ptr(true)}, false)
			var full *im.FullError
			mu.Lock()
			defer mu.Unlock()
			if pinned[conv.ID] = err == nil; err != nil && (!errors.As(err, &full) || full.Max != im.MaxPinned) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	var one, other im.ConversationID
	for c, is := range pinned {
		if is {
			n++
			one = c
		} else {
			other = c
		}
	}
	if n != im.MaxPinned {
		t.Fatalf("%d pinned", n)
	}
	_, err := db.ChangeSettings(t.Context(), a, one, im.SettingsChange{Pinned: ptr(true), MutedUntil: ptr(int64(1))}, false)
	must(t, err) // has its place
	_, err = db.ChangeSettings(t.Context(), a, one, im.SettingsChange{Pinned: ptr(false)}, false)
	must(t, err)
	_, err = db.ChangeSettings(t.Context(), a, other, im.SettingsChange{Pinned: ptr(true)}, false)
	must(t, err)
}

func testSettingsConcurrent(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 3, a, b)
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range int64(writers) {
		wg.Go(func() {
			for i := range int64(each) {
				if _, err := db.ChangeSettings(t.Context(), a, c, im.SettingsChange{MutedUntil: ptr(1 + w*each + i)}, false); err != nil {
					t.Error(err)
				}
				must(t, db.MoveCursors(t.Context(), []im.CursorMove{{Conversation: c, User: a, Delivered: 2, Read: 1}, {Conversation: c, User: b, Read: 2}}))
			}
		})
	}
	wg.Wait()
	if s, err := db.UserState(t.Context(), a, c); err != nil || s.Settings.Version != writers*each {
		t.Errorf("%+v, %v", s.Settings, err)
	}
}

func testSettingsDoubt(t *testing.T, db *DB) {
	a, _, c := newPair(t, db)
	before, _, err := db.Doubts(t.Context())
	must(t, err)
	version := uint64(9)
	for _, step := range []struct {
		change   im.SettingsChange
		doubtful bool
		noted    uint64
	}{
		{im.SettingsChange{Pinned: ptr(true)}, false, 0},
		{im.SettingsChange{Pinned: ptr(true)}, true, 0}, // changes nothing
		{im.SettingsChange{Pinned: ptr(false), Version: &version}, true, 0},
		{im.SettingsChange{Pinned: ptr(false)}, true, 1},
	} {
		_, err := db.ChangeSettings(t.Context(), a, c, step.change, step.doubtful)
		if err != nil && !errors.Is(err, im.ErrConflict) {
			t.Error(err)
		}
		if now, _, err := db.Doubts(t.Context()); err != nil || now != before+step.noted {
			t.Errorf("%+v: %d doubts noted, %v", step, now-before, err)
		}
	}
	must(t, db.ClearDoubts(t.Context(), before+1))
}

func testDelete(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 8, a, b)
	_, err := db.ChangeSettings(t.Context(), a, c, im.SettingsChange{Pinned: ptr(true), MutedUntil: ptr(im.MutedForever),
		MarkedUnread: ptr(true), Hidden: ptr(im.Seq(2)), Draft: ptr("gone soon")}, false)
	must(t, err)
	for _, step := range []struct{ upTo, floor im.Seq }{{5, 5}, {3, 5}, {5, 5}, {99, 8}, {8, 8}} {
		before, err := db.UserState(t.Context(), a, c)
		must(t, err)
		row, err := db.DeleteConversation(t.Context(), a, c, step.upTo, false)
		if err != nil || row.Floor != step.floor || row.Changed != (before.Floor != step.floor) {
			t.Errorf("up to %d: %+v, %v", step.upTo, row, err)
		}
		s, err := db.UserState(t.Context(), a, c)
		must(t, err)
		want := im.Settings{Version: s.Settings.Version, MutedUntil: im.MutedForever, Hidden: 2}
		if s.Floor != step.floor || s.Settings != want || row.Draft != (im.Draft{}) || s.Hidden() != (step.floor == 8) {
			t.Errorf("up to %d: %+v", step.upTo, s)
		}
		if row.Changed != (s.Settings.Version == before.Settings.Version+1) {
			t.Errorf("up to %d: version %d after %d", step.upTo, s.Settings.Version, before.Settings.Version)
		}
	}
	if s, err := db.UserState(t.Context(), b, c); err != nil || s.Floor != 0 {
		t.Errorf("the other side: %+v, %v", s, err)
	}
	if m, err := db.Member(t.Context(), c, a); err != nil || m.Floor != 8 {
		t.Errorf("%+v, %v", m, err)
	}
}

func testDrafts(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	other := im.DirectConversation(a, a)
	must(t, db.EnsureConversations(t.Context(), []im.NewConversation{{ID: other, Members: []im.UserID{a}}}))
	want := map[im.ConversationID]im.Draft{}
	for conv, text := range map[im.ConversationID]string{c: "to b", other: "to myself"} {
		row, err := db.ChangeSettings(t.Context(), a, conv, im.SettingsChange{Draft: &text, Device: "tablet"}, false)
		must(t, err)
		want[conv] = row.Draft
	}
	text := "to a"
	_, err := db.ChangeSettings(t.Context(), b, c, im.SettingsChange{Draft: &text}, false)
	must(t, err)
	if got, err := db.Drafts(t.Context(), a, []im.ConversationID{c, other, "c5"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v, %v", got, want, err)
	}
	_, err = db.ChangeSettings(t.Context(), a, c, im.SettingsChange{Draft: ptr("")}, false)
	must(t, err)
	delete(want, c)
	if got, err := db.Drafts(t.Context(), a, []im.ConversationID{c, other}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v, %v", got, want, err)
	}
}
