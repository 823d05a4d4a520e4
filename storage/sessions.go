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
	"github.com/curlew-im/curlew/logic/im/joint"
)

const (
	sessionTTL = 90 * time.Second // three renewals
	nodeLease  = 25 * time.Second // two renewals may fail; who was on a node that was killed is offline within 30 s
	nodesFresh = time.Second      // how old the known set of live nodes may be
	seenField  = "~seen"          // of a user's sessions: when the last one went
)

// Routes knows who is connected where. An entry counts while it was renewed within
// 90 s and its node within 25 s, both by Redis's clock.
type Routes struct {
	redis *Redis
	asks  *joint.Call[[]im.UserID, map[im.UserID][]im.SessionRef]

	mu     sync.Mutex         // guards what follows
	live   map[im.NodeID]bool // as of asked
	dead   map[im.NodeID]bool // looked for and not found, as of asked
	asked  time.Time
	lapsed map[im.NodeID]bool // of those that this process renews: had no lease, and were not told yet
}

// NewRoutes makes Routes.
func NewRoutes(r *Redis) *Routes {
	t := &Routes{redis: r, lapsed: map[im.NodeID]bool{}}
	t.asks = joinUsers(t.readSessions)
	return t
}

// Register enters sessions, and their nodes as live. They take the places of others
// as their policies say. Who would have more than perUser devices (0 or less: any
// number) is refused.
func (t *Routes) Register(ctx context.Context, sessions []im.SessionRef, perUser int) (im.RouteChange, error) {
	c, err := t.enter(ctx, "", sessions, true, max(perUser, 0))
	if err != nil {
		return im.RouteChange{}, fmt.Errorf("register %d sessions: %w", len(sessions), err)
	}
	return c, nil
}

// Renew keeps the node's lease and its entries alive, and restores lost ones. What a
// newer session has taken is left to it: that session is Refused.
func (t *Routes) Renew(ctx context.Context, node im.NodeID, sessions []im.SessionRef) (im.RouteChange, error) {
	c, err := t.enter(ctx, node, sessions, false, 0)
	if err != nil {
		return im.RouteChange{}, fmt.Errorf("renew %d sessions: %w", len(sessions), err)
	}
	c.Lapsed = t.takeLapsed(node)
	return c, nil
}

func (t *Routes) enter(ctx context.Context, node im.NodeID, sessions []im.SessionRef, take bool, perUser int) (im.RouteChange, error) {
	change := im.RouteChange{Watchers: map[im.NodeID][]im.UserID{}}
	if err := t.lease(ctx, node, sessions); err != nil {
		return change, err
	}
	users, order := byUser(sessions)
	ttl := strconv.FormatInt(sessionTTL.Milliseconds(), 10)
	err := t.each(ctx, "register", order, func(ctx context.Context, u im.UserID) command {
		args := append(make([]string, 0, 3+5*len(users[u])), ttl, flag(take), strconv.Itoa(perUser))
		for _, s := range users[u] {
			args = append(args, string(s.Device), sessionEntry(s), s.Platform, strconv.FormatInt(s.Since, 10), string(s.Policy))
		}
		return eval(ctx, registerScript, []string{sessionsKey(u), watchersKey(u)}, args...)
	}, func(u im.UserID, reply []any) error {
		if len(reply) != 3 {
			return fmt.Errorf("register: a reply of %d parts", len(reply))
		}
		change.Replaced = appendRefs(change.Replaced, u, reply[0])
		change.Refused = appendRefs(change.Refused, u, reply[1])
		addWatchers(change.Watchers, u, reply[2])
		return nil
	})
	return change, err
}

// each makes one script call per user, many in a round trip, and reads the replies.
func (t *Routes) each(ctx context.Context, op string, users []im.UserID, call func(context.Context, im.UserID) command, read func(im.UserID, []any) error) error {
	for len(users) > 0 {
		n := min(len(users), projectBatch)
		opCtx, done := t.redis.op(ctx, op)
		cmds := make([]command, n)
		for i, u := range users[:n] {
			cmds[i] = call(opCtx, u)
		}
		err := t.redis.exec(opCtx, cmds...)
		done()
		for i := 0; err == nil && i < n; i++ {
			var reply []any
			if reply, err = cmds[i].(*redis.Cmd).Slice(); err == nil {
				err = read(users[i], reply)
			}
		}
		if err != nil {
			return cacheError(err)
		}
		users = users[n:]
	}
	return nil
}

// appendRefs reads {device, "session|node", …}.
func appendRefs(to []im.SessionRef, u im.UserID, part any) []im.SessionRef {
	for all := replyStrings(part); len(all) >= 2; all = all[2:] {
		session, node, _ := strings.Cut(all[1], "|")
		to = append(to, im.SessionRef{User: u, Device: im.DeviceID(all[0]), Session: im.SessionID(session), Node: im.NodeID(node)})
	}
	return to
}

func addWatchers(to map[im.NodeID][]im.UserID, u im.UserID, part any) {
	for _, node := range replyStrings(part) {
		to[im.NodeID(node)] = append(to[im.NodeID(node)], u)
	}
}

// replyStrings reads a part of a script's reply.
func replyStrings(part any) []string {
	items, _ := part.([]any)
	all := make([]string, 0, len(items))
	for _, item := range items {
		s, _ := item.(string)
		all = append(all, s)
	}
	return all
}

