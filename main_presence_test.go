package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// news is what a device was told of others.
type news struct {
	presence inbox[protocol.Presence]
	typing   inbox[protocol.TypingNow]
	kicked   inbox[protocol.Kicked]
}

func (n *news) hear(o *client.Options) {
	o.OnPresence, o.OnTyping, o.OnKicked = n.presence.add, n.typing.add, n.kicked.add
}

// of is the last that was told of u, and how often anything was.
func (n *news) of(u im.UserID) (last protocol.Presence, times int) {
	for _, p := range n.presence.all() {
		if p.UserID == u {
			last = p
			times++
		}
	}
	return last, times
}

// isTold waits until the last that was told of u is that.
func (n *news) isTold(t *testing.T, u *person, online bool) (last protocol.Presence) {
	t.Helper()
	what := map[bool]string{true: " is online", false: " is offline"}[online]
	devtest.Eventually(t, "told that "+u.name+what, func() bool {
		var times int
		last, times = n.of(u.id)
		return times > 0 && last.Online == online
	})
	if last.LastSeen > time.Now().UnixMilli() {
		t.Errorf("%s was seen in the future: %+v", u.name, last)
	}
	return last
}

// watch asks to be told of others and says what they are now.
func (d *device) watch(who ...*person) (now []protocol.Presence) {
	d.p.t.Helper()
	var ids []im.UserID
	for _, p := range who {
		ids = append(ids, p.id)
	}
	again(d.p.t, "watch", func() (err error) {
		now, err = d.Watch(context.Background(), ids...)
		return err
	})
	return now
}

// looksUp is what p learns of u by HTTP.
func (p *person) looksUp(u *person) protocol.Presence {
	p.t.Helper()
	var all []protocol.Presence
	again(p.t, "presence by HTTP", func() (err error) {
		all, err = p.http.Presence(context.Background(), u.id)
		return err
	})
	return all[0]
}

// acquainted has a and the others talk, so that they may see each other.
func acquainted(t *testing.T, a *person, others ...*person) {
	t.Helper()
	for _, o := range others {
		again(t, "say hello", func() error {
			_, err := a.http.Send(context.Background(), textTo(o.id, "hello"), true)
			return err
		})
	}
}

func TestPresence_IsToldToFriendsOnAnyNodeAndToNobodyElse(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	near, far := startEngine(t, s), startEngine(t, s, front())
	p := enrol(t, near.http, near.socket, "ada", "bob", "carol")
	ada, bob, carol := p[0], p[1], p[2]
	bob.socket = far.socket
	acquainted(t, ada, bob)
	var hers, strangers news
	phone, stranger := ada.connect("phone", hers.hear), carol.connect("phone", strangers.hear)
	if now := phone.watch(bob, carol); now[0].Online || now[1].Online || now[1].LastSeen != 0 {
		t.Errorf("before: %+v", now)
	}
	stranger.watch(bob)

	his := bob.connect("phone")
	if last := hers.isTold(t, bob, true); !slices.Equal(last.Platforms, []string{"test"}) || last.LastSeen != 0 {
		t.Errorf("online: %+v", last)
	}
	if now := ada.looksUp(bob); !now.Online {
		t.Errorf("by HTTP: %+v", now)
	}
	if now := carol.looksUp(bob); now.Online || now.LastSeen != 0 || now.Platforms != nil {
		t.Errorf("to a stranger: %+v", now)
	}
	left := time.Now()
	his.leave()
	if last := hers.isTold(t, bob, false); last.LastSeen < left.UnixMilli()-1000 {
		t.Errorf("seen last %d, left at %d", last.LastSeen, left.UnixMilli())
	}
	devtest.Eventually(t, "the record has it", func() bool { return ada.looksUp(bob).LastSeen >= left.UnixMilli()-1000 })
	if now := carol.looksUp(bob); now.LastSeen != 0 {
		t.Errorf("a stranger learns when: %+v", now)
	}

	// Who is blocked sees nothing, from that moment on.
	his = bob.connect("phone")
	hers.isTold(t, bob, true)
	if err := bob.http.SetBlock(t.Context(), ada.id, true); err != nil {
		t.Fatal(err)
	}
	if last := hers.isTold(t, bob, false); last.LastSeen != 0 {
		t.Errorf("blocked: %+v", last)
	}
	_, before := hers.of(bob.id)
	bob.connect("tablet")
	if now := ada.looksUp(bob); now.Online || now.LastSeen != 0 {
		t.Errorf("blocked, by HTTP: %+v", now)
	}
	if now := phone.watch(bob); now[0].Online {
		t.Errorf("blocked, asked again: %+v", now)
	}
	if _, times := hers.of(bob.id); times != before {
		t.Errorf("told %d times more though blocked", times-before)
	}
	if _, times := strangers.of(bob.id); times != 0 {
		t.Errorf("a stranger was told %d times", times)
	}

	// After a new connection the client is told again what it watches.
	carolsTablet := carol.connect("tablet")
	acquainted(t, ada, carol)
	phone.watch(carol)
	carolsTablet.leave()
	stranger.leave()
	hers.isTold(t, carol, false)
	far.stop()
}

