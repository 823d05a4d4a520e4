package logic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// shelf is Schedules in memory.
type shelf struct {
	w    *world
	rows map[im.ScheduleID]im.Scheduled
	most []int
}

func (f *shelf) Schedule(ctx context.Context, s im.Scheduled, partition, most int) (im.Scheduled, error) {
	f.most = append(f.most, most)
	if err := f.w.called(ctx, "Schedule"); err != nil {
		return im.Scheduled{}, err
	}
	if partition != len(s.Conversation) {
		return im.Scheduled{}, fmt.Errorf("partition %d", partition)
	}
	if row, err := f.ScheduledAs(ctx, im.SendKey{Conversation: s.Conversation, Sender: s.Sender, ClientMsgID: s.ClientMsgID}); err == nil {
		return row, nil
	}
	if most > 0 && len(f.rows) >= most {
		return im.Scheduled{}, &im.FullError{Limit: "scheduled", Max: most}
	}
	s.ID = im.ScheduleID(len(f.rows) + 1)
	f.rows[s.ID] = s
	return s, nil
}

func (f *shelf) Scheduled(ctx context.Context, id im.ScheduleID) (im.Scheduled, error) {
	row, ok := f.rows[id]
	if !ok {
		return row, im.ErrNotFound
	}
	return row, f.w.called(ctx, "Scheduled")
}

func (f *shelf) ScheduledAs(ctx context.Context, k im.SendKey) (im.Scheduled, error) {
	for _, row := range f.rows {
		if row.Conversation == k.Conversation && row.Sender == k.Sender && row.ClientMsgID == k.ClientMsgID {
			return row, nil
		}
	}
	return im.Scheduled{}, errors.Join(im.ErrNotFound, f.w.called(ctx, "ScheduledAs"))
}

func (f *shelf) ScheduledOf(ctx context.Context, q im.ScheduledQuery) (all []im.Scheduled, more bool, err error) {
	for _, id := range slices.Sorted(maps.Keys(f.rows)) {
		if row := f.rows[id]; row.Sender == q.Sender && row.State == q.State && row.ID > q.After.Schedule {
			all = append(all, row)
		}
	}
	return all[:min(q.Limit, len(all))], len(all) > q.Limit, f.w.called(ctx, "ScheduledOf")
}

func (f *shelf) ChangeScheduled(ctx context.Context, id im.ScheduleID, p im.SchedulePatch) (im.Scheduled, error) {
	row := f.rows[id]
	if row.State != im.SchedulePending {
		return row, im.ErrScheduleFinal
	}
	if p.Request != nil {
		row.Request = p.Request
	}
	if p.DueAt != nil {
		row.DueAt = *p.DueAt
	}
	if p.Cancel {
		row.State = im.ScheduleCancelled
	}
	f.rows[id] = row
	return row, f.w.called(ctx, "ChangeScheduled")
}

// scheduling is a service that schedules, and its shelf.
func scheduling(t *testing.T, cfg Config) (*world, *Service, *shelf) {
	w := newWorld()
	s := w.service(t, cfg)
	f := &shelf{w: w, rows: map[im.ScheduleID]im.Scheduled{}}
	s.deps.Schedules, s.deps.Partition = f, func(c im.ConversationID) int { return len(c) }
	return w, s, f
}

const hence = 1767225600000 + 3_600_000 // an hour after the world begins

func textAt(id im.ClientMsgID, say string, at int64) protocol.Send {
	m := text(id, say)
	m.DeliverAt = at
	return m
}

func TestSchedule_IsKeptAndAnsweredAgain(t *testing.T) {
	w, s, f := scheduling(t, Config{})
	m := textAt("abcdefgh", "a < b & c", hence)
	m.Mentions = []im.UserID{bob}
	for range 2 {
		sent, err := sendNow(t, s, m)
		if err != nil || sent.State != protocol.StateScheduled || *sent.ScheduleID != 1 || sent.DeliverAt != hence || sent.ConversationID != "d7-9" {
			t.Fatalf("%+v %v", sent, err)
		}
	}
	row := f.rows[1]
	if len(w.produced()) > 0 || len(f.rows) != 1 || row.Sender != ann || row.ByServer || row.DueAt != hence || row.Hash == hashOf("a < b & c") {
		t.Errorf("%+v", row)
	}
	if want := `{"client_msg_id":"abcdefgh","to":{"conversation_id":"d7-9"},"type":"text","content":{"text":"a < b & c"},"mentions":["9"]}`; string(row.Request) != want {
		t.Errorf("request %s", row.Request)
	}
	m.Content = json.RawMessage(`{"text":"other"}`)
	if _, err := sendNow(t, s, m); code(err) != "client_msg_id_conflict refused" {
		t.Errorf("other content: %v", err)
	}
}

