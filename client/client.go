package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Options says who connects where, and what the application wants to hear.
type Options struct {
	Socket   string // "ws://127.0.0.1:8090/v1/ws"
	Device   im.DeviceID
	Platform string
	// Token returns a good access token; it is asked before each connect, so that it
	// may refresh. ErrNoToken ends Run, any other error is tried again.
	Token func(ctx context.Context) (string, error)

	// OnMessage sees messages of others and of one's own other devices, in order [C2].
	OnMessage func(im.Message)
	// OnStored and OnRejected tell the end of an outgoing message. A refusal is told on
	// the connection's reading goroutine: it must not block.
	OnStored   func(*Outgoing)
	OnRejected func(*Outgoing, *protocol.Error)
	// OnReceipt tells how far another member has come, OnReadSelf how far this user has
	// on another device.
	OnReceipt  func(protocol.CursorMoved)
	OnReadSelf func(protocol.CursorMoved)
	// OnContact tells what happened between this user and another. What was missed while
	// away shows by Synced.ContactsVersion; HTTP.ContactsSince brings it.
	OnContact func(protocol.ContactChanged)
	// OnPresence tells of those who are watched (Watch), OnTyping of the other side; it
	// holds for ExpiresMS. Both may be missing.
	OnPresence func(protocol.Presence)
	OnTyping   func(protocol.TypingNow)
	// OnSettings tells what another device of this user has set for a conversation, or
	// deleted from it. What was missed comes by OnSync.
	OnSettings func(protocol.ConversationSettings)
	// OnKicked tells why the server is about to close, right before it does.
	OnKicked func(protocol.Kicked)
	// OnChanged sees messages that have changed, as they now are, in the order of their
	// changes; also such as were said before this device began. A change may be seen
	// again as part of a later one; a message that this user has deleted for themselves
	// may be seen with its content, and stays deleted: one that the application does not
	// hold is not shown for its change, since OnDeleted tells no deletion from before this
	// device began; the history does. OnChangeRejected hears of this user's changes that
	// were taken and could not be made any more.
	OnChanged        func(im.Message)
	OnChangeRejected func(protocol.Rejected)
	// OnDeleted tells what this user has deleted for themselves, on any device.
	OnDeleted func(im.ConversationID, im.Seq)
	// OnAcked tells that the server has taken this device's delivered ack. It runs on
	// the connection's reading goroutine: it must not block.
	OnAcked func(im.ConversationID, im.Seq)
	// OnSync sees what the server said on each connect, and where a heartbeat finds that
	// something was set or deleted of which this device was not told.
	OnSync func(protocol.Synced)
	// OnState tells of connects and losses; err is why the last connection ended.
	OnState func(connected bool, err error)

	// Have restores what this device holds, by conversation; without an entry a
	// conversation starts at what the user's devices have acked.
	Have map[im.ConversationID]im.Seq
	// HaveChanged goes with Have; without an entry all that was ever changed is told.
	HaveChanged map[im.ConversationID]ChangedUpTo
	// Position goes with Have: where it still stands, only what changed since is asked
	// for.
	Position *im.Position
	// ManualAck leaves acking delivered to the application.
	ManualAck bool
	// Window bounds sends without an answer on the connection (default 16). Those in
	// flight may overtake one that was refused for now (rate_limited, a store away) and is
	// sent again; 1 keeps the order even then.
	Window int
	// Backlog bounds messages not yet stored (default 1,024); Send refuses beyond it.
	Backlog int
	// RetryMin and RetryMax bound the jittered delay before a new connection (default
	// 200 ms and 15 s).
	RetryMin, RetryMax time.Duration
}

var (
	// ErrNoToken from Options.Token ends Run: there is no use in trying again.
	ErrNoToken = errors.New("no token to be had")
	// ErrBacklog refuses a send while too many are not yet stored.
	ErrBacklog = errors.New("too many messages not yet stored")
	// ErrNotConnected refuses a request while there is no connection.
	ErrNotConnected = errors.New("not connected")
	// ErrClosed is what remains undone when Run ends.
	ErrClosed = errors.New("client closed")
)

