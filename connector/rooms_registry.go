package connector

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	// moveBatch bounds the rooms in one call to the registry.
	moveBatch = 500
	// sweeps bounds the calls that one round of sweeping makes; the next goes on.
	sweeps = 20
)

// keep has the registry say of each room whether somebody is in it here, until ctx
// ends; then of none. One goroutine does all of it, so that the last word about a room
// is the present one [P16].
func (rs *rooms) keep(ctx context.Context) {
	changed := rs.s.gens.Changed()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			rs.leaveAll()
			return
		case <-changed:
			changed = rs.s.gens.Changed()
			rs.anew()
			continue // toMove tells
		case <-rs.toMove:
		case <-retry:
		}
		retry = nil
		if rs.move() {
			continue
		}
		retry = time.After(min(time.Second, rs.s.cfg.RenewInterval))
	}
}

// anew enters every room again: the registry may have forgotten this node, and what
// was published meanwhile has not come.
func (rs *rooms) anew() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.missing = true
	for _, rm := range rs.rooms {
		if !rm.dirty {
			rm.dirty = true
			rs.dirty = append(rs.dirty, rm)
		}
	}
	wakeUp(rs.toMove)
}

// move tells the registry what is dirty; false: it could not.
func (rs *rooms) move() (ok bool) {
	rs.mu.Lock()
	list, tried := rs.dirty, rs.moved
	rs.dirty, rs.moving, rs.moved = nil, list, make(chan struct{})
	rs.mu.Unlock()
	var err error
	for part := range slices.Chunk(list, moveBatch) {
		if err == nil {
			err = rs.moveSome(part)
		} else {
			rs.putBack(part)
		}
	}
	rs.mu.Lock()
	rs.moving = nil
	doubt := err == nil && rs.missing
	rs.missing = rs.missing && !doubt
	rs.mu.Unlock()
	close(tried)
	if doubt {
		rs.doubt()
	}
	return err == nil
}

func (rs *rooms) moveSome(part []*room) error {
	rs.mu.Lock()
	var enter, leave []im.ConversationID
	entering := make([]bool, len(part))
	for i, rm := range part {
		rm.dirty = false
		if entering[i] = len(rm.members) > 0; entering[i] {
			enter = append(enter, rm.conv)
		} else {
			leave = append(leave, rm.conv)
			rs.setIn(rm, false)
		}
	}
	rs.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), rs.s.cfg.RouteTimeout)
	err := rs.s.routes.MoveRooms(ctx, rs.s.node, enter, leave)
	cancel()
	if err != nil {
		rs.s.routing.failed("rooms", err)
		rs.putBack(part)
		return err
	}
	rs.mu.Lock()
	defer rs.unlock()
	told := make(map[im.UserID]bool)
	for i, rm := range part {
		if entering[i] {
			rs.entered(rm, told)
		}
		rs.advance(rm)
		rs.mark(rm) // it may be otherwise by now
		rs.tidy(rm)
	}
	return nil
}

// entered notes that the registry has rm, and nudges whom that came late for, each
// once. With mu held.
func (rs *rooms) entered(rm *room, told map[im.UserID]bool) {
	rs.setIn(rm, true)
	if !rm.late {
		return
	}
	rm.late = false
	for i := range rm.members {
		if u := rm.members[i].user; !told[u] {
			told[u] = true
			rs.put(u, nudge, "", "")
		}
	}
}

func (rs *rooms) setIn(rm *room, in bool) {
	if rm.in != in {
		rm.in = in
		if in {
			rs.s.metrics.entered.Inc()
		} else {
			rs.s.metrics.entered.Dec()
		}
	}
}

// putBack has what failed tried again. Nobody waits for it longer.
func (rs *rooms) putBack(part []*room) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, rm := range part {
		rm.late = rm.late || !rm.in
		if !rm.dirty {
			rm.dirty = true
			rs.dirty = append(rs.dirty, rm)
		}
	}
}

// awaitMoves waits until what is dirty now has been tried. Where that takes too long
// those who wait go on, and are nudged later.
func (rs *rooms) awaitMoves(ctx context.Context) {
	rs.mu.Lock()
	tried := rs.moved
	idle := len(rs.dirty)+len(rs.moving) == 0
	rs.mu.Unlock()
	if idle {
		return
	}
	wakeUp(rs.toMove)
	select {
	case <-tried:
	case <-ctx.Done():
		rs.mu.Lock()
		for _, list := range [][]*room{rs.dirty, rs.moving} {
			for _, rm := range list {
				rm.late = rm.late || !rm.in
			}
		}
		rs.mu.Unlock()
	}
}

// leaveAll takes the node out of the registry. What fails is swept by a peer.
func (rs *rooms) leaveAll() {
	rs.mu.Lock()
	all := make([]im.ConversationID, 0, len(rs.rooms))
	for c, rm := range rs.rooms {
		all = append(all, c)
		rs.setIn(rm, false)
	}
	rs.mu.Unlock()
	for part := range slices.Chunk(all, moveBatch) {
		ctx, cancel := context.WithTimeout(context.Background(), rs.s.cfg.RouteTimeout)
		err := rs.s.routes.MoveRooms(ctx, rs.s.node, nil, part)
		cancel()
		if err != nil {
			rs.s.routing.failed("rooms", err)
			return
		}
	}
}

// sweep takes dead nodes out of the registry now and then, until ctx ends; every node
// does, and each at another moment.
func (rs *rooms) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rs.s.cfg.RenewInterval/2 + rand.N(rs.s.cfg.RenewInterval)):
		}
		for range sweeps {
			call, cancel := context.WithTimeout(ctx, rs.s.cfg.RouteTimeout)
			n, err := rs.s.routes.SweepRooms(call)
			cancel()
			if err != nil && ctx.Err() == nil {
				rs.s.routing.failed("sweep", err)
			}
			if n == 0 || err != nil {
				break
			}
			rs.s.metrics.swept.Add(float64(n))
		}
	}
}
