package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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

// shippedSettings gives a process of the dev profile the limits of production.
func shippedSettings() map[string]string {
	set := map[string]string{
		"connector.handshakes_per_second": "1000", "connector.connects_per_ip": "50", "connector.connections_per_ip": "200",
		"connector.messages_per_second": "20", "connector.controls_per_second": "10",
		"logic.send_per_second": "20", "logic.groups_per_minute": "10", "logic.group_joins_per_minute": "20", "logic.group_changes_per_minute": "120",
		"logic.auth.login_per_minute": "20", "logic.auth.register_per_minute": "10", "logic.auth.lookup_per_minute": "60",
		"logic.people.requests_per_minute": "20",
		"logic.heartbeat":                  "25s", "connector.heartbeat": "25s", "connector.renew_interval": "10s",
	}
	for k, v := range ownStores() {
		set[k] = v
	}
	return set
}

// victim is an engine under attack, in a process of its own, so that what it holds can be
// told from what the attackers hold; and healthy people on it, whose every
// message is timed.
type victim struct {
	*child
	t       *testing.T
	pairs   []*pairing
	stop    chan struct{}
	end     sync.Once
	sending sync.WaitGroup
}

// pairing is two who talk.
type pairing struct {
	from, to *device

	mu    sync.Mutex // guards took and sent
	sent  int
	took  []sample
	heard map[string]bool
}

// sample is how long one message took to arrive.
type sample struct {
	at   time.Time
	took time.Duration
}

func startVictim(t *testing.T, more map[string]string) *victim {
	t.Helper()
	set := shippedSettings()
	for k, val := range more {
		set[k] = val
	}
	v := &victim{child: newChild(t, devtest.Start(t), set), t: t, stop: make(chan struct{})}
	v.start()
	const pairs = 5
	names := make([]string, 2*pairs)
	for i := range names {
		names[i] = fmt.Sprint("healthy", i)
	}
	people := enrol(t, v.http(), v.socket(), names...)
	for i := range pairs {
		p := &pairing{heard: map[string]bool{}}
		p.from = people[2*i].connect("phone")
		p.to = people[2*i+1].connect("phone", func(o *client.Options) {
			o.OnMessage = func(m im.Message) {
				now := time.Now()
				ns, err := strconv.ParseInt(textOf(m), 10, 64)
				if err != nil {
					return
				}
				p.mu.Lock()
				p.took = append(p.took, sample{now, now.Sub(time.Unix(0, ns))})
				p.heard[textOf(m)] = true
				p.mu.Unlock()
			}
		})
		v.pairs = append(v.pairs, p)
		v.sending.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond) // half of what each may
			defer tick.Stop()
			for {
				select {
				case <-v.stop:
					return
				case <-tick.C:
				}
				if _, err := p.from.SendText(client.ToUser(people[2*i+1].id), strconv.FormatInt(time.Now().UnixNano(), 10)); err != nil {
					t.Errorf("a healthy send: %v", err)
					return
				}
				p.mu.Lock()
				p.sent++
				p.mu.Unlock()
			}
		})
	}
	t.Cleanup(v.hush)
	return v
}

// hush ends the healthy talk.
func (v *victim) hush() {
	v.end.Do(func() { close(v.stop) })
	v.sending.Wait()
}

// finish ends the healthy talk and wants all of it arrived, over connections that no
// flood has ended.
func (v *victim) finish() {
	v.t.Helper()
	v.hush()
	for _, p := range v.pairs {
		devtest.Eventually(v.t, "all that the healthy said has arrived", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.heard) == p.sent
		})
		for _, d := range []*device{p.from, p.to} {
			if n := len(d.lost); n > 0 {
				v.t.Errorf("%s lost its connection %d times: %v", d.p.name, n, d.lost)
			}
		}
	}
}

// p99 is that of the healthy messages that arrived since.
func (v *victim) p99(since time.Time) (took time.Duration, of int) {
	var all []time.Duration
	for _, p := range v.pairs {
		p.mu.Lock()
		for _, s := range p.took {
			if s.at.After(since) {
				all = append(all, s.took)
			}
		}
		p.mu.Unlock()
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[(len(all)*99+99)/100-1], len(all)
}

// usage is what the process holds.
type usage struct {
	rss, sys int64 // bytes: resident, taken from the system by Go
	files    int
	cpu      float64 // seconds
}

func (v *victim) usage() (u usage) {
	v.t.Helper()
	pid := strconv.Itoa(v.cmd.Process.Pid)
	status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		v.t.Skip("no /proc: what a process holds cannot be seen")
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			u.rss = kb << 10
		}
	}
	files, err := os.ReadDir(filepath.Join("/proc", pid, "fd"))
	if err != nil {
		v.t.Fatal(err)
	}
	u.files = len(files)
	number := func(name string) float64 {
		f, _ := strconv.ParseFloat(metric("http://"+v.settings["admin.listen"], name), 64)
		return f
	}
	u.sys, u.cpu = int64(number("go_memstats_sys_bytes")), number("process_cpu_seconds_total")
	return u
}

