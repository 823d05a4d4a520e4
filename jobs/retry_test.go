package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// reach is whom notifications can reach, and the lanes: what the worker of the lane retry
// touches, in memory.
type reach struct {
	t *testing.T

	mu       sync.Mutex
	targets  []im.PushTarget // not read, not muted, in it
	online   map[im.UserID]bool
	badge    uint64
	err      error // of the stores
	lost     int   // records that the log does not take
	retried  []im.Task
	letters  []im.Task
	now      time.Time
	settings im.PoolSettings
}

func (r *reach) NotifyTargets(_ context.Context, q im.NotifyQuery) (page []im.PushTarget, more bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, to := range r.targets {
		past := to.User > q.AfterUser || to.User == q.AfterUser && to.Device > q.AfterDevice
		if to.User != q.Sender && past && (q.Users == nil || slices.Contains(q.Users, to.User)) {
			page = append(page, to)
		}
	}
	if len(page) > q.Limit {
		return page[:q.Limit], true, r.err
	}
	return page, false, r.err
}

func (r *reach) DropPushTokens(_ context.Context, gone []im.PushTarget) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets = slices.DeleteFunc(r.targets, func(to im.PushTarget) bool { return slices.Contains(gone, to) })
	return nil
}

func (r *reach) UnreadTotal(context.Context, im.UserID) (im.UnreadTotal, bool, error) {
	return im.UnreadTotal{All: r.badge + 5, Badge: r.badge}, false, nil
}

func (r *reach) Sessions(_ context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := make(map[im.UserID][]im.SessionRef)
	for _, u := range users {
		if r.online[u] {
			found[u] = []im.SessionRef{{User: u}}
		}
	}
	return found, nil
}

// lane is a topic: what it takes is read back from its record.
type lane struct {
	r  *reach
	to *[]im.Task
}

func (l lane) Produce(t im.Task, done func(error)) {
	b, err := queue.AppendTask(nil, &t)
	if err == nil && len(b) > queue.MaxTaskBytes {
		err = fmt.Errorf("a record of %d bytes", len(b))
		l.r.t.Error(err)
	}
	if err == nil {
		t, err = queue.DecodeTask(b)
	}
	l.r.mu.Lock()
	if err == nil && l.r.lost > 0 {
		l.r.lost--
		err = im.ErrQueue
	}
	if err == nil {
		*l.to = append(*l.to, t)
	}
	l.r.mu.Unlock()
	go done(err)
}

func newReach(t *testing.T, hook Notifier) (*reach, *retry) {
	r := &reach{t: t, online: map[im.UserID]bool{}, badge: 4, now: time.UnixMilli(1_800_000_000_000),
		settings: im.PoolSettings{Attempts: 3, BackoffMin: time.Second, BackoffMax: time.Minute}}
	n := &retry{
		notifier: hook, devices: r, badges: r, sessions: r, lane: lane{r, &r.retried}, dead: lane{r, &r.letters}, topic: "im.retry",
		settings: func() im.PoolSettings { return r.settings }, now: func() time.Time { return r.now },
		log: slog.New(slog.DiscardHandler), m: newNotifyMetrics(prometheus.NewRegistry()),
	}
	return r, n
}

func (r *reach) add(users int, devices int) {
	for u := range users {
		for d := range devices {
			r.targets = append(r.targets, im.PushTarget{User: im.UserID(u + 2), Device: im.DeviceID(fmt.Sprintf("d%d", d)), Provider: "fcm", Token: fmt.Sprintf("%d-%d", u+2, d)})
		}
	}
}

func asks(offset int64, set ...func(*im.NotifyTask)) *noticed {
	t := &im.NotifyTask{Seq: im.Seq(offset), MessageID: im.MessageID(1000 + offset), Sender: im.Sender{ID: 1, Nickname: "Ada"}, Type: im.TypeText,
		Content: json.RawMessage(`{"text":"low tide"}`)}
	for _, s := range set {
		s(t)
	}
	return &noticed{record: place{3, offset}, task: im.Task{Conversation: "c5", Notify: t}}
}

func (r *reach) tell(n *retry, batch ...*noticed) {
	r.t.Helper()
	if err := n.tell(r.t.Context(), batch); err != nil {
		r.t.Fatal(err)
	}
}

// again is what went back into the lane, as a batch.
func (r *reach) again() (batch []*noticed) {
	for i, t := range r.retried {
		batch = append(batch, &noticed{record: place{3, int64(100 + i)}, task: t})
	}
	r.retried = nil
	return batch
}

// told counts what the receiver was told, by key.
func (r *receiver) told() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := make(map[string]int)
	for _, g := range r.got {
		n[g.Key]++
	}
	return n
}

func keys(n map[string]int) []string { return slices.Sorted(maps.Keys(n)) }

