package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// expect fails the test unless all n ended so.
func expect(t *testing.T, what string, ends map[string]int, want string, n int) {
	t.Helper()
	if len(ends) != 1 || ends[want] != n {
		t.Errorf("%s: ended %v, want %d of %q", what, ends, n, want)
	}
}

// Everything that comes in masses, one after the other, while a few people talk. How long
// their messages take is measured; that all arrive, over connections that stay, is
// asserted; and that the process holds no more in the end than before.
func TestFlood_HealthyDoNotNotice(t *testing.T) {
	t.Parallel()
	v := startVictim(t, nil)
	writers := 500
	tokens := v.logins(writers)
	at := time.Now()
	calm := time.Second
	if abuse() {
		calm = 10 * time.Second
	}
	time.Sleep(calm) // the baseline
	baseline, of := v.p99(at)
	start := v.usage()
	t.Logf("baseline: healthy p99 %.1f ms of %d; RSS %.1f MiB, %d files", baseline.Seconds()*1000, of, float64(start.rss)/(1<<20), start.files)

	v.flood("10,000 pings at once, 20 times", baseline, func() {
		many := bytes.Repeat(masked(ws.OpPing, true, []byte("p")), 10_000)
		expect(t, "pings", v.swarm(20, 0, tokens, func(_ int, a *attacker) string {
			go func() { _, _ = a.nc.Write(many) }() // until it is cut off
			code, reason, pongs := a.close()
			if pongs < 20 || pongs > 40 {
				t.Errorf("%d pongs", pongs)
			}
			return fmt.Sprint(code, reason)
		}), "4529rate_limited", 20)
	})
	v.flood("10,000 pongs at once, 20 times", baseline, func() {
		many := bytes.Repeat(masked(ws.OpPong, true, nil), 10_000)
		expect(t, "pongs", v.swarm(20, 100, nil, func(_ int, a *attacker) string {
			go func() { _, _ = a.nc.Write(many) }()
			code, reason, _ := a.close()
			return fmt.Sprint(code, reason)
		}), "4529rate_limited", 20)
	})
	for _, power := range []int{31, 40, 62} {
		v.flood(fmt.Sprint("2^", power, " bytes declared, 100 times"), baseline, func() {
			n := uint64(1) << power
			b := []byte{0x81, 0xFF, byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 1, 2, 3, 4}
			expect(t, "declared", v.swarm(100, 200, nil, func(_ int, a *attacker) string {
				_, _ = a.nc.Write(b)
				code, _, _ := a.close()
				return fmt.Sprint(code)
			}), "1009", 100)
		})
	}
	v.flood("10,000 fragments of 16 bytes, 100 times", baseline, func() {
		b := brokenFrames()["10,000 fragments of 16 bytes"].bytes
		expect(t, "fragments", v.swarm(100, 400, nil, func(_ int, a *attacker) string {
			go func() { _, _ = a.nc.Write(b) }()
			code, _, _ := a.close()
			return fmt.Sprint(code)
		}), "1009", 100)
	})
	v.flood("1 MiB of dots for a token, 100 times by HTTP and 100 by socket", baseline, func() {
		dots := strings.Repeat(".", 1<<20)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				nc, err := net.Dial("tcp", v.settings["api.listen"])
				if err != nil {
					t.Error(err)
					return
				}
				defer nc.Close()
				go func() {
					_, _ = io.WriteString(nc, "GET /v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+dots)
				}()
				if line, _ := bufio.NewReader(nc).ReadString('\n'); !strings.Contains(line, " 431 ") {
					t.Errorf("dots by HTTP: %q", line)
				}
			})
		}
		expect(t, "dots", v.swarm(100, 600, nil, func(_ int, a *attacker) string {
			go func() {
				_, _ = a.nc.Write(masked(ws.OpText, true, []byte(`{"id":"1","cmd":"connect","data":{"token":"`+dots+`"}}`)))
			}()
			code, _, _ := a.close()
			return fmt.Sprint(code)
		}), "1009", 100)
		all.Wait()
	})
	v.flood(fmt.Sprint("slow writers, ", writers, " sessions; 200 slow, 50 endless, 50 long handshakes, 50 silent behind them"), baseline, func() {
		var hands sync.WaitGroup
		hands.Go(func() { v.slowHandshakes() })
		expect(t, "slow writers", v.swarm(writers, 800, tokens, func(_ int, a *attacker) string {
			frame := masked(ws.OpText, true, []byte(`{"id":"1","cmd":"ping","data":{}}`))
			gone := make(chan struct{})
			defer close(gone)
			go func() {
				for _, b := range frame {
					if _, err := a.nc.Write([]byte{b}); err != nil {
						return
					}
					select {
					case <-gone:
						return
					case <-time.After(5 * time.Second):
					}
				}
			}()
			code, reason, _ := a.close()
			return fmt.Sprint(code, reason)
		}), "1008message_timeout", writers)
		hands.Wait()
	})
	crowd := 2_000
	if abuse() {
		crowd = 10_000
	}
	v.flood(fmt.Sprint(crowd, " connects at once"), baseline, func() { v.crowd(crowd) })

	v.finish()
	devtest.Eventually(t, "only the healthy are connected, and the process has the files of before", func() bool {
		// Besides, its pools of connections to the stores have grown.
		return metric("http://"+v.settings["admin.listen"], "curlew_connector_connections") == strconv.Itoa(2*len(v.pairs)) && v.usage().files <= start.files+100
	})
	end := v.usage()
	t.Logf("in the end: RSS %.1f MiB (%+.1f), %d files", float64(end.rss)/(1<<20), float64(end.rss-start.rss)/(1<<20), end.files)
}

