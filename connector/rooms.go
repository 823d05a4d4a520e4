package connector

import (
	"cmp"
	"slices"
	"sync"

	"github.com/curlew-im/curlew/logic/im"
)

// rooms are the channels that users connected to this node are in. What is for a
// channel comes once, names the roster that it is for, and is written to those who are
// in the room [P14]. A room whose roster is older asks the directory first, and what
// comes meanwhile waits in order [P15].
//
// A room's version is a roster at which everyone in it was a member, or a later one at
// which they became so: nobody who has left by that roster is in it.
type rooms struct {
	s *Server

	mu     sync.Mutex // guards what follows, and all rooms and guests
	rooms  map[im.ConversationID]*room
	guests map[im.UserID]*guest
	found  []*conn // of one user
	woken  []*conn // have something to write

	// The registry's (rooms_registry.go).
	dirty   []*room       // to be entered in it, or taken out
	moving  []*room       // just now
	moved   chan struct{} // closed when what is dirty now has been tried
	toMove  chan struct{} // capacity 1
	missing bool          // pushes may have been lost while it did not know this node

	// The directory's (rooms_ask.go).
	users     []im.UserID   // whose rooms are to be asked for
	asks      []*room       // whose members are
	slowUsers []im.UserID   // likewise, at the next retry
	slow      []*room       //
	away      bool          // it has failed last
	paused    bool          // nothing is asked before the next retry
	toAsk     chan struct{} // capacity 1

	heldSize int // bytes that wait, of all rooms
}

// room is one channel. It is kept while somebody is in it, or the registry says so.
type room struct {
	conv    im.ConversationID
	version im.Seq
	members []member // by user
	held    *backlog // nil while nothing waits
	in      bool     // entered in the registry
	dirty   bool     // in rooms.dirty
	late    bool     // its members were welcomed before it was entered
}

// member is a user in a room, who sees it from first on.
type member struct {
	user  im.UserID
	first im.Seq
}

// guest is a user with connections here, where they are in rooms or that is not known
// yet.
type guest struct {
	rooms []*room
	ask   *question // nil: rooms are all
}

func newRooms(s *Server) *rooms {
	return &rooms{s: s, rooms: make(map[im.ConversationID]*room), guests: make(map[im.UserID]*guest),
		moved: make(chan struct{}), toMove: make(chan struct{}, 1), toAsk: make(chan struct{}, 1)}
}

// unlock has written what was put into outboxes under mu.
func (rs *rooms) unlock() {
	woken := rs.woken
	rs.woken = nil
	rs.mu.Unlock()
	rs.s.wakeAll(woken)
}

// open returns a channel's room, which begins with a version. With mu held, as the
// rest of this file.
func (rs *rooms) open(c im.ConversationID, version im.Seq) *room {
	rm := rs.rooms[c]
	if rm == nil {
		rm = &room{conv: c, version: version}
		rs.rooms[c] = rm
		rs.s.metrics.rooms.Inc()
	}
	return rm
}

// tidy forgets a room that nobody needs any more.
func (rs *rooms) tidy(rm *room) {
	if len(rm.members) == 0 && !rm.in && !rm.dirty && rm.held == nil && rs.rooms[rm.conv] == rm {
		delete(rs.rooms, rm.conv)
		rs.s.metrics.rooms.Dec()
	}
}

func (rm *room) index(u im.UserID) (int, bool) {
	return slices.BinarySearchFunc(rm.members, u, func(m member, u im.UserID) int { return cmp.Compare(m.user, u) })
}

func (rm *room) has(u im.UserID) bool {
	_, in := rm.index(u)
	return in
}

// seat has u in rm, seeing it from first on, and says whether that is new.
func (rs *rooms) seat(rm *room, u im.UserID, first im.Seq) bool {
	i, in := rm.index(u)
	if in {
		rm.members[i].first = first
		return false
	}
	rm.members = slices.Insert(rm.members, i, member{u, first})
	g := rs.guests[u]
	if g == nil { // it is not known whether this is all
		g = rs.doubtUser(u)
	}
	g.rooms = append(g.rooms, rm)
	g.ask.note(rm.conv)
	rs.mark(rm)
	return true
}

// unseat takes u out of rm and says whether they were in.
func (rs *rooms) unseat(rm *room, u im.UserID) bool {
	i, in := rm.index(u)
	if !in {
		return false
	}
	rm.members = slices.Delete(rm.members, i, i+1)
	if len(rm.members) == 0 {
		rm.members = nil
	}
	g := rs.guests[u]
	g.rooms = slices.DeleteFunc(g.rooms, func(o *room) bool { return o == rm })
	g.ask.note(rm.conv)
	if len(g.rooms) == 0 && g.ask == nil {
		delete(rs.guests, u)
	}
	rs.mark(rm)
	return true
}

// mark has the registry learn whether somebody is in rm, where it does not know.
func (rs *rooms) mark(rm *room) {
	if !rm.dirty && (len(rm.members) > 0) != rm.in {
		rm.dirty = true
		rs.dirty = append(rs.dirty, rm)
		wakeUp(rs.toMove)
	}
}

// gone takes u out of all rooms if no connection of theirs is left.
func (rs *rooms) gone(u im.UserID) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	g := rs.guests[u]
	if g == nil || rs.s.sessions.has(u) {
		return
	}
	g.ask = nil
	for len(g.rooms) > 0 {
		rs.unseat(g.rooms[len(g.rooms)-1], u)
	}
	delete(rs.guests, u)
}

// put queues a frame for the connections of u, or only one of them, or all but one, and
// returns how many they are.
func (rs *rooms) put(u im.UserID, frame []byte, only, except im.SessionID) (n int) {
	rs.found = rs.s.sessions.of(u, rs.found[:0])
	for _, c := range rs.found {
		if only != "" && c.id != only || except != "" && c.id == except {
			continue
		}
		n++
		if c.put(frame, push) {
			rs.woken = append(rs.woken, c)
		}
	}
	clear(rs.found)
	return n
}
