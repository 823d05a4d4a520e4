package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// shelf is Schedules in memory, with a clock that each call moves, the lanes delay and
// realtime, and a logic that may say another thing each time it is asked.
type shelf struct {
	w *world

	mu        sync.Mutex
	now       int64
	rows      map[im.ScheduleID]*im.Scheduled
	next      map[im.ScheduleID]int64
	cancelled map[im.ScheduleID]bool // and answered as such
	fires     []im.Task              // lane delay
	done      int                    // its committed offset
	sent      []landed               // lane realtime
	refuses   float64                // of decisions
	broken    map[im.ScheduleID]bool // logic always fails at
}

// landed is one record of realtime.
type landed struct {
	task im.Task
	at   int64
}

func newShelf(w *world) *shelf {
	return &shelf{w: w, now: 1000, rows: make(map[im.ScheduleID]*im.Scheduled), next: make(map[im.ScheduleID]int64),
		cancelled: make(map[im.ScheduleID]bool), broken: make(map[im.ScheduleID]bool)}
}

// enter begins a call: the clock moves, and the store may fail before it or after it.
func (f *shelf) enter(op string) (leave func(*error), err error) {
	if err := f.w.enter(op); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.now += int64(f.w.chance.intn(3))
	return func(err *error) {
		f.mu.Unlock()
		if f.w.chance.hits(f.w.faults / 2) {
			*err = fmt.Errorf("%s: gone away after it: %w", op, im.ErrStore)
		}
	}, nil
}

// put schedules a message.
func (f *shelf) put(c im.ConversationID, from im.UserID, due int64) im.ScheduleID {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := im.ScheduleID(len(f.rows) + 1)
	s := &im.Scheduled{ID: id, Conversation: c, Sender: from, ClientMsgID: im.ClientMsgID(fmt.Sprintf("later-%05d", id)),
		Request: json.RawMessage(`{"text":"first"}`), DueAt: max(due, f.now)}
	s.Hash = im.HashContent(im.TypeText, s.Request)
	f.rows[id], f.next[id] = s, s.DueAt
	return id
}

// change cancels, puts off or rewords one that is pending; false where it is not.
func (f *shelf) change(id im.ScheduleID, kind int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := f.rows[id]
	if row.State != im.SchedulePending {
		return false
	}
	switch kind {
	case 0:
		row.State, f.cancelled[id] = im.ScheduleCancelled, true
	case 1:
		row.DueAt = f.now + int64(f.w.chance.intn(50))
		f.next[id] = row.DueAt
	case 2:
		row.Request = json.RawMessage(`{"text":"second"}`)
	}
	return true
}

func (f *shelf) DueScheduled(_ context.Context, partition int, state im.ScheduleState, ahead time.Duration, limit int) (all []im.DueSchedule, err error) {
	leave, err := f.enter("due_scheduled")
	if err != nil {
		return nil, err
	}
	defer leave(&err)
	for id, row := range f.rows {
		if row.State == state && f.next[id] <= f.now+ahead.Milliseconds() {
			all = append(all, im.DueSchedule{ID: id, Conversation: row.Conversation, DueAt: row.DueAt, In: f.next[id] - f.now})
		}
	}
	slices.SortFunc(all, func(a, b im.DueSchedule) int {
		if a.In != b.In {
			return int(a.In - b.In)
		}
		return int(a.ID) - int(b.ID)
	})
	return all[:min(limit, len(all))], nil
}

func (f *shelf) QueueScheduled(_ context.Context, ids []im.ScheduleID, again time.Duration) (err error) {
	leave, err := f.enter("queue_scheduled")
	if err != nil {
		return err
	}
	defer leave(&err)
	for _, id := range ids {
		if row := f.rows[id]; row.State == im.ScheduleQueued || row.State == im.SchedulePending && row.DueAt <= f.now {
			row.State, f.next[id] = im.ScheduleQueued, f.now+again.Milliseconds()
		}
	}
	return nil
}

