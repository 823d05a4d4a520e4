package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// dueFaults are of scheduled messages, between two users who take no part in the load.
var dueFaults = []fault{
	{name: "F27", about: "the scheduler's processes are killed in turn while 1,000 messages are due", full: 10, healed: true, inject: killDue},
}

// scheduledOnce is how many messages are due in one injection, over scheduledOver; in that
// time a worker is killed every killedEvery.
const (
	scheduledOnce = 1000
	scheduledOver = 10 * time.Second
	killedEvery   = 5 * time.Second
	// scheduledAhead is how long the first is due after the scheduling began: longer than
	// that takes.
	scheduledAhead = 20 * time.Second
)

// agenda is what two users have scheduled to each other, in turn: nobody may have more
// than 1,000 pending.
type agenda struct {
	authors [2]*client.HTTP
	ids     [2]im.UserID
	conv    im.ConversationID
	due     []int64
}

// killDue schedules messages, kills one worker after the other while they are due, and
// then holds what has come against what was asked.
func killDue(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	a, err := newAgenda(ctx, c)
	if err != nil {
		return nil, err
	}
	first := time.Now().Add(scheduledAhead)
	if err := a.schedule(ctx, first, scheduledOnce, scheduledOver); err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	c.tally.broke(time.Now().Before(first), "scheduling took until %s after the first was due", time.Since(first))
	workers := c.of("jobs")
	return func(ctx context.Context) error {
		kills := 0
		for at := first; !at.After(first.Add(scheduledOver)); at = at.Add(killedEvery) {
			if err := pause(ctx, time.Until(at)); err != nil {
				return err
			}
			p := workers[kills%len(workers)]
			p.kill()
			kills++
			if err := errors.Join(pause(ctx, 500*time.Millisecond), p.start()); err != nil {
				return err
			}
		}
		c.tally.broke(kills >= len(workers), "%d kills of %d workers", kills, len(workers))
		c.tally.count("kills", float64(kills))
		rows, err := a.came(ctx, c.tally)
		if err != nil {
			return err
		}
		c.tally.count("scheduled", float64(len(a.due)))
		for _, late := range c.tally.due(a.due, rows) {
			c.tally.sample("late_s", 0, late.Seconds())
		}
		c.tally.atEnd(func(ctx context.Context, _ *ending) error { return a.unchanged(ctx, c.tally, rows) })
		return nil
	}, nil
}

func newAgenda(ctx context.Context, c *cluster) (*agenda, error) {
	ids, err := upsert(ctx, c.backend(), "due-"+random()[:8], 2)
	if err != nil {
		return nil, err
	}
	a := &agenda{ids: [2]im.UserID(ids), conv: im.DirectConversation(ids[0], ids[1])}
	for i, id := range a.ids {
		t, err := c.backend().IssueTokens(ctx, protocol.IssueTokens{UserID: &id, Device: "due"})
		if err != nil {
			return nil, err
		}
		a.authors[i] = (&person{id: id, token: t.AccessToken}).http(c.bases()[0])
	}
	return a, nil
}

// schedule asks for each message until it is taken: what is away is still healing from
// before.
func (a *agenda) schedule(ctx context.Context, first time.Time, n int, over time.Duration) error {
	all := make([]int, n)
	for i := range all {
		all[i] = i
		a.due = append(a.due, first.Add(time.Duration(i)*over/time.Duration(n)).UnixMilli())
	}
	return parallel(ctx, all, func(i int) error {
		return insistently(ctx, func() error {
			_, err := a.authors[i%2].Send(ctx, protocol.Send{
				ClientMsgID: im.ClientMsgID(fmt.Sprintf("due-%06d", i)), To: client.ToUser(a.ids[1-i%2]), DeliverAt: a.due[i],
				Content: text(fmt.Sprint(i)),
			}, false)
			return err
		})
	})
}

// insistently does something until it is done, recovering at most.
func insistently(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, recovering)
	defer cancel()
	for {
		err := do()
		if err == nil {
			return nil
		}
		if late := pause(ctx, 100*time.Millisecond); late != nil {
			return errors.Join(late, err)
		}
	}
}

