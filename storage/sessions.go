package storage

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	sessionTTL = 90 * time.Second // three renewals
	nodeLease  = 30 * time.Second // a node that was killed is forgotten after it
	nodesFresh = time.Second      // how old the known set of live nodes may be
)

// Routes knows who is connected where. An entry counts while it was renewed within
// 90 s and its node within 30 s, both by Redis's clock.
type Routes struct {
	redis *Redis

	mu    sync.Mutex         // guards what follows
	live  map[im.NodeID]bool // as of asked
	dead  map[im.NodeID]bool // looked for and not found, as of asked
	asked time.Time
}

// NewRoutes makes Routes.
func NewRoutes(r *Redis) *Routes { return &Routes{redis: r} }

// Register enters sessions, and their nodes as live. It returns the sessions of
// the same user and device that were replaced.
func (t *Routes) Register(ctx context.Context, sessions []im.SessionRef) ([]im.SessionRef, error) {
	replaced, err := t.enter(ctx, "", sessions, true)
	if err != nil {
		return nil, fmt.Errorf("register %d sessions: %w", len(sessions), err)
	}
	return replaced, nil
}

// Renew keeps the node's lease and its entries alive, and restores lost ones. A
// device that a newer session has taken is left to it.
func (t *Routes) Renew(ctx context.Context, node im.NodeID, sessions []im.SessionRef) error {
	if _, err := t.enter(ctx, node, sessions, false); err != nil {
		return fmt.Errorf("renew %d sessions: %w", len(sessions), err)
	}
	return nil
}

func (t *Routes) enter(ctx context.Context, node im.NodeID, sessions []im.SessionRef, take bool) ([]im.SessionRef, error) {
	if err := t.lease(ctx, node, sessions); err != nil {
		return nil, err
	}
	users, order := byUser(sessions)
	var replaced []im.SessionRef
	for len(order) > 0 {
		n := min(len(order), projectBatch)
		cmds := make([]command, n)
		for i, u := range order[:n] {
			args := append(make([]string, 0, 2+2*len(users[u])), strconv.FormatInt(sessionTTL.Milliseconds(), 10), flag(take))
			for _, s := range users[u] {
				args = append(args, string(s.Device), sessionEntry(s))
			}
			cmds[i] = eval(ctx, registerScript, []string{sessionsKey(u)}, args...)
		}
		opCtx, done := t.redis.op(ctx, "register")
		err := t.redis.exec(opCtx, cmds...)
		done()
		if err != nil {
			return nil, cacheError(err)
		}
		for i, u := range order[:n] {
			reply, err := cmds[i].(*redis.Cmd).StringSlice()
			if err != nil {
				return nil, cacheError(err)
			}
			for ; len(reply) >= 2; reply = reply[2:] {
				session, node, _ := strings.Cut(reply[1], "|")
				replaced = append(replaced, im.SessionRef{
					User: u, Device: im.DeviceID(reply[0]), Session: im.SessionID(session), Node: im.NodeID(node),
				})
			}
		}
		order = order[n:]
	}
	return replaced, nil
}

// lease enters nodes as live before any of their sessions: who sees a session
// finds its node. The expired are swept along.
func (t *Routes) lease(ctx context.Context, node im.NodeID, sessions []im.SessionRef) error {
	ctx, done := t.redis.op(ctx, "lease")
	defer done()
	now := redis.NewTimeCmd(ctx, "time")
	if err := t.redis.exec(ctx, now); err != nil {
		return cacheError(err)
	}
	nodes := map[im.NodeID]bool{}
	if node != "" {
		nodes[node] = true
	}
	for _, s := range sessions {
		nodes[s.Node] = true
	}
	if len(nodes) == 0 {
		return nil
	}
	add := []any{"zadd", keyNodes}
	for n := range nodes {
		add = append(add, now.Val().Add(nodeLease).UnixMilli(), string(n))
	}
	return cacheError(t.redis.exec(ctx, redis.NewIntCmd(ctx, add...),
		redis.NewIntCmd(ctx, "zremrangebyscore", keyNodes, "-inf", now.Val().UnixMilli())))
}

