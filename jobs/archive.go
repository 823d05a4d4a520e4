package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

// maxRounds is how often a batch is numbered anew after a violated unique key. Each
// violation means that somebody else has made progress, so more than a few in a row
// cannot be (DESIGN.md, Store).
const maxRounds = 8

// archive gives every send of the batch its fate and its place ([J1]). The fast path
// is one multi-row INSERT, numbered from what the strand remembers. After any error
// nothing remembered is trusted: what is stored is looked up, the rest numbered anew.
func (s *scribe) archive(ctx context.Context, b *batch) error {
	todo, careful := b.fresh, b.careful
	for round, waits := 1, 0; ; round++ {
		if careful && len(todo) > 0 {
			var err error
			if todo, err = s.lookUp(ctx, todo); err != nil {
				return err
			}
		}
		if err := s.learn(ctx, b, todo); err != nil {
			return err
		}
		if len(todo) == 0 {
			break
		}
		now, rest, all := cutAtJoinAll(todo)
		err := s.insert(ctx, now, all, careful)
		if err == nil {
			if all == nil {
				break
			}
			todo, round = rest, round-1 // also where nothing is left: who is in it now must be read
			continue
		}
		s.forget(b.items)
		careful = true
		var dup *im.DuplicateError
		switch {
		case ctx.Err() != nil:
			return err
		case errors.As(err, &dup):
			s.r.m.rounds.WithLabelValues(string(dup.Key)).Inc()
			if dup.Key == im.DuplicateMessageID {
				s.r.ids.drop()
			}
			if round >= maxRounds {
				return fmt.Errorf("%w: numbered %d times: %w", im.ErrUnstorable, round, err)
			}
		case errors.Is(err, im.ErrUnstorable), errors.Is(err, im.ErrLocked) && (b.brisk || b.several()):
			return err
		case away(err):
			// Whether it was written is not known; the next round looks.
			if err := s.r.backoff(ctx, "insert", waits, err); err != nil {
				return err
			}
			waits, round = waits+1, round-1
		default:
			return err
		}
	}
	for _, d := range b.sends {
		d.settle()
		if d.room != nil && d.room.now == nil {
			d.room.now = s.rosterOf(d.conv)
		}
	}
	return nil
}

// insert numbers the sends and writes them, all or none. Where everyone in a group
// joins by the last of them, all says so. Alone means in a statement that no other strand
// has a part in.
func (s *scribe) insert(ctx context.Context, todo []*send, all *im.Membership, alone bool) error {
	size, err := s.groupSize(ctx, all)
	if err != nil {
		return err
	}
	var latest im.MessageID
	for _, d := range todo {
		if e, ok := s.ends.Get(d.conv); ok {
			latest = max(latest, e.last.ID)
		}
	}
	ids, err := untilStore(ctx, s.r, "lease", func(ctx context.Context) ([]im.MessageID, error) {
		return s.r.ids.take(ctx, len(todo), latest, make([]im.MessageID, 0, len(todo)))
	})
	if err != nil {
		return err
	}
	now := s.r.deps.Now().UnixMilli()
	rows := make([]im.Message, len(todo))
	ends := make(map[im.ConversationID]ending, len(todo))
	var rosters map[im.ConversationID]*roster
	for i, d := range todo {
		e, ok := ends[d.conv]
		if !ok {
			e, _ = s.ends.Get(d.conv)
		}
		e.last = im.LastRef{Seq: e.last.Seq + 1, ID: ids[i]}
		ends[d.conv] = e
		rows[i] = im.Message{
			Conversation: d.conv, Seq: e.last.Seq, ID: e.last.ID, ClientMsgID: d.task.ClientMsgID, Sender: d.task.Sender,
			Type: d.task.Type, Content: d.task.Content, StoredAt: now,
			About: d.task.About, Hash: d.task.Hash, Uncounted: d.task.Uncounted,
		}
		if d.room != nil {
			if rosters == nil {
				rosters = make(map[im.ConversationID]*roster)
			}
			r := rosters[d.conv]
			if r == nil {
				r = s.rosterOf(d.conv)
			}
			rows[i].Membership = s.enter(d, r, e.last.Seq, size)
			rosters[d.conv] = d.room.now
		}
	}
	write := s.r.inserts.InsertMessages
	if alone {
		write = s.r.deps.Archive.InsertMessages
	}
	if _, err := callStore(ctx, s.r, "insert", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, write(ctx, rows)
	}); err != nil {
		return err
	}
	for i, d := range todo {
		d.fate = stored
		d.ref = im.StoredRef{Seq: rows[i].Seq, ID: rows[i].ID, StoredAt: now, Hash: d.task.Hash}
	}
	for c, e := range ends {
		s.ends.Add(c, e)
	}
	if rosters != nil {
		s.grow(todo)
	}
	return nil
}

