package jobs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// raiser collects what a batch raises in Redis, one entry per user and conversation,
// however many messages the batch has.
type raiser struct {
	at map[memberKey]int
	p  im.Projection
}

func newRaiser(size int) *raiser {
	return &raiser{at: make(map[memberKey]int, size), p: im.Projection{Users: make([]im.UserRaise, 0, size)}}
}

func (r *raiser) projection() im.Projection { return r.p }

func (r *raiser) reset() {
	clear(r.at)
	r.p = im.Projection{}
}

// of is the entry of one user in one conversation; nil for the system, whose lists
// nobody reads. It is good until the next call.
func (r *raiser) of(u im.UserID, c im.ConversationID) *im.UserRaise {
	if u == im.SystemUser {
		return nil
	}
	key := memberKey{c, u}
	i, ok := r.at[key]
	if !ok {
		i = len(r.p.Users)
		r.at[key] = i
		r.p.Users = append(r.p.Users, im.UserRaise{User: u, State: im.ConversationState{Conversation: c}})
	}
	return &r.p.Users[i]
}

// message raises what a stored message means to both sides: the conversation goes up
// in their lists, and whoever did not send it gets an index entry, online or not.
func (r *raiser) message(d *send, low, high im.UserID) {
	seq, id := d.ref.Seq, d.ref.ID
	each := func(u im.UserID) {
		e := r.of(u, d.conv)
		if e == nil {
			return
		}
		e.State.LastSeq = max(e.State.LastSeq, seq)
		e.State.LastID = max(e.State.LastID, id)
		if u != d.key.Sender {
			e.Offline = append(e.Offline, im.OfflineEntry{Seq: seq, ID: id})
		}
		if u != d.key.Sender && slices.Contains(d.task.About.Mentions, u) {
			e.State.LastMention = max(e.State.LastMention, seq)
		}
		if d.task.Uncounted == im.UncountedForAll || d.task.Uncounted == im.UncountedForSender && u == d.key.Sender {
			e.State.LastUncounted = max(e.State.LastUncounted, seq)
		}
	}
	each(low)
	if high != low {
		each(high)
	}
	r.uncounted(d)
}

// uncounted notes that a message does not count, and what a retry of it is told.
func (r *raiser) uncounted(d *send) {
	switch d.task.Uncounted {
	case im.UncountedForAll:
		r.p.Uncounted = append(r.p.Uncounted, im.UncountedSeq{Conversation: d.conv, Seq: d.ref.Seq, User: im.SystemUser})
	case im.UncountedForSender:
		r.p.Uncounted = append(r.p.Uncounted, im.UncountedSeq{Conversation: d.conv, Seq: d.ref.Seq, User: d.key.Sender})
	}
	r.p.Hints = append(r.p.Hints, im.Hint{Key: d.key, Ref: d.ref})
}

// change raises how far the conversation's changes have come, for everyone in it; a
// recalled message no longer counts.
func (r *raiser) change(c *change, low, high im.UserID) {
	recalled := c.recalled()
	for _, u := range [...]im.UserID{low, high} {
		if e := r.of(u, c.conv); e != nil {
			e.State.LastChange = max(e.State.LastChange, c.ref.Change)
			if recalled {
				e.State.LastUncounted = max(e.State.LastUncounted, c.ref.Seq)
			}
		}
	}
	r.recall(c)
}

// changeRoom raises it for a channel.
func (r *raiser) changeRoom(c *change, up *rise) {
	up.change = max(up.change, c.ref.Change)
	if c.recalled() {
		up.uncounted = max(up.uncounted, c.ref.Seq)
	}
	r.recall(c)
}

func (r *raiser) recall(c *change) {
	if c.recalled() {
		r.p.Uncounted = append(r.p.Uncounted, im.UncountedSeq{Conversation: c.conv, Seq: c.ref.Seq, User: im.SystemUser})
	}
}

// hide raises how far one user's deletions have come; what they deleted no longer
// counts for them.
func (r *raiser) hide(h *hide) {
	for _, it := range h.items {
		e := r.of(h.User, h.Conversation)
		if e == nil {
			return
		}
		e.State.Deletions = max(e.State.Deletions, it.Deletion)
		e.State.LastUncounted = max(e.State.LastUncounted, it.Seq)
		r.p.Uncounted = append(r.p.Uncounted, im.UncountedSeq{Conversation: h.Conversation, Seq: it.Seq, User: h.User})
	}
}

