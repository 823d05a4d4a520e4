package jobs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// room of three members on two nodes, who are in c5 after its first notice.
func threeInARoom(t *testing.T) (*world, *logbook) {
	w := newWorld(1)
	w.openChannel("c5", 1, 2, 3)
	online(w, 1, "phone", "n1")
	online(w, 1, "laptop", "n2")
	online(w, 2, "phone", "n1")
	online(w, 3, "phone", "n2")
	w.rooms["c5"] = []im.NodeID{"n1", "n2"}
	l := process(t, w, created("c5", 1))
	w.pushed = nil
	return w, l
}

// more processes further tasks of a log.
func more(t *testing.T, w *world, l *logbook, tasks ...im.Task) {
	t.Helper()
	l.append(tasks...)
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	for _, what := range w.wrong {
		t.Error(what)
	}
}

func TestRoom_AMessageIsOneDeliveryANodeAndReachesEveryList(t *testing.T) {
	w, l := threeInARoom(t)
	task := text("c5", 1, 1)
	task.Send.Origin = im.Origin{Node: "n1", Session: "phone-1"}
	l.append(task)
	r := newTestRunner(t, quickConfig(), w, nil)
	untilDone(t, r, l)
	var messages, deliveries dto.Metric
	_, _ = r.m.roomMessages.Write(&messages), r.m.pushes.WithLabelValues("message_room").Write(&deliveries)
	if messages.Counter.GetValue() != 1 || deliveries.Counter.GetValue() != 2 {
		t.Errorf("counted %v deliveries of %v messages", deliveries.Counter, messages.Counter)
	}
	row := w.rows["c5"][1]
	var room, own int
	for _, d := range w.frames(protocol.PushMessage) {
		m := data[im.Message](t, d)
		switch {
		case d.Room == "c5":
			room++
			if d.Version != 1 || d.About != 2 || d.ExceptUser != 1 || d.Conversation != "c5" || d.Seq != 2 || len(d.Users) > 0 || d.Join != nil || m.ClientMsgID != "" || m.ID != row.ID {
				t.Errorf("to the room %+v: %+v", d, m)
			}
		case d.Users[0] == 1 && d.Except == "phone-1" && m.ClientMsgID == "client-000001" && d.Seq == 2:
			own++
		default:
			t.Errorf("pushed %+v", d)
		}
	}
	if room != 2 || own != 1 || len(w.frames(protocol.PushStored)) != 2 {
		t.Errorf("%d to the room, %d to own devices, stored %+v", room, own, w.frames(protocol.PushStored))
	}
	for u := im.UserID(1); u <= 3; u++ {
		st := w.states[memberKey{"c5", u}]
		read := im.Seq(1)
		if u == 1 {
			read = 2
		}
		if st.LastSeq != 2 || st.LastID != row.ID || st.Join != 1 || st.Joined != 1 || st.Read != read || st.Delivered != 1 || st.LastUncounted != 1 || st.Merged {
			t.Errorf("projected to %d: %+v", u, st)
		}
	}
}

func TestRoom_ManyMessagesRaiseEachMemberOnce(t *testing.T) {
	w, l := threeInARoom(t)
	clear(w.raised)
	var tasks []im.Task
	for n := range 15 {
		tasks = append(tasks, text("c5", 2, n))
	}
	l.append(tasks...)
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	for u := im.UserID(1); u <= 3; u++ {
		want := 1
		if u == 2 {
			want = 2 // again with the write of the sender's cursor
		}
		if n := w.raised[memberKey{"c5", u}]; n != want {
			t.Errorf("%d was raised %d times", u, n)
		}
	}
}

