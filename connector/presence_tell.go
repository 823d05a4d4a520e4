package connector

import (
	"context"
	"slices"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// readDue reads those whose time has come, and tells what is new.
func (p *presence) readDue(ctx context.Context, now time.Time) (more bool, err error) {
	p.mu.Lock()
	var users []im.UserID
	if !now.Before(p.settled) {
		for t := range p.due {
			if t.entered && !now.Before(t.at) {
				users = append(users, t.user)
				t.read = now
				delete(p.due, t)
			}
			if len(users) == readBatch {
				more = true
				break
			}
		}
	}
	p.mu.Unlock()
	if len(users) == 0 {
		return false, nil
	}
	call, cancel := context.WithTimeout(ctx, p.s.cfg.RouteTimeout)
	all, err := p.s.routes.Presence(call, users)
	cancel()
	var woken []*conn
	p.mu.Lock()
	for _, u := range users {
		t := p.targets[u]
		if t == nil {
			continue
		}
		if read, ok := all[u]; ok && err == nil {
			woken = p.tell(t, &read, now, woken)
		} else {
			p.mark(t, now)
		}
	}
	p.mu.Unlock()
	p.s.wakeAll(woken)
	return more, err
}

// tell puts what t's watchers do not know yet into their outboxes. With mu held.
func (p *presence) tell(t *target, read *im.Presence, now time.Time, woken []*conn) []*conn {
	state, was := read.State(), t.state
	t.state, t.nodes = state, read.Nodes
	if read.Online {
		t.away = time.Time{}
	} else if read.SeenAt = min(read.SeenAt, now.UnixMilli()); read.SeenAt == 0 || now.Sub(time.UnixMilli(read.SeenAt)) < longDead {
		if t.away.IsZero() {
			t.away = now
		}
		if back := t.away.Add(offlineGrace); now.Before(back) && t.toldOnline() {
			t.state, t.at = was, back
			p.due[t] = struct{}{}
			return woken
		}
		if read.SeenAt == 0 && was != "" {
			read.SeenAt = t.away.UnixMilli() // Redis has forgotten it
		}
	}
	var frame []byte
	for i := range t.watches {
		w := &t.watches[i]
		if w.state == state {
			continue
		}
		w.state = state
		if frame == nil {
			frame = textFrame(encode(protocol.PushPresence, protocol.ShowPresence(read)))
			t.told = now
		}
		p.s.metrics.presence.Inc()
		if w.c.put(frame, push) {
			woken = append(woken, w.c)
		}
	}
	return woken
}

func (t *target) toldOnline() bool {
	return slices.ContainsFunc(t.watches, func(w watch) bool { return w.state != "" })
}

// hidden ends the watches of those who may not see somebody any more; to them they
// have gone offline.
func (p *presence) hidden() {
	p.mu.Lock()
	hides := p.hides
	p.hides = nil
	p.mu.Unlock()
	var found []*conn
	for _, r := range hides {
		found = p.s.sessions.of(r.User, found[:0])
		for _, c := range found {
			p.mu.Lock()
			state, was := p.end(c, r.Hidden)
			p.mu.Unlock()
			if was && state != "" {
				c.write(textFrame(encode(protocol.PushPresence, protocol.Presence{UserID: r.Hidden})), push)
			}
		}
	}
}
