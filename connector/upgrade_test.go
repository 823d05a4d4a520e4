package connector

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

func TestUpgrade(t *testing.T) {
	cfg := unlimited()
	cfg.AllowedOrigins = []string{"https://chat.example"}
	b := start(t, byDefault, cfg)
	for _, tc := range []struct {
		name, change, to string // of the good request
		status           int
	}{
		{"plain", "", "", 101},
		{"subprotocol", "\r\nUpgrade:", "\r\nSec-WebSocket-Protocol: curlew.v1.json\r\nUpgrade:", 101},
		{"subprotocol among others", "\r\nUpgrade:", "\r\nSec-WebSocket-Protocol: x, curlew.v1.json\r\nUpgrade:", 101},
		{"another subprotocol", "\r\nUpgrade:", "\r\nSec-WebSocket-Protocol: curlew.v9.json\r\nUpgrade:", 400},
		{"compression is not taken", "\r\nUpgrade:", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\nUpgrade:", 101},
		{"another path", "/v1/ws", "/v2/ws", 404},
		{"an innocent query", "/v1/ws", "/v1/ws?v=1", 101},
		{"a token in the query", "/v1/ws", "/v1/ws?token=eyJ", 400},
		{"a token in the query, escaped", "/v1/ws", "/v1/ws?a=b&access%5Ftoken=eyJ", 400},
		{"a jwt in the query", "/v1/ws", "/v1/ws?JWT=eyJ", 400},
		{"POST", "GET", "POST", 405},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 505},
		{"nonsense", "GET /v1/ws HTTP/1.1", "hello", 400},
		{"no host", "Host: 127.0.0.1\r\n", "", 400},
		{"no upgrade", "Upgrade: websocket\r\n", "", 400},
		{"no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400},
		{"a short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400},
		{"another version", "Version: 13", "Version: 8", 426},
		{"a header without a colon", "\r\nUpgrade:", "\r\nnonsense\r\nUpgrade:", 400},
		{"a body", "\r\nUpgrade:", "\r\nContent-Length: 5\r\nUpgrade:", 400},
		{"a chunked body", "\r\nUpgrade:", "\r\nTransfer-Encoding: chunked\r\nUpgrade:", 400},
		{"an origin of the list", "\r\nUpgrade:", "\r\nOrigin: https://chat.example\r\nUpgrade:", 101},
		{"the same host, another port", "\r\nUpgrade:", "\r\nOrigin: http://127.0.0.1:8080\r\nUpgrade:", 101},
		{"a foreign origin", "\r\nUpgrade:", "\r\nOrigin: https://evil.example\r\nUpgrade:", 403},
		{"a null origin", "\r\nUpgrade:", "\r\nOrigin: null\r\nUpgrade:", 403},
		{"a look-alike suffix", "\r\nUpgrade:", "\r\nOrigin: https://chat.example.evil.example\r\nUpgrade:", 403},
		{"a look-alike prefix", "\r\nUpgrade:", "\r\nOrigin: https://evilchat.example\r\nUpgrade:", 403},
		{"an origin of another scheme", "\r\nUpgrade:", "\r\nOrigin: http://chat.example\r\nUpgrade:", 403},
		{"a foreign origin before one of the list", "\r\nUpgrade:", "\r\nOrigin: https://evil.example\r\nOrigin: https://chat.example\r\nUpgrade:", 403},
		{"a host twice", "\r\nUpgrade:", "\r\nHost: evil.example\r\nUpgrade:", 400},
		{"a token by another name", "/v1/ws", "/v1/ws?t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2ln", 400},
		{"an endless header line", "\r\nUpgrade:", "\r\nX: " + strings.Repeat("x", 9000) + "\r\nUpgrade:", 431},
		{"64 headers", "\r\nUpgrade:", strings.Repeat("\r\nX: y", 59) + "\r\nUpgrade:", 101},
		{"65 headers", "\r\nUpgrade:", strings.Repeat("\r\nX: y", 60) + "\r\nUpgrade:", 431},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := b.in(t).dial()
			c.write([]byte(strings.Replace(request, tc.change, tc.to, 1) + "\r\n"))
			r := c.response()
			if r.StatusCode != tc.status {
				t.Fatalf("status %d, want %d", r.StatusCode, tc.status)
			}
			if r.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Error("an extension was accepted")
			}
			want := ""
			if tc.status == 101 && strings.Contains(tc.to, "curlew.v1") {
				want = protocol.Subprotocol
			}
			if got := r.Header.Get("Sec-WebSocket-Protocol"); got != want {
				t.Errorf("subprotocol %q, want %q", got, want)
			}
			if tc.status != 101 {
				if _, err := c.br.ReadByte(); err == nil {
					// a body; the end comes behind it
					for err == nil {
						_, err = c.br.ReadByte()
					}
				}
			}
		})
	}
}

func TestUpgrade_FramesGluedToTheHandshakeAreHandled(t *testing.T) {
	for _, k := range []kind{byDefault, goroutines} {
		b := start(t, k, unlimited())
		glued := join2([]byte(request+"\r\n"), masked(ws.OpText, true, []byte("connect 1 d")), masked(ws.OpText, true, []byte("hi")))
		for at := 1; at <= len(glued); at++ { // whole at last
			c := b.dial()
			before := b.received()
			c.write(glued[:at])
			eventually(t, "the first part is read", func() bool { return b.received() >= before+at })
			c.write(glued[at:])
			if r := c.response(); r.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("cut at %d: %s", at, r.Status)
			}
			c.expect("connected")
			c.expect("=hi")
			c.nc.Close()
		}
	}
}

