package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// hotFaults are of one group that is far busier than any other. Recovery counts from the
// mending: the first injection also assembles the group.
var hotFaults = []fault{
	{name: "F30", about: "a worker is killed while a group of thousands who are online talks all the time", full: 5, hold: 2 * time.Second, healed: true, inject: killHot},
}

// hotRate is what is said in the hot group, messages a second.
const hotRate = 50

// hot is a group all of whose members are online, one of whom talks.
type hot struct {
	ms     *members
	stop   func() // the talking, and waits for what is under way
	mu     sync.Mutex
	said   map[im.ClientMsgID]time.Time // when it was acked
	failed []error                      // of what was given up
}

// end disconnects everybody.
func (h *hot) end() {
	h.stop()
	h.ms.leave()
}

// killHot kills a worker under the hot group, which is assembled for the first injection.
func killHot(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	if c.hot == nil {
		ms, err := assemble(ctx, c, c.hots, c.hots, c.sockets())
		if err != nil {
			return nil, err
		}
		c.hot = &hot{ms: ms, stop: func() {}, said: make(map[im.ClientMsgID]time.Time)}
		n, _ := ms.settled(ctx, time.Time{}, "", nil)
		c.tally.broke(n == c.hots, "%d of %d members are online", n, c.hots)
		c.tally.set("members", float64(c.hots))
		c.hot.talk(ctx, c)
		c.tally.atEnd(func(ctx context.Context, e *ending) error {
			defer func() { c.hot = nil }()
			defer c.hot.end()
			return c.cooled(ctx, e)
		})
		if err := pause(ctx, 2*time.Second); err != nil { // it is hot
			return nil, err
		}
	}
	heal, err := killOne("jobs")(ctx, c)
	return func(ctx context.Context) error {
		if c.tally.last() {
			c.hot.stop()
		}
		return heal(ctx)
	}, err
}

// talk says something at hotRate until stop.
func (h *hot) talk(ctx context.Context, c *cluster) {
	trying := ctx
	talking, cancel := context.WithCancel(ctx)
	var under sync.WaitGroup
	under.Go(func() {
		tick := time.NewTicker(time.Second / hotRate)
		defer tick.Stop()
		g := h.ms.groups[0]
		owner := h.ms.byID[g.members[0]]
		for {
			select {
			case <-talking.Done():
				return
			case <-tick.C:
			}
			under.Go(func() {
				m := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(g.id), Content: text("hot")}
				err := insistently(trying, func() error {
					_, err := owner.http(c.load.base()).Send(trying, m, false)
					return err
				})
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.said[m.ClientMsgID] = time.Now(); err != nil {
					delete(h.said, m.ClientMsgID)
					h.failed = append(h.failed, err)
				}
			})
		}
	})
	h.stop = func() {
		cancel()
		under.Wait()
	}
}

// cooled ends the talking, waits until everybody has everything, or has asked twice in
// vain, and says how it went.
func (c *cluster) cooled(ctx context.Context, e *ending) error {
	h, t := c.hot, c.tally
	h.stop()
	if len(h.failed) > 0 {
		t.add("stuck", "%d messages of the hot group were not taken: %v", len(h.failed), h.failed[0])
	}
	g := h.ms.groups[0]
	last, err := h.ms.say(ctx, c, g, "end")
	if err != nil {
		return err
	}
	rows, err := h.history(ctx, c, g)
	if err != nil {
		return err
	}
	there := make(map[im.ClientMsgID]int)
	for i, m := range rows {
		if i > 0 && m.Seq != rows[i-1].Seq+1 {
			t.add("gap", "hot group: %d comes after %d", m.Seq, rows[i-1].Seq)
		}
		there[m.ClientMsgID]++
		if acked, ok := h.said[m.ClientMsgID]; ok {
			t.sample("hot_insert_s", 0, max(0, time.UnixMilli(m.StoredAt).Sub(acked).Seconds()))
		}
	}
	for id := range h.said {
		switch n := there[id]; {
		case n == 0:
			t.add("lost", "hot group: %s was acked", id)
		case n > 1:
			t.add("dup", "hot group: %s is there %d times", id, n)
		}
	}
	for _, other := range helds(c.load.r, e) {
		t.sample("other_insert_s", 0, (other.to - other.from).Seconds())
	}
	t.set("hot_acked", float64(len(h.said)))
	return h.ms.caughtUp(ctx, t, last)
}

// history is the whole of a group as its owner finds it.
func (h *hot) history(ctx context.Context, c *cluster, g *conv) (all []im.Message, err error) {
	owner := h.ms.byID[g.members[0]]
	for more := true; more; {
		var after im.Seq
		if len(all) > 0 {
			after = all[len(all)-1].Seq
		}
		if err := insistently(ctx, func() error {
			page, err := owner.http(c.load.base()).History(ctx, protocol.History{ConversationID: g.id, AfterSeq: &after, Limit: 100})
			if err == nil {
				all, more = append(all, page.Items...), page.HasMore
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// coolingFor bounds the wait of thousands for what they were not pushed; who has not asked
// often enough by then is not found stuck, but the run says so.
const coolingFor = 5 * time.Minute

// caughtUp waits until each member has everything up to last, or has asked in vain, and
// says by what they came to know of it.
func (ms *members) caughtUp(ctx context.Context, t *tally, last im.Seq) error {
	began := time.Now()
	before := make(map[*member]int)
	for _, m := range ms.all {
		m.mu.Lock()
		before[m] = m.beats
		m.mu.Unlock()
	}
	behind := 0
	for done := false; !done && time.Since(began) < coolingFor; {
		done, behind = true, 0
		for _, m := range ms.all {
			m.mu.Lock()
			if m.have < last {
				behind++
				done = done && m.beats-before[m] > 2 // the first may have been under way
			}
			m.mu.Unlock()
		}
		if !done {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	t.set("caught_up_s", time.Since(began).Seconds())
	if behind > 0 {
		t.add("stuck", "hot group: %d of %d members have not everything up to %d", behind, len(ms.all), last)
	}
	var by [3]float64
	missing := 0.0
	for _, m := range ms.all {
		m.mu.Lock()
		for i, n := range m.known {
			by[i] += float64(n)
		}
		missing += float64(last) - float64(min(m.have, last))
		m.mu.Unlock()
	}
	all := by[0] + by[1] + by[2] + missing
	if all == 0 {
		return errors.New("nobody was told anything")
	}
	dropped := all - by[0]
	t.set("push_drop_pct", 100*dropped/all)
	if dropped > 0 {
		t.set("repaired_pct", 100*(dropped-missing)/dropped)
	}
	t.broke(by[0] > 0, "%s", fmt.Sprintf("of %.0f numbers none was pushed", all))
	return nil
}
