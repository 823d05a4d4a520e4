package jobs

import (
	"context"
	"testing"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

func wake(at time.Time, n int) im.Task {
	return im.Task{Conversation: "d1-2", Notify: &im.NotifyTask{NotBefore: at.UnixMilli(), Seq: im.Seq(n)}}
}

// holdingConfig holds for longer than a test lasts.
func holdingConfig() Config {
	cfg := quickConfig()
	cfg.Realtime.BackoffMax = 2 * time.Hour
	return cfg
}

// A worker an hour ahead gives a time an hour away: nothing waits longer than a pause does.
func TestPartition_HoldsNothingLongerThanAPause(t *testing.T) {
	w, h := newWorld(1), &handled{}
	r := newTestRunner(t, quickConfig(), w, nil)
	r.work = h
	l := newLogbook(w, 0)
	l.append(wake(time.Now().Add(time.Hour), 1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, r, l.join()) }()
	h.eventually(t, w, "[[0]]")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is held is in nobody's way, is done when its time has come, and is left to the next
// owner, with all behind it, when that does not come.
func TestPartition_HoldsRecordsUntilTheirTime(t *testing.T) {
	w, h := newWorld(1), &handled{}
	r := newTestRunner(t, holdingConfig(), w, nil)
	r.work = h
	l := newLogbook(w, 0)
	now := time.Now()
	l.append(wake(now.Add(300*time.Millisecond), 1), wake(now, 2), wake(now.Add(100*time.Millisecond), 3))
	assigned := l.join()
	assigned.trust = true
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live(ctx, r, assigned) }()
	h.eventually(t, w, "[[1] [2] [0]]")
	if err := l.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.append(wake(time.Now().Add(time.Hour), 4), wake(now, 5))
	h.eventually(t, w, "[[1] [2] [0] [4]]")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if l.committed != 3 {
		t.Errorf("committed %d, want 3: the fourth is held", l.committed)
	}
}

// What is held stands still and is no standstill: what comes after a long time in which
// there was nothing else has its whole time to be done in.
func TestPartition_IsNotStalledByWhatItHolds(t *testing.T) {
	w := newWorld(1)
	r := newTestRunner(t, holdingConfig(), w, nil)
	r.work = &handled{}
	p := &partition{r: r, src: newLogbook(w, 0).join(), dirty: make(chan struct{}, 1)}
	p.changed.L = &p.mu
	p.split(1)
	later, now := time.Now().Add(time.Hour), time.Now()
	hand := func(offset int64, produced time.Time, task im.Task) {
		value, err := queue.AppendTask(nil, &task)
		if err != nil {
			t.Fatal(err)
		}
		p.hand([]queue.Record{{Offset: offset, Time: produced, Value: value}})
	}
	hand(0, now.Add(-time.Hour), wake(later, 1))
	p.progress = now.Add(-time.Hour)
	hand(1, now, wake(now, 2))
	if p.progress.Before(now) {
		t.Error("stalled for as long as a record was held")
	}
	p.progress = now.Add(-time.Hour)
	hand(2, now, wake(now, 3))
	if !p.progress.Before(now) {
		t.Error("new records hide a standstill")
	}
	if s := p.standing(now.Add(time.Minute)); s.records != 2 || s.age != time.Minute {
		t.Errorf("%d records, the oldest %s old, beside what is held", s.records, s.age)
	}
	items := p.next(p.strands[0])
	p.finish(items)
	if s := p.standing(now.Add(time.Minute)); s.records != 0 || s.age != 0 {
		t.Errorf("%d records, the oldest %s old, where all is held", s.records, s.age)
	}
	p.release.Stop()
}
