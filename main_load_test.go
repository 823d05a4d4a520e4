package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// load is a few people who all write to each other, by socket (pipelined) and by HTTP
// (one at a time), until told to finish; and the ledger that the result is held to.
// The last of them has no device: what is sent there waits.
type load struct {
	t       *testing.T
	people  []*person
	devices []*device // of all but the last
	stop    chan struct{}
	done    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	said    map[im.ConversationID][]*saying
	refused map[string]string // text → code: must never appear
	retried map[string]string // text → what it was last answered, by HTTP
	maybe   map[string]bool   // not known to be taken, and not sent again: may appear once
}

// saying is one message that must appear, once.
type saying struct {
	from *person
	text string
	out  *client.Outgoing // by socket
	res  protocol.Sent    // by HTTP
}

// pace is the pause between two sends of one sender: enough of them for a fault to
// meet every step, few enough for a busy machine.
const pace = 10 * time.Millisecond

func startLoad(t *testing.T, base, socket string) *load {
	t.Helper()
	l := &load{
		t: t, stop: make(chan struct{}),
		said: map[im.ConversationID][]*saying{}, refused: map[string]string{}, retried: map[string]string{}, maybe: map[string]bool{},
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("refused: %v; tried again: %v", l.refused, l.retried)
		}
	})
	l.people = enrol(t, base, socket, "ann", "ben", "cat", "dan")
	last := len(l.people) - 1
	for i, p := range l.people {
		if i < last {
			d := p.connect("phone")
			l.devices = append(l.devices, d)
			l.done.Go(func() { l.bySocket(p, d) })
		}
		l.done.Go(func() { l.byHTTP(p) })
	}
	return l
}

// peer is somebody else.
func (l *load) peer(p *person) *person {
	for {
		if q := l.people[rand.IntN(len(l.people))]; q != p {
			return q
		}
	}
}

func (l *load) note(to *person, s *saying) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conv := im.DirectConversation(s.from.id, to.id)
	l.said[conv] = append(l.said[conv], s)
}

func (l *load) pause() bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(rand.N(2 * pace)):
		return true
	}
}

func (l *load) bySocket(p *person, d *device) {
	var open []*client.Outgoing
	for n := 1; l.pause(); n++ {
		to := l.peer(p)
		text := fmt.Sprintf("%s→%s socket %d", p.name, to.name, n)
		o, err := d.SendText(client.ToUser(to.id), text)
		if err != nil {
			l.t.Errorf("%s: %v", text, err)
			return
		}
		l.note(to, &saying{from: p, text: text, out: o})
		if open = append(open, o); len(open) > 100 { // a store that is away is waited for
			select {
			case <-open[0].Done():
				open = open[1:]
			case <-l.stop: // the rest is waited for below
			}
		}
	}
	deadline := time.After(time.Minute)
	for _, o := range open {
		select {
		case <-o.Done():
		case <-deadline:
			l.t.Errorf("%s was accepted or is on its way, and is not stored", textOf(im.Message{Content: o.Message.Content}))
			return
		}
	}
}

// byHTTP sends, and retries with the same ID what may have been taken. What was
// refused is never sent again: it must not appear.
func (l *load) byHTTP(p *person) {
	for n := 1; l.pause(); n++ {
		to := l.peer(p)
		text := fmt.Sprintf("%s→%s http %d", p.name, to.name, n)
		m := textTo(to.id, text)
		for tries := 0; ; tries++ {
			start := time.Now()
			res, err := p.http.Send(context.Background(), m, tries%2 == 1)
			if took := time.Since(start); took > 8*time.Second { // 5 s, and what a busy machine adds
				l.t.Errorf("%s was answered after %s", text, took)
			}
			var e *protocol.Error
			if err == nil {
				l.note(to, &saying{from: p, text: text, res: res})
				break
			}
			if tries == 0 && errors.As(err, &e) && e.Outcome == im.OutcomeRefused {
				l.mu.Lock()
				l.refused[text] = e.Code
				l.mu.Unlock()
				break
			}
			if errors.As(err, &e) && !e.Retryable {
				l.t.Errorf("%s: %v", text, err)
				return
			}
			l.mu.Lock()
			l.retried[text] = err.Error()
			l.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// sayings counts messages that were taken, or are to be by socket.
func (l *load) sayings() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, all := range l.said {
		n += len(all)
	}
	return n
}

// more waits until n more messages were taken.
func (l *load) more(n int) {
	l.t.Helper()
	from := l.sayings()
	devtest.Eventually(l.t, fmt.Sprint(n, " more messages"), func() bool { return l.sayings() >= from+n })
}

// met waits until everybody has everybody in their list.
func (l *load) met() {
	l.t.Helper()
	for _, p := range l.people {
		devtest.Eventually(l.t, p.name+" has heard of all", func() bool { return len(p.list()) >= len(l.people)-1 })
	}
}

// once sends a message of the first to the second, and does not try again.
func (l *load) once(text string) error {
	ann, ben := l.people[0], l.people[1]
	res, err := ann.http.Send(context.Background(), textTo(ben.id, text), false)
	if err == nil {
		l.note(ben, &saying{from: ann, text: text, res: res})
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var e *protocol.Error
	if errors.As(err, &e) && e.Outcome == im.OutcomeRefused {
		l.refused[text] = e.Code
	} else {
		l.maybe[text] = true
	}
	return err
}

// recovered waits until a message is taken and stored, and logs how long each took.
func (l *load) recovered(since string) {
	l.t.Helper()
	start, ann, ben := time.Now(), l.people[0], l.people[1]
	m := textTo(ben.id, since)
	var res protocol.Sent
	send := func(wait bool) func() error {
		return func() (err error) {
			res, err = ann.http.Send(context.Background(), m, wait)
			return err
		}
	}
	again(l.t, "a message is taken: "+since, send(false))
	taken := time.Since(start)
	l.note(ben, &saying{from: ann, text: since, res: res})
	devtest.Eventually(l.t, "it is stored: "+since, func() bool {
		again(l.t, "it is asked for: "+since, send(true))
		return res.State == protocol.StateStored
	})
	l.t.Logf("%s: taken after %.1f s, stored after %.1f s", since, taken.Seconds(), time.Since(start).Seconds())
}

// finish ends the sending and waits until all is stored.
func (l *load) finish() {
	l.t.Helper()
	close(l.stop)
	l.done.Wait()
}