func TestNotice_MovesMembersForWhatFollowsInTheSameBatch(t *testing.T) {
	w, l := threeInARoom(t)
	online(w, 4, "phone", "n3")
	more(t, w, l, text("c5", 1, 1), joins("c5", 2, 4, 2), text("c5", 1, 2), leaves("c5", 3, 3), text("c5", 2, 3))
	want := map[im.UserID]im.ConversationState{
		1: {LastSeq: 6, Join: 1, Joined: 1, Read: 4, Delivered: 1}, 2: {LastSeq: 6, Join: 1, Joined: 1, Read: 6, Delivered: 1},
		3: {LastSeq: 5, Join: 1, Joined: 1, Read: 1, Delivered: 1, Leave: 5}, 4: {LastSeq: 6, Join: 3, Joined: 3, Read: 3, Delivered: 3},
	}
	for u, st := range want {
		got := w.states[memberKey{"c5", u}]
		got.LastID, got.LastUncounted = 0, 0
		if got != st {
			t.Errorf("projected to %d: %+v, want %+v", u, got, st)
		}
	}
	var joined, left, versions []string
	for _, d := range w.toRoom("c5", protocol.PushMessage) {
		versions = append(versions, fmt.Sprint(d.About, "@", d.Version))
		switch d.About {
		case 3:
			joined = append(joined, fmt.Sprint(d.Prior, d.Version, d.Join, d.JoinFirst, d.Leave))
		case 5:
			left = append(left, fmt.Sprint(d.Prior, d.Version, d.Join, d.Leave))
		}
	}
	slices.Sort(versions)
	// The joiner's node is told of the join, though it is not in the registry yet.
	if got := fmt.Sprint(slices.Compact(joined), len(joined), slices.Compact(left), len(left)); got != "[1 3 [4] 3 []] 3 [3 5 [] [3]] 2" {
		t.Errorf("told %s", got)
	}
	if got := fmt.Sprint(slices.Compact(versions)); got != "[2@1 3@3 4@3 5@5 6@5]" {
		t.Errorf("versions %s", got)
	}
}

func TestNotice_ThatMovesNobodyLeavesTheVersion(t *testing.T) {
	w, l := threeInARoom(t)
	more(t, w, l, notice("c5", 2, im.NoticeUpdated, im.Membership{}), text("c5", 1, 1))
	for _, d := range w.toRoom("c5", protocol.PushMessage) {
		if d.Version != 1 || d.Prior != 0 {
			t.Errorf("pushed %+v", d)
		}
	}
	if w.channels["c5"].version != 1 || w.states[memberKey{"c5", 3}].LastUncounted != 2 {
		t.Errorf("version %d, projected %+v", w.channels["c5"].version, w.states[memberKey{"c5", 3}])
	}
}

// Who dies between the insert and the projection of a join that merges the channel, and of
// the end of it behind that, leaves members whom no table says to have been in then.
func TestRoom_CrossingRightBeforeTheEndReachesWhoWasIn(t *testing.T) {
	w := newWorld(1)
	w.openChannel("c5", 1, 2, 3)
	cfg := quickConfig()
	cfg.MergeAbove = 3
	l := processWith(t, cfg, w, created("c5", 1), text("c5", 1, 1))
	l.append(joins("c5", 2, 4), closes("c5", 3))
	ctx, cancel := context.WithCancel(t.Context())
	_ = live(ctx, newTestRunner(t, cfg, w, func(step string) error {
		cancel()
		return errCrash
	}), l.join())
	if len(w.rows["c5"]) != 4 || w.states[memberKey{"c5", 1}].LastSeq != 2 {
		t.Fatalf("%d rows, projected %+v: want it dead in between", len(w.rows["c5"]), w.states[memberKey{"c5", 1}])
	}
	untilDone(t, newTestRunner(t, cfg, w, nil), l)
	for u := im.UserID(1); u <= 4; u++ {
		if st := over(w.states[memberKey{"c5", u}], w.ends["c5"]); st.Leave != 4 || st.LastSeq != 4 || !st.Merged {
			t.Errorf("projected to %d: %+v", u, st)
		}
	}
}