// came waits until nothing is pending or on its way, sends a message that can only be the
// last, and reads everything up to that. What is never sent is found as stuck.
func (a *agenda) came(ctx context.Context, t *tally) ([]im.Message, error) {
	left := 0
	if err := insistently(ctx, func() (err error) {
		if left, err = a.in(ctx, im.SchedulePending, im.ScheduleQueued); err == nil && left > 0 {
			err = fmt.Errorf("%d are not sent", left)
		}
		return err
	}); err != nil {
		t.add("stuck", "scheduled in %s: %v", a.conv, err)
	}
	mark := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(a.ids[1]), Content: text("mark")}
	if err := insistently(ctx, func() error {
		s, err := a.authors[0].Send(ctx, mark, true)
		if err == nil && s.State != protocol.StateStored {
			err = errNotStored
		}
		return err
	}); err != nil {
		return nil, fmt.Errorf("after what was scheduled: %w", err)
	}
	return a.read(ctx)
}

// in is how many are in one of some states, up to a page of each.
func (a *agenda) in(ctx context.Context, states ...im.ScheduleState) (n int, err error) {
	for _, h := range a.authors {
		for _, state := range states {
			page, err := h.Scheduled(ctx, protocol.AskScheduled{State: state, ConversationID: a.conv, Limit: 100})
			if err != nil {
				return 0, err
			}
			n += len(page.Items)
		}
	}
	return n, nil
}

// read is the whole history.
func (a *agenda) read(ctx context.Context) (all []im.Message, err error) {
	for more := true; more; {
		var after im.Seq
		if len(all) > 0 {
			after = all[len(all)-1].Seq
		}
		if err := insistently(ctx, func() error {
			page, err := a.after(ctx, after)
			if err == nil {
				all, more = append(all, page.Items...), page.HasMore
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// after is a page of the history.
func (a *agenda) after(ctx context.Context, seq im.Seq) (protocol.Page, error) {
	return a.authors[0].History(ctx, protocol.History{ConversationID: a.conv, AfterSeq: &seq, Limit: 100})
}

// unchanged looks once more at the end of the run: nothing may have come after the mark.
func (a *agenda) unchanged(ctx context.Context, t *tally, before []im.Message) error {
	now, err := a.read(ctx)
	if err == nil && len(now) != len(before) {
		t.add("dup", "scheduled in %s: %d messages, and later %d", a.conv, len(before), len(now))
	}
	return err
}

// due holds what has come to what was due, message i of which says i: each once, none
// before its time, in the order of their times, and then a mark. It returns how late
// they were.
func (t *tally) due(due []int64, rows []im.Message) (late []time.Duration) {
	times := make([]int, len(due))
	furthest := -1
	for n, m := range rows {
		var body im.TextContent
		_ = json.Unmarshal(m.Content, &body) // one that cannot be read is none of ours
		i, err := strconv.Atoi(body.Text)
		switch {
		case body.Text == "mark" && n == len(rows)-1:
			continue
		case body.Text == "mark":
			t.add("dup", "scheduled: %d messages after the mark", len(rows)-1-n)
			continue
		case err != nil || i < 0 || i >= len(due):
			t.add("phantom", "scheduled: %q at %d was never scheduled", body.Text, m.Seq)
			continue
		}
		if times[i]++; times[i] > 1 {
			t.add("dup", "scheduled: message %d is at %d again", i, m.Seq)
			continue
		}
		if m.StoredAt < due[i] {
			t.add("early", "scheduled: message %d came %d ms early", i, due[i]-m.StoredAt)
		}
		if i < furthest {
			t.add("fifo", "scheduled: message %d came after %d", i, furthest)
		}
		furthest = max(furthest, i)
		late = append(late, time.Duration(m.StoredAt-due[i])*time.Millisecond)
	}
	for i, n := range times {
		if n == 0 {
			t.add("lost", "scheduled: message %d, due at %d", i, due[i])
		}
	}
	return late
}
