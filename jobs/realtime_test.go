package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// process runs tasks through a runner of their own, until they are committed.
func process(t *testing.T, w *world, tasks ...im.Task) *logbook {
	t.Helper()
	l := newLogbook(w, 0)
	l.append(tasks...)
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range w.wrong {
		t.Error(what)
	}
	return l
}

func online(w *world, u im.UserID, device, node string) im.SessionRef {
	ref := im.SessionRef{User: u, Device: im.DeviceID(device), Session: im.SessionID(device + "-" + u.String()), Node: im.NodeID(node)}
	w.sessions[u] = append(w.sessions[u], ref)
	return ref
}

// data is what a push says.
func data[T any](t *testing.T, d protocol.Delivery) T {
	t.Helper()
	var f struct{ Data T }
	if err := json.Unmarshal(d.Frame, &f); err != nil {
		t.Fatal(err)
	}
	return f.Data
}

func TestMessage_ReachesBothSides(t *testing.T) {
	w := newWorld(1)
	phone := online(w, 1, "phone", "n1")
	online(w, 1, "laptop", "n2")
	online(w, 2, "phone", "n2")
	task := text("d1-2", 1, 1)
	task.Send.Origin = im.Origin{Node: "n1", Session: phone.Session}
	process(t, w, task)

	stored := w.frames(protocol.PushStored)
	if len(stored) != 2 || stored[0].Users[0] != 1 || stored[1].Users[0] != 1 {
		t.Fatalf("stored went to %+v", stored)
	}
	row := w.rows["d1-2"][0]
	if got := data[protocol.Stored](t, stored[0]); got != (protocol.Stored{ConversationID: "d1-2", ClientMsgID: "client-000001", Seq: 1, MessageID: row.ID, StoredAt: row.StoredAt}) {
		t.Fatalf("stored says %+v", got)
	}
	messages := w.frames(protocol.PushMessage)
	if len(messages) != 2 {
		t.Fatalf("%d message pushes, want one to the laptop and one to the peer", len(messages))
	}
	for _, d := range messages {
		m := data[im.Message](t, d)
		if m.Seq != 1 || m.ID != row.ID || m.Sender.ID != 1 || string(m.Content) != string(task.Send.Content) || d.Conversation != "d1-2" || d.Seq != 1 {
			t.Errorf("pushed %+v as %+v", m, d)
		}
		switch d.Users[0] {
		case 1:
			if d.Except != phone.Session || m.ClientMsgID != "client-000001" {
				t.Errorf("own device: %+v, %+v", d, m)
			}
		case 2:
			if m.ClientMsgID != "" {
				t.Errorf("the peer was shown %q", m.ClientMsgID)
			}
		}
	}
	one, two := w.states[memberKey{"d1-2", 1}], w.states[memberKey{"d1-2", 2}]
	if one.LastSeq != 1 || one.Read != 1 || one.Delivered != 0 || two.LastSeq != 1 || two.Read != 0 || two.PeerRead != 1 || two.LastID != row.ID {
		t.Errorf("projected %+v and %+v", one, two)
	}
	if len(w.offline[memberKey{"d1-2", 1}]) != 0 || w.offline[memberKey{"d1-2", 2}][1] != row.ID {
		t.Errorf("offline entries %v", w.offline)
	}
	if !slices.Equal(w.known["d1-2"], []im.UserID{1, 2}) {
		t.Errorf("members %v", w.known["d1-2"])
	}
}

func TestMessage_ToOneself(t *testing.T) {
	w := newWorld(1)
	online(w, 7, "phone", "n1")
	process(t, w, text("d7-7", 7, 1))
	if !slices.Equal(w.known["d7-7"], []im.UserID{7}) || len(w.offline[memberKey{"d7-7", 7}]) != 0 {
		t.Fatalf("members %v, offline %v", w.known["d7-7"], w.offline)
	}
	if st := w.states[memberKey{"d7-7", 7}]; st.LastSeq != 1 || st.Read != 1 {
		t.Fatalf("projected %+v", st)
	}
	if got := len(w.frames(protocol.PushMessage)); got != 1 { // it came by HTTP, so the phone has not seen it
		t.Fatalf("%d message pushes", got)
	}
}

