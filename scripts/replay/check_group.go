package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// absent says who does not come back: what waits for them is looked at and pulled, and
// nobody of the rest has to have everything for a receipt to be right.
func absent(i int) bool { return i%10 == 0 }

// check holds everything that can be seen to the model.
func (g *groupReplay) check(ctx context.Context) (*result, error) {
	res := &result{groups: true, sent: g.sentAll(), stored: int(g.stored.Load())}
	all := append([]*speaker{g.owner}, g.order...)
	if err := parallel(ctx, all, func(ctx context.Context, s *speaker) error { return g.depart(ctx, s) }); err != nil {
		return nil, err
	}
	g.log.Info("everyone is away: reading what was said")
	models := map[im.ConversationID]*model{}
	rooms := append([]*room{g.main}, g.rooms...)
	if err := parallel(ctx, rooms, func(ctx context.Context, r *room) error {
		m, err := g.learn(ctx, res, r)
		if err != nil {
			return fmt.Errorf("history of %s: %w", r.name, err)
		}
		g.mu.Lock()
		models[r.id] = m
		g.mu.Unlock()
		return nil
	}); err != nil {
		return nil, err
	}
	g.log.Info("looking at what waits for them")
	if err := parallel(ctx, all, func(ctx context.Context, s *speaker) error { return g.checkWaiting(ctx, res, models, s) }); err != nil {
		return nil, err
	}
	g.log.Info("everyone returns, in turns")
	back, returned := errgroup.WithContext(ctx)
	back.SetLimit(returning)
	for i, s := range all {
		back.Go(func() error { return g.checkShown(returned, res, models, s, !absent(i)) })
	}
	if err := back.Wait(); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		what  string
		check func() error
	}{
		{"lists and unread counts", func() error {
			return parallel(ctx, all, func(ctx context.Context, s *speaker) error { return g.checkGroupList(ctx, res, models, s) })
		}},
		{"members", func() error { return g.checkMembers(ctx, res, models) }},
		{"receipts", func() error {
			return parallel(ctx, rooms, func(ctx context.Context, r *room) error { return g.checkReceipts(ctx, res, models[r.id]) })
		}},
		{"what members may read, and others not", func() error {
			return parallel(ctx, all, func(ctx context.Context, s *speaker) error { return g.checkFences(ctx, res, models, s) })
		}},
	} {
		g.log.Info("comparing " + part.what)
		if err := part.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", part.what, err)
		}
	}
	return res, nil
}

func (g *groupReplay) sentAll() (n int) {
	for _, r := range append([]*room{g.main}, g.rooms...) {
		for _, p := range r.plan {
			if p.said != nil {
				n++
			}
		}
	}
	return n
}

