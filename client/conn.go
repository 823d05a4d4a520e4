package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	dialTimeout  = 10 * time.Second
	callTimeout  = 10 * time.Second // above the server's own 5 s
	writeTimeout = 10 * time.Second
	maxMessage   = 4 << 20 // bytes of one message from the server
	eventQueue   = 1024    // pushes waiting for the application
)

// codeDisconnected is this client's own answer to requests whose connection ended.
const codeDisconnected = "disconnected"

// codeUnauthenticated is the server's word that the token is no longer good.
const codeUnauthenticated = "unauthenticated"

// push is a received push, not yet decoded.
type push struct {
	kind protocol.Push
	data json.RawMessage
}

// answer is a received reply, or a push, not yet decoded.
type answer struct {
	ID    string          `json:"id"`
	Push  protocol.Push   `json:"push"`
	Data  json.RawMessage `json:"data"`
	Error *protocol.Error `json:"error"`
}

// conn is one connection: requests out, replies to their callers, pushes to a queue.
type conn struct {
	nc     net.Conn
	r      *bufio.Reader
	events chan push
	missed chan struct{} // capacity 1: a push was dropped, look for it

	wmu sync.Mutex // guards writing

	mu      sync.Mutex // guards what follows
	nextID  uint64
	waiting map[string]func(answer)
	err     error // why it ended
	ended   bool
}

func dial(ctx context.Context, url string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := ws.Dialer{Protocols: []string{protocol.Subprotocol}, Timeout: dialTimeout}
	nc, br, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", url, err)
	}
	if br == nil {
		br = bufio.NewReaderSize(nc, 4096)
	}
	return &conn{
		nc: nc, r: br,
		events:  make(chan push, eventQueue),
		missed:  make(chan struct{}, 1),
		waiting: make(map[string]func(answer)),
	}, nil
}

// close ends the connection; callers still waiting get its error.
func (cn *conn) close() { cn.end(ErrClosed) }

func (cn *conn) end(err error) {
	cn.mu.Lock()
	if cn.ended {
		cn.mu.Unlock()
		return
	}
	cn.ended, cn.err = true, err
	waiting := cn.waiting
	cn.waiting = nil
	cn.mu.Unlock()
	cn.nc.Close()
	for _, done := range waiting {
		done(answer{Error: &protocol.Error{Code: codeDisconnected, Message: err.Error(), Outcome: im.OutcomeUnknown, Retryable: true}})
	}
}

// cause prefers the reason the connection ended to fallback.
func (cn *conn) cause(fallback error) error {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err != nil {
		return cn.err
	}
	return fallback
}

// call makes one request and waits for its reply.
func (cn *conn) call(ctx context.Context, cmd protocol.Command, in, out any) error {
	done := make(chan answer, 1)
	if err := cn.request(cmd, in, func(a answer) { done <- a }); err != nil {
		return err
	}
	t := time.NewTimer(callTimeout)
	defer t.Stop()
	select {
	case a := <-done:
		if a.Error != nil {
			return a.Error
		}
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(a.Data, out); err != nil {
			return fmt.Errorf("reply to %s: %w", cmd, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		err := fmt.Errorf("no reply to %s within %s", cmd, callTimeout)
		cn.end(err) // a server that does not answer is as good as gone
		return err
	}
}

// request writes one request; done is called once, from the reading goroutine.
func (cn *conn) request(cmd protocol.Command, in any, done func(answer)) error {
	data, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode %s: %w", cmd, err)
	}
	cn.mu.Lock()
	if cn.ended {
		cn.mu.Unlock()
		return cn.cause(ErrNotConnected)
	}
	cn.nextID++
	id := strconv.FormatUint(cn.nextID, 10)
	cn.waiting[id] = done
	cn.mu.Unlock()
	frame, err := json.Marshal(protocol.Request{ID: id, Cmd: cmd, Data: data})
	if err != nil {
		return fmt.Errorf("encode %s: %w", cmd, err)
	}
	if err := cn.write(ws.NewTextFrame(frame)); err != nil {
		cn.end(fmt.Errorf("write %s: %w", cmd, err)) // done is called by end
	}
	return nil
}

func (cn *conn) write(f ws.Frame) error {
	b, err := ws.CompileFrame(ws.MaskFrameInPlace(f))
	if err != nil {
		return err
	}
	cn.wmu.Lock()
	defer cn.wmu.Unlock()
	if err := cn.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = cn.nc.Write(b)
	return err
}

// read takes frames until the connection ends. The server fragments nothing.
func (cn *conn) read() {
	for {
		h, err := ws.ReadHeader(cn.r)
		if err != nil {
			cn.end(fmt.Errorf("read: %w", err))
			return
		}
		if h.Length > maxMessage || h.Masked || !h.Fin {
			cn.end(errors.New("read: a frame this client cannot take"))
			return
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(cn.r, payload); err != nil {
			cn.end(fmt.Errorf("read: %w", err))
			return
		}
		switch h.OpCode {
		case ws.OpText:
			if err := cn.take(payload); err != nil {
				cn.end(err)
				return
			}
		case ws.OpPing:
			if err := cn.write(ws.NewPongFrame(payload)); err != nil {
				cn.end(fmt.Errorf("pong: %w", err))
				return
			}
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(payload)
			// The echo is a courtesy: the peer may be gone already.
			_ = cn.write(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "")))
			cn.end(&CloseError{Code: protocol.CloseCode(code), Reason: reason})
			return
		}
	}
}

// take hands a reply to its caller and a push to the queue.
func (cn *conn) take(payload []byte) error {
	var a answer
	if err := json.Unmarshal(payload, &a); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if a.Push != "" {
		if !cn.queue(push{a.Push, a.Data}) { // the application is slow: pull it later [C4]
			select {
			case cn.missed <- struct{}{}:
			default:
			}
		}
		return nil
	}
	cn.mu.Lock()
	done := cn.waiting[a.ID]
	delete(cn.waiting, a.ID)
	cn.mu.Unlock()
	if done != nil {
		done(a)
	}
	return nil
}

// queue hands p to the goroutine of serve; false where that is too far behind.
func (cn *conn) queue(p push) bool {
	select {
	case cn.events <- p:
		return true
	default:
		return false
	}
}
