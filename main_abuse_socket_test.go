package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	bigendian "encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// dialRaw is a TCP connection, of whose bytes the test is master.
func dialRaw(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	nc, err := dialerFrom(from).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { nc.Close() })
	return nc
}

// firstLine is how the engine's HTTP face answers bytes.
func firstLine(t *testing.T, e *engine, request string) string {
	t.Helper()
	nc := dialRaw(t, "127.0.0.1", strings.TrimPrefix(e.http, "http://"))
	go func() { _, _ = io.WriteString(nc, request) }() // may be cut off
	line, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil {
		t.Errorf("no answer: %v", err)
	}
	return line
}

// openRecord opens the engine's record behind its back.
func openRecord(t *testing.T, e *engine) *sql.DB {
	t.Helper()
	driver, at := "sqlite", e.cfg.Storage.Path+"?_pragma=busy_timeout(5000)"
	if e.cfg.Storage.DSN != "" {
		driver, at = "mysql", e.cfg.Storage.DSN
	}
	db, err := sql.Open(driver, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// record changes one row: what an operator's hand does.
func record(t *testing.T, e *engine) func(statement string, args ...any) {
	t.Helper()
	db := openRecord(t, e)
	return func(statement string, args ...any) {
		t.Helper()
		r, err := db.ExecContext(t.Context(), statement, args...)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.RowsAffected(); n != 1 || err != nil {
			t.Fatalf("%d rows (%v) by %s", n, err, statement)
		}
	}
}

// recorded is one value of the record.
func recorded[T any](t *testing.T, e *engine, query string, args ...any) (v T) {
	t.Helper()
	if err := openRecord(t, e).QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// handshake is a good request without its last empty line.
func handshake(host string) string {
	return "GET /v1/ws HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + protocol.Subprotocol + "\r\n"
}

// masked is a client's frame.
func masked(op ws.OpCode, fin bool, payload []byte) []byte {
	return ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(op, fin, payload)))
}

// One valid session – handshake, connect, a send in two fragments with a ping between
// them, a ping of each kind, a close – cut in two at each of its bytes, with a pause: it is the
// same session, and its message is there once.
func TestAbuse_SessionCutAnywhere(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	const writers = 24
	names := make([]string, writers+1)
	for i := range names {
		names[i] = fmt.Sprintf("cutter%02d", i)
	}
	people := enrol(t, e.http, e.socket, names...)
	bob := people[writers]
	token := make([]string, writers)
	for i := range token {
		token[i] = people[i].issue("phone").AccessToken
	}
	session := func(i, n int) []byte {
		send := fmt.Appendf(nil, `{"id":"2","cmd":"send","data":{"client_msg_id":"cut-at-%05d","to":{"user_id":"%s"},"content":{"text":"cut κόσμε %d"}}}`, n, bob.id, n)
		return bytes.Join([][]byte{
			[]byte(handshake(e.connectorAddr()) + "\r\n"),
			masked(ws.OpText, true, fmt.Appendf(nil, `{"id":"1","cmd":"connect","data":{"token":%q,"device":"phone"}}`, token[i])),
			masked(ws.OpText, false, send[:len(send)/2]), masked(ws.OpPing, true, []byte("between")), masked(ws.OpContinuation, true, send[len(send)/2:]),
			masked(ws.OpText, true, []byte(`{"id":"3","cmd":"ping","data":{}}`)), masked(ws.OpPing, true, nil),
			masked(ws.OpClose, true, []byte{0x03, 0xE8}),
		}, nil)
	}
	length := len(session(0, 0))
	var sessions sync.WaitGroup
	for i := range writers {
		sessions.Go(func() {
			for at := 1 + i; at < length; at += writers {
				b := session(i, at)
				nc := dialRaw(t, address(at), e.connectorAddr())
				_, _ = nc.Write(b[:at])
				time.Sleep(5 * time.Millisecond) // the cut
				_, _ = nc.Write(b[at:])
				heard, err := hear(nc)
				nc.Close()
				if want := "101 reply:1 reply:2 reply:3 pong:between pong: close:1000"; err != nil || heard != want {
					t.Errorf("cut at %d: %s (%v), want %s", at, heard, err, want)
					return
				}
			}
		})
	}
	sessions.Wait()
	for i := range writers {
		conv := im.DirectConversation(people[i].id, bob.id)
		want := (length - 1 - i + writers - 1) / writers
		devtest.Eventually(t, names[i]+"'s messages are stored", func() bool { return len(bob.history(conv)) >= want })
		if got := len(bob.history(conv)); got != want {
			t.Errorf("%d of %d messages of %s", got, want, names[i])
		}
	}
	t.Logf("%d cuts", length-1)
}

// hear reads a server's half to its end: replies in the order of their IDs, since what
// waits for the log is answered later than what does not; pongs in their own.
func hear(nc net.Conn) (string, error) {
	r := bufio.NewReader(nc)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", err
	}
	var replies []string
	var pongs, end string
	all := func() string {
		slices.Sort(replies)
		return fmt.Sprint(resp.StatusCode, strings.Join(replies, ""), pongs, end)
	}
	for {
		f, err := ws.ReadFrame(r)
		if err == io.EOF {
			return all(), nil
		}
		if err != nil {
			return all(), err
		}
		switch f.Header.OpCode {
		case ws.OpText:
			if rest, reply := bytes.CutPrefix(f.Payload, []byte(`{"id":"`)); reply { // else a push
				if !bytes.Contains(rest, []byte(`"error"`)) {
					rest = rest[:1]
				}
				replies = append(replies, " reply:"+string(rest))
			}
		case ws.OpPong:
			pongs += " pong:" + string(f.Payload)
		case ws.OpClose:
			code, _ := ws.ParseCloseFrameData(f.Payload)
			end += fmt.Sprint(" close:", code)
		}
	}
}

