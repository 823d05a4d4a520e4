package jobs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// retry is what the lane of notifications does with its records. Nothing in it has an
// order to keep: what fails goes back into the lane, later and with fewer targets, and
// the record is done ([J12]). Only a log that is away is waited for in place.
type retry struct {
	notifier Notifier
	devices  Devices
	badges   Badges
	sessions Sessions
	lane     Producer // back into it
	dead     Producer // what was tried often enough
	topic    string
	settings func() im.PoolSettings // attempts and backoff, as they are now
	now      func() time.Time
	log      *slog.Logger
	m        *notifyMetrics
}

// noticed is a record with what became of it.
type noticed struct {
	record  place
	task    im.Task
	targets []im.PushTarget // who is told now
	failed  []im.PushTarget
	waiting []im.PushTarget // not tried
	refused []im.PushTarget
	reason  string
}

// place is where a record is in the log.
type place struct {
	partition int
	offset    int64
}

// tell does a batch of records. It fails only where ctx has ended.
func (n *retry) tell(ctx context.Context, batch []*noticed) error {
	start := n.now()
	badges := make(map[im.UserID]uint64)
	for len(batch) > 0 {
		var gathered []*noticed
		var after []im.Task
		for told := 0; len(batch) > 0 && told < notifyGather; batch = batch[1:] {
			w := batch[0]
			if n.now().Sub(start) > notifyFor {
				after = append(after, w.task) // in its turn, so that the batch comes to an end
				continue
			}
			split, err := n.expand(ctx, w, badges)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				// A store is away: nobody was told, and no attempt is counted.
				n.log.Warn("a notification waits for a store", "conv", w.task.Conversation, "seq", w.task.Notify.Seq, "err", err)
				after = append(after, n.later(w, w.task.Notify.Targets, 0, ""))
			default:
				after = append(after, split...)
				gathered = append(gathered, w)
				told += len(w.targets)
			}
		}
		n.deliver(ctx, gathered, badges)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		letters := n.settle(ctx, gathered, &after)
		if err := n.produce(ctx, n.lane, after); err != nil {
			return err
		}
		if err := n.produce(ctx, n.dead, letters); err != nil {
			return err
		}
	}
	return nil
}

// expand finds who is to be told: whoever is in the conversation and has not read so far,
// or those who are left, as it is now. More than a record holds are given records of
// their own.
func (n *retry) expand(ctx context.Context, w *noticed, badges map[im.UserID]uint64) (split []im.Task, err error) {
	t := w.task.Notify
	q := im.NotifyQuery{Conversation: w.task.Conversation, Seq: t.Seq, Sender: t.Sender.ID, Limit: notifyGather, Users: t.Users}
	if len(t.Targets) > 0 {
		q.Users = nil
		for _, to := range t.Targets {
			q.Users = append(q.Users, to.User)
		}
		slices.Sort(q.Users)
		q.Users = slices.Compact(q.Users)
	}
	for {
		page, more, err := n.devices.NotifyTargets(ctx, q)
		if err != nil {
			return nil, err
		}
		if more {
			last := page[len(page)-1]
			q.AfterUser, q.AfterDevice = last.User, last.Device
		}
		if len(t.Targets) > 0 {
			page = slices.DeleteFunc(page, func(p im.PushTarget) bool {
				return !slices.ContainsFunc(t.Targets, func(to im.PushTarget) bool { return to.User == p.User && to.Device == p.Device })
			})
		}
		if page, err = n.away(ctx, page); err != nil {
			return nil, err
		}
		if !more && len(split) == 0 && len(page) <= notifyTargets {
			w.targets = page
			break
		}
		for part := range slices.Chunk(page, notifyTargets) {
			again := *t
			again.Targets = part
			split = append(split, im.Task{Conversation: w.task.Conversation, Notify: &again})
		}
		if !more {
			return split, nil
		}
	}
	for _, to := range w.targets {
		if _, known := badges[to.User]; known {
			continue
		}
		total, _, err := n.badges.UnreadTotal(ctx, to.User)
		if err != nil {
			return nil, err
		}
		badges[to.User] = total.Badge
	}
	return nil, nil
}

// away leaves out the devices of users who are connected on any.
func (n *retry) away(ctx context.Context, targets []im.PushTarget) ([]im.PushTarget, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	var users []im.UserID
	for _, to := range targets {
		if len(users) == 0 || users[len(users)-1] != to.User {
			users = append(users, to.User)
		}
	}
	online, err := n.sessions.Sessions(ctx, users)
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(targets, func(to im.PushTarget) bool { return len(online[to.User]) > 0 })
	if there := len(targets) - len(left); there > 0 {
		n.m.notifications.WithLabelValues("online").Add(float64(there))
	}
	return left, nil
}

// deliver hands what was gathered to the provider, some calls at once.
func (n *retry) deliver(ctx context.Context, gathered []*noticed, badges map[im.UserID]uint64) {
	type one struct {
		of *noticed
		to im.PushTarget
	}
	var all []one
	var notes []Notification
	for _, w := range gathered {
		for _, to := range w.targets {
			all = append(all, one{w, to})
			notes = append(notes, notification(w.task.Conversation, w.task.Notify, to, badges[to.User]))
		}
	}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for from := 0; from < len(all); from += notifyCall {
		to := min(from+notifyCall, len(all))
		wg.Go(func() { copy(errs[from:to], n.call(ctx, notes[from:to])) })
	}
	wg.Wait()
	var gone []im.PushTarget
	for i, err := range errs {
		w := all[i].of
		switch {
		case err == nil:
			n.m.notifications.WithLabelValues("sent").Inc()
		case errors.Is(err, ErrGone):
			n.m.notifications.WithLabelValues("gone").Inc()
			gone = append(gone, all[i].to)
		case errors.Is(err, ErrRefused):
			w.refused, w.reason = append(w.refused, all[i].to), err.Error()
		case errors.Is(err, ErrBusy):
			w.waiting = append(w.waiting, all[i].to)
		default:
			w.failed, w.reason = append(w.failed, all[i].to), err.Error()
		}
	}
	if len(gone) > 0 && ctx.Err() == nil {
		if err := n.devices.DropPushTokens(ctx, gone); err != nil { // the provider will say so again
			n.log.Warn("remove push tokens that are gone", "err", err)
		}
	}
}