// moves raises a member's cursors, and the other side's picture of them.
func (r *raiser) moves(moves []move) {
	for i := range moves {
		m := &moves[i]
		if e := r.of(m.User, m.Conversation); e != nil {
			e.State.Delivered = max(e.State.Delivered, m.Delivered)
			e.State.Read = max(e.State.Read, m.Read)
			if !isChannel(m.Conversation) {
				e.ClearOffline = max(e.ClearOffline, m.Delivered)
			}
		}
		if e := r.of(m.peer(), m.Conversation); e != nil {
			e.State.PeerDelivered = max(e.State.PeerDelivered, m.Delivered)
			e.State.PeerRead = max(e.State.PeerRead, m.Read)
		}
	}
}

// project raises what the batch means. A duplicate raises the same again ([J4]).
func (s *scribe) project(ctx context.Context, b *batch, moves []move) error {
	r := newRaiser(2*len(b.sends) + 2*len(moves))
	var rooms rises
	for _, d := range b.sends {
		switch {
		case d.first != nil || d.fate != stored && d.fate != duplicate:
		case d.room != nil:
			if err := s.raiseRoom(ctx, r, rooms.of(d.conv), d); err != nil {
				return err
			}
		default:
			e, _ := s.ends.Get(d.conv)
			r.message(d, e.low, e.high)
		}
	}
	for _, c := range b.changes {
		switch {
		case c.conflict:
		case isChannel(c.conv):
			r.changeRoom(c, rooms.of(c.conv))
		default:
			e, _ := s.ends.Get(c.conv)
			r.change(c, e.low, e.high)
		}
	}
	for _, h := range b.hides {
		r.hide(h)
	}
	r.moves(moves)
	if err := s.raiseRooms(ctx, r, &rooms); err != nil {
		return err
	}
	return s.r.project(ctx, r.projection())
}

// project has Redis take p. Where it will not, storing goes on, and a row of doubt in
// MySQL says that Redis may have missed something; only that row must be written
// (DESIGN.md, Trust).
func (r *Pool) project(ctx context.Context, p im.Projection) error {
	if len(p.Users)+len(p.Ends)+len(p.Uncounted)+len(p.Hints) == 0 {
		return nil
	}
	err := r.cache.try(func() error {
		call, cancel := context.WithTimeout(ctx, r.cfg.CacheTimeout)
		defer cancel()
		return r.deps.Projector.Project(call, p)
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, errBroken) {
		r.log.Warn("redis did not take a projection", "users", len(p.Users), "err", err)
	}
	r.m.doubts.Inc()
	_, err = untilStore(ctx, r, "doubt", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.deps.Archive.NoteDoubt(ctx, "a worker could not project")
	})
	return err
}

// breaker leaves Redis alone for a while after it failed twice in a row, so that its
// absence costs one timeout now and then instead of two per batch.
type breaker struct {
	open time.Duration

	mu    sync.Mutex // guards until
	until time.Time  // closed again from here on
}

// closed says whether the last call succeeded.
func (b *breaker) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until.IsZero()
}

// tell has Redis do a part of a push, unless it is known to be away. Its failure keeps
// no projection back.
func (r *Runner) tell(f func() error) error {
	if !r.cache.closed() {
		return errBroken
	}
	return r.told.try(f)
}

var errBroken = errors.New("left alone after a failure")

// try calls f, a second time if it fails, or not at all while the breaker is open.
func (b *breaker) try(f func() error) error {
	b.mu.Lock()
	now := time.Now()
	if now.Before(b.until) {
		b.mu.Unlock()
		return errBroken
	}
	probing := !b.until.IsZero()
	if probing {
		b.until = now.Add(b.open) // the others wait for what the probe finds
	}
	b.mu.Unlock()

	err := f()
	if err != nil && !probing {
		err = f()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.until = time.Now().Add(b.open)
	} else {
		b.until = time.Time{}
	}
	return err
}
