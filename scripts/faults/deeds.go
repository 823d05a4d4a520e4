package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// aside starts what goes on beside the sending.
func (l *load) aside(ctx, trying context.Context) {
	for _, c := range l.w.convs {
		if c.guest != 0 {
			l.doings.Go(func() { l.visits(ctx, trying, c) })
		}
	}
	l.doings.Go(func() { l.lists(ctx) })
	l.doings.Go(func() { l.lookups(ctx) })
}

// change edits or recalls a message, until it is known to have been taken.
func (l *load) change(ctx context.Context, p *person, s *send, at im.Seq) {
	ch := &change{conv: s.conv, token: s.token, recall: rand.IntN(2) == 0}
	ask := protocol.Change{ClientChangeID: client.NewClientChangeID(), ConversationID: s.conv, Seq: at, Kind: im.ChangeEdit, Content: text(s.token + " meant")}
	if ch.recall {
		ask.Kind, ask.Content = im.ChangeRecall, nil
	}
	l.r.mu.Lock()
	l.r.changes = append(l.r.changes, ch)
	l.r.mu.Unlock()
	for {
		_, err := p.http(l.base()).Change(ctx, ask, rand.IntN(2) == 0)
		var e *protocol.Error
		final := errors.As(err, &e) && !e.Retryable
		if err == nil {
			l.r.mu.Lock()
			ch.outcome = acked
			l.r.mu.Unlock()
		}
		if err == nil || final || pause(ctx, 200*time.Millisecond+rand.N(time.Second)) != nil {
			return
		}
	}
}

// visits lets a guest come and go for as long as the load lasts.
func (l *load) visits(ctx, trying context.Context, c *conv) {
	owner, guest := l.w.byID[c.members[0]], l.w.byID[c.guest]
	for in := true; pause(ctx, 2*time.Second+rand.N(4*time.Second)) == nil; in = !in {
		m := &move{conv: c.id, user: c.guest, in: in, asked: l.r.now()}
		l.r.mu.Lock()
		l.r.moves = append(l.r.moves, m)
		l.r.mu.Unlock()
		out := unknown
		for tries := 0; ; tries++ {
			var g protocol.GroupChanged
			var err error
			switch h := owner.http(l.base()); {
			case in:
				g, err = h.AddMembers(trying, c.group, c.guest)
			case tries%2 == 0:
				g, err = h.RemoveMember(trying, c.group, c.guest)
			default:
				g, err = guest.http(l.base()).LeaveGroup(trying, c.group)
			}
			if err == nil && g.Applied {
				out = acked
				break
			}
			var e *protocol.Error
			if errors.As(err, &e) && !e.Retryable && tries > 0 {
				break // an earlier attempt has done it
			}
			if pause(trying, 200*time.Millisecond+rand.N(500*time.Millisecond)) != nil {
				break
			}
		}
		l.r.mu.Lock()
		m.outcome, m.answered = out, l.r.now()
		l.r.mu.Unlock()
	}
}

// lists looks at somebody's list again and again: it is whole, or there is none.
func (l *load) lists(ctx context.Context) {
	for pause(ctx, 100*time.Millisecond+rand.N(200*time.Millisecond)) == nil {
		p := l.w.people[rand.IntN(len(l.w.people))]
		if rand.IntN(2) == 0 {
			p = l.w.people[len(l.w.people)-1-rand.IntN(watchers)]
		}
		began := l.r.now()
		page, err := p.http(l.base()).Conversations(ctx, "", 100)
		if err != nil {
			continue
		}
		has := make(map[im.ConversationID]bool)
		for _, row := range page.Items {
			has[row.ConversationID] = true
		}
		l.r.listed(p.id, l.w.convs, has, began)
	}
}

// listed notes what a list has left out of the conversations in which somebody had been
// shown a message before it was asked for.
func (r *record) listed(u im.UserID, convs []*conv, has map[im.ConversationID]bool, began time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range convs {
		if first, ok := r.seenFirst[c.id]; ok && first < began && c.has(u) && !has[c.id] {
			r.partial = append(r.partial, u.String()+"'s list is without "+string(c.id))
		}
	}
}

// look passes on some of the pushes to be looked up.
func (l *load) look(s sight) {
	if rand.IntN(20) > 0 {
		return
	}
	select {
	case l.looks <- s:
	default: // enough are waiting
	}
}

// lookups asks for what was pushed: it must be there.
func (l *load) lookups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-l.looks:
			after := s.seq - 1
			page, err := l.w.byID[s.user].http(l.base()).History(ctx, protocol.History{ConversationID: s.conv, AfterSeq: &after, Limit: 1})
			if err != nil {
				continue
			}
			if len(page.Items) == 0 && page.FirstSeq <= s.seq {
				l.r.note(&l.r.early, s.where()+" was pushed and could not be read")
			}
		}
	}
}
