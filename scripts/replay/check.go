package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// check lets everyone return and pull, and compares what they find with the model.
func (r *replay) check(ctx context.Context) (*result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	res := &result{sent: len(r.posts), stored: int(r.stored.Load())}
	for _, p := range r.order {
		if p.online() && !p.goOffline() {
			return nil, fmt.Errorf("%s still has messages on their way", p.nick)
		}
	}
	mine := r.conversationsOf()

	r.log.Info("everyone is away: looking at what waits for them")
	if err := parallel(ctx, r.order, func(ctx context.Context, p *person) error {
		return r.checkOffline(ctx, res, p, mine[p])
	}); err != nil {
		return nil, err
	}

	r.log.Info("everyone returns")
	for _, p := range r.order {
		p.comeOnline(ctx, func(*person, im.ConversationID, im.Seq) {})
	}
	if err := parallel(ctx, r.order, func(ctx context.Context, p *person) error {
		return r.checkReceived(ctx, res, p, mine[p])
	}); err != nil {
		return nil, err
	}

	r.log.Info("comparing lists, unread counts and histories")
	if err := parallel(ctx, r.order, func(ctx context.Context, p *person) error {
		return r.checkList(ctx, res, p, mine[p])
	}); err != nil {
		return nil, err
	}
	var threads []*thread
	for _, th := range r.threads {
		threads = append(threads, th)
	}
	err := parallel(ctx, threads, func(ctx context.Context, th *thread) error {
		return r.checkHistory(ctx, res, th)
	})
	for _, p := range r.order {
		p.cancel()
	}
	for _, p := range r.order {
		<-p.done
	}
	return res, err
}

// conversationsOf is each person's conversations, newest message first.
func (r *replay) conversationsOf() map[*person][]*thread {
	byID := make(map[im.UserID]*person, len(r.order))
	for _, p := range r.order {
		byID[p.id()] = p
	}
	mine := make(map[*person][]*thread)
	for _, th := range r.threads {
		low, high, _ := th.id.Direct()
		mine[byID[low]] = append(mine[byID[low]], th)
		mine[byID[high]] = append(mine[byID[high]], th)
	}
	for _, all := range mine {
		slices.SortFunc(all, func(a, b *thread) int {
			x, y := *a.last().res.MessageID, *b.last().res.MessageID
			switch {
			case x > y:
				return -1
			case x < y:
				return 1
			}
			return 0
		})
	}
	return mine
}

func (th *thread) last() *post { return th.sent[len(th.sent)-1] }

// bySeq puts the posts where stored said they are; it is the model of a history.
func (th *thread) bySeq() (places []*post, doubled, lost int) {
	places = make([]*post, len(th.sent))
	for _, p := range th.sent {
		at := int(p.res.Seq) - 1
		switch {
		case at < 0 || at >= len(places):
			lost++
		case places[at] != nil:
			doubled++
		default:
			places[at] = p
		}
	}
	return places, doubled, lost
}

// checkOffline compares the sources that wait for p, their counts and their messages.
// What p has acked is known within bounds: an ack whose answer was lost may count.
func (r *replay) checkOffline(ctx context.Context, res *result, p *person, mine []*thread) error {
	return r.settles(ctx, &res.offlineWrong, res, p, func() (string, error) {
		var got protocol.OfflineSources
		if err := again(ctx, func() (err error) { got, err = p.http.Offline(ctx); return err }); err != nil {
			return "", err
		}
		sources := make(map[im.ConversationID]protocol.OfflineSource)
		for _, s := range got.Items {
			sources[s.ConversationID] = s
		}
		for _, th := range mine {
			p.mu.Lock()
			low, high := p.acked[th.id], max(p.acked[th.id], p.readTry[th.id])
			if n := len(p.got[th.id]); n > 0 {
				high = max(high, p.got[th.id][n-1].seq)
			}
			p.mu.Unlock()
			high = max(high, p.have[th.id])
			s, waits := sources[th.id]
			delete(sources, th.id)
			if !waits {
				if th.undelivered(p, high) > 0 {
					return fmt.Sprintf("%s is missing", th.id), nil
				}
				continue
			}
			if s.DeliveredSeq < low || s.DeliveredSeq > high {
				return fmt.Sprintf("%s delivered %d, not within %d and %d", th.id, s.DeliveredSeq, low, high), nil
			}
			if want := th.undelivered(p, s.DeliveredSeq); s.Count != uint64(min(want, 1000)) || want == 0 {
				return fmt.Sprintf("%s counts %d, not %d", th.id, s.Count, want), nil
			}
			if wrong, err := r.pullOffline(ctx, p, th, s); wrong != "" || err != nil {
				return wrong, err
			}
		}
		for id := range sources {
			return fmt.Sprintf("%s is none of theirs", id), nil
		}
		return "", nil
	})
}

// undelivered counts messages to p after seq.
func (th *thread) undelivered(p *person, after im.Seq) (n int) {
	for _, m := range th.sent {
		if m.res.Seq > after && m.from != p {
			n++
		}
	}
	return n
}

