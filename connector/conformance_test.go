package connector

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

// session is what a client says after its handshake, and what it must hear. RFC 6455,
// section by section; the numbers of Autobahn's cases that ask the same are in the
// names.
type session struct {
	name  string
	sends []byte
	hears []heard
	close protocol.CloseCode // at the end; 0: stays open
}

type heard struct {
	op      ws.OpCode
	payload string
}

// texts are the answers of echo.
func texts(ss ...string) (hs []heard) {
	for _, s := range ss {
		hs = append(hs, heard{ws.OpText, "=" + s})
	}
	return hs
}

func pongs(ss ...string) (hs []heard) {
	for _, s := range ss {
		hs = append(hs, heard{ws.OpPong, s})
	}
	return hs
}

func closing(code int, reason string) []byte {
	return masked(ws.OpClose, true, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// raw is a frame with any first two bytes, masked with zeros.
func raw(b0, b1 byte, rest ...byte) []byte { return append([]byte{b0, b1}, rest...) }

func sessions() []session {
	text := func(s string) []byte { return masked(ws.OpText, true, []byte(s)) }
	part := func(op ws.OpCode, fin bool, s string) []byte { return masked(op, fin, []byte(s)) }
	ping := func(s string) []byte { return masked(ws.OpPing, true, []byte(s)) }
	zeros := func(b0, b1 byte) []byte { return raw(b0, b1, 0, 0, 0, 0) }
	const long = "κόσμε \U0001F600 "

	all := []session{
		// §5.2, §5.6: lengths in each of the three forms.
		{"5.6 text of each length form (1.1.1-1.1.5)", join2(text(""), text("a"), text(string(repeat("*", 125))), text(string(repeat("*", 126))), text(string(repeat("*", 127))), text(string(repeat("*", 128)))),
			texts("", "a", string(repeat("*", 125)), string(repeat("*", 126)), string(repeat("*", 127)), string(repeat("*", 128))), 0},
		{"5.2 a length may come in a longer form", raw(0x81, 0xfe, 0, 2, 0, 0, 0, 0, 'h', 'i'), texts("hi"), 0},
		{"5.6 binary is not spoken here (1.2)", part(ws.OpBinary, true, "x"), nil, protocol.CloseUnsupported},
		{"5.6 fragmented binary neither", part(ws.OpBinary, false, "x"), nil, protocol.CloseUnsupported},
		// §5.5.2, §5.5.3: pings and pongs.
		{"5.5.2 ping is answered with its payload (2.1-2.4)", join2(ping(""), ping("hello"), ping("\x00\xff\xfe"), ping(string(repeat("\xfe", 125)))),
			pongs("", "hello", "\x00\xff\xfe", string(repeat("\xfe", 125))), 0},
		{"5.5 ping over 125 bytes (2.5)", ping(string(repeat("x", 126))), nil, protocol.CloseProtocol},
		{"5.5.3 unasked pongs are passed over (2.7-2.9)", join2(part(ws.OpPong, true, ""), part(ws.OpPong, true, "x"), ping("p")), pongs("p"), 0},
		{"5.5.2 ten pings in a row (2.10)", join2(ping("0"), ping("1"), ping("2"), ping("3"), ping("4"), ping("5"), ping("6"), ping("7"), ping("8"), ping("9")),
			pongs("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"), 0},
		// §5.2: reserved bits and opcodes, masks.
		{"5.2 RSV1 (3.1)", zeros(0xc1, 0x80), nil, protocol.CloseProtocol},
		{"5.2 RSV2 after a good message (3.2)", join2(text("a"), zeros(0xa1, 0x80)), texts("a"), protocol.CloseProtocol},
		{"5.2 RSV3 (3.3)", zeros(0x91, 0x80), nil, protocol.CloseProtocol},
		{"5.2 RSV on a control frame (3.5)", zeros(0xc9, 0x80), nil, protocol.CloseProtocol},
		{"5.2 RSV on a close frame (3.7)", zeros(0xf8, 0x80), nil, protocol.CloseProtocol},
		{"5.1 unmasked text", raw(0x81, 0x01, 'a'), nil, protocol.CloseProtocol},
		{"5.1 unmasked ping", raw(0x89, 0x00), nil, protocol.CloseProtocol},
		{"5.2 length with its top bit", raw(0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), nil, protocol.CloseProtocol},
		// §5.4: fragments.
		{"5.4 two fragments (5.3)", join2(part(ws.OpText, false, "frag"), part(ws.OpContinuation, true, "ment")), texts("fragment"), 0},
		{"5.4 ping between fragments (5.6)", join2(part(ws.OpText, false, "frag"), ping("p"), part(ws.OpContinuation, true, "ment")),
			append(pongs("p"), texts("fragment")...), 0},
		{"5.4 ping in fragments (5.1)", join2(part(ws.OpPing, false, "a"), part(ws.OpContinuation, true, "b")), nil, protocol.CloseProtocol},
		{"5.4 pong in fragments (5.2)", part(ws.OpPong, false, "a"), nil, protocol.CloseProtocol},
		{"5.4 close in fragments", part(ws.OpClose, false, "\x03\xe8"), nil, protocol.CloseProtocol},
		{"5.4 continuation of nothing (5.9)", part(ws.OpContinuation, true, "x"), nil, protocol.CloseProtocol},
		{"5.4 unfinished continuation of nothing (5.10)", part(ws.OpContinuation, false, "x"), nil, protocol.CloseProtocol},
		{"5.4 continuation after a whole message (5.12)", join2(text("a"), part(ws.OpContinuation, true, "x")), texts("a"), protocol.CloseProtocol},
		{"5.4 text inside a fragmented text (5.18)", join2(part(ws.OpText, false, "a"), text("b")), nil, protocol.CloseProtocol},
		{"5.4 pings and empty fragments (5.19, 6.1.2)", join2(part(ws.OpText, false, ""), ping("1"), part(ws.OpContinuation, false, ""), ping("2"), part(ws.OpContinuation, false, "x"), part(ws.OpContinuation, true, "")),
			append(pongs("1", "2"), texts("x")...), 0},
		{"5.4 an empty message in three fragments (6.1.2)", join2(part(ws.OpText, false, ""), part(ws.OpContinuation, false, ""), part(ws.OpContinuation, true, "")), texts(""), 0},
		{"5.4 two fragmented messages in a row (5.20)", join2(part(ws.OpText, false, "a"), part(ws.OpContinuation, true, "b"), part(ws.OpText, false, "c"), part(ws.OpContinuation, true, "d")), texts("ab", "cd"), 0},
		// §8.1: UTF-8.
		{"8.1 text beyond ASCII (6.2.1)", text("Hello-µ@ßöäüàá-UTF-8!!"), texts("Hello-µ@ßöäüàá-UTF-8!!"), 0},
		{"8.1 code points cut between fragments (6.2.3)", join2(part(ws.OpText, false, long[:3]), part(ws.OpContinuation, false, long[3:13]), part(ws.OpContinuation, true, long[13:])), texts(long), 0},
		{"8.1 boundaries (6.6-6.9)", text("\x00\x7f\u0080\u07ff\u0800\uffff\U00010000\U0010ffff\ud7ff\ue000\ufffd"), texts("\x00\x7f\u0080\u07ff\u0800\uffff\U00010000\U0010ffff\ud7ff\ue000\ufffd"), 0},
		{"8.1 invalid after a good message (6.3)", join2(text("a"), text("\xce\xba\xed\xa0\x80\x65")), texts("a"), protocol.CloseInvalidUTF8},
		{"8.1 invalid in the second fragment (6.3.2, 6.4)", join2(part(ws.OpText, false, "good"), part(ws.OpContinuation, false, "\xf4\x90\x80\x80")), nil, protocol.CloseInvalidUTF8},
		{"8.1 cut code point at the end (6.10 and kin)", join2(part(ws.OpText, false, "a\xce"), part(ws.OpContinuation, true, "")), nil, protocol.CloseInvalidUTF8},
		// §5.5.1, §7: closing.
		{"5.5.1 close without a code (7.3.1)", masked(ws.OpClose, true, nil), nil, protocol.CloseNormal},
		{"5.5.1 close with half a code (7.3.2)", masked(ws.OpClose, true, []byte{3}), nil, protocol.CloseProtocol},
		{"5.5.1 close with a reason (7.3.4)", closing(1000, "bye"), nil, protocol.CloseNormal},
		{"5.5.1 close with the longest reason (7.3.5)", closing(1000, string(repeat("*", 123))), nil, protocol.CloseNormal},
		{"5.5 close over 125 bytes (7.3.6)", closing(1000, string(repeat("*", 124))), nil, protocol.CloseProtocol},
		{"5.5.1 reason that is no UTF-8 (7.5.1)", closing(1000, "\xce\xba\xed\xa0\x80"), nil, protocol.CloseInvalidUTF8},
		{"1.4 what follows a close frame is not read (7.1.2-7.1.4)", join2(text("a"), closing(1000, ""), text("b"), ping("c"), closing(1001, "")), texts("a"), protocol.CloseNormal},
		{"5.5.1 close inside a fragmented message (7.1.5)", join2(part(ws.OpText, false, "a"), closing(1000, ""), part(ws.OpContinuation, true, "b")), nil, protocol.CloseNormal},
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all, session{fmt.Sprintf("5.2 reserved opcode %d (4.1, 4.2)", op), join2(text("a"), zeros(0x80|op, 0x80), ping("b")), texts("a"), protocol.CloseProtocol})
	}
	for _, s := range []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x88\x80\x80\x80", "\xc1\xbf", "\x80", "\xbf", "\xc0", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xf4\x90\x80\x80", "\xfe", "\xff", "\xce", "\xf0\x9f\x98"} {
		all = append(all, session{fmt.Sprintf("8.1 %x is no UTF-8 (6.5-6.21)", s), text("x" + s), nil, protocol.CloseInvalidUTF8})
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		all = append(all, session{fmt.Sprintf("7.4 code %d is echoed (7.7)", code), closing(code, ""), nil, protocol.CloseCode(code)})
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, session{fmt.Sprintf("7.4 code %d may not be sent (7.9)", code), closing(code, ""), nil, protocol.CloseProtocol})
	}
	return all
}