// [L1]
func TestSchedule_RefusalsComeWhenItIsScheduled(t *testing.T) {
	for _, c := range []struct {
		name  string
		world func(*world)
		send  protocol.Send
		want  string
	}{
		{"a negative time", nil, textAt("abcdefgh", "hi", -1), "invalid_request refused"},
		{"too far ahead", nil, textAt("abcdefgh", "hi", 1767225600000+367*24*3_600_000), "invalid_request refused"},
		{"an empty text", nil, textAt("abcdefgh", "", hence), "invalid_text refused"},
		{"blocked", func(w *world) { w.blocked[pair{ann, bob}] = true }, textAt("abcdefgh", "hi", hence), "blocked refused"},
		{"the filter", func(w *world) { w.fail["Apply"] = im.ErrContentRefused }, textAt("abcdefgh", "hi", hence), "content_refused refused"},
		{"too often", func(w *world) { w.take = func(int) (int, time.Duration) { return 0, time.Second } }, textAt("abcdefgh", "hi", hence), "rate_limited refused"},
		{"too many", func(w *world) { w.fail["Schedule"] = &im.FullError{Limit: "scheduled", Max: 5} }, textAt("abcdefgh", "hi", hence), "limit_reached refused"},
		{"MySQL is away before", func(w *world) { w.fail["FindStored"] = im.ErrStore }, textAt("abcdefgh", "hi", hence), "store_unavailable refused"},
		{"MySQL is away at the insert", func(w *world) { w.fail["Schedule"] = im.ErrStore }, textAt("abcdefgh", "hi", hence), "store_unavailable unknown"},
		{"MySQL hangs at the insert", func(w *world) { w.hang["Schedule"] = true }, textAt("abcdefgh", "hi", hence), "store_unavailable unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, s, f := scheduling(t, Config{StoreTimeout: 100 * time.Millisecond})
			w.say = func(text string) (string, error) { return text, w.fail["Apply"] }
			if c.world != nil {
				c.world(w)
			}
			if _, err := sendNow(t, s, c.send); code(err) != c.want {
				t.Errorf("%s (%v), want %s", code(err), err, c.want)
			}
			if len(f.rows) > 0 {
				t.Errorf("%+v", f.rows)
			}
		})
	}
}

// [L1]: what waits for its time is not refused to who asks again.
func TestSchedule_ARetryIsAnsweredWhateverHasBeenForbiddenSince(t *testing.T) {
	w, s, f := scheduling(t, Config{MembershipTTL: time.Nanosecond})
	m := textAt("abcdefgh", "hi", hence)
	if _, err := sendNow(t, s, m); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.blocked[pair{ann, bob}] = true })
	w.pass(time.Second)
	if sent, err := sendNow(t, s, m); err != nil || sent.State != protocol.StateScheduled {
		t.Errorf("%+v %v", sent, err)
	}
	row := f.rows[1]
	row.State = im.ScheduleFailed
	f.rows[1] = row
	if _, err := sendNow(t, s, m); code(err) != "schedule_final refused" {
		t.Error(err)
	}
	w.stored[im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}] = im.StoredRef{Seq: 4, ID: 5, StoredAt: 6, Hash: hashOf("hi")}
	if sent, err := sendNow(t, s, m); err != nil || sent.State != protocol.StateStored || sent.Seq != 4 {
		t.Errorf("stored: %+v %v", sent, err)
	}
	m.Content = json.RawMessage(`{"text":"no"}`)
	if _, err := sendNow(t, s, m); code(err) != "client_msg_id_conflict refused" {
		t.Error(err)
	}
}

func TestSchedule_ABackendHasNoBound(t *testing.T) {
	_, s, f := scheduling(t, Config{MaxScheduled: 1})
	for i := range 2 {
		m := textAt(im.ClientMsgID(fmt.Sprintf("notice-%d", i)), "hi", hence)
		sent, err := s.ServerSend(t.Context(), protocol.ServerSend{Send: m, From: userID(ann)}, true)
		if err != nil || sent.State != protocol.StateScheduled {
			t.Fatalf("%+v %v", sent, err)
		}
	}
	if !f.rows[1].ByServer || !slices.Equal(f.most, []int{0, 0}) {
		t.Errorf("%+v %v", f.rows, f.most)
	}
	if _, err := sendNow(t, s, textAt("abcdefgh", "hi", hence)); code(err) != "limit_reached refused" {
		t.Error(err)
	}
}

