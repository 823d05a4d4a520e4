package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// member is a client of few means, of which there are thousands: it follows one
// conversation, keeps of it only which numbers it has, and how it came to know of them.
type member struct {
	id     im.UserID
	device im.DeviceID
	token  string
	conv   im.ConversationID

	mu       sync.Mutex // guards what follows
	sockets  []string   // by turns
	at       string     // the socket to which it is connected and has synced; or empty
	whole    time.Time  // when it had synced on this connection; zero: not yet
	position *im.Position
	have     im.Seq // without a hole
	above    map[im.Seq]bool
	known    [3]int // numbers by how they were learnt first: pushed, synced, asked
	beats    int    // heartbeats that were answered and followed to their end
}

// As the client library waits before a new connection: exponentially longer, with full
// jitter.
const (
	retryMin = 200 * time.Millisecond
	retryMax = 15 * time.Second
)

// run keeps the member connected until ctx ends.
func (m *member) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		synced, err := m.once(ctx, attempt)
		if synced {
			attempt = 0
		}
		wait, _ := passes(err, attempt)
		_ = pause(ctx, wait) // ctx is asked next
	}
}

// passes is how long to wait after an error, and whether the server says that it passes.
func passes(err error, attempt int) (wait time.Duration, passing bool) {
	wait = retryMin/2 + rand.N(min(retryMax, retryMin<<min(attempt, 10)))
	var e *protocol.Error
	if errors.As(err, &e) {
		wait = max(wait, time.Duration(e.RetryAfterMS)*time.Millisecond)
		passing = e.Retryable
	}
	return wait, passing
}

// once follows one connection, and says whether it had synced.
func (m *member) once(ctx context.Context, attempt int) (synced bool, err error) {
	m.mu.Lock()
	url := m.sockets[attempt%len(m.sockets)]
	m.mu.Unlock()
	w, err := dial(ctx, url)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	more := make(chan answer, 1) // a push after which there is something to ask for
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		w.read(func(a answer) {
			if m.told(a) {
				select {
				case more <- a:
				default: // it is about to ask
				}
			}
		})
	})
	defer reading.Wait()
	defer w.end()
	defer cancel()
	var hello protocol.Connected
	if _, err := w.ask(ctx, protocol.CmdConnect, protocol.Connect{Token: m.token, Device: m.device}, &hello); err != nil {
		return false, err
	}
	defer func() {
		m.mu.Lock()
		m.at, m.whole = "", time.Time{}
		m.mu.Unlock()
	}()
	return m.follow(ctx, w, url, time.Duration(hello.HeartbeatMS)*time.Millisecond, more)
}

// follow syncs, and then asks at each heartbeat, and where a push has left a hole, until the
// connection ends. What the server cannot answer just now is asked again on the same
// connection, as the client library does.
func (m *member) follow(ctx context.Context, w *wire, url string, heartbeat time.Duration, more <-chan answer) (whole bool, err error) {
	catchUp := func() error {
		if whole {
			return m.beat(ctx, w)
		}
		err := m.sync(ctx, w, synced)
		if whole = err == nil; whole {
			m.mu.Lock()
			m.at, m.whole = url, time.Now()
			m.mu.Unlock()
		}
		return err
	}
	beat := time.NewTimer(heartbeat/2 + rand.N(heartbeat)) // they came together, and ask one by one
	defer beat.Stop()
	var later <-chan time.Time // set while something could not be asked
	attempt := 0
	for err = catchUp(); ; {
		if err == nil {
			later, attempt = nil, 0
		} else if wait, passing := passes(err, attempt); !passing {
			return whole, err
		} else if later == nil {
			later = time.After(wait)
			attempt++
		}
		select {
		case <-ctx.Done():
			return whole, nil
		case a := <-more:
			if later != nil {
				continue // it is about to ask
			}
			if whole && a.Push == protocol.PushMessage {
				err = m.pull(ctx, w, asked)
				continue
			}
		case <-beat.C:
			beat.Reset(heartbeat)
		case <-later:
		}
		later = nil
		err = catchUp()
	}
}

