package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// mirror answers every message with itself, as Autobahn's fuzzing client wants it.
type mirror struct {
	*echo
	users atomic.Uint64
}

func (m *mirror) Connect(_ context.Context, h protocol.Hello, first []byte, answer func(protocol.ConnectAnswer)) {
	answer(protocol.ConnectAnswer{Frame: bytes.Clone(first), Session: &im.Session{
		Identity: im.Identity{User: im.UserID(m.users.Add(1)), Device: "d"}, ID: h.Session, Node: h.Node, IP: h.IP,
	}})
}

func (m *mirror) Handle(_ context.Context, _ *im.Session, b []byte, answer func(protocol.Answer)) {
	answer(protocol.Answer{Frame: bytes.Clone(b)})
}

// Autobahn's own cases against both pollers, where CURLEW_WSTEST names its command
// (pip install autobahntestsuite; about a minute). Left out are those in binary, which
// is refused with 1003, in compression, which is never agreed on, and 9.7.1: an empty
// answer of logic's means none, so that there is no mirror for its empty messages.
// Some are not strict: what came right before a broken frame is not answered.
func TestAutobahn(t *testing.T) {
	wstest := os.Getenv("CURLEW_WSTEST")
	if wstest == "" {
		t.Skip("CURLEW_WSTEST does not name Autobahn's wstest")
	}
	long := unlimited() // section 9 goes up to 16 MiB in frames of 64 bytes
	long.MaxMessageBytes, long.MaxFragments, long.OutboxBytes = 16<<20, 1<<20, 64<<20
	for _, k := range []kind{byDefault, goroutines} {
		for _, run := range []struct {
			name           string
			cfg            Config
			cases, without []string
		}{
			{"as shipped", unlimited(), []string{"1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"}, []string{"1.2.*"}},
			{"long messages", long, []string{"9.*"}, []string{"9.2.*", "9.4.*", "9.6.*", "9.8.*", "9.7.1"}},
		} {
			t.Run(fmt.Sprint(k, ", ", run.name), func(t *testing.T) { autobahn(t, wstest, k, run.cfg, run.cases, run.without) })
		}
	}
}

func autobahn(t *testing.T, wstest string, k kind, cfg Config, cases, without []string) {
	dir := newDirectory()
	s, err := New(cfg, "n1", &mirror{echo: &echo{}}, dir, dir, dir, dir, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if k == goroutines {
		if s.poller, err = newNetPoller(s); err != nil {
			t.Fatal(err)
		}
	}
	b := serve(t, s, k, dir)
	folder := t.TempDir()
	spec, err := json.Marshal(map[string]any{
		"outdir": folder, "servers": []any{map[string]any{"agent": "curlew", "url": "ws://" + b.addr + Path}},
		"cases": cases, "exclude-cases": without, "exclude-agent-cases": map[string]any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "spec.json")
	if err := os.WriteFile(path, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(wstest, "-m", "fuzzingclient", "-s", path)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	index, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]map[string]struct{ Behavior, BehaviorClose string }
	if err := json.Unmarshal(index, &report); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for name, r := range report["curlew"] {
		count[r.Behavior]++
		if r.Behavior == "NON-STRICT" || r.Behavior == "UNCLEAN" {
			t.Logf("%s: %s, closed %s", name, r.Behavior, r.BehaviorClose)
		}
		if r.Behavior != "OK" && r.Behavior != "NON-STRICT" && r.Behavior != "INFORMATIONAL" {
			t.Errorf("%s: %s", name, r.Behavior)
		}
		if r.BehaviorClose != "OK" && r.BehaviorClose != "INFORMATIONAL" {
			t.Errorf("%s: closed %s", name, r.BehaviorClose)
		}
	}
	if len(report["curlew"]) == 0 {
		t.Error("nothing was tried")
	}
	t.Logf("%d cases: %v", len(report["curlew"]), count)
}
