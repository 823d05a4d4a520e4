package jobs

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

func testIDs(w *world, now *time.Time) *nodeIDs {
	return newNodeIDs(w, time.Minute, func() time.Time { return *now }, slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry()))
}

func TestNodeIDs_RiseWhateverTheClockDoes(t *testing.T) {
	now := time.UnixMilli(im.Epoch + 1000)
	g := testIDs(newWorld(1), &now)
	var last im.MessageID
	take := func(n int, after im.MessageID) []im.MessageID {
		t.Helper()
		ids, err := g.take(t.Context(), n, after, nil)
		if err != nil || len(ids) != n {
			t.Fatalf("%d IDs, %v", len(ids), err)
		}
		for _, id := range ids {
			if id <= last || id <= after || id > im.MaxID {
				t.Fatalf("%d after %d and %d", id, last, after)
			}
			last = id
		}
		return ids
	}
	take(1, 0)
	take(10*im.MessagesPerMilli, 0) // more than the millisecond has
	now = now.Add(-time.Hour)       // stepped back
	take(500, 0)
	now = now.Add(2 * time.Hour)
	take(5, 0)
	take(5, last+1<<20) // a conversation whose last ID came from a node ahead of us
	take(5, 0)
}

func TestNodeIDs_NothingIsGivenOnceTheLeaseMayHaveRunOut(t *testing.T) {
	w := newWorld(1)
	now := time.UnixMilli(im.Epoch + 1000)
	g := testIDs(w, &now)
	if _, err := g.take(t.Context(), 1, 0, nil); err != nil {
		t.Fatal(err)
	}
	first := g.node
	g.until = time.Now() // as after an outage of MySQL
	if _, err := g.take(t.Context(), 1, 0, nil); err != nil {
		t.Fatal(err)
	}
	if g.node == first {
		t.Fatalf("still node %d, which is not known to be ours", first)
	}
}

func TestNodeIDs_LostOrDroppedLeaseIsReplaced(t *testing.T) {
	w := newWorld(1)
	now := time.UnixMilli(im.Epoch + 1000)
	g := testIDs(w, &now)
	_, _ = g.take(t.Context(), 1, 0, nil)
	w.leases[g.node] = "somebody else"
	g.renew(t.Context())
	if g.node != -1 {
		t.Fatal("a lost lease is still used")
	}
	_, _ = g.take(t.Context(), 1, 0, nil)
	dropped := g.node
	g.drop()
	_, _ = g.take(t.Context(), 1, 0, nil)
	if g.node == dropped || g.node < 0 {
		t.Fatalf("node %d after dropping %d", g.node, dropped)
	}
	g.release(t.Context())
	if g.node != -1 {
		t.Fatal("released and still held")
	}
}

func TestArchive_TakenMessageIDIsNumberedAnewUnderAnotherNode(t *testing.T) {
	w := newWorld(1)
	now := time.UnixMilli(im.Epoch + 5000)
	for n := range im.MessagesPerMilli { // node 0 was somebody else's at this very moment
		w.ids[im.NewMessageID(now.UnixMilli(), 0, n)] = true
	}
	r := newTestRunner(t, quickConfig(), w, nil)
	r.ids.now = func() time.Time { return now }
	l := newLogbook(w, 0)
	l.append(text("d1-2", 1, 1))
	untilDone(t, r, l)
	if len(w.rows["d1-2"]) != 1 || len(w.dead) != 0 {
		t.Fatalf("%d rows, %d dead", len(w.rows["d1-2"]), len(w.dead))
	}
}