func TestNotice_EveryoneJoinsInChunks(t *testing.T) {
	w := newWorld(1)
	var members []im.UserID
	for u := im.UserID(1); u <= 2501; u++ {
		members = append(members, u)
	}
	w.openChannel("c5", members...)
	online(w, 1200, "phone", "n9")
	cfg := quickConfig()
	cfg.MergeAbove = 5000
	processWith(t, cfg, w, created("c5", 1), text("c5", 1, 1))
	var got []im.UserID
	chunks, frames := 0, 0
	for _, d := range w.pushed {
		if d.Room == "" || d.About != 1 {
			continue
		}
		chunks++
		prior := im.Seq(1)
		if chunks == 1 {
			prior = 0
		}
		if d.Prior != prior || d.Version != 1 || d.JoinFirst != 1 || len(d.Join) > joinChunk {
			t.Errorf("chunk %d: prior %d, version %d, %d join from %d", chunks, d.Prior, d.Version, len(d.Join), d.JoinFirst)
		}
		if len(d.Frame) > 0 {
			frames++
		}
		got = append(got, d.Join...)
	}
	if chunks != 6 || frames != 1 || !slices.Equal(got, members) {
		t.Errorf("%d chunks, %d with the frame, %d joined", chunks, frames, len(got))
	}
	if st := w.states[memberKey{"c5", 2501}]; st.LastSeq != 2 || st.Join != 1 || st.Read != 1 || w.channels["c5"].merged {
		t.Errorf("projected %+v", st)
	}
}

func TestNotice_EveryoneLeavesAtTheEnd(t *testing.T) {
	for name, above := range map[string]int{"written": 0, "merged": -1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1)
			w.openChannel("c5", 1, 2)
			w.rooms["c5"] = []im.NodeID{"n1"}
			cfg := quickConfig()
			cfg.MergeAbove = above
			l := processWith(t, cfg, w, created("c5", 1), text("c5", 1, 1), closes("c5", 2))
			w.states = make(map[memberKey]im.ConversationState) // who dies before projecting does so again
			w.ends = make(map[im.ConversationID]im.ChannelEnd)
			l.append(closes("c5", 2))
			untilDone(t, newTestRunner(t, cfg, w, nil), l)
			last := w.toRoom("c5", protocol.PushMessage)
			slices.SortFunc(last, func(a, b protocol.Delivery) int { return cmp.Compare(b.About, a.About) })
			if d := last[0]; !d.LeaveAll || d.Version != 3 || len(d.Leave) > 0 {
				t.Errorf("told %+v", d)
			}
			st := w.states[memberKey{"c5", 2}]
			if above < 0 && (w.ends["c5"].Closed != 3 || w.ends["c5"].LastSeq != 3) || above == 0 && (st.Leave != 3 || st.LastSeq != 3) {
				t.Errorf("end %+v, projected %+v", w.ends["c5"], st)
			}
		})
	}
}

func TestRoom_CrossingTheThresholdMergesForEver(t *testing.T) {
	w := newWorld(1)
	w.openChannel("c5", 1, 2, 3)
	w.rooms["c5"] = []im.NodeID{"n1"}
	cfg := quickConfig()
	cfg.MergeAbove = 3
	mention := text("c5", 1, 3)
	mention.Send.About.Mentions = []im.UserID{2}
	everyone := text("c5", 1, 4)
	everyone.Send.About.MentionsAll = true
	processWith(t, cfg, w, created("c5", 1), text("c5", 1, 1), joins("c5", 2, 4), text("c5", 2, 2), leaves("c5", 3, 4), mention, everyone)
	if !w.channels["c5"].merged {
		t.Fatal("not merged")
	}
	for u := im.UserID(1); u <= 4; u++ {
		if st := w.states[memberKey{"c5", u}]; !st.Merged || u == 3 && (st.LastSeq != 3 || st.Leave != 0) {
			t.Errorf("projected to %d: %+v", u, st)
		}
	}
	if st := w.states[memberKey{"c5", 4}]; st.Join != 3 || st.Leave != 5 || st.LastSeq != 5 {
		t.Errorf("who left: %+v", st)
	}
	if st := w.states[memberKey{"c5", 2}]; st.LastMention != 6 || st.Read != 4 {
		t.Errorf("who is mentioned: %+v", st)
	}
	if e := w.ends["c5"]; e.LastSeq != 7 || e.LastID != w.rows["c5"][6].ID || e.LastMention != 7 || e.LastUncounted != 5 {
		t.Errorf("end %+v", e)
	}
}

