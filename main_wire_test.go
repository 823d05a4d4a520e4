package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// wire is a socket without the client's manners: it writes what it is told to, and
// keeps what it hears.
type wire struct {
	t  *testing.T
	nc net.Conn

	mu      sync.Mutex // guards what follows
	replies []answerFrame
	pushes  []answerFrame
	closed  protocol.CloseCode // 0: not yet; 1006: without a close frame
	reason  string
}

// answerFrame is a reply or a push.
type answerFrame struct {
	ID    string          `json:"id"`
	Push  protocol.Push   `json:"push"`
	Data  json.RawMessage `json:"data"`
	Error *protocol.Error `json:"error"`
}

func dialWire(t *testing.T, socket string) *wire {
	t.Helper()
	return dialWireFrom(t, "127.0.0.1", socket)
}

// dialWireFrom is dialWire from an address of the test's choice.
func dialWireFrom(t *testing.T, from, socket string) *wire {
	t.Helper()
	d := ws.Dialer{Protocols: []string{protocol.Subprotocol}, Timeout: 10 * time.Second, NetDial: dialerFrom(from).DialContext}
	nc, br, _, err := d.Dial(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, nc: nc}
	if br == nil {
		br = bufio.NewReader(nc)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.listen(br)
	}()
	t.Cleanup(func() {
		nc.Close()
		<-done
	})
	return w
}

// dialerFrom dials from an address of this machine's.
func dialerFrom(from string) *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
}

// wire connects a device of the person's by hand.
func (p *person) wire(device im.DeviceID) *wire {
	p.t.Helper()
	w := dialWire(p.t, p.socket)
	if a := w.ask("connect", protocol.CmdConnect, protocol.Connect{Token: p.issue(device).AccessToken, Device: device}); a.Error != nil {
		p.t.Fatal(a.Error)
	}
	return w
}

func (w *wire) listen(r *bufio.Reader) {
	end := func(code protocol.CloseCode, reason string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed == 0 {
			w.closed, w.reason = code, reason
		}
	}
	for {
		f, err := ws.ReadFrame(r)
		if err != nil {
			end(1006, err.Error())
			return
		}
		switch f.Header.OpCode {
		case ws.OpText:
			var a answerFrame
			if err := json.Unmarshal(f.Payload, &a); err != nil {
				w.t.Errorf("the server wrote %q: %v", f.Payload, err)
			}
			w.mu.Lock()
			if a.Push != "" {
				w.pushes = append(w.pushes, a)
			} else {
				w.replies = append(w.replies, a)
			}
			w.mu.Unlock()
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(f.Payload)
			end(protocol.CloseCode(code), reason)
		}
	}
}

// frame writes one frame, masked as a client must.
func (w *wire) frame(op ws.OpCode, payload []byte) {
	w.t.Helper()
	w.bytes(ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(op, true, payload))))
}

// bytes writes b as it is; a server that has closed is no error.
func (w *wire) bytes(b []byte) {
	_ = w.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, _ = w.nc.Write(b)
}

// ask makes a request and waits for its reply, or for the end.
func (w *wire) ask(id string, cmd protocol.Command, data any) answerFrame {
	w.t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.text(fmt.Sprintf(`{"id":%q,"cmd":%q,"data":%s}`, id, cmd, b))
}

// text writes a text and waits for an answer, or for the end. There is one question at
// a time: what cannot be read is answered without an ID.
func (w *wire) text(text string) (a answerFrame) {
	w.t.Helper()
	w.mu.Lock()
	w.replies = nil
	w.mu.Unlock()
	w.frame(ws.OpText, []byte(text))
	devtest.Eventually(w.t, "an answer", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.replies) > 0 {
			a = w.replies[0]
		}
		return len(w.replies) > 0 || w.closed != 0
	})
	return a
}

// ends waits for the end of the connection.
func (w *wire) ends() (code protocol.CloseCode, reason string) {
	w.t.Helper()
	devtest.Eventually(w.t, "the connection ends", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		code, reason = w.closed, w.reason
		return code != 0
	})
	return code, reason
}

// alive fails the test unless the connection still answers.
func (w *wire) alive(after string) {
	w.t.Helper()
	if a := w.ask("alive", protocol.CmdPing, protocol.Ping{}); a.Error != nil || a.ID == "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t.Errorf("after %s: ping is answered %v; closed %d %s", after, a.Error, w.closed, w.reason)
	}
}

// pushed is the first push of a kind that fits, once there is one.
func (w *wire) pushed(kind protocol.Push, fits func(json.RawMessage) bool) (data json.RawMessage) {
	w.t.Helper()
	devtest.Eventually(w.t, "push "+string(kind), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range w.pushes {
			if p.Push == kind && (fits == nil || fits(p.Data)) {
				data = p.Data
				return true
			}
		}
		return false
	})
	return data
}

// call is one HTTP request, as it stands, and its answer.
type call struct {
	method, path, body string
	header             map[string]string
	from               string // address; empty: any
}

type reply struct {
	status int
	header http.Header
	body   []byte
	err    protocol.Error
}

func (c call) do(t *testing.T, base, authorization string) (r reply) {
	t.Helper()
	req, err := http.NewRequest(c.method, base+c.path, bytes.NewReader([]byte(c.body)))
	if err != nil {
		t.Fatal(err)
	}
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	client := plainHTTP
	if c.from != "" {
		client = &http.Client{Timeout: plainHTTP.Timeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialerFrom(c.from).DialContext}}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	defer resp.Body.Close()
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	r.status, r.header = resp.StatusCode, resp.Header
	_ = json.Unmarshal(r.body, &r.err) // another body has no code, which the caller sees
	return r
}

var plainHTTP = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
