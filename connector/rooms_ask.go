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
	for _, u := range users {
		g := rs.guests[u]
		if g != nil && (g.whole || g.ask != nil) || !rs.s.sessions.has(u) {
			continue
		}
		if wait = wait && !rs.away; !wait {
			rs.doubtUser(u)
			continue
		}
		if g == nil { // else a notice was quicker
			g = &guest{}
			rs.guests[u] = g
		}
		g.ask = &question{sent: true}
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
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var users []im.UserID
	for i := range registryShards {
		users = rs.s.sessions.usersInShard(i, users[:0])
		for _, u := range users {
			rs.doubtUser(u)
		}
	}
}

// doubtUser asks for u's rooms, not at once. With mu held.
func (rs *rooms) doubtUser(u im.UserID) {
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

// heard notes how a question went. With mu held.
func (rs *rooms) heard(of string, err error) {
	rs.s.metrics.asked.WithLabelValues(of).Inc()
	rs.away = err != nil
	if err != nil {
		rs.paused = true
		rs.s.metrics.askFailed.Inc()
		rs.s.log.Warn("the directory of rooms is away", "err", err)
		wakeUp(rs.toAsk)
	}
}

// askUsers asks which rooms users are in.
func (rs *rooms) askUsers(ctx context.Context, batch []asked) {
	users := make([]im.UserID, len(batch))
	for i := range batch {
		users[i] = batch[i].user
	}
	all, err := rs.s.directory.RoomsOf(ctx, users)
	rs.mu.Lock()
	defer rs.unlock()
	rs.heard("users", err)
	for _, a := range batch {
		g := rs.guests[a.user]
		if g == nil || g.ask != a.q || !rs.s.sessions.has(a.user) {
			continue // gone, and perhaps back
		}
		stale := err == nil && rs.answer(a.user, g, all[a.user])
		switch {
		case stale && a.q.late:
			rs.slowUsers = append(rs.slowUsers, a.user)
		case stale || err != nil || a.q.again:
			rs.users = append(rs.users, a.user)
		case len(g.rooms) == 0:
			delete(rs.guests, a.user)
			continue
		default:
			g.ask, g.whole = nil, true
			continue
		}
		a.q.sent, a.q.late = false, true
		wakeUp(rs.toAsk)
	}
}

// answer puts u into the rooms they are in, and takes them out of the others; stale
// says that a room knows of a later roster, and u has to be asked for again. With mu
// held.
func (rs *rooms) answer(u im.UserID, g *guest, list []im.Room) (stale bool) {
	q := g.ask
	news := false
	told := slices.Clone(q.moved)
	in := func(c im.ConversationID) bool {
		return slices.Contains(told, c) || slices.ContainsFunc(list, func(r im.Room) bool { return r.Conversation == c })
	}
	for _, rm := range slices.Clone(g.rooms) {
		if !in(rm.conv) {
			rs.unseat(rm, u)
		}
	}
	g.rooms = slices.Grow(g.rooms, max(0, len(list)-len(g.rooms)))
	for _, r := range list {
		if slices.Contains(told, r.Conversation) {
			continue
		}
		rm := rs.open(r.Conversation, r.Version)
		if r.Version < rm.version {
			stale = true
			continue
		}
		if len(rm.members) == 0 {
			rm.version = r.Version
		}
		if rm.held != nil && rm.held.ask != nil {
			rm.held.ask.seat(u, r.Version)
		}
		if rs.seat(rm, u, r.First) && q.late {
			news = news || rm.in
			rm.late = rm.late || !rm.in
		}
	}
	if news {
		rs.put(u, nudge, "", "")
	}
	return stale
}

func (a *roomAsk) seat(u im.UserID, version im.Seq) {
	if a.seated == nil {
		a.seated = make(map[im.UserID]im.Seq)
	}
	a.seated[u] = version
}

// askMembers asks who is in a room, of those who are here.
func (rs *rooms) askMembers(ctx context.Context, rm *room) {
	rs.mu.Lock()
	if rs.rooms[rm.conv] != rm || rm.held == nil || rm.held.ask == nil {
		rs.mu.Unlock()
		return
	}
	ask := rm.held.ask
	var users []im.UserID
	for i := range rm.members {
		users = append(users, rm.members[i].user)
	}
	for i := range rm.held.queue {
		p := &rm.held.queue[i]
		p.asked = true
		users = append(users, rs.joiners(rm, p.Delivery)...)
	}
	rs.mu.Unlock()
	slices.Sort(users)
	users = slices.Compact(users)
	var version im.Seq
	var err error
	first := make(map[im.UserID]im.Seq, len(users))
	for part := range slices.Chunk(users, askBatch) {
		v, some, failed := rs.s.directory.RoomMembers(ctx, rm.conv, part)
		if err = failed; err != nil {
			break
		}
		if version == 0 || v < version {
			version = v
		}
		for u, f := range some {
			first[u] = f
		}
	}
	rs.mu.Lock()
	defer rs.unlock()
	if len(users) > 0 {
		rs.heard("room", err)
	}
	if rs.rooms[rm.conv] != rm || rm.held == nil || rm.held.ask != ask {
		return
	}
	if err != nil {
		rs.asks = append(rs.asks, rm)
		return
	}
	rs.refresh(rm, users, version, first)
}

// refresh has rm be as the directory says of users, and goes on with what waits. With
// mu held.
func (rs *rooms) refresh(rm *room, users []im.UserID, version im.Seq, first map[im.UserID]im.Seq) {
	ask := rm.held.ask
	rm.held.ask = nil
	var gone []im.UserID
	for _, u := range users {
		from, in := first[u]
		since, seated := ask.seated[u]
		delete(ask.seated, u)
		switch {
		case in && rs.s.sessions.has(u):
			rs.seat(rm, u, from)
		case seated && since >= version: // in by a later roster
		case rs.unseat(rm, u):
			gone = append(gone, u)
		}
	}
	rm.version = max(rm.version, version)
	for i := range rm.held.queue {
		p := &rm.held.queue[i]
		for _, u := range gone { // the notice is the last that they see
			if p.LeaveAll || slices.Contains(p.Leave, u) {
				p.told = append(p.told, u)
			}
		}
	}
	for _, since := range ask.seated {
		if since < version {
			rs.askRoom(rm, false)
			return
		}
	}
	rs.advance(rm)
	rs.tidy(rm)
}
