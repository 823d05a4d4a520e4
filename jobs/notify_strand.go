package jobs

import (
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// notify notes that a message is to be told to who is not connected: to the other of a
// one-to-one conversation, unless Redis says that they are; to whoever is in a channel;
// in one that is merged at read only to who is mentioned. Not of what does not count.
func (p *pusher) notify(b *batch, d *send) {
	if d.task.Uncounted == im.UncountedForAll || d.task.Type == im.TypeSystem || d.task.Type == im.TypeNotice {
		return
	}
	var users []im.UserID
	switch {
	case d.room == nil:
		low, high, _ := d.conv.Direct()
		peer := low
		if low == d.key.Sender {
			peer = high
		}
		if peer == d.key.Sender || len(p.sessions[peer]) > 0 {
			return
		}
		users = []im.UserID{peer}
	case d.room.now.merged:
		users = slices.DeleteFunc(slices.Clone(d.task.About.Mentions), func(u im.UserID) bool { return u == d.key.Sender })
		if len(users) == 0 {
			return
		}
	}
	b.notify = append(b.notify, notifyOf(d, users))
}

// announcement is what a batch asks of the lane retry. Its records end when the log has
// that, but the strand does not wait.
type announcement struct {
	p     *partition
	lane  Producer
	items []*item

	mu   sync.Mutex // guards what follows
	todo []im.Task  // not in the log yet
	left int        // answers of the log that are waited for
	try  int
}

// announce produces tasks; the batch is done otherwise.
func (s *scribe) announce(items []*item, tasks []im.Task) {
	s.p.keep(items)
	a := &announcement{p: s.p, lane: s.r.deps.Producers[im.LaneRetry], items: items, todo: tasks}
	a.produce()
}

func (a *announcement) produce() {
	if err := a.p.work.Err(); err != nil {
		a.p.abandon(err) // the next owner does it all again
		return
	}
	a.mu.Lock()
	tasks := a.todo
	a.todo, a.left = nil, len(tasks)
	a.mu.Unlock()
	for _, t := range tasks {
		a.lane.Produce(t, func(err error) { a.answered(t, err) })
	}
}

func (a *announcement) answered(t im.Task, err error) {
	a.mu.Lock()
	if err != nil {
		a.todo = append(a.todo, t)
	}
	a.left--
	again, done := a.left == 0 && len(a.todo) > 0, a.left == 0 && len(a.todo) == 0
	pause := 100 * time.Millisecond << min(a.try, 5)
	if again {
		a.try++
	}
	a.mu.Unlock()
	switch {
	case done && a.p.work.Err() == nil:
		a.p.finishKept(a.items)
	case done:
		a.p.abandon(a.p.work.Err())
	case again:
		a.p.r.m.waits.WithLabelValues("notify").Inc()
		time.AfterFunc(pause, a.produce)
	}
}
