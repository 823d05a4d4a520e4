package jobs

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// change is a change of one of the conversation's first messages, or a deletion; now
// and then an earlier one again, as a client repeats it or uses its ID for another.
func (s *simulation) change(conv im.ConversationID, n int, upTo im.Seq, actors []im.UserID) im.Task {
	c := s.w.chance
	actor, seq := actors[c.intn(len(actors))], 1+im.Seq(c.intn(int(upTo)))
	if c.intn(6) == 0 {
		for _, old := range slices.Backward(s.tasks) {
			if old.Change != nil && old.Conversation == conv {
				again := *old.Change
				if c.intn(3) == 0 {
					again.Seq, again.Hash = seq, im.HashChange(seq, again.Kind, again.Content, again.Base, again.Reaction)
				}
				return im.Task{Conversation: conv, Change: &again}
			}
		}
	}
	switch c.intn(8) {
	case 0:
		task := recall(conv, actor, n, seq)
		task.Change.Manages = isChannel(conv) && c.intn(2) == 0
		return task
	case 1, 2:
		return edit(conv, actor, n, seq, fmt.Sprint("edit ", n), nil)
	case 3:
		base := uint64(c.intn(6))
		return edit(conv, actor, n, seq, fmt.Sprint("edit ", n), &base)
	case 4:
		return im.Task{Conversation: conv, Hide: &im.HideTask{User: actor, Seqs: []im.Seq{seq, 1}}}
	}
	kinds := im.MaxReactions + 2 // so that there are too many at times
	if c.intn(2) == 0 {
		kinds = 2
	}
	return react(conv, actor, n, seq, fmt.Sprint("r", c.intn(kinds)), c.intn(3) > 0)
}

// model applies the log's changes one by one to what was said.
type model struct {
	said    map[im.Place]*im.Message
	reacted map[im.ReactionKey]bool
	changes map[im.ConversationID][]im.StoredChange
	seen    map[im.ChangeKey]bool
	former  map[im.Place]int
	hidden  map[memberKey][]im.Seq
}

func (m *model) apply(conv im.ConversationID, t *im.ChangeTask) {
	key := im.ChangeKey{Conversation: conv, Actor: t.Actor, ClientChangeID: t.ClientChangeID}
	if m.seen[key] {
		return
	}
	m.seen[key] = true
	n := uint64(len(m.changes[conv]) + 1)
	place := im.Place{Conversation: conv, Seq: t.Seq}
	row := m.said[place]
	outcome := im.ChangeDone
	own := row != nil && (row.Sender.ID == t.Actor || t.Kind == im.ChangeRecall && t.Manages && row.Sender.ID != im.SystemUser)
	switch {
	case row == nil, !own && (t.Kind == im.ChangeRecall || t.Kind == im.ChangeEdit):
		outcome = im.ChangeNoMessage
	case row.RecalledAt != 0:
		outcome = im.ChangeRecalled
	case t.Kind == im.ChangeRecall:
		row.RecalledAt, row.Content, row.Reactions = 1, im.Tombstone, nil
		for k := range m.reacted {
			if k.Place == place {
				delete(m.reacted, k)
			}
		}
		delete(m.former, place)
	case t.Kind == im.ChangeEdit && t.Base != nil && *t.Base < row.EditChange:
		outcome = im.ChangeMoved
	case t.Kind == im.ChangeEdit:
		row.Content, row.EditChange = t.Content, n
		m.former[place]++
	default:
		k := im.ReactionKey{Place: place, User: t.Actor, Reaction: t.Reaction}
		kinds := map[string]bool{}
		for o := range m.reacted {
			if o.Place == place {
				kinds[o.Reaction] = true
			}
		}
		switch {
		case t.Kind == im.ChangeUnreact:
			delete(m.reacted, k)
		case !kinds[t.Reaction] && len(kinds) == im.MaxReactions:
			outcome = im.ChangeTooManyKinds
		default:
			m.reacted[k] = true
		}
	}
	if outcome == im.ChangeDone {
		row.Change = n
	}
	m.changes[conv] = append(m.changes[conv], im.StoredChange{ChangeKey: key,
		ChangeRef: im.ChangeRef{Change: n, Seq: t.Seq, Outcome: outcome, Hash: t.Hash}, Kind: t.Kind})
}

