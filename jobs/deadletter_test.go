package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// graves is the table dead, in memory, and the lanes.
type graves struct {
	letters map[im.DeadID]im.DeadLetter
	copies  []im.StoredCopy
	since   int64
	refuse  error // of the log
	store   error
	sent    []im.Task
	asked   im.DeadQuery
}

func (g *graves) DeadLetters(_ context.Context, q im.DeadQuery) ([]im.DeadLetter, bool, error) {
	g.asked = q
	return nil, false, g.store
}

func (g *graves) DeadLetter(_ context.Context, id im.DeadID) (im.DeadLetter, error) {
	l, ok := g.letters[id]
	if !ok {
		return l, im.ErrNotFound
	}
	return l, nil
}

func (g *graves) move(id im.DeadID, to im.DeadState, from ...im.DeadState) error {
	l := g.letters[id]
	if !slices.Contains(from, l.State) {
		return im.ErrConflict
	}
	l.State = to
	g.letters[id] = l
	return nil
}

func (g *graves) ClaimDead(_ context.Context, id im.DeadID) error {
	return g.move(id, im.DeadReplaying, im.DeadOpen)
}

func (g *graves) EndReplay(_ context.Context, id im.DeadID, state im.DeadState) error {
	return g.move(id, state, im.DeadReplaying)
}

func (g *graves) DiscardDead(_ context.Context, id im.DeadID) error {
	return g.move(id, im.DeadDiscarded, im.DeadOpen)
}

func (g *graves) SameContent(_ context.Context, _ im.ConversationID, _ im.UserID, _ im.ContentHash, since int64) ([]im.StoredCopy, error) {
	g.since = since
	return slices.Clone(g.copies), g.store
}

func (g *graves) Produce(t im.Task, done func(error)) {
	if g.refuse == nil {
		g.sent = append(g.sent, t)
	}
	go done(g.refuse)
}

