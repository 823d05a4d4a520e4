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

// device is a client as the protocol asks for one: it comes back, syncs from its
// position, pulls where a number is missing, asks at each heartbeat, and acks. Each
// message that it is shown is recorded when it comes, in whatever order.
type device struct {
	p       *person
	r       *record
	sockets []string
	node    int // of sockets, for the next connection
	look    func(sight)

	mu       sync.Mutex // guards what follows
	wire     *wire      // nil while there is no connection
	have     map[im.ConversationID]im.Seq
	above    map[im.ConversationID]map[im.Seq]bool
	acked    map[im.ConversationID]im.Seq
	position *im.Position
	beats    int // heartbeats that were answered and followed to their end
}

func newDevice(p *person, r *record, sockets []string, node int, look func(sight)) *device {
	return &device{
		p: p, r: r, sockets: sockets, node: node, look: look,
		have: make(map[im.ConversationID]im.Seq), above: make(map[im.ConversationID]map[im.Seq]bool),
		acked: make(map[im.ConversationID]im.Seq),
	}
}

// run keeps the device connected until ctx ends.
func (d *device) run(ctx context.Context) {
	for ctx.Err() == nil {
		d.once(ctx)
		d.node++
		_ = pause(ctx, 100*time.Millisecond+rand.N(900*time.Millisecond)) // ctx is asked next
	}
}

func (d *device) once(ctx context.Context) {
	w, err := dial(ctx, d.sockets[d.node%len(d.sockets)])
	if err != nil {
		return
	}
	pushes, missed := make(chan answer, 4096), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		w.read(func(a answer) {
			d.told(w, a)
			select {
			case pushes <- a:
			default: // as if it had been lost on the way
				select {
				case missed <- struct{}{}:
				default:
				}
			}
		})
	})
	defer reading.Wait()
	defer w.end()
	defer cancel()
	var hello protocol.Connected
	if _, err := w.ask(ctx, protocol.CmdConnect, protocol.Connect{Token: d.p.token, Device: d.p.device}, &hello); err != nil {
		return
	}
	d.mu.Lock()
	d.wire = w
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.wire = nil
		d.mu.Unlock()
	}()
	d.serve(ctx, w, time.Duration(hello.HeartbeatMS)*time.Millisecond, pushes, missed)
}

// serve follows one connection. What the server cannot answer just now is asked again at
// the next turn; what it does not answer at all ends the connection.
func (d *device) serve(ctx context.Context, w *wire, heartbeat time.Duration, pushes <-chan answer, missed <-chan struct{}) {
	whole := false
	catchUp := func() error {
		if whole {
			return d.beat(ctx, w)
		}
		err := d.sync(ctx, w, synced)
		whole = err == nil
		return err
	}
	beat, ack := time.NewTicker(heartbeat), time.NewTicker(time.Second)
	defer beat.Stop()
	defer ack.Stop()
	var later <-chan time.Time
	for err := catchUp(); ; {
		var e *protocol.Error
		switch {
		case errors.As(err, &e):
			later = time.After(500*time.Millisecond + rand.N(time.Second))
		case err != nil:
			return
		}
		select {
		case <-ctx.Done():
			return
		case a := <-pushes:
			err = d.follow(ctx, w, a)
			continue
		case <-ack.C:
			err = d.acks(ctx, w)
			if errors.As(err, &e) {
				err = nil // the next ack covers it
			}
			continue
		case <-missed:
		case <-beat.C:
		case <-later:
		}
		later = nil
		err = catchUp()
	}
}

// told records a push the moment it is read.
func (d *device) told(w *wire, a answer) {
	switch a.Push {
	case protocol.PushMessage:
		var m im.Message
		if json.Unmarshal(a.Data, &m) == nil {
			s := sight{seat: seat{d.p.id, m.Conversation}, shown: show(m), manner: pushed, conn: w.id}
			d.r.saw(s)
			d.learn(m.Conversation, m.Seq)
			d.look(s)
		}
	case protocol.PushStored:
		var s protocol.Stored
		if json.Unmarshal(a.Data, &s) == nil {
			d.r.saw(sight{
				seat:  seat{d.p.id, s.ConversationID},
				shown: shown{seq: s.Seq, id: s.MessageID, sender: d.p.id}, manner: placed, conn: w.id,
			})
			d.learn(s.ConversationID, s.Seq)
		}
	}
}

// learn notes that a place is known.
func (d *device) learn(c im.ConversationID, seq im.Seq) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seq <= d.have[c] {
		return
	}
	if d.above[c] == nil {
		d.above[c] = make(map[im.Seq]bool)
	}
	d.above[c][seq] = true
	for d.above[c][d.have[c]+1] {
		d.have[c]++
		delete(d.above[c], d.have[c])
	}
}

// reached is how far the device has come without a hole, and whether there is one.
func (d *device) reached(c im.ConversationID) (have im.Seq, hole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for seq := range d.above[c] {
		hole = hole || seq > d.have[c]
	}
	return d.have[c], hole
}

// follow pulls where a push has left a hole.
func (d *device) follow(ctx context.Context, w *wire, a answer) error {
	switch a.Push {
	case protocol.PushMessage, protocol.PushStored:
		var at struct {
			Conversation im.ConversationID `json:"conversation_id"`
		}
		if err := json.Unmarshal(a.Data, &at); err != nil {
			return err
		}
		if _, hole := d.reached(at.Conversation); hole {
			return d.pull(ctx, w, at.Conversation, asked)
		}
	case protocol.PushNudge:
		return d.beat(ctx, w)
	}
	return nil
}

// pull reads on from what the device has.
func (d *device) pull(ctx context.Context, w *wire, c im.ConversationID, why manner) error {
	for {
		after, _ := d.reached(c)
		var page protocol.Page
		if _, err := w.ask(ctx, protocol.CmdHistory, protocol.History{ConversationID: c, AfterSeq: &after, Limit: 100}, &page); err != nil {
			return err
		}
		d.skip(c, page.FirstSeq)
		for _, m := range page.Items {
			d.r.saw(sight{seat: seat{d.p.id, c}, shown: show(m), manner: why, conn: w.id})
			d.learn(c, m.Seq)
		}
		if !page.HasMore {
			return nil
		}
	}
}

// skip passes what is not this user's to see.
func (d *device) skip(c im.ConversationID, first im.Seq) {
	d.mu.Lock()
	if first > d.have[c]+1 {
		d.have[c] = first - 1
	}
	d.mu.Unlock()
	d.learn(c, first)
}
