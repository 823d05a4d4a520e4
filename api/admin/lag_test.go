package admin

import (
	"context"
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

type logs struct {
	err     error
	resumed string
}

func (l *logs) Lag(context.Context) ([]im.PartitionLag, error) {
	return []im.PartitionLag{
		{Lane: im.LaneRealtime, Start: 3, Committed: 7, End: 9, Records: 2, Age: 1500 * time.Millisecond, Owner: "curlew-a-1"},
		{Lane: im.LaneDead, Partition: 1, Start: 9, Committed: 4, End: 9, Missing: true, Stopped: true},
		{Lane: im.LaneDead, Partition: 2, Committed: 4, Unknown: true},
	}, l.err
}

func (l *logs) Resume(_ context.Context, lane im.Lane, partition int, at int64) (int64, error) {
	l.resumed = fmt.Sprint(lane, partition, at)
	return 12, l.err
}

func newLagServer(t *testing.T) (*Server, *logs) {
	t.Helper()
	l := &logs{}
	s, err := NewServer(Config{Token: token}, Deps{Logs: l, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

func TestLag_ShowsEachPartition(t *testing.T) {
	s, l := newLagServer(t)
	header := map[string]string{"Authorization": "Bearer " + token}
	w := do(s, "GET", "/v1/admin/lag", header)
	want := `{"partitions":[` +
		`{"lane":"realtime","partition":0,"start":3,"committed":7,"end":9,"records":2,"age_ms":1500,"owner":"curlew-a-1","state":"ok"},` +
		`{"lane":"dead","partition":1,"start":9,"committed":4,"end":9,"records":0,"age_ms":0,"state":"stopped"},` +
		`{"lane":"dead","partition":2,"start":0,"committed":4,"end":0,"records":0,"age_ms":0,"state":"unknown"}]}`
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	l.err = fmt.Errorf("dial 10.0.0.5: %w", im.ErrQueue)
	if w := do(s, "GET", "/v1/admin/lag", header); w.Code != 503 || !strings.Contains(w.Body.String(), "queue_unavailable") || strings.Contains(w.Body.String(), "10.0") {
		t.Errorf("Kafka away: %d %s", w.Code, w.Body)
	}
	if w := do(s, "GET", "/v1/admin/lag", nil); w.Code != 401 { // [O1]
		t.Errorf("without the token: %d", w.Code)
	}
	none, _ := newServer(t, Config{})
	if w := do(none, "GET", "/v1/admin/lag", nil); w.Code != 404 {
		t.Errorf("a process without Kafka: %d", w.Code)
	}
}

func TestResume_TakesAnOffsetOrAnEndOfTheLog(t *testing.T) {
	for body, want := range map[string]string{
		`{"offset":0}`:              "200 realtime3 0",
		`{"offset":77}`:             "200 realtime3 77",
		`{"offset":"earliest"}`:     "200 realtime3 -2",
		`{"offset":"latest"}`:       "200 realtime3 -1",
		`{"offset":"77"}`:           "200 realtime3 77",
		`{"offset":-1}`:             "400",
		`{"offset":"soon"}`:         "400",
		`{"offset":1.5}`:            "400",
		`{"offset":null}`:           "400",
		`{}`:                        "400",
		`{"offset":1,"force":true}`: "400",
		``:                          "400",
	} {
		s, l := newLagServer(t)
		r := httptest.NewRequest("POST", "/v1/admin/partitions/realtime/3/resume", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if got := strings.TrimSpace(fmt.Sprint(w.Code, " ", l.resumed)); got != want {
			t.Errorf("%s: %q, want %q: %s", body, got, want, w.Body)
		}
		if w.Code == 200 && strings.TrimSpace(w.Body.String()) != `{"offset":12}` {
			t.Errorf("%s: answered %s", body, w.Body)
		}
	}
}

func TestResume_IsTheOperatorsAndOnlyOfWhatStands(t *testing.T) {
	s, l := newLagServer(t)
	post := func(path, auth string) int {
		r := httptest.NewRequest("POST", path, strings.NewReader(`{"offset":"earliest"}`))
		r.Header.Set("Authorization", auth)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code
	}
	if got := post("/v1/admin/partitions/realtime/3/resume", "Bearer x"); got != http.StatusUnauthorized || l.resumed != "" {
		t.Errorf("without the token: %d", got) // [O1]
	}
	if got := post("/v1/admin/partitions/realtime/x/resume", "Bearer "+token); got != http.StatusNotFound || l.resumed != "" {
		t.Errorf("no partition: %d", got)
	}
	l.err = im.ErrConflict
	if got := post("/v1/admin/partitions/realtime/3/resume", "Bearer "+token); got != http.StatusConflict {
		t.Errorf("one that goes on: %d", got)
	}
}

func TestReady_ACheckSaysItself(t *testing.T) {
	s, _ := newServer(t, Config{}, Check{"log", func(context.Context) error { return unsound{} }})
	if w := do(s, "GET", "/ready", nil); w.Code != 200 || !strings.Contains(w.Body.String(), `{"status":"degraded","checks":{"log":"im.realtime/3 is stopped"}}`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type unsound struct{}

func (unsound) Error() string { return "10.0.0.5" }
func (unsound) State() string { return "im.realtime/3 is stopped" }