// longSessions are too long for a cut at every byte; they are chopped instead.
func longSessions() []session {
	text := func(b []byte) []byte { return masked(ws.OpText, true, b) }
	most := repeat("κόσμε ", 65536/12)
	var frags []byte
	frags = append(frags, masked(ws.OpText, false, nil)...)
	for range 62 {
		frags = append(frags, masked(ws.OpContinuation, false, repeat("0123456789", 100))...)
	}
	frags = append(frags, masked(ws.OpContinuation, true, nil)...)
	var tooMany []byte
	tooMany = append(tooMany, masked(ws.OpText, false, []byte("x"))...)
	for range 64 {
		tooMany = append(tooMany, masked(ws.OpContinuation, false, []byte("x"))...)
	}
	declared := func(n uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{0x81, 0xff}, n), 0, 0, 0, 0)
	}
	return []session{
		{"5.2 64 KiB (1.1.6-1.1.8, 9.1, 9.5, 10.1.1)", text(repeat("*", 65536)), texts(string(repeat("*", 65536))), 0},
		{"5.2 65535 and 65536 bytes", join2(text(repeat("a", 65535)), text(repeat("b", 65536))), texts(string(repeat("a", 65535)), string(repeat("b", 65536))), 0},
		{"8.1 64 KiB beyond ASCII", text(most), texts(string(most)), 0},
		{"5.4 64 fragments (9.3)", frags, texts(string(repeat("0123456789", 6200))), 0},
		{"5.4 65 fragments", tooMany, nil, protocol.CloseTooBig},
		{"10.4 a byte too many", text(repeat("*", 65537)), nil, protocol.CloseTooBig},
		{"10.4 a byte too many, in fragments", join2(masked(ws.OpText, false, repeat("*", 65536)), masked(ws.OpContinuation, true, []byte("*"))), nil, protocol.CloseTooBig},
		{"10.4 2^31 bytes declared", declared(1 << 31), nil, protocol.CloseTooBig},
		{"10.4 2^40 bytes declared", declared(1 << 40), nil, protocol.CloseTooBig},
		{"10.4 2^62 bytes declared", declared(1 << 62), nil, protocol.CloseTooBig},
		{"7.1.6 a long message and a close behind it", join2(text(repeat("*", 65000)), closing(1000, "")), texts(string(repeat("*", 65000))), protocol.CloseNormal},
	}
}

