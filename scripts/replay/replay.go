package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

const (
	workers     = 8                // HTTP calls at a time
	window      = 512              // messages on their way at a time
	flips       = 1.4              // people who come or go per message: each six times in the whole log
	outage      = 90 * time.Second // an engine that is away longer fails the replay
	readWaiting = 4096             // reads waiting for a worker; beyond it a read is not asked for
)

// thread is one conversation: what was sent, in the log's order.
type thread struct {
	id   im.ConversationID
	sent []*post
}

// post is one message of the replay.
type post struct {
	from *person
	text string
	out  *client.Outgoing
	res  protocol.Sent
}

type replay struct {
	opt     options
	log     *slog.Logger
	rand    *rand.Rand
	server  *client.HTTP
	people  map[string]*person
	order   []*person
	lines   []corpus.Line
	threads map[im.ConversationID]*thread
	posts   []*post
	reads   chan func(context.Context)
	readOf  uint64 // of so many messages shown one is read up to
	stored  atomic.Int64
}

func newReplay(o options, speakers []string, lines []corpus.Line, log *slog.Logger) *replay {
	id, secret, _ := strings.Cut(o.key, ":")
	r := &replay{
		opt: o, log: log, lines: lines,
		rand:    rand.New(rand.NewPCG(o.seed, 0)),
		server:  client.ServerKey(strings.TrimSuffix(o.addr, "/"), id, secret),
		people:  make(map[string]*person, len(speakers)),
		threads: make(map[im.ConversationID]*thread),
		reads:   make(chan func(context.Context), readWaiting),
		readOf:  2,
	}
	for _, nick := range speakers {
		p := &person{
			nick: nick,
			got:  map[im.ConversationID][]received{}, acked: map[im.ConversationID]im.Seq{},
			read: map[im.ConversationID]im.Seq{}, readTry: map[im.ConversationID]im.Seq{},
		}
		r.people[nick] = p
		r.order = append(r.order, p)
	}
	return r
}

// enrol upserts the speakers by the server's key, new ones at each run, and issues
// their tokens.
func (r *replay) enrol(ctx context.Context) error {
	if r.opt.socket == "" {
		var page struct {
			Socket string `json:"socket"`
		}
		if err := again(ctx, func() error {
			return (&client.HTTP{Base: r.server.Base}).Do(ctx, "GET", "/config.json", nil, &page)
		}); err != nil {
			return err
		}
		r.opt.socket = page.Socket
	}
	batch := fmt.Sprintf("%x", time.Now().UnixMilli())
	for at := 0; at < len(r.order); at += 500 {
		part := r.order[at:min(at+500, len(r.order))]
		users := make([]protocol.ServerUser, len(part))
		for i, p := range part {
			users[i] = protocol.ServerUser{
				ExternalID: fmt.Sprintf("irc-%s-%d", batch, at+i),
				Handle:     fmt.Sprintf("irc%s_%d", batch, at+i),
				Nickname:   p.nick,
			}
		}
		var made protocol.ServerProfiles
		if err := again(ctx, func() (err error) { made, err = r.server.UpsertUsers(ctx, users); return err }); err != nil {
			return err
		}
		for i, p := range part {
			p.tokens.User = made.Users[i]
		}
	}
	err := parallel(ctx, r.order, func(ctx context.Context, p *person) error {
		id := p.id()
		return again(ctx, func() (err error) {
			p.tokens, err = r.server.IssueTokens(ctx, protocol.IssueTokens{UserID: &id, Device: "replay", Platform: "replay"})
			return err
		})
	})
	sockets := strings.Split(r.opt.socket, ",")
	for i, p := range r.order {
		p.socket = sockets[i%len(sockets)]
		p.http = &client.HTTP{Base: r.server.Base, Token: func() string { return "Bearer " + p.tokens.AccessToken }}
	}
	r.log.Info("speakers enrolled", "speakers", len(r.order))
	return err
}

