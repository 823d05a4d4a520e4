package connector

import (
	"bytes"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
)

// deafWire is a connection's other side that nothing reaches.
type deafWire struct{}

func (deafWire) wake(*conn)       {}
func (deafWire) reconsider(*conn) {}
func (deafWire) finish(*conn)     {}
func (deafWire) cut(*conn)        {}

// Whatever comes for a handshake, and however it is cut: one answer, which is HTTP, the
// same as for the whole; and nothing that a limit forbids is let in.
func FuzzHandshake(f *testing.F) {
	for _, change := range []string{
		"", "Origin: https://chat.example\r\n", "Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://127.0.0.1\r\nOrigin: x\r\n", "Host: evil.example\r\n",
		"Sec-WebSocket-Protocol: x, curlew.v1.json\r\n", "Sec-WebSocket-Extensions: permessage-deflate\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
		"X-Forwarded-For: 203.0.113.9, x\r\n", "nonsense\r\n", ": x\r\n", " folded: x\r\n", strings.Repeat("X: y\r\n", 64), "X: " + strings.Repeat("x", 9000) + "\r\n",
	} {
		f.Add([]byte(request+change+"\r\n"), 40)
	}
	f.Add([]byte("GET /v1/ws?token=x HTTP/1.1\r\nHost: x\r\n\r\n"), 1)
	f.Add([]byte("POST /v1/ws HTTP/1.0\r\n\r\n"), 1)
	cfg := unlimited()
	cfg.AllowedOrigins, cfg.TrustedProxies = []string{"https://chat.example"}, []string{"192.0.2.0/24"}
	dir := newDirectory()
	s, err := New(cfg, "n1", &echo{}, dir, dir, dir, dir, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		f.Fatal(err)
	}
	defer s.poller.stop()
	shake := func(parts ...[]byte) (answer, rest string) {
		c := s.accept(deafWire{}, "192.0.2.1")
		for _, p := range parts {
			if !c.shaken && !c.deaf.Load() {
				rest = string(c.shake(bytes.Clone(p)))
			} else {
				rest += string(p) // frames, or what is not read
			}
		}
		if c.box != nil {
			for _, frame := range c.box.frames {
				answer += string(frame.bytes)
			}
		}
		if !c.shaken {
			rest = ""
		}
		c.ended()
		return answer, rest
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		answer, rest := shake(b)
		if at > 0 && at < len(b) {
			if a, r := shake(b[:at], b[at:]); a != answer || r != rest {
				t.Fatalf("cut at %d: %q and %q behind it, whole: %q and %q", at, a, r, answer, rest)
			}
		}
		if answer == "" {
			if bytes.Contains(b, headerEnd) || len(b) > maxHandshakeBytes {
				t.Fatalf("no answer to %q", b)
			}
			return
		}
		line, _, _ := strings.Cut(answer, "\r\n")
		version, status, _ := strings.Cut(line, " ")
		code, err := strconv.Atoi(status[:min(3, len(status))])
		if version != "HTTP/1.1" || err != nil || http.StatusText(code) == "" || strings.Count(answer, "\r\n\r\n") != 1 && !strings.Contains(answer, "Content-Length") {
			t.Fatalf("answered %q", answer)
		}
		if code != http.StatusSwitchingProtocols {
			return
		}
		head, _, _ := bytes.Cut(b, headerEnd)
		if len(head) > maxHandshakeBytes || bytes.Count(head, headerEnd[:2]) >= maxHandshakeLines {
			t.Fatalf("let in a handshake of %d bytes and %d lines", len(head), bytes.Count(head, headerEnd[:2]))
		}
		if strings.Contains(answer, "Sec-WebSocket-Extensions") {
			t.Fatalf("an extension is agreed on: %q", answer)
		}
		if lower := strings.ToLower(string(head)); strings.Count(lower, "\norigin:") > 1 || strings.Contains(lower, "origin: https://evil.example") {
			t.Fatalf("let in %q", head)
		}
	})
}

// Frames of any bytes over many reads: what an assembler finds is what the library finds
// in the whole, up to where it breaks the protocol.
func FuzzAssemblerAgainstTheLibrary(f *testing.F) {
	for _, s := range sessions() {
		f.Add(s.sends)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		found := &transcript{}
		a := &assembler{maxMessage: 64 << 10, maxFragments: 64}
		_, why := a.feed(nil, bytes.Clone(b), found)
		r := bytes.NewReader(b)
		want := &transcript{}
		var message []byte
		fragmented, frames := false, 0
		for {
			at := len(b) - r.Len()
			h, err := ws.ReadHeader(r)
			if err != nil || h.OpCode.IsControl() && b[at+1]&0x7f > 125 { // a short length in a long form is for data
				break
			}
			state := ws.StateServerSide
			if fragmented {
				state = state.Set(ws.StateFragmented)
			}
			if ws.CheckHeader(h, state) != nil || h.OpCode == ws.OpBinary || h.OpCode.IsData() && int64(len(message))+h.Length > 64<<10 || h.Length > int64(r.Len()) {
				break
			}
			p := make([]byte, h.Length)
			_, _ = r.Read(p)
			ws.Cipher(p, h.Mask, 0)
			if h.OpCode.IsControl() {
				if h.OpCode == ws.OpClose && checkClose(p) != open {
					break
				}
				if want.control(h.OpCode, p) != open {
					break
				}
				continue
			}
			message = append(message, p...)
			fragmented = !h.Fin
			if frames++; frames > 64 {
				break
			}
			if n, ok := validPrefix(message); !ok || h.Fin && n < len(message) { // at once, as far as it has come
				break
			}
			if h.Fin {
				want.message(message, true)
				message, frames = nil, 0
			}
		}
		if found.said != want.said {
			t.Fatalf("found %s (%v), the library %s, in %x", found.said, why, want.said, b)
		}
	})
}