// listen checks what the client hears. A reply of logic and the answer to a control
// frame are given by different hands: only among themselves do they keep an order.
func (s session) listen(c *client) {
	c.t.Helper()
	want := map[ws.OpCode][]string{}
	for _, h := range s.hears {
		want[h.op] = append(want[h.op], h.payload)
	}
	for left := len(s.hears); left > 0; left-- {
		f, err := c.frame()
		if err != nil {
			c.t.Fatalf("%d frames missing: %v", left, err)
		}
		op := f.Header.OpCode
		if s.close != 0 && op == ws.OpClose && s.close != protocol.CloseNormal {
			// What breaks the protocol is answered at once, and the answers to what came
			// right before it may be lost with the connection.
			if code, _ := ws.ParseCloseFrameData(f.Payload); code != ws.StatusCode(s.close) {
				c.t.Fatalf("close code %d, want %d", code, s.close)
			}
			return
		}
		if len(want[op]) == 0 || string(f.Payload) != want[op][0] {
			c.t.Fatalf("opcode %#x %q, want one of %q", op, short(string(f.Payload)), want)
		}
		want[op] = want[op][1:]
	}
	if s.close != 0 {
		c.expectClose(s.close)
		return
	}
	c.write(masked(ws.OpPing, true, []byte("still there")))
	c.expectFrame(ws.OpPong, "still there")
}