func (f *shelf) ClaimScheduled(_ context.Context, c im.ConversationID, to im.FireTask, again time.Duration, limit int) (all []im.Scheduled, err error) {
	leave, err := f.enter("claim_scheduled")
	if err != nil {
		return nil, err
	}
	defer leave(&err)
	for id, row := range f.rows {
		if row.Conversation != c || row.DueAt > to.DueAt || row.DueAt == to.DueAt && id > to.Schedule {
			continue
		}
		if row.State == im.SchedulePending && row.DueAt <= f.now {
			row.State, f.next[id] = im.ScheduleQueued, f.now+again.Milliseconds()
		}
		if row.State == im.ScheduleQueued {
			all = append(all, *row)
		}
	}
	slices.SortFunc(all, func(a, b im.Scheduled) int {
		if a.DueAt != b.DueAt {
			return int(a.DueAt - b.DueAt)
		}
		return int(a.ID) - int(b.ID)
	})
	return all[:min(limit, len(all))], nil
}

func (f *shelf) KeepDecisions(_ context.Context, decisions []im.ScheduleDecision) (stand map[im.ScheduleID]bool, err error) {
	leave, err := f.enter("keep_decisions")
	if err != nil {
		return nil, err
	}
	defer leave(&err)
	stand = make(map[im.ScheduleID]bool)
	for _, d := range decisions {
		row := f.rows[d.ID]
		stand[d.ID] = row.State == im.ScheduleQueued && !row.Decided
		switch {
		case !stand[d.ID]:
		case d.Refused != "":
			row.State, row.Reason = im.ScheduleFailed, d.Refused
		default:
			row.Request, row.Decided = d.Request, true
		}
	}
	return stand, nil
}

func (f *shelf) SentScheduled(_ context.Context, ids []im.ScheduleID) (err error) {
	leave, err := f.enter("sent_scheduled")
	if err != nil {
		return err
	}
	defer leave(&err)
	for _, id := range ids {
		if row := f.rows[id]; row.State == im.ScheduleQueued {
			row.State = im.ScheduleSent
		}
	}
	return nil
}

func (f *shelf) ForgetScheduled(context.Context, time.Duration, int) (int, error) { return 0, nil }

func (f *shelf) Decide(_ context.Context, row im.Scheduled) (*im.SendTask, json.RawMessage, error) {
	if err := f.w.enter("decide"); err != nil {
		return nil, nil, err
	}
	var kept struct {
		Text string       `json:"text"`
		Task *im.SendTask `json:"task,omitempty"`
	}
	if err := json.Unmarshal(row.Request, &kept); err != nil || row.Decided {
		return kept.Task, nil, err
	}
	switch {
	case f.broken[row.ID]:
		return nil, nil, errors.New("something unheard of")
	case f.w.chance.hits(f.refuses):
		return nil, nil, &im.RejectedError{Cause: im.ErrBlocked}
	}
	kept.Task = &im.SendTask{Sender: im.Sender{ID: row.Sender}, ClientMsgID: row.ClientMsgID, Type: im.TypeText, Hash: row.Hash,
		Content: json.RawMessage(fmt.Sprintf(`{"text":%q,"as":%d}`, kept.Text, f.w.chance.intn(1000)))} // as: a name that changes
	keep, err := json.Marshal(kept)
	return kept.Task, keep, err
}

// produceTo is a lane whose answers may be lost and whose records refused.
func (f *shelf) produceTo(land func(im.Task)) Producer {
	return producerFunc(func(t im.Task, done func(error)) {
		var err error
		switch {
		case f.w.chance.hits(f.w.faults / 2):
			err = im.ErrQueue
		case f.w.chance.hits(f.w.faults / 2):
			if err = im.ErrUnknownOutcome; f.w.chance.intn(2) == 0 {
				break
			}
			fallthrough
		default:
			f.mu.Lock()
			land(t)
			f.mu.Unlock()
		}
		done(err)
	})
}

type producerFunc func(im.Task, func(error))

func (p producerFunc) Produce(t im.Task, done func(error)) { p(t, done) }

