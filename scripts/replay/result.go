package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// settleTime is how long a fact may take to be right once everything is quiet. The
// contract says 2 s (G8); the rest is for a machine that is busy elsewhere.
const settleTime = 20 * time.Second

// manyWrong is after how many that have not become right the rest is not waited for.
const manyWrong = 20

// result is the line that the replay ends with.
type result struct {
	mu                                   sync.Mutex // guards the counts
	sent, stored                         int
	lost, doubled, misordered            int
	unreadWrong, listWrong, offlineWrong int

	groups                              bool // the rest counts
	leaked, receiptsWrong, membersWrong int
}

func (r *result) faults() int {
	return r.lost + r.doubled + r.misordered + r.unreadWrong + r.listWrong + r.offlineWrong +
		r.leaked + r.receiptsWrong + r.membersWrong
}

func (r *result) String() string {
	s := fmt.Sprintf("sent=%d stored=%d lost=%d doubled=%d misordered=%d unread_wrong=%d list_wrong=%d offline_wrong=%d",
		r.sent, r.stored, r.lost, r.doubled, r.misordered, r.unreadWrong, r.listWrong, r.offlineWrong)
	if r.groups {
		s += fmt.Sprintf(" leaked=%d receipts_wrong=%d members_wrong=%d", r.leaked, r.receiptsWrong, r.membersWrong)
	}
	return s
}

func (r *result) add(count *int, n int) {
	r.mu.Lock()
	*count += n
	r.mu.Unlock()
}

// settles asks until look finds nothing wrong, or the time for that is over: then the
// count goes up by one and what is wrong is logged.
func (r *replay) settles(ctx context.Context, count *int, res *result, p *person, look func() (wrong string, err error)) error {
	deadline := time.Now().Add(settleTime)
	for {
		wrong, err := look()
		if err != nil || wrong == "" {
			return err
		}
		res.mu.Lock()
		many := *count >= manyWrong
		res.mu.Unlock()
		if many || time.Now().After(deadline) {
			r.log.Warn("not as the model says", "user", p.nick, "wrong", wrong)
			res.add(count, 1)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}
