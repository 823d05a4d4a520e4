package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

// wire is one WebSocket connection. It has no manners: it tries nothing again and hides
// nothing of what comes.
type wire struct {
	id int // of all connections of all runs
	nc net.Conn
	r  *bufio.Reader

	write sync.Mutex // guards writing, and nth
	nth   int

	mu      sync.Mutex // guards what follows
	nextID  uint64
	waiting map[string]chan answer
	ended   bool
}

// answer is a reply or a push, as it came.
type answer struct {
	ID    string          `json:"id"`
	Push  protocol.Push   `json:"push"`
	Data  json.RawMessage `json:"data"`
	Error *protocol.Error `json:"error"`
}

// errCut is what requests get whose connection ended, or that nobody answered.
var errCut = errors.New("connection ended without an answer")

// patience is how long a request waits: above the server's own 5 s.
const patience = 8 * time.Second

var wires atomic.Int64

func dial(ctx context.Context, url string) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := ws.Dialer{Protocols: []string{protocol.Subprotocol}, Timeout: patience}
	nc, r, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	if r == nil {
		r = bufio.NewReader(nc)
	}
	return &wire{id: int(wires.Add(1)), nc: nc, r: r, waiting: make(map[string]chan answer)}, nil
}

// read hands pushes to each and replies to their askers, until the connection ends.
func (w *wire) read(push func(answer)) {
	defer w.end()
	for {
		f, err := ws.ReadFrame(w.r)
		if err != nil || f.Header.OpCode == ws.OpClose {
			return
		}
		if f.Header.OpCode == ws.OpPing {
			_ = w.frame(ws.NewPongFrame(f.Payload)) // the next read tells
		}
		if f.Header.OpCode != ws.OpText {
			continue
		}
		var a answer
		if json.Unmarshal(f.Payload, &a) != nil {
			return
		}
		if a.Push != "" {
			push(a)
			continue
		}
		w.mu.Lock()
		asker := w.waiting[a.ID]
		delete(w.waiting, a.ID)
		w.mu.Unlock()
		if asker != nil {
			asker <- a
		}
	}
}

func (w *wire) end() {
	w.mu.Lock()
	waiting := w.waiting
	w.waiting, w.ended = nil, true
	w.mu.Unlock()
	w.nc.Close()
	for _, asker := range waiting {
		close(asker)
	}
}

func (w *wire) frame(f ws.Frame) error {
	_ = w.nc.SetWriteDeadline(time.Now().Add(patience))
	return ws.WriteFrame(w.nc, ws.MaskFrame(f))
}

// ask makes a request and waits for its reply; nth is its place among those written.
// The error is errCut, ctx's, or the server's.
func (w *wire) ask(ctx context.Context, cmd protocol.Command, in, out any) (nth int, err error) {
	data, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return 0, errCut
	}
	w.nextID++
	id, asker := strconv.FormatUint(w.nextID, 10), make(chan answer, 1)
	w.waiting[id] = asker
	w.mu.Unlock()
	b, err := json.Marshal(protocol.Request{ID: id, Cmd: cmd, Data: data})
	if err != nil {
		return 0, err
	}
	w.write.Lock()
	w.nth++
	nth = w.nth
	err = w.frame(ws.NewTextFrame(b))
	w.write.Unlock()
	if err != nil {
		w.end()
		return nth, errCut
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case a, ok := <-asker:
		switch {
		case !ok:
			return nth, errCut
		case a.Error != nil:
			return nth, a.Error
		case out == nil:
			return nth, nil
		}
		return nth, json.Unmarshal(a.Data, out)
	case <-t.C:
		return nth, errCut
	case <-ctx.Done():
		return nth, ctx.Err()
	}
}
