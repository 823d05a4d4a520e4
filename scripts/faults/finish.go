package main

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// settling bounds each wait for what must come: far above what anything takes. Whoever
// waits in vain takes what there is, and the checker finds what is missing. Where
// something is missing for sure, as with a seeded bug, it is settlingSoon.
const (
	settling     = 90 * time.Second
	settlingSoon = 15 * time.Second
)

// finish waits until all is quiet and reads what everybody finds.
func (l *load) finish(ctx context.Context) (*ending, error) {
	if err := l.confirm(ctx); err != nil {
		return nil, err
	}
	if err := parallel(ctx, l.w.marks, func(u im.UserID) error {
		m := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(u), Content: text("mark")}
		return l.until(ctx, func() bool {
			s, err := l.w.marker.http(l.base()).Send(ctx, m, true)
			return err == nil && s.State == protocol.StateStored
		})
	}); err != nil {
		return nil, err
	}
	e := &ending{histories: make(map[seat][]shown), lists: make(map[im.UserID][]listRow), held: make(map[seat]im.Seq)}
	for quiet := false; !quiet; {
		if err := l.stored(ctx, e); err != nil {
			return nil, err
		}
		before := maps.Clone(e.histories)
		if err := l.read(ctx, e, l.seats()...); err != nil {
			return nil, err
		}
		var first []seat
		for _, c := range l.w.convs {
			first = append(first, seat{c.members[0], c.id})
		}
		if err := l.read(ctx, e, first...); err != nil {
			return nil, err
		}
		quiet = !slices.ContainsFunc(l.w.convs, func(c *conv) bool {
			at := seat{c.members[0], c.id}
			return len(before[at]) != len(e.histories[at])
		})
	}
	tokens := tokensOf(l.r, e)
	var truths []*truth
	for _, c := range l.w.convs {
		truths = append(truths, learn(c, e, tokens))
	}
	l.caughtUp(ctx, truths, e)
	return e, l.listed(ctx, truths, e)
}

// until asks again and again until fact, or settling has passed. Errors of the engine
// count as no; it returns ctx's.
func (l *load) until(ctx context.Context, fact func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.settling, errSettling)
	defer cancel()
	for !fact() {
		if pause(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond)) != nil {
			if errors.Is(context.Cause(ctx), errSettling) {
				return nil
			}
			return ctx.Err()
		}
	}
	return nil
}

var errSettling = errors.New("waited long enough")

// confirm sends read receipts again whose outcome is not known.
func (l *load) confirm(ctx context.Context) error {
	l.r.mu.Lock()
	l.r.closing = true
	owed := maps.Clone(l.r.owed)
	l.r.mu.Unlock()
	return parallel(ctx, slices.Collect(maps.Keys(owed)), func(s seat) error {
		l.r.mu.Lock()
		done := l.r.reads[s] >= owed[s]
		l.r.mu.Unlock()
		return l.until(ctx, func() bool {
			if done {
				return true
			}
			err := l.w.byID[s.user].http(l.base()).Receipts(ctx, s.conv, protocol.Receipts{ReadSeq: owed[s]})
			var e *protocol.Error
			if errors.As(err, &e) && !e.Retryable { // a guest who is in it no longer
				return true
			}
			if err == nil {
				l.r.read(s, owed[s])
			}
			return err == nil
		})
	})
}

func parallel[T any](ctx context.Context, all []T, do func(T) error) error {
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, x := range all {
		g.Go(func() error { return do(x) })
	}
	return g.Wait()
}

// stored waits until all that was acked can be read: what has no token was recalled.
func (l *load) stored(ctx context.Context, e *ending) error {
	want := make(map[im.ConversationID][]string)
	l.r.mu.Lock()
	for _, s := range l.r.sends {
		if s.outcome() == acked {
			want[s.conv] = append(want[s.conv], s.token)
		}
	}
	l.r.mu.Unlock()
	var mu sync.Mutex
	return parallel(ctx, l.w.convs, func(c *conv) error {
		at := seat{c.members[0], c.id}
		return l.until(ctx, func() bool {
			rows, err := l.history(ctx, at)
			if err != nil {
				return false
			}
			mu.Lock()
			e.histories[at] = rows
			mu.Unlock()
			there, recalled := make(map[string]bool), 0
			for _, m := range rows {
				if there[m.token] = true; m.recalled {
					recalled++
				}
			}
			for _, token := range want[c.id] {
				if !there[token] {
					recalled--
				}
			}
			return recalled >= 0
		})
	})
}

// seats is everybody who looks at a history in the end, the guests among them.
func (l *load) seats() (all []seat) {
	for _, c := range l.w.convs {
		for _, u := range c.members {
			if l.w.byID[u] != nil {
				all = append(all, seat{u, c.id})
			}
		}
		if c.guest != 0 {
			all = append(all, seat{c.guest, c.id})
		}
	}
	return all
}

// read reads whole histories.
func (l *load) read(ctx context.Context, e *ending, seats ...seat) error {
	var mu sync.Mutex
	return parallel(ctx, seats, func(at seat) error {
		var rows []shown
		var err error
		if end := l.until(ctx, func() bool { rows, err = l.history(ctx, at); return err == nil }); end != nil {
			return end
		}
		mu.Lock()
		defer mu.Unlock()
		e.histories[at] = rows
		return nil
	})
}

// history is one member's, all of it. What is not theirs is nothing.
func (l *load) history(ctx context.Context, at seat) (rows []shown, err error) {
	h := l.w.byID[at.user].http(l.base())
	for after, more := im.Seq(0), true; more; {
		page, err := h.History(ctx, protocol.History{ConversationID: at.conv, AfterSeq: &after, Limit: 100})
		var e *protocol.Error
		if errors.As(err, &e) && !e.Retryable {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, m := range page.Items {
			rows = append(rows, show(m))
			after = m.Seq
		}
		more = page.HasMore
	}
	return rows, nil
}

// caughtUp waits until each device has everything, or has asked twice in vain.
func (l *load) caughtUp(ctx context.Context, truths []*truth, e *ending) {
	before := make(map[im.UserID]int)
	for u, d := range l.devices {
		d.mu.Lock()
		before[u] = d.beats
		d.mu.Unlock()
	}
	_ = l.until(ctx, func() bool { // if ctx has ended, so does the run
		done := true
		for u, d := range l.devices {
			behind := false
			for _, t := range truths {
				if _, top, _, ever := t.now(u); ever && (t.has(u) || t.guest == u) {
					at := seat{u, t.id}
					e.held[at], _ = d.reached(t.id)
					behind = behind || e.held[at] < top
				}
			}
			d.mu.Lock()
			asked := d.beats - before[u]
			d.mu.Unlock()
			done = done && (!behind || asked > 2) // the first may have been under way
		}
		return done
	})
}

// listed waits until each list is the one it must be, or will not be.
func (l *load) listed(ctx context.Context, truths []*truth, e *ending) error {
	var mu sync.Mutex
	return parallel(ctx, l.w.people, func(p *person) error {
		want := list(truths, l.r, p.id)
		return l.until(ctx, func() bool {
			page, err := p.http(l.base()).Conversations(ctx, "", 100)
			if err != nil {
				return false
			}
			var got []listRow
			for _, row := range page.Items {
				got = append(got, listRow{row.ConversationID, row.LastSeq, row.Unread, row.Left})
			}
			mu.Lock()
			e.lists[p.id] = got
			mu.Unlock()
			return reflect.DeepEqual(got, want)
		})
	})
}