func TestRoom_MergedRaisesOnlyItsEnd(t *testing.T) {
	w := newWorld(1)
	w.openChannel("c5", 1, 2, 3)
	cfg := quickConfig()
	cfg.MergeAbove = -1
	l := processWith(t, cfg, w, created("c5", 1))
	clear(w.raised)
	l.append(text("c5", 1, 1), text("c5", 1, 2))
	untilDone(t, newTestRunner(t, cfg, w, nil), l)
	if len(w.raised) != 1 || w.raised[memberKey{"c5", 1}] == 0 || w.ends["c5"].LastSeq != 3 || w.states[memberKey{"c5", 1}].Read != 3 {
		t.Errorf("raised %v, end %+v", w.raised, w.ends["c5"])
	}
	if len(w.states) != 3 || !w.states[memberKey{"c5", 3}].Merged {
		t.Errorf("projected %+v", w.states)
	}
}

func TestRoom_MentionsReachMembersAlone(t *testing.T) {
	w, l := threeInARoom(t)
	named, everyone := text("c5", 1, 1), text("c5", 1, 2)
	named.Send.About.Mentions = []im.UserID{1, 2, 9}
	everyone.Send.About.MentionsAll = true
	more(t, w, l, named)
	if one, two, three := w.states[memberKey{"c5", 1}], w.states[memberKey{"c5", 2}], w.states[memberKey{"c5", 3}]; one.LastMention != 0 || two.LastMention != 2 || three.LastMention != 0 {
		t.Errorf("marks %d, %d, %d", one.LastMention, two.LastMention, three.LastMention)
	}
	if _, stranger := w.states[memberKey{"c5", 9}]; stranger {
		t.Error("a stranger has a state")
	}
	more(t, w, l, everyone)
	if one, three := w.states[memberKey{"c5", 1}], w.states[memberKey{"c5", 3}]; one.Mentioned() != 0 || three.Mentioned() != 3 { // one has read what they say
		t.Errorf("marks %+v, %+v", one, three)
	}
}

func TestRoom_WhoHasLeftIsRaisedAndToldNothingMore(t *testing.T) {
	w, l := threeInARoom(t)
	more(t, w, l, leaves("c5", 2, 1))
	w.pushed = nil
	late := text("c5", 1, 1)                // accepted before the removal
	more(t, w, l, late, ack("c5", 1, 3, 3)) // a receipt holds up to the leave, what they say they have read
	if st := w.states[memberKey{"c5", 1}]; st.LastSeq != 2 || st.Leave != 2 || st.Read != 3 || st.Delivered != 2 {
		t.Errorf("projected %+v", st)
	}
	for _, d := range w.frames(protocol.PushMessage) {
		if d.Room == "" {
			t.Errorf("pushed %+v", d)
		}
	}
	if len(w.rows["c5"]) != 3 || len(w.frames(protocol.PushStored)) == 0 {
		t.Errorf("%d rows, pushed %+v", len(w.rows["c5"]), w.pushed)
	}
}

