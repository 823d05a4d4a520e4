package connector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// askBatch bounds the users in one question.
	askBatch = 500
	// askers bounds the questions under way, so that a node that has to ask for
	// everything is no more to MySQL than a few busy users.
	askers = 4
	// askAgain is until a question that failed is asked again.
	askAgain = time.Second
	// recheckEvery is between two shards of users who are asked for without cause: each
	// user is every 11 minutes, 18,000 of them with one question in 10 s.
	recheckEvery = 10 * time.Second
)

// question asks which rooms a user is in.
type question struct {
	sent  bool
	again bool // in doubt since it was sent
	late  bool // their connections are welcomed before the answer
	// moved are the channels that they were taken into or out of since it was sent, by
	// what is newer than the answer may be.
	moved []im.ConversationID
}

func (q *question) note(c im.ConversationID) {
	if q != nil && q.sent && !slices.Contains(q.moved, c) {
		q.moved = append(q.moved, c)
	}
}

// asked is a question under way.
type asked struct {
	user im.UserID
	q    *question
}

// roomAsk asks who is in a room.
type roomAsk struct {
	// seated are those who got in meanwhile, as of a roster.
	seated map[im.UserID]im.Seq
}

// enter puts users who are connecting into their rooms and waits, for a while, until
// the node is entered in those. wait is false where Redis is away: then all that is
// done later, and they are nudged. Who is here already is asked for no more.
func (rs *rooms) enter(users []im.UserID, wait bool) {
	ctx, cancel := context.WithTimeout(context.Background(), rs.s.cfg.RouteTimeout)
	defer cancel()
	rs.mu.Lock()
	var now []asked
	questions := make([]question, len(users)) // gone together: nothing of them stays among what lives long
	for i, u := range users {
		g := rs.guests[u]
		if g != nil && (g.ask == nil || g.ask.sent) || !rs.s.sessions.has(u) {
			continue
		}
		if wait = wait && !rs.away; !wait {
			rs.doubtUser(u)
			continue
		}
		if g == nil {
			g = &guest{ask: &questions[i]}
			rs.guests[u] = g
		}
		g.ask.sent = true
		now = append(now, asked{u, g.ask})
	}
	rs.mu.Unlock()
	if len(now) > 0 {
		rs.askUsers(ctx, now)
	}
	if wait {
		rs.awaitMoves(ctx)
	}
}

// doubt asks for the rooms of everybody: notices may have been lost.
func (rs *rooms) doubt() {
	for i := range registryShards {
		rs.doubtShard(i)
	}
}

func (rs *rooms) doubtShard(i int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, u := range rs.s.sessions.usersInShard(i, nil) {
		rs.doubtUser(u)
	}
}

// recheck asks for everybody in turn, until ctx ends: a notice that was never published
// to this node is missed by whoever it lets in, and nothing else says so.
func (rs *rooms) recheck(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % registryShards {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rs.doubtShard(i)
	}
}

// doubtUser asks for u's rooms, not at once. With mu held.
func (rs *rooms) doubtUser(u im.UserID) *guest {
	g := rs.guests[u]
	if g == nil {
		g = &guest{}
		rs.guests[u] = g
	}
	switch {
	case g.ask == nil:
		g.ask = &question{late: true}
		rs.users = append(rs.users, u)
		wakeUp(rs.toAsk)
	case g.ask.sent:
		g.ask.again = true
	}
	return g
}

// askRoom asks who is in rm; wait: the last answer was older than what is known. With
// mu held.
func (rs *rooms) askRoom(rm *room, wait bool) {
	if rm.held == nil {
		rm.held = &backlog{}
	}
	rm.held.ask = &roomAsk{}
	if wait {
		rs.slow = append(rs.slow, rm)
	} else {
		rs.asks = append(rs.asks, rm)
	}
	wakeUp(rs.toAsk)
}

// run asks what is to be asked, until ctx ends.
func (rs *rooms) run(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	free := make(chan struct{}, askers)
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-rs.toAsk:
		case <-retry:
			retry = nil
			rs.mu.Lock()
			rs.asks, rs.users = append(rs.asks, rs.slow...), append(rs.users, rs.slowUsers...)
			rs.slow, rs.slowUsers, rs.paused = nil, nil, false
			rs.mu.Unlock()
		}
		for {
			do := rs.nextQuestion()
			if do == nil {
				break
			}
			free <- struct{}{}
			under.Go(func() {
				call, cancel := context.WithTimeout(ctx, rs.s.cfg.RouteTimeout)
				do(call)
				cancel()
				<-free
			})
		}
		rs.mu.Lock()
		if retry == nil && (rs.paused || len(rs.slow)+len(rs.slowUsers) > 0) {
			retry = time.After(askAgain)
		}
		rs.mu.Unlock()
	}
}

// nextQuestion takes the next one, users first; nil: there is none for now.
func (rs *rooms) nextQuestion() func(context.Context) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for !rs.paused && len(rs.users) > 0 {
		n := min(len(rs.users), askBatch)
		var batch []asked
		for _, u := range rs.users[:n] {
			if g := rs.guests[u]; g != nil && g.ask != nil && !g.ask.sent {
				g.ask.sent, g.ask.again, g.ask.moved = true, false, nil
				batch = append(batch, asked{u, g.ask})
			}
		}
		if rs.users = rs.users[n:]; len(batch) > 0 {
			return func(ctx context.Context) { rs.askUsers(ctx, batch) }
		}
	}
	if rs.paused || len(rs.asks) == 0 {
		return nil
	}
	rm := rs.asks[0]
	if rs.asks = rs.asks[1:]; len(rs.asks) == 0 {
		rs.asks = nil
	}
	return func(ctx context.Context) { rs.askMembers(ctx, rm) }
}
