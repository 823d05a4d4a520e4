package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	groupFlips  = 0.5 // who comes or goes, per message
	groupReads  = 64  // of so many messages shown one is read up to
	groupWindow = 64  // messages of one channel that are not yet stored
	returning   = 48  // devices that catch up at the same time
)

// groupReplay plays the logs as one group, a private channel for each file.
type groupReplay struct {
	*replay  // the people, their reads, the server; of one-to-one nothing else
	script   *groupScript
	speakers map[string]*speaker // by key
	order    []*speaker          // without the owner
	owner    *speaker
	id       im.GroupID
	main     *room

	lives context.Context // of the devices: longer than the playing of a file

	mu    sync.Mutex // guards rooms while they are made
	rooms []*room    // of the files, without the main channel
}

// room is one channel and what must be found in it, in this order.
type room struct {
	id   im.ConversationID
	name string

	// Only the room's own goroutine touches these, or who holds mu.
	mu      sync.Mutex
	plan    []planned
	notices int // planned
	read    int // of them, found in the history up to upTo
	upTo    im.Seq
	in      []*speaker
	last    *said
}

// planned is what one seq of a channel must turn out to be.
type planned struct {
	said *said
	op   *op
}

// said is one message.
type said struct {
	from           *speaker
	text           string
	out            *client.Outgoing
	sent, accepted time.Time
	res            protocol.Sent
}

func runGroups(ctx context.Context, o options, log *slog.Logger) (*result, error) {
	files := 0
	if entries, err := os.ReadDir(o.data); err == nil {
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".log") {
				files++
			}
		}
	}
	perFile := 0
	if o.limit > 0 && files > 0 {
		perFile = max(1, o.limit/files)
	}
	script, err := readScript(os.DirFS(o.data), perFile)
	if err != nil {
		return nil, err
	}
	if script.messages == 0 {
		return nil, fmt.Errorf("no messages in %s", o.data)
	}
	log.Info("logs read", "channels", len(script.channels), "people", len(script.people), "messages", script.messages)
	nicks := []string{"replay"}
	for _, key := range script.people {
		nicks = append(nicks, script.nicks[key])
	}
	g := &groupReplay{replay: newReplay(o, nicks, nil, log), script: script,
		speakers: map[string]*speaker{}}
	g.readOf = groupReads
	if err := g.enrol(ctx); err != nil {
		return nil, fmt.Errorf("upsert speakers: %w", err)
	}
	sockets := strings.Split(g.opt.socket, ",")
	for i, p := range g.replay.order {
		s := &speaker{person: p, sockets: sockets, lives: i, names: []naming{{name: p.tokens.User.Nickname}}}
		if i == 0 {
			g.owner = s
			continue
		}
		g.speakers[script.people[i-1]] = s
		g.order = append(g.order, s)
	}
	if err := g.send(ctx); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	return g.check(ctx)
}

// send makes the group and plays all files at the same time, each in its order.
func (g *groupReplay) send(ctx context.Context) error {
	defer g.reading(ctx)()
	g.lives = ctx
	g.owner.life.Lock()
	g.owner.appear(g.lives, g.wantRead)
	g.owner.life.Unlock()
	if err := g.create(ctx); err != nil {
		return err
	}
	reporting, done := context.WithCancel(ctx)
	defer done()
	go g.report(reporting)
	all, playing := errgroup.WithContext(ctx)
	for i := range g.script.channels {
		all.Go(func() error {
			if err := g.play(playing, &g.script.channels[i]); err != nil {
				return fmt.Errorf("%s: %w", g.script.channels[i].name, err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	if err := g.storedAll(ctx, g.main, 0); err != nil {
		return err
	}
	if err := g.leaveGroup(ctx); err != nil {
		return err
	}
	g.log.Info("all sent", "stored", g.stored.Load())
	return nil
}

func (g *groupReplay) report(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		online := 0
		for _, s := range g.order {
			if s.life.TryLock() {
				if s.online() {
					online++
				}
				s.life.Unlock()
			}
		}
		g.log.Info("replaying", "stored", g.stored.Load(), "of", g.script.messages, "online", online)
	}
}

// play plays one file. A step begins when the one before it was accepted, or applied.
func (g *groupReplay) play(ctx context.Context, script *channelScript) error {
	r, err := g.createRoom(ctx, script)
	if err != nil {
		return err
	}
	if err := g.say(ctx, g.main, g.owner, "=== "+r.name+" begins"); err != nil {
		return err
	}
	owed := 0.0
	for i, st := range script.steps {
		who := make([]*speaker, len(st.who))
		for i, key := range st.who {
			who[i] = g.speakers[key]
		}
		if err := r.settled(ctx); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		switch st.kind {
		case stepSay:
			err = g.say(ctx, r, who[0], st.text)
			for owed += groupFlips; owed >= 1 && len(r.in) > 0; owed-- {
				r.in[rand.IntN(len(r.in))].flip(g.lives, g.wantRead)
			}
		case stepAdd:
			err = g.add(ctx, r, who)
		case stepRemove:
			if err = g.remove(ctx, r, who[0], g.owner); err == nil && i%2 == 0 { // the rest stay, and are shown nothing more
				who[0].leave()
			}
		case stepLeave:
			if err = g.remove(ctx, r, who[0], who[0]); err == nil {
				who[0].leave()
			}
		case stepRename:
			err = who[0].rename(ctx, st.text)
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	if err := g.say(ctx, g.main, g.owner, "=== "+r.name+" ends"); err != nil {
		return err
	}
	return g.storedAll(ctx, r, 0)
}

// settled waits until the last message was accepted.
func (r *room) settled(ctx context.Context) error {
	if r.last == nil || !r.last.accepted.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outage)
	defer cancel()
	if err := r.last.out.Accepted(ctx); err != nil {
		return fmt.Errorf("%q of %s: %w", r.last.text, r.last.from.nick, err)
	}
	r.last.accepted = time.Now()
	return nil
}

// say sends one message. Into the main channel all rooms speak.
func (g *groupReplay) say(ctx context.Context, r *room, from *speaker, text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.settled(ctx); err != nil {
		return err
	}
	m := &said{from: from, text: text, sent: time.Now()}
	var err error
	if m.out, err = from.say(g.lives, r.id, text, g.wantRead); err != nil {
		return err
	}
	r.last = m
	r.plan = append(r.plan, planned{said: m})
	return g.storedAll(ctx, r, groupWindow)
}

// storedAll waits until all but the last so many of the room's messages have their place.
func (g *groupReplay) storedAll(ctx context.Context, r *room, but int) error {
	ctx, cancel := context.WithTimeout(ctx, outage)
	defer cancel()
	for i := len(r.plan) - 1 - but; i >= 0; i-- {
		m := r.plan[i].said
		if m == nil {
			continue
		}
		if m.res.Seq != 0 {
			return nil // and so have those before it
		}
		res, err := m.out.Stored(ctx)
		if err != nil {
			return fmt.Errorf("%q of %s: %w", m.text, m.from.nick, err)
		}
		m.res = res
		if m.accepted.IsZero() {
			m.accepted = time.Now()
		}
		g.stored.Add(1)
	}
	return nil
}
