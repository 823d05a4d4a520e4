package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// bearer is a user with two access tokens, of which one ends sooner than clocks jump.
type bearer struct {
	id        im.UserID
	refresh   string
	long, end bearing
}

// bearing is an access token and what it says of times.
type bearing struct {
	what           string
	token          string
	issued, expire time.Time
}

const (
	bearerDevice = "clock"
	// endsIn is what the shorter token has left.
	endsIn = 10 * time.Minute
	// leeway is how far a token may be from the future (RELIABILITY.md, R15).
	leeway = 30 * time.Second
	// judging bounds the wait for a process to judge a token as it must.
	judging = 20 * time.Second
	// stands is how long a session must last to have been accepted.
	stands = 1500 * time.Millisecond
)

func newBearer(ctx context.Context, c *cluster) (*bearer, error) {
	ids, err := upsert(ctx, c.backend(), "clock-"+random()[:8], 1)
	if err != nil {
		return nil, err
	}
	b := &bearer{id: ids[0]}
	var t protocol.Tokens
	if err := insistently(ctx, func() (err error) {
		t, err = c.backend().IssueTokens(ctx, protocol.IssueTokens{UserID: &b.id, Device: bearerDevice})
		return err
	}); err != nil {
		return nil, err
	}
	b.refresh = t.RefreshToken
	if b.long, err = read(t.AccessToken, "a token of a day"); err != nil {
		return nil, err
	}
	b.end = bearing{what: "a token of ten minutes", issued: b.long.issued, expire: time.Now().Add(endsIn).Truncate(time.Second)}
	b.end.token, err = shorten(t.AccessToken, b.end.expire, c.keys["logic.auth.keys_file"])
	return b, err
}

// read takes the times out of a token.
func read(token, what string) (b bearing, err error) {
	var says struct{ Iat, Exp int64 }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return b, errors.New("an access token is no JWT")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(claims, &says)
	}
	return bearing{what, token, time.Unix(says.Iat, 0), time.Unix(says.Exp, 0)}, err
}

// shorten is a token that ends at another time, signed with the engine's key: the shortest
// that it issues is not good for long enough to have most of it behind it.
func shorten(token string, end time.Time, keys string) (string, error) {
	b, err := os.ReadFile(keys)
	if err != nil {
		return "", err
	}
	var secret []byte
	for line := range strings.Lines(string(b)) { // the first signs
		if _, encoded, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && line[0] != '#' {
			if secret, err = base64.RawURLEncoding.DecodeString(encoded); err != nil {
				return "", fmt.Errorf("signing key: %w", err)
			}
			break
		}
	}
	head, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return "", err
	}
	claims := make(map[string]json.RawMessage)
	if err := json.Unmarshal(raw, &claims); err != nil {
		return "", err
	}
	claims["exp"] = fmt.Append(nil, end.Unix())
	if raw, err = json.Marshal(claims); err != nil {
		return "", err
	}
	signed := head + "." + base64.RawURLEncoding.EncodeToString(raw)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// verdicts on a token.
type opinion int

const (
	either opinion = iota
	good
	bad
)

// judged is what a process must think of a token while the clocks are steps from ours. An
// api process asks its own clock. A connector has it judged by a logic process, any of the
// two, and asks its own clock when the token ends. Near a limit either will do.
func (b bearing) judged(c *cluster, p *process, steps map[*process]time.Duration) opinion {
	at := func(p *process) opinion {
		now := time.Now().Add(steps[p])
		ahead, left := b.issued.Sub(now), b.expire.Sub(now)
		switch {
		case ahead <= leeway-2*time.Second && left > judging:
			return good
		case ahead > leeway+judging || left <= -2*time.Second:
			return bad
		}
		return either
	}
	if p.role == "api" {
		return at(p)
	}
	var all [3]int
	for _, q := range c.of("logic") {
		all[at(q)]++
	}
	ended := b.expire.Before(time.Now().Add(steps[p]))
	switch {
	case ended || all[bad] == each:
		return bad
	case all[good] == each:
		return good
	}
	return either
}