// brokenFrames are the rows of 4.1 that one write shows: what comes and how it ends.
func brokenFrames() map[string]struct {
	bytes []byte
	code  protocol.CloseCode
} {
	text := []byte(`{"id":"1","cmd":"ping","data":{}}`)
	frame := func(b0, b1 byte, rest ...byte) []byte { return append([]byte{b0, b1}, rest...) }
	declared := func(n uint64) []byte {
		return append(bigendian.BigEndian.AppendUint64([]byte{0x81, 0xFF}, n), 1, 2, 3, 4)
	}
	closing := func(code uint16, reason string) []byte {
		return masked(ws.OpClose, true, append(bigendian.BigEndian.AppendUint16(nil, code), reason...))
	}
	fragments := masked(ws.OpText, false, make([]byte, 16))
	for range 9_999 {
		fragments = append(fragments, masked(ws.OpContinuation, false, bytes.Repeat([]byte("x"), 16))...)
	}
	type row = struct {
		bytes []byte
		code  protocol.CloseCode
	}
	all := map[string]row{
		"unmasked":                         {ws.MustCompileFrame(ws.NewTextFrame(text)), protocol.CloseProtocol},
		"RSV1":                             {frame(0xC1, 0x80, 0, 0, 0, 0), protocol.CloseProtocol},
		"RSV2":                             {frame(0xA1, 0x80, 0, 0, 0, 0), protocol.CloseProtocol},
		"RSV3":                             {frame(0x91, 0x80, 0, 0, 0, 0), protocol.CloseProtocol},
		"continuation of nothing":          {masked(ws.OpContinuation, true, text), protocol.CloseProtocol},
		"a text inside a fragmented one":   {append(masked(ws.OpText, false, text[:5]), masked(ws.OpText, true, text)...), protocol.CloseProtocol},
		"ping of 126":                      {masked(ws.OpPing, true, make([]byte, 126)), protocol.CloseProtocol},
		"ping in fragments":                {masked(ws.OpPing, false, nil), protocol.CloseProtocol},
		"close in fragments":               {masked(ws.OpClose, false, nil), protocol.CloseProtocol},
		"length with its top bit":          {declared(1 << 63), protocol.CloseProtocol},
		"length 2^31":                      {declared(1 << 31), protocol.CloseTooBig},
		"length 2^40":                      {declared(1 << 40), protocol.CloseTooBig},
		"length 2^62":                      {declared(1 << 62), protocol.CloseTooBig},
		"a byte above 64 KiB":              {masked(ws.OpText, true, make([]byte, 64<<10+1)), protocol.CloseTooBig},
		"10,000 fragments of 16 bytes":     {fragments, protocol.CloseTooBig},
		"binary":                           {masked(ws.OpBinary, true, text), protocol.CloseUnsupported},
		"close with one byte":              {masked(ws.OpClose, true, []byte{3}), protocol.CloseProtocol},
		"close with a reason not in UTF-8": {closing(1000, "\xce\xba\xed\xa0\x80"), protocol.CloseInvalidUTF8},
		"a code point cut by the end":      {append(masked(ws.OpText, false, []byte("{\"id\":\"\xce")), masked(ws.OpContinuation, true, nil)...), protocol.CloseInvalidUTF8},
	}
	for _, op := range []ws.OpCode{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all[fmt.Sprint("opcode ", op)] = row{frame(0x80|byte(op), 0x80, 0, 0, 0, 0), protocol.CloseProtocol}
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535} {
		all[fmt.Sprint("close ", code)] = row{closing(code, ""), protocol.CloseProtocol}
	}
	for name, s := range map[string]string{"invalid": "\xff", "overlong": "\xc0\xaf", "overlong NUL": "\xe0\x80\x80", "surrogate": "\xed\xa0\x80",
		"a pair of surrogates": "\xed\xa0\xbd\xed\xb8\x80", "beyond U+10FFFF": "\xf4\x90\x80\x80", "cut at the end": "\xf0\x9f\x98"} {
		all["UTF-8: "+name] = row{masked(ws.OpText, true, []byte(`{"id":"`+s)), protocol.CloseInvalidUTF8}
	}
	return all
}