func TestUpgrade_SlowHandshakeIsEnded(t *testing.T) {
	cfg := unlimited()
	cfg.HandshakeTimeout = 500 * time.Millisecond
	b := start(t, byDefault, cfg)
	c := b.dial()
	c.write([]byte(request))
	if r := c.response(); r.StatusCode != http.StatusRequestTimeout {
		t.Fatal(r.Status)
	}
	eventually(t, "the connection is gone", func() bool { return b.live.Load() == 0 })
}

func TestClientIP(t *testing.T) {
	cfg := unlimited()
	cfg.TrustedProxies = []string{"127.0.0.1", "10.0.0.0/8"}
	s := start(t, byDefault, cfg).Server
	for _, tc := range []struct{ name, peer, forwarded, want string }{
		{"nobody in between", "192.0.2.1", "", "192.0.2.1"},
		{"a peer that is no proxy is not believed", "192.0.2.1", ",198.51.100.7", "192.0.2.1"},
		{"a proxy is", "127.0.0.1", ",198.51.100.7", "198.51.100.7"},
		{"proxies in a row", "127.0.0.1", ",198.51.100.7, 10.1.2.3", "198.51.100.7"},
		{"what the client made up is not", "127.0.0.1", ",203.0.113.9, 198.51.100.7", "198.51.100.7"},
		{"nonsense ends it", "127.0.0.1", ",203.0.113.9, x, 10.1.2.3", "10.1.2.3"},
		{"a proxy that says nothing", "127.0.0.1", "", "127.0.0.1"},
		{"mapped IPv4", "127.0.0.1", ",::ffff:198.51.100.7", "198.51.100.7"},
	} {
		if got := s.clientIP(tc.peer, tc.forwarded); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// A handshake that ends takes its place with it, and who never finished one is forgotten.
func TestAdmission_HandshakesUnderWayCountAndLeaveNothing(t *testing.T) {
	a := newAdmission(&Config{HandshakesPerSecond: -1, ConnectsPerIP: -1, ConnectionsPerIP: 2})
	if !a.arrive("192.0.2.1") || !a.arrive("192.0.2.1") || a.arrive("192.0.2.1") {
		t.Error("of three one has no place")
	}
	a.shook("192.0.2.1")
	if !a.arrive("192.0.2.1") {
		t.Error("the place of one that has ended is not free")
	}
	a.shook("192.0.2.1")
	a.shook("192.0.2.1")
	if len(a.byIP) != 0 {
		t.Errorf("%d addresses are kept", len(a.byIP))
	}
}

func TestAdmission(t *testing.T) {
	now := time.Unix(1, 0)
	cfg := Config{HandshakesPerSecond: 5, ConnectsPerIP: 3, ConnectionsPerIP: 4}
	a := newAdmission(&cfg)
	admit := func(ip string, want bool) {
		t.Helper()
		if ok, wait := a.admit(ip, now); ok != want || ok == (wait > 0) {
			t.Fatalf("%s admitted: %v after %s, want %v", ip, ok, wait, want)
		}
	}
	for range 3 {
		admit("192.0.2.1", true)
	}
	admit("192.0.2.1", false) // its rate
	admit("2001:db8::1", true)
	admit("2001:db8::2", true)
	admit("2001:db8:0:1::1", false) // everybody's rate
	now = now.Add(time.Second)
	admit("192.0.2.1", true)
	admit("192.0.2.1", false) // its four
	a.release("192.0.2.1")
	admit("192.0.2.1", true)
	admit("2001:db8::3", true)
	admit("2001:db8::4", true)
	now = now.Add(time.Second)
	admit("2001:db8::5", false) // the four of the /64
	for range 4 {
		a.release("192.0.2.1")
		a.release("2001:db8::1")
	}
	now = now.Add(3 * time.Second)
	admit("192.0.2.7", true)
	if len(a.byIP) != 1 {
		t.Errorf("%d addresses are remembered, want 1", len(a.byIP))
	}
}

// Who connects and says nothing has a place of its address's share, and gives it back.
func TestAdmission_CountsWhoNeverShakesHands(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		cfg := unlimited()
		cfg.ConnectionsPerIP = 3
		b := start(t, k, cfg)
		silent := []*client{b.dial(), b.dial()}
		silent[1].write([]byte(request))
		eventually(t, "both are in", func() bool { return b.live.Load() == 2 })
		third := b.connected(1, "d")
		c := b.dial()
		if r := c.response(); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Fatal(r.Status, r.Header)
		}
		for _, s := range silent {
			s.nc.Close()
		}
		third.nc.Close()
		eventually(t, "they are gone", func() bool { return b.live.Load() == 0 })
		for user := range 3 {
			b.connected(user, "d")
		}
		b.admission.mu.Lock()
		defer b.admission.mu.Unlock()
		for _, o := range b.admission.byIP {
			if o.open != 3 || o.shaking != 0 {
				t.Errorf("counted %+v", o)
			}
		}
	})
}

func TestAdmission_SurplusIsTold503(t *testing.T) {
	cfg := unlimited()
	cfg.ConnectionsPerIP = 2
	b := start(t, byDefault, cfg)
	first := b.connected(1, "d")
	b.connected(2, "d")
	c := b.dial()
	c.write([]byte(request + "\r\n"))
	r := c.response()
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Fatal(r.Status, r.Header)
	}
	first.nc.Close()
	eventually(t, "there is room again", func() bool {
		c := b.dial()
		defer c.nc.Close()
		c.write([]byte(request + "\r\n"))
		return c.response().StatusCode == http.StatusSwitchingProtocols
	})
}