// A member of a busy group never reads. Pushes to them are dropped, they are closed with
// 4508, and nobody else notices; when they come back they have all of it.
func TestFlood_SlowReaderIsClosedAndComesBackExact(t *testing.T) {
	t.Parallel()
	v := startVictim(t, nil)
	const members = 20
	names := make([]string, members+1)
	for i := range names {
		names[i] = fmt.Sprintf("member%02d", i)
	}
	people := enrol(t, v.http(), v.socket(), names...)
	slow := people[members]
	g := people[0].found("the busy", im.JoinClosed, people[1:]...)
	c := g.MainChannelID
	speakers := make([]*device, members)
	for i := range speakers {
		speakers[i] = people[i].connect("phone")
	}
	long := strings.Repeat("x", im.MaxTextBytes-20)
	said := 0
	talk := func() { // half of them, in turn: each says a quarter of what they may
		for range len(speakers) / 2 {
			if _, err := speakers[said%len(speakers)].SendText(client.ToConversation(c), fmt.Sprint(said, " ", long)); err != nil {
				t.Error(err)
			}
			said++
		}
	}
	at := time.Now()
	for time.Since(at) < 2*time.Second { // the baseline is of the busy group
		talk()
		time.Sleep(100 * time.Millisecond)
	}
	baseline, of := v.p99(at)
	t.Logf("baseline: healthy p99 %.1f ms of %d", baseline.Seconds()*1000, of)

	a, err := v.attacker(0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.nc.Close()
	_ = a.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	if status, err := a.upgrade("x"); status != http.StatusSwitchingProtocols {
		t.Fatal(status, err)
	}
	b := fmt.Appendf(nil, `{"id":"1","cmd":"connect","data":{"token":%q,"device":"slow"}}`, slow.issue("slow").AccessToken)
	_, _ = a.nc.Write(masked(ws.OpText, true, b))
	if f, err := ws.ReadFrame(a.br); err != nil || bytes.Contains(f.Payload, []byte(`"error"`)) {
		t.Fatalf("%v %s", err, f.Payload)
	}
	metricOf := func(name string) string { return metric("http://"+v.settings["admin.listen"], name) }
	dropped := func() string { return metricOf(`curlew_connector_outbox_refused_total{reason="push"}`) }
	closed := func() string { return metricOf(`curlew_connector_closes_total{code="4508"}`) }
	v.flood("a slow reader in a group of 21 in which 100 messages of 8 KiB a second are said", baseline, func() {
		start := time.Now()
		for closed() == "" && time.Since(start) < time.Minute {
			talk()
			time.Sleep(100 * time.Millisecond)
		}
		// On a busy machine they come so slowly that it is closed before its queue is full.
		t.Logf("closed after %.1f s; pushes dropped: %s", time.Since(start).Seconds(), dropped())
	})
	if closed() != "1" {
		t.Errorf("closed with 4508: %s", closed())
	}
	// What had left for them before is read now; behind it is the end, with the code or,
	// where there was no room for it, without.
	if code, reason, _ := a.close(); code != ws.StatusCode(protocol.CloseSlow) && code != 0 {
		t.Errorf("ended with %d %s", code, reason)
	} else {
		t.Logf("ended with %d %s", code, reason)
	}
	devtest.Eventually(t, "all of it is stored", func() bool { return int(people[0].row(c).LastSeq) >= said+1 }) // and the notice
	back := slow.connect("slow")
	devtest.Eventually(t, "who came back has heard the end", func() bool {
		heard := back.texts(c)
		return len(heard) > 0 && slow.row(c).LastSeq == back.last(c)
	})
	if h := slow.history(c); len(h) != said+1 {
		t.Errorf("the history has %d, %d were said and one is the notice", len(h), said)
	}
	if row := slow.row(c); int(row.Unread) != said {
		t.Errorf("%d unread of %d", row.Unread, said)
	}
	v.finish()
}

// last is the highest seq that the application was shown.
func (d *device) last(conv im.ConversationID) im.Seq {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.got[conv]); n > 0 {
		return d.got[conv][n-1].Seq
	}
	return 0
}

