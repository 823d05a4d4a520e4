package jobs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const hookSecret = "9b1c7d52e0f84a6d93c5b7a1e2f40683"

// receiver is somebody's HTTP server that takes notifications and checks each call.
type receiver struct {
	t      *testing.T
	url    string
	mu     sync.Mutex
	calls  []*http.Request
	got    []Notification
	answer func(w http.ResponseWriter, r *http.Request, notes []Notification) // nil: 200
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.url = s.URL + "/hook?k=1"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Errorf("read: %v", err)
	}
	mac := hmac.New(sha256.New, []byte(hookSecret))
	fmt.Fprintf(mac, "%s.%s", req.Header.Get("Curlew-Timestamp"), body)
	if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); req.Header.Get("Curlew-Signature") != want {
		r.t.Errorf("signature %q, want %q", req.Header.Get("Curlew-Signature"), want)
	}
	var call struct{ Notifications []Notification }
	if err := json.Unmarshal(body, &call); err != nil || len(call.Notifications) == 0 || len(call.Notifications) > notifyCall {
		r.t.Errorf("%d notifications, %v", len(call.Notifications), err)
	}
	r.mu.Lock()
	r.calls = append(r.calls, req)
	r.got = append(r.got, call.Notifications...)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, req, call.Notifications)
	}
}

func (r *receiver) called() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

func (r *receiver) says(answer func(w http.ResponseWriter, r *http.Request, notes []Notification)) {
	r.mu.Lock()
	r.answer = answer
	r.mu.Unlock()
}

// status answers with nothing but that.
func status(code int) func(http.ResponseWriter, *http.Request, []Notification) {
	return func(w http.ResponseWriter, _ *http.Request, _ []Notification) { w.WriteHeader(code) }
}

