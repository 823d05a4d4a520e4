package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// start runs the face on a port of its own until the test ends.
func (f *face) start() (stop func() error) {
	f.t.Helper()
	if err := f.server.Listen(); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.server.Run(ctx) }()
	var once bool
	var result error
	stop = func() error {
		if !once {
			once = true
			cancel()
			result = <-done
		}
		return result
	}
	f.t.Cleanup(func() { _ = stop() })
	return stop
}

func onLoopback(c *Config) { c.Listen = "127.0.0.1:0" }

func TestServer_FinishesWhatItTookAndStops(t *testing.T) {
	f := newFace(t, onLoopback)
	f.block = make(chan struct{})
	stop := f.start()
	answered := make(chan int, 1)
	go func() {
		req, _ := http.NewRequest("POST", "http://"+f.server.Addr()+"/v1/messages", strings.NewReader(sendBody))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", asUser)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	eventually(t, "the send is in flight", func() bool { return len(f.server.slots) == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	eventually(t, "it drains", f.server.draining.Load)
	want(t, "health while draining", f.do(goodRequests["health"].request), 503, "shutting_down")
	close(f.block)
	if status := <-answered; status != 202 {
		t.Errorf("the send in flight was answered %d", status)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestServer_TakenPortIsAnError(t *testing.T) {
	f := newFace(t, onLoopback)
	f.start()
	g := newFace(t, func(c *Config) { c.Listen = f.server.Addr() })
	if err := g.server.Listen(); err == nil {
		t.Error("two listen on one port")
	}
}

// [A2]
func TestServer_AnswersWhenTheWorkTakesTooLong(t *testing.T) {
	f := newFace(t, func(c *Config) { c.RequestTimeout = time.Second })
	f.block = make(chan struct{})
	w := f.do(goodRequests["send"].request)
	want(t, "send that hangs", w, 503, "outcome_unknown")
}

// [A3]
func TestServer_MoreThanItsSlotsAreOverloaded(t *testing.T) {
	f := newFace(t, onLoopback, func(c *Config) { c.MaxInFlight = 1 })
	f.block = make(chan struct{})
	f.start()
	answered := make(chan int, 1)
	go func() { answered <- f.do(goodRequests["send"].request).Code }()
	eventually(t, "one is in flight", func() bool { return len(f.server.slots) == 1 })
	w := f.do(goodRequests["me"].request)
	want(t, "one more", w, 503, "overloaded")
	want(t, "health", f.do(goodRequests["health"].request), 200, "")
	close(f.block)
	if status := <-answered; status != 202 {
		t.Errorf("the first was answered %d", status)
	}
	want(t, "afterwards", f.do(goodRequests["me"].request), 200, "")
}

// A body that trickles holds no slot, and ends by itself.
func TestServer_SlowBodyKeepsNobodyOut(t *testing.T) {
	f := newFace(t, onLoopback, func(c *Config) { c.MaxInFlight = 1; c.HeaderTimeout = time.Second; c.BodyTimeout = 2 * time.Second })
	f.start()
	conn, err := net.Dial("tcp", f.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", asUser)
	eventually(t, "the slow one has come", func() bool {
		var m dto.Metric
		return f.server.metrics.inFlight.Write(&m) == nil && m.Gauge.GetValue() == 1
	})
	eventually(t, "somebody else is answered meanwhile", func() bool { return f.do(goodRequests["me"].request).Code == 200 })
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the slow one got no answer: %v", err)
	}
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 503 || !strings.Contains(string(body), `"timeout"`) {
		t.Errorf("the slow one was answered %d %s", res.StatusCode, body)
	}
}

// Connections that lie idle give way to those that ask; who is being answered stays.
func TestServer_IdleConnectionsKeepNobodyOut(t *testing.T) {
	f := newFace(t, onLoopback, func(c *Config) { c.MaxConns = 3 })
	f.start()
	var idle []*bufio.Reader
	for range 12 {
		conn, err := net.Dial("tcp", f.server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("connection %d: %v", len(idle)+1, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		idle = append(idle, r)
	}
	if _, err := idle[0].ReadByte(); err != io.EOF {
		t.Errorf("the first still lies there: %v", err)
	}
}

// slowReader looks at the server while an answer is written to it.
type slowReader struct {
	*httptest.ResponseRecorder
	look func()
}

func (w slowReader) Write(b []byte) (int, error) {
	w.look()
	return w.ResponseRecorder.Write(b)
}

// An answer that is taken slowly holds no slot either.
// Who keeps no connection and sends too much gets the answer, not a reset.
func TestServer_RefusedBodyIsAnswered(t *testing.T) {
	f := newFace(t, onLoopback)
	f.start()
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		req, _ := http.NewRequest("POST", "http://"+f.server.Addr()+"/v1/messages", strings.NewReader(strings.Repeat("x", 4<<20)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", asUser)
		res, err := once.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatal(res.Status)
		}
	}
}

func TestServer_SlowReaderKeepsNobodyOut(t *testing.T) {
	f := newFace(t)
	for name, r := range map[string]request{"an answer": goodRequests["me"].request, "an error": {method: "GET", path: "/v1/users/me"}} {
		looked := false
		w := slowReader{httptest.NewRecorder(), func() {
			if looked = true; len(f.server.slots) != 0 {
				t.Errorf("%s is written with %d slots held", name, len(f.server.slots))
			}
		}}
		f.server.Handler().ServeHTTP(w, r.build())
		if !looked {
			t.Errorf("%s was not written", name)
		}
	}
}

func TestServer_SlowOrEndlessHeadersAreCutOff(t *testing.T) {
	f := newFace(t, onLoopback, func(c *Config) { c.HeaderTimeout = time.Second; c.BodyTimeout = 2 * time.Second })
	f.start()
	slow, err := net.Dial("tcp", f.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_, _ = io.WriteString(slow, "GET /v1/limits HTTP/1.1\r\nHost: x\r\nX: ")
	if _, err := io.ReadAll(slow); err != nil {
		t.Errorf("slow header: %v", err)
	}
	endless, err := net.Dial("tcp", f.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer endless.Close()
	_, _ = io.WriteString(endless, "GET /v1/limits HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10))
	line, _ := bufio.NewReader(endless).ReadString('\n')
	if !strings.Contains(line, "431") {
		t.Errorf("endless header was answered %q", line)
	}
}

func TestWeb_PageIsServedUnderAPolicy(t *testing.T) {
	f := newFace(t, func(c *Config) { c.SocketURL = "wss://chat.example/v1/ws" })
	for path, media := range map[string]string{"/openapi.yaml": "application/yaml", "/asyncapi.yaml": "application/yaml", "/robots.txt": "text/plain; charset=utf-8"} {
		w := f.do(request{method: "GET", path: path})
		h := w.Header()
		if w.Code != 200 || h.Get("Content-Type") != media || w.Body.Len() == 0 {
			t.Errorf("%s: %d %s, %d bytes", path, w.Code, h.Get("Content-Type"), w.Body.Len())
		}
		policy := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'self'", "connect-src 'self' wss://chat.example;", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: policy %q lacks %q", path, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		again := f.do(request{method: "GET", path: path, header: map[string]string{"If-None-Match": h.Get("ETag")}})
		if again.Code != http.StatusNotModified {
			t.Errorf("%s with its ETag: %d", path, again.Code)
		}
	}
	w := f.do(goodRequests["pageConfig"].request)
	if got := strings.TrimSpace(w.Body.String()); got != `{"socket":"wss://chat.example/v1/ws","demo":true}` {
		t.Errorf("config.json: %s", got)
	}
}

func TestConfig_BadFieldIsNamed(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"api.listen":          func(c *Config) { c.Listen = "8080" },
		"api.socket_url":      func(c *Config) { c.SocketURL = "http://x" },
		"api.allowed_origins": func(c *Config) { c.AllowedOrigins = []string{"*"} },
		"api.trusted_proxies": func(c *Config) { c.TrustedProxies = []string{"proxy"} },
		"api.max_body_bytes":  func(c *Config) { c.MaxBodyBytes = 1 },
		"api.body_timeout":    func(c *Config) { c.BodyTimeout = time.Second },
		"api.request_timeout": func(c *Config) { c.RequestTimeout = time.Millisecond },
		"api.max_in_flight":   func(c *Config) { c.MaxInFlight = -1 },
		"api.max_conns":       func(c *Config) { c.MaxConns = -1 },
	} {
		var c Config
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