func TestRetry_TellsDevicesOfWhoIsNotConnected(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(3, 2)
	r.online[3] = true
	r.tell(n, asks(7), asks(8, func(t *im.NotifyTask) { t.Users = []im.UserID{4}; t.About.Mentions = []im.UserID{4} }))
	if got, want := keys(hook.told()), []string{"1007-2-d0", "1007-2-d1", "1007-4-d0", "1007-4-d1", "1008-4-d0", "1008-4-d1"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	if len(hook.calls) != 1 || len(r.retried)+len(r.letters) > 0 {
		t.Errorf("%d calls, %d again, %d letters", len(hook.calls), len(r.retried), len(r.letters))
	}
	for _, g := range hook.got {
		if g.Badge != 4 || g.Preview != "low tide" || g.Conversation != "c5" || g.Mentioned != (g.Seq == 8) {
			t.Errorf("%+v", g)
		}
	}
}

func TestRetry_ManyDevicesAreToldByRecordsOfTheirOwn(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(1100, 1)
	for i := range r.targets {
		r.targets[i].Token = strings.Repeat("t", im.MaxPushTokenBytes)
	}
	r.tell(n, asks(1))
	if len(hook.calls) > 0 || len(r.retried) < 1100/notifyTargets {
		t.Fatalf("%d calls, %d records", len(hook.calls), len(r.retried))
	}
	r.tell(n, r.again()...)
	told := hook.told()
	for k, c := range told {
		if c != 1 {
			t.Errorf("%s told %d times", k, c)
		}
	}
	if len(told) != 1100 || len(hook.calls) != 10+1 { // 1,000 are gathered, then the rest
		t.Errorf("%d told by %d calls", len(told), len(hook.calls))
	}
}

func TestRetry_TriesAgainLaterThoseWhoWereNotToldAndGivesUpInTheEnd(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(2, 1)
	hook.says(func(w http.ResponseWriter, _ *http.Request, notes []Notification) {
		for _, one := range notes {
			if one.User == 2 {
				fmt.Fprintf(w, `{"results":[{"key":%q,"status":"retry"}]}`, one.Key)
			}
		}
	})
	r.tell(n, asks(7))
	for attempt := 1; attempt < 3; attempt++ {
		if len(r.retried) != 1 || len(r.letters) != 0 {
			t.Fatalf("after %d: %d again, %d letters", attempt, len(r.retried), len(r.letters))
		}
		got := r.retried[0].Notify
		wait := time.UnixMilli(got.NotBefore).Sub(r.now)
		if got.Attempt != attempt || len(got.Targets) != 1 || got.Targets[0].User != 2 || got.Reason == "" || wait < time.Second || wait > time.Second<<attempt {
			t.Errorf("attempt %d: %+v, in %s", attempt, got, wait)
		}
		r.tell(n, r.again()...)
	}
	if len(r.retried) != 0 || len(r.letters) != 1 {
		t.Fatalf("%d again, %d letters", len(r.retried), len(r.letters))
	}
	d := r.letters[0].Dead
	if d.Attempts != 3 || d.Topic != "im.retry" || d.Partition != 3 || !strings.Contains(d.Reason, "told again") || d.ParkedAt != r.now.UnixMilli() {
		t.Errorf("%+v", d)
	}
	back, err := queue.DecodeTask(d.Payload)
	if err != nil || back.Conversation != "c5" || back.Notify.Attempt != 0 || back.Notify.NotBefore != 0 || len(back.Notify.Targets) != 1 || back.Notify.Seq != 7 {
		t.Errorf("the letter's record: %+v %v", back.Notify, err)
	}
	if n := hook.told(); n["1007-3-d0"] != 1 || n["1007-2-d0"] != 3 {
		t.Errorf("told %v", n)
	}
	// Replayed it is told to who is left.
	hook.says(nil)
	r.tell(n, &noticed{task: back})
	if n := hook.told(); n["1007-2-d0"] != 4 || n["1007-3-d0"] != 1 {
		t.Errorf("replayed: %v", n)
	}
}

func TestRetry_WhatIsRefusedIsALetterAtOnce(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(1, 2)
	hook.says(status(http.StatusBadRequest))
	r.tell(n, asks(7))
	if len(r.letters) != 1 || len(r.retried) != 0 || r.letters[0].Dead.Attempts != 1 || !strings.Contains(r.letters[0].Dead.Reason, "400") {
		t.Errorf("%+v, %d again", r.letters, len(r.retried))
	}
}

func TestRetry_WhoStandsInLineIsNotCountedAsTried(t *testing.T) {
	hook := newReceiver(t)
	w := hook.webhook(func(c *WebhookConfig) { c.Timeout = 10 * time.Millisecond; c.Concurrency = 1 })
	w.slots <- struct{}{} // a call that takes long
	r, n := newReach(t, w)
	r.add(2, 1)
	r.tell(n, asks(7, func(t *im.NotifyTask) { t.Attempt = 2; t.Targets = slices.Clone(r.targets) }))
	if len(r.retried) != 1 || len(r.letters) != 0 || r.retried[0].Notify.Attempt != 2 || len(r.retried[0].Notify.Targets) != 2 {
		t.Fatalf("%d again, %d letters", len(r.retried), len(r.letters))
	}
	<-w.slots
	n.notifier = hook.webhook()
	r.tell(n, r.again()...)
	if n := hook.told(); n["1007-2-d0"] != 1 || n["1007-3-d0"] != 1 {
		t.Errorf("told %v", n)
	}
}

func TestRetry_TokensThatAreGoneAreRemoved(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(1, 1)
	hook.says(status(http.StatusGone))
	r.tell(n, asks(7))
	if len(r.targets) != 0 || len(r.retried)+len(r.letters) != 0 {
		t.Errorf("%+v, %d again, %d letters", r.targets, len(r.retried), len(r.letters))
	}
}

func TestRetry_WhoHasReadOrComesOnlineMeanwhileIsNotTold(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(3, 1)
	hook.says(status(http.StatusServiceUnavailable))
	r.tell(n, asks(7))
	hook.says(nil)
	r.online[2] = true
	r.targets = r.targets[:2] // the third has read it
	before := len(hook.got)
	r.tell(n, r.again()...)
	if got := hook.got[before:]; len(got) != 1 || got[0].User != 3 {
		t.Errorf("%+v", got)
	}
}

func TestRetry_AStoreThatIsAwayCostsNoAttempt(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(1, 1)
	r.err = im.ErrStore
	r.tell(n, asks(7), asks(8, func(t *im.NotifyTask) { t.Attempt = 2; t.Targets = slices.Clone(r.targets) }))
	if len(r.retried) != 2 || len(hook.calls) != 0 {
		t.Fatalf("%d again, %d calls", len(r.retried), len(hook.calls))
	}
	for _, again := range r.retried {
		got := again.Notify
		if want := map[im.Seq]int{7: 0, 8: 2}[got.Seq]; got.Attempt != want || got.NotBefore <= r.now.UnixMilli() {
			t.Errorf("%+v", got)
		}
	}
}

func TestRetry_ALogThatIsAwayIsWaitedFor(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(1, 1)
	hook.says(status(http.StatusServiceUnavailable))
	r.lost = 2
	r.tell(n, asks(7))
	if len(r.retried) != 1 {
		t.Errorf("%d again", len(r.retried))
	}
	r.lost = 1 << 30
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := n.tell(ctx, []*noticed{asks(8)}); !errors.Is(err, context.Canceled) {
		t.Errorf("at the assignment's end: %v", err)
	}
}

func TestRetry_ABatchComesToAnEndWhateverTheReceiverTakes(t *testing.T) {
	hook := newReceiver(t)
	r, n := newReach(t, hook.webhook())
	r.add(notifyTargets, 1)
	var batch []*noticed
	for i := range 200 {
		batch = append(batch, asks(int64(i+1)))
	}
	hook.says(func(http.ResponseWriter, *http.Request, []Notification) {
		r.mu.Lock()
		r.now = r.now.Add(notifyFor / 3)
		r.mu.Unlock()
	})
	n.now = func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now }
	r.tell(n, batch...)
	if len(r.retried) != 200-63 { // 63 × 16 reach 1,000
		t.Errorf("%d line up again", len(r.retried))
	}
	for _, again := range r.retried {
		if again.Notify.Attempt != 0 || again.Notify.NotBefore != 0 {
			t.Errorf("%+v", again.Notify)
		}
	}
}

