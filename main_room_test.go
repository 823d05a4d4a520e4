package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// sayIn sends a text to a conversation and waits until it is stored.
func (d *device) sayIn(c im.ConversationID, text string) protocol.Sent {
	d.p.t.Helper()
	o, err := d.SendText(client.ToConversation(c), text)
	if err != nil {
		d.p.t.Fatal(err)
	}
	return d.p.stored(o)
}

// spoken are the texts that a device was shown of a conversation, in that order; its own
// are not told to it again.
func (d *device) spoken(c im.ConversationID) (texts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.got[c] {
		if m.Type == im.TypeText {
			texts = append(texts, textOf(m))
		}
	}
	return texts
}

// registry is which nodes are entered for a channel, dead ones too.
func registry(t *testing.T, s *devtest.Stack, c im.ConversationID) []string {
	t.Helper()
	set := s.Settings()
	r := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(set["storage.redis.addr"], ","), Username: set["storage.redis.username"], Password: set["storage.redis.password"]})
	defer r.Close()
	nodes, err := r.ZRange(t.Context(), "im:{"+string(c)+"}:nodes", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// counted is the value of a counter at an engine's operator address; 0 where it never
// counted.
func counted(e *engine, name string) float64 {
	n, _ := strconv.ParseFloat(metric(e.admin, name), 64)
	return n
}

// A channel's message is published once for each connector that has a member online,
// however many members there are, and the registries empty as they go.
func TestRooms_PublishedOncePerConnector(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	near, far := startEngine(t, s), startEngine(t, s, front())
	names := make([]string, 12)
	for i := range names {
		names[i] = fmt.Sprintf("singer%02d", i)
	}
	p := enrol(t, near.http, near.socket, names...)
	c := p[0].found("the choir", im.JoinClosed, p[1:]...).MainChannelID
	if at := registry(t, s, c); len(at) != 0 {
		t.Fatalf("nobody is online, and entered are %v", at)
	}
	var devices []*device
	for i, one := range p {
		if i%2 == 1 {
			one.socket = far.socket
		}
		devices = append(devices, one.connect("phone"))
	}
	devices = append(devices, p[0].connect("tablet"))
	if at := registry(t, s, c); len(at) != 2 {
		t.Fatalf("entered: %v, want both connectors", at)
	}
	const messages = 40
	said := map[*device][]string{} // by the others
	for i := range messages {
		from := devices[i%3]
		from.sayIn(c, fmt.Sprint("line ", i))
		for _, d := range devices {
			if d != from {
				said[d] = append(said[d], fmt.Sprint("line ", i))
			}
		}
	}
	for _, d := range devices {
		devtest.Eventually(t, d.p.name+" has it all", func() bool { return len(d.spoken(c)) >= len(said[d]) })
		equal(t, d.p.name+" was shown", d.spoken(c), said[d])
	}
	rooms, told := counted(near, "curlew_jobs_room_messages_total"), counted(near, `curlew_jobs_pushes_total{kind="message_room"}`)
	t.Logf("%d members on 2 connectors: %.2f publishes a message", len(p), told/rooms)
	if told > 2*rooms || rooms < messages {
		t.Errorf("%v messages of channels in %v deliveries", rooms, told)
	}
	for i, d := range devices {
		if i%2 == 1 {
			d.leave()
		}
	}
	devtest.Eventually(t, "the far connector has left the registry", func() bool { return len(registry(t, s, c)) == 1 })
	for _, d := range devices {
		d.leave()
	}
	devtest.Eventually(t, "the registry is empty", func() bool { return len(registry(t, s, c)) == 0 })
}

// A connector that is killed stays in the registry until a peer sweeps it; its members
// come back elsewhere and miss nothing.
func TestRooms_KilledConnectorIsSwept(t *testing.T) {
	t.Parallel()
	if !devtest.Real() {
		t.Skip("a connector in a process of its own needs real stores")
	}
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	near := between.engine(t, s, configs.RoleLogic, configs.RoleAPI, configs.RoleJobs)
	stays := between.engine(t, s, configs.RoleConnector)
	dies := between.connector(t, s, nil)
	p := enrol(t, near.http, stays.socket, "ada", "bob", "cal")
	ada, bob := p[0], p[1]
	c := ada.found("the choir", im.JoinClosed, p[1:]...).MainChannelID
	phone := ada.connect("phone")
	bob.socket = dies.socket()
	his := bob.connect("phone")
	if at := registry(t, s, c); len(at) != 2 {
		t.Fatalf("entered: %v", at)
	}
	phone.sayIn(c, "one")
	killed := time.Now()
	dies.kill()
	for i := range 5 {
		phone.sayIn(c, fmt.Sprint("into the dark ", i))
	}
	devtest.Eventually(t, "the dead connector is swept", func() bool { return len(registry(t, s, c)) == 1 })
	t.Logf("swept %.1f s after the kill", time.Since(killed).Seconds())
	dies.start()
	back := time.Now()
	devtest.Eventually(t, "Bob is back and has it all", func() bool { return len(his.spoken(c)) == 6 })
	t.Logf("all was there %.1f s after the connector", time.Since(back).Seconds())
	phone.leave()
	his.leave()
	devtest.Eventually(t, "nobody is entered", func() bool { return len(registry(t, s, c)) == 0 })
}

// Who comes and goes has a live socket on another node, which learns of it at once, and
// nothing of what is said after.
func TestRooms_MembershipReachesLiveSocketsElsewhere(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	near, far := startEngine(t, s), startEngine(t, s, front())
	p := enrol(t, near.http, near.socket, "ada", "bob", "cal")
	ada, bob, cal := p[0], p[1], p[2].elsewhere(far)
	g := ada.found("the choir", im.JoinClosed, bob)
	c := g.MainChannelID
	phone, his, hers := ada.connect("phone"), bob.elsewhere(far).connect("phone"), cal.connect("phone")
	phone.sayIn(c, "before-cal")
	for round := range 3 {
		start := time.Now()
		devtest.Eventually(t, "the last leaving is stored everywhere", func() bool {
			r, err := ada.http.AddMembers(t.Context(), g.ID, cal.id)
			return err == nil && r.Applied
		})
		devtest.Eventually(t, "Cal's socket learns that she is in", func() bool { return len(hers.heardIn(c)) == 3*round+1 })
		t.Logf("a join reached a live socket on another node after %s", time.Since(start).Round(time.Millisecond))
		phone.sayIn(c, fmt.Sprint("welcome-", round))
		devtest.Eventually(t, "Cal is told", func() bool { return len(hers.heardIn(c)) == 3*round+2 })

		start = time.Now()
		ada.changed(ada.http.RemoveMember(t.Context(), g.ID, cal.id))
		phone.sayIn(c, fmt.Sprint("she-is-gone-", round))
		devtest.Eventually(t, "Cal's socket learns that she is out", func() bool { return len(hers.heardIn(c)) == 3*round+3 })
		t.Logf("a removal did after %s", time.Since(start).Round(time.Millisecond))
		refusedWithin(t, "Cal's sends are refused by her node", "not_found",
			func(text string) error { return cal.sends(c, text) },
			func(text string) error { return p[2].sends(c, text) })
	}
	devtest.Eventually(t, "Bob, beside her, has heard the last", func() bool {
		all := his.spoken(c)
		return len(all) == 7 && all[6] == "she-is-gone-2"
	})
	hers.hears(c, "*joined welcome-0 *removed *joined welcome-1 *removed *joined welcome-2 *removed")
}

// sends sends a text by HTTP.
func (p *person) sends(c im.ConversationID, text string) error {
	m := textTo(0, text)
	m.To = client.ToConversation(c)
	_, err := p.http.Send(p.t.Context(), m, false)
	return err
}

// Redis is emptied while a group talks, in either way of keeping its lists: written for
// each member, or merged at read.
func TestRooms_FlushedRedisIsExactAtTheNextRead(t *testing.T) {
	t.Parallel()
	for name, above := range map[string]int{"written": 500, "merged": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := devtest.Start(t)
			e := startEngine(t, s, func(c *configs.Config) { c.Jobs.MergeAbove = above })
			p := enrol(t, e.http, e.socket, "ada", "bob", "cal", "dan")
			dan := p[3] // is away
			c := p[0].found("the choir", im.JoinClosed, p[1:]...).MainChannelID
			var devices []*device
			for _, one := range p[:3] {
				devices = append(devices, one.connect("phone"))
			}
			var wait sync.WaitGroup
			for i, d := range devices {
				wait.Go(func() {
					for n := range 20 {
						if n == 10 && i == 0 {
							s.Redis.Flush()
						}
						o, err := d.SendText(client.ToConversation(c), fmt.Sprint(d.p.name, " ", n))
						if err != nil {
							t.Error(err)
							return
						}
						<-o.Done()
					}
				})
			}
			wait.Wait()
			s.Redis.Flush()
			const all = 61 // with the notice
			if row := dan.row(c); row.LastSeq != all || row.Unread != all-1 {
				t.Errorf("Dan's row: %+v", row)
			}
			if src := dan.offline()[c]; src.Count != all-1 || src.LastSeq != all {
				t.Errorf("what waits for Dan: %+v", src)
			}
			for _, d := range devices {
				devtest.Eventually(t, d.p.name+" has it all", func() bool { return len(d.spoken(c)) == 2*20 })
				devtest.Eventually(t, d.p.name+" has read it", func() bool {
					return d.p.http.Receipts(t.Context(), c, protocol.Receipts{ReadSeq: all}) == nil && d.p.row(c).Unread == 0
				})
			}
			devtest.Eventually(t, "two of three have read the last", func() bool {
				n, err := p[0].http.ReceiptCounts(t.Context(), c, all)
				return err == nil && n.Items[0].Recipients == 3 && n.Items[0].Read >= 2
			})
		})
	}
}