func TestPresence_FlushedRedisIsRightWithinSeconds(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	near, far := startEngine(t, s), startEngine(t, s, front())
	p := enrol(t, near.http, near.socket, "ada", "bob", "carol", "dave")
	ada, bob, carol, dave := p[0], p[1], p[2], p[3]
	acquainted(t, ada, bob, carol, dave)
	for _, o := range p[1:] {
		o.socket = far.socket
	}
	var hers news
	phone := ada.connect("phone", hers.hear)
	bob.connect("phone")
	carols := carol.connect("phone")
	phone.watch(bob, carol, dave)
	s.Redis.Flush()
	carols.leave()
	dave.connect("phone")
	hers.isTold(t, carol, false)
	hers.isTold(t, dave, true)
	if last, times := hers.of(bob.id); times != 0 {
		t.Errorf("Bob blinked: %+v", last)
	}
	// And what comes later is told as ever.
	carol.connect("tablet")
	hers.isTold(t, carol, true)
	if _, times := hers.of(bob.id); times != 0 {
		t.Error("Bob blinked")
	}
}

func TestPresence_KilledConnectorsUsersAreOfflineWithin30s(t *testing.T) {
	t.Parallel()
	if !devtest.Real() {
		t.Skip("a connector in a process of its own needs real stores")
	}
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	face := between.engine(t, s, configs.RoleLogic, configs.RoleAPI, configs.RoleJobs)
	sockets := between.engine(t, s, configs.RoleConnector)
	dies := between.connector(t, s, nil)
	p := enrol(t, face.http, sockets.socket, "ada", "bob")
	ada, bob := p[0], p[1]
	acquainted(t, ada, bob)
	var hers news
	phone := ada.connect("phone", hers.hear)
	phone.watch(bob)
	bob.socket = dies.socket()
	bob.connect("phone")
	hers.isTold(t, bob, true)
	killed := time.Now()
	dies.kill()
	last := hers.isTold(t, bob, false)
	t.Logf("told %.1f s after the kill, seen last %.1f s before it", time.Since(killed).Seconds(), float64(killed.UnixMilli()-last.LastSeen)/1000)
	if last.LastSeen == 0 {
		t.Errorf("not known when: %+v", last)
	}
	devtest.Eventually(t, "the record has when the stream to its connector broke", func() bool {
		return ada.looksUp(bob).LastSeen >= killed.UnixMilli()-1000
	})
	dies.start()
	hers.isTold(t, bob, true) // his client has come back
}

func TestTyping_IsSeenByTheOtherSideAlone(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	near, far := startEngine(t, s), startEngine(t, s, front())
	p := enrol(t, near.http, near.socket, "ada", "bob", "carol")
	ada, bob, carol := p[0], p[1], p[2]
	bob.socket = far.socket
	acquainted(t, ada, bob)
	conv := im.DirectConversation(ada.id, bob.id)
	var his, hers, own news
	phone := ada.connect("phone")
	ada.connect("tablet", own.hear)
	bob.connect("phone", his.hear)
	carol.connect("phone", hers.hear)
	for _, on := range []bool{true, true, true, false} {
		if err := phone.Typing(t.Context(), conv, on); err != nil {
			t.Fatal(err)
		}
	}
	devtest.Eventually(t, "Bob sees it begin and end", func() bool { return len(his.typing.all()) == 2 })
	begun := protocol.TypingNow{ConversationID: conv, UserID: ada.id, On: true, ExpiresMS: 6000}
	if told := his.typing.all(); told[0] != begun || told[1].On {
		t.Errorf("told %+v", told)
	}
	// To a stranger it is as if nothing was said.
	if err := phone.Typing(t.Context(), im.DirectConversation(ada.id, carol.id), true); err != nil {
		t.Errorf("to a stranger: %v", err)
	}
	want(t, "not_found", phone.Typing(t.Context(), im.DirectConversation(bob.id, carol.id), true))
	if err := bob.http.SetBlock(t.Context(), ada.id, true); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, "refused as a send would be", func() bool { return client.IsCode(phone.Typing(t.Context(), conv, true), "blocked") })
	if err := carol.http.SetBlock(t.Context(), bob.id, true); err != nil { // an answer after everything else
		t.Fatal(err)
	}
	if a, b := hers.typing.all(), own.typing.all(); len(a)+len(b) != 0 {
		t.Errorf("a stranger was told %+v, Ada's tablet %+v", a, b)
	}
	if h := ada.history(conv); len(h) != 1 {
		t.Errorf("%d messages in the history", len(h))
	}
}