// CloseError is the server's close frame.
type CloseError struct {
	Code   protocol.CloseCode
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed by server: %d %s", e.Code, e.Reason) }

// Final says not to come back with the same token or input (4400–4499).
func (e *CloseError) Final() bool { return e.Code >= 4400 && e.Code < 4500 }

// Client is one device of one user. Run keeps it connected; every method may be
// called from any goroutine.
type Client struct {
	opt Options

	mu       sync.Mutex // guards what follows
	conn     *conn
	user     im.Profile
	out      []*Outgoing // not yet stored, in the order of Send
	byID     map[im.ClientMsgID]*Outgoing
	threads  map[im.ConversationID]*thread
	settings map[im.ConversationID]settled
	position *im.Position
	closed   bool
	inFlight int           // sends without an answer on conn
	hold     time.Time     // the server said not before
	wake     chan struct{} // capacity 1: something to send
	watched  map[im.UserID]bool
	// unwatched says that conn does not watch all of watched.
	unwatched bool
}

// New makes a client; nothing happens before Run.
func New(opt Options) *Client {
	if opt.Window <= 0 {
		opt.Window = 16
	}
	if opt.Backlog <= 0 {
		opt.Backlog = 1024
	}
	if opt.RetryMin <= 0 {
		opt.RetryMin = 200 * time.Millisecond
	}
	if opt.RetryMax <= 0 {
		opt.RetryMax = 15 * time.Second
	}
	c := &Client{
		opt:      opt,
		position: opt.Position,
		byID:     make(map[im.ClientMsgID]*Outgoing),
		threads:  make(map[im.ConversationID]*thread),
		settings: make(map[im.ConversationID]settled),
		wake:     make(chan struct{}, 1),
		watched:  make(map[im.UserID]bool),
	}
	for id, seq := range opt.Have {
		c.threads[id] = &thread{have: seq, changed: opt.HaveChanged[id]}
	}
	return c
}

// Run connects, and connects again, until ctx ends or the server says not to come
// back. After 4401 it asks for a token once more and goes on if that is another one.
// It returns ctx's error, or the *CloseError.
func (c *Client) Run(ctx context.Context) error {
	defer c.finish()
	var refused string // the token that the server no longer takes
	var why error
	for attempt := 0; ; attempt++ {
		token, err := c.opt.Token(ctx)
		switch {
		case errors.Is(err, ErrNoToken):
			return err
		case err == nil && token == refused:
			return why
		case err == nil:
			var up, synced bool
			up, synced, err = c.once(ctx, token)
			if synced {
				attempt = 0
			}
			if up && c.opt.OnState != nil {
				c.opt.OnState(false, err)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var closed *CloseError
		if errors.As(err, &closed) && closed.Final() {
			if closed.Code != protocol.CloseUnauthenticated {
				return err
			}
			refused, why = token, err
		}
		t := time.NewTimer(max(c.delay(attempt), comeBack(err)))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// delay is exponential with full jitter between RetryMin and RetryMax.
func (c *Client) delay(attempt int) time.Duration {
	most := c.opt.RetryMax
	if attempt < 16 {
		most = min(most, c.opt.RetryMin<<attempt)
	}
	return c.opt.RetryMin/2 + rand.N(most)
}

// comeBack is the time after which the server wants to see this client again, 0 where
// it named none: the reason of a farewell, or retry_after_ms of a refused connect.
func comeBack(err error) time.Duration {
	var hint struct {
		RetryAfterMS int64 `json:"retry_after_ms"`
	}
	var closed *CloseError
	var refused *protocol.Error
	switch {
	case errors.As(err, &closed):
		_ = json.Unmarshal([]byte(closed.Reason), &hint) // most reasons are words
	case errors.As(err, &refused):
		hint.RetryAfterMS = refused.RetryAfterMS
	}
	return min(time.Duration(max(hint.RetryAfterMS, 0))*time.Millisecond, time.Minute)
}

// once makes one connection and serves it to its end; up says whether it got as far
// as an accepted connect, synced whether it caught up.
func (c *Client) once(ctx context.Context, token string) (up, synced bool, err error) {
	cn, err := dial(ctx, c.opt.Socket)
	if err != nil {
		return false, false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cn.close()
	defer cancel()
	wg.Go(func() { cn.read(); cancel() })

	var hello protocol.Connected
	if err := cn.call(ctx, protocol.CmdConnect, protocol.Connect{Token: token, Device: c.opt.Device, Platform: c.opt.Platform}, &hello); err != nil {
		var refused *protocol.Error
		if errors.As(err, &refused) && !refused.Retryable && refused.Code != codeDisconnected {
			return false, false, &CloseError{Code: protocol.CloseUnauthenticated, Reason: refused.Error()}
		}
		return false, false, cn.cause(err)
	}
	c.mu.Lock()
	c.conn, c.user = cn, hello.User
	c.inFlight = 0
	for _, o := range c.out {
		o.sentOn = nil
	}
	c.mu.Unlock()
	if c.opt.OnState != nil {
		c.opt.OnState(true, nil)
	}
	wg.Go(func() { c.sendLoop(ctx, cn) })
	synced = c.serve(ctx, cn, time.Duration(hello.HeartbeatMS)*time.Millisecond)
	c.mu.Lock()
	c.conn = nil
	c.mu.Unlock()
	return true, synced, cn.cause(ctx.Err())
}

func (c *Client) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, o := range c.out {
		o.finish(ErrClosed)
	}
	c.out = nil
}

// User is who this client is, once it has connected.
func (c *Client) User() im.Profile {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// Connected says whether there is a connection that the server has accepted.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// Do sends one command and waits for its reply: ErrNotConnected, a *protocol.Error,
// or ctx's error.
func (c *Client) Do(ctx context.Context, cmd protocol.Command, in, out any) error {
	c.mu.Lock()
	cn := c.conn
	c.mu.Unlock()
	if cn == nil {
		return ErrNotConnected
	}
	return cn.call(ctx, cmd, in, out)
}

// Read says that this user has read a conversation up to seq.
func (c *Client) Read(ctx context.Context, conv im.ConversationID, seq im.Seq) error {
	return c.Do(ctx, protocol.CmdRead, protocol.Receipt{ConversationID: conv, Seq: seq}, nil)
}

// Ack says that this device has received a conversation up to seq; only needed with
// ManualAck.
func (c *Client) Ack(ctx context.Context, conv im.ConversationID, seq im.Seq) error {
	return c.Do(ctx, protocol.CmdAck, protocol.Receipt{ConversationID: conv, Seq: seq}, nil)
}

// History pulls one page.
func (c *Client) History(ctx context.Context, q protocol.History) (p protocol.Page, err error) {
	return p, c.Do(ctx, protocol.CmdHistory, q, &p)
}
