package connector

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// watches asks for users, as "9 11=+phone -7" (see echo).
func (c *client) watches(what string) {
	c.t.Helper()
	c.text("watch " + what)
	c.expect("watching")
}

// told is the next push, which must be presence, as "9+phone" or "9".
func (c *client) told() string {
	c.t.Helper()
	f, err := c.frame()
	if err != nil {
		c.t.Fatal(err)
	}
	var push struct {
		Push protocol.Push
		Data protocol.Presence
	}
	if err := json.Unmarshal(f.Payload, &push); err != nil || push.Push != protocol.PushPresence {
		c.t.Fatalf("want presence, got %s", f.Payload)
	}
	p := push.Data
	if p.LastSeen > time.Now().UnixMilli() || p.Online && p.LastSeen != 0 {
		c.t.Errorf("last seen in the future, or while there: %s", f.Payload)
	}
	return p.UserID.String() + (&im.Presence{Online: p.Online, Platforms: p.Platforms}).State()
}

func (c *client) isTold(want string) {
	c.t.Helper()
	if got := c.told(); got != want {
		c.t.Fatalf("told %q, want %q", got, want)
	}
}

// quiet fails if anything was told before the answer to what is asked now.
func (c *client) quiet() {
	c.t.Helper()
	c.text("quiet?")
	c.expect("=quiet?")
}

func (d *directory) watchersOf(u im.UserID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.watchers[u])
}

func TestPresence_IsToldToWhoWatchesOnAnyNode(t *testing.T) { // [P12]
	dir := newDirectory()
	a, b := startNode(t, byDefault, unlimited(), dir, "n1"), startNode(t, byDefault, unlimited(), dir, "n2")
	eventually(t, "both nodes listen", func() bool { dir.mu.Lock(); defer dir.mu.Unlock(); return len(dir.batches) == 2 })
	near, far, other := a.connected(7, "w"), b.connected(8, "w"), b.connected(6, "w")
	near.watches("9")
	far.watches("9 9")
	eventually(t, "both nodes watch", func() bool { return dir.watchersOf(9) == 2 })
	phone := b.connected(9, "phone")
	near.isTold("9+phone")
	far.isTold("9+phone")
	web := a.connected(9, "web")
	near.isTold("9+phone,web")
	far.isTold("9+phone,web")
	phone.nc.Close()
	near.isTold("9+web")
	far.isTold("9+web")
	web.nc.Close()
	near.isTold("9")
	far.isTold("9")
	other.quiet()
	for _, n := range []*bench{a, b} {
		if got := value(t, n.metrics.presence); got != 4 {
			t.Errorf("%v pushes by a node with one watcher", got)
		}
	}
	if notices := value(t, a.metrics.notices) + value(t, b.metrics.notices); notices != 8 {
		t.Errorf("%v notices of 4 changes to 2 nodes", notices)
	}
}

// What logic read may have changed before this node was entered as watching.
func TestPresence_WhatChangedMeanwhileIsFound(t *testing.T) {
	b := start(t, byDefault, unlimited())
	b.connected(9, "phone")
	w := b.connected(7, "w")
	w.watches("9") // offline, it was told
	w.isTold("9+phone")
	w.watches("9=+phone 9=+tablet")
	w.isTold("9+phone")
}

func TestPresence_WhoReconnectsWasNeverGone(t *testing.T) {
	b := start(t, byDefault, unlimited())
	w := b.connected(7, "w")
	phone := b.connected(9, "phone")
	w.watches("9=+phone")
	eventually(t, "it watches", func() bool { return b.dir.watchersOf(9) == 1 })
	for range 5 {
		gone := value(t, b.metrics.notices)
		phone.nc.Close()
		eventually(t, "it is noticed", func() bool { return value(t, b.metrics.notices) > gone })
		phone = b.connected(9, "phone")
	}
	b.connected(9, "web")
	w.isTold("9+phone,web") // and nothing else before
	phone.nc.Close()
	w.isTold("9+web")
}

func TestPresence_OneUserIsToldOnceASecond(t *testing.T) {
	b := start(t, byDefault, unlimited())
	w := b.connected(7, "w")
	w.watches("9")
	b.connected(9, "d0")
	w.isTold("9+d0")
	began := time.Now()
	for i := range 8 {
		b.connected(9, fmt.Sprint("d", i+1))
	}
	for last := "9+d0,d1,d2,d3,d4,d5,d6,d7,d8"; ; {
		if w.told() == last {
			break
		}
	}
	pushes, seconds := value(t, b.metrics.presence), time.Since(began).Seconds()
	if pushes-1 > seconds+1 {
		t.Errorf("%v pushes in %.1f s", pushes, seconds)
	}
}