func TestDevices_PolicyLeavesTheNewestOnAnyNode(t *testing.T) {
	t.Parallel()
	for policy, stay := range map[im.DevicePolicy][]im.DeviceID{
		im.DevicesAll:            {"phone", "tablet", "web"},
		im.DevicesOnePerPlatform: {"tablet", "web"},
		im.DevicesOne:            {"tablet"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			s := devtest.Start(t)
			set := func(c *configs.Config) { c.Logic.DevicePolicy = policy }
			near, far := startEngine(t, s, set), startEngine(t, s, set, front())
			ada := enrol(t, near.http, near.socket, "ada")[0]
			told := map[im.DeviceID]*news{}
			all := map[im.DeviceID]*device{}
			for _, d := range []struct {
				name     im.DeviceID
				platform string
				at       *engine
			}{{"phone", "ios", near}, {"web", "web", far}, {"tablet", "ios", far}} {
				p := *ada
				p.socket = d.at.socket
				told[d.name] = &news{}
				all[d.name] = p.connect(d.name, told[d.name].hear, func(o *client.Options) { o.Platform = d.platform })
			}
			for name, d := range all {
				if slices.Contains(stay, name) {
					if err := d.Do(t.Context(), protocol.CmdPing, protocol.Ping{}, nil); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				err := <-d.done
				d.done <- err
				if c, ok := err.(*client.CloseError); !ok || c.Code != protocol.CloseReplaced {
					t.Errorf("%s ended with %v", name, err)
				}
				if k := told[name].kicked.all(); len(k) != 1 || k[0].Code != "replaced" {
					t.Errorf("%s was told %+v", name, k)
				}
			}
			if devices, err := ada.http.Devices(t.Context()); err != nil || len(devices.Items) != 4 { // and "http": all logins stand
				t.Errorf("%+v (%v)", devices, err)
			}
		})
	}
}

// Redis is frozen, so no kick arrives, and nobody pings.
func TestRevocation_EndsSocketsThoughTheKickIsLost(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	near := startEngine(t, s)
	between.engine(t, s, configs.RoleLogic, configs.RoleJobs)
	far := between.engine(t, s, configs.RoleConnector)
	ada := enrol(t, near.http, near.socket, "ada")[0]
	stays := ada.wire("phone")
	tablet := ada.wire("tablet")
	ada.socket = far.socket
	web, other := ada.wire("web"), ada.wire("laptop")
	s.Redis.Pause()
	revoked := time.Now()
	for _, d := range []im.DeviceID{"web", "tablet"} {
		again(t, "revoke", func() error {
			err := ada.http.RevokeDevice(t.Context(), d)
			if client.IsCode(err, "not_found") {
				err = nil // was done, and its answer late
			}
			return err
		})
	}
	for name, w := range map[string]*wire{"here": tablet, "over the bridge": web} {
		if code, _ := w.ends(); code != protocol.CloseUnauthenticated {
			t.Errorf("%s: closed with %d", name, code)
		}
		t.Logf("%s: closed %.1f s after", name, time.Since(revoked).Seconds())
	}
	s.Redis.Resume()
	for _, w := range []*wire{stays, other} {
		w.alive("others were revoked")
	}
	web = ada.wire("web") // logs in anew
	web.alive("a new login of a revoked device")
}

// A device too many is refused whichever nodes the others are on, also where all come
// at once.
func TestDevices_BoundHoldsOverNodes(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	near, far := startEngine(t, s), startEngine(t, s, front())
	ada := enrol(t, near.http, near.socket, "ada")[0]
	const tried = 16
	tokens := make([]string, tried)
	for i := range tokens {
		tokens[i] = ada.issue(im.DeviceID(string(rune('a' + i)))).AccessToken
	}
	wires := make([]*wire, tried)
	for i := range wires {
		wires[i] = dialWire(t, []*engine{near, far}[i%2].socket)
	}
	var wg sync.WaitGroup
	for i, w := range wires {
		wg.Go(func() {
			w.ask("c", protocol.CmdConnect, protocol.Connect{Token: tokens[i], Device: im.DeviceID(string(rune('a' + i)))})
		})
	}
	wg.Wait()
	open := func() (n int) {
		for _, w := range wires {
			w.mu.Lock()
			if len(w.replies) == 1 && w.replies[0].Error == nil && w.closed == 0 {
				n++
			}
			w.mu.Unlock()
		}
		return n
	}
	devtest.Eventually(t, "ten are left", func() bool { return open() == 10 })
}
