package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// Presence reads who is online, from their sessions and the leases of the nodes that
// hold them. Who is offline was seen when the last session went, or when one on a
// node that has died was last renewed; not known 90 s later.
func (t *Routes) Presence(ctx context.Context, users []im.UserID) (map[im.UserID]im.Presence, error) {
	out := make(map[im.UserID]im.Presence, len(users))
	err := t.read(ctx, users, func(u im.UserID, live, dead []routeEntry, seen int64) {
		p := im.Presence{User: u, Online: len(live) > 0}
		for _, e := range live {
			p.Nodes = append(p.Nodes, e.ref.Node)
			if e.ref.Platform != "" {
				p.Platforms = append(p.Platforms, e.ref.Platform)
			}
		}
		if !p.Online {
			for _, e := range dead {
				seen = max(seen, e.ends-sessionTTL.Milliseconds())
			}
			p.SeenAt = seen
		}
		slices.Sort(p.Platforms)
		slices.Sort(p.Nodes)
		p.Platforms, p.Nodes = slices.Compact(p.Platforms), slices.Compact(p.Nodes)
		out[u] = p
	})
	if err != nil {
		return nil, fmt.Errorf("presence of %d users: %w", len(users), err)
	}
	return out, nil
}

// LiveNodes reads which nodes hold a lease now.
func (t *Routes) LiveNodes(ctx context.Context) (map[im.NodeID]bool, error) {
	ctx, done := t.redis.op(ctx, "live_nodes")
	defer done()
	return t.askNodes(ctx, nil)
}

// Watch enters a node among those that are told when the presence of users may have
// changed, or keeps it there for another 90 s.
func (t *Routes) Watch(ctx context.Context, node im.NodeID, users []im.UserID) error {
	ttl := strconv.FormatInt(sessionTTL.Milliseconds(), 10)
	return t.watching(ctx, "watch", users, func(ctx context.Context, u im.UserID) command {
		return eval(ctx, watchScript, []string{watchersKey(u)}, ttl, string(node))
	})
}

// Unwatch takes a node out again.
func (t *Routes) Unwatch(ctx context.Context, node im.NodeID, users []im.UserID) error {
	return t.watching(ctx, "unwatch", users, func(ctx context.Context, u im.UserID) command {
		return redis.NewIntCmd(ctx, "zrem", watchersKey(u), string(node))
	})
}

func (t *Routes) watching(ctx context.Context, op string, users []im.UserID, call func(context.Context, im.UserID) command) error {
	for part := range slices.Chunk(users, projectBatch) {
		opCtx, done := t.redis.op(ctx, op)
		cmds := make([]command, len(part))
		for i, u := range part {
			cmds[i] = call(opCtx, u)
		}
		err := t.redis.exec(opCtx, cmds...)
		done()
		if err != nil {
			return fmt.Errorf("%s %d users: %w", op, len(users), cacheError(err))
		}
	}
	return nil
}