// [L13]
func TestDecide_MakesATaskOnceAndKeepsIt(t *testing.T) {
	w, s, f := scheduling(t, Config{MembershipTTL: time.Nanosecond})
	if _, err := sendNow(t, s, textAt("abcdefgh", "hi", hence)); err != nil {
		t.Fatal(err)
	}
	taken := w.count("Take")
	w.say = func(text string) (string, error) { return "**", nil }
	w.pass(time.Hour)
	row := f.rows[1]
	task, keep, err := s.Decide(t.Context(), row)
	if err != nil || task == nil || keep == nil {
		t.Fatal(task, err)
	}
	if task.Sender.Handle != "ann" || task.ClientMsgID != "abcdefgh" || string(task.Content) != `{"text":"**"}` || task.Hash != hashOf("hi") ||
		task.Uncounted != im.UncountedForSender || task.AdvanceRead || task.AcceptedAt != hence || task.Origin != (im.Origin{}) {
		t.Errorf("%+v", task)
	}
	if w.count("Take") != taken {
		t.Error("what was counted when it was scheduled is counted again")
	}
	w.set(func() { w.blocked[pair{ann, bob}] = true })
	w.pass(time.Hour)
	if _, _, err := s.Decide(t.Context(), row); !rejects(err, im.ErrBlocked) {
		t.Error(err)
	}
	row.Request, row.Decided = keep, true
	again, more, err := s.Decide(t.Context(), row)
	if err != nil || more != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", task) {
		t.Errorf("again: %+v %s %v", again, more, err)
	}
	if shown, err := showScheduled(&row); err != nil || string(shown.Content) != `{"text":"hi"}` {
		t.Errorf("shown as %+v %v", shown, err)
	}
}

func rejects(err, cause error) bool {
	var r *im.RejectedError
	return errors.As(err, &r) && errors.Is(err, cause)
}

func TestDecide_TellsRefusalsFromWhatMayPass(t *testing.T) {
	for _, c := range []struct {
		name     string
		world    func(*world)
		rejected error // nil: may pass
	}{
		{"blocked", func(w *world) { w.blocked[pair{ann, bob}] = true }, im.ErrBlocked},
		{"strangers are not wanted", func(w *world) { w.shy[bob] = true }, im.ErrNotContact},
		{"the other side is gone", func(w *world) { delete(w.users, bob) }, im.ErrNotFound},
		{"the author is gone", func(w *world) { delete(w.users, ann) }, im.ErrNotFound},
		{"the filter", func(w *world) { w.fail["Apply"] = im.ErrContentRefused }, im.ErrContentRefused},
		{"the ID is taken", func(w *world) {
			w.hints[im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}] = im.StoredRef{Seq: 3}
		}, im.ErrMsgIDConflict},
		{"MySQL is away", func(w *world) { w.fail["Peer"] = im.ErrStore }, nil},
		{"something is broken", func(w *world) { w.fail["Apply"] = errors.New("broken") }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, s, f := scheduling(t, Config{MembershipTTL: time.Nanosecond, MembershipStale: time.Nanosecond})
			w.say = func(text string) (string, error) { return text, w.fail["Apply"] }
			if _, err := sendNow(t, s, textAt("abcdefgh", "hi", hence)); err != nil {
				t.Fatal(err)
			}
			w.set(func() { c.world(w) })
			w.pass(time.Hour)
			task, _, err := s.Decide(t.Context(), f.rows[1])
			var r *im.RejectedError
			if err == nil || task != nil || errors.As(err, &r) != (c.rejected != nil) || c.rejected != nil && !errors.Is(err, c.rejected) {
				t.Errorf("%+v %v, want %v", task, err, c.rejected)
			}
			row := f.rows[1]
			row.ByServer = true
			if _, _, err := s.Decide(t.Context(), row); (err == nil) != (c.rejected == im.ErrNotContact) { // a backend is nobody's stranger
				t.Errorf("by a backend: %v", err)
			}
		})
	}
}

