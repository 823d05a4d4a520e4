package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// notifying is a realtime pool whose batches ask the lane retry.
func notifying(t *testing.T, w *world, cfg Config) (*reach, *Pool) {
	t.Helper()
	at, _ := newReach(t, nil)
	r, err := NewRunner(cfg, Deps{
		Archive: w, Nodes: w, Projector: w, Sessions: w, Rooms: w, Bus: w,
		Notifier: panics{}, Producers: map[im.Lane]Producer{im.LaneRetry: lane{at, &at.retried}},
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return at, r.pools[0]
}

// asked is what the lane retry was asked for, by conversation, seq and users.
func (r *reach) asked() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.retried {
		all = append(all, fmt.Sprintf("%s/%d %v", t.Conversation, t.Notify.Seq, t.Notify.Users))
	}
	slices.Sort(all)
	return all
}

func TestNotify_IsAskedForWhoIsNotConnectedAndOfWhatCounts(t *testing.T) {
	w, l := threeInARoom(t)
	online(w, 9, "phone", "n1")
	mentioning := text("c5", 1, 4)
	mentioning.Send.About.Mentions = []im.UserID{1, 2}
	system := text("d0-7", im.SystemUser, 7)
	system.Send.Type, system.Send.Uncounted, system.Send.AdvanceRead = im.TypeSystem, im.UncountedForAll, false
	l.append(text("d1-8", 1, 1), text("d1-9", 1, 2), text("d7-7", 7, 3), mentioning, system, text("d1-8", 1, 1))
	at, pool := notifying(t, w, quickConfig())
	untilDone(t, pool, l)
	last := len(w.rows["c5"])
	if got, want := at.asked(), []string{fmt.Sprintf("c5/%d []", last), "d1-8/1 [8]"}; !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}

	w = newWorld(1)
	w.openChannel("c5", 1, 2, 3)
	cfg := quickConfig()
	cfg.MergeAbove = -1
	l = processWith(t, cfg, w, created("c5", 1))
	merged := text("c5", 1, 8)
	merged.Send.About.Mentions = []im.UserID{1, 2}
	l.append(text("c5", 1, 9), merged)
	at, pool = notifying(t, w, cfg)
	untilDone(t, pool, l)
	if got, want := at.asked(), []string{"c5/3 [2]"}; !slices.Equal(got, want) {
		t.Errorf("of a merged channel %v, want %v", got, want)
	}
}

// [J12] nothing is committed that was not asked for, and what a worker leaves its next
// owner asks for.
func TestNotify_IsInTheLogBeforeItsMessageIsDone(t *testing.T) {
	w := newWorld(1)
	l := newLogbook(w, 0)
	for n := range 200 {
		l.append(text("d1-2", 1, n+1))
	}
	at, pool := notifying(t, w, quickConfig())
	at.lost = 1 << 30 // the log is away
	limit, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	ctx, cancel := context.WithCancel(limit)
	cfg := quickConfig()
	cfg.DrainTimeout = 20 * time.Millisecond
	pool.cfg.DrainTimeout = cfg.DrainTimeout
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, pool, l.join()) }()
	for {
		w.mu.Lock()
		stored := len(w.rows["d1-2"])
		w.mu.Unlock()
		if stored >= 60 { // a whole window waits
			break
		}
		if limit.Err() != nil {
			t.Fatalf("%d are stored", stored)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if l.committed != 0 || len(at.asked()) != 0 {
		t.Fatalf("committed %d, asked for %d", l.committed, len(at.asked()))
	}

	at, pool = notifying(t, w, quickConfig())
	at.lost = 5
	untilDone(t, pool, l)
	if got := slices.Compact(at.asked()); len(got) != 200 || len(w.rows["d1-2"]) != 200 {
		t.Errorf("asked for %d, %d are stored", len(got), len(w.rows["d1-2"]))
	}
}
