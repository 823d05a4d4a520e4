package connector

import (
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// What waits for one room, and for all of a node: beyond it pushes are dropped, and
// those who miss them are nudged.
const (
	heldFrames = 1000
	heldBytes  = 1 << 20
	heldMost   = 64 << 20
)

// backlog is what waits for a room to be entered, or for what it has asked.
type backlog struct {
	queue []parcel
	bytes int
	ask   *roomAsk // nil: nothing is asked
	lost  bool     // some were dropped
}

// parcel is a delivery on its way through a room.
type parcel struct {
	*protocol.Delivery
	frame   []byte      // encoded; nil: not yet, or nothing to write
	applied bool        // the room is as the delivery says
	asked   bool        // its joiners were in a question that has been answered
	told    []im.UserID // who leaves by it and gets it all the same
	reached int         // connections
}

func moves(d *protocol.Delivery) bool { return len(d.Join) > 0 || len(d.Leave) > 0 || d.LeaveAll }

// deliver brings a delivery to a room; connections that have something to write now
// are added to woken.
func (rs *rooms) deliver(d *protocol.Delivery, woken []*conn) ([]*conn, string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	p := parcel{Delivery: d}
	rm := rs.rooms[d.Room]
	if rm == nil {
		if len(rs.joiners(nil, d)) == 0 {
			return woken, "nobody"
		}
		rm = rs.open(d.Room, d.Prior)
	}
	result := "sent"
	rs.woken, woken = woken, rs.woken
	switch waits := rm.held != nil && len(rm.held.queue) > 0; {
	case waits || !rs.step(rm, &p):
		result = rs.hold(rm, p)
	case p.reached == 0:
		result = "nobody"
	}
	rs.tidy(rm)
	rs.woken, woken = woken, rs.woken
	return woken, result
}

// behind has a delivery to users wait where what their room is to write before it
// waits [P6].
func (rs *rooms) behind(d *protocol.Delivery) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rm := rs.rooms[d.Conversation]
	if rm == nil || rm.held == nil || len(rm.held.queue) == 0 {
		return false
	}
	rs.hold(rm, parcel{Delivery: d})
	return true
}

// hold puts p behind what waits, if there is room. With mu held, as the rest.
func (rs *rooms) hold(rm *room, p parcel) string {
	if rm.held == nil {
		rm.held = &backlog{}
	}
	h := rm.held
	if n := len(p.Frame); len(h.queue) >= heldFrames || h.bytes+n > heldBytes || rs.heldSize+n > heldMost {
		rs.s.metrics.heldDropped.Inc()
		h.lost = true
		for _, u := range rs.joiners(rm, p.Delivery) { // nothing else would tell
			rs.doubtUser(u)
		}
		return "dropped"
	}
	d := *p.Delivery // out of the batch's memory
	if len(d.Frame) > 0 {
		p.frame = textFrame(d.Frame)
		d.Frame = nil
	}
	p.Delivery = &d
	h.bytes += len(p.frame)
	rs.heldSize += len(p.frame)
	h.queue = append(h.queue, p)
	return "held"
}

// advance delivers what waits, as far as it can.
func (rs *rooms) advance(rm *room) {
	h := rm.held
	if h == nil {
		return
	}
	done := 0
	for done < len(h.queue) && rs.step(rm, &h.queue[done]) {
		n := len(h.queue[done].frame)
		h.bytes -= n
		rs.heldSize -= n
		done++
	}
	h.queue = slices.Delete(h.queue, 0, done)
	if len(h.queue) > 0 || h.ask != nil {
		return
	}
	rm.held = nil
	if h.lost {
		for i := range rm.members {
			rs.put(rm.members[i].user, nudge, "", "")
		}
	}
	rs.tidy(rm)
}

// step delivers p if its turn has come; else it waits, for an answer or an entry.
func (rs *rooms) step(rm *room, p *parcel) (done bool) {
	if p.Room == "" {
		for _, u := range p.Users {
			p.reached += rs.send(u, p)
		}
		return true
	}
	if !p.applied && !rs.apply(rm, p) {
		return false
	}
	if !rm.in && len(rm.members) > 0 {
		return false
	}
	for i := range rm.members {
		if rm.members[i].gets(p.Delivery) {
			p.reached += rs.send(rm.members[i].user, p)
		}
	}
	for _, u := range p.told {
		p.reached += rs.send(u, p)
	}
	rs.s.metrics.fanout.Observe(float64(p.reached))
	return true
}

// gets says whether a delivery to the room is for m.
func (m *member) gets(d *protocol.Delivery) bool {
	return (d.About == 0 || m.first <= d.About) && m.user != d.ExceptUser && (len(d.Users) == 0 || slices.Contains(d.Users, m.user))
}

// send puts p's frame, encoded once for all.
func (rs *rooms) send(u im.UserID, p *parcel) int {
	if p.frame == nil {
		if len(p.Frame) == 0 {
			return 0
		}
		p.frame = textFrame(p.Frame)
	}
	return rs.put(u, p.frame, p.Only, p.Except)
}

// apply sees that the room's roster is that of p, or later; false: it has to ask.
func (rs *rooms) apply(rm *room, p *parcel) bool {
	joiners := rs.joiners(rm, p.Delivery)
	if len(rm.members) == 0 {
		if len(joiners) == 0 {
			p.applied = true
			return true
		}
		rm.version = max(rm.version, p.Prior) // nobody is in it, of any roster
	}
	switch {
	case rm.held != nil && rm.held.ask != nil:
		return false
	case p.Version == 0:
	case moves(p.Delivery) && rm.version == p.Prior:
		rs.change(rm, p, joiners)
	case rm.version < p.Version, len(joiners) > 0 && !p.asked:
		rs.askRoom(rm, p.asked)
		return false
	}
	p.applied = true
	return true
}

// change is what a notice does to the room before it.
func (rs *rooms) change(rm *room, p *parcel, joiners []im.UserID) {
	leave := p.Leave
	if p.LeaveAll {
		leave = make([]im.UserID, len(rm.members))
		for i := range rm.members {
			leave[i] = rm.members[i].user
		}
	}
	for _, u := range leave {
		if rs.unseat(rm, u) {
			p.told = append(p.told, u)
		}
	}
	for _, u := range joiners {
		rs.seat(rm, u, p.JoinFirst)
	}
	rm.version = p.Version
}

// joiners are those who join by d, are connected here, and are not in the room yet.
func (rs *rooms) joiners(rm *room, d *protocol.Delivery) (here []im.UserID) {
	for _, u := range d.Join {
		if (rm == nil || !rm.has(u)) && rs.s.sessions.has(u) {
			here = append(here, u)
		}
	}
	return here
}