func newGraves(t *testing.T) (*graves, *DeadLetters) {
	t.Helper()
	record := func(task im.Task) []byte {
		b, err := queue.AppendTask(nil, &task)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	g := &graves{letters: map[im.DeadID]im.DeadLetter{
		1: {ID: 1, ParkedAt: 10_000_000, Payload: record(im.Task{Conversation: "d1-2", Send: &im.SendTask{
			Sender: im.Sender{ID: 1}, ClientMsgID: "message-1", Type: im.TypeText, Content: json.RawMessage(`{"text":"x"}`)}})},
		2: {ID: 2, Payload: record(im.Task{Conversation: "c5", Notify: &im.NotifyTask{Seq: 3, MessageID: 9}})},
		3: {ID: 3, Payload: []byte("garbage")},
	}}
	return g, &DeadLetters{table: g, producers: map[im.Lane]Producer{im.LaneRealtime: g, im.LaneRetry: g},
		topic: func(l im.Lane) string { return "im." + string(l) }, log: slog.New(slog.DiscardHandler), m: newNotifyMetrics(prometheus.NewRegistry())}
}

func TestDeadLetters_AreReplayedOnce(t *testing.T) {
	g, d := newGraves(t)
	for _, id := range []im.DeadID{1, 2} {
		if err := d.Replay(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
		if err := d.Replay(t.Context(), id, true); !errors.Is(err, im.ErrConflict) {
			t.Errorf("again: %v", err)
		}
		if s := g.letters[id].State; s != im.DeadReplayed {
			t.Errorf("%s", s)
		}
	}
	if len(g.sent) != 2 || g.sent[0].Send.ClientMsgID != "message-1" || g.sent[1].Notify.Seq != 3 {
		t.Errorf("%+v", g.sent)
	}
}

func TestDeadLetters_WhatTheSenderHasResentIsSaidBefore(t *testing.T) {
	g, d := newGraves(t)
	g.copies = []im.StoredCopy{{Seq: 8, ClientMsgID: "message-1"}, {Seq: 9, ClientMsgID: "message-2", StoredAt: 5}}
	var resent *im.ResentError
	if err := d.Replay(t.Context(), 1, false); !errors.As(err, &resent) || fmt.Sprint(resent.Copies) != "[{9 message-2 5}]" || g.letters[1].State != im.DeadOpen {
		t.Errorf("%v, %s", err, g.letters[1].State)
	}
	if want := int64(10_000_000 - 3_600_000); g.since != want {
		t.Errorf("since %d, want %d", g.since, want)
	}
	// Nor is one whose first replay came to nothing, perhaps, sent behind the operator's back.
	stuck := g.letters[1]
	stuck.State = im.DeadReplaying
	g.letters[1] = stuck
	if err := d.Replay(t.Context(), 1, false); !errors.As(err, &resent) {
		t.Errorf("replaying: %v", err)
	}
	stuck.State = im.DeadOpen
	g.letters[1] = stuck
	if err := d.Replay(t.Context(), 1, true); err != nil || len(g.sent) != 1 {
		t.Errorf("forced: %v", err)
	}
}

func TestDeadLetters_WhatTheLogRefusesStaysOpen(t *testing.T) {
	g, d := newGraves(t)
	for _, c := range []struct {
		err  error
		want im.DeadState
	}{{im.ErrQueue, im.DeadOpen}, {im.ErrUnknownOutcome, im.DeadReplaying}} {
		g.refuse = c.err
		if err := d.Replay(t.Context(), 1, false); !errors.Is(err, c.err) || g.letters[1].State != c.want {
			t.Errorf("%v: %v, %s", c.err, err, g.letters[1].State)
		}
	}
	g.store = im.ErrStore
	if err := d.Replay(t.Context(), 2, false); !errors.Is(err, im.ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
}

func TestDeadLetters_WhatCannotBeReadIsShownAndNotReplayed(t *testing.T) {
	g, d := newGraves(t)
	l, _, unreadable, err := d.Letter(t.Context(), 3)
	if err != nil || unreadable == "" || string(l.Payload) != "garbage" {
		t.Errorf("%+v %q %v", l, unreadable, err)
	}
	if err := d.Replay(t.Context(), 3, true); !errors.Is(err, im.ErrUnstorable) || g.letters[3].State != im.DeadOpen {
		t.Errorf("%v, %s", err, g.letters[3].State)
	}
	if err := d.Discard(t.Context(), 3); err != nil || g.letters[3].State != im.DeadDiscarded {
		t.Errorf("%v", err)
	}
	if err := d.Discard(t.Context(), 3); !errors.Is(err, im.ErrConflict) {
		t.Errorf("again: %v", err)
	}
	if _, _, _, err := d.Letter(t.Context(), 4); !errors.Is(err, im.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
	if _, _, err := d.List(t.Context(), im.LaneRetry, im.DeadQuery{Limit: 5}); err != nil || g.asked.Topic != "im.retry" {
		t.Errorf("%+v %v", g.asked, err)
	}
}

// Whoever shares a batch with poison waits for the attempts at the whole and at the
// halves, not for those at each record.
func TestPoison_ItsNeighboursWaitForTheSplitAndNoLonger(t *testing.T) {
	for _, c := range []struct {
		name     string
		err      error
		attempts int // at the poison alone
		inserts  int // at most
	}{
		{"that the table refuses", fmt.Errorf("incorrect string value: %w", im.ErrUnstorable), 1, 1 + 2*7},
		{"that fails for no known reason", errors.New("no such function"), 10, 10 + 3*7 + 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(1)
			w.poison = func(m im.Message) error {
				if m.ClientMsgID == "client-000077" {
					return c.err
				}
				return nil
			}
			l := newLogbook(w, 0)
			for n := range 128 {
				l.append(text("d1-2", 1, n))
			}
			cfg := quickConfig()
			cfg.Realtime.Batch, cfg.Realtime.Strands, cfg.Realtime.WindowRecords = 128, 1, 128
			untilDone(t, newTestRunner(t, cfg, w, nil), l)
			d, parked := w.dead[[2]int64{0, 77}]
			if len(w.rows["d1-2"]) != 127 || len(w.dead) != 1 || !parked || d.Attempts != c.attempts {
				t.Errorf("%d rows, %d dead, %d attempts", len(w.rows["d1-2"]), len(w.dead), d.Attempts)
			}
			if n := w.calls["insert"]; n > c.inserts {
				t.Errorf("%d inserts, want at most %d", n, c.inserts)
			}
		})
	}
}