// accepted asks a process what it thinks of a token. The error is that it did not say.
func (b bearing) accepted(ctx context.Context, p *process) (opinion, error) {
	var err error
	if p.role == "api" {
		_, err = (&person{token: b.token}).http("http://" + p.listen).Me(ctx)
	} else {
		err = b.connect(ctx, p)
	}
	var e *protocol.Error
	switch {
	case err == nil:
		return good, nil
	case errors.As(err, &e) && e.Code == protocol.CodeOf(im.ErrUnauthenticated).Name, errors.Is(err, errEnded):
		return bad, nil
	}
	return either, err
}

var errEnded = errors.New("the session was ended")

// connect begins a session and sees whether it stands.
func (b bearing) connect(ctx context.Context, p *process) error {
	w, err := dial(ctx, "ws://"+p.listen+"/v1/ws")
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { defer close(gone); w.read(func(answer) {}) }()
	defer func() { w.end(); <-gone }()
	if _, err := w.ask(ctx, protocol.CmdConnect, protocol.Connect{Token: b.token, Device: bearerDevice}, nil); err != nil {
		return err
	}
	t := time.NewTimer(stands)
	defer t.Stop()
	select {
	case <-gone:
		return errEnded
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold holds every process to what it must think of the tokens. Who has an api process that
// is ahead refreshes there; that token is good where clocks are as far, and elsewhere, like
// all that is refused, until it is refreshed again.
func (b *bearer) hold(ctx context.Context, c *cluster, steps map[*process]time.Duration, about string) error {
	if err := b.judgeAll(ctx, c, steps, about, b.long, b.end); err != nil {
		return err
	}
	if steps == nil {
		fresh, err := b.refreshed(ctx, c, c.of("api")[0], "a token that was refreshed")
		if err != nil {
			return err
		}
		return b.judgeAll(ctx, c, steps, about, fresh)
	}
	for _, p := range c.of("api") {
		if steps[p] != hour {
			continue
		}
		ahead, err := b.refreshed(ctx, c, p, "a token issued an hour ahead")
		if err == nil {
			err = b.judgeAll(ctx, c, steps, about, ahead)
		}
		return err
	}
	return nil
}

// refreshed exchanges the refresh token at one process.
func (b *bearer) refreshed(ctx context.Context, c *cluster, p *process, what string) (bearing, error) {
	var t protocol.Tokens
	h := &client.HTTP{Base: "http://" + p.listen, Client: patient}
	if err := insistently(ctx, func() (err error) { t, err = h.Refresh(ctx, b.refresh); return err }); err != nil {
		return bearing{}, fmt.Errorf("refresh at %s: %w", p.name, err)
	}
	b.refresh = t.RefreshToken
	c.tally.count("refreshed", 1)
	return read(t.AccessToken, what)
}

// judgeAll asks the connectors one after the other: a session on one ends the device's
// session on another.
func (b *bearer) judgeAll(ctx context.Context, c *cluster, steps map[*process]time.Duration, about string, all ...bearing) error {
	judge := func(p *process) error {
		for _, t := range all {
			if err := t.judge(ctx, c, p, steps, about); err != nil {
				return err
			}
		}
		return nil
	}
	if err := parallel(ctx, c.of("api"), judge); err != nil {
		return err
	}
	for _, p := range c.of("connector") {
		if err := judge(p); err != nil {
			return err
		}
	}
	return nil
}

// judge waits until a process thinks of a token as it must.
func (b bearing) judge(ctx context.Context, c *cluster, p *process, steps map[*process]time.Duration, about string) error {
	within, cancel := context.WithTimeout(ctx, judging)
	defer cancel()
	for {
		must := b.judged(c, p, steps)
		if must == either {
			return nil
		}
		got, err := b.accepted(within, p)
		switch {
		case err == nil && got == must && got == bad:
			c.tally.count("tokens_refused", 1)
			return nil
		case err == nil && got == must:
			c.tally.count("tokens_taken", 1)
			return nil
		case pause(within, 200*time.Millisecond) == nil:
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case must == good:
			c.tally.add("stuck", "%s: %s is refused by %s, or not judged: %v", about, b.what, p.name, err)
		default:
			c.tally.add("leak", "%s: %s is taken by %s, or not judged: %v", about, b.what, p.name, err)
		}
		return nil
	}
}