// store stores some of what is in realtime.
func (f *shelf) store(all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for _, l := range f.sent {
		if !all && f.w.chance.intn(3) > 0 {
			return
		}
		key := im.SendKey{Conversation: l.task.Conversation, Sender: l.task.Send.Sender.ID, ClientMsgID: l.task.Send.ClientMsgID}
		if _, there := f.w.keys[key]; !there {
			f.w.keys[key] = im.StoredRef{Seq: 1, ID: 1, Hash: l.task.Send.Hash}
		}
	}
}

// life is one process that owns the partition, until ctx ends or it crashes.
func (f *shelf) life(ctx context.Context, t *testing.T, steps func(string) error) {
	r := newTestRunner(t, quickConfig(), f.w, steps)
	d := &delay{r: r, schedules: f, decider: f,
		lane:     f.produceTo(func(t im.Task) { f.fires = append(f.fires, t) }),
		realtime: f.produceTo(func(t im.Task) { f.sent = append(f.sent, landed{t, f.now}) }),
	}
	var wg sync.WaitGroup
	ctx, crash := context.WithCancel(ctx)
	defer crash()
	f.mu.Lock()
	at := f.done
	f.mu.Unlock()
	wg.Go(func() {
		l := looker{d: d, inHand: func() int { return 0 }}
		for ctx.Err() == nil {
			l.again = time.Time{}
			if _, err := l.look(ctx); errors.Is(err, errCrash) {
				crash()
			}
			f.store(false)
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			f.mu.Lock()
			upTo := min(at+f.w.chance.intn(5), len(f.fires))
			last := make(map[im.ConversationID]im.FireTask)
			for _, t := range f.fires[at:upTo] {
				raiseFire(last, t.Conversation, *t.Fire)
			}
			if len(last) == 0 {
				f.now++
			}
			f.mu.Unlock()
			if err := d.fireAll(ctx, last, func() {}); err != nil {
				crash()
				return
			}
			at = upTo
			f.mu.Lock()
			f.done = max(f.done, at)
			f.mu.Unlock()
		}
	})
	wg.Wait()
}

// ended says that nothing is left to do.
func (f *shelf) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range f.rows {
		if row.State == im.SchedulePending || row.State == im.ScheduleQueued {
			return false
		}
	}
	return f.done == len(f.fires)
}

func (f *shelf) check(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := make(map[im.ClientMsgID]*landed)
	last := make(map[im.ConversationID]int64)
	byID := make(map[im.ClientMsgID]*im.Scheduled)
	for _, row := range f.rows {
		byID[row.ClientMsgID] = row
	}
	for i := range f.sent {
		l := &f.sent[i]
		row := byID[l.task.Send.ClientMsgID]
		if before := first[row.ClientMsgID]; before != nil {
			if string(before.task.Send.Content) != string(l.task.Send.Content) {
				t.Errorf("%s: sent as %s and as %s", row.ID, before.task.Send.Content, l.task.Send.Content)
			}
			continue
		}
		first[row.ClientMsgID] = l
		if l.at < row.DueAt {
			t.Errorf("%s: due at %d, sent at %d", row.ID, row.DueAt, l.at)
		}
		if row.DueAt < last[row.Conversation] {
			t.Errorf("%s: due at %d, sent after one due at %d", row.ID, row.DueAt, last[row.Conversation])
		}
		last[row.Conversation] = row.DueAt
	}
	for id, row := range f.rows {
		if in := first[row.ClientMsgID] != nil; in != (row.State == im.ScheduleSent) || f.cancelled[id] != (row.State == im.ScheduleCancelled) ||
			f.broken[id] && row.State == im.ScheduleSent {
			t.Errorf("%s is %s %s, in the log %v, cancelled %v, broken %v", id, row.State, row.Reason, in, f.cancelled[id], f.broken[id])
		}
	}
}

// TestDelaySimulation_AnyInterleavingFiresOnce is one seeded life after the other: owners
// that die between any two steps, two at once, a store and a log that fail before and
// after the deed, authors who change their mind, a logic that changes its own. Seeds as in
// TestSimulation_AnyInterleavingLosesNothing. [J10]
func TestDelaySimulation_AnyInterleavingFiresOnce(t *testing.T) {
	from, n := uint64(1), uint64(60)
	if one, err := strconv.ParseUint(os.Getenv("CURLEW_SIM_SEED"), 10, 64); err == nil {
		from, n = one, 1
	} else if many, err := strconv.ParseUint(os.Getenv("CURLEW_SIM_SEEDS"), 10, 64); err == nil {
		n = many
	}
	for seed := from; seed < from+n && !t.Failed(); seed++ {
		simulateDelay(t, seed)
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}
}

