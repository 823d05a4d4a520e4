package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// maxBody bounds what is read of a response: a page of 100 messages of 16 KiB.
const maxBody = 4 << 20

// HTTP calls the HTTP face on behalf of one user, of a backend, or of nobody yet.
// Errors of the server are *protocol.Error.
type HTTP struct {
	Base string // "http://127.0.0.1:8080"
	// Token returns the Authorization header's value; nil for calls without one.
	Token func() string
	// Client defaults to one with a timeout of 15 s, above the server's own 5 s.
	Client *http.Client
}

var defaultHTTP = &http.Client{
	Timeout: 15 * time.Second,
	Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		MaxConnsPerHost:     64,
		IdleConnTimeout:     30 * time.Second,
	},
}

// ServerKey returns calls that carry a backend's server key.
func ServerKey(base, id, secret string) *HTTP {
	return &HTTP{Base: base, Token: func() string { return "ServerKey " + id + ":" + secret }}
}

// Register creates a user and logs its device in.
func (h *HTTP) Register(ctx context.Context, r protocol.Register) (t protocol.Tokens, err error) {
	return t, h.Do(ctx, http.MethodPost, "/v1/auth/register", r, &t)
}

// Login logs a device in.
func (h *HTTP) Login(ctx context.Context, l protocol.Login) (t protocol.Tokens, err error) {
	return t, h.Do(ctx, http.MethodPost, "/v1/auth/login", l, &t)
}

// Refresh exchanges a refresh token, once, for new tokens.
func (h *HTTP) Refresh(ctx context.Context, refreshToken string) (t protocol.Tokens, err error) {
	return t, h.Do(ctx, http.MethodPost, "/v1/auth/refresh", protocol.RefreshTokens{RefreshToken: refreshToken}, &t)
}

// Send sends a message and waits until it is accepted, or with wait until it is
// stored (at most 4.5 s, then the state is still accepted).
func (h *HTTP) Send(ctx context.Context, m protocol.Send, wait bool) (s protocol.Sent, err error) {
	path := "/v1/messages"
	if wait {
		path += "?wait=stored"
	}
	return s, h.Do(ctx, http.MethodPost, path, m, &s)
}

// Conversations pages through the list, newest first; before is the last page's Next.
func (h *HTTP) Conversations(ctx context.Context, before string, limit int) (c protocol.Conversations, err error) {
	q := url.Values{}
	if before != "" {
		q.Set("before", before)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return c, h.Do(ctx, http.MethodGet, "/v1/conversations?"+q.Encode(), nil, &c)
}

// History returns one page of a conversation, ascending by seq.
func (h *HTTP) History(ctx context.Context, r protocol.History) (p protocol.Page, err error) {
	q := url.Values{}
	set := func(key string, s *im.Seq) {
		if s != nil {
			q.Set(key, strconv.FormatUint(uint64(*s), 10))
		}
	}
	set("before_seq", r.BeforeSeq)
	set("after_seq", r.AfterSeq)
	set("around", r.Around)
	if r.AfterChange != nil {
		q.Set("after_change", strconv.FormatUint(*r.AfterChange, 10))
	}
	if r.Limit > 0 {
		q.Set("limit", strconv.Itoa(r.Limit))
	}
	path := "/v1/conversations/" + url.PathEscape(string(r.ConversationID)) + "/messages?" + q.Encode()
	return p, h.Do(ctx, http.MethodGet, path, nil, &p)
}

// Offline lists the conversations with messages that no device has acked.
func (h *HTTP) Offline(ctx context.Context) (o protocol.OfflineSources, err error) {
	return o, h.Do(ctx, http.MethodGet, "/v1/offline", nil, &o)
}

// OfflinePull returns undelivered messages of one conversation.
func (h *HTTP) OfflinePull(ctx context.Context, r protocol.OfflinePull) (p protocol.Page, err error) {
	q := url.Values{}
	if r.AfterSeq > 0 {
		q.Set("after_seq", strconv.FormatUint(uint64(r.AfterSeq), 10))
	}
	if r.Limit > 0 {
		q.Set("limit", strconv.Itoa(r.Limit))
	}
	return p, h.Do(ctx, http.MethodGet, "/v1/offline/"+url.PathEscape(string(r.ConversationID))+"?"+q.Encode(), nil, &p)
}

// OfflineAck says that everything up to seq has been received.
func (h *HTTP) OfflineAck(ctx context.Context, c im.ConversationID, seq im.Seq) error {
	return h.Do(ctx, http.MethodPost, "/v1/offline/"+url.PathEscape(string(c))+"/ack", protocol.OfflineAck{Seq: seq}, nil)
}

// Receipts moves one's own cursors forward.
func (h *HTTP) Receipts(ctx context.Context, c im.ConversationID, r protocol.Receipts) error {
	return h.Do(ctx, http.MethodPost, "/v1/conversations/"+url.PathEscape(string(c))+"/receipts", r, nil)
}

// Sync returns everything that a starting client needs; nil position: all of it.
func (h *HTTP) Sync(ctx context.Context, since *im.Position, limit int) (s protocol.Synced, err error) {
	q := url.Values{}
	if since != nil {
		q.Set("epoch", string(since.Epoch))
		q.Set("version", strconv.FormatUint(since.Version, 10))
		if since.MergedAt != 0 {
			q.Set("merged_at", strconv.FormatInt(since.MergedAt, 10))
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return s, h.Do(ctx, http.MethodGet, "/v1/sync?"+q.Encode(), nil, &s)
}

// UpsertUsers creates or updates a backend's own users, at most 500 a call; it needs
// a server key.
func (h *HTTP) UpsertUsers(ctx context.Context, users []protocol.ServerUser) (p protocol.ServerProfiles, err error) {
	return p, h.Do(ctx, http.MethodPost, "/v1/server/users", protocol.ServerUsers{Users: users}, &p)
}

// IssueTokens issues tokens for one of a backend's users; it needs a server key.
func (h *HTTP) IssueTokens(ctx context.Context, r protocol.IssueTokens) (t protocol.Tokens, err error) {
	return t, h.Do(ctx, http.MethodPost, "/v1/server/tokens", r, &t)
}

// ServerSend sends as the system or on behalf of a user; it needs a server key.
func (h *HTTP) ServerSend(ctx context.Context, m protocol.ServerSend, wait bool) (s protocol.Sent, err error) {
	path := "/v1/server/messages"
	if wait {
		path += "?wait=stored"
	}
	return s, h.Do(ctx, http.MethodPost, path, m, &s)
}

// Do makes one call: in is sent as JSON where not nil, the answer is read into out
// where not nil.
func (h *HTTP) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.Base+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if h.Token != nil {
		req.Header.Set("Authorization", h.Token())
	}
	c := h.Client
	if c == nil {
		c = defaultHTTP
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 400 {
		e := &protocol.Error{}
		if json.Unmarshal(b, e) != nil || e.Code == "" {
			return fmt.Errorf("%s %s: HTTP %d without an error body", method, path, resp.StatusCode)
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

// IsCode says whether err is the server's error with the given code.
func IsCode(err error, code string) bool {
	var e *protocol.Error
	return errors.As(err, &e) && e.Code == code
}
