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
	wire     *wire      // nil while there is no connection
	at       string     // the socket that wire is to
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
		if m.once(ctx, attempt) {
			attempt = 0
		}
		_ = pause(ctx, retryMin/2+rand.N(min(retryMax, retryMin<<min(attempt, 10)))) // ctx is asked next
	}
}

// once follows one connection; true: it had synced.
func (m *member) once(ctx context.Context, attempt int) bool {
	m.mu.Lock()
	url := m.sockets[attempt%len(m.sockets)]
	m.mu.Unlock()
	w, err := dial(ctx, url)
	if err != nil {
		return false
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
		return false
	}
	if err := m.sync(ctx, w, synced); err != nil {
		return false
	}
	m.mu.Lock()
	m.wire, m.at, m.whole = w, url, time.Now()
	m.mu.Unlock()
	m.follow(ctx, w, time.Duration(hello.HeartbeatMS)*time.Millisecond, more)
	m.mu.Lock()
	m.wire, m.whole = nil, time.Time{}
	m.mu.Unlock()
	return true
}

// follow asks at each heartbeat, and where a push has left a hole, until the connection
// ends. What the server cannot answer just now is asked at the next heartbeat.
func (m *member) follow(ctx context.Context, w *wire, heartbeat time.Duration, more <-chan answer) {
	beat := time.NewTimer(rand.N(heartbeat)) // they came together, and ask one by one
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			beat.Reset(heartbeat)
			err = m.beat(ctx, w)
		case a := <-more:
			if a.Push == protocol.PushNudge {
				err = m.beat(ctx, w)
			} else {
				err = m.pull(ctx, w, asked)
			}
		}
		var e *protocol.Error
		if err != nil && !errors.As(err, &e) {
			return
		}
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