func TestPresence_OfAKilledNodeEndsWithItsLease(t *testing.T) {
	dir := newDirectory()
	b, dies := startNode(t, byDefault, unlimited(), dir, "n1"), startNode(t, byDefault, unlimited(), dir, "n2")
	w := b.connected(7, "w")
	w.watches("9 11")
	dies.connected(9, "phone")
	w.isTold("9+phone")
	b.connected(11, "phone")
	w.isTold("11+phone")
	before := 0
	dir.set(func() { before = dir.checks })
	eventually(t, "it has been seen alive", func() (seen bool) {
		dir.set(func() { seen = dir.checks >= before+2 }) // what the first of them said has been noted then
		return seen
	})
	dir.set(func() { dir.dead["n2"] = true })
	w.isTold("9")
	w.quiet()
}

func TestPresence_AfterAFlushWatchersAreEnteredAnewAndNobodyBlinks(t *testing.T) {
	dir := newDirectory()
	b := startNode(t, byDefault, unlimited(), dir, "n1")
	w := b.connected(7, "w")
	gone := b.connected(9, "phone")
	b.connected(11, "phone")
	w.watches("9=+phone 11=+phone")
	eventually(t, "it watches", func() bool { return dir.watchersOf(9) == 1 })
	dir.set(func() {
		clear(dir.sessions)
		clear(dir.watchers)
		close(dir.changed)
		dir.changed = make(chan struct{})
	})
	gone.nc.Close() // and nobody is there to be told of it
	eventually(t, "it watches again", func() bool { return dir.watchersOf(9) == 1 && dir.watchersOf(11) == 1 })
	w.isTold("9")
	w.quiet()
}

func TestPresence_WhileRoutesAreAwayNothingIsToldAndThenAllOfIt(t *testing.T) {
	b := start(t, byDefault, unlimited())
	w := b.connected(7, "w")
	w.watches("9")
	eventually(t, "it watches", func() bool { return b.dir.watchersOf(9) == 1 })
	b.dir.set(func() { b.dir.away = true })
	b.connected(9, "phone")
	w.watches("11")
	w.quiet()
	b.dir.set(func() { b.dir.away = false; clear(b.dir.watchers) })
	w.isTold("9+phone")
	eventually(t, "it watches both", func() bool { return b.dir.watchersOf(9) == 1 && b.dir.watchersOf(11) == 1 })
}

func TestPresence_NothingIsKeptOfThoseWhoStopped(t *testing.T) {
	b := start(t, byDefault, unlimited())
	one, two := b.connected(7, "w"), b.connected(8, "w")
	one.watches("9 11 12")
	two.watches("9 11")
	eventually(t, "three are watched", func() bool { return value(t, b.metrics.watched) == 3 })
	one.watches("-11 -12 -999")
	eventually(t, "two are", func() bool { return b.dir.watchersOf(12) == 0 && value(t, b.metrics.watched) == 2 })
	b.connected(11, "phone")
	two.isTold("11+phone")
	one.quiet()
	one.nc.Close()
	two.nc.Close()
	eventually(t, "nobody is", func() bool {
		b.dir.mu.Lock()
		defer b.dir.mu.Unlock()
		return len(b.dir.watchers) == 0 && value(t, b.metrics.watched) == 0
	})
	b.Server.presence.mu.Lock()
	defer b.Server.presence.mu.Unlock()
	if p := b.Server.presence; len(p.targets)+len(p.due)+len(p.empty)+len(p.fresh) != 0 {
		t.Errorf("kept: %d targets, %d due, %d to leave, %d to enter", len(p.targets), len(p.due), len(p.empty), len(p.fresh))
	}
}

func TestPresence_OfTooManyTheOldestAreDropped(t *testing.T) {
	b := start(t, byDefault, unlimited())
	w := b.connected(7, "w")
	for first := 1; first <= im.MaxWatched+200; first += 200 {
		var ids []string
		for u := first; u < first+200; u++ {
			ids = append(ids, fmt.Sprint(1000+u))
		}
		w.watches(strings.Join(ids, " "))
	}
	eventually(t, "the bound holds", func() bool { return value(t, b.metrics.watched) == im.MaxWatched && b.dir.watchersOf(1001) == 0 })
	b.connected(1001, "phone") // dropped
	b.connected(1201, "phone")
	w.isTold("1201+phone")
}