func TestConformance(t *testing.T) {
	for _, k := range []kind{byDefault, goroutines, overTLS} {
		t.Run(string(k), func(t *testing.T) {
			b := start(t, k, unlimited())
			user := 0
			for _, s := range append(sessions(), longSessions()...) {
				user++
				t.Run(s.name, func(t *testing.T) {
					c := b.in(t).connected(user, "d")
					c.write(s.sends)
					s.listen(c)
				})
			}
		})
	}
}

// Every session again, cut in two at each byte: the second part is sent when the
// server has read the first [P1].
func TestConformance_CutAnywhere(t *testing.T) {
	for _, k := range []kind{byDefault, goroutines} {
		t.Run(string(k), func(t *testing.T) {
			b := start(t, k, unlimited())
			for _, s := range sessions() {
				t.Run(s.name, func(t *testing.T) {
					for at := 1; at < len(s.sends); at++ {
						if testing.Short() && at%5 != 0 {
							continue
						}
						c := b.in(t).connected(at, "d")
						before := b.received()
						c.write(s.sends[:at])
						eventually(t, "the first part is read", func() bool { return b.received() >= before+at })
						if err := c.tryWrite(s.sends[at:]); err != nil && s.close == 0 {
							t.Fatal(err)
						}
						s.listen(c)
						c.nc.Close()
						if t.Failed() {
							t.Fatalf("cut at %d of %x", at, s.sends)
						}
					}
				})
			}
		})
	}
}

// And byte by byte (Autobahn's 2.6, 2.11, 5.5, 5.8 and 6.2 are such).
func TestConformance_Bytewise(t *testing.T) {
	for _, k := range []kind{byDefault, goroutines} {
		t.Run(string(k), func(t *testing.T) {
			b := start(t, k, unlimited())
			for i, s := range sessions() {
				t.Run(s.name, func(t *testing.T) {
					c := b.in(t).connected(i, "d")
					for _, x := range s.sends {
						before := b.received()
						if c.tryWrite([]byte{x}) != nil {
							break // closed already
						}
						if s.close == 0 {
							eventually(t, "a byte is read", func() bool { return b.received() > before })
						}
					}
					s.listen(c)
				})
			}
		})
	}
}