// call is one call of the provider; what it panics with is an error like any other.
func (n *retry) call(ctx context.Context, notes []Notification) (errs []error) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			n.log.Error("a provider of notifications panicked", "err", p)
			errs = each(notes, errors.New("the provider panicked"))
		}
		result := "ok"
		for _, err := range errs {
			switch {
			case err == nil || errors.Is(err, ErrGone):
			case errors.Is(err, ErrRefused):
				result = "refused"
			case errors.Is(err, ErrBusy):
				result = "busy"
			default:
				result = "failed"
			}
		}
		n.m.calls.WithLabelValues(result).Observe(time.Since(start).Seconds())
	}()
	return n.notifier.Notify(ctx, notes)
}

// settle says what is to be done about those who could not be told: again later, or a
// dead letter.
func (n *retry) settle(ctx context.Context, gathered []*noticed, after *[]im.Task) (letters []im.Task) {
	attempts := n.settings().Attempts
	for _, w := range gathered {
		given := w.refused
		if w.task.Notify.Attempt+1 >= attempts {
			given = append(given, w.failed...)
			n.m.notifications.WithLabelValues("given_up").Add(float64(len(w.failed)))
			w.failed = nil
		}
		n.m.notifications.WithLabelValues("refused").Add(float64(len(w.refused)))
		if len(w.failed) > 0 {
			n.m.notifications.WithLabelValues("retried").Add(float64(len(w.failed)))
			*after = append(*after, n.later(w, w.failed, 1, w.reason))
		}
		if len(w.waiting) > 0 {
			*after = append(*after, n.later(w, w.waiting, 0, w.task.Notify.Reason))
		}
		if len(given) > 0 {
			letters = append(letters, n.letter(w, given))
		}
	}
	return letters
}

// later is the task again, for some targets, after a pause.
func (n *retry) later(w *noticed, targets []im.PushTarget, counted int, reason string) im.Task {
	again := *w.task.Notify
	again.Targets, again.Attempt, again.Reason = targets, again.Attempt+counted, cutReason(reason)
	again.NotBefore = n.now().Add(n.pause(max(again.Attempt-1, 0))).UnixMilli()
	return im.Task{Conversation: w.task.Conversation, Notify: &again}
}

// pause is exponential with jitter, of the first too: those who failed together do not come back
// together.
func (n *retry) pause(attempt int) time.Duration {
	s := n.settings()
	top := s.BackoffMax
	if attempt < 20 {
		top = min(s.BackoffMin<<(attempt+1), s.BackoffMax)
	}
	return s.BackoffMin + rand.N(max(top-s.BackoffMin, 0)+1)
}

// letter is what becomes of targets that are given up. Of one record there is one: the
// table knows letters by where their record is.
func (n *retry) letter(w *noticed, given []im.PushTarget) im.Task {
	again := *w.task.Notify
	again.Targets, again.Attempt, again.NotBefore, again.Reason = given, 0, 0, ""
	d := im.DeadLetter{
		Topic: n.topic, Partition: w.record.partition, Offset: w.record.offset, Key: im.SendKey{Conversation: w.task.Conversation},
		Reason: cutReason(w.reason), Attempts: w.task.Notify.Attempt + 1, ParkedAt: n.now().UnixMilli(),
	}
	var err error
	if d.Payload, err = queue.AppendTask(nil, &im.Task{Conversation: w.task.Conversation, Notify: &again}); err != nil {
		n.log.Error("encode a dead letter", "conv", w.task.Conversation, "err", err) // it came out of a record of that size
	}
	n.log.Error("notifications given up", "conv", w.task.Conversation, "seq", again.Seq, "targets", len(given), "attempt", d.Attempts, "err", d.Reason)
	return im.Task{Conversation: w.task.Conversation, Dead: &d}
}

// cutReason bounds what a record tells of an error.
func cutReason(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most]
	}
	return s
}

// produce returns when the log has all of them, or with the error of ctx.
func (n *retry) produce(ctx context.Context, lane Producer, tasks []im.Task) error {
	for try := 0; len(tasks) > 0; try++ {
		errs := make([]error, len(tasks))
		var wg sync.WaitGroup
		wg.Add(len(tasks))
		for i := range tasks {
			lane.Produce(tasks[i], func(err error) { errs[i] = err; wg.Done() })
		}
		wg.Wait() // each within 5 s
		var rest []im.Task
		var cause error
		for i, err := range errs {
			if err != nil {
				rest, cause = append(rest, tasks[i]), err
			}
		}
		if tasks = rest; len(tasks) == 0 {
			return nil
		}
		if try == 0 {
			n.log.Warn("the log is away; waiting", "records", len(tasks), "err", cause)
		}
		if err := sleep(ctx, min(100*time.Millisecond<<min(try, 5), 2*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits, or returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
