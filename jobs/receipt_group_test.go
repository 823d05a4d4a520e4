package jobs

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestReceiptInARoom_IsToldToItsAuthorsWhenItIsWritten(t *testing.T) {
	w, l := threeInARoom(t)
	own := w.sessions[3][0]
	online(w, 3, "laptop", "n1")
	more(t, w, l, text("c5", 1, 1), text("c5", 2, 2), text("c5", 3, 3))
	w.pushed = nil
	var early int
	r := newTestRunner(t, quickConfig(), w, func(step string) error {
		if step == "moves" {
			early += len(w.frames(protocol.PushReceipt))
		}
		return nil
	})
	l.append(ack("c5", 3, 2, 0), ack("c5", 3, 3, 2), ack("c5", 3, 99, 3), ack("c5", 9, 1, 1))
	untilDone(t, r, l)
	if row := w.members[memberKey{"c5", 3}]; row.Read != 4 || row.Delivered != 4 {
		t.Fatalf("MySQL has %+v", row)
	}
	var told []im.UserID
	want := protocol.CursorMoved{ConversationID: "c5", UserID: 3, DeliveredSeq: 4, ReadSeq: 3}
	for _, d := range w.frames(protocol.PushReceipt) {
		told = append(told, d.Users...)
		if d.Room != "c5" { // which knows who has left
			t.Errorf("told outside of the room: %+v", d)
		}
		if got := data[protocol.CursorMoved](t, d); got != want {
			t.Errorf("told %+v", got)
		}
	}
	slices.Sort(told)
	// One has two devices, on two nodes.
	if !slices.Equal(told, []im.UserID{1, 1, 2}) || early != 0 {
		t.Errorf("told %v, %d before the write", told, early)
	}
	self := w.frames(protocol.PushReadSelf)
	if len(self) == 0 || self[0].Users[0] != 3 || self[0].Except != own.Session {
		t.Errorf("read_self %+v", self)
	}
	if st := w.states[memberKey{"c5", 3}]; st.Delivered != 4 || st.Read != 4 {
		t.Errorf("projected %+v", st)
	}
	if st := w.states[memberKey{"c5", 1}]; st.PeerRead != 0 || st.PeerDelivered != 0 {
		t.Errorf("ticks of a one-to-one in a channel: %+v", st)
	}
	if _, stranger := w.states[memberKey{"c5", 9}]; stranger {
		t.Error("a stranger was raised")
	}
}

func TestReceiptInARoom_WhenMergedIsToldToNobody(t *testing.T) {
	w := newWorld(1)
	w.openChannel("c5", 1, 2)
	online(w, 1, "phone", "n1")
	online(w, 2, "phone", "n1")
	online(w, 2, "laptop", "n1")
	cfg := quickConfig()
	cfg.MergeAbove = -1
	processWith(t, cfg, w, created("c5", 1), text("c5", 1, 1), ack("c5", 2, 2, 2))
	if len(w.frames(protocol.PushReceipt)) != 0 || len(w.frames(protocol.PushReadSelf)) != 1 || w.calls["authors"] != 0 {
		t.Errorf("pushed %+v, authors read %d times", w.pushed, w.calls["authors"])
	}
	if st := w.states[memberKey{"c5", 2}]; st.Read != 2 || st.Delivered != 2 {
		t.Errorf("projected %+v", st)
	}
}

func TestReceipt_OfAOneToOneReadsNoAuthors(t *testing.T) {
	w := newWorld(1)
	process(t, w, text("d1-2", 1, 1), ack("d1-2", 2, 1, 1))
	if w.calls["authors"]+w.calls["rosters"]+w.calls["rooms"] != 0 {
		t.Errorf("calls %v", w.calls)
	}
}

func TestAuthors_AreTheNewestAndNeverTheReader(t *testing.T) {
	var a authors
	a.add(2, 7) // the first is not known: the table is asked
	if a.known {
		t.Error("known without the first")
	}
	for seq := im.Seq(1); seq <= 3*maxAuthors; seq++ {
		a.add(seq, im.UserID(seq%5)) // 0 is the system
	}
	if got := a.within(nil, 3*maxAuthors-4, 3*maxAuthors, 2); !slices.Equal(got, []im.UserID{1, 3, 4}) {
		t.Errorf("the last four but 2: %v", got)
	}
	if got := a.within([]im.UserID{9}, 0, 3*maxAuthors, 2); !slices.Equal(got, []im.UserID{1, 3, 4, 9}) {
		t.Errorf("all: %v", got)
	}
	if got := a.within(nil, 0, 2*maxAuthors, 2); len(got) != 0 {
		t.Errorf("beyond the newest: %v", got)
	}
	if len(a.users) > 2*maxAuthors {
		t.Errorf("%d are kept", len(a.users))
	}
}

