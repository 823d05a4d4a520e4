package client

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const pullPage = 100 // messages asked for at once

// thread is how far this device has come in one conversation. Only the goroutine of
// serve changes it.
type thread struct {
	have  im.Seq // everything up to here was shown
	acked im.Seq // and up to here acked
	owes  im.Seq // the last message of somebody else
	// own are seqs above have that this device sent and need not be shown.
	own map[im.Seq]bool
	// changed is guarded by Client.mu where another goroutine reads it.
	changed ChangedUpTo
}

// startOf is where a device begins in a conversation that it did not know: at what the
// user's devices have acked. In a channel the notice by which the user joined counts as
// acked from the start; it is shown all the same while nothing after it is.
func startOf(row *protocol.Conversation) im.Seq {
	return startAfter(row.ConversationID, min(row.DeliveredSeq, row.LastSeq), row.FirstSeq)
}

func startAfter(conv im.ConversationID, acked, first im.Seq) im.Seq {
	if _, channel := conv.Channel(); channel && acked <= max(first, 1) {
		return max(first, 1) - 1
	}
	return acked
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
			next := p.Items[0].Seq
			th = c.addThread(conv, startAfter(conv, next-1, p.FirstSeq))
			if th.have+1 < next {
				continue
			}
		}
		if p.FirstSeq > th.have+1 { // what is below is not this user's to see
			th.have = p.FirstSeq - 1
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
