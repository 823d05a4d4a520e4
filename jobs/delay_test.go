package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestDelay_WhatFailsIsToldToItsAuthor(t *testing.T) {
	w := newWorld(1)
	w.sessions[1] = []im.SessionRef{{User: 1, Device: "d", Session: "s1", Node: "n1"}}
	f := newShelf(w)
	f.refuses = 1
	id := f.put("d1-2", 1, 0)
	taken := f.put("d1-2", 1, 0)
	w.keys[im.SendKey{Conversation: "d1-2", Sender: 1, ClientMsgID: f.rows[taken].ClientMsgID}] = im.StoredRef{Seq: 1, Hash: im.ContentHash{1}}
	there := f.put("d1-2", 1, 0)
	w.keys[im.SendKey{Conversation: "d1-2", Sender: 1, ClientMsgID: f.rows[there].ClientMsgID}] = im.StoredRef{Seq: 2, Hash: f.rows[there].Hash}
	d := &delay{r: newTestRunner(t, quickConfig(), w, nil), schedules: f, decider: f, realtime: f.produceTo(func(im.Task) { t.Error("sent") })}
	if err := d.fire(t.Context(), "d1-2", im.FireTask{Schedule: im.MaxID, DueAt: im.MaxID}, func() {}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[im.ScheduleID]string{id: "failed blocked", taken: "failed client_msg_id_conflict", there: "sent "} {
		if got := f.rows[id].State.String() + " " + f.rows[id].Reason; got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
	var codes []string
	for _, frame := range w.frames(protocol.PushRejected) {
		var push struct{ Data protocol.Rejected }
		if err := json.Unmarshal(frame.Frame, &push); err != nil {
			t.Fatal(err)
		}
		codes = append(codes, push.Data.Code)
	}
	if !slices.Equal(codes, []string{"blocked", "client_msg_id_conflict"}) {
		t.Errorf("told %v", codes)
	}
}

// few keeps some decisions a call, then its store is too slow.
type few struct{ *shelf }

func (f few) KeepDecisions(ctx context.Context, decisions []im.ScheduleDecision) (map[im.ScheduleID]bool, error) {
	some := decisions[:min(len(decisions), 3)]
	stand, err := f.shelf.KeepDecisions(ctx, some)
	if err == nil && len(some) < len(decisions) {
		err = context.DeadlineExceeded
	}
	return stand, err
}

func TestDelay_AStoreTooSlowForAllDecisionsAtOnceKeepsThemAll(t *testing.T) {
	w := newWorld(1)
	f := newShelf(w)
	var want, got []im.ClientMsgID
	for range 10 {
		want = append(want, f.rows[f.put("d1-2", 1, 0)].ClientMsgID)
	}
	var steps int
	d := &delay{r: newTestRunner(t, quickConfig(), w, nil), schedules: few{f}, decider: f,
		realtime: f.produceTo(func(t im.Task) { got = append(got, t.Send.ClientMsgID) })}
	if err := d.fire(t.Context(), "d1-2", im.FireTask{Schedule: im.MaxID, DueAt: im.MaxID}, func() { steps++ }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if steps < 2*len(want) { // else what takes long is taken for standing still
		t.Errorf("progress was told %d times", steps)
	}
}

func TestLooker_WaitsUntilTheNextIsDueAndNotWhileItsHandsAreFull(t *testing.T) {
	f := newShelf(newWorld(1))
	f.put("d1-2", 1, 0)
	f.put("d1-3", 1, f.now+120)
	f.put("d1-3", 1, f.now+700)
	inHand := firesInHand
	d := &delay{r: newTestRunner(t, quickConfig(), f.w, nil), schedules: f, lane: f.produceTo(func(t im.Task) { f.fires = append(f.fires, t) })}
	l := looker{d: d, inHand: func() int { return inHand }}
	look := func(fires int, atLeast, atMost time.Duration) {
		t.Helper()
		wait, err := l.look(t.Context())
		if err != nil || wait < atLeast || wait > atMost || len(f.fires) != fires {
			t.Errorf("wait %s %v, %d told", wait, err, len(f.fires))
		}
	}
	look(0, lookEvery, lookEvery)
	inHand = 0
	look(1, 100*time.Millisecond, 120*time.Millisecond)
	f.now += 200
	look(2, 400*time.Millisecond, lookEvery)
	look(2, 400*time.Millisecond, lookEvery)
	f.now += queuedFor.Milliseconds() // nobody has worked on them
	l.again = time.Time{}
	inHand = 1
	look(3, lookEvery, lookEvery) // the third; the others may wait behind what is in hand
	inHand = 0
	look(5, lookEvery, lookEvery)
}

// The lane on its pool: what is due is found by who owns the partition, told to the lane,
// and sent from there; what is none of its records is buried.
func TestDelay_TheLaneFindsAndSendsWhatIsDue(t *testing.T) {
	w := newWorld(1)
	f := newShelf(w)
	lane := newLogbook(w, 3)
	lane.raw([]byte("no task at all"))
	lane.append(text("d1-2", 1, 1)) // of another lane
	r, err := NewRunner(quickConfig(), Deps{
		Archive: w, Nodes: w, Projector: w, Sessions: w, Rooms: w, Bus: w, Schedules: f, Decider: f,
		Producers: map[im.Lane]Producer{
			im.LaneDelay:    producerFunc(func(t im.Task, done func(error)) { lane.append(t); done(nil) }),
			im.LaneRealtime: f.produceTo(func(t im.Task) { f.sent = append(f.sent, landed{t, f.now}) }),
		},
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 250 {
		f.put([]im.ConversationID{"d1-2", "d1-3"}[n%2], 1, 0)
	}
	pool := r.pools[slices.IndexFunc(r.pools, func(p *Pool) bool { return p.lane == im.LaneDelay })]
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, pool, lane.join()) }()
	w.eventually(t, "both are buried", func() bool { return len(w.dead) == 2 })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		sent := len(f.sent)
		f.mu.Unlock()
		if sent >= 250 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of 250 were sent", sent)
		}
	}
	if err := lane.await(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	f.check(t)
	if len(f.sent) != 250 {
		t.Errorf("%d were sent", len(f.sent))
	}
}