func TestRosters_AreBoundedTogether(t *testing.T) {
	w := newWorld(1)
	for c := range 6 {
		var members []im.UserID
		for u := range 400 {
			members = append(members, im.UserID(u+1))
		}
		w.openChannel(im.ChannelConversation(uint64(c+1)), members...)
	}
	cfg := Config{RosterMembers: 1000}
	r := newTestRunner(t, cfg, w, nil)
	r.deps.Projector, r.deps.Bus = nowhere{}, nowhere{}
	p := &partition{r: r, src: &joined{l: newLogbook(w, 0)}, work: context.Background()}
	p.moves.init()
	s := newScribe(p)
	for n := range 12 {
		var tasks []im.Task
		for c := range 6 {
			conv := im.ChannelConversation(uint64(c + 1))
			if n == 0 {
				tasks = append(tasks, created(conv, 100+c))
			}
			tasks = append(tasks, text(conv, 1, n*10+c))
		}
		l := newLogbook(w, 0)
		l.append(tasks...)
		var items []*item
		for _, rec := range l.records {
			items = append(items, newItem(rec, s.r.work))
		}
		if err := s.handle(t.Context(), items); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, c := range s.channels.Keys() {
			ch, _ := s.channels.Peek(c)
			sum += ch.cost()
		}
		if s.held > 1000 || s.held != sum {
			t.Fatalf("%d members are held, counted as %d", sum, s.held)
		}
	}
	for c := range 6 {
		if n := len(w.rows[im.ChannelConversation(uint64(c+1))]); n != 13 {
			t.Errorf("channel %d has %d rows", c+1, n)
		}
	}
	if len(w.wrong) > 0 {
		t.Error(w.wrong)
	}
}

func TestRoster_ANoticeMakesAnother(t *testing.T) {
	members := func(r *roster) string { return fmt.Sprint(r.version, r.merged, r.members) }
	one := (&roster{}).after(&im.Membership{Join: []im.UserID{9, 4, 9}}, 1)
	two := one.after(&im.Membership{Join: []im.UserID{4, 7}, Leave: []im.UserID{9, 100}}, 5)
	three := two.after(&im.Membership{Join: []im.UserID{1}, History: true}, 6)
	for i, c := range []struct {
		r    *roster
		want string
	}{
		{one, "1 false [{4 1} {9 1}]"}, {two, "5 false [{4 1} {7 5}]"}, {three, "6 false [{1 1} {4 1} {7 5}]"},
		{three.after(&im.Membership{LeaveAll: true}, 8), "8 false []"}, {three.after(&im.Membership{}, 9), "6 false [{1 1} {4 1} {7 5}]"},
		{(&roster{version: 3, merged: true}).after(&im.Membership{Join: []im.UserID{1}}, 4), "4 true []"},
	} {
		if got := members(c.r); got != c.want {
			t.Errorf("%d: %s, want %s", i, got, c.want)
		}
	}
	merged := (&roster{merged: true}).after(&im.Membership{Leave: []im.UserID{7, 8}}, 4).after(&im.Membership{Join: []im.UserID{8}}, 5)
	if merged.sees(7, 6) || !merged.sees(8, 6) || !merged.sees(9, 6) || merged.after(&im.Membership{LeaveAll: true}, 7).sees(9, 8) {
		t.Error("who has left a merged channel")
	}
	for u := range im.UserID(200) {
		merged = merged.after(&im.Membership{Leave: []im.UserID{u + 10}}, im.Seq(u+10))
	}
	if len(merged.out) != maxOut || merged.sees(209, 300) {
		t.Errorf("%d are remembered", len(merged.out))
	}
	if two.sees(7, 4) || !two.sees(7, 5) || two.sees(9, 9) {
		t.Error("who sees what")
	}
}