func TestPresence_HiddenIsOfflineAndNotWatchedAnyMore(t *testing.T) {
	b := start(t, byDefault, unlimited())
	w, other := b.connected(7, "w"), b.connected(8, "w")
	w.watches("9 11")
	other.watches("9")
	b.connected(9, "phone")
	w.isTold("9+phone")
	other.isTold("9+phone")
	b.up.revoke([]im.Revocation{{ID: 1, User: 7, Hidden: 9}, {ID: 2, User: 7, Hidden: 11}})
	w.isTold("9")
	b.connected(9, "web")
	other.isTold("9+phone,web")
	w.quiet()
}

func TestRevocation_EndsSessionsOfOlderLogins(t *testing.T) { // [P13]
	b := start(t, byDefault, unlimited())
	phone, web, other := b.connected(7, "phone"), b.connected(7, "web"), b.connected(8, "phone")
	b.up.revoke([]im.Revocation{{ID: 1, User: 7, Device: "phone", DeviceVersion: 1}})
	phone.expectFrame(ws.OpText, string(ended))
	phone.expectClose(protocol.CloseUnauthenticated)
	web.quiet()
	other.quiet()
	// Who comes with the old token while logic still believes it.
	again := b.upgraded()
	again.text("connect 7 phone")
	again.expectClose(protocol.CloseUnauthenticated)
	b.up.revoke([]im.Revocation{{ID: 2, User: 7, TokenVersion: 1}})
	web.expectClose(protocol.CloseUnauthenticated)
	other.quiet()
	if n := value(t, b.metrics.revoked); n != 2 {
		t.Errorf("%v sessions revoked", n)
	}
}

func TestRoutes_LostKickIsFoundAtTheNextRenewal(t *testing.T) { // [P11]
	dir := newDirectory()
	cfg := unlimited()
	cfg.RenewInterval = 50 * time.Millisecond
	b := startNode(t, byDefault, cfg, dir, "n1")
	c := b.connected(7, "phone")
	dir.set(func() { // another node has taken it, and its kick went nowhere
		clear(dir.sessions)
		dir.sessions["newer"] = im.SessionRef{User: 7, Device: "phone", Session: "newer", Node: "n2"}
	})
	c.expectClose(protocol.CloseReplaced)
}

func TestRoutes_PolicyEndsOtherDevicesOnAnyNode(t *testing.T) {
	dir := newDirectory()
	a, b := startNode(t, byDefault, unlimited(), dir, "n1"), startNode(t, byDefault, unlimited(), dir, "n2")
	eventually(t, "both nodes listen", func() bool { dir.mu.Lock(); defer dir.mu.Unlock(); return len(dir.batches) == 2 })
	for _, n := range []*bench{a, b} {
		n.up.mu.Lock()
		n.up.policy = im.DevicesOne
		n.up.mu.Unlock()
	}
	here, there := a.connected(7, "phone"), b.connected(8, "phone")
	second := a.connected(7, "web")
	here.expectFrame(ws.OpText, string(kicked))
	here.expectClose(protocol.CloseReplaced)
	b.connected(7, "tablet")
	second.expectClose(protocol.CloseReplaced)
	there.quiet()
}

func TestRoutes_BoundOfSessionsHoldsOverNodes(t *testing.T) {
	dir := newDirectory()
	cfg := unlimited()
	cfg.SessionsPerUser = 2
	a, b := startNode(t, byDefault, cfg, dir, "n1"), startNode(t, byDefault, cfg, dir, "n2")
	a.connected(7, "d1")
	b.connected(7, "d2")
	third := b.upgraded()
	third.text("connect 7 d3")
	third.expectClose(protocol.ClosePolicy)
	eventually(t, "it is not kept", func() bool { return len(b.sessions.of(7, nil)) == 1 && dir.registered() == 2 })
}

func TestSessions_LogicIsToldWhenTheyEnd(t *testing.T) {
	b := start(t, byDefault, unlimited())
	c := b.connected(7, "phone")
	b.upgraded().nc.Close() // never a session
	c.nc.Close()
	eventually(t, "logic knows", func() bool { b.up.mu.Lock(); defer b.up.mu.Unlock(); return len(b.up.left) == 1 })
}