// checkChanges holds what is stored and projected against the log.
func (s *simulation) checkChanges(t *testing.T) {
	w := s.w
	m := &model{said: map[im.Place]*im.Message{}, reacted: map[im.ReactionKey]bool{}, changes: map[im.ConversationID][]im.StoredChange{},
		seen: map[im.ChangeKey]bool{}, former: map[im.Place]int{}, hidden: map[memberKey][]im.Seq{}}
	sent := map[im.SendKey]bool{}
	for _, r := range s.log.records {
		task, err := queue.DecodeTask(r.Value)
		if err != nil {
			continue
		}
		conv := task.Conversation
		switch {
		case task.Send != nil:
			key := im.SendKey{Conversation: conv, Sender: task.Send.Sender.ID, ClientMsgID: task.Send.ClientMsgID}
			if ref, stored := w.keys[key]; stored && !sent[key] {
				sent[key] = true
				m.said[im.Place{Conversation: conv, Seq: ref.Seq}] = &im.Message{Sender: task.Send.Sender, Content: task.Send.Content}
			}
		case task.Change != nil:
			m.apply(conv, task.Change)
		case task.Hide != nil:
			key := memberKey{conv, task.Hide.User}
			for _, seq := range task.Hide.Seqs {
				if !slices.Contains(m.hidden[key], seq) {
					m.hidden[key] = append(m.hidden[key], seq)
				}
			}
		}
	}
	for conv, want := range m.changes {
		got := slices.Clone(w.changes[conv])
		for i := range got {
			got[i].At = 0
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: changes\n got %+v\nwant %+v", conv, got, want)
		}
		low, high, _ := conv.Direct()
		for _, u := range []im.UserID{low, high} {
			if st := w.states[memberKey{conv, u}]; w.doubts == 0 && u != im.SystemUser && st.LastChange != uint64(len(want)) {
				t.Errorf("%s of %s: change %d projected of %d", conv, u, st.LastChange, len(want))
			}
		}
	}
	for place, want := range m.said {
		got := w.rows[place.Conversation][place.Seq-1]
		if string(got.Content) != string(want.Content) || (got.RecalledAt != 0) != (want.RecalledAt != 0) || got.Change != want.Change || len(w.former[place]) != m.former[place] {
			t.Errorf("%v: %+v with %d edits, want %+v with %d", place, got, len(w.former[place]), want, m.former[place])
		}
		counts := map[string]uint64{}
		for k := range m.reacted {
			if k.Place == place {
				counts[k.Reaction]++
			}
		}
		for _, r := range got.Reactions {
			if counts[r.Reaction] != r.Count {
				t.Errorf("%v: %d of %s, want %d", place, r.Count, r.Reaction, counts[r.Reaction])
			}
		}
		if len(counts) != len(got.Reactions) {
			t.Errorf("%v: reactions %v, want %v", place, got.Reactions, counts)
		}
		if want.RecalledAt != 0 && !w.uncounted[im.UncountedSeq{Conversation: place.Conversation, Seq: place.Seq}] {
			t.Errorf("%v: recalled and counted", place)
		}
	}
	if len(w.reactions) != len(m.reacted) {
		t.Errorf("%d reactions, want %d", len(w.reactions), len(m.reacted))
	}
	for key, want := range m.hidden {
		got := w.deleted[key]
		if len(got) != len(want) {
			t.Errorf("%v: deleted %v, want %v", key, got, want)
		}
		if st := w.states[key]; w.doubts == 0 && key.user != im.SystemUser && st.Deletions != uint64(len(want)) {
			t.Errorf("%v: %d deletions projected of %d", key, st.Deletions, len(want))
		}
	}
	if w.doubts == 0 && !reflect.DeepEqual(w.uncounted, w.indexed) {
		t.Errorf("uncounted in Redis %v, in MySQL %v", w.indexed, w.uncounted)
	}
}
