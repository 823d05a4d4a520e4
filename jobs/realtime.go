package jobs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// batch is what a strand works on at once.
type batch struct {
	sends    []*send // in the order of the log
	fresh    []*send // of these, the first of each key: what may have to be inserted
	receipts receipts
	changes  []*change // in the order of the log
	hides    []*hide
	items    []*item
	careful  bool      // look for stored messages before the first insert
	brisk    bool      // a locked row ends it, and is not waited for again
	notify   []im.Task // what the lane retry is asked for
}

// mood is how a batch is gone about.
type mood uint8

const (
	trusting mood = iota // what the strand remembers holds
	wary                 // what is stored is looked up first
	brisk                // and who waits for locked rows is told so at once
)

// fate is what became of a send.
type fate uint8

const (
	pending   fate = iota
	stored         // by this batch
	duplicate      // was there before, or is a repeat inside the batch
	conflict       // the ID was used before with other content
	parked         // in the table dead
)

// send is one accepted message in a batch.
type send struct {
	conv  im.ConversationID
	task  *im.SendTask
	key   im.SendKey
	first *send // the same key earlier in this batch
	fate  fate
	ref   im.StoredRef

	room *inRoom // of a channel
}

// inRoom is what a send to a channel has beside.
type inRoom struct {
	// was and now are who was in the channel before the message and is from it on; of one
	// that was stored before, was is nil and now is the present.
	was, now *roster
	effect   effect // of a notice
}

// isChannel tells a channel from a one-to-one conversation; the ID is a canonical one.
func isChannel(c im.ConversationID) bool { return c != "" && c[0] == 'c' }

// process takes a batch the whole way. The order is the contract:
//
//  1. archive: the rows are committed, or nothing below happens; then the changes of
//     messages, which are of these or of older ones
//  2. cursors: what receipts and sends move is noted, to be in MySQL before the offset
//  3. project: Redis has it, or a row of doubt says that it may not
//  4. push: only now is presence read. Who connects registers first and pulls second,
//     so a message meets a session or a pull, whichever comes first (RELIABILITY.md, R4)
//  5. notify: who is found to be connected nowhere is told by the lane retry, which the
//     log has before the offset is committed
//
// Each effect is a max by seq or ignored by its receiver when repeated, so a batch
// that died anywhere is simply done again ([J4]).
func (s *scribe) process(ctx context.Context, items []*item, m mood) error {
	b := s.sort(items, m)
	start := time.Now()
	err := s.archive(ctx, b)
	var absent *absentError
	if errors.As(err, &absent) {
		disown(items, absent)
		b = s.sort(items, max(m, wary))
		err = s.archive(ctx, b)
	}
	if err != nil {
		return err
	}
	s.r.meter.step("archive", start)
	if err := s.crash("insert"); err != nil {
		return err
	}

	if len(b.changes)+len(b.hides) > 0 {
		start = time.Now()
		if err := s.alter(ctx, b); err != nil {
			return err
		}
		if err := s.conceal(ctx, b); err != nil {
			return err
		}
		s.r.meter.step("change", start)
		if err := s.crash("change"); err != nil {
			return err
		}
	}

	moves, err := s.moves(ctx, b)
	if err != nil {
		return err
	}
	s.p.moves.add(moves)
	if err := s.crash("cursors"); err != nil {
		return err
	}

	start = time.Now()
	if err := s.project(ctx, b, moves); err != nil {
		return err
	}
	s.r.meter.step("project", start)
	if err := s.crash("project"); err != nil {
		return err
	}

	start = time.Now()
	s.push(ctx, b, moves)
	s.r.meter.step("push", start)
	if err := s.crash("publish"); err != nil {
		return err
	}
	s.told(moves)
	s.trim()
	s.count(b)
	// Poison in the middle of good records has waited for its turn until here.
	for _, it := range items {
		if it.poison != nil {
			if err := s.park(ctx, it, 1, it.poison); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil || len(b.notify) == 0 {
		return err
	}
	s.announce(items, b.notify)
	return nil
}

// sort splits a batch by what its records ask for and folds repeats.
func (s *scribe) sort(items []*item, m mood) *batch {
	b := &batch{items: items, careful: m >= wary, brisk: m == brisk, sends: make([]*send, 0, len(items)), fresh: make([]*send, 0, len(items))}
	seen := make(map[im.SendKey]*send, len(items))
	for _, it := range items {
		switch {
		case it.poison != nil:
		case it.task.Send != nil:
			t := it.task.Send
			key := im.SendKey{Conversation: it.task.Conversation, Sender: t.Sender.ID, ClientMsgID: t.ClientMsgID}
			d := &send{conv: it.task.Conversation, task: t, key: key, first: seen[key]}
			if isChannel(d.conv) {
				d.room = new(inRoom)
			}
			if d.first == nil {
				seen[key] = d
				b.fresh = append(b.fresh, d)
			}
			b.sends = append(b.sends, d)
		case it.task.Receipt != nil:
			b.receipts.add(it.task.Conversation, it.task.Receipt)
		case it.task.Change != nil:
			b.change(it.task.Conversation, it.task.Change)
		default:
			b.hide(it.task.Conversation, it.task.Hide)
		}
	}
	return b
}

// several says whether it is about more than one conversation.
func (b *batch) several() bool {
	return slices.ContainsFunc(b.items, func(it *item) bool { return it.task.Conversation != b.items[0].task.Conversation })
}

func (b *batch) change(conv im.ConversationID, t *im.ChangeTask) {
	c := &change{conv: conv, task: t, key: im.ChangeKey{Conversation: conv, Actor: t.Actor, ClientChangeID: t.ClientChangeID}}
	for _, other := range b.changes {
		if other.key == c.key && other.first == nil {
			c.first = other
		}
	}
	b.changes = append(b.changes, c)
}

func (b *batch) hide(conv im.ConversationID, t *im.HideTask) {
	for _, h := range b.hides {
		if h.Conversation == conv && h.User == t.User {
			h.Seqs = append(h.Seqs, t.Seqs...)
			return
		}
	}
	b.hides = append(b.hides, &hide{Hide: im.Hide{Conversation: conv, User: t.User, Seqs: slices.Clone(t.Seqs)}})
}

// settle gives a repeat the fate of the first of its key.
func (d *send) settle() {
	f := d.first
	if f == nil {
		return
	}
	d.ref = f.ref
	switch {
	case f.ref.Hash != d.task.Hash:
		d.fate = conflict
	case f.ref.Parked:
		d.fate = parked
	default:
		d.fate = duplicate
	}
}

func (s *scribe) count(b *batch) {
	names := [...]string{stored: "stored", duplicate: "duplicate", conflict: "conflict", parked: "parked_before"}
	var n [len(names)]int
	for _, d := range b.sends {
		n[d.fate]++
	}
	for f, c := range n {
		if c > 0 && names[f] != "" {
			s.r.m.messages.WithLabelValues(names[f]).Add(float64(c))
		}
	}
	for _, c := range b.changes {
		result := "done"
		if c.err() != nil {
			result = "rejected"
		}
		s.r.m.changes.WithLabelValues(string(c.task.Kind), result).Inc()
	}
}

// crash asks the tests' hook whether to die here.
func (s *scribe) crash(step string) error {
	if err := s.r.step(step); err != nil {
		return &endedError{err}
	}
	return nil
}