func TestRoom_ARepeatIsToldToWhoIsInNow(t *testing.T) {
	w, l := threeInARoom(t)
	task, join := text("c5", 1, 1), joins("c5", 2, 4)
	task.Send.AcceptedAt = 1
	more(t, w, l, task, join, leaves("c5", 3, 3))
	w.pushed, w.states = nil, make(map[memberKey]im.ConversationState)
	more(t, w, l, task)
	for _, d := range w.toRoom("c5", protocol.PushMessage) {
		if d.Version != 4 || d.About != 2 {
			t.Errorf("pushed %+v", d)
		}
	}
	if len(w.toRoom("c5", protocol.PushMessage)) != 2 || w.states[memberKey{"c5", 2}].LastSeq != 2 {
		t.Errorf("pushed %+v, projected %+v", w.pushed, w.states)
	}
	for _, u := range []im.UserID{3, 4} {
		if st, raised := w.states[memberKey{"c5", u}]; raised && st.LastSeq > 0 {
			t.Errorf("%d was raised to %+v", u, st)
		}
	}
	w.pushed, w.states = nil, make(map[memberKey]im.ConversationState)
	more(t, w, l, join, leaves("c5", 3, 3))
	if in, out := w.states[memberKey{"c5", 4}], w.states[memberKey{"c5", 3}]; in.Join != 3 || in.Joined != 3 || in.Read != 3 || out.Leave != 4 || out.LastSeq != 4 {
		t.Errorf("a repeated notice raised %+v and %+v", in, out)
	}
}

func TestRoom_AChannelThatIsNotThereIsParked(t *testing.T) {
	w, l := threeInARoom(t)
	many := make([]im.UserID, im.MaxMembersPerCall+2)
	for i := range many {
		many[i] = im.UserID(i + 1)
	}
	claimed := text("c5", 2, 7)
	claimed.Send.Membership = &im.Membership{Op: 9, Group: 5, Join: []im.UserID{9}}
	more(t, w, l, text("c6", 1, 1), text("c5", 1, 2), ack("c6", 1, 1, 1), recall("c6", 1, 3, 1), joins("c5", 2, many...), claimed, text("d1-2", 1, 4))
	if len(w.dead) != 5 || len(w.rows["c5"]) != 2 || len(w.rows["c6"]) != 0 || len(w.rows["d1-2"]) != 1 {
		t.Errorf("%d parked: %+v", len(w.dead), w.dead)
	}
	if rejected := w.frames(protocol.PushRejected); len(rejected) == 0 {
		t.Error("nobody was told")
	}
}

func TestRoom_AnAdminTakesBackWhatOthersSaid(t *testing.T) {
	w, l := threeInARoom(t)
	byAdmin, byMember, ofNotice := recall("c5", 2, 1, 2), recall("c5", 3, 2, 3), recall("c5", 2, 3, 1)
	byAdmin.Change.Manages, ofNotice.Change.Manages = true, true
	more(t, w, l, text("c5", 1, 1), text("c5", 1, 2), byAdmin, byMember, ofNotice)
	want := []im.ChangeOutcome{im.ChangeDone, im.ChangeNoMessage, im.ChangeNoMessage}
	for i, c := range w.changes["c5"] {
		if c.Outcome != want[i] {
			t.Errorf("change %d: outcome %d, want %d", i+1, c.Outcome, want[i])
		}
	}
	for u := im.UserID(1); u <= 3; u++ {
		if st := w.states[memberKey{"c5", u}]; st.LastChange != 3 || st.LastUncounted != 2 {
			t.Errorf("projected to %d: %+v", u, st)
		}
	}
	room := w.toRoom("c5", protocol.PushChanged)
	if len(room) != 6 {
		t.Errorf("%d deliveries, want 3 changes to 2 nodes", len(room))
	}
	for _, d := range room {
		c := data[protocol.Changed](t, d)
		about := im.Seq(0)
		if c.Change == 1 {
			about = 2
		}
		if c.ClientChangeID != "" || d.ExceptUser != c.UserID || d.About != about || d.Version != 1 || d.Seq != 0 || c.Message != nil && c.Message.ClientMsgID != "" {
			t.Errorf("to the room %+v: %+v", d, c)
		}
	}
	own := 0
	for _, d := range w.frames(protocol.PushChanged) {
		if c := data[protocol.Changed](t, d); d.Room == "" && d.Users[0] == c.UserID && c.ClientChangeID != "" {
			own++
		}
	}
	if own != 3 || len(w.frames(protocol.PushRejected)) != 2 {
		t.Errorf("%d to the actors, rejected %+v", own, w.frames(protocol.PushRejected))
	}
}
