package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	chat = im.ConversationID("d1-2")
	room = im.ConversationID("c7")
)

// world is a small record in which all is well: ann (1) and bob (2) talk; in a room of
// the two and cat (3), dan (4) comes at 2, leaves at 5, and bob recalls what he said at 4.
type world struct {
	r *record
	e *ending
}

// at is a moment of the record.
func at(n int) time.Duration { return time.Duration(n) * time.Second }

func newWorld() *world {
	w := &world{
		r: newRecord([]*conv{{id: chat, members: []im.UserID{1, 2}}, {id: room, group: 7, members: []im.UserID{1, 2, 3}, guest: 4}}),
		e: &ending{histories: make(map[seat][]shown), lists: make(map[im.UserID][]listRow), held: make(map[seat]im.Seq)},
	}
	said := func(c im.ConversationID, sender im.UserID, seq im.Seq, moment int) shown {
		token := fmt.Sprint(c, "-", seq)
		w.r.begin(&send{conv: c, sender: sender, id: im.ClientMsgID("id-" + token), token: token})
		w.r.tried(w.r.byToken[token], try{asked: at(moment), answered: at(moment + 1), conn: int(sender), nth: moment, outcome: acked, seq: seq})
		return shown{seq: seq, id: im.MessageID(100*moment + 1), sender: sender, token: token}
	}
	notice := func(seq im.Seq, moment int, kind im.NoticeKind) shown {
		return shown{seq: seq, id: im.MessageID(100*moment + 1), notice: &im.Notice{Kind: kind, Users: []im.NoticeUser{{ID: 4}}}}
	}
	var talk, group []shown
	for i, sender := range []im.UserID{1, 2, 1, 1} {
		talk = append(talk, said(chat, sender, im.Seq(i+1), 10+2*i))
	}
	group = append(group, notice(1, 1, im.NoticeCreated), notice(2, 2, im.NoticeJoined), said(room, 1, 3, 20), said(room, 2, 4, 22), notice(5, 24, im.NoticeRemoved), said(room, 3, 6, 40))
	group[0].notice.Users = nil
	w.r.moves = []*move{{conv: room, user: 4, in: true, asked: at(1), answered: at(2), outcome: acked}, {conv: room, user: 4, asked: at(23), answered: at(24), outcome: acked}}
	for _, m := range slices.Concat(talk, group) {
		c, members := chat, []im.UserID{1, 2}
		if slices.ContainsFunc(group, func(o shown) bool { return o.id == m.id }) {
			if c, members = room, []im.UserID{1, 2, 3}; m.seq >= 2 && m.seq <= 5 {
				members = append(members, 4)
			}
		}
		for _, u := range members {
			w.r.saw(sight{seat: seat{u, c}, shown: m, manner: pushed, conn: int(u)})
			w.e.held[seat{u, c}] = m.seq
		}
	}
	w.r.changes = []*change{{conv: room, token: "c7-4", recall: true, outcome: acked}}
	group[3].token, group[3].recalled = "", true
	for _, u := range []im.UserID{1, 2, 3} {
		if w.e.histories[seat{u, room}] = slices.Clone(group); u < 3 {
			w.e.histories[seat{u, chat}] = slices.Clone(talk)
		}
	}
	w.e.histories[seat{4, room}] = slices.Clone(group[1:5])
	w.r.reads[seat{2, chat}] = 3
	w.e.lists[1] = []listRow{{conv: room, last: 6, unread: 1}, {conv: chat, last: 4}}
	w.e.lists[2] = []listRow{{conv: room, last: 6, unread: 1}, {conv: chat, last: 4, unread: 1}}
	w.e.lists[3] = []listRow{{conv: room, last: 6}}
	w.e.lists[4] = []listRow{{conv: room, last: 5, unread: 1, left: true}}
	return w
}

// all changes one row in everybody's history.
func (w *world) all(c im.ConversationID, seq im.Seq, change func(*shown)) {
	for at, rows := range w.e.histories {
		for i := range rows {
			if at.conv == c && rows[i].seq == seq {
				change(&rows[i])
			}
		}
	}
}

func (w *world) cut(u im.UserID, c im.ConversationID, from, to int) {
	k := seat{u, c}
	w.e.histories[k] = slices.Delete(w.e.histories[k], from, to)
}

func TestCheck_CleanRecordIsClean(t *testing.T) {
	w := newWorld()
	if v := check(w.r, w.e, fenced); !v.clean() {
		t.Errorf("found %v", v)
	}
}