func (r *receiver) webhook(set ...func(*WebhookConfig)) *Webhook {
	r.t.Helper()
	cfg := WebhookConfig{URL: r.url, Secret: hookSecret}
	for _, s := range set {
		s(&cfg)
	}
	w, err := NewWebhook(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

func notes(n int) []Notification {
	all := make([]Notification, n)
	for i := range all {
		to := im.PushTarget{User: im.UserID(i + 2), Device: "phone", Provider: "fcm", Token: fmt.Sprintf("t%d", i)}
		all[i] = notification("d1-2", &im.NotifyTask{Seq: 7, MessageID: 99, Sender: im.Sender{ID: 1, Nickname: "Ada"}, Type: im.TypeText,
			Content: json.RawMessage(`{"text":"low tide"}`)}, to, 3)
	}
	return all
}

func TestWebhook_PostsWhatItIsGivenSigned(t *testing.T) {
	r := newReceiver(t)
	hook := r.webhook()
	hook.now = func() time.Time { return time.Unix(1767225600, 0) }
	all := notes(2)
	for i, err := range hook.Notify(t.Context(), all) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	for range 2 {
		hook.Notify(t.Context(), all)
	}
	hook.Notify(t.Context(), all[:1])
	h := r.calls[0].Header
	if h.Get("Curlew-Timestamp") != "1767225600" || h.Get("Content-Type") != "application/json" || r.calls[0].URL.RawQuery != "k=1" {
		t.Errorf("%v %v", r.calls[0].URL, h)
	}
	if key := h.Get("Idempotency-Key"); len(key) != 32 || r.calls[1].Header.Get("Idempotency-Key") != key || r.calls[3].Header.Get("Idempotency-Key") == key {
		t.Errorf("the keys of two equal calls and another: %q %q %q", key, r.calls[1].Header.Get("Idempotency-Key"), r.calls[3].Header.Get("Idempotency-Key"))
	}
	raw, _ := json.Marshal(r.got[0])
	const want = `{"key":"99-2-phone","user_id":"2","device":"phone","provider":"fcm","token":"t0","conversation_id":"d1-2","seq":7,"message_id":"99",` +
		`"sender":{"id":"1","handle":"","nickname":"Ada"},"type":"text","preview":"low tide","badge":3,"mentioned":false}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

func TestWebhook_AnswersSayWhatBecomesOfEach(t *testing.T) {
	r := newReceiver(t)
	hook := r.webhook()
	const ok, gone, refused, again = "ok", "gone", "refused", "again"
	for _, c := range []struct {
		name   string
		n      int
		answer func(http.ResponseWriter, *http.Request, []Notification)
		want   string
	}{
		{"200", 2, status(200), ok},
		{"204", 2, status(204), ok},
		{"410 for one", 1, status(410), gone},
		{"410 for several names none", 2, status(410), refused},
		{"400", 2, status(400), refused},
		{"401", 1, status(401), refused},
		{"404", 1, status(404), refused},
		{"408", 1, status(408), again},
		{"429", 1, status(429), again},
		{"500", 1, status(500), again},
		{"503", 2, status(503), again},
		{"302 is not followed", 1, func(w http.ResponseWriter, q *http.Request, _ []Notification) {
			http.Redirect(w, q, "/elsewhere", http.StatusFound)
		}, again},
		{"307 is not followed", 1, func(w http.ResponseWriter, q *http.Request, _ []Notification) {
			http.Redirect(w, q, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, again},
		{"a body that is none of ours", 2, func(w http.ResponseWriter, _ *http.Request, _ []Notification) { io.WriteString(w, "OK") }, ok},
		{"an endless body", 1, func(w http.ResponseWriter, _ *http.Request, _ []Notification) {
			for range 64 {
				io.WriteString(w, strings.Repeat("x", 64<<10))
			}
		}, ok},
		{"a cut connection", 1, func(http.ResponseWriter, *http.Request, []Notification) { panic(http.ErrAbortHandler) }, again},
	} {
		r.says(c.answer)
		before := r.called()
		for i, err := range hook.Notify(t.Context(), notes(c.n)) {
			got := again
			switch {
			case err == nil:
				got = ok
			case errors.Is(err, ErrGone):
				got = gone
			case errors.Is(err, ErrRefused):
				got = refused
			}
			if got != c.want {
				t.Errorf("%s, %d: %v, want %s", c.name, i, err, c.want)
			}
		}
		if n := r.called() - before; n != 1 {
			t.Errorf("%s: %d calls", c.name, n)
		}
	}
}

func TestWebhook_ResultsNameThoseThatWereNotTaken(t *testing.T) {
	r := newReceiver(t)
	r.says(func(w http.ResponseWriter, _ *http.Request, n []Notification) {
		fmt.Fprintf(w, `{"results":[{"key":%q,"status":"gone"},{"key":%q,"status":"retry"},{"key":%q,"status":"ok"},{"key":"another's","status":"gone"}]}`,
			n[1].Key, n[2].Key, n[3].Key)
	})
	errs := r.webhook().Notify(t.Context(), notes(5))
	for i, want := range []string{"ok", "gone", "retry", "ok", "ok"} {
		got := "ok"
		if errors.Is(errs[i], ErrGone) {
			got = "gone"
		} else if errs[i] != nil {
			got = "retry"
		}
		if got != want {
			t.Errorf("%d: %v, want %s", i, errs[i], want)
		}
	}
}

func TestWebhook_AnAnswerThatBreaksOffTakesNobody(t *testing.T) {
	r := newReceiver(t)
	r.says(func(w http.ResponseWriter, _ *http.Request, n []Notification) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprintf(w, `{"results":[{"key":%q,"status":"gone"}`, n[0].Key)
	})
	for _, err := range r.webhook().Notify(t.Context(), notes(2)) {
		if err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrGone) {
			t.Errorf("%v", err)
		}
	}
}

func TestWebhook_ASlowReceiverIsGivenUpInTime(t *testing.T) {
	r := newReceiver(t)
	free := make(chan struct{})
	r.says(func(_ http.ResponseWriter, q *http.Request, _ []Notification) {
		select {
		case <-free:
		case <-q.Context().Done():
		}
	})
	t.Cleanup(func() { close(free) })
	hook := r.webhook(func(c *WebhookConfig) { c.Timeout = 20 * time.Millisecond; c.Concurrency = 1 })
	for _, err := range hook.Notify(t.Context(), notes(3)) {
		if err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrGone) || strings.Contains(err.Error(), "k=1") {
			t.Errorf("%v", err)
		}
	}
	hook.slots <- struct{}{} // another call is under way
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if errs := hook.Notify(ctx, notes(1)); !errors.Is(errs[0], context.Canceled) {
		t.Errorf("while all slots are taken: %v", errs[0])
	}
}

func TestWebhook_DialsPublicAddressesOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true,
		"127.0.0.1:443": false, "10.1.2.3:443": false, "172.16.0.1:443": false, "192.168.1.1:80": false, "169.254.169.254:80": false,
		"100.64.0.1:443": false, "0.0.0.0:443": false, "224.0.0.1:443": false, "255.255.255.255:443": false, "198.18.0.1:1": false,
		"[::1]:443": false, "[::]:443": false, "[fe80::1%eth0]:443": false, "[fc00::1]:443": false, "[fd12::1]:443": false, "[ff02::1]:1": false,
		"[::10.0.0.1]:443": false, "[::ffff:127.0.0.1]:443": false, "[::ffff:10.0.0.1]:443": false, "[64:ff9b::a00:1]:443": false, "[2002:a00:1::]:443": false,
		"example.org:443": false, "": false,
	} {
		if err := public(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
	// The name says an address of this machine, which is found out when it is dialled.
	r := newReceiver(t)
	u, _ := url.Parse(r.url)
	u.Scheme, u.Host = "https", "localhost.:"+u.Port()
	r.url = u.String()
	errs := r.webhook().Notify(t.Context(), notes(1))
	if errs[0] == nil || !strings.Contains(errs[0].Error(), "not public") {
		t.Skipf("localhost. is no name here: %v", errs[0])
	}
	if r.called() > 0 {
		t.Error("it was called")
	}
	if errs := r.webhook(func(c *WebhookConfig) { c.AllowPrivate = true }).Notify(t.Context(), notes(1)); errs[0] == nil || strings.Contains(errs[0].Error(), "not public") {
		t.Errorf("allowed: %v", errs[0]) // no TLS there
	}
}

func TestWebhookConfig_NamesWhatIsWrong(t *testing.T) {
	good := WebhookConfig{URL: "https://push.example.org/curlew", Secret: hookSecret}
	for _, c := range []struct {
		field string
		set   func(*WebhookConfig)
	}{
		{"", func(*WebhookConfig) {}},
		{"", func(c *WebhookConfig) { *c = WebhookConfig{} }},
		{"", func(c *WebhookConfig) { c.URL = "http://127.0.0.1:9000/x" }},
		{"", func(c *WebhookConfig) { c.URL = "http://[::1]:9000/x" }},
		{"", func(c *WebhookConfig) { c.URL = "http://localhost:9000/x" }},
		{"url", func(c *WebhookConfig) { c.URL = "http://push.example.org" }},
		{"url", func(c *WebhookConfig) { c.URL = "http://127.0.0.1.example.org" }},
		{"url", func(c *WebhookConfig) { c.URL = "file:///etc/passwd" }},
		{"url", func(c *WebhookConfig) { c.URL = "gopher://x" }},
		{"url", func(c *WebhookConfig) { c.URL = "https://user:pass@push.example.org" }},
		{"url", func(c *WebhookConfig) { c.URL = "push.example.org" }},
		{"secret", func(c *WebhookConfig) { c.Secret = "" }},
		{"secret", func(c *WebhookConfig) { c.Secret = "short" }},
		{"timeout", func(c *WebhookConfig) { c.Timeout = time.Minute }},
		{"concurrency", func(c *WebhookConfig) { c.Concurrency = -1 }},
	} {
		cfg := good
		c.set(&cfg)
		err := NotifyConfig{Webhook: cfg}.Validate()
		if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.HasPrefix(err.Error(), "jobs.notify.webhook."+c.field+":") || strings.Contains(err.Error(), "pass")) {
			t.Errorf("%+v: %v, want %q", cfg, err, c.field)
		}
	}
}