// depart ends somebody's device, and asks once more where a receipt of theirs was not
// answered, so that their cursors are known.
func (g *groupReplay) depart(ctx context.Context, s *speaker) error {
	s.life.Lock()
	defer s.life.Unlock()
	for s.online() && !s.goOffline() {
		if err := s.open[0].Accepted(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.nick, err)
		}
		select {
		case <-s.open[0].Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	reads, acks := map[im.ConversationID]im.Seq{}, map[im.ConversationID]im.Seq{}
	for c, to := range s.readTry {
		if s.read[c] < to {
			reads[c] = to
		}
	}
	for c, to := range s.have {
		if s.acked[c] < to {
			acks[c] = to
		}
	}
	s.mu.Unlock()
	for c, to := range reads {
		// One who has left may be refused: then the cursor is known within bounds.
		_ = again(ctx, func() error { return s.readUpTo(ctx, c, to) })
	}
	for c, to := range acks {
		if again(ctx, func() error { return s.http.OfflineAck(ctx, c, to) }) == nil {
			s.mu.Lock()
			s.acked[c] = max(s.acked[c], to)
			s.mu.Unlock()
		}
	}
	return ctx.Err()
}

// checkWaiting compares the sources that wait for somebody who is away, and of those who
// stay away also the messages.
func (g *groupReplay) checkWaiting(ctx context.Context, res *result, models map[im.ConversationID]*model, who *speaker) error {
	pull := absent(slices.Index(g.order, who) + 1)
	return g.settles(ctx, &res.offlineWrong, res, who.person, func() (string, error) {
		var got protocol.OfflineSources
		if err := again(ctx, func() (err error) { got, err = who.http.Offline(ctx); return err }); err != nil {
			return "", err
		}
		waits := map[im.ConversationID]protocol.OfflineSource{}
		for _, s := range got.Items {
			waits[s.ConversationID] = s
		}
		for c, m := range models {
			s, in := m.now(who)
			if !in {
				continue
			}
			settled, top := m.delivered(who, s), m.top(s)
			least, most := min(m.counted(settled.high, top), 1000), min(m.counted(settled.low, top), 1000)
			w, there := waits[c]
			delete(waits, c)
			if !there && least > 0 {
				return fmt.Sprintf("%s is missing", m.room.name), nil
			}
			if there && (int(w.Count) < least || int(w.Count) > most) {
				return fmt.Sprintf("%s counts %d after %d, not %d to %d after %v", m.room.name, w.Count, w.DeliveredSeq, least, most, settled), nil
			}
			if there && pull {
				if wrong, err := g.pullWaiting(ctx, res, m, who, s, w); wrong != "" || err != nil {
					return wrong, err
				}
			}
		}
		for c := range waits {
			return fmt.Sprintf("%s is none of theirs", c), nil
		}
		return "", nil
	})
}

func (g *groupReplay) pullWaiting(ctx context.Context, res *result, m *model, who *speaker, s span, w protocol.OfflineSource) (string, error) {
	at := w.DeliveredSeq
	for {
		var page protocol.Page
		err := again(ctx, func() (err error) {
			page, err = who.http.OfflinePull(ctx, protocol.OfflinePull{ConversationID: m.room.id, AfterSeq: at, Limit: 100})
			return err
		})
		if err != nil {
			return "", err
		}
		at = max(at, page.FirstSeq-min(page.FirstSeq, 1))
		for _, it := range page.Items {
			if !s.holds(it.Seq) {
				g.leak(res, "offline pull", m, who, it.Seq)
			}
			if at++; it.Seq != at || int(at) > len(m.places) || shown(it) != m.places[at-1].text {
				return fmt.Sprintf("%s pulled seq %d where %d belongs", m.room.name, it.Seq, at), nil
			}
		}
		if !page.HasMore {
			break
		}
	}
	if at != m.top(s) {
		return fmt.Sprintf("%s pulled up to %d of %d", m.room.name, at, m.top(s)), nil
	}
	return "", nil
}

func (g *groupReplay) leak(res *result, by string, m *model, who *speaker, seq im.Seq) {
	name := "no channel of the group"
	var spans []span
	if m != nil {
		name, spans = m.room.name, m.spans[who]
	}
	g.log.Warn("leaked", "by", by, "channel", name, "user", who.nick, "seq", seq, "spans", fmt.Sprint(spans))
	res.add(&res.leaked, 1)
}

// must says whether somebody's device has to be shown a seq of their present span: all
// but their own messages, and the notice by which they came.
func (m *model) must(who *speaker, s span, seq im.Seq) bool {
	p := m.places[seq-1]
	return seq > s.first && (p.said == nil || p.said.from != who)
}

// checkShown lets somebody return until their device has been shown everything, and
// holds all that it was ever shown to the model.
func (g *groupReplay) checkShown(ctx context.Context, res *result, models map[im.ConversationID]*model, who *speaker, returns bool) error {
	if returns {
		who.life.Lock()
		who.appear(ctx, func(*person, im.ConversationID, im.Seq) {})
		who.life.Unlock()
		g.awaitShown(ctx, models, who)
		if err := g.depart(ctx, who); err != nil {
			return err
		}
	}
	who.mu.Lock()
	defer who.mu.Unlock()
	for c, got := range who.got {
		m := models[c]
		var last im.Seq
		for _, it := range got {
			switch {
			case m == nil || !slices.ContainsFunc(m.spans[who], func(s span) bool { return s.holds(it.seq) }):
				g.leak(res, "device", m, who, it.seq)
				continue
			case it.seq == last:
				res.add(&res.doubled, 1)
			case it.seq < last:
				res.add(&res.misordered, 1)
			}
			last = max(last, it.seq)
			if p := m.places[it.seq-1]; p.text != it.text || p.said != nil && p.said.from.id() != it.from {
				res.add(&res.misordered, 1)
			}
		}
	}
	if !returns {
		return nil
	}
	for c, m := range models {
		s, in := m.now(who)
		if !in {
			continue
		}
		seen := map[im.Seq]bool{}
		for _, it := range who.got[c] {
			seen[it.seq] = true
		}
		for seq := s.first; seq <= m.top(s); seq++ {
			if m.must(who, s, seq) && !seen[seq] {
				g.log.Warn("never received", "by", who.nick, "channel", m.room.name, "seq", seq, "span", fmt.Sprint(s))
				res.add(&res.lost, 1)
			}
		}
	}
	return nil
}

// awaitShown waits until the device was shown the last of each channel, or for too long.
func (g *groupReplay) awaitShown(ctx context.Context, models map[im.ConversationID]*model, who *speaker) {
	deadline := time.Now().Add(outage)
	for {
		missing := false
		who.mu.Lock()
		for c, m := range models {
			s, in := m.now(who)
			if !in {
				continue
			}
			want := m.top(s)
			for want > s.first && !m.must(who, s, want) {
				want--
			}
			got := who.got[c]
			if want > s.first && (len(got) == 0 || got[len(got)-1].seq < want) {
				missing = true
			}
		}
		who.mu.Unlock()
		if !missing || time.Now().After(deadline) || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