// panics is a provider with a bug.
type panics struct{}

func (panics) Notify(context.Context, []Notification) []error { panic("nil map") }

func TestRetry_AProviderThatPanicsFailsItsCallOnly(t *testing.T) {
	r, n := newReach(t, panics{})
	r.add(1, 1)
	r.tell(n, asks(7))
	if len(r.retried) != 1 || r.retried[0].Notify.Attempt != 1 {
		t.Errorf("%+v", r.retried)
	}
}

func TestPreview_IsTheBeginningOfATextAndFitsItsRecord(t *testing.T) {
	for _, c := range []struct {
		kind    im.MessageType
		content string
		least   int // bytes
	}{
		{im.TypeText, `{"text":"low tide"}`, 8},
		{im.TypeText, `{"text":"` + strings.Repeat("ü", 4000) + `"}`, 500},
		{im.TypeText, `{"text":"` + strings.Repeat("🐦", 2000) + `"}`, 500},
		{im.TypeText, `{"text":"` + strings.Repeat(`\u0001`, 8000) + `"}`, 100},
		{im.TypeText, `{"text":"` + strings.Repeat(`<`, 8000) + `"}`, 100},
		{im.TypeImage, `{"url":"https://example.org/x.png"}`, 0},
		{im.TypeText, `[`, 0},
	} {
		b := preview(c.kind, json.RawMessage(c.content))
		var got im.TextContent
		if len(b) > 0 {
			if err := json.Unmarshal(b, &got); err != nil {
				t.Errorf("%.20s: %v", c.content, err)
			}
		}
		if len(b) > previewBytes || len(got.Text) < c.least || !utf8.ValidString(got.Text) || c.least == 0 && b != nil {
			t.Errorf("%.20s: %d bytes, of text %d", c.content, len(b), len(got.Text))
		}
	}
}