func simulateDelay(t *testing.T, seed uint64) {
	w := newWorld(seed)
	c := w.chance
	if c.intn(3) > 0 {
		w.faults = float64(c.intn(20)) / 100
	}
	f := newShelf(w)
	f.refuses = float64(c.intn(3)) / 5
	convs := []im.ConversationID{"d1-2", "d1-3", "c5"}
	rows := 5 + c.intn(40)
	for range rows {
		id := f.put(convs[c.intn(len(convs))], 1, f.now+int64(c.intn(80)))
		f.broken[id] = c.intn(20) == 0
	}
	author := make(chan struct{})
	go func() {
		defer close(author)
		for range 3 * rows {
			f.change(im.ScheduleID(1+c.intn(rows)), c.intn(6)) // half of them nothing
			time.Sleep(time.Duration(c.intn(20)) * time.Microsecond)
		}
	}()
	var lives sync.WaitGroup
	for range 1 + c.intn(6) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		ended := make(chan struct{})
		lives.Go(func() {
			defer cancel()
			defer close(ended)
			f.life(ctx, t, func(string) error {
				if c.hits(0.05) {
					return errCrash
				}
				return nil
			})
		})
		if c.intn(3) > 0 {
			<-ended
		}
	}
	lives.Wait()
	<-author
	c.stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := make(chan struct{})
	go func() {
		defer close(last)
		f.life(ctx, t, nil)
	}()
	for end := time.Now().Add(20 * time.Second); !f.ended(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("not everything ends")
			break
		}
		f.mu.Lock()
		f.now += queuedFor.Milliseconds() / 4
		f.mu.Unlock()
	}
	cancel()
	<-last
	f.check(t)
}

