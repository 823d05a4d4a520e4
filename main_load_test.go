package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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

// check holds everything that can be seen to the ledger. ordered: no send was answered
// refused or unknown, so each socket's messages have kept their order.
func (l *load) check(ordered bool) {
	l.t.Helper()
	histories := map[im.ConversationID][]im.Message{}
	for i, p := range l.people {
		for _, q := range l.people[i+1:] {
			conv := im.DirectConversation(p.id, q.id)
			devtest.Eventually(l.t, fmt.Sprintf("all of %s and %s is stored", p.name, q.name), func() bool {
				histories[conv] = p.history(conv)
				return len(histories[conv]) >= len(l.said[conv])
			})
			l.checkHistory(conv, histories[conv], q.history(conv), ordered)
		}
	}
	for i, p := range l.people {
		l.checkList(p, histories)
		if i < len(l.devices) {
			l.checkDevice(l.devices[i], histories)
		} else {
			l.checkOffline(p, histories)
		}
	}
	l.t.Logf("%d messages taken, %d refused", l.sayings(), len(l.refused))
}

func (l *load) checkHistory(conv im.ConversationID, ms, theirs []im.Message, ordered bool) {
	l.t.Helper()
	equal(l.t, fmt.Sprint(conv, " is 1, 2, 3 …"), seqsOf(ms), sequence(1, im.Seq(len(ms))))
	at := map[string]im.Seq{}
	for i, m := range ms {
		text := textOf(m)
		if first, twice := at[text]; twice {
			l.t.Errorf("%s: %q is there twice, at %d and %d", conv, text, first, m.Seq)
		}
		at[text] = m.Seq
		if code, refused := l.refused[text]; refused {
			l.t.Errorf("%s: %q was refused (%s) and is there", conv, text, code)
		}
		if i > 0 && m.ID <= ms[i-1].ID {
			l.t.Errorf("%s: message ID %d at %d follows %d", conv, m.ID, m.Seq, ms[i-1].ID)
		}
		if i >= len(theirs) || theirs[i].ID != m.ID || textOf(theirs[i]) != text || theirs[i].Sender.ID != m.Sender.ID {
			l.t.Fatalf("%s: the two see different messages at %d", conv, m.Seq)
		}
	}
	last := map[*person]im.Seq{}
	for _, s := range l.said[conv] {
		got, there := at[s.text]
		if !there {
			l.t.Errorf("%s: %q was accepted and is lost", conv, s.text)
			continue
		}
		res := s.res
		if s.out != nil {
			select {
			case <-s.out.Done():
			default:
				l.t.Errorf("%s: %q is there, and its sender has not heard so", conv, s.text)
				continue
			}
			res = s.from.stored(s.out)
			if ordered && got < last[s.from] {
				l.t.Errorf("%s: %q has been overtaken", conv, s.text)
			}
			last[s.from] = got
		}
		if res.State == protocol.StateStored && res.Seq != got {
			l.t.Errorf("%s: %q was stored at %d and is at %d", conv, s.text, res.Seq, got)
		}
	}
	sure := len(ms)
	for text := range at {
		if l.maybe[text] {
			sure--
		}
	}
	if sure != len(l.said[conv]) {
		l.t.Errorf("%s: %d messages, %d were said", conv, sure, len(l.said[conv]))
	}
}

// checkList waits until p's list says what follows from the histories.
func (l *load) checkList(p *person, histories map[im.ConversationID][]im.Message) {
	l.t.Helper()
	type line struct {
		conv   im.ConversationID
		last   im.Seq
		unread uint64
	}
	var want []line
	newest := map[im.ConversationID]im.MessageID{}
	for conv, ms := range histories {
		if !isIn(conv, p.id) || len(ms) == 0 {
			continue
		}
		n := line{conv: conv, last: im.Seq(len(ms))}
		for _, m := range ms { // own messages move the own cursor, nothing else here does
			if n.unread++; m.Sender.ID == p.id {
				n.unread = 0
			}
		}
		newest[conv] = ms[len(ms)-1].ID
		want = append(want, n)
	}
	slices.SortFunc(want, func(a, b line) int { return int(newest[b.conv]) - int(newest[a.conv]) })
	var got []line
	defer func() {
		if l.t.Failed() {
			l.t.Logf("%s's list: got %+v, want %+v", p.name, got, want)
		}
	}()
	devtest.Eventually(l.t, p.name+"'s list and unread counts are right", func() bool {
		got = nil
		for _, c := range p.list() {
			if _, ours := histories[c.ConversationID]; ours {
				got = append(got, line{c.ConversationID, c.LastSeq, c.Unread})
			}
		}
		return slices.Equal(got, want)
	})
}

// checkDevice waits until the device was shown everything that it did not send, in
// order.
func (l *load) checkDevice(d *device, histories map[im.ConversationID][]im.Message) {
	l.t.Helper()
	mine := map[string]bool{}
	for _, all := range l.said {
		for _, s := range all {
			if s.out != nil && s.from == d.p {
				mine[s.text] = true
			}
		}
	}
	for conv, ms := range histories {
		if !isIn(conv, d.p.id) {
			continue
		}
		var want []string
		for _, m := range ms {
			if text := textOf(m); !mine[text] {
				want = append(want, text)
			}
		}
		devtest.Eventually(l.t, fmt.Sprintf("%s's device was shown all of %s", d.p.name, conv), func() bool {
			return len(d.texts(conv)) >= len(want)
		})
		if got := d.texts(conv); !slices.Equal(got, want) {
			l.t.Errorf("%s's device was shown %q of %s, want %q", d.p.name, got, conv, want)
		}
	}
	devtest.Eventually(l.t, d.p.name+"'s acks have cleared what waited", func() bool { return len(d.p.offline()) == 0 })
}

// checkOffline waits until all that was sent to p waits there.
func (l *load) checkOffline(p *person, histories map[im.ConversationID][]im.Message) {
	l.t.Helper()
	want := map[im.ConversationID]uint64{}
	for conv, ms := range histories {
		for _, m := range ms {
			if isIn(conv, p.id) && m.Sender.ID != p.id {
				want[conv]++
			}
		}
	}
	devtest.Eventually(l.t, "all waits for "+p.name, func() bool {
		got := map[im.ConversationID]uint64{}
		for conv, s := range p.offline() {
			if _, ours := histories[conv]; ours {
				got[conv] = s.Count
			}
		}
		return maps.Equal(got, want)
	})
}

func isIn(conv im.ConversationID, u im.UserID) bool {
	_, ok := conv.Peer(u)
	return ok
}
