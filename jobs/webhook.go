package jobs

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// WebhookConfig is where notifications are posted to.
type WebhookConfig struct {
	// URL of the receiver: https, or http on this machine (default none: nobody is
	// notified).
	URL string
	// Secret signs each call; the receiver holds it too. At least 32 bytes, drawn.
	Secret string
	// Timeout bounds one call, and before that the wait for others to end (default 5 s; at
	// most 10 s: a partition that stands still for 30 s is given to a peer).
	Timeout time.Duration
	// Concurrency is how many calls are under way at once (default 8).
	Concurrency int
	// AllowPrivate lets the receiver have an address that is not public. Otherwise a name
	// that somebody else controls could make this process speak to its neighbours.
	AllowPrivate bool
}

func (c WebhookConfig) withDefaults() WebhookConfig {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Concurrency == 0 {
		c.Concurrency = 8
	}
	return c
}

func (c WebhookConfig) validate() error {
	if c.URL == "" {
		return nil
	}
	c = c.withDefaults()
	const field = "jobs.notify.webhook."
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New(field + "url: not a URL without user and fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && onThisMachine(u.Hostname())):
		return errors.New(field + "url: must be https, or http on this machine")
	case c.Timeout < 10*time.Millisecond || c.Timeout > 10*time.Second:
		return fmt.Errorf("%stimeout: %s is not in 10ms to 10s", field, c.Timeout)
	case c.Concurrency < 1 || c.Concurrency > 256:
		return fmt.Errorf("%sconcurrency: %d is not in 1 to 256", field, c.Concurrency)
	}
	if err := im.CheckSecret(c.Secret); err != nil {
		return fmt.Errorf("%ssecret: %w", field, err)
	}
	return nil
}

// onThisMachine says that a host is written as an address of this machine.
func onThisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Webhook posts notifications to an HTTP receiver, up to 100 in a call, signed:
//
//	POST <url>
//	Curlew-Timestamp: <Unix seconds>
//	Curlew-Signature: v1=<hex of HMAC-SHA256(secret, timestamp + "." + body)>
//	Idempotency-Key: <the same for the same notifications>
//
//	{"notifications": [{"key": …, "provider": …, "token": …, "badge": …, …}, …]}
//
// A 2xx takes them all, but for those that a body {"results": [{"key": …, "status":
// "gone" or "retry"}]} names. 408, 429 and 5xx are tried again, and so is what the
// receiver did not answer; another 4xx is refused for good. 410 says that the token of a
// call with one notification is gone. Redirects are not followed.
type Webhook struct {
	cfg   WebhookConfig
	http  *http.Client
	slots chan struct{}
	now   func() time.Time
}

// NewWebhook checks cfg, whose URL is set.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: cfg.Timeout}
	if !cfg.AllowPrivate && !onThisMachine(u.Hostname()) {
		// Asked about the address that is dialled: whatever the name says the next time.
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return public(address) }
	}
	return &Webhook{
		cfg: cfg, now: time.Now, slots: make(chan struct{}, cfg.Concurrency),
		http: &http.Client{
			Timeout:       cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{ // no proxy: it would dial in our place
				DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: cfg.Timeout,
				MaxIdleConnsPerHost: cfg.Concurrency, MaxConnsPerHost: cfg.Concurrency, IdleConnTimeout: time.Minute,
				MaxResponseHeaderBytes: 32 << 10,
			},
		},
	}, nil
}

// notPublic are ranges that no receiver on the internet has, beside those that netip
// knows: of carriers, of protocols and benchmarks, of the old and new internet's bridges.
var notPublic = func() (all []netip.Prefix) {
	for _, s := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "::/96", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10"} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// public refuses to dial what is no public address.
func public(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	a := ap.Addr().Unmap().WithZone("")
	bad := !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
	for _, p := range notPublic {
		bad = bad || p.Contains(a)
	}
	if bad {
		return errors.New("webhook: the address is not public (jobs.notify.webhook.allow_private)")
	}
	return nil
}

// answerBytes bounds what is read of an answer.
const answerBytes = 256 << 10

// Notify is one call.
func (w *Webhook) Notify(ctx context.Context, all []Notification) []error {
	body, err := json.Marshal(struct {
		Notifications []Notification `json:"notifications"`
	}{all})
	if err != nil {
		return each(all, fmt.Errorf("%w: %w", ErrRefused, err))
	}
	line := time.NewTimer(w.cfg.Timeout)
	defer line.Stop()
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-line.C: // a partition that stands still for 30 s is given to a peer
		return each(all, ErrBusy)
	case <-ctx.Done():
		return each(all, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return each(all, err)
	}
	at := strconv.FormatInt(w.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Curlew")
	req.Header.Set("Curlew-Timestamp", at)
	req.Header.Set("Curlew-Signature", "v1="+sign(w.cfg.Secret, at, body))
	req.Header.Set("Idempotency-Key", callKey(all))
	res, err := w.http.Do(req)
	if err != nil {
		return each(all, plain(err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, answerBytes))
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300 && err == nil: // else who is gone may not have been said
		return results(all, answer)
	case res.StatusCode == http.StatusGone && len(all) == 1:
		return each(all, ErrGone)
	case res.StatusCode >= 400 && res.StatusCode < 500 && res.StatusCode != http.StatusRequestTimeout && res.StatusCode != http.StatusTooManyRequests:
		return each(all, fmt.Errorf("%w: the webhook answered %d", ErrRefused, res.StatusCode))
	case err != nil:
		return each(all, plain(err))
	}
	return each(all, fmt.Errorf("the webhook answered %d", res.StatusCode))
}

// sign is what the receiver compares: of the time too, so that a call that somebody has
// recorded can be told from a new one.
func sign(secret, at string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// callKey is the same for the same notifications.
func callKey(all []Notification) string {
	h := sha256.New()
	for i := range all {
		h.Write([]byte(all[i].Key + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// plain is an error without the URL, which may have a secret in it.
func plain(err error) error {
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err
	}
	return fmt.Errorf("webhook: %w", err)
}

// results reads a 2xx; a body that is none of ours takes them all.
func results(all []Notification, answer []byte) []error {
	errs := make([]error, len(all))
	var said struct {
		Results []struct {
			Key    string `json:"key"`
			Status string `json:"status"`
		} `json:"results"`
	}
	if json.Unmarshal(answer, &said) != nil {
		return errs
	}
	status := make(map[string]string, len(said.Results))
	for _, r := range said.Results {
		status[r.Key] = r.Status
	}
	for i := range all {
		switch strings.ToLower(status[all[i].Key]) {
		case "gone":
			errs[i] = ErrGone
		case "retry":
			errs[i] = errors.New("the webhook asks to be told again")
		}
	}
	return errs
}

// each is the same error for all.
func each(all []Notification, err error) []error {
	errs := make([]error, len(all))
	for i := range errs {
		errs[i] = err
	}
	return errs
}