// slowHandshakes are those that never end, by their slowness, their length or their
// number of lines; each ends the way its row says.
func (v *victim) slowHandshakes() {
	var slow, endless, long, silent tally
	var all sync.WaitGroup
	try := func(n int, c *tally, send func(nc net.Conn)) {
		for i := range n {
			all.Go(func() {
				a, err := v.attacker(2000 + i)
				if err != nil {
					c.add(err.Error())
					return
				}
				defer a.nc.Close()
				go send(a.nc)
				resp, err := http.ReadResponse(a.br, nil)
				if err != nil {
					c.add(err.Error())
					return
				}
				c.add(strconv.Itoa(resp.StatusCode))
			})
		}
	}
	try(200, &slow, func(nc net.Conn) {
		for _, b := range []byte(handshake("x")) {
			if _, err := nc.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond) // its own pace
		}
	})
	try(50, &endless, func(nc net.Conn) { _, _ = io.WriteString(nc, handshake("x")+"X: "+strings.Repeat("x", 1<<20)) })
	try(50, &long, func(nc net.Conn) { _, _ = io.WriteString(nc, handshake("x")+strings.Repeat("X: y\r\n", 10_000)) })
	var face tally // the same of the HTTP face
	for range 100 {
		all.Go(func() {
			nc, err := net.Dial("tcp", v.settings["api.listen"])
			if err != nil {
				face.add(err.Error())
				return
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			go func() {
				for _, b := range []byte("GET /v1/limits HTTP/1.1\r\nHost: x\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy") {
					if _, err := nc.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(500 * time.Millisecond) // its own pace
				}
			}()
			begun := time.Now()
			_, _ = io.Copy(io.Discard, nc)                        // up to its end, whether or not it is told
			if took := time.Since(begun); took > 30*time.Second { // of 36 that it would take
				face.add(fmt.Sprint("ended after ", took))
				return
			}
			face.add("closed")
		})
	}
	for i := range 50 { // and who says nothing behind a good one
		all.Go(func() {
			a, err := v.attacker(2200 + i)
			if err != nil {
				silent.add(err.Error())
				return
			}
			defer a.nc.Close()
			if status, err := a.upgrade("x"); status != http.StatusSwitchingProtocols {
				silent.add(fmt.Sprint("handshake ", status, err))
				return
			}
			code, reason, _ := a.close()
			silent.add(fmt.Sprint(code, reason))
		})
	}
	all.Wait()
	expect(v.t, "slow requests", face.ends, "closed", 100)
	expect(v.t, "silence", silent.ends, "4408auth_timeout", 50)
	expect(v.t, "slow handshakes", slow.ends, "408", 200)
	expect(v.t, "endless lines", endless.ends, "431", 50)
	expect(v.t, "10,000 headers", long.ends, "431", 50)
}

// crowd connects n at once, of many addresses: so many are let in as may, the rest is
// told when to come back, and each place is free again when its holder has gone.
func (v *victim) crowd(n int) {
	var c tally
	var in atomic.Int64
	var all, held sync.WaitGroup
	start := time.Now()
	held.Add(1)
	places := make(chan struct{}, 2_000) // at work at once: the test has descriptors of its own to keep to
	for i := range n {
		places <- struct{}{}
		all.Go(func() {
			release := sync.OnceFunc(func() { <-places })
			defer release()
			a, err := v.attacker(4000 + i%400)
			if err != nil {
				c.add(err.Error())
				return
			}
			defer a.nc.Close()
			status, err := a.upgrade("x")
			c.add(fmt.Sprintf("%d %v", status, err))
			if status == http.StatusSwitchingProtocols && in.Add(1) <= 1500 {
				release()
				held.Wait() // stays until all have tried
			}
		})
	}
	devtest.Eventually(v.t, "all have tried", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		tried := 0
		for _, k := range c.ends {
			tried += k
		}
		return tried == n
	})
	took := time.Since(start)
	held.Done()
	all.Wait()
	v.t.Logf("%d connects in %.1f s: %v", n, took.Seconds(), c.ends)
	most := int(1000 * (took.Seconds() + 2))
	if admitted := c.ends["101 <nil>"]; admitted == 0 || admitted > most {
		v.t.Errorf("%d let in within %s", admitted, took)
	}
	for end := range c.ends {
		if end != "101 <nil>" && end != "503 <nil>" {
			v.t.Errorf("ended %s", end)
		}
	}
}