// grow remembers who is in the channels that have grown, and who has spoken in them.
func (s *scribe) grow(todo []*send) {
	for _, d := range todo {
		if d.room == nil {
			continue
		}
		old, _ := s.channels.Peek(d.conv)
		ch := s.keep(d.conv, d.room.now, !d.room.now.merged && (old.stale || opaque(d.task.Membership, d.room.was)))
		s.held -= ch.cost()
		ch.authors.add(d.ref.Seq, d.key.Sender)
		s.held += ch.cost()
	}
}

// lookUp gives a fate to the sends that are in the table already, or in dead, and
// returns the others.
func (s *scribe) lookUp(ctx context.Context, todo []*send) ([]*send, error) {
	keys := make([]im.SendKey, len(todo))
	for i, d := range todo {
		keys[i] = d.key
	}
	found, err := untilStore(ctx, s.r, "find_stored", func(ctx context.Context) (map[im.SendKey]im.StoredRef, error) {
		return s.r.deps.Archive.FindStored(ctx, keys)
	})
	if err != nil {
		return nil, err
	}
	rest := make([]*send, 0, len(todo)-len(found))
	for _, d := range todo {
		ref, ok := found[d.key]
		switch {
		case !ok:
			rest = append(rest, d)
			continue
		case ref.Hash != d.task.Hash:
			d.fate = conflict
		case ref.Parked:
			d.fate = parked
		default:
			d.fate = duplicate
		}
		d.ref = ref
		if d.room != nil {
			*d.room = inRoom{}
		}
		if e, known := s.ends.Peek(d.conv); known && e.last.Seq < ref.Seq {
			s.ends.Remove(d.conv) // somebody else has written since
		}
	}
	return rest, nil
}

// learn makes the strand know the end of every conversation in the batch, and gives
// rows to those that are seen for the first time and are about to get a message: a
// conversation with a message has them.
func (s *scribe) learn(ctx context.Context, b *batch, todo []*send) error {
	var missing, rosters []im.ConversationID
	asked := make(map[im.ConversationID]bool)
	need := func(c im.ConversationID) {
		if asked[c] {
			return
		}
		// Get, not Contains: what the batch needs must outlive what is added for it.
		_, known := s.ends.Get(c)
		if !known {
			asked[c] = true
			missing = append(missing, c)
		}
		if isChannel(c) {
			if ch, ok := s.channels.Get(c); !known || !ok || ch.stale {
				asked[c] = true
				rosters = append(rosters, c)
			}
		}
	}
	for _, d := range b.sends {
		need(d.conv)
	}
	for _, rc := range b.receipts.list {
		need(rc.conv)
	}
	for _, c := range b.changes {
		need(c.conv)
	}
	for _, h := range b.hides {
		need(h.Conversation)
	}
	if len(missing) > 0 {
		lasts, err := untilStore(ctx, s.r, "lasts", func(ctx context.Context) (map[im.ConversationID]im.LastRef, error) {
			return s.r.deps.Archive.Lasts(ctx, missing)
		})
		if err != nil {
			return err
		}
		for _, c := range missing {
			low, high, _ := c.Direct()
			s.ends.Add(c, ending{last: lasts[c], low: low, high: high})
		}
	}
	if len(rosters) > 0 {
		if err := s.learnRosters(ctx, rosters); err != nil {
			return err
		}
	}
	var empty []im.NewConversation
	clear(asked)
	for _, d := range todo {
		if e, _ := s.ends.Get(d.conv); e.last.Seq == 0 && !asked[d.conv] && d.room == nil { // a channel's are made with it
			asked[d.conv] = true
			empty = append(empty, im.NewConversation{ID: d.conv, Members: e.members()})
		}
	}
	if len(empty) == 0 {
		return nil
	}
	_, err := untilStore(ctx, s.r, "ensure", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.r.deps.Archive.EnsureConversations(ctx, empty)
	})
	return err
}

// members are the users of a one-to-one conversation who have a row: the system has
// none, and oneself only one.
func (e ending) members() []im.UserID {
	if e.low == im.SystemUser || e.low == e.high {
		return []im.UserID{e.high}
	}
	return []im.UserID{e.low, e.high}
}