func TestScheduled_IsItsAuthorsAlone(t *testing.T) {
	w, s, f := scheduling(t, Config{})
	if _, err := sendNow(t, s, textAt("abcdefgh", "hi", hence)); err != nil {
		t.Fatal(err)
	}
	bobs := im.Identity{User: bob, Device: "phone"}
	at := int64(hence + 1)
	for name, ask := range map[string]func(im.ScheduleID) error{
		"one":    func(id im.ScheduleID) error { _, err := s.ScheduledOne(t.Context(), bobs, id); return err },
		"cancel": func(id im.ScheduleID) error { _, err := s.CancelScheduled(t.Context(), bobs, id); return err },
		"send":   func(id im.ScheduleID) error { _, err := s.SendScheduled(t.Context(), bobs, id); return err },
		"change": func(id im.ScheduleID) error {
			_, err := s.ChangeScheduled(t.Context(), bobs, id, protocol.ChangeScheduled{DeliverAt: &at})
			return err
		},
		"a backend's look":   func(id im.ScheduleID) error { _, err := s.ServerScheduledOne(t.Context(), id); return err },
		"a backend's cancel": func(id im.ScheduleID) error { _, err := s.ServerCancelScheduled(t.Context(), id); return err },
	} {
		for _, id := range []im.ScheduleID{1, 404} {
			if err := ask(id); protocol.CodeOf(err).Name != "not_found" {
				t.Errorf("%s %d: %v", name, id, err)
			}
		}
	}
	if page, err := s.ScheduledList(t.Context(), bobs, protocol.AskScheduled{}); err != nil || len(page.Items) > 0 {
		t.Errorf("%+v %v", page, err)
	}
	if f.rows[1].State != im.SchedulePending || w.count("ChangeScheduled") > 0 {
		t.Errorf("%+v", f.rows[1])
	}
}

func TestScheduled_ChangesWhilePending(t *testing.T) {
	w, s, f := scheduling(t, Config{MembershipTTL: time.Nanosecond})
	if _, err := sendNow(t, s, textAt("abcdefgh", "hi", hence)); err != nil {
		t.Fatal(err)
	}
	hash, at := f.rows[1].Hash, int64(hence+60_000)
	change := func(c protocol.ChangeScheduled) (protocol.Scheduled, error) {
		return s.ChangeScheduled(t.Context(), annsPhone, 1, c)
	}
	row, err := change(protocol.ChangeScheduled{Content: json.RawMessage(`{"text":"hello","x":1}`), DeliverAt: &at})
	if err != nil || string(row.Content) != `{"text":"hello"}` || row.DeliverAt != at || f.rows[1].Hash != hash {
		t.Errorf("%+v %v", row, err)
	}
	far, zero := int64(1<<52), int64(0)
	for name, c := range map[string]protocol.ChangeScheduled{
		"nothing": {}, "too far": {DeliverAt: &far}, "zero": {DeliverAt: &zero}, "no text": {Content: json.RawMessage(`{"text":""}`)},
	} {
		if _, err := change(c); err == nil || protocol.CodeOf(err).HTTP != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.set(func() { w.blocked[pair{ann, bob}] = true })
	w.pass(time.Second)
	if _, err := change(protocol.ChangeScheduled{Content: json.RawMessage(`{"text":"again"}`)}); !errors.Is(err, im.ErrBlocked) {
		t.Error(err)
	}
	if row, err := s.SendScheduled(t.Context(), annsPhone, 1); err != nil || row.DeliverAt > at {
		t.Errorf("%+v %v", row, err)
	}
	if row, err := s.CancelScheduled(t.Context(), annsPhone, 1); err != nil || row.State != "cancelled" {
		t.Errorf("%+v %v", row, err)
	}
	for _, c := range []protocol.ChangeScheduled{{Content: json.RawMessage(`{"text":"late"}`)}, {DeliverAt: &at}} {
		if _, err := change(c); !errors.Is(err, im.ErrScheduleFinal) {
			t.Error(err)
		}
	}
}

func TestScheduled_PagesByItsNext(t *testing.T) {
	_, s, _ := scheduling(t, Config{})
	for i := range 3 {
		if _, err := sendNow(t, s, textAt(im.ClientMsgID(fmt.Sprintf("scheduled-%d", i)), "hi", hence)); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.ScheduledList(t.Context(), annsPhone, protocol.AskScheduled{Limit: 2})
	if err != nil || len(page.Items) != 2 || page.Next != fmt.Sprintf("%d-2", int64(hence)) {
		t.Fatalf("%+v %v", page, err)
	}
	page, err = s.ScheduledList(t.Context(), annsPhone, protocol.AskScheduled{Limit: 2, After: page.Next})
	if err != nil || len(page.Items) != 1 || page.HasMore || page.Next != "" {
		t.Errorf("%+v %v", page, err)
	}
	for _, bad := range []string{"x", "5", "5-", "-5", "5-07", "99999999999999999999-1", "5-1-1"} {
		if _, err := s.ScheduledList(t.Context(), annsPhone, protocol.AskScheduled{After: bad}); protocol.CodeOf(err).HTTP != 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