// The long ones in pieces (Autobahn chops at 997 bytes and less).
func TestConformance_Chopped(t *testing.T) {
	for _, k := range []kind{byDefault, goroutines} {
		b := start(t, k, unlimited())
		for _, size := range []int{997, 4096, 4097, 32 << 10} {
			for i, s := range longSessions() {
				t.Run(fmt.Sprintf("%s by %d %s", k, size, s.name), func(t *testing.T) {
					c := b.in(t).connected(i, "d")
					for rest := s.sends; len(rest) > 0; {
						n := min(size, len(rest))
						before := b.received()
						if c.tryWrite(rest[:n]) != nil {
							break // closed already
						}
						rest = rest[n:]
						if s.close == 0 {
							eventually(t, "a piece is read", func() bool { return b.received() >= before+n })
						}
					}
					s.listen(c)
				})
			}
		}
	}
}

// The same of the parser alone, deterministic: in two at each byte, and byte by byte.
func TestAssembler_CutsMeanNothing(t *testing.T) {
	for _, s := range append(sessions(), longSessions()...) {
		whole := parse(s.sends, len(s.sends))
		cuts := []int{1, 2, 3, 7, 997}
		if len(s.sends) < 1000 {
			for at := 1; at < len(s.sends); at++ {
				if got := parse(s.sends, at); got != whole {
					t.Errorf("%s: cut at %d: %s, whole: %s", s.name, at, got, whole)
				}
			}
		}
		for _, n := range cuts {
			if got := parse(s.sends, n, n); got != whole {
				t.Errorf("%s: every %d: %s, whole: %s", s.name, n, got, whole)
			}
		}
	}
}

// What is declared costs nothing; what has come, about twice its size at most [P2].
func TestAssembler_AllocatesForWhatHasComeOnly(t *testing.T) {
	a := &assembler{maxMessage: 64 << 10, maxFragments: 64}
	m := masked(ws.OpText, true, repeat("x", 64<<10))
	var f *fragment
	for n := 20; n < len(m); n *= 3 {
		f, _ = a.feed(nil, append([]byte(nil), m[:n]...), &transcript{})
		if cap(f.message) > 2*n+64 {
			t.Errorf("%d bytes came, %d are allocated", n, cap(f.message))
		}
	}
}

// transcript is what an assembler finds.
type transcript struct{ said string }

func (r *transcript) message(p []byte, _ bool) protocol.Close {
	r.said += fmt.Sprintf("text %d %q; ", len(p), short(string(p)))
	return open
}

func (r *transcript) control(op ws.OpCode, p []byte) protocol.Close {
	r.said += fmt.Sprintf("control %d %q; ", op, p)
	if op == ws.OpClose {
		return later
	}
	return open
}

// parse feeds b in two parts, or with every again and again in parts of that size.
func parse(b []byte, at int, every ...int) string {
	a := &assembler{maxMessage: 64 << 10, maxFragments: 64}
	var f *fragment
	r := &transcript{}
	b = append([]byte(nil), b...)
	for len(b) > 0 {
		n := min(at, len(b))
		var why protocol.Close
		if f, why = a.feed(f, b[:n], r); why != open {
			return r.said + fmt.Sprint(why)
		}
		if b = b[n:]; every == nil {
			at = len(b)
		}
	}
	if f != nil {
		r.said += "unfinished"
	}
	return r.said
}

func FuzzAssembler(f *testing.F) {
	for _, s := range sessions() {
		f.Add(s.sends, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		whole := parse(b, len(b)+1)
		if at < 1 || at > len(b) {
			at = 1
		}
		if cut := parse(b, at); cut != whole {
			t.Fatalf("cut at %d: %s, whole: %s", at, cut, whole)
		}
		if bytewise := parse(b, 1, 1); bytewise != whole {
			t.Fatalf("byte by byte: %s, whole: %s", bytewise, whole)
		}
	})
}

func TestCompile_IsWhatTheLibraryWrites(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		f := ws.NewTextFrame(repeat("x", n))
		if string(compile(f)) != string(ws.MustCompileFrame(f)) {
			t.Errorf("%d bytes differ", n)
		}
	}
}
