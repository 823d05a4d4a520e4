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

// enter is an attacker that has got in: what tells it to come back later is what the
// engine may say where the machine is busy, and it does.
func (v *victim) enter(n int, connect []byte) (*attacker, error) {
	for tries := 1; ; tries++ {
		a, err := v.attacker(n)
		if err != nil {
			return nil, err
		}
		status, err := a.upgrade("x")
		var answer []byte
		if status == http.StatusSwitchingProtocols && connect != nil {
			var f ws.Frame
			_, _ = a.nc.Write(masked(ws.OpText, true, connect))
			f, err = ws.ReadFrame(a.br)
			answer = f.Payload
		}
		if status == http.StatusSwitchingProtocols && err == nil && !bytes.Contains(answer, []byte(`"error"`)) {
			return a, nil
		}
		a.nc.Close()
		later := status == http.StatusServiceUnavailable || bytes.Contains(answer, []byte(`"retryable":true`))
		if !later || tries == 20 {
			return nil, fmt.Errorf("not let in: %d %w %s", status, err, answer)
		}
		time.Sleep(time.Second)
	}
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
			var connect []byte
			if tokens != nil {
				connect = fmt.Appendf(nil, `{"id":"1","cmd":"connect","data":{"token":%q,"device":"d%d"}}`, tokens[i], i%10)
			}
			a, err := v.enter(first+i, connect)
			if err != nil {
				c.add(err.Error())
				return
			}
			defer a.nc.Close()
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
