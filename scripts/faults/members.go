package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// spread is over how long members connect at first, for each of them: they are no herd yet.
const spread = 5 * time.Millisecond

// members are thousands of clients, in groups in which nobody else is. They stay for all
// injections of a run.
type members struct {
	all    []*member
	groups []*conv
	byID   map[im.UserID]*person // owners, who speak
	leave  func()                // disconnects them, and waits for it
}

// assemble makes n users in groups of so many, and connects them to the given sockets.
func assemble(ctx context.Context, c *cluster, n, per int, sockets []string) (*members, error) {
	server := c.backend()
	ids, err := upsert(ctx, server, "member-"+random()[:8], n)
	if err != nil {
		return nil, fmt.Errorf("create users: %w", err)
	}
	ms := &members{byID: make(map[im.UserID]*person)}
	for i, id := range ids {
		ms.all = append(ms.all, &member{id: id, device: im.DeviceID(fmt.Sprint("member-", i)), sockets: sockets})
	}
	if err := parallel(ctx, ms.all, func(m *member) error {
		return insistently(ctx, func() error {
			t, err := server.IssueTokens(ctx, protocol.IssueTokens{UserID: &m.id, Device: m.device, Platform: "faults"})
			m.token = t.AccessToken
			return err
		})
	}); err != nil {
		return nil, fmt.Errorf("issue tokens: %w", err)
	}
	for part := range slices.Chunk(ms.all, per) {
		owner := &person{id: part[0].id, device: part[0].device, token: part[0].token}
		ms.byID[owner.id] = owner
		var in []im.UserID
		for _, m := range part {
			in = append(in, m.id)
		}
		g, err := (&crowd{byID: ms.byID}).group(ctx, c.bases()[0], in)
		if err != nil {
			return nil, fmt.Errorf("create a group: %w", err)
		}
		ms.groups = append(ms.groups, g)
		first, err := ms.say(ctx, c, g, "begin")
		if err != nil {
			return nil, err
		}
		for _, m := range part {
			m.conv = g.id
			m.skip(first) // what was before is nobody's concern
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var connected sync.WaitGroup
	for _, m := range ms.all {
		connected.Go(func() {
			if pause(ctx, rand.N(time.Duration(n)*spread)) == nil {
				m.run(ctx)
			}
		})
	}
	ms.leave = func() {
		cancel()
		connected.Wait()
	}
	return ms, nil
}

// say has the owner of a group say something, and returns where it is.
func (ms *members) say(ctx context.Context, c *cluster, g *conv, what string) (at im.Seq, err error) {
	m := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(g.id), Content: text(what)}
	return at, insistently(ctx, func() error {
		s, err := ms.byID[g.members[0]].http(c.load.base()).Send(ctx, m, true)
		if err == nil && s.State != protocol.StateStored {
			err = errNotStored
		}
		at = s.Seq
		return err
	})
}

// settled waits until all have synced on a connection made after since, to at where it is
// given, and have everything up to need. It returns how many have, and when each had synced.
func (ms *members) settled(ctx context.Context, since time.Time, at string, need map[im.ConversationID]im.Seq) (n int, whole []time.Time) {
	ctx, cancel := context.WithTimeout(ctx, recovering)
	defer cancel()
	for {
		n, whole = 0, whole[:0]
		for _, m := range ms.all {
			m.mu.Lock()
			if m.whole.After(since) && (at == "" || m.at == at) {
				whole = append(whole, m.whole)
				if m.have >= need[m.conv] {
					n++
				}
			}
			m.mu.Unlock()
		}
		if n == len(ms.all) || pause(ctx, 100*time.Millisecond) != nil {
			return n, whole
		}
	}
}

// direct says to which sockets members connect from now on.
func (ms *members) direct(sockets []string) {
	for _, m := range ms.all {
		m.mu.Lock()
		m.sockets = sockets
		m.mu.Unlock()
	}
}
