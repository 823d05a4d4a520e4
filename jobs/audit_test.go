package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// auditWorld is the neighbours of an Auditor: one user, one partition.
type auditWorld struct {
	compare  func(n int) im.Comparison // the n-th look, from 1
	looks    int
	doubtful bool
	rebuilt  []string
	resets   int

	committed int64
	records   []queue.Record
	stored    map[im.SendKey]im.StoredRef
	finds     int
	settled   func() // runs at each look at the positions
}

func (w *auditWorld) Sample(context.Context, int) ([]im.UserID, error) { return []im.UserID{7}, nil }

func (w *auditWorld) Compare(context.Context, im.UserID) (im.Comparison, error) {
	w.looks++
	if w.compare == nil {
		return im.Comparison{}, nil
	}
	return w.compare(w.looks), nil
}
func (w *auditWorld) Doubtful(context.Context) (bool, error) { return w.doubtful, nil }
func (w *auditWorld) RebuildUser(_ context.Context, u im.UserID) error {
	w.rebuilt = append(w.rebuilt, u.String())
	return nil
}

func (w *auditWorld) RebuildConversation(_ context.Context, c im.ConversationID) error {
	w.rebuilt = append(w.rebuilt, string(c))
	return nil
}
func (w *auditWorld) Reset(context.Context) error { w.resets++; return nil }

func (w *auditWorld) Positions(context.Context) ([]queue.Position, error) {
	if w.settled != nil {
		w.settled()
	}
	return []queue.Position{{End: int64(len(w.records)), Committed: w.committed}}, nil
}

// Look gives three records at once.
func (w *auditWorld) Look(_ context.Context, _ int, from, below int64) ([]queue.Record, error) {
	return w.records[from:min(below, from+3)], nil
}

func (w *auditWorld) FindStored(_ context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error) {
	w.finds++
	found := map[im.SendKey]im.StoredRef{}
	for _, k := range keys {
		if ref, ok := w.stored[k]; ok {
			found[k] = ref
		}
	}
	return found, nil
}

