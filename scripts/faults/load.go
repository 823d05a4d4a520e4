package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// load is everybody sending, over HTTP and WebSocket and both nodes of each.
type load struct {
	w       *crowd
	r       *record
	run     string
	rate    float64 // messages a second
	bases   []string
	devices map[im.UserID]*device

	n        atomic.Int64
	settling time.Duration // see finish

	open   chan struct{} // bounds the messages that wait for an answer
	doings sync.WaitGroup
	looks  chan sight
}

// tryingOn is how long after the end of a load what has no answer is tried again.
const tryingOn = 90 * time.Second

func newLoad(c *cluster, w *crowd, run string, p plan) *load {
	l := &load{
		w: w, r: newRecord(w.convs), run: run, rate: p.size.rate, settling: p.settling, bases: c.bases(),
		devices: make(map[im.UserID]*device), open: make(chan struct{}, 2000), looks: make(chan sight, 64),
	}
	sockets := c.sockets()
	for i, p := range w.people {
		if p.silent {
			continue
		}
		l.devices[p.id] = newDevice(p, l.r, sockets, i, l.look)
	}
	return l
}

// connect runs the devices until ctx ends; the caller waits for them.
func (l *load) connect(ctx context.Context, all *sync.WaitGroup) {
	for _, d := range l.devices {
		all.Go(func() { d.run(ctx) })
	}
}

// send sends until ctx ends, then waits until all is answered or given up.
func (l *load) send(ctx context.Context) {
	trying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	l.aside(ctx, trying)
	for ctx.Err() == nil {
		_ = pause(ctx, time.Duration(rand.ExpFloat64()*float64(time.Second)/l.rate)) // ctx is asked next
		c := l.w.convs[rand.IntN(len(l.w.convs))]
		p := l.w.byID[c.members[rand.IntN(c.speakers)]]
		if c.guest != 0 && rand.IntN(6) == 0 {
			p = l.w.byID[c.guest]
		}
		select {
		case l.open <- struct{}{}:
			l.doings.Go(func() {
				defer func() { <-l.open }()
				l.say(trying, c, p)
			})
		default: // as many wait as may
		}
	}
	late := time.AfterFunc(tryingOn, cancel)
	defer late.Stop()
	l.doings.Wait()
}

// say sends one message until it is answered; sometimes another whose ID differs in
// case only, and sometimes it changes what it said.
func (l *load) say(ctx context.Context, c *conv, p *person) {
	id := client.NewClientMsgID()
	s, at := l.post(ctx, c, p, id)
	if s.outcome() != acked {
		return
	}
	if rand.IntN(40) == 0 {
		l.post(ctx, c, p, im.ClientMsgID(strings.Map(otherCase, string(id))))
	}
	if at > 0 && rand.IntN(8) == 0 {
		l.change(ctx, p, s, at)
	}
}

func otherCase(r rune) rune {
	if unicode.IsUpper(r) {
		return unicode.ToLower(r)
	}
	return unicode.ToUpper(r)
}

// post makes one message and tries it until it is acked, or is let be. It returns where
// it was stored, if it was told.
func (l *load) post(ctx context.Context, c *conv, p *person, id im.ClientMsgID) (s *send, at im.Seq) {
	s = &send{conv: c.id, sender: p.id, id: id, token: fmt.Sprintf("%s-%d", l.run, l.n.Add(1))}
	m := protocol.Send{ClientMsgID: id, To: client.ToConversation(c.id), Content: text(s.token + " said")}
	l.r.begin(s)
	patient := rand.IntN(5) > 0
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		var t try
		if rand.IntN(2) == 0 {
			t = l.byHTTP(ctx, p, m)
		} else {
			t = l.bySocket(ctx, p, m)
		}
		l.r.tried(s, t)
		final := t.code != "" && !strings.HasPrefix(t.code, "?")
		if t.outcome == acked || final || !patient || pause(ctx, wait/2+rand.N(wait)) != nil {
			return s, t.seq
		}
	}
}

func (l *load) byHTTP(ctx context.Context, p *person, m protocol.Send) (t try) {
	t.asked = l.r.now()
	res, err := p.http(l.base()).Send(ctx, m, rand.IntN(3) == 0)
	return l.judge(t, res, err)
}

func (l *load) bySocket(ctx context.Context, p *person, m protocol.Send) (t try) {
	d := l.devices[p.id]
	d.mu.Lock()
	w := d.wire
	d.mu.Unlock()
	if w == nil {
		return l.byHTTP(ctx, p, m)
	}
	t.asked, t.conn = l.r.now(), w.id
	var res protocol.Sent
	var err error
	t.nth, err = w.ask(ctx, protocol.CmdSend, m, &res)
	return l.judge(t, res, err)
}

// judge says what an answer means. The code of a refusal that may pass is marked.
func (l *load) judge(t try, res protocol.Sent, err error) try {
	t.answered = l.r.now()
	var e *protocol.Error
	switch {
	case err == nil:
		t.outcome, t.seq = acked, res.Seq
	case errors.As(err, &e):
		if e.Outcome == im.OutcomeRefused {
			t.outcome = refused
		}
		if t.code = e.Code; e.Retryable {
			t.code = "?" + e.Code
		}
	}
	return t
}

func (l *load) base() string { return l.bases[rand.IntN(len(l.bases))] }

func text(s string) json.RawMessage {
	b, err := json.Marshal(im.TextContent{Text: s})
	if err != nil {
		panic(err) // our own text
	}
	return b
}