func TestAbuse_BrokenFramesAreClosed(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	ada, _, _ := e.pair(t)
	stays := ada.wire("stays")
	token := ada.issue("phone").AccessToken
	i := 0
	for name, c := range brokenFrames() {
		for _, first := range []bool{true, false} { // before anybody is known, and after
			i++
			w := dialWireFrom(t, address(i), e.socket)
			if !first {
				if a := w.ask("1", protocol.CmdConnect, protocol.Connect{Token: token, Device: "phone"}); a.Error != nil {
					t.Fatalf("%s: %v", name, a.Error)
				}
			}
			w.bytes(c.bytes)
			if code, reason := w.ends(); code != c.code {
				t.Errorf("%s, first %v: closed with %d %s, want %d", name, first, code, reason, c.code)
			}
		}
	}
	stays.alive("all of it")
	t.Logf("%d rows, each before and after connect", i/2)
}

// handshakes are requests and the status each gets.
func handshakes(host, token string) map[string]struct {
	request string
	status  int
} {
	type row = struct {
		request string
		status  int
	}
	good := handshake(host)
	with := func(header string) string { return good + header + "\r\n\r\n" }
	at := func(target string) string {
		return strings.Replace(good, "/v1/ws", target, 1) + "\r\n"
	}
	return map[string]row{
		"no Origin":                    {good + "\r\n", 101},
		"no Origin, and cookies":       {with("Cookie: token=" + token), 101}, // which are nothing: see below
		"of the same host":             {with("Origin: http://" + host), 101},
		"foreign Origin":               {with("Origin: https://evil.example"), 403},
		"null Origin":                  {with("Origin: null"), 403},
		"look-alike suffix":            {with("Origin: http://127.0.0.1.evil.example"), 403},
		"look-alike prefix":            {with("Origin: http://evil127.0.0.1"), 403},
		"Origin with user":             {with("Origin: http://127.0.0.1@evil.example"), 403},
		"Origin file":                  {with("Origin: file://127.0.0.1"), 403},
		"Origin twice":                 {with("Origin: http://" + host + "\r\nOrigin: https://evil.example"), 403},
		"Origin twice, foreign first":  {with("Origin: https://evil.example\r\nOrigin: http://" + host), 403},
		"Host twice":                   {with("Host: evil.example\r\nOrigin: http://evil.example"), 400},
		"token in the query":           {at("/v1/ws?token=" + token), 400},
		"access_token":                 {at("/v1/ws?x=1&access_token=" + token), 400},
		"token, escaped":               {at("/v1/ws?%74oken=" + token), 400},
		"jwt":                          {at("/v1/ws?JWT=" + token), 400},
		"authorization":                {at("/v1/ws?Authorization=Bearer%20" + token), 400},
		"a token by another name":      {at("/v1/ws?t=" + token), 400},
		"a token for a path":           {at("/v1/ws/" + token), 404},
		"compression":                  {with("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), 101},
		"an endless header line":       {good + "X: " + strings.Repeat("x", 64<<10), 431},
		"10,000 headers":               {good + strings.Repeat("X: y\r\n", 10_000) + "\r\n", 431},
		"65 headers":                   {good + strings.Repeat("X: y\r\n", 60) + "\r\n", 431},
		"a request line without end":   {"GET /" + strings.Repeat("x", 64<<10), 431},
		"another path":                 {at("/v1/ws/../admin"), 404},
		"X-Forwarded-For for somebody": {with("X-Forwarded-For: 203.0.113.9"), 101},
	}
}

// Of a handshake nothing is believed that need not be, and no credential in its address is
// taken or logged.
func TestAbuse_HandshakesAreJudged(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, shipped)
	ada, _, _ := e.pair(t)
	token := ada.issue("phone").AccessToken
	i := 0
	for name, c := range handshakes(e.connectorAddr(), token) {
		i++
		nc := dialRaw(t, address(i), e.connectorAddr())
		go func() { _, _ = io.WriteString(nc, c.request) }() // may be cut off
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", name, resp.Status, c.status)
		}
		if ext := resp.Header.Get("Sec-WebSocket-Extensions"); ext != "" {
			t.Errorf("%s: %s is agreed on", name, ext)
		}
		if resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: a cookie is set", name)
		}
		if name == "no Origin, and cookies" { // the first message decides
			_, _ = nc.Write(masked(ws.OpText, true, []byte(`{"id":"1","cmd":"sync","data":{}}`)))
			b, _ := io.ReadAll(nc)
			if !bytes.Contains(b, []byte(`"unauthenticated"`)) {
				t.Errorf("%s: %q", name, b)
			}
		}
		nc.Close()
	}
	if s.Logged(token) || s.Logged(strings.Split(token, ".")[2]) {
		t.Error("a token is in the log")
	}
}

