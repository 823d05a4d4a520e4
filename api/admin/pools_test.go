package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

var someSettings = im.PoolSettings{Size: 16, Batch: 500, Strands: 1, WindowRecords: 4000, Attempts: 10, BackoffMin: 20 * time.Millisecond, BackoffMax: time.Second}

// poolBook notes what it is told.
type poolBook struct {
	reports []im.PoolReport
	alone   map[string]im.PoolPatch
	err     error
	told    []string
}

func newPoolBook() *poolBook {
	small := someSettings
	small.BackoffMax = 30 * time.Millisecond
	return &poolBook{reports: []im.PoolReport{
		{Process: "jobs-b", Lane: im.LaneRetry, Settings: someSettings, Steps: map[string]im.StepReport{}, Partitions: []int{}},
		{Process: "jobs-b", Lane: im.LaneRealtime, Settings: small, Steps: map[string]im.StepReport{}, Partitions: []int{1}},
		{Process: "jobs-a", Lane: im.LaneRealtime, At: 1, Settings: someSettings, Steps: map[string]im.StepReport{}, Partitions: []int{}},
	}}
}

func (b *poolBook) PoolReports(context.Context) ([]im.PoolReport, error) {
	if b.err != nil {
		return nil, b.err
	}
	return append([]im.PoolReport(nil), b.reports...), nil
}

func (b *poolBook) SetAlone(context.Context, im.Lane) (map[string]im.PoolPatch, error) {
	return b.alone, nil
}

func (b *poolBook) SetPool(_ context.Context, process string, lane im.Lane, p im.PoolPatch) error {
	s, _ := json.Marshal(p)
	b.told = append(b.told, fmt.Sprintf("%q %s %s", process, lane, s))
	return nil
}

func (b *poolBook) ResetPool(_ context.Context, process string, lane im.Lane) error {
	b.told = append(b.told, fmt.Sprintf("%q %s reset", process, lane))
	return nil
}

// ownPools is a process that is asked.
type ownPools struct{}

func (ownPools) PoolReports() []im.PoolReport {
	return []im.PoolReport{{
		Process: "jobs-a", Lane: im.LaneRealtime, At: 2, Settings: someSettings, LagSeconds: 1.5, Partitions: []int{0, 2}, Stopped: []int{2},
		Steps:  map[string]im.StepReport{"insert": {Count: 3, P50: 1.25, P99: 9, Share: .5}},
		Advice: &im.Advice{Bottleneck: "commit", Knob: "batch", Why: "slow"},
	}}
}

func TestPools_OwnAreNewestAndAreThereWithoutRedis(t *testing.T) {
	s, _ := newServer(t, Config{})
	book := s.deps.Pools.(*poolBook)
	show := func() string {
		t.Helper()
		w := ask(t, s, "GET", "/v1/admin/pools", "")
		var p Pools
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		got := fmt.Sprint(p.Partial)
		for _, r := range p.Pools {
			got += fmt.Sprintf(" %s/%s@%d", r.Process, r.Lane, r.At)
		}
		return got
	}
	if got, want := show(), "false jobs-a/realtime@2 jobs-b/realtime@0 jobs-b/retry@0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	book.err = im.ErrCache
	if got, want := show(), "true jobs-a/realtime@2"; got != want {
		t.Errorf("without Redis: %s, want %s", got, want)
	}
	s.deps.Own = nil
	if w := ask(t, s, "GET", "/v1/admin/pools", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("without both: %d", w.Code)
	}
}

func TestPools_WhatAPoolWouldRefuseIsNotSet(t *testing.T) {
	s, _ := newServer(t, Config{})
	book := s.deps.Pools.(*poolBook)
	for _, c := range []struct {
		method, path, body string
		code               int
		told               string
	}{
		{"PATCH", "realtime", `{"settings":{"size":4,"linger":"10ms"}}`, 200, `"" realtime {"size":4,"linger":10000000}`},
		{"PATCH", "retry", `{"process":"jobs-b","settings":{"attempts":3}}`, 200, `"jobs-b" retry {"attempts":3}`},
		{"PATCH", "retry", `{"process":"jobs-a","settings":{"attempts":3}}`, 404, ""},
		{"PATCH", "delay", `{"settings":{"attempts":3}}`, 404, ""},
		{"PATCH", "realtime", `{"settings":{"size":0}}`, 400, ""},
		{"PATCH", "realtime", `{"settings":{"linger":"soon"}}`, 400, ""},
		{"PATCH", "realtime", `{"settings":{}}`, 400, ""},
		{"PATCH", "realtime", `{"settings":{"colour":1}}`, 400, ""},
		{"PATCH", "realtime", `{"process":"jobs-a","settings":{"backoff_min":"40ms"}}`, 200, `"jobs-a" realtime {"backoff_min":40000000}`},
		{"PATCH", "realtime", `{"settings":{"backoff_min":"40ms"}}`, 400, ""}, // above what jobs-b has for backoff_max
		{"DELETE", "realtime", "", 204, `"" realtime reset`},
		{"DELETE", "realtime?process=jobs-a", "", 204, `"jobs-a" realtime reset`},
	} {
		book.told = nil
		w := ask(t, s, c.method, "/v1/admin/pools/"+c.path, c.body)
		if told := strings.Join(book.told, "; "); w.Code != c.code || told != c.told {
			t.Errorf("%s %s %s: %d %s, told %s", c.method, c.path, c.body, w.Code, w.Body, told)
		}
	}
	if w := do(s, "DELETE", "/v1/admin/pools/fast", nil); w.Code != http.StatusNotFound || len(book.told) != 1 {
		t.Errorf("no such lane: %d, told %v", w.Code, book.told)
	}
}

// What is set for one process alone stands over what is set for all.
func TestPools_WhatIsSetForOneAloneStaysInTheAnswer(t *testing.T) {
	s, _ := newServer(t, Config{})
	short := 30 * time.Millisecond
	s.deps.Pools.(*poolBook).alone = map[string]im.PoolPatch{
		"jobs-a": {Size: new(5)}, "jobs-b": {Size: new(7), BackoffMax: &short},
	}
	w := ask(t, s, "PATCH", "/v1/admin/pools/realtime", `{"settings":{"size":4,"batch":9}}`)
	var changed PoolChanged
	if err := json.Unmarshal(w.Body.Bytes(), &changed); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	got := ""
	for _, p := range changed.Pools {
		got += fmt.Sprintf("%s %d %d; ", p.Process, p.Settings.Size, p.Settings.Batch)
	}
	if want := "jobs-a 5 9; jobs-b 7 9; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	w = ask(t, s, "PATCH", "/v1/admin/pools/realtime", `{"settings":{"backoff_min":"40ms","backoff_max":"1s"}}`)
	if w.Code != http.StatusBadRequest { // jobs-b would keep its backoff_max
		t.Errorf("below what jobs-b keeps: %d %s", w.Code, w.Body)
	}
	w = ask(t, s, "PATCH", "/v1/admin/pools/realtime", `{"settings":{"size":0}}`)
	if w.Code != http.StatusBadRequest { // though jobs-b keeps its own
		t.Errorf("what jobs-b hides: %d %s", w.Code, w.Body)
	}
}