func TestCheck_FindsEachClass(t *testing.T) {
	for _, c := range []struct {
		class, name string
		spoil       func(*world)
	}{
		{"lost", "the last message", func(w *world) { w.cut(1, chat, 3, 4); w.cut(2, chat, 3, 4) }},
		{"lost", "a recall", func(w *world) { w.all(room, 4, func(m *shown) { m.recalled, m.token = false, "c7-4" }) }},
		{"dup", "twice under two IDs", func(w *world) { w.all(chat, 4, func(m *shown) { m.token = "d1-2-3" }) }},
		{"dup", "one message ID twice", func(w *world) { w.all(chat, 4, func(m *shown) { m.id = 1401 }) }},
		{"phantom", "refused and there", func(w *world) { w.r.byToken["d1-2-4"].tries = []try{{asked: at(16), outcome: refused}} }},
		{"phantom", "never sent", func(w *world) { w.all(chat, 4, func(m *shown) { m.token = "nobody-1" }) }},
		{"fork", "two see different messages", func(w *world) { w.e.histories[seat{2, chat}][1].id = 9 }},
		{"fork", "two see different authors", func(w *world) { w.e.histories[seat{2, chat}][1].sender = 1 }},
		{"fork", "two see different texts", func(w *world) { w.e.histories[seat{2, chat}][1].token = "d1-2-3" }},
		{"fork", "stored elsewhere than answered", func(w *world) { w.r.byToken["d1-2-2"].tries[0].seq = 3 }},
		{"gap", "a hole", func(w *world) { w.cut(1, chat, 1, 2) }},
		{"gap", "a hole for one member only", func(w *world) { w.cut(3, room, 2, 3) }},
		{"gap", "a member's history ends too soon", func(w *world) { w.cut(3, room, 5, 6) }},
		{"regress", "pushed and gone", func(w *world) {
			w.r.sights = append(w.r.sights, sight{seat: seat{2, chat}, shown: shown{seq: 5, id: 77, sender: 1}, manner: asked})
		}},
		{"fork", "pushed as another", func(w *world) { w.r.sights[0].id = 77 }},
		{"fifo", "an acked message is overtaken", func(w *world) {
			w.r.byToken["d1-2-4"].tries[0].asked, w.r.byToken["d1-2-3"].tries[0].asked = at(10), at(90)
		}},
		{"fifo", "a pipelined message is overtaken", func(w *world) { w.r.byToken["d1-2-4"].tries[0].nth = 1 }},
		{"fifo", "pushes out of order", func(w *world) { w.r.sights = append(w.r.sights, w.r.sights[0]) }},
		{"early", "pushed before it could be read", func(w *world) { w.r.early = []string{"x"} }},
		{"leak", "pushed to who has left", func(w *world) {
			w.r.sights = append(w.r.sights, sight{seat: seat{4, room}, shown: w.e.histories[seat{1, room}][5], manner: pushed, conn: 4})
		}},
		{"leak", "a history from before the join", func(w *world) {
			k := seat{4, room}
			w.e.histories[k] = slices.Insert(w.e.histories[k], 0, w.e.histories[seat{1, room}][0])
		}},
		{"leak", "taken after the removal", func(w *world) {
			w.r.begin(&send{conv: room, sender: 4, id: "id-late-one", token: "late"})
			w.r.tried(w.r.byToken["late"], try{asked: at(30), answered: at(31), outcome: acked})
		}},
		{"unread_err", "one too many", func(w *world) { w.e.lists[2][1].unread = 2 }},
		{"unread_err", "the recalled one is counted", func(w *world) { w.e.lists[4][0].unread = 2 }},
		{"list_err", "a conversation is missing", func(w *world) { w.e.lists[2] = w.e.lists[2][:1] }},
		{"list_err", "an old last seq", func(w *world) { w.e.lists[2][1].last = 3 }},
		{"list_err", "the wrong order", func(w *world) { slices.Reverse(w.e.lists[1]) }},
		{"list_err", "a list was not whole", func(w *world) { w.r.partial = []string{"x"} }},
		{"stuck", "a device has not heard of the last", func(w *world) { w.e.held[seat{2, chat}] = 3 }},
	} {
		w := newWorld()
		c.spoil(w)
		if v := check(w.r, w.e, fenced); len(v[c.class]) == 0 {
			t.Errorf("%s (%s) was not found: %v", c.class, c.name, v)
		}
	}
}

// What is no fault must not be taken for one.
func TestCheck_LeavesAlone(t *testing.T) {
	for name, bend := range map[string]func(*world){
		"a message whose outcome is not known may be there": func(w *world) { w.r.byToken["d1-2-4"].tries[0].outcome = unknown },
		"a refusal after an unknown attempt says nothing": func(w *world) {
			s := w.r.byToken["d1-2-4"]
			s.tries = []try{{asked: at(16), outcome: unknown}, {asked: at(17), outcome: refused}}
		},
		"what was refused and is not there": func(w *world) {
			w.r.begin(&send{conv: chat, sender: 1, id: "id-refused", token: "refused"})
			w.r.tried(w.r.byToken["refused"], try{asked: at(30), outcome: refused})
		},
		"who tried again may be overtaken": func(w *world) {
			s := w.r.byToken["d1-2-4"]
			s.tries = []try{{asked: at(12), nth: 12, conn: 1, outcome: unknown}, {asked: at(40), answered: at(41), nth: 40, conn: 1, outcome: acked}}
		},
		"a device may have been told less than all": func(w *world) { w.r.sights = w.r.sights[:3] },
		"a guest who has left owes nothing":         func(w *world) { w.e.held[seat{4, room}] = 5 },
		"who was removed is heard for a while": func(w *world) {
			w.r.begin(&send{conv: room, sender: 4, id: "id-late-one", token: "late"})
			w.r.tried(w.r.byToken["late"], try{asked: at(25), answered: at(26), outcome: acked})
			for u := range im.UserID(3) {
				k := seat{u + 1, room}
				w.e.histories[k] = append(w.e.histories[k], shown{seq: 7, id: 9001, sender: 4, token: "late"})
				w.e.held[k] = 7
				i := slices.IndexFunc(w.e.lists[u+1], func(r listRow) bool { return r.conv == room })
				w.e.lists[u+1][i].last, w.e.lists[u+1][i].unread = 7, w.e.lists[u+1][i].unread+1
			}
			w.e.lists[4][0].unread = 0 // what they said themselves they have read, and all before it
		},
	} {
		w := newWorld()
		bend(w)
		if v := check(w.r, w.e, fenced); !v.clean() {
			t.Errorf("%s: found %v", name, v)
		}
	}
}