// The network between a client and the connector goes silent, both ways, and neither
// is told. The user is offline to those who watch, and what comes meanwhile waits.
func TestAbuse_HalfOpenIsOffline(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, shipped, func(c *configs.Config) {
		if !abuse() { // the same in small: the arithmetic is of heartbeats
			c.Logic.Heartbeat, c.Connector.Heartbeat = 2*time.Second, 2*time.Second
		}
	})
	ada, bob, conv := e.pair(t)
	acquainted(t, ada, bob)
	between := devtest.NewProxy(t, e.connectorAddr())
	t.Cleanup(between.Resume)
	var hers news
	phone := ada.connect("phone", hers.hear)
	phone.watch(bob)
	there := *bob
	there.socket = "ws://" + between.Addr() + "/v1/ws"
	his := there.connect("phone")
	hers.isTold(t, bob, true)
	cut := time.Now()
	between.Pause()
	hers.isTold(t, bob, false)
	t.Logf("offline %.1f s after the cut, at a heartbeat of %s", time.Since(cut).Seconds(), e.cfg.Connector.Heartbeat)
	phone.say(bob, "said meanwhile")
	between.Resume()
	devtest.Eventually(t, "he is back and has it", func() bool { return len(his.texts(conv)) > 0 })
	hers.isTold(t, bob, true)
	last := his.texts(conv)
	if last[len(last)-1] != "said meanwhile" {
		t.Errorf("he was shown %v", last)
	}
}