func TestMessage_FromTheSystemIsUncounted(t *testing.T) {
	w := newWorld(1)
	task := text("d0-7", im.SystemUser, 1)
	task.Send.Type, task.Send.Uncounted, task.Send.AdvanceRead = im.TypeSystem, im.UncountedForAll, false
	process(t, w, task)
	if _, ok := w.states[memberKey{"d0-7", im.SystemUser}]; ok {
		t.Error("the system has a list")
	}
	if st := w.states[memberKey{"d0-7", 7}]; st.LastUncounted != 1 || st.LastSeq != 1 {
		t.Errorf("projected %+v", st)
	}
	if len(w.offline[memberKey{"d0-7", 7}]) != 1 || !slices.Equal(w.known["d0-7"], []im.UserID{7}) {
		t.Errorf("offline %v, members %v", w.offline, w.known)
	}
}

func TestMessage_AWaitingRequestIsTold(t *testing.T) {
	w := newWorld(1)
	task := text("d1-2", 1, 1)
	task.Send.Origin = im.Origin{Node: "api", Request: "r1"}
	process(t, w, task)
	if len(w.pushed) != 1 || w.pushed[0].Request != "r1" || data[protocol.Stored](t, w.pushed[0]).Seq != 1 {
		t.Fatalf("pushed %+v", w.pushed)
	}
}

func TestRepeat_IsToldAgainAndStoredOnce(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	online(w, 2, "phone", "n1")
	task := text("d1-2", 1, 1)
	task.Send.AcceptedAt = 1 // before it was stored: perhaps nobody was told
	l := process(t, w, task, text("d1-2", 2, 2))
	w.pushed, w.states, w.offline = nil, make(map[memberKey]im.ConversationState), make(map[memberKey]map[im.Seq]im.MessageID)
	l.append(task)
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	if len(w.rows["d1-2"]) != 2 {
		t.Fatalf("%d rows", len(w.rows["d1-2"]))
	}
	if len(w.frames(protocol.PushStored)) != 1 || len(w.frames(protocol.PushMessage)) != 2 {
		t.Fatalf("told again: %+v", w.pushed)
	}
	if st := w.states[memberKey{"d1-2", 2}]; st.LastSeq != 1 || w.offline[memberKey{"d1-2", 2}][1] == 0 {
		t.Fatalf("projected again: %+v, %v", st, w.offline)
	}
}

func TestRepeat_OfWhatWasStoredLongAgoIsToldToItsSenderOnly(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	online(w, 2, "phone", "n1")
	l := process(t, w, text("d1-2", 1, 1))
	w.pushed = nil
	again := text("d1-2", 1, 1)
	again.Send.AcceptedAt = time.Now().Add(time.Minute).UnixMilli()
	l.append(again)
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	if len(w.frames(protocol.PushStored)) != 1 || len(w.frames(protocol.PushMessage)) != 0 {
		t.Fatalf("pushed %+v", w.pushed)
	}
}

// A connector drops what is late, but not inside a batch.
func TestRepeat_IsNotPushedBehindWhatFollowsItInTheBatch(t *testing.T) {
	w := newWorld(1)
	online(w, 2, "phone", "n1")
	l := process(t, w, text("d1-2", 1, 1))
	w.pushed = nil
	again := text("d1-2", 1, 1)
	again.Send.AcceptedAt = 1 // long before it was stored
	l.append(text("d1-2", 1, 2), again)
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	var seqs []im.Seq
	for _, d := range w.pushed {
		if d.Seq != 0 {
			seqs = append(seqs, d.Seq)
		}
	}
	if !slices.Equal(seqs, []im.Seq{1, 2}) {
		t.Fatalf("pushed in the order %v", seqs)
	}
}

func TestRepeat_WithOtherContentIsRejected(t *testing.T) {
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprintf("in one batch %v", together), func(t *testing.T) {
			w := newWorld(1)
			online(w, 1, "phone", "n1")
			other := text("d1-2", 1, 1)
			other.Send.Hash[0]++
			other.Send.Origin = im.Origin{Node: "api", Request: "r1"}
			if together {
				process(t, w, text("d1-2", 1, 1), other)
			} else {
				l := process(t, w, text("d1-2", 1, 1))
				l.append(other)
				untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
			}
			rejected := w.frames(protocol.PushRejected)
			if len(rejected) != 2 || len(w.rows["d1-2"]) != 1 {
				t.Fatalf("%d rows, rejected %+v", len(w.rows["d1-2"]), rejected)
			}
			if got := data[protocol.Rejected](t, rejected[0]); got.Code != "client_msg_id_conflict" || got.ClientMsgID != "client-000001" {
				t.Fatalf("says %+v", got)
			}
		})
	}
}

