package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// channel is what the stores know of one: its roster, and the nodes in its registry.
type channel struct {
	version im.Seq
	first   map[im.UserID]im.Seq
	nodes   map[im.NodeID]bool
}

// channel is made on the first mention; mu is held.
func (d *directory) channel(c im.ConversationID) *channel {
	ch := d.channels[c]
	if ch == nil {
		ch = &channel{first: map[im.UserID]im.Seq{}, nodes: map[im.NodeID]bool{}}
		d.channels[c] = ch
	}
	return ch
}

// joins has users be members of a channel, by a notice at seq.
func (d *directory) joins(c im.ConversationID, seq im.Seq, users ...im.UserID) {
	d.set(func() {
		ch := d.channel(c)
		ch.version = seq
		for _, u := range users {
			ch.first[u] = seq
		}
	})
}

func (d *directory) leaves(c im.ConversationID, seq im.Seq, users ...im.UserID) {
	d.set(func() {
		ch := d.channel(c)
		ch.version = seq
		for _, u := range users {
			delete(ch.first, u)
		}
	})
}

// inRegistry says whether a node is in a channel's registry.
func (d *directory) inRegistry(c im.ConversationID, n im.NodeID) (in bool) {
	d.set(func() { in = d.channel(c).nodes[n] })
	return in
}

func (d *directory) questions() (all []string) {
	d.set(func() { all = slices.Clone(d.asked) })
	return all
}

func (d *directory) RoomsOf(ctx context.Context, users []im.UserID) (map[im.UserID][]im.Room, error) {
	all := map[im.UserID][]im.Room{}
	var noSQL bool
	var gate chan struct{}
	d.set(func() {
		d.asked = append(d.asked, fmt.Sprint("users ", len(users)))
		noSQL, gate = d.noSQL, d.gate
		for c, ch := range d.channels {
			for _, u := range users {
				if first, in := ch.first[u]; in {
					all[u] = append(all[u], im.Room{Conversation: c, Version: ch.version, First: first})
				}
			}
		}
	})
	if noSQL {
		return nil, im.ErrStore
	}
	return all, wait(ctx, gate)
}

func (d *directory) RoomMembers(ctx context.Context, c im.ConversationID, users []im.UserID) (version im.Seq, first map[im.UserID]im.Seq, err error) {
	var noSQL bool
	var gate chan struct{}
	first = map[im.UserID]im.Seq{}
	d.set(func() {
		d.asked = append(d.asked, fmt.Sprint("room ", c, " ", len(users)))
		noSQL, gate = d.noSQL, d.gate
		ch := d.channel(c)
		version = ch.version
		for _, u := range users {
			if f, in := ch.first[u]; in {
				first[u] = f
			}
		}
	})
	if noSQL {
		return 0, nil, im.ErrStore
	}
	return version, first, wait(ctx, gate)
}

func (d *directory) MoveRooms(ctx context.Context, n im.NodeID, enter, leave []im.ConversationID) error {
	var gate chan struct{}
	d.set(func() { gate = d.moveGate })
	if err := wait(ctx, gate); err != nil {
		return im.ErrCache
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return im.ErrCache
	}
	for _, c := range enter {
		d.channel(c).nodes[n] = true
	}
	for _, c := range leave {
		delete(d.channel(c).nodes, n)
	}
	d.moves = append(d.moves, strings.TrimSpace(fmt.Sprintf("+%d -%d", len(enter), len(leave))))
	return nil
}

func (d *directory) SweepRooms(context.Context) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweeps++
	for _, ch := range d.channels {
		for node := range ch.nodes {
			if d.dead[node] {
				delete(ch.nodes, node)
				return 1, nil
			}
		}
	}
	return 0, nil
}

func wait(ctx context.Context, gate chan struct{}) error {
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// says is a message of a channel on its way to a room.
func says(c im.ConversationID, seq, version im.Seq, frame string) protocol.Delivery {
	return protocol.Delivery{Room: c, Conversation: c, Seq: seq, About: seq, Version: version, Frame: []byte(frame)}
}

// notice changes who is in a room.
func notice(c im.ConversationID, prior, seq im.Seq, join, leave []im.UserID) protocol.Delivery {
	d := says(c, seq, seq, fmt.Sprintf("notice %d", seq))
	d.Prior, d.Join, d.Leave, d.JoinFirst = prior, join, leave, seq
	return d
}
