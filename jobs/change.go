package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

// change is one accepted change in a batch.
type change struct {
	conv  im.ConversationID
	task  *im.ChangeTask
	key   im.ChangeKey
	first *change // the same key earlier in this batch
	// conflict says that the ID was used before for another change.
	conflict bool
	ref      im.ChangeRef
	message  *im.Message // as it now is; nil where there is none
}

// err is what the change came to.
func (c *change) err() error {
	if c.conflict {
		return im.ErrChangeIDConflict
	}
	return c.ref.Outcome.Err()
}

// recalled says that the message is gone.
func (c *change) recalled() bool { return c.message != nil && c.message.RecalledAt != 0 }

// place is the message that the change is about.
func (c *change) place() im.Place { return im.Place{Conversation: c.conv, Seq: c.ref.Seq} }

// alter decides the changes of the batch in the order of the log and writes them in
// one transaction ([J7]). Its fence is that of messages: a change is given number n+1
// only by who has read n as committed, so what was decided on older knowledge clashes
// and is decided anew. Changes are rare beside messages: what they need is read each
// time, and nothing of it is remembered.
func (s *scribe) alter(ctx context.Context, b *batch) error {
	if len(b.changes) == 0 {
		return nil
	}
	for round, waits := 1, 0; ; round++ {
		set, err := s.decide(ctx, b.changes)
		if err != nil {
			return err
		}
		if len(set.Changes) == 0 {
			return nil
		}
		_, err = callStore(ctx, s.r, "apply_changes", func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.r.deps.Archive.ApplyChanges(ctx, set)
		})
		var dup *im.DuplicateError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return err
		case errors.As(err, &dup):
			s.r.m.rounds.WithLabelValues("change").Inc()
			if round >= maxRounds {
				return fmt.Errorf("%w: changes numbered %d times: %w", im.ErrUnstorable, round, err)
			}
		case away(err):
			// Whether it was written is not known; the next round looks.
			if err := s.r.backoff(ctx, "apply_changes", waits, err); err != nil {
				return err
			}
			waits, round = waits+1, round-1
		default:
			return err
		}
	}
}

// decide gives every change its number and outcome: those stored before keep theirs,
// the others follow the last of their conversation. It answers with what is to be
// written.
func (s *scribe) decide(ctx context.Context, changes []*change) (im.ChangeSet, error) {
	basis, err := s.basis(ctx, changes)
	if err != nil {
		return im.ChangeSet{}, err
	}
	d := &decision{basis: basis, now: s.r.deps.Now().UnixMilli(), messages: make(map[im.Place]*im.Message), changed: make(map[im.Place]bool), reacted: make(map[im.ReactionKey]reacted)}
	for _, c := range changes {
		c.ref, c.conflict, c.message = im.ChangeRef{}, false, nil
		known, stored := basis.Known[c.key]
		switch {
		case c.first != nil:
			c.ref, c.conflict = c.first.ref, c.first.ref.Hash != c.task.Hash
		case stored:
			c.ref, c.conflict = known, known.Hash != c.task.Hash
		default:
			d.number(c)
		}
		c.message = d.message(c.place())
	}
	return d.finish(), nil
}

// basis reads what the changes are decided on.
func (s *scribe) basis(ctx context.Context, changes []*change) (im.ChangeBasis, error) {
	keys := make([]im.ChangeKey, 0, len(changes))
	places := make([]im.Place, 0, len(changes))
	var reactions []im.ReactionKey
	seen := make(map[im.Place]bool, len(changes))
	for _, c := range changes {
		if c.first == nil {
			keys = append(keys, c.key)
		}
		p := im.Place{Conversation: c.conv, Seq: c.task.Seq}
		if !seen[p] {
			seen[p] = true
			places = append(places, p)
		}
		if c.task.Kind == im.ChangeReact || c.task.Kind == im.ChangeUnreact {
			reactions = append(reactions, c.reaction())
		}
	}
	return untilStore(ctx, s.r, "change_basis", func(ctx context.Context) (im.ChangeBasis, error) {
		return s.r.deps.Archive.ChangeBasis(ctx, keys, places, reactions)
	})
}

func (c *change) reaction() im.ReactionKey {
	return im.ReactionKey{Place: im.Place{Conversation: c.conv, Seq: c.task.Seq}, User: c.task.Actor, Reaction: c.task.Reaction}
}

// reacted is what a batch makes of one user's reaction.
type reacted struct {
	before, now bool
	change      uint64
}

// decision is the messages of a batch of changes, changing.
type decision struct {
	basis    im.ChangeBasis
	now      int64
	messages map[im.Place]*im.Message
	order    []im.Place // of messages that have changed
	changed  map[im.Place]bool
	reacted  map[im.ReactionKey]reacted
	reacting []im.ReactionKey // in the order of the log
	set      im.ChangeSet
}

// message is the one at p as the changes so far have left it; nil where there is none.
func (d *decision) message(p im.Place) *im.Message {
	if m, ok := d.messages[p]; ok {
		return m
	}
	m, ok := d.basis.Messages[p]
	if !ok {
		return nil
	}
	d.messages[p] = &m
	return &m
}