func (w *auditWorld) auditor(t *testing.T, cfg AuditConfig) *Auditor {
	t.Helper()
	a, err := NewAuditor(cfg, AuditDeps{Users: w, Log: w, Stored: w, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// counterAt is what a counter stands at.
func counterAt(c prometheus.Metric) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

func (a *Auditor) once(t *testing.T) {
	t.Helper()
	if err := a.round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func drifting(field im.DriftField, redis string) im.Comparison {
	return im.Comparison{Sealed: true, Generation: "g", Drift: []im.Drift{{Conversation: "d7-9", Field: field, Redis: redis, Record: "1"}}}
}

func TestAudit_CountsOnlyWhatStandsStill(t *testing.T) {
	alike := im.Comparison{Sealed: true, Generation: "g"}
	other := drifting(im.DriftLast, "2")
	other.Generation = "h"
	for name, c := range map[string]struct {
		first, second im.Comparison
		doubtful      bool
		backlog       bool
		drifted       bool
		result        string
	}{
		"alike":                   {first: alike, result: "alike"},
		"not sealed":              {first: im.Comparison{}, result: "unsealed"},
		"the same twice":          {first: drifting(im.DriftLast, "2"), second: drifting(im.DriftLast, "2"), drifted: true, result: "drifted"},
		"it has arrived":          {first: drifting(im.DriftLast, "2"), second: alike, result: "moving"},
		"it has moved on":         {first: drifting(im.DriftLast, "2"), second: drifting(im.DriftLast, "3"), result: "moving"},
		"another generation":      {first: drifting(im.DriftLast, "2"), second: other, result: "moving"},
		"no longer sealed":        {first: drifting(im.DriftLast, "2"), second: im.Comparison{}, result: "moving"},
		"a worker had doubts":     {first: drifting(im.DriftLast, "2"), second: drifting(im.DriftLast, "2"), doubtful: true, result: "moving"},
		"workers are far behind":  {first: drifting(im.DriftLast, "2"), second: drifting(im.DriftLast, "2"), backlog: true, result: "moving"},
		"of a conversation twice": {first: drifting(im.DriftCount, "2"), second: drifting(im.DriftCount, "2"), drifted: true, result: "drifted"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &auditWorld{doubtful: c.doubtful, compare: func(n int) im.Comparison {
				if n == 1 {
					return c.first
				}
				return c.second
			}}
			if c.backlog {
				w.records = make([]queue.Record, 5)
			}
			a := w.auditor(t, AuditConfig{Records: -1, Settle: 100_000_000})
			a.once(t)
			if n := counterAt(a.m.users.WithLabelValues(c.result)); n != 1 {
				t.Errorf("%s %v times", c.result, n)
			}
			if total := counterAt(a.m.drift.WithLabelValues(string(im.DriftLast))) +
				counterAt(a.m.drift.WithLabelValues(string(im.DriftCount))); (total == 1) != c.drifted || (len(w.rebuilt) == 1) != c.drifted {
				t.Errorf("drift %v, rebuilt %v", total, w.rebuilt)
			}
		})
	}
}

// What comes back after a rebuild was not the fault of what was rebuilt: once all is
// completed anew, and not again in each round.
func TestAudit_DriftThatComesBackVoidsEverySeal(t *testing.T) {
	w := &auditWorld{compare: func(int) im.Comparison { return drifting(im.DriftEnd, "2") }}
	a := w.auditor(t, AuditConfig{Records: -1})
	for round, resets := range []int{0, 1, 1} {
		a.once(t)
		if w.resets != resets || len(w.rebuilt) != round+1 || w.rebuilt[round] != "d7-9" {
			t.Errorf("round %d: %d new generations, rebuilt %v", round, w.resets, w.rebuilt)
		}
	}
}

// sends fills the log with n messages, of which each second record is a repeat, and
// stores them.
func (w *auditWorld) sends(t *testing.T, n int) (keys []im.SendKey) {
	t.Helper()
	w.stored = map[im.SendKey]im.StoredRef{}
	for i := range n {
		k := im.SendKey{Conversation: "d7-9", Sender: 7, ClientMsgID: im.ClientMsgID(fmt.Sprintf("message-%d", i))}
		value, err := queue.AppendTask(nil, &im.Task{Conversation: k.Conversation, Send: &im.SendTask{
			Sender: im.Sender{ID: k.Sender}, ClientMsgID: k.ClientMsgID, Type: im.TypeText, Content: []byte(`{"text":"x"}`),
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			w.records = append(w.records, queue.Record{Offset: int64(len(w.records)), Value: value})
		}
		keys = append(keys, k)
		w.stored[k] = im.StoredRef{Seq: im.Seq(i + 1)}
	}
	w.records = append(w.records, queue.Record{Offset: int64(len(w.records)), Value: []byte("cannot be read")})
	w.committed = int64(len(w.records))
	return keys
}

func (a *Auditor) found(result string) float64 {
	return counterAt(a.m.checked.WithLabelValues(result))
}

func TestAudit_EachAcceptedMessageIsStoredOrDead(t *testing.T) {
	w := &auditWorld{}
	keys := w.sends(t, 10)
	w.stored[keys[3]] = im.StoredRef{Parked: true}
	delete(w.stored, keys[5])
	a := w.auditor(t, AuditConfig{})
	a.once(t)
	if a.found("dead") < 1 || a.found("stored") < 8 || a.found("nowhere") < 1 || counterAt(a.m.missing) < 1 {
		t.Errorf("stored %v, dead %v, nowhere %v, missing %v", a.found("stored"), a.found("dead"), a.found("nowhere"), counterAt(a.m.missing))
	}
	before, finds := counterAt(a.m.missing), w.finds
	a.once(t)
	if counterAt(a.m.missing) != before || w.finds != finds {
		t.Error("records were looked at twice")
	}
}

// A dead letter that is being replayed is nowhere for a moment.
func TestAudit_WhatArrivesMeanwhileIsNotMissing(t *testing.T) {
	w := &auditWorld{}
	keys := w.sends(t, 2)
	delete(w.stored, keys[1])
	calls := 0
	w.settled = func() {
		if calls++; calls > 1 { // the first is the ledger's own
			w.stored[keys[1]] = im.StoredRef{Seq: 2}
		}
	}
	a := w.auditor(t, AuditConfig{})
	a.once(t)
	if n := counterAt(a.m.missing); n != 0 {
		t.Errorf("%v missing", n)
	}
}

// What could not be looked for a second time is looked for in another round, and named once.
func TestAudit_ForgetsNothingThatIsMissing(t *testing.T) {
	w := &auditWorld{}
	keys := w.sends(t, 2)
	delete(w.stored, keys[1])
	w.records = append(w.records, queue.Record{Offset: int64(len(w.records))}) // the workers are behind
	a := w.auditor(t, AuditConfig{Settle: 100 * time.Millisecond})
	a.once(t)
	if n := counterAt(a.m.missing); n != 0 {
		t.Errorf("%v missing before the workers have come to all", n)
	}
	w.committed++
	a.once(t)
	a.once(t)
	if n := counterAt(a.m.missing); n != 1 {
		t.Errorf("%v missing, want 1", n)
	}
}

func TestAudit_LooksAtTheNewestOnlyAndAtNothingUnfinished(t *testing.T) {
	w := &auditWorld{}
	w.sends(t, 50)
	w.committed = 80 // the rest is not done
	a := w.auditor(t, AuditConfig{Records: 20})
	a.once(t)
	if n := a.found("stored"); n < 10 || n > 20 {
		t.Errorf("%v looked up of records 60 to 79", n)
	}
	if a.seen[0] != 80 {
		t.Errorf("seen up to %d", a.seen[0])
	}
}

func TestAuditConfig_NamesWhatIsWrong(t *testing.T) {
	for want, cfg := range map[string]AuditConfig{
		"":                                     {},
		"jobs.audit.every: 1ms is below 100ms": {Every: 1_000_000},
		"jobs.audit.users: -5 is not in 1 to 10000":      {Users: -5},
		"jobs.audit.records: -2 is not in -1 to 1000000": {Records: -2},
		"jobs.audit.settle: 1ms is not in 100ms to 10m":  {Settle: 1_000_000},
	} {
		err := cfg.Validate()
		if got := fmt.Sprint(err); want != "" && got != want || want == "" && err != nil {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
