package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rate is an open loop: messages are due at even times, whether or not the earlier
// ones have come, and a delay counts from when the message was due.
func (b *bench) rate(ctx context.Context, perSecond int) (Result, error) {
	all, err := b.people(ctx, "rate", b.users)
	if err != nil {
		return Result{}, err
	}
	r, err := b.enter(ctx, all, nil)
	if err != nil {
		return Result{}, err
	}
	defer r.leave()
	peer := pairUp(r, all)
	pace, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pacer(pace, r, all, perSecond)
	}()
	from, to, received, err := b.measure(ctx, fmt.Sprint("rate-", perSecond), r, b.warm, b.span)
	stop()
	<-done
	r.settle(ctx, r.said())
	res := b.result(fmt.Sprint("rate ", perSecond), "message", from, to, received, r.delays())
	res.Setting = fmt.Sprintf("%d users, %d messages a second", b.users, perSecond)
	res.Faults = r.faults(func(t *talker) []*talker { return []*talker{peer[t]} })
	return res, errors.Join(err, r.problem())
}

// pacer sends what is due, each time from the next talker.
func pacer(ctx context.Context, r *room, all []person, perSecond int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	every := time.Second / time.Duration(perSecond)
	due := time.Now()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for ; !due.After(now); due = due.Add(every) {
				t := r.talkers[all[i%len(all)].user]
				i++
				t.say(due)
				_ = t.flush() // its reader sees the end
			}
		}
	}
}
