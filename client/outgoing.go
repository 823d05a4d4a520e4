package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Outgoing is a message on its way. It keeps its client message ID for ever [C1].
type Outgoing struct {
	Message protocol.Send

	accepted chan struct{} // closed once the server has it
	done     chan struct{} // closed once stored, refused or rejected
	result   protocol.Sent // set before done is closed
	err      error

	// guarded by Client.mu
	sentOn     *conn // the connection it was last written to
	isAccepted bool
	isDone     bool
}

// Accepted waits until the server has taken the message (Kafka has it).
func (o *Outgoing) Accepted(ctx context.Context) error {
	select {
	case <-o.accepted:
		return nil
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stored waits until the message has its place, and returns it; of one with a time, until
// it is scheduled. Errors: a *protocol.Error that refused or rejected it, ErrClosed, ctx's.
func (o *Outgoing) Stored(ctx context.Context) (protocol.Sent, error) {
	select {
	case <-o.done:
		return o.result, o.err
	case <-ctx.Done():
		return protocol.Sent{}, ctx.Err()
	}
}

// Done is closed when Stored no longer waits.
func (o *Outgoing) Done() <-chan struct{} { return o.done }

// finish settles o; the first call counts. The caller holds Client.mu.
func (o *Outgoing) finish(err error) bool {
	if o.isDone {
		return false
	}
	o.isDone, o.err = true, err
	close(o.done)
	return true
}

// accept notes that the server has o. Of a message that was sent twice it may say so after
// o is settled, when the result is its reader's.
func (o *Outgoing) accept(conv im.ConversationID) {
	if !o.isDone {
		o.result.ConversationID, o.result.ClientMsgID, o.result.State = conv, o.Message.ClientMsgID, protocol.StateAccepted
	}
	if !o.isAccepted {
		o.isAccepted = true
		close(o.accepted)
	}
}

// NewClientMsgID is random: 128 bits in 22 characters.
func NewClientMsgID() im.ClientMsgID {
	var b [16]byte
	rand.Read(b[:])
	return im.ClientMsgID(base64.RawURLEncoding.EncodeToString(b[:]))
}

// ToUser addresses a user.
func ToUser(u im.UserID) protocol.To { return protocol.To{UserID: &u} }

// SendText queues a text; see Send.
func (c *Client) SendText(to protocol.To, text string) (*Outgoing, error) {
	content, err := json.Marshal(im.TextContent{Text: text})
	if err != nil {
		return nil, fmt.Errorf("encode text: %w", err)
	}
	return c.Send(protocol.Send{To: to, Type: im.TypeText, Content: content})
}

// Send queues a message and returns at once; it goes out in the order of the calls,
// now or when there is a connection. An empty ClientMsgID is filled in. Errors:
// ErrBacklog, ErrClosed, and im.ErrConflict for a client message ID still in flight.
func (c *Client) Send(m protocol.Send) (*Outgoing, error) {
	if m.ClientMsgID == "" {
		m.ClientMsgID = NewClientMsgID()
	}
	o := &Outgoing{Message: m, accepted: make(chan struct{}), done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrClosed
	case len(c.out) >= c.opt.Backlog:
		return nil, ErrBacklog
	case c.byID[m.ClientMsgID] != nil:
		return nil, fmt.Errorf("client message ID %s is in flight: %w", m.ClientMsgID, im.ErrConflict)
	}
	c.out = append(c.out, o)
	c.byID[m.ClientMsgID] = o
	c.nudge()
	return o, nil
}

func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sendLoop writes what is due, oldest first, until the connection ends.
func (c *Client) sendLoop(ctx context.Context, cn *conn) {
	for {
		o, wait := c.nextOut(cn)
		if o != nil {
			// An error ends the connection, and with it this loop.
			_ = cn.request(protocol.CmdSend, o.Message, func(a answer) { c.answered(cn, o, a) })
			continue
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer:
		}
	}
}

// nextOut takes the oldest message not yet written to cn, if the window and the
// server allow it; else it says how long to wait (0: until woken).
func (c *Client) nextOut(cn *conn) (*Outgoing, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != cn || c.inFlight >= c.opt.Window {
		return nil, 0
	}
	if wait := time.Until(c.hold); wait > 0 {
		return nil, wait
	}
	for _, o := range c.out {
		if o.sentOn != cn {
			o.sentOn = cn
			c.inFlight++
			return o, 0
		}
	}
	return nil, 0
}

// answered takes the reply to a send. What may still succeed stays in its place and
// is written again after the time the server gave.
func (c *Client) answered(cn *conn, o *Outgoing, a answer) {
	var sent protocol.Sent
	if a.Error == nil {
		if err := json.Unmarshal(a.Data, &sent); err != nil {
			cn.end(fmt.Errorf("reply to send: %w", err))
			return
		}
	}
	c.mu.Lock()
	if c.conn == cn {
		c.inFlight--
	}
	again, refused := false, false
	switch {
	case a.Error == nil && sent.State == protocol.StateScheduled:
		c.settle(o, sent, nil)
	case a.Error == nil:
		o.accept(sent.ConversationID)
		// Serve settles what is stored: it alone knows which places this device has seen.
		again = sent.State == protocol.StateStored && !cn.queue(push{protocol.PushStored, a.Data})
	case a.Error.Retryable, a.Error.Code == codeUnauthenticated: // the latter on a connection with a newer token
		again = true
	default:
		refused = c.settle(o, protocol.Sent{}, a.Error)
	}
	if again && c.conn == cn { // else the next connection sends it anyway
		o.sentOn = nil
		wait := 50 * time.Millisecond
		if a.Error != nil {
			wait = max(wait, time.Duration(a.Error.RetryAfterMS)*time.Millisecond)
		}
		c.hold = time.Now().Add(wait)
	}
	c.nudge()
	c.mu.Unlock()
	if refused && c.opt.OnRejected != nil {
		c.opt.OnRejected(o, a.Error)
	}
}

// settle ends o as stored or with err and forgets it. The caller holds mu; false
// where it had ended before.
func (c *Client) settle(o *Outgoing, sent protocol.Sent, err error) bool {
	if o.isDone {
		return false
	}
	if err == nil {
		o.accept(sent.ConversationID)
		o.result = sent
	}
	o.finish(err)
	delete(c.byID, o.Message.ClientMsgID)
	for i, other := range c.out {
		if other == o {
			c.out = append(c.out[:i], c.out[i+1:]...)
			break
		}
	}
	return true
}
