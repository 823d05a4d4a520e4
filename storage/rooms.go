package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// sweepRooms bounds the entries of dead nodes that one call of SweepRooms takes away:
// some 20 ms of Redis.
const sweepRooms = 4096

// RoomNodes returns the nodes that have a member of a channel online, dead ones left
// out; so are channels that nobody is in.
func (t *Routes) RoomNodes(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID][]im.NodeID, error) {
	out := make(map[im.ConversationID][]im.NodeID, len(convs))
	for part := range slices.Chunk(convs, projectBatch) {
		if err := t.readRooms(ctx, part, out); err != nil {
			return nil, fmt.Errorf("nodes of %d rooms: %w", len(convs), err)
		}
	}
	return out, nil
}

func (t *Routes) readRooms(ctx context.Context, convs []im.ConversationID, out map[im.ConversationID][]im.NodeID) error {
	ctx, done := t.redis.op(ctx, "rooms")
	defer done()
	cmds := make([]command, len(convs))
	for i, c := range convs {
		cmds[i] = redis.NewStringSliceCmd(ctx, "zrange", roomKey(c), "0", "-1")
	}
	if err := t.redis.exec(ctx, cmds...); err != nil {
		return cacheError(err)
	}
	nodes := map[im.NodeID]bool{}
	for _, cmd := range cmds {
		for _, n := range cmd.(*redis.StringSliceCmd).Val() {
			nodes[im.NodeID(n)] = true
		}
	}
	live, err := t.liveNodes(ctx, nodes)
	if err != nil {
		return err
	}
	for i, c := range convs {
		for _, n := range cmds[i].(*redis.StringSliceCmd).Val() {
			if live[im.NodeID(n)] {
				out[c] = append(out[c], im.NodeID(n))
			}
		}
	}
	return nil
}

// MoveRooms enters the node in the registries of channels and takes it out of others,
// in the order given. What it has entered is on a list of its own first, from which
// peers sweep it once it is dead. A repeat changes nothing.
func (t *Routes) MoveRooms(ctx context.Context, node im.NodeID, enter, leave []im.ConversationID) error {
	for part := range slices.Chunk(enter, projectBatch) {
		if err := t.enterRooms(ctx, node, part); err != nil {
			return fmt.Errorf("enter %d rooms: %w", len(enter), err)
		}
	}
	for part := range slices.Chunk(leave, projectBatch) {
		opCtx, done := t.redis.op(ctx, "leave_rooms")
		cmds := make([]command, 0, len(part)+1)
		mine := []any{"zrem", nodeRoomsKey(node)}
		for _, c := range part {
			cmds = append(cmds, redis.NewIntCmd(opCtx, "zrem", roomKey(c), string(node)))
			mine = append(mine, string(c))
		}
		err := t.redis.inOrder(opCtx, cmds, []command{redis.NewIntCmd(opCtx, mine...)})
		done()
		if err != nil {
			return fmt.Errorf("leave %d rooms: %w", len(leave), cacheError(err))
		}
	}
	return nil
}

func (t *Routes) enterRooms(ctx context.Context, node im.NodeID, convs []im.ConversationID) error {
	ctx, done := t.redis.op(ctx, "enter_rooms")
	defer done()
	now, err := t.microseconds(ctx)
	if err != nil {
		return err
	}
	cmds := make([]command, 0, len(convs))
	mine := []any{"zadd", nodeRoomsKey(node)}
	for _, c := range convs {
		mine = append(mine, now, string(c))
	}
	lists := []command{redis.NewIntCmd(ctx, "zadd", keyRooms, now, string(node)), redis.NewIntCmd(ctx, mine...)}
	for _, c := range convs {
		cmds = append(cmds, redis.NewIntCmd(ctx, "zadd", roomKey(c), now, string(node)))
	}
	return cacheError(t.redis.inOrder(ctx, lists, cmds))
}

// microseconds is Redis's clock.
func (t *Routes) microseconds(ctx context.Context) (string, error) {
	now := t.redis.clock(ctx)
	if err := t.redis.exec(ctx, now.command); err != nil {
		return "", cacheError(err)
	}
	return strconv.FormatInt(now.at().UnixMicro(), 10), nil
}

// SweepRooms takes dead nodes out of the registries they had entered, 4,096 entries a
// call at most, and returns how many went. Any number of peers may sweep at once. The
// clock is read before the leases, and what was entered later than that stays: a node
// that has renewed its lease since finds it lapsed (RouteChange), and enters
// everything anew [S21].
func (t *Routes) SweepRooms(ctx context.Context) (int, error) {
	gone := 0
	opCtx, done := t.redis.op(ctx, "sweep_rooms")
	defer done()
	before, err := t.microseconds(opCtx)
	if err != nil {
		return 0, fmt.Errorf("sweep rooms: %w", err)
	}
	entered := redis.NewStringSliceCmd(opCtx, "zrangebyscore", keyRooms, "-inf", "("+before)
	if err := t.redis.exec(opCtx, entered); err != nil {
		return 0, fmt.Errorf("sweep rooms: %w", cacheError(err))
	}
	live, err := t.askNodes(opCtx, nil)
	if err != nil {
		return 0, fmt.Errorf("sweep rooms: %w", err)
	}
	for _, name := range entered.Val() {
		for all := false; !live[im.NodeID(name)] && !all; {
			if gone >= sweepRooms {
				return gone, nil
			}
			var n int
			if n, all, err = t.sweepNode(ctx, im.NodeID(name), before); err != nil {
				return gone, fmt.Errorf("sweep rooms of node %s: %w", name, err)
			}
			gone += n
		}
	}
	return gone, nil
}

// sweepNode takes some of a dead node's entries away; all: there are no more.
func (t *Routes) sweepNode(ctx context.Context, node im.NodeID, before string) (gone int, all bool, err error) {
	ctx, done := t.redis.op(ctx, "sweep_rooms")
	defer done()
	mine := redis.NewStringSliceCmd(ctx, "zrangebyscore", nodeRoomsKey(node), "-inf", "("+before, "limit", "0", projectBatch)
	if err := t.redis.exec(ctx, mine); err != nil {
		return 0, false, cacheError(err)
	}
	convs := mine.Val()
	cmds := make([]command, 0, len(convs)+1)
	for _, c := range convs {
		cmds = append(cmds, eval(ctx, leaveScript, []string{roomKey(im.ConversationID(c))}, before, string(node)))
	}
	if len(convs) > 0 {
		// Only now from the list: a sweeper that dies leaves the rest to the next.
		if err := t.redis.exec(ctx, cmds...); err != nil {
			return 0, false, cacheError(err)
		}
		for _, cmd := range cmds {
			n, _ := cmd.(*redis.Cmd).Int()
			gone += n
		}
		cmds = []command{eval(ctx, leaveScript, []string{nodeRoomsKey(node)}, append([]string{before}, convs...)...)}
	}
	var last []command
	if all = len(convs) < projectBatch; all {
		last = append(last, eval(ctx, leaveScript, []string{keyRooms}, before, string(node)))
	}
	return gone, all, cacheError(t.redis.inOrder(ctx, cmds, last))
}

// noteLapsed remembers nodes that have no lease any more at a time, until they are told.
func (t *Routes) noteLapsed(nodes map[im.NodeID]*redis.FloatCmd, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, until := range nodes {
		if until.Val() <= float64(at.UnixMilli()) {
			t.lapsed[n] = true
		}
	}
}

func (t *Routes) takeLapsed(node im.NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.lapsed[node]
	delete(t.lapsed, node)
	return was
}
