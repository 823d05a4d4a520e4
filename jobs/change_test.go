package jobs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestChange_IsToldToBothSides(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	online(w, 2, "phone", "n2")
	task := edit("d1-2", 1, 1, 1, "better", nil)
	task.Change.Origin = im.Origin{Node: "api", Request: "r1"}
	process(t, w, text("d1-2", 1, 1), task)
	pushes := w.frames(protocol.PushChanged)
	if len(pushes) != 3 {
		t.Fatalf("%d pushes, want two people and a waiting request", len(pushes))
	}
	for _, d := range pushes {
		c := data[protocol.Changed](t, d)
		m := c.Message
		if c.Change != 1 || c.Kind != im.ChangeEdit || c.UserID != 1 || m == nil || string(m.Content) != `{"text":"better"}` || m.EditedAt == 0 || m.Change != 1 {
			t.Errorf("pushed %+v, %+v", c, m)
		}
		toActor := d.Request == "r1" || d.Users[0] == 1
		if toActor != (c.ClientChangeID == "change-000001") || toActor != (m.ClientMsgID != "") {
			t.Errorf("to %v: %+v", d.Users, c)
		}
		if d.Seq != 0 {
			t.Errorf("a change is no message: its push has seq %d", d.Seq)
		}
	}
	for _, u := range []im.UserID{1, 2} {
		if st := w.states[memberKey{"d1-2", u}]; st.LastChange != 1 || st.LastSeq != 1 {
			t.Errorf("projected to %d: %+v", u, st)
		}
	}
}

func TestChange_RejectedHasItsNumberAndIsToldWhy(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	online(w, 2, "phone", "n2")
	old := uint64(0)
	process(t, w, text("d1-2", 1, 1),
		edit("d1-2", 1, 1, 1, "one", &old), edit("d1-2", 1, 2, 1, "two", &old), // the second saw nothing of the first
		recall("d1-2", 1, 3, 1), edit("d1-2", 1, 4, 1, "three", nil), react("d1-2", 2, 5, 1, "👍", true),
		recall("d1-2", 2, 6, 1), react("d1-2", 2, 7, 9, "👍", true))
	want := []im.ChangeOutcome{im.ChangeDone, im.ChangeMoved, im.ChangeDone, im.ChangeRecalled, im.ChangeRecalled, im.ChangeNoMessage, im.ChangeNoMessage}
	for i, c := range w.changes["d1-2"] {
		if c.Change != uint64(i+1) || c.Outcome != want[i] {
			t.Errorf("change %d: %+v, want outcome %d", i+1, c, want[i])
		}
	}
	var codes []string
	for _, d := range w.frames(protocol.PushRejected) {
		r := data[protocol.Rejected](t, d)
		codes = append(codes, fmt.Sprint(d.Users[0], " ", r.ClientChangeID, " ", r.Code))
	}
	slices.Sort(codes)
	if told := strings.Join(codes, ", "); told != "1 change-000002 edit_conflict, 1 change-000004 recalled, "+
		"2 change-000005 recalled, 2 change-000006 not_found, 2 change-000007 not_found" {
		t.Errorf("rejected: %s", told)
	}
	last := uint64(0)
	for _, d := range w.frames(protocol.PushChanged) {
		c := data[protocol.Changed](t, d)
		last = max(last, c.Change)
		if done := want[c.Change-1] == im.ChangeDone; done != (c.Message != nil) {
			t.Errorf("change %d: message %+v", c.Change, c.Message)
		}
	}
	if last != 7 {
		t.Errorf("pushed up to %d", last)
	}
	row := w.rows["d1-2"][0]
	if row.RecalledAt == 0 || string(row.Content) != "{}" || row.Hash == (im.ContentHash{}) {
		t.Errorf("the tombstone %+v", row)
	}
}

func TestChange_RepeatedIsOneAndAnotherUnderItsIDIsRejected(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	first := edit("d1-2", 1, 1, 1, "better", nil)
	process(t, w, text("d1-2", 1, 1), first, first)
	process(t, w, first, edit("d1-2", 1, 1, 1, "other", nil))
	if n := len(w.changes["d1-2"]); n != 1 || string(w.rows["d1-2"][0].Content) != `{"text":"better"}` {
		t.Fatalf("%d changes, %s", n, w.rows["d1-2"][0].Content)
	}
	rejected := w.frames(protocol.PushRejected)
	if len(rejected) != 1 || data[protocol.Rejected](t, rejected[0]).Code != "client_change_id_conflict" {
		t.Errorf("rejected %+v", rejected)
	}
}

