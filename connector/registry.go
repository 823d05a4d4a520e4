package connector

import (
	"sync"

	"github.com/curlew-im/curlew/logic/im"
)

const registryShards = 64

// registry finds the connections of a user on this node. A user's connections are
// linked through conn.next: most have one, and pay for a map entry alone.
type registry struct {
	shards [registryShards]registryShard
}

type registryShard struct {
	mu    sync.RWMutex // guards users and the conn.next of their connections
	users map[im.UserID]*conn
}

func newRegistry() *registry {
	r := &registry{}
	for i := range r.shards {
		r.shards[i].users = make(map[im.UserID]*conn)
	}
	return r
}

func (r *registry) shard(u im.UserID) *registryShard { return &r.shards[u%registryShards] }

// add enters c and takes out the connection of the same device, which it returns
// (nil: none) [P11]. A user who has max others already (negative: no limit) gets no
// further one.
func (r *registry) add(c *conn, max int) (replaced *conn, ok bool) {
	s := c.session.Load()
	sh := r.shard(s.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := 0
	for o := sh.users[s.User]; o != nil; o = o.next {
		if o.session.Load().Device == s.Device {
			replaced = o
		} else {
			n++
		}
	}
	if max >= 0 && n >= max {
		return nil, false
	}
	if replaced != nil {
		sh.unlink(s.User, replaced)
	}
	c.next = sh.users[s.User]
	sh.users[s.User] = c
	return replaced, true
}

// remove takes c out and says whether it was in.
func (r *registry) remove(c *conn) bool {
	u := c.session.Load().User
	sh := r.shard(u)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.unlink(u, c)
}

func (sh *registryShard) unlink(u im.UserID, c *conn) bool {
	if sh.users[u] == c {
		if c.next == nil {
			delete(sh.users, u)
		} else {
			sh.users[u] = c.next
		}
		c.next = nil
		return true
	}
	for o := sh.users[u]; o != nil; o = o.next {
		if o.next == c {
			o.next, c.next = c.next, nil
			return true
		}
	}
	return false
}

// of appends u's connections to to.
func (r *registry) of(u im.UserID, to []*conn) []*conn {
	sh := r.shard(u)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for c := sh.users[u]; c != nil; c = c.next {
		to = append(to, c)
	}
	return to
}

// has says whether u has a connection here.
func (r *registry) has(u im.UserID) bool {
	sh := r.shard(u)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.users[u] != nil
}

// usersInShard appends the users of one shard to to.
func (r *registry) usersInShard(i int, to []im.UserID) []im.UserID {
	sh := &r.shards[i]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for u := range sh.users {
		to = append(to, u)
	}
	return to
}

// inShard appends the connections of one shard to to.
func (r *registry) inShard(i int, to []*conn) []*conn {
	sh := &r.shards[i]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for _, c := range sh.users {
		for ; c != nil; c = c.next {
			to = append(to, c)
		}
	}
	return to
}
