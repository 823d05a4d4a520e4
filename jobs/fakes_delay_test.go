package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