func TestChange_ReactionsHaveABound(t *testing.T) {
	w := newWorld(1)
	tasks := []im.Task{text("d1-2", 1, 1)}
	for i := range im.MaxReactions + 2 {
		tasks = append(tasks, react("d1-2", 1, i, 1, fmt.Sprint("r", i), true))
	}
	tasks = append(tasks, react("d1-2", 2, 100, 1, "r0", true), react("d1-2", 1, 101, 1, "r1", false), react("d1-2", 2, 102, 1, "late", true))
	process(t, w, tasks...)
	row := w.rows["d1-2"][0]
	if len(row.Reactions) != im.MaxReactions || row.Reactions[0] != (im.Reaction{Reaction: "r0", Count: 2}) || row.Reactions[im.MaxReactions-1].Reaction != "late" {
		t.Errorf("reactions %+v", row.Reactions)
	}
	changes := w.changes["d1-2"]
	if changes[im.MaxReactions].Outcome != im.ChangeTooManyKinds || changes[len(changes)-1].Outcome != im.ChangeDone {
		t.Errorf("outcomes %+v", changes)
	}
}

func TestChange_EditsHaveABound(t *testing.T) {
	w := newWorld(1)
	tasks := []im.Task{text("d1-2", 1, 1)}
	for i := range im.MaxEdits + 1 {
		tasks = append(tasks, edit("d1-2", 1, i, 1, fmt.Sprint(i), nil))
	}
	process(t, w, tasks...)
	if row := w.rows["d1-2"][0]; row.Edits != im.MaxEdits || string(row.Content) != fmt.Sprintf(`{"text":"%d"}`, im.MaxEdits-1) {
		t.Errorf("%d edits, %s", row.Edits, row.Content)
	}
}

func TestChange_PoisonIsParkedAloneAndItsActorTold(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	foreign := recall("d1-2", 3, 1, 1)
	unknown := asked("d1-2", im.ChangeTask{Actor: 1, ClientChangeID: changeID(2), Kind: "explode", Seq: 1})
	process(t, w, text("d1-2", 1, 1), foreign, unknown, im.Task{Conversation: "d1-2", Hide: &im.HideTask{User: 3, Seqs: []im.Seq{1}}}, edit("d1-2", 1, 3, 1, "on it goes", nil))
	if len(w.dead) != 3 || len(w.changes["d1-2"]) != 1 || string(w.rows["d1-2"][0].Content) != `{"text":"on it goes"}` {
		t.Errorf("%d parked, changes %+v, %s", len(w.dead), w.changes["d1-2"], w.rows["d1-2"][0].Content)
	}
}

func TestHide_IsToldToOnesOwnDevicesAlone(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	online(w, 2, "phone", "n2")
	online(w, 2, "laptop", "n1")
	hide := im.Task{Conversation: "d1-2", Hide: &im.HideTask{User: 2, Seqs: []im.Seq{1}}}
	process(t, w, text("d1-2", 1, 1), text("d1-2", 1, 2), hide, im.Task{Conversation: "d1-2", Hide: &im.HideTask{User: 2, Seqs: []im.Seq{2, 1, 99}}})
	pushes := w.frames(protocol.PushDeleted)
	for _, d := range pushes {
		if d.Users[0] != 2 {
			t.Errorf("told to %v", d.Users)
		}
	}
	st := w.states[memberKey{"d1-2", 2}]
	if len(pushes) == 0 || len(w.deleted[memberKey{"d1-2", 2}]) != 2 || st.Deletions != 2 || st.LastUncounted != 2 || st.LastChange != 0 {
		t.Errorf("%d pushes, deleted %v, projected %+v", len(pushes), w.deleted, st)
	}
	if st := w.states[memberKey{"d1-2", 1}]; st.Deletions != 0 || st.LastUncounted != 0 {
		t.Errorf("the other side: %+v", st)
	}
}

func TestMessage_MentionMarksWhomItNames(t *testing.T) {
	w := newWorld(1)
	online(w, 2, "phone", "n1")
	task := text("d1-2", 1, 1)
	task.Send.About = im.About{Mentions: []im.UserID{1, 2}, ReplyTo: &im.Quote{Seq: 1, Type: im.TypeText, Text: "x"}}
	process(t, w, task)
	if one, two := w.states[memberKey{"d1-2", 1}], w.states[memberKey{"d1-2", 2}]; one.LastMention != 0 || two.LastMention != 1 {
		t.Errorf("marks %d and %d", one.LastMention, two.LastMention)
	}
	m := data[im.Message](t, w.frames(protocol.PushMessage)[0])
	if m.ReplyTo == nil || len(m.Mentions) != 2 {
		b, _ := json.Marshal(m)
		t.Errorf("pushed %s", b)
	}
	if len(w.rows["d1-2"][0].Mentions) != 2 {
		t.Error("not stored")
	}
}