// Remove deletes entries, each only if it is still that session's [S16].
func (t *Routes) Remove(ctx context.Context, sessions []im.SessionRef) error {
	users, order := byUser(sessions)
	for len(order) > 0 {
		n := min(len(order), projectBatch)
		cmds := make([]command, n)
		for i, u := range order[:n] {
			args := make([]string, 0, 2*len(users[u]))
			for _, s := range users[u] {
				args = append(args, string(s.Device), sessionEntry(s))
			}
			cmds[i] = eval(ctx, unregisterScript, []string{sessionsKey(u)}, args...)
		}
		opCtx, done := t.redis.op(ctx, "unregister")
		err := t.redis.exec(opCtx, cmds...)
		done()
		if err != nil {
			return fmt.Errorf("remove %d sessions: %w", len(sessions), cacheError(err))
		}
		order = order[n:]
	}
	return nil
}

// Sessions returns the live sessions of users; who has none is left out.
func (t *Routes) Sessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	out := make(map[im.UserID][]im.SessionRef, len(users))
	for len(users) > 0 {
		n := min(len(users), projectBatch)
		if err := t.read(ctx, users[:n], out); err != nil {
			return nil, fmt.Errorf("sessions of %d users: %w", len(users), err)
		}
		users = users[n:]
	}
	return out, nil
}

func (t *Routes) read(ctx context.Context, users []im.UserID, out map[im.UserID][]im.SessionRef) error {
	opCtx, done := t.redis.op(ctx, "sessions")
	defer done()
	now := redis.NewTimeCmd(opCtx, "time")
	cmds := make([]command, 1, 1+len(users))
	cmds[0] = now
	for _, u := range users {
		cmds = append(cmds, redis.NewMapStringStringCmd(opCtx, "hgetall", sessionsKey(u)))
	}
	if err := t.redis.exec(opCtx, cmds...); err != nil {
		return cacheError(err)
	}
	nodes := map[im.NodeID]bool{}
	for i, u := range users {
		for device, entry := range cmds[1+i].(*redis.MapStringStringCmd).Val() {
			f := strings.Split(entry, "|")
			if len(f) != 3 || int64(parseNumber(f[2])) <= now.Val().UnixMilli() {
				continue
			}
			ref := im.SessionRef{User: u, Device: im.DeviceID(device), Session: im.SessionID(f[0]), Node: im.NodeID(f[1])}
			out[u] = append(out[u], ref)
			nodes[ref.Node] = true
		}
	}
	live, err := t.liveNodes(opCtx, nodes)
	if err != nil {
		return err
	}
	for _, u := range users {
		refs := out[u]
		kept := refs[:0]
		for _, ref := range refs {
			if live[ref.Node] {
				kept = append(kept, ref)
			}
		}
		if out[u] = kept; len(kept) == 0 {
			delete(out, u)
		}
	}
	return nil
}

// liveNodes says which of the nodes hold a lease, from a copy at most a second old.
// A node that the copy does not know yet is looked up at once: it has just started.
func (t *Routes) liveNodes(ctx context.Context, wanted map[im.NodeID]bool) (map[im.NodeID]bool, error) {
	t.mu.Lock()
	live := t.live
	fresh := time.Since(t.asked) < nodesFresh
	for n := range wanted {
		fresh = fresh && (t.live[n] || t.dead[n])
	}
	t.mu.Unlock()
	if fresh || len(wanted) == 0 {
		return live, nil
	}
	asked := time.Now()
	now := redis.NewTimeCmd(ctx, "time")
	if err := t.redis.exec(ctx, now); err != nil {
		return nil, cacheError(err)
	}
	names := redis.NewStringSliceCmd(ctx, "zrangebyscore", keyNodes, "("+strconv.FormatInt(now.Val().UnixMilli(), 10), "+inf")
	if err := t.redis.exec(ctx, names); err != nil {
		return nil, cacheError(err)
	}
	live = make(map[im.NodeID]bool, len(names.Val()))
	for _, n := range names.Val() {
		live[im.NodeID(n)] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.asked) >= nodesFresh {
		t.dead = map[im.NodeID]bool{}
	}
	for n := range wanted {
		if !live[n] {
			t.dead[n] = true
		}
	}
	t.live, t.asked = live, asked
	return live, nil
}

func sessionEntry(s im.SessionRef) string { return string(s.Session) + "|" + string(s.Node) }

func byUser(sessions []im.SessionRef) (map[im.UserID][]im.SessionRef, []im.UserID) {
	users := make(map[im.UserID][]im.SessionRef, len(sessions))
	var order []im.UserID
	for _, s := range sessions {
		if users[s.User] == nil {
			order = append(order, s.User)
		}
		users[s.User] = append(users[s.User], s)
	}
	return users, order
}
