package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// pairs is a closed loop: users in pairs, each with some messages in flight, the next
// one sent when the other has got one.
func (b *bench) pairs(ctx context.Context) (Result, error) {
	all, err := b.people(ctx, "pairs", b.users)
	if err != nil {
		return Result{}, err
	}
	var stopped atomic.Bool
	next := func(t *talker, from im.UserID) *talker {
		if stopped.Load() {
			return nil
		}
		sender := t.room.talkers[from]
		sender.say(time.Now())
		return sender
	}
	r, err := b.enter(ctx, all, next)
	if err != nil {
		return Result{}, err
	}
	defer r.leave()
	peer := pairUp(r, all)
	for _, t := range r.talkers {
		for range b.window {
			t.say(time.Now())
		}
		_ = t.flush() // its reader sees the end
	}
	from, to, received, err := b.measure(ctx, "pairs", r, b.warm, b.span)
	stopped.Store(true)
	r.settle(ctx, r.said())
	res := b.result("pairs", "message", from, to, received, r.delays())
	res.Setting = fmt.Sprintf("%d users, %d in flight each", b.users, b.window)
	res.Faults = r.faults(func(t *talker) []*talker { return []*talker{peer[t]} })
	return res, errors.Join(err, r.problem())
}

// pairUp has the people talk two and two.
func pairUp(r *room, all []person) map[*talker]*talker {
	peer := make(map[*talker]*talker, len(all))
	for i := 0; i+1 < len(all); i += 2 {
		a, b := r.talkers[all[i].user], r.talkers[all[i+1].user]
		a.to, b.to = toUser(b.user), toUser(a.user)
		peer[a], peer[b] = b, a
	}
	return peer
}

func toUser(u im.UserID) string { return fmt.Sprintf(`{"user_id":"%d"}`, u) }

// said is how many messages all have sent.
func (r *room) said() (n int64) {
	for _, t := range r.talkers {
		t.mu.Lock()
		n += t.sent
		t.mu.Unlock()
	}
	return n
}
