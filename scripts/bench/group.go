package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// group is a closed loop in one channel whose members are all online, spread over the
// connectors: a message is done when every other member has got it, and then the next
// member sends one.
func (b *bench) group(ctx context.Context, members, inFlight int) (Result, error) {
	all, err := b.people(ctx, fmt.Sprint("group", members), members)
	if err != nil {
		return Result{}, err
	}
	conv, err := b.channel(ctx, all)
	if err != nil {
		return Result{}, err
	}
	var (
		heard   = make([]atomic.Int64, members) // of the message of each that is in flight
		index   = make(map[im.UserID]int, members)
		turn    atomic.Int64
		stopped atomic.Bool
	)
	for i, p := range all {
		index[p.user] = i
	}
	var r *room
	speak := func() *talker {
		t := r.talkers[all[int(turn.Add(1))%members].user]
		t.say(time.Now())
		return t
	}
	next := func(_ *talker, from im.UserID) *talker {
		if n := heard[index[from]].Add(1); n%int64(members-1) != 0 || stopped.Load() {
			return nil
		}
		return speak()
	}
	if r, err = b.enter(ctx, all, next); err != nil {
		return Result{}, err
	}
	defer r.leave()
	for _, t := range r.talkers {
		t.to = fmt.Sprintf(`{"conversation_id":"%s"}`, conv)
	}
	for range inFlight {
		_ = speak().flush() // its reader sees the end
	}
	from, to, received, err := b.measure(ctx, fmt.Sprint("group-", members), r, b.warm, b.span)
	stopped.Store(true)
	r.settle(ctx, r.said()*int64(members-1))
	res := b.result(fmt.Sprint("group ", members), "delivery", from, to, received, r.delays())
	res.Setting = fmt.Sprintf("%d members online, %d in flight", members, inFlight)
	everyone := make([]*talker, 0, members)
	for _, t := range r.talkers {
		everyone = append(everyone, t)
	}
	res.Faults = r.faults(func(t *talker) []*talker {
		others := make([]*talker, 0, members-1)
		for _, o := range everyone {
			if o != t {
				others = append(others, o)
			}
		}
		return others
	})
	return res, errors.Join(err, r.problem())
}