// send plays the log. A conversation's next message goes out when its last one was
// accepted, so the log's order is the order to be found.
func (r *replay) send(ctx context.Context) error {
	defer r.reading(ctx)()
	for _, p := range r.order {
		if r.rand.IntN(2) == 0 {
			p.comeOnline(ctx, r.wantRead)
		}
	}
	owed, report := 0.0, time.Now()
	for i, l := range r.lines {
		for owed += flips; owed >= 1; owed-- {
			if p := r.order[r.rand.IntN(len(r.order))]; !p.online() {
				p.comeOnline(ctx, r.wantRead)
			} else {
				p.goOffline()
			}
		}
		if err := r.sendLine(ctx, l); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if i >= window {
			if err := r.await(ctx, r.posts[i-window]); err != nil {
				return err
			}
		}
		if time.Since(report) > 2*time.Second {
			report = time.Now()
			online := 0
			for _, p := range r.order {
				if p.online() {
					online++
				}
			}
			r.log.Info("replaying", "sent", i+1, "of", len(r.lines), "stored", r.stored.Load(), "online", online)
		}
	}
	for _, p := range r.posts {
		if err := r.await(ctx, p); err != nil {
			return err
		}
	}
	r.log.Info("all sent", "stored", r.stored.Load())
	return nil
}

func (r *replay) sendLine(ctx context.Context, l corpus.Line) error {
	from, to := r.people[l.From], r.people[l.To]
	id := im.DirectConversation(from.id(), to.id())
	th := r.threads[id]
	if th == nil {
		th = &thread{id: id}
		r.threads[id] = th
	}
	if n := len(th.sent); n > 0 {
		wait, cancel := context.WithTimeout(ctx, outage)
		err := th.sent[n-1].out.Accepted(wait)
		cancel()
		if err != nil {
			return fmt.Errorf("the message before it: %w", err)
		}
	}
	if !from.online() {
		from.comeOnline(ctx, r.wantRead)
	}
	out, err := from.cl.SendText(client.ToUser(to.id()), l.Text)
	if err != nil {
		return err
	}
	p := &post{from: from, text: l.Text, out: out}
	from.settle()
	from.open = append(from.open, out)
	th.sent = append(th.sent, p)
	r.posts = append(r.posts, p)
	return nil
}

// await waits until p has its place. A refusal ends the replay: nothing in the logs
// gives cause for one.
func (r *replay) await(ctx context.Context, p *post) error {
	if p.res.Seq != 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outage)
	defer cancel()
	res, err := p.out.Stored(ctx)
	if err != nil {
		return fmt.Errorf("%q of %s: %w", p.text, p.from.nick, err)
	}
	p.res = res
	r.stored.Add(1)
	return nil
}

// reading has workers carry out the reads that are wanted; stop waits for their end.
func (r *replay) reading(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for range workers {
		readers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case read := <-r.reads:
					read(ctx)
				}
			}
		})
	}
	return func() { cancel(); readers.Wait() }
}

// wantRead lets the person read up to some of what arrives.
func (r *replay) wantRead(p *person, c im.ConversationID, s im.Seq) {
	if (uint64(s)*2654435761+uint64(p.id()))%r.readOf != 0 {
		return
	}
	select {
	case r.reads <- func(ctx context.Context) { _ = again(ctx, func() error { return p.readUpTo(ctx, c, s) }) }:
	default:
	}
}

func textOf(m im.Message) string {
	var c im.TextContent
	if json.Unmarshal(m.Content, &c) != nil {
		return ""
	}
	return c.Text
}

// again tries f until it succeeds, fails for good, or the engine was away too long.
func again(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(outage)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := f()
		var e *protocol.Error
		if err == nil || errors.As(err, &e) && !e.Retryable || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// parallel calls f for each item, some at a time, until one fails.
func parallel[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, it := range items {
		g.Go(func() error { return f(ctx, it) })
	}
	return g.Wait()
}
