package storage

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// RedisConfig says where Redis is and how much of it one process takes. A zero
// field means the default.
type RedisConfig struct {
	// Addr is host:port; of a cluster, those of some of its nodes with commas between, from
	// which the others are learnt. Default 127.0.0.1:6379.
	Addr string
	// Cluster says that it is a Redis Cluster, of version 7.0 or later. Several addresses
	// say so as well; a single one may be a cluster's too.
	Cluster bool
	// Username and Password of the ACL user; it needs what
	// scripts/services.d/redis.conf gives to curlew. Default: none.
	Username string
	Password string
	// Database is the number to SELECT. Default 0, the only one a cluster has.
	Database int
	// PoolSize bounds the connections of this process, to each master. Default 32: pipelines keep
	// each busy for well under a millisecond, and Redis has one thread.
	PoolSize int
	// Timeout bounds one operation: waiting for a connection, dialling, writing and
	// reading together. Default 1 s, so that a frozen Redis leaves 4 of a send's 5 s.
	Timeout time.Duration
	// Rebuilds bounds the reads of whole users from MySQL at the same time, for
	// rebuilding and for answering while Redis is away. Default 8, a fraction of the
	// MySQL pool; 128 times as many wait, more are refused as overloaded.
	Rebuilds int
	// ProfileCache bounds the profiles kept in this process. Default 100,000, about
	// 20 MB.
	ProfileCache int
}

// WithDefaults fills zero fields in.
func (c RedisConfig) WithDefaults() RedisConfig {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:6379"
	}
	c.Cluster = c.Cluster || len(c.addrs()) > 1
	if c.PoolSize == 0 {
		c.PoolSize = 32
	}
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Rebuilds == 0 {
		c.Rebuilds = 8
	}
	if c.ProfileCache == 0 {
		c.ProfileCache = 100_000
	}
	return c
}

func (c RedisConfig) addrs() []string { return strings.Split(c.Addr, ",") }

// Validate names the field that cannot be, after WithDefaults.
func (c RedisConfig) Validate() error {
	switch {
	case c.Database < 0:
		return fmt.Errorf("storage.redis.database: %d is below 0", c.Database)
	case c.Database > 0 && c.Cluster:
		return fmt.Errorf("storage.redis.database: %d; a cluster has only 0", c.Database)
	case slices.Contains(c.addrs(), ""):
		return fmt.Errorf("storage.redis.addr: %q has an empty one", c.Addr)
	case c.PoolSize < 4:
		return fmt.Errorf("storage.redis.pool_size: %d is below 4", c.PoolSize)
	case c.Timeout < 50*time.Millisecond || c.Timeout > 2*time.Second:
		return fmt.Errorf("storage.redis.timeout: %s is not within 50ms to 2s", c.Timeout)
	case c.Rebuilds < 1:
		return fmt.Errorf("storage.redis.rebuilds: %d is below 1", c.Rebuilds)
	case c.ProfileCache < 100:
		return fmt.Errorf("storage.redis.profile_cache: %d is below 100", c.ProfileCache)
	}
	return nil
}
