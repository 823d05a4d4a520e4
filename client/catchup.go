package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	pullPage    = 100
	ackInterval = time.Second // delivered acks are cumulative: one a second and conversation at most
)

// thread is how far this device has come in one conversation. Only the goroutine of
// serve changes it.
type thread struct {
	have  im.Seq // everything up to here was shown
	acked im.Seq // and up to here acked
	owes  im.Seq // the last message of somebody else
	// own are seqs above have that this device sent and need not be shown.
	own map[im.Seq]bool
}

// serve catches up and then follows the pushes of one connection until it ends;
// synced says whether it has caught up. What the server cannot answer just now is
// asked again, on the same connection: a new one would find it no better.
func (c *Client) serve(ctx context.Context, cn *conn, heartbeat time.Duration) (synced bool) {
	if heartbeat <= 0 {
		heartbeat = 25 * time.Second
	}
	catchUp := func() error {
		if synced {
			return c.beat(ctx, cn)
		}
		err := c.sync(ctx, cn)
		synced = err == nil
		return err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	ack := time.NewTicker(ackInterval)
	defer ack.Stop()
	var later <-chan time.Time // set while something could not be pulled
	attempt := 0
	for err := catchUp(); ; {
		switch wait, passing := passes(err); {
		case passing && later == nil:
			later = time.After(max(wait, c.delay(attempt)))
			attempt++
		case passing:
		case err != nil:
			cn.end(err)
			return synced
		}
		select {
		case <-ctx.Done():
			return synced
		case p := <-cn.events:
			err = c.follow(ctx, cn, p)
			continue
		case <-ack.C:
			err = nil
			if !c.opt.ManualAck {
				c.ackAll(cn)
			}
			continue
		case <-cn.missed:
		case <-beat.C:
		case <-later:
			later = nil
		}
		if err = catchUp(); err == nil {
			later, attempt = nil, 0
		}
	}
}

// passes says that err is the server's word that the same request may succeed later,
// and after how long.
func passes(err error) (wait time.Duration, passing bool) {
	var e *protocol.Error
	if !errors.As(err, &e) || !e.Retryable || e.Code == codeDisconnected {
		return 0, false
	}
	return time.Duration(e.RetryAfterMS) * time.Millisecond, true
}

// sync asks what has changed since this device's position, or for everything.
func (c *Client) sync(ctx context.Context, cn *conn) error {
	c.mu.Lock()
	since := c.position
	c.mu.Unlock()
	ask := protocol.Sync{Position: since}
	var first *im.Position // a full sync stands where its first page stood
	for {
		var s protocol.Synced
		if err := cn.call(ctx, protocol.CmdSync, ask, &s); err != nil {
			return err
		}
		for _, cv := range s.Conversations {
			th := c.thread(cv.ConversationID)
			if th == nil {
				th = c.addThread(cv.ConversationID, min(cv.DeliveredSeq, cv.LastSeq))
			}
			if th.have < cv.LastSeq {
				if err := c.pull(ctx, cn, cv.ConversationID, th); err != nil {
					return err
				}
			}
		}
		for _, o := range s.Offline { // shown before, and the ack was lost
			if th := c.thread(o.ConversationID); th != nil && th.have > o.DeliveredSeq {
				th.owes = max(th.owes, th.have)
			}
		}
		if c.opt.OnSync != nil {
			c.opt.OnSync(s)
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
	c.moveTo(*first)
	return nil
}

func (c *Client) moveTo(p im.Position) {
	if p.Epoch == "" {
		return // degraded: no position to be had
	}
	c.mu.Lock()
	c.position = &p
	c.mu.Unlock()
}

// beat sends a heartbeat with the position; what differs is pulled.
func (c *Client) beat(ctx context.Context, cn *conn) error {
	for {
		c.mu.Lock()
		since := c.position
		c.mu.Unlock()
		var p protocol.Pong
		if err := cn.call(ctx, protocol.CmdPing, protocol.Ping{Position: since}, &p); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		if p.Degraded {
			return nil
		}
		if p.StartOver || since == nil {
			c.mu.Lock()
			c.position = nil
			c.mu.Unlock()
			return c.sync(ctx, cn)
		}
		for _, d := range p.Conversations {
			th := c.thread(d.ConversationID)
			if th == nil || th.have < d.LastSeq {
				if err := c.pull(ctx, cn, d.ConversationID, th); err != nil {
					return err
				}
			}
		}
		c.moveTo(p.Position)
		if !p.HasMore {
			return nil
		}
	}
}

// follow takes one push.
func (c *Client) follow(ctx context.Context, cn *conn, p push) error {
	switch p.kind {
	case protocol.PushMessage:
		var m im.Message
		if err := json.Unmarshal(p.data, &m); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		return c.arrived(ctx, cn, m)
	case protocol.PushStored:
		var s protocol.Stored
		if err := json.Unmarshal(p.data, &s); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		return c.stored(ctx, cn, s)
	case protocol.PushRejected:
		var r protocol.Rejected
		if err := json.Unmarshal(p.data, &r); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		c.rejected(r)
	case protocol.PushReceipt, protocol.PushReadSelf:
		var m protocol.CursorMoved
		if err := json.Unmarshal(p.data, &m); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		if f := c.opt.OnReceipt; f != nil && p.kind == protocol.PushReceipt {
			f(m)
		}
		if f := c.opt.OnReadSelf; f != nil && p.kind == protocol.PushReadSelf {
			f(m)
		}
	case protocol.PushContact:
		var m protocol.ContactChanged
		if err := json.Unmarshal(p.data, &m); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		if c.opt.OnContact != nil {
			c.opt.OnContact(m)
		}
	case protocol.PushNudge:
		return c.beat(ctx, cn)
	}
	return nil // an unknown push is from a newer server
}

// arrived takes a pushed message: shown if it is next, pulled for if it is not [C2].
func (c *Client) arrived(ctx context.Context, cn *conn, m im.Message) error {
	th := c.thread(m.Conversation)
	switch {
	case th != nil && m.Seq <= th.have:
		return nil // seen: a replay, or pulled meanwhile
	case th == nil && m.Seq == 1:
		th = c.addThread(m.Conversation, 0)
	case th == nil, m.Seq != th.have+1:
		return c.pull(ctx, cn, m.Conversation, th)
	}
	c.show(th, m)
	c.skipOwn(th)
	return nil
}

// stored settles an outgoing message and keeps its place from being taken for a hole.
func (c *Client) stored(ctx context.Context, cn *conn, s protocol.Stored) error {
	c.mu.Lock()
	o := c.byID[s.ClientMsgID]
	c.mu.Unlock()
	if o == nil {
		return nil // another device's: its message push, or the heartbeat, brings it
	}
	th := c.thread(s.ConversationID)
	if th == nil && s.Seq > 1 { // what was said before it comes first, and perhaps itself
		if err := c.pull(ctx, cn, s.ConversationID, nil); err != nil {
			return err
		}
		th = c.thread(s.ConversationID)
	}
	if th == nil {
		th = c.addThread(s.ConversationID, s.Seq-1)
	}
	c.mu.Lock()
	settled := c.settle(o, protocol.Sent{
		State: protocol.StateStored, ConversationID: s.ConversationID, ClientMsgID: s.ClientMsgID,
		Seq: s.Seq, MessageID: &s.MessageID, StoredAt: s.StoredAt,
	}, nil)
	c.nudge()
	c.mu.Unlock()
	if settled && c.opt.OnStored != nil {
		c.opt.OnStored(o)
	}
	if s.Seq <= th.have {
		return nil
	}
	if th.own == nil {
		th.own = make(map[im.Seq]bool)
	}
	th.own[s.Seq] = true
	c.skipOwn(th)
	if th.have < s.Seq {
		return c.pull(ctx, cn, s.ConversationID, th)
	}
	return nil
}

func (c *Client) rejected(r protocol.Rejected) {
	e := &protocol.Error{Code: r.Code, Message: r.Message, Outcome: im.OutcomeRejected}
	c.mu.Lock()
	o := c.byID[r.ClientMsgID]
	settled := o != nil && c.settle(o, protocol.Sent{}, e)
	c.mu.Unlock()
	if settled && c.opt.OnRejected != nil {
		c.opt.OnRejected(o, e)
	}
}

// pull shows everything after what this device has. For a conversation it did not
// know it starts at what the user's devices have acked.
func (c *Client) pull(ctx context.Context, cn *conn, conv im.ConversationID, th *thread) error {
	for {
		var p protocol.Page
		var err error
		if th == nil {
			err = cn.call(ctx, protocol.CmdOffline, protocol.OfflinePull{ConversationID: conv, Limit: pullPage}, &p)
		} else {
			after := th.have
			err = cn.call(ctx, protocol.CmdHistory, protocol.History{ConversationID: conv, AfterSeq: &after, Limit: pullPage}, &p)
		}
		if err != nil {
			return fmt.Errorf("pull %s: %w", conv, err)
		}
		if th == nil {
			if len(p.Items) == 0 {
				return nil
			}
			th = c.addThread(conv, p.Items[0].Seq-1)
		}
		for _, m := range p.Items {
			if m.Seq <= th.have {
				continue
			}
			if m.Seq != th.have+1 {
				return fmt.Errorf("pull %s: seq %d follows %d", conv, m.Seq, th.have)
			}
			c.show(th, m)
		}
		if !p.HasMore {
			c.skipOwn(th)
			return nil
		}
	}
}

// show hands the next message to the application, unless this device sent it.
func (c *Client) show(th *thread, m im.Message) {
	th.have = m.Seq
	mine := th.own[m.Seq]
	delete(th.own, m.Seq)
	c.mu.Lock()
	self := c.user.ID
	var o *Outgoing
	if m.Sender.ID == self && m.ClientMsgID != "" {
		o = c.byID[m.ClientMsgID]
	}
	settled := o != nil && c.settle(o, protocol.Sent{
		State: protocol.StateStored, ConversationID: m.Conversation, ClientMsgID: m.ClientMsgID,
		Seq: m.Seq, MessageID: &m.ID, StoredAt: m.StoredAt,
	}, nil)
	c.mu.Unlock()
	if settled && c.opt.OnStored != nil {
		c.opt.OnStored(o)
	}
	if m.Sender.ID != self {
		th.owes = m.Seq
	}
	if !mine && o == nil && c.opt.OnMessage != nil {
		c.opt.OnMessage(m)
	}
}

// skipOwn moves past places that this device's own messages took.
func (c *Client) skipOwn(th *thread) {
	for th.own[th.have+1] {
		th.have++
		delete(th.own, th.have)
	}
}

// ackAll acks what was shown since the last time. A lost ack is repeated with the
// next: acked moves with the reply.
func (c *Client) ackAll(cn *conn) {
	c.mu.Lock()
	due := make(map[im.ConversationID]*thread)
	for id, th := range c.threads {
		if th.owes > th.acked {
			due[id] = th
		}
	}
	c.mu.Unlock()
	for id, th := range due {
		upTo := th.have
		_ = cn.request(protocol.CmdAck, protocol.Receipt{ConversationID: id, Seq: upTo}, func(a answer) {
			if a.Error == nil {
				c.mu.Lock()
				th.acked = max(th.acked, upTo)
				c.mu.Unlock()
				if c.opt.OnAcked != nil {
					c.opt.OnAcked(id, upTo)
				}
			}
		})
	}
}

func (c *Client) thread(id im.ConversationID) *thread {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.threads[id]
}

func (c *Client) addThread(id im.ConversationID, have im.Seq) *thread {
	th := &thread{have: have, acked: have}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.threads[id] = th
	return th
}

// Have is how far this device has come and the position that goes with it, for the
// Options of its next life. Call it after Run has returned.
func (c *Client) Have() (map[im.ConversationID]im.Seq, *im.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := make(map[im.ConversationID]im.Seq, len(c.threads))
	for id, th := range c.threads {
		have[id] = th.have
	}
	return have, c.position
}
