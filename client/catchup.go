package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const ackInterval = time.Second // delivered acks are cumulative: one a second and conversation at most

// serve catches up and then follows the pushes of one connection until it ends;
// synced says whether it has caught up. What the server cannot answer just now is
// asked again, on the same connection: a new one would find it no better.
func (c *Client) serve(ctx context.Context, cn *conn, heartbeat time.Duration) (synced bool) {
	if heartbeat <= 0 {
		heartbeat = 25 * time.Second
	}
	catchUp := func() error {
		if synced {
			if c.owesWatch() {
				c.watchAgain(ctx, cn)
			}
			return c.beat(ctx, cn)
		}
		err := c.sync(ctx, cn)
		if synced = err == nil; synced {
			c.watchAgain(ctx, cn)
		}
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
		if err = nil; later != nil { // it is asked for then, and not before: the server has named the time
			continue
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
			c.learnRow(&cv)
			th := c.thread(cv.ConversationID)
			if th == nil {
				th = c.addThread(cv.ConversationID, startOf(&cv))
				th.changed = ChangedUpTo{cv.LastChange, cv.Deletions} // what is pulled is as it now is
			}
			if th.have < cv.LastSeq {
				if err := c.pull(ctx, cn, cv.ConversationID, th); err != nil {
					return err
				}
			}
			if err := c.catchChanges(ctx, cn, cv.ConversationID, th, ChangedUpTo{cv.LastChange, cv.Deletions}); err != nil {
				return err
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
		if slices.ContainsFunc(p.Conversations, c.missed) {
			return c.sync(ctx, cn)
		}
		for _, d := range p.Conversations {
			th := c.thread(d.ConversationID)
			if th == nil || th.have < d.LastSeq {
				if err := c.pull(ctx, cn, d.ConversationID, th); err != nil {
					return err
				}
			}
			if th != nil {
				if err := c.catchChanges(ctx, cn, d.ConversationID, th, ChangedUpTo{d.LastChange, d.Deletions}); err != nil {
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
		if r.ClientChangeID == "" {
			c.rejected(r)
		} else if c.opt.OnChangeRejected != nil {
			c.opt.OnChangeRejected(r)
		}
	case protocol.PushChanged:
		var ch protocol.Changed
		if err := json.Unmarshal(p.data, &ch); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		return c.changed(ctx, cn, ch)
	case protocol.PushDeleted:
		var d protocol.Deleted
		if err := json.Unmarshal(p.data, &d); err != nil {
			return fmt.Errorf("push %s: %w", p.kind, err)
		}
		return c.deleted(ctx, cn, d)
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
	case protocol.PushPresence:
		return told(p, c.opt.OnPresence)
	case protocol.PushTyping:
		return told(p, c.opt.OnTyping)
	case protocol.PushSettings:
		return told(p, func(s protocol.ConversationSettings) {
			if c.learn(s.ConversationID, settled{s.Settings.Version, s.FloorSeq}) && c.opt.OnSettings != nil {
				c.opt.OnSettings(s)
			}
		})
	case protocol.PushKicked:
		return told(p, c.opt.OnKicked)
	case protocol.PushNudge:
		c.watchAgain(ctx, cn)
		return c.beat(ctx, cn)
	}
	return nil // an unknown push is from a newer server
}

// told hands a push to the application, where it wants to hear of it.
func told[T any](p push, hear func(T)) error {
	if hear == nil {
		return nil
	}
	var v T
	if err := json.Unmarshal(p.data, &v); err != nil {
		return fmt.Errorf("push %s: %w", p.kind, err)
	}
	hear(v)
	return nil
}

// arrived takes a pushed message: shown if it is next, pulled for if it is not [C2].
func (c *Client) arrived(ctx context.Context, cn *conn, m im.Message) error {
	th := c.thread(m.Conversation)
	switch {
	case th != nil && m.Seq <= th.have:
		return nil // seen: a replay, or pulled meanwhile
	case th == nil && m.Seq == 1:
		th = c.addThread(m.Conversation, 0)
	case th == nil:
		if err := c.pull(ctx, cn, m.Conversation, nil); err != nil {
			return err
		}
		if c.thread(m.Conversation) != nil {
			return nil
		}
		th = c.addThread(m.Conversation, m.Seq-1) // nothing waits below it: the user joins by it
	case m.Seq != th.have+1:
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
