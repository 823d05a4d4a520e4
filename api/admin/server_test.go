package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

const token = "0123456789abcdef0123456789abcdef"

type generations struct {
	set int
	err error
}

func (g *generations) Reset(context.Context) error {
	if g.err == nil {
		g.set++
	}
	return g.err
}

func newServer(t *testing.T, cfg Config, checks ...Check) (*Server, *generations) {
	t.Helper()
	g := &generations{}
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "curlew_test_things_total"})
	reg.MustRegister(c)
	s, err := NewServer(cfg, Deps{Checks: checks, Generations: g, Rebuilds: newRebuilds(), Dead: newLetters(), Pools: newPoolBook(), Own: ownPools{}, Gatherer: reg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, g
}

func do(s *Server, method, path string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8070"+path, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	if host := header["Host"]; host != "" {
		r.Host = host
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestReady_NamesWhatIsAwayAndNotWhere(t *testing.T) {
	var away error
	s, _ := newServer(t, Config{CheckTimeout: 50 * time.Millisecond},
		Check{"redis", func(context.Context) error { return nil }},
		Check{"mysql", func(context.Context) error { return away }},
		Check{"kafka", func(ctx context.Context) error {
			if away == nil {
				return nil
			}
			<-ctx.Done() // hangs until its deadline
			return ctx.Err()
		}})
	ask := func(status int) (a readyAnswer) {
		t.Helper()
		w := do(s, "GET", "/ready", nil)
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != status {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "10.0.0.5") {
			t.Errorf("an address is shown: %s", w.Body)
		}
		return a
	}
	if a := ask(200); a.Status != "ready" || len(a.Checks) != 3 {
		t.Errorf("all there: %+v", a)
	}
	away = errors.New("dial tcp 10.0.0.5:3306: connection refused")
	if a := ask(200); a.Status != "degraded" || fmt.Sprint(a.Checks) != "map[kafka:away mysql:away redis:ok]" {
		t.Errorf("two away: %+v", a)
	}
	away = nil
	s.Stopping()
	if a := ask(503); a.Status != "stopping" {
		t.Errorf("stopping: %+v", a)
	}
	if w := do(s, "GET", "/health", nil); w.Code != 200 {
		t.Errorf("health while stopping: %d", w.Code)
	}
}

func TestMetrics_AreServed(t *testing.T) {
	s, _ := newServer(t, Config{})
	if w := do(s, "GET", "/metrics", nil); w.Code != 200 || !strings.Contains(w.Body.String(), "curlew_test_things_total 0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// [O1]
func TestMetrics_AskForTheTokenWhereOthersReachThem(t *testing.T) {
	s, _ := newServer(t, Config{Listen: "0.0.0.0:8070", Token: token})
	if w := do(s, "GET", "/metrics", nil); w.Code != 401 || strings.Contains(w.Body.String(), "curlew_test") {
		t.Errorf("without: %d %s", w.Code, w.Body)
	}
	if w := do(s, "GET", "/metrics", map[string]string{"Authorization": "Bearer " + token}); w.Code != 200 {
		t.Errorf("with: %d", w.Code)
	}
	if w := do(s, "GET", "/ready", nil); w.Code != 200 {
		t.Errorf("a balancer's question: %d", w.Code)
	}
}

func TestGeneration_IsSetByTheOperatorAlone(t *testing.T) {
	s, g := newServer(t, Config{})
	for name, header := range map[string]map[string]string{
		"a page of another origin": {"Origin": "https://evil.example"},
		"a page, origin withheld":  {"Sec-Fetch-Site": "cross-site"},
		"a name that moved here":   {"Host": "evil.example:8070"},
		"a name that looks so":     {"Host": "127.0.0.1.evil.example"},
	} {
		if w := do(s, "POST", "/v1/admin/generation", header); w.Code != http.StatusUnauthorized || g.set != 0 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	for i, host := range []string{"127.0.0.1:8070", "localhost:8070", "[::1]:8070"} {
		if w := do(s, "POST", "/v1/admin/generation", map[string]string{"Host": host}); w.Code != http.StatusNoContent || g.set != i+1 {
			t.Errorf("from this machine as %s: %d", host, w.Code)
		}
	}
	if w := do(s, "GET", "/v1/admin/generation", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	g.err = fmt.Errorf("dial 10.0.0.5: %w", im.ErrCache)
	if w := do(s, "POST", "/v1/admin/generation", nil); w.Code != 503 || strings.Contains(w.Body.String(), "10.0") || !strings.Contains(w.Body.String(), "cache_unavailable") {
		t.Errorf("Redis away: %d %s", w.Code, w.Body)
	}

	s, g = newServer(t, Config{Token: token, Profiles: true})
	for _, given := range []string{"", "Bearer ", "Bearer x", token + "x", "Bearer " + token + " "} {
		if w := do(s, "POST", "/v1/admin/generation", map[string]string{"Authorization": given}); w.Code != 401 || g.set != 0 {
			t.Errorf("token %q: %d", given, w.Code)
		}
	}
	if w := do(s, "POST", "/v1/admin/generation", map[string]string{"Authorization": "Bearer " + token}); w.Code != 204 || g.set != 1 {
		t.Errorf("with the token: %d", w.Code)
	}
	if w := do(s, "GET", "/debug/pprof/", nil); w.Code != 401 {
		t.Errorf("profiles without the token: %d", w.Code)
	}
}

func TestProfiles_AreOffByDefault(t *testing.T) {
	s, _ := newServer(t, Config{})
	if w := do(s, "GET", "/debug/pprof/", nil); w.Code != 404 {
		t.Errorf("off: %d", w.Code)
	}
	s, _ = newServer(t, Config{Profiles: true})
	if w := do(s, "GET", "/debug/pprof/goroutine?debug=1", nil); w.Code != 200 {
		t.Errorf("on: %d", w.Code)
	}
}

func TestConfig_PublicAddressNeedsAToken(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:8070", ":8070", "192.0.2.1:8070", "example.org:8070", "[::]:8070"} {
		if err := (Config{Listen: listen}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "admin.token:") {
			t.Errorf("%s: %v", listen, err)
		}
		if err := (Config{Listen: listen, Token: token}).Validate(); err != nil {
			t.Errorf("%s with a token: %v", listen, err)
		}
	}
	for _, bad := range []string{token[1:], strings.Repeat("x", 64), "change-me-0123456789abcdef0123456789"} {
		if err := (Config{Token: bad}).Validate(); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, listen := range []string{"", "127.0.0.1:0", "localhost:1", "[::1]:1"} {
		if err := (Config{Listen: listen}).Validate(); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

func TestServer_RunsAndStops(t *testing.T) {
	s, _ := newServer(t, Config{Listen: "127.0.0.1:0"})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	res, err := http.Get("http://" + s.Addr() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