// may says whether the message is the actor's to change so: others react to it, and an
// admin takes back what members have said.
func (c *change) may(m *im.Message) bool {
	switch c.task.Kind {
	case im.ChangeRecall:
		return m.Sender.ID == c.task.Actor || c.task.Manages && m.Sender.ID != im.SystemUser
	case im.ChangeEdit:
		return m.Sender.ID == c.task.Actor
	}
	return true
}

// number gives c the next number and does what it says, or notes why that cannot be.
func (d *decision) number(c *change) {
	d.basis.Last[c.conv]++
	c.ref = im.ChangeRef{Change: d.basis.Last[c.conv], Seq: c.task.Seq, Hash: c.task.Hash}
	m := d.message(c.place())
	switch {
	case m == nil, !c.may(m):
		c.ref.Outcome = im.ChangeNoMessage
	case m.RecalledAt != 0:
		c.ref.Outcome = im.ChangeRecalled
	case c.task.Kind == im.ChangeRecall:
		d.recall(c, m)
	case c.task.Kind == im.ChangeEdit:
		d.edit(c, m)
	default:
		d.react(c, m, c.task.Kind == im.ChangeReact)
	}
	if c.ref.Outcome == im.ChangeDone {
		m.Change = c.ref.Change
		if p := c.place(); !d.changed[p] {
			d.changed[p] = true
			d.order = append(d.order, p)
		}
	}
	d.set.Changes = append(d.set.Changes, im.StoredChange{ChangeKey: c.key, ChangeRef: c.ref, Kind: c.task.Kind, At: d.now})
}

func (d *decision) recall(c *change, m *im.Message) {
	m.Recall(c.ref.Change, d.now)
	d.set.Recalled = append(d.set.Recalled, c.place())
}

func (d *decision) edit(c *change, m *im.Message) {
	switch {
	case c.task.Base != nil && *c.task.Base < m.EditChange:
		c.ref.Outcome = im.ChangeMoved
		return
	case m.Edits >= im.MaxEdits:
		c.ref.Outcome = im.ChangeTooManyEdits
		return
	}
	since := m.EditedAt
	if since == 0 {
		since = m.StoredAt
	}
	d.set.Former = append(d.set.Former, im.FormerContent{Place: c.place(), Change: c.ref.Change, Content: m.Content, At: since})
	m.Content, m.EditedAt, m.EditChange = c.task.Content, d.now, c.ref.Change
	m.Edits++
}

// react adds or takes away. What is so already has its number and changes nothing else.
func (d *decision) react(c *change, m *im.Message, on bool) {
	key := c.reaction()
	r, known := d.reacted[key]
	if !known {
		r.before = d.basis.Reacted[key]
		r.now = r.before
		d.reacting = append(d.reacting, key)
	}
	if r.now != on {
		if !count(m, key.Reaction, on) {
			c.ref.Outcome = im.ChangeTooManyKinds
			return
		}
		r.now, r.change = on, c.ref.Change
	}
	d.reacted[key] = r
}

// count moves the count of a reaction by one; false where that would be one kind too
// many. The slice is not shared: the counts of one change are not those of the next.
func count(m *im.Message, reaction string, on bool) bool {
	all := append([]im.Reaction(nil), m.Reactions...)
	for i := range all {
		if all[i].Reaction != reaction {
			continue
		}
		if on {
			all[i].Count++
		} else if all[i].Count--; all[i].Count == 0 {
			all = append(all[:i], all[i+1:]...)
		}
		m.Reactions = all
		return true
	}
	if on && len(all) == im.MaxReactions {
		return false
	}
	if on {
		m.Reactions = append(all, im.Reaction{Reaction: reaction, Count: 1})
	}
	return true
}

// finish is what is to be written. What was said or reacted in the place of a recalled
// message goes with it.
func (d *decision) finish() im.ChangeSet {
	for _, p := range d.order {
		d.set.Messages = append(d.set.Messages, *d.messages[p])
	}
	former := d.set.Former[:0]
	for _, f := range d.set.Former {
		if d.messages[f.Place].RecalledAt == 0 {
			former = append(former, f)
		}
	}
	d.set.Former = former
	for _, key := range d.reacting {
		r, ok := d.reacted[key]
		switch {
		case !ok || d.messages[key.Place].RecalledAt != 0:
		case r.now && r.change != 0: // also one that was taken away and came again: it is at a later change
			if r.before {
				d.set.Unreact = append(d.set.Unreact, key)
			}
			d.set.React = append(d.set.React, key)
			d.set.Reacted = append(d.set.Reacted, r.change)
		case !r.now && r.before:
			d.set.Unreact = append(d.set.Unreact, key)
		}
	}
	return d.set
}

// hide is what one user deletes for themselves in one conversation, in one batch.
type hide struct {
	im.Hide
	items []im.Hidden // by number
}

// conceal deletes for one user what the batch says. Again changes nothing.
func (s *scribe) conceal(ctx context.Context, b *batch) error {
	for _, h := range b.hides {
		e, _ := s.ends.Get(h.Conversation)
		there := h.Hide
		there.Seqs = nil
		for _, seq := range h.Seqs {
			if seq >= 1 && seq <= e.last.Seq {
				there.Seqs = append(there.Seqs, seq)
			}
		}
		var err error
		h.items, err = untilStore(ctx, s.r, "hide", func(ctx context.Context) ([]im.Hidden, error) {
			return s.r.deps.Archive.HideMessages(ctx, there)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