// told notes a push; true: something is to be asked for.
func (m *member) told(a answer) bool {
	switch a.Push {
	case protocol.PushNudge:
		return true
	case protocol.PushMessage:
		var at struct {
			Conversation im.ConversationID `json:"conversation_id"`
			Seq          im.Seq            `json:"seq"`
		}
		if json.Unmarshal(a.Data, &at) == nil && at.Conversation == m.conv {
			return m.learn(at.Seq, pushed)
		}
	}
	return false
}

// learn notes that a number is known; true: there is a hole before it.
func (m *member) learn(seq im.Seq, how manner) (hole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq <= m.have || m.above[seq] {
		return len(m.above) > 0
	}
	switch how {
	case pushed:
		m.known[0]++
	case synced:
		m.known[1]++
	default:
		m.known[2]++
	}
	if m.above == nil {
		m.above = make(map[im.Seq]bool)
	}
	m.above[seq] = true
	for m.above[m.have+1] {
		m.have++
		delete(m.above, m.have)
	}
	return len(m.above) > 0
}

// reached is how far the member has come without a hole.
func (m *member) reached() im.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have
}

// sync asks what has changed since the member's position, or for everything, and pulls it.
func (m *member) sync(ctx context.Context, w *wire, why manner) error {
	m.mu.Lock()
	ask := protocol.Sync{Position: m.position}
	m.mu.Unlock()
	var s protocol.Synced
	for more := true; more; more = s.HasMore && !s.Full { // its list has one page
		s = protocol.Synced{}
		if _, err := w.ask(ctx, protocol.CmdSync, ask, &s); err != nil {
			return err
		}
		for _, row := range s.Conversations {
			if row.ConversationID == m.conv && row.LastSeq > m.reached() {
				if err := m.pull(ctx, w, why); err != nil {
					return err
				}
			}
		}
		ask.Position = &s.Position
	}
	m.moveTo(s.Position)
	return nil
}

func (m *member) moveTo(p im.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.Epoch != "" { // else degraded: none to be had
		m.position = &p
	}
}

// pull reads on from what the member has.
func (m *member) pull(ctx context.Context, w *wire, why manner) error {
	for {
		after := m.reached()
		var page struct {
			Items []struct {
				Seq im.Seq `json:"seq"`
			} `json:"items"`
			HasMore bool `json:"has_more"`
		}
		if _, err := w.ask(ctx, protocol.CmdHistory, protocol.History{ConversationID: m.conv, AfterSeq: &after, Limit: 100}, &page); err != nil {
			return err
		}
		for _, row := range page.Items {
			m.learn(row.Seq, why)
		}
		if !page.HasMore || m.reached() == after {
			return nil
		}
	}
}

// skip says that the member may see a conversation from after some place on.
func (m *member) skip(before im.Seq) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.have = max(m.have, before)
}

// beat is a heartbeat, followed to its end.
func (m *member) beat(ctx context.Context, w *wire) error {
	for more := true; more; {
		m.mu.Lock()
		since := m.position
		m.mu.Unlock()
		var p protocol.Pong
		if _, err := w.ask(ctx, protocol.CmdPing, protocol.Ping{Position: since}, &p); err != nil {
			return err
		}
		if p.Degraded {
			return nil
		}
		if p.StartOver || since == nil {
			m.mu.Lock()
			m.position = nil
			m.mu.Unlock()
			if err := m.sync(ctx, w, asked); err != nil {
				return err
			}
			break
		}
		for _, g := range p.Conversations {
			if g.ConversationID == m.conv && g.LastSeq > m.reached() {
				if err := m.pull(ctx, w, asked); err != nil {
					return err
				}
			}
		}
		m.moveTo(p.Position)
		more = p.HasMore
	}
	m.mu.Lock()
	m.beats++
	m.mu.Unlock()
	return nil
}