func (r *replay) pullOffline(ctx context.Context, p *person, th *thread, s protocol.OfflineSource) (string, error) {
	places, _, _ := th.bySeq()
	at := s.DeliveredSeq
	for {
		var page protocol.Page
		err := again(ctx, func() (err error) {
			page, err = p.http.OfflinePull(ctx, protocol.OfflinePull{ConversationID: th.id, AfterSeq: at, Limit: 100})
			return err
		})
		if err != nil {
			return "", err
		}
		for _, m := range page.Items {
			at++
			if m.Seq != at || int(at) > len(places) || places[at-1] == nil || textOf(m) != places[at-1].text {
				return fmt.Sprintf("%s pulled seq %d where %d belongs", th.id, m.Seq, at), nil
			}
		}
		if !page.HasMore {
			break
		}
	}
	if int(at) != len(places) {
		return fmt.Sprintf("%s pulled up to %d of %d", th.id, at, len(places)), nil
	}
	return "", nil
}

// checkReceived waits until p's device has seen every message to it, and counts what
// it saw twice, out of order or never.
func (r *replay) checkReceived(ctx context.Context, res *result, p *person, mine []*thread) error {
	deadline := time.Now().Add(outage)
	for {
		missing := 0
		p.mu.Lock()
		for _, th := range mine {
			missing += max(0, th.undelivered(p, 0)-len(p.got[th.id]))
		}
		p.mu.Unlock()
		if missing == 0 || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, th := range mine {
		places, _, _ := th.bySeq()
		seen := map[im.Seq]bool{}
		var last im.Seq
		for _, m := range p.got[th.id] {
			switch {
			case seen[m.seq]:
				res.add(&res.doubled, 1)
			case m.seq < last:
				res.add(&res.misordered, 1)
			case int(m.seq) > len(places) || places[m.seq-1] == nil || places[m.seq-1].text != m.text || places[m.seq-1].from.id() != m.from:
				res.add(&res.misordered, 1)
			}
			seen[m.seq], last = true, max(last, m.seq)
		}
		for at, post := range places {
			if post != nil && post.from != p && !seen[im.Seq(at+1)] {
				r.log.Warn("never received", "by", p.nick, "conv", th.id, "seq", at+1)
				res.add(&res.lost, 1)
			}
		}
	}
	return nil
}

// checkList compares p's list: its order by message ID, last messages, unread counts
// and their total. Reads whose answer was lost are asked for once more before.
func (r *replay) checkList(ctx context.Context, res *result, p *person, mine []*thread) error {
	p.mu.Lock()
	tried := make(map[im.ConversationID]im.Seq)
	for c, s := range p.readTry {
		if p.read[c] < s {
			tried[c] = s
		}
	}
	p.mu.Unlock()
	for c, s := range tried {
		if err := again(ctx, func() error { return p.readUpTo(ctx, c, s) }); err != nil {
			return err
		}
	}
	if err := r.settles(ctx, &res.listWrong, res, p, func() (string, error) {
		items, _, err := p.list(ctx)
		if err != nil {
			return "", err
		}
		if len(items) != len(mine) {
			return fmt.Sprintf("%d conversations, not %d", len(items), len(mine)), nil
		}
		for i, th := range mine {
			it := items[i]
			if it.ConversationID != th.id || it.LastSeq != im.Seq(len(th.sent)) || it.LastMessage == nil || it.LastMessage.ID != *th.last().res.MessageID {
				return fmt.Sprintf("place %d is %s up to %d, not %s up to %d", i, it.ConversationID, it.LastSeq, th.id, len(th.sent)), nil
			}
		}
		return "", nil
	}); err != nil {
		return err
	}
	return r.settles(ctx, &res.unreadWrong, res, p, func() (string, error) {
		items, total, err := p.list(ctx)
		if err != nil {
			return "", err
		}
		unread := make(map[im.ConversationID]uint64)
		for _, it := range items {
			unread[it.ConversationID] = it.Unread
		}
		var sum uint64
		for _, th := range mine {
			base := p.read[th.id]
			for _, m := range th.sent {
				if m.from == p {
					base = max(base, m.res.Seq)
				}
			}
			want := uint64(len(th.sent)) - uint64(base)
			sum += want
			if unread[th.id] != want {
				return fmt.Sprintf("%s has %d unread, not %d", th.id, unread[th.id], want), nil
			}
		}
		if total != sum {
			return fmt.Sprintf("%d unread in total, not %d", total, sum), nil
		}
		return "", nil
	})
}

// checkHistory compares one conversation's whole history with the log's order.
func (r *replay) checkHistory(ctx context.Context, res *result, th *thread) error {
	_, doubled, lost := th.bySeq()
	for i, p := range th.sent {
		if p.res.Seq != im.Seq(i+1) {
			res.add(&res.misordered, 1)
		}
	}
	items, err := th.sent[0].from.history(ctx, th.id)
	if err != nil {
		return err
	}
	seen := map[im.MessageID]bool{}
	for i, m := range items {
		if seen[m.ID] {
			doubled++
		}
		seen[m.ID] = true
		if i < len(th.sent) && (m.Seq != im.Seq(i+1) || textOf(m) != th.sent[i].text) {
			res.add(&res.misordered, 1)
		}
	}
	doubled += max(0, len(items)-len(th.sent))
	lost += max(0, len(th.sent)-len(items))
	res.add(&res.doubled, doubled)
	res.add(&res.lost, lost)
	return nil
}