// flood runs an attack, with CURLEW_ABUSE again and again for five seconds, and says what
// it cost the healthy and the process.
func (v *victim) flood(name string, baseline time.Duration, attack func()) {
	v.t.Helper()
	before := v.usage()
	peak := before
	stop, watching := make(chan struct{}), sync.WaitGroup{}
	watching.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				u := v.usage()
				peak.rss, peak.sys, peak.files = max(peak.rss, u.rss), max(peak.sys, u.sys), max(peak.files, u.files)
			}
		}
	})
	start := time.Now()
	for again := true; again; again = abuse() && time.Since(start) < 5*time.Second {
		round := time.Now()
		attack()
		if abuse() { // no faster than an address may connect
			time.Sleep(time.Until(round.Add(500 * time.Millisecond)))
		}
	}
	close(stop)
	watching.Wait()
	after := v.usage()
	took, of := v.p99(start)
	const mib = 1 << 20
	v.t.Logf("%s: %.1f s; healthy p99 %.1f ms of %d (%.1f x baseline); RSS %+.1f MiB at most, %+.1f after (%.1f); from the system %+.1f; files %d -> %d -> %d; its CPU %.2f s",
		name, time.Since(start).Seconds(), took.Seconds()*1000, of, took.Seconds()/baseline.Seconds(),
		float64(max(peak.rss, after.rss)-before.rss)/mib, float64(after.rss-before.rss)/mib, float64(after.rss)/mib,
		float64(max(peak.sys, after.sys)-before.sys)/mib, before.files, max(peak.files, after.files), after.files, after.cpu-before.cpu)
	if grown := max(peak.sys, after.sys) - before.sys; grown > 128*mib { // ten times what any flood is seen to take
		v.t.Errorf("%s: the process took %d MiB", name, grown/mib)
	}
}

// attacker is one hostile connection.
type attacker struct {
	nc net.Conn
	br *bufio.Reader
}

func (v *victim) attacker(n int) (*attacker, error) {
	nc, err := dialerFrom(address(n)).DialContext(context.Background(), "tcp", v.settings["connector.listen"])
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	return &attacker{nc: nc, br: bufio.NewReaderSize(nc, 512)}, nil
}

// upgrade shakes hands; a refusal is the status.
func (a *attacker) upgrade(host string) (status int, err error) {
	if _, err := io.WriteString(a.nc, handshake(host)+"\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(a.br, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		return 0, fmt.Errorf("503 without Retry-After")
	}
	return resp.StatusCode, nil
}

// close reads up to the close frame; pongs counts what came before.
func (a *attacker) close() (code ws.StatusCode, reason string, pongs int) {
	for {
		f, err := ws.ReadFrame(a.br)
		if err != nil {
			return 0, err.Error(), pongs
		}
		switch f.Header.OpCode {
		case ws.OpPong:
			pongs++
		case ws.OpClose:
			code, reason = ws.ParseCloseFrameData(f.Payload)
			return code, reason, pongs
		}
	}
}

// tally counts how attackers ended.
type tally struct {
	mu   sync.Mutex // guards ends
	ends map[string]int
}

func (c *tally) add(end string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil {
		c.ends = map[string]int{}
	}
	c.ends[end]++
}

// swarm runs n attackers at once, each over an upgraded connection (with a token: that
// of a session), and counts how they end.
func (v *victim) swarm(n, first int, tokens []string, attack func(i int, a *attacker) string) map[string]int {
	var c tally
	var all sync.WaitGroup
	for i := range n {
		if i%40 == 39 { // fifty in a second from one address are its limit, a thousand all in all
			time.Sleep(50 * time.Millisecond)
		}
		all.Go(func() {
			a, err := v.attacker(first + i)
			if err != nil {
				c.add(err.Error())
				return
			}
			defer a.nc.Close()
			if status, err := a.upgrade("x"); status != http.StatusSwitchingProtocols {
				c.add(fmt.Sprint("handshake ", status, err))
				return
			}
			if tokens != nil {
				b := fmt.Appendf(nil, `{"id":"1","cmd":"connect","data":{"token":%q,"device":"d%d"}}`, tokens[i], i%10)
				_, _ = a.nc.Write(masked(ws.OpText, true, b))
				if f, err := ws.ReadFrame(a.br); err != nil || bytes.Contains(f.Payload, []byte(`"error"`)) {
					c.add(fmt.Sprint("connect ", err, string(f.Payload)))
					return
				}
			}
			c.add(attack(i, a))
		})
	}
	all.Wait()
	return c.ends
}

// logins are n sessions' tokens, ten devices a user.
func (v *victim) logins(n int) []string {
	v.t.Helper()
	names := make([]string, (n+9)/10)
	for i := range names {
		names[i] = fmt.Sprintf("hostile%03d", i)
	}
	users := make([]protocol.ServerUser, len(names))
	for i, name := range names {
		users[i] = protocol.ServerUser{ExternalID: "ext-" + name, Handle: name}
	}
	made, err := serverAPI(v.http()).UpsertUsers(v.t.Context(), users)
	if err != nil {
		v.t.Fatal(err)
	}
	tokens := make([]string, n)
	for i := range tokens {
		issued, err := serverAPI(v.http()).IssueTokens(v.t.Context(), protocol.IssueTokens{UserID: &made.Users[i/10].ID, Device: im.DeviceID(fmt.Sprint("d", i%10))})
		if err != nil {
			v.t.Fatal(err)
		}
		tokens[i] = issued.AccessToken
	}
	return tokens
}

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