func TestPoison_IsParkedAloneAndItsSenderTold(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	w.poison = func(m im.Message) error {
		if m.ClientMsgID == "client-000005" {
			return fmt.Errorf("incorrect string value: %w", im.ErrUnstorable)
		}
		return nil
	}
	var tasks []im.Task
	for n := range 10 {
		tasks = append(tasks, text("d1-2", 1, n))
	}
	l := process(t, w, tasks...)
	if len(w.rows["d1-2"]) != 9 || len(w.dead) != 1 {
		t.Fatalf("%d rows, %d dead", len(w.rows["d1-2"]), len(w.dead))
	}
	d := w.dead[[2]int64{0, 5}]
	if d.Topic != "im.realtime" || d.Key.ClientMsgID != "client-000005" || !strings.Contains(d.Reason, "incorrect string value") || string(d.Payload) != string(l.records[5].Value) {
		t.Fatalf("parked %+v", d)
	}
	rejected := w.frames(protocol.PushRejected)
	if len(rejected) != 1 || data[protocol.Rejected](t, rejected[0]).Code != "unstorable" {
		t.Fatalf("rejected %+v", rejected)
	}

	// What was parked stays parked, even if the table would take it now.
	w.poison, w.pushed = nil, nil
	l.append(tasks[5])
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	if rejected := w.frames(protocol.PushRejected); len(rejected) != 1 || len(w.rows["d1-2"]) != 9 || len(w.frames(protocol.PushStored)) != 0 {
		t.Fatalf("%d rows, pushed %+v", len(w.rows["d1-2"]), w.pushed)
	}
}

func TestPoison_WhatIsNoTaskIsParked(t *testing.T) {
	w := newWorld(1)
	l := newLogbook(w, 0)
	stranger := text("d1-2", 9, 1)
	garbled := text("d1-2", 1, 2)
	garbled.Send.Content = []byte(`{"text":`)
	noText := text("d1-2", 1, 5)
	noText.Send.Content = []byte("{\"text\":\"\xff\"}")
	l.raw([]byte("garbage"))
	l.append(text("d1-2", 1, 0), stranger, garbled, noText, text("c5", 1, 3), text("d1-2", 1, 4))
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)
	if len(w.rows["d1-2"]) != 2 || len(w.dead) != 5 {
		t.Fatalf("%d rows, dead %+v", len(w.rows["d1-2"]), w.dead)
	}
}

func TestPanic_StopsOneRecordNotTheProcess(t *testing.T) {
	w := newWorld(1)
	w.poison = func(m im.Message) error {
		if m.ClientMsgID == "client-000001" {
			panic("a bug")
		}
		return nil
	}
	process(t, w, text("d1-2", 1, 0), text("d1-2", 1, 1), text("d1-2", 1, 2))
	if len(w.rows["d1-2"]) != 2 || len(w.dead) != 1 {
		t.Fatalf("%d rows, %d dead", len(w.rows["d1-2"]), len(w.dead))
	}
}

// brokenSessions is a bug that comes after the insert.
type brokenSessions struct{ *world }

func (brokenSessions) Sessions(context.Context, []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	panic("a bug")
}

func TestPanic_AfterTheInsertRejectsNothing(t *testing.T) {
	w := newWorld(1)
	r := newTestRunner(t, quickConfig(), w, nil)
	r.deps.Sessions = brokenSessions{w}
	l := newLogbook(w, 0)
	l.append(text("d1-2", 1, 0), text("d1-2", 1, 1), ack("d1-2", 2, 2, 0), text("d1-2", 1, 2))
	untilDone(t, r, l)
	if len(w.rows["d1-2"]) != 3 || len(w.deadKeys) != 0 || len(w.frames(protocol.PushRejected)) != 0 || w.doubts == 0 {
		t.Fatalf("%d rows, dead %+v, %d doubts, pushed %+v", len(w.rows["d1-2"]), w.dead, w.doubts, w.pushed)
	}
}

func TestReceipt_IsToldToTheOtherSideAndOwnDevices(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	own := online(w, 2, "phone", "n1")
	online(w, 2, "laptop", "n2")
	l := process(t, w, text("d1-2", 1, 1), text("d1-2", 1, 2))
	w.pushed = nil
	l.append(ack("d1-2", 2, 0, 99), ack("d1-2", 9, 1, 1))
	untilDone(t, newTestRunner(t, quickConfig(), w, nil), l)

	row := w.cursors[memberKey{"d1-2", 2}]
	if row.Read != 2 || row.Delivered != 2 {
		t.Fatalf("MySQL has %+v", row)
	}
	if _, foreign := w.cursors[memberKey{"d1-2", 9}]; foreign {
		t.Fatal("a stranger has a cursor")
	}
	want := protocol.CursorMoved{ConversationID: "d1-2", UserID: 2, DeliveredSeq: 2, ReadSeq: 2}
	receipt, self := w.frames(protocol.PushReceipt), w.frames(protocol.PushReadSelf)
	if len(receipt) != 1 || receipt[0].Users[0] != 1 || data[protocol.CursorMoved](t, receipt[0]) != want {
		t.Fatalf("receipt %+v", receipt)
	}
	if len(self) != 1 || self[0].Users[0] != 2 || self[0].Except != own.Session || data[protocol.CursorMoved](t, self[0]) != want {
		t.Fatalf("read_self %+v", self)
	}
	if st := w.states[memberKey{"d1-2", 1}]; st.PeerRead != 2 || st.PeerDelivered != 2 {
		t.Fatalf("the sender's ticks: %+v", st)
	}
	if n := len(w.offline[memberKey{"d1-2", 2}]); n != 0 {
		t.Fatalf("%d offline entries after the ack", n)
	}
}