func TestDelay_WhatFailsIsToldToItsAuthor(t *testing.T) {
	w := newWorld(1)
	w.sessions[1] = []im.SessionRef{{User: 1, Device: "d", Session: "s1", Node: "n1"}}
	f := newShelf(w)
	f.refuses = 1
	id := f.put("d1-2", 1, 0)
	taken := f.put("d1-2", 1, 0)
	w.keys[im.SendKey{Conversation: "d1-2", Sender: 1, ClientMsgID: f.rows[taken].ClientMsgID}] = im.StoredRef{Seq: 1, Hash: im.ContentHash{1}}
	there := f.put("d1-2", 1, 0)
	w.keys[im.SendKey{Conversation: "d1-2", Sender: 1, ClientMsgID: f.rows[there].ClientMsgID}] = im.StoredRef{Seq: 2, Hash: f.rows[there].Hash}
	d := &delay{r: newTestRunner(t, quickConfig(), w, nil), schedules: f, decider: f, realtime: f.produceTo(func(im.Task) { t.Error("sent") })}
	if err := d.fire(t.Context(), "d1-2", im.FireTask{Schedule: im.MaxID, DueAt: im.MaxID}, func() {}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[im.ScheduleID]string{id: "failed blocked", taken: "failed client_msg_id_conflict", there: "sent "} {
		if got := f.rows[id].State.String() + " " + f.rows[id].Reason; got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
	var codes []string
	for _, frame := range w.frames(protocol.PushRejected) {
		var push struct{ Data protocol.Rejected }
		if err := json.Unmarshal(frame.Frame, &push); err != nil {
			t.Fatal(err)
		}
		codes = append(codes, push.Data.Code)
	}
	if !slices.Equal(codes, []string{"blocked", "client_msg_id_conflict"}) {
		t.Errorf("told %v", codes)
	}
}

// few keeps some decisions a call, then its store is too slow.
type few struct{ *shelf }

func (f few) KeepDecisions(ctx context.Context, decisions []im.ScheduleDecision) (map[im.ScheduleID]bool, error) {
	some := decisions[:min(len(decisions), 3)]
	stand, err := f.shelf.KeepDecisions(ctx, some)
	if err == nil && len(some) < len(decisions) {
		err = context.DeadlineExceeded
	}
	return stand, err
}

func TestDelay_AStoreTooSlowForAllDecisionsAtOnceKeepsThemAll(t *testing.T) {
	w := newWorld(1)
	f := newShelf(w)
	var want, got []im.ClientMsgID
	for range 10 {
		want = append(want, f.rows[f.put("d1-2", 1, 0)].ClientMsgID)
	}
	var steps int
	d := &delay{r: newTestRunner(t, quickConfig(), w, nil), schedules: few{f}, decider: f,
		realtime: f.produceTo(func(t im.Task) { got = append(got, t.Send.ClientMsgID) })}
	if err := d.fire(t.Context(), "d1-2", im.FireTask{Schedule: im.MaxID, DueAt: im.MaxID}, func() { steps++ }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if steps < 2*len(want) { // else what takes long is taken for standing still
		t.Errorf("progress was told %d times", steps)
	}
}

func TestLooker_WaitsUntilTheNextIsDueAndNotWhileItsHandsAreFull(t *testing.T) {
	f := newShelf(newWorld(1))
	f.put("d1-2", 1, 0)
	f.put("d1-3", 1, f.now+120)
	f.put("d1-3", 1, f.now+700)
	inHand := firesInHand
	d := &delay{r: newTestRunner(t, quickConfig(), f.w, nil), schedules: f, lane: f.produceTo(func(t im.Task) { f.fires = append(f.fires, t) })}
	l := looker{d: d, inHand: func() int { return inHand }}
	look := func(fires int, atLeast, atMost time.Duration) {
		t.Helper()
		wait, err := l.look(t.Context())
		if err != nil || wait < atLeast || wait > atMost || len(f.fires) != fires {
			t.Errorf("wait %s %v, %d told", wait, err, len(f.fires))
		}
	}
	look(0, lookEvery, lookEvery)
	inHand = 0
	look(1, 100*time.Millisecond, 120*time.Millisecond)
	f.now += 200
	look(2, 400*time.Millisecond, lookEvery)
	look(2, 400*time.Millisecond, lookEvery)
	f.now += queuedFor.Milliseconds() // nobody has worked on them
	l.again = time.Time{}
	inHand = 1
	look(3, lookEvery, lookEvery) // the third; the others may wait behind what is in hand
	inHand = 0
	look(5, lookEvery, lookEvery)
}

// The lane on its pool: what is due is found by who owns the partition, told to the lane,
// and sent from there; what is none of its records is buried.
func TestDelay_TheLaneFindsAndSendsWhatIsDue(t *testing.T) {
	w := newWorld(1)
	f := newShelf(w)
	lane := newLogbook(w, 3)
	lane.raw([]byte("no task at all"))
	lane.append(text("d1-2", 1, 1)) // of another lane
	r, err := NewRunner(quickConfig(), Deps{
		Archive: w, Nodes: w, Projector: w, Sessions: w, Rooms: w, Bus: w, Schedules: f, Decider: f,
		Producers: map[im.Lane]Producer{
			im.LaneDelay:    producerFunc(func(t im.Task, done func(error)) { lane.append(t); done(nil) }),
			im.LaneRealtime: f.produceTo(func(t im.Task) { f.sent = append(f.sent, landed{t, f.now}) }),
		},
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 250 {
		f.put([]im.ConversationID{"d1-2", "d1-3"}[n%2], 1, 0)
	}
	pool := r.pools[slices.IndexFunc(r.pools, func(p *Pool) bool { return p.lane == im.LaneDelay })]
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, pool, lane.join()) }()
	w.eventually(t, "both are buried", func() bool { return len(w.dead) == 2 })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		sent := len(f.sent)
		f.mu.Unlock()
		if sent >= 250 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of 250 were sent", sent)
		}
	}
	if err := lane.await(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	f.check(t)
	if len(f.sent) != 250 {
		t.Errorf("%d were sent", len(f.sent))
	}
}
