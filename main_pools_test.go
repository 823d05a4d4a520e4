package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// pooled runs `curlew pools …` and returns what it says.
func (e *engine) pooled(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o := &operator{base: e.admin, load: func() (admin.Config, error) { return e.cfg.Admin, nil }, out: &out}
	cmd := o.poolsCommand()
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// realtime is how the lane's pool is.
func (e *engine) realtime(t *testing.T) admin.PoolReport {
	t.Helper()
	var p admin.Pools
	r := call{method: http.MethodGet, path: "/v1/admin/pools"}.do(t, e.admin, "")
	must(t, json.Unmarshal(r.body, &p))
	for _, rep := range p.Pools {
		if rep.Lane == im.LaneRealtime {
			return rep
		}
	}
	t.Fatalf("no pool of realtime: %s", r.body)
	return admin.PoolReport{}
}

// An operator sees the pools and turns every knob by the command while people talk.
func TestPools_AreSeenAndTurnedWhilePeopleTalk(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	adas, bobs := ada.connect("phone"), bob.connect("phone")
	process := e.realtime(t).Process

	var said []string
	for i, args := range [][]string{
		{"size=3"}, {"batch=7", "window_records=100"}, {"strands=3"}, {"linger=2ms"}, {"attempts=4"}, {"backoff_min=5ms", "backoff_max=700ms"},
		{"strands=2", "linger=0s", "--process", process},
	} {
		out, err := e.pooled(t, append([]string{"set", "realtime"}, args...)...)
		if err != nil || !strings.Contains(out, process) {
			t.Fatalf("set %v: %v\n%s", args, err, out)
		}
		for n := range 10 {
			said = append(said, fmt.Sprintf("%d.%d", i, n))
			adas.say(bob, said[len(said)-1])
		}
	}
	want := admin.PoolSettings{Size: 3, Batch: 7, Linger: "0s", Strands: 2, WindowRecords: 100, Attempts: 4, BackoffMin: "5ms", BackoffMax: "700ms"}
	devtest.Eventually(t, "all that was set stands", func() bool { return e.realtime(t).Settings == want })
	devtest.Eventually(t, "Bob has all", func() bool { return len(bobs.texts(conv)) == len(said) })
	equal(t, "what Bob was told", bobs.texts(conv), said)

	out, err := e.pooled(t, "--steps")
	if err != nil || !strings.Contains(out, "batch=7 linger=0s strands=2 window=100 attempts=4 backoff=5ms-700ms") || !strings.Contains(out, "archive") {
		t.Errorf("%v\n%s", err, out)
	}
	if rep := e.realtime(t); len(rep.Partitions) != e.cfg.Queue.Partitions || rep.Rate <= 0 || rep.BatchP50 < 1 || rep.Steps["insert"].P99 <= 0 || rep.InFlight != 0 {
		t.Errorf("%+v", rep)
	}
	for _, args := range [][]string{
		{"set", "realtime", "colour=1"}, {"set", "realtime", "size=x"}, {"set", "realtime", "size=0"}, {"set", "realtime", "linger=1h"},
		{"set", "fast", "size=1"}, {"set", "realtime", "size=1", "--process", "nobody"}, {"reset", "fast"},
	} {
		if out, err := e.pooled(t, args...); err == nil {
			t.Errorf("%v is taken: %s", args, out)
		}
	}
	_, err = e.pooled(t, "reset", "realtime", "--process", process)
	must(t, err)
	want.Strands, want.Linger = 3, "2ms"
	devtest.Eventually(t, "what is set for all stands", func() bool { return e.realtime(t).Settings == want })
	_, err = e.pooled(t, "reset", "realtime")
	must(t, err)
	devtest.Eventually(t, "as configured", func() bool { return e.realtime(t).Settings.Size == 16 && e.realtime(t).Settings.Strands == 1 })

}