func TestReceipt_ThatMovesNothingIsToldToNobody(t *testing.T) {
	w := newWorld(1)
	online(w, 1, "phone", "n1")
	l := newLogbook(w, 0)
	r := newTestRunner(t, quickConfig(), w, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	assigned := l.join()
	go func() { ended <- live(ctx, r, assigned) }()
	for _, tasks := range [][]im.Task{{text("d1-2", 1, 1), text("d1-2", 1, 2)}, {ack("d1-2", 2, 2, 2)}, {ack("d1-2", 2, 1, 1)}, {ack("d1-2", 2, 2, 0)}} {
		l.append(tasks...)
		if err := l.await(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-ended
	if n := len(w.frames(protocol.PushReceipt)); n != 1 {
		t.Fatalf("%d receipts pushed", n)
	}
}

func TestCursors_AreProjectedAgainAfterTheirWrite(t *testing.T) {
	w := newWorld(1)
	l := newLogbook(w, 0)
	l.append(text("d1-2", 1, 1), ack("d1-2", 2, 1, 1))
	untilDone(t, newTestRunner(t, quickConfig(), w, func(step string) error {
		if step == "moves" { // in MySQL now; Redis is emptied, and was rebuilt before the write
			w.mu.Lock()
			w.states = make(map[memberKey]im.ConversationState)
			w.mu.Unlock()
		}
		return nil
	}), l)
	if one, two := w.states[memberKey{"d1-2", 1}], w.states[memberKey{"d1-2", 2}]; one.Read != 1 || one.PeerRead != 1 || two.Read != 1 || two.Delivered != 1 {
		t.Fatalf("projected %+v and %+v", one, two)
	}
}

func TestRedisAway_StoringGoesOnUnderDoubt(t *testing.T) {
	w := newWorld(1)
	online(w, 2, "phone", "n1")
	broken := &brokenCache{world: w}
	r := newTestRunner(t, quickConfig(), w, nil)
	r.deps.Projector, r.deps.Sessions, r.deps.Bus = broken, broken, broken
	r.cache.open = time.Hour
	l := newLogbook(w, 0)
	for n := range 100 {
		l.append(text("d1-2", 1, n))
	}
	untilDone(t, r, l)
	if len(w.rows["d1-2"]) != 100 || w.doubts == 0 || len(w.pushed) != 0 {
		t.Fatalf("%d rows, %d doubts, %d pushes", len(w.rows["d1-2"]), w.doubts, len(w.pushed))
	}
	if broken.calls.Load() > 2 {
		t.Fatalf("Redis was tried %d times while it was to be left alone", broken.calls.Load())
	}
}

func TestPushesLost_CauseNoDoubt(t *testing.T) {
	w := newWorld(1)
	online(w, 2, "phone", "n1")
	broken := &brokenCache{world: w}
	r := newTestRunner(t, quickConfig(), w, nil)
	r.deps.Sessions, r.deps.Bus = broken, broken
	r.cache.open, r.told.open = time.Hour, time.Hour
	l := newLogbook(w, 0)
	for n := range 100 {
		l.append(text("d1-2", 1, n))
	}
	untilDone(t, r, l)
	if len(w.rows["d1-2"]) != 100 || w.doubts != 0 || w.states[memberKey{"d1-2", 2}].LastSeq != 100 {
		t.Fatalf("%d rows, %d doubts, projected %+v", len(w.rows["d1-2"]), w.doubts, w.states)
	}
}

func TestStoreAway_BlocksInPlaceAndHeals(t *testing.T) {
	w := newWorld(1)
	away := make(chan struct{})
	w.poison = func(m im.Message) error {
		select {
		case <-away:
			return nil
		default:
			return fmt.Errorf("bad connection: %w", im.ErrStore)
		}
	}
	l := newLogbook(w, 0)
	l.append(text("d1-2", 1, 1), text("d3-4", 3, 2))
	r := newTestRunner(t, quickConfig(), w, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	assigned := l.join()
	go func() { ended <- live(ctx, r, assigned) }()
	w.eventually(t, "several attempts", func() bool { return w.calls["insert"] > 5 })
	if l.committed != 0 || len(w.dead) != 0 {
		t.Fatalf("committed %d, %d parked", l.committed, len(w.dead))
	}
	close(away)
	if err := l.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if len(w.rows["d1-2"]) != 1 || len(w.rows["d3-4"]) != 1 {
		t.Fatalf("rows %v", w.rows)
	}
}

// Somebody holds rows of one conversation: what else came with it in a batch is stored
// and pushed meanwhile, and nothing is parked for it (RELIABILITY.md, R13).
func TestLock_HoldsUpItsConversationAlone(t *testing.T) {
	w := newWorld(1)
	online(w, 2, "phone", "n1")
	online(w, 4, "phone", "n1")
	free := make(chan struct{})
	w.poison = func(m im.Message) error {
		select {
		case <-free:
		default:
			if m.Conversation == "d3-4" {
				return fmt.Errorf("%w: %w: lock wait timeout", im.ErrStore, im.ErrLocked)
			}
		}
		return nil
	}
	l := newLogbook(w, 0)
	for n := range 5 {
		l.append(text("d3-4", 3, 2*n), text("d1-2", 1, 2*n+1))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	assigned := l.join()
	r := newTestRunner(t, quickConfig(), w, nil)
	go func() { ended <- live(ctx, r, assigned) }()
	w.eventually(t, "the others are stored and told", func() bool {
		return len(w.rows["d1-2"]) == 5 && len(w.pushed) == 5
	})
	if n := len(w.rows["d3-4"]); n != 0 || l.committed != 0 || len(w.dead) != 0 {
		t.Errorf("%d rows, committed %d, %d parked", n, l.committed, len(w.dead))
	}
	close(free)
	if err := l.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	for i, m := range w.rows["d3-4"] {
		if m.ClientMsgID != im.ClientMsgID(fmt.Sprintf("client-%06d", 2*i)) {
			t.Errorf("seq %d is %s", i+1, m.ClientMsgID)
		}
	}
	if len(w.rows["d3-4"]) != 5 || len(w.rows["d1-2"]) != 5 {
		t.Errorf("rows %v", w.rows)
	}
}

func TestStop_FinishesWhatWasTaken(t *testing.T) {
	w := newWorld(1)
	l := newLogbook(w, 0)
	for n := range 50 {
		l.append(text("d1-2", 1, n))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := newTestRunner(t, quickConfig(), w, func(step string) error {
		if step == "insert" {
			cancel() // the stop comes in the middle of a batch
		}
		return nil
	})
	if err := live(ctx, r, l.join()); err != nil {
		t.Fatal(err)
	}
	if len(w.wrong) > 0 {
		t.Fatal(w.wrong)
	}
	if n := int64(len(w.rows["d1-2"])); n == 0 || l.committed != n {
		t.Fatalf("%d stored, %d committed", n, l.committed)
	}
}

func TestStall_LeavesTheGroupAndReturnsWhenTheStoreAnswers(t *testing.T) {
	w := newWorld(1)
	back := make(chan struct{})
	stuck := func() bool {
		select {
		case <-back:
			return false
		default:
			return true
		}
	}
	w.poison = func(m im.Message) error {
		if stuck() {
			return im.ErrStore
		}
		return nil
	}
	cfg := quickConfig()
	cfg.StallTimeout = 20 * time.Millisecond
	l := newLogbook(w, 0)
	l.append(text("d1-2", 1, 1))
	r := newTestRunner(t, cfg, w, nil)
	left := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- share(ctx, r, func(ctx context.Context) error {
			r.assign(ctx, l.join())
			left <- struct{}{}
			return nil
		})
	}()
	<-left
	close(back)
	if err := l.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(w.rows["d1-2"]) != 1 {
		t.Fatalf("%d rows", len(w.rows["d1-2"]))
	}
}

func TestConfig_NamesTheBadField(t *testing.T) {
	for field, cfg := range map[string]Config{
		"jobs.realtime.size": {Realtime: PoolConfig{Size: -1}}, "jobs.retry.batch": {Retry: PoolConfig{Batch: 100_000}}, "jobs.window_bytes": {WindowBytes: 1},
		"jobs.drain_timeout": {DrainTimeout: time.Hour}, "jobs.dead.backoff_max": {Dead: PoolConfig{BackoffMin: time.Second, BackoffMax: time.Millisecond}},
	} {
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}
