package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

// ChangeBasis reads the last changes first, and lets others write before the rest.
func (w *world) ChangeBasis(ctx context.Context, keys []im.ChangeKey, places []im.Place, reactions []im.ReactionKey) (im.ChangeBasis, error) {
	b := im.ChangeBasis{Last: map[im.ConversationID]uint64{}, Known: map[im.ChangeKey]im.ChangeRef{}, Messages: map[im.Place]im.Message{}, Reacted: map[im.ReactionKey]bool{}}
	if err := w.enter("basis"); err != nil {
		return b, err
	}
	w.mu.Lock()
	for _, k := range keys {
		b.Last[k.Conversation] = uint64(len(w.changes[k.Conversation]))
	}
	w.mu.Unlock()
	runtime.Gosched()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if ref, ok := w.changed[k]; ok {
			b.Known[k] = ref
		}
	}
	for _, p := range places {
		if rows := w.rows[p.Conversation]; p.Seq >= 1 && int(p.Seq) <= len(rows) {
			b.Messages[p] = rows[p.Seq-1]
		}
	}
	for _, k := range reactions {
		_, b.Reacted[k] = w.reactions[k]
	}
	return b, nil
}

func (w *world) ApplyChanges(ctx context.Context, set im.ChangeSet) error {
	if err := w.enter("apply"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	next := map[im.ConversationID]uint64{}
	for _, c := range set.Changes {
		if _, ok := next[c.Conversation]; !ok {
			next[c.Conversation] = uint64(len(w.changes[c.Conversation]))
		}
		next[c.Conversation]++
		_, known := w.changed[c.ChangeKey]
		switch {
		case c.Change < next[c.Conversation], known:
			return &im.DuplicateError{Cause: errors.New("dup")}
		case c.Change > next[c.Conversation]:
			w.wrongf("hole: %s got change %d after %d", c.Conversation, c.Change, next[c.Conversation]-1)
		}
	}
	for _, c := range set.Changes {
		w.changes[c.Conversation] = append(w.changes[c.Conversation], c)
		w.changed[c.ChangeKey] = c.ChangeRef
	}
	for _, p := range set.Recalled {
		maps.DeleteFunc(w.reactions, func(k im.ReactionKey, _ uint64) bool { return k.Place == p })
		delete(w.former, p)
		w.uncounted[im.UncountedSeq{Conversation: p.Conversation, Seq: p.Seq}] = true
	}
	for _, m := range set.Messages {
		row := &w.rows[m.Conversation][m.Seq-1]
		if row.Change >= m.Change {
			w.wrongf("%s %d: change %d over %d", m.Conversation, m.Seq, m.Change, row.Change)
		}
		*row = m
	}
	for _, f := range set.Former {
		w.former[f.Place] = append(w.former[f.Place], f)
	}
	for _, k := range set.Unreact {
		if _, ok := w.reactions[k]; !ok {
			w.wrongf("%v taken away and not there", k)
		}
		delete(w.reactions, k)
	}
	for i, k := range set.React {
		if _, ok := w.reactions[k]; ok {
			w.wrongf("%v is there already", k)
		}
		w.reactions[k] = set.Reacted[i]
	}
	if w.chance.hits(w.faults) {
		return fmt.Errorf("connection lost after the commit: %w", im.ErrStore)
	}
	return nil
}

func (w *world) HideMessages(ctx context.Context, h im.Hide) ([]im.Hidden, error) {
	if err := w.enter("hide"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := memberKey{h.Conversation, h.User}
	var out []im.Hidden
	for _, seq := range h.Seqs {
		at := slices.IndexFunc(w.deleted[key], func(x im.Hidden) bool { return x.Seq == seq })
		if at < 0 {
			at = len(w.deleted[key])
			w.deleted[key] = append(w.deleted[key], im.Hidden{Seq: seq, Deletion: uint64(at + 1)})
			w.uncounted[im.UncountedSeq{Conversation: h.Conversation, Seq: seq, User: h.User}] = true
		}
		out = append(out, w.deleted[key][at])
	}
	if w.chance.hits(w.faults) {
		return nil, fmt.Errorf("connection lost after the commit: %w", im.ErrStore)
	}
	return out, nil
}

func recall(conv im.ConversationID, actor im.UserID, n int, seq im.Seq) im.Task {
	return asked(conv, im.ChangeTask{Actor: actor, ClientChangeID: changeID(n), Kind: im.ChangeRecall, Seq: seq})
}

func edit(conv im.ConversationID, actor im.UserID, n int, seq im.Seq, text string, base *uint64) im.Task {
	return asked(conv, im.ChangeTask{Actor: actor, ClientChangeID: changeID(n), Kind: im.ChangeEdit, Seq: seq,
		Content: []byte(fmt.Sprintf(`{"text":%q}`, text)), Base: base})
}

func react(conv im.ConversationID, actor im.UserID, n int, seq im.Seq, reaction string, on bool) im.Task {
	kind := im.ChangeReact
	if !on {
		kind = im.ChangeUnreact
	}
	return asked(conv, im.ChangeTask{Actor: actor, ClientChangeID: changeID(n), Kind: kind, Seq: seq, Reaction: reaction})
}

func asked(conv im.ConversationID, c im.ChangeTask) im.Task {
	c.Hash = im.HashChange(c.Seq, c.Kind, c.Content, c.Base, c.Reaction)
	return im.Task{Conversation: conv, Change: &c}
}

func changeID(n int) im.ClientChangeID { return im.ClientChangeID(fmt.Sprintf("change-%06d", n)) }
