package connector

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

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
			g.ask = nil
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
		if !in(rm.conv) && rs.unseat(rm, u) {
			news = true // the notice, if it comes yet, finds them gone
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