// lease enters nodes as live before any of their sessions: who sees a session
// finds its node. The expired are swept along.
func (t *Routes) lease(ctx context.Context, node im.NodeID, sessions []im.SessionRef) error {
	ctx, done := t.redis.op(ctx, "lease")
	defer done()
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
	clock := t.redis.clock(ctx)
	cmds := append(make([]command, 0, 1+len(nodes)), clock.command)
	had := make(map[im.NodeID]*redis.FloatCmd, len(nodes))
	for n := range nodes {
		had[n] = redis.NewFloatCmd(ctx, "zscore", keyNodes, string(n))
		cmds = append(cmds, had[n])
	}
	if err := t.redis.exec(ctx, cmds...); err != nil {
		return cacheError(err)
	}
	now := clock.at()
	// What ends before this call must end may have ended when the new lease begins.
	t.noteLapsed(had, now.Add(t.redis.cfg.Timeout))
	add := []any{"zadd", keyNodes}
	for n := range nodes {
		add = append(add, now.Add(nodeLease).UnixMilli(), string(n))
	}
	return cacheError(t.redis.exec(ctx, redis.NewIntCmd(ctx, add...),
		redis.NewIntCmd(ctx, "zremrangebyscore", keyNodes, "-inf", now.UnixMilli())))
}

// Remove deletes entries, each only if it is still that session's [S16]. It returns
// the nodes that watch those users.
func (t *Routes) Remove(ctx context.Context, sessions []im.SessionRef) (map[im.NodeID][]im.UserID, error) {
	watchers := map[im.NodeID][]im.UserID{}
	users, order := byUser(sessions)
	ttl := strconv.FormatInt(sessionTTL.Milliseconds(), 10)
	err := t.each(ctx, "unregister", order, func(ctx context.Context, u im.UserID) command {
		args := append(make([]string, 0, 1+2*len(users[u])), ttl)
		for _, s := range users[u] {
			args = append(args, string(s.Device), sessionEntry(s))
		}
		return eval(ctx, unregisterScript, []string{sessionsKey(u), watchersKey(u)}, args...)
	}, func(u im.UserID, reply []any) error {
		addWatchers(watchers, u, reply)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("remove %d sessions: %w", len(sessions), err)
	}
	return watchers, nil
}

// Sessions returns the live sessions of users; who has none is left out. It may hold others,
// since those who ask at the same time, strands and who connects, are answered together: it
// is not to be written.
func (t *Routes) Sessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	return t.asks.Do(ctx, users)
}

func (t *Routes) readSessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	out := make(map[im.UserID][]im.SessionRef, len(users))
	err := t.read(ctx, users, func(u im.UserID, live, _ []routeEntry, _ int64) {
		for _, e := range live {
			out[u] = append(out[u], e.ref)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("sessions of %d users: %w", len(users), err)
	}
	return out, nil
}

// routeEntry is a session as Redis has it, and until when.
type routeEntry struct {
	ref  im.SessionRef
	ends int64
}

// read gives each user's entries on live nodes and on dead ones, and when the last
// one went (0: not known).
func (t *Routes) read(ctx context.Context, users []im.UserID, each func(u im.UserID, live, dead []routeEntry, seen int64)) error {
	for len(users) > 0 {
		n := min(len(users), projectBatch)
		if err := t.readSome(ctx, users[:n], each); err != nil {
			return err
		}
		users = users[n:]
	}
	return nil
}

func (t *Routes) readSome(ctx context.Context, users []im.UserID, each func(u im.UserID, live, dead []routeEntry, seen int64)) error {
	opCtx, done := t.redis.op(ctx, "sessions")
	defer done()
	clock := t.redis.clock(opCtx)
	cmds := append(make([]command, 0, 1+len(users)), clock.command)
	for _, u := range users {
		cmds = append(cmds, redis.NewMapStringStringCmd(opCtx, "hgetall", sessionsKey(u)))
	}
	if err := t.redis.exec(opCtx, cmds...); err != nil {
		return cacheError(err)
	}
	now := clock.at().UnixMilli()
	entries, seen, nodes := make([][]routeEntry, len(users)), make([]int64, len(users)), map[im.NodeID]bool{}
	for i, u := range users {
		for device, entry := range cmds[1+i].(*redis.MapStringStringCmd).Val() {
			if device == seenField {
				seen[i] = int64(parseNumber(entry))
				continue
			}
			f := strings.Split(entry, "|")
			if len(f) != 5 || int64(parseNumber(f[4])) <= now {
				continue
			}
			entries[i] = append(entries[i], routeEntry{im.SessionRef{User: u, Device: im.DeviceID(device), Session: im.SessionID(f[0]),
				Node: im.NodeID(f[1]), Platform: f[2], Since: int64(parseNumber(f[3]))}, int64(parseNumber(f[4]))})
			nodes[im.NodeID(f[1])] = true
		}
	}
	alive, err := t.liveNodes(opCtx, nodes)
	if err != nil {
		return err
	}
	for i, u := range users {
		var live, dead []routeEntry
		for _, e := range entries[i] {
			if alive[e.ref.Node] {
				live = append(live, e)
			} else {
				dead = append(dead, e)
			}
		}
		each(u, live, dead, seen[i])
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
	return t.askNodes(ctx, wanted)
}

// askNodes reads which nodes hold a lease.
func (t *Routes) askNodes(ctx context.Context, wanted map[im.NodeID]bool) (map[im.NodeID]bool, error) {
	asked := time.Now()
	now := t.redis.clock(ctx)
	if err := t.redis.exec(ctx, now.command); err != nil {
		return nil, cacheError(err)
	}
	names := redis.NewStringSliceCmd(ctx, "zrangebyscore", keyNodes, "("+strconv.FormatInt(now.at().UnixMilli(), 10), "+inf")
	if err := t.redis.exec(ctx, names); err != nil {
		return nil, cacheError(err)
	}
	live := make(map[im.NodeID]bool, len(names.Val()))
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
