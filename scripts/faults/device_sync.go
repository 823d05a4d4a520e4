package main

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// sync asks what has changed since the device's position, or for everything.
func (d *device) sync(ctx context.Context, w *wire, why manner) error {
	d.mu.Lock()
	ask := protocol.Sync{Position: d.position}
	d.mu.Unlock()
	var first *im.Position
	for {
		var s protocol.Synced
		if _, err := w.ask(ctx, protocol.CmdSync, ask, &s); err != nil {
			return err
		}
		for _, row := range s.Conversations {
			if err := d.upTo(ctx, w, row.ConversationID, row.LastSeq, why); err != nil {
				return err
			}
		}
		if first == nil || !s.Full {
			first = &s.Position
		}
		if !s.HasMore {
			break
		}
		if s.Full {
			ask = protocol.Sync{Before: s.Next}
		} else {
			ask = protocol.Sync{Position: &s.Position}
		}
	}
	d.moveTo(*first)
	return nil
}

// upTo pulls what the server says there is. A conversation that the user is in no longer
// may not be found.
func (d *device) upTo(ctx context.Context, w *wire, c im.ConversationID, last im.Seq, why manner) error {
	if have, _ := d.reached(c); have >= last {
		return nil
	}
	err := d.pull(ctx, w, c, why)
	var e *protocol.Error
	if errors.As(err, &e) && !e.Retryable {
		return nil
	}
	return err
}

func (d *device) moveTo(p im.Position) {
	if p.Epoch == "" {
		return // degraded: none to be had
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.position = &p
}

// beat is a heartbeat, followed to its end.
func (d *device) beat(ctx context.Context, w *wire) error {
	for {
		d.mu.Lock()
		since := d.position
		d.mu.Unlock()
		var p protocol.Pong
		if _, err := w.ask(ctx, protocol.CmdPing, protocol.Ping{Position: since}, &p); err != nil {
			return err
		}
		if p.Degraded {
			return nil
		}
		if p.StartOver || since == nil {
			d.mu.Lock()
			d.position = nil
			d.mu.Unlock()
			if err := d.sync(ctx, w, asked); err != nil {
				return err
			}
			break
		}
		for _, g := range p.Conversations {
			if err := d.upTo(ctx, w, g.ConversationID, g.LastSeq, asked); err != nil {
				return err
			}
		}
		d.moveTo(p.Position)
		if !p.HasMore {
			break
		}
	}
	d.mu.Lock()
	d.beats++
	d.mu.Unlock()
	return nil
}

// acks says what has been received, and of some of it that it was read.
func (d *device) acks(ctx context.Context, w *wire) error {
	d.mu.Lock()
	due := make(map[im.ConversationID]im.Seq)
	for c, have := range d.have {
		if have > d.acked[c] {
			due[c] = have
		}
	}
	d.mu.Unlock()
	for c, seq := range due {
		if rand.IntN(4) > 0 { // some are acked later
			continue
		}
		cmd := protocol.CmdAck
		if rand.IntN(2) == 0 && d.r.reading(seat{d.p.id, c}, seq) {
			cmd = protocol.CmdRead
		}
		_, err := w.ask(ctx, cmd, protocol.Receipt{ConversationID: c, Seq: seq}, nil)
		if err != nil {
			return err
		}
		if cmd == protocol.CmdRead {
			d.r.read(seat{d.p.id, c}, seq)
		}
		d.mu.Lock()
		d.acked[c] = seq
		d.mu.Unlock()
	}
	return nil
}

// reading notes that a read receipt is about to be sent; false where nobody is to read any
// more. read notes that it was confirmed.
func (r *record) reading(s seat, seq im.Seq) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closing {
		r.owed[s] = max(r.owed[s], seq)
	}
	return !r.closing
}

func (r *record) read(s seat, seq im.Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads[s] = max(r.reads[s], seq)
}

// leave cuts the device's connection, if it has one.
func (d *device) leave() {
	d.mu.Lock()
	w := d.wire
	d.mu.Unlock()
	if w != nil {
		w.end()
	}
}
