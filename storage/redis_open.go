package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/curlew-im/curlew/logic/im"
)

// Redis is one process's way to Redis: the pool, the breaker, the generation that
// stands, and the gatherer for the send path. Index, Projector and the other
// types over it hold no connection of their own.
type Redis struct {
	client  redis.UniversalClient
	cluster *redisCluster // client, where it is one
	cfg     RedisConfig
	log     *slog.Logger
	metrics *redisMetrics
	breaker *breaker
	gather  *gatherer
	gen     *generations
}

// OpenRedis prepares the pool and returns at once: Redis may be away, since
// everything in it can be done without for a while. Ping says whether it is there.
// identity stands in where the server cannot say which life of it this is
// (miniredis has no such INFO section); nil asks the server.
func OpenRedis(cfg RedisConfig, identity func(context.Context) (string, error), log *slog.Logger, reg prometheus.Registerer) (*Redis, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	logging.Disable() // a line to stderr for each failed dial; what it tells is returned as well
	m := newRedisMetrics(reg)
	r := &Redis{cfg: cfg, log: log, metrics: m}
	r.breaker = newBreaker(m)
	r.gen = newGenerations(identity, log, m)
	r.gather = newGatherer(r)
	options := &redis.Options{
		Addr:     cfg.Addr,
		Username: cfg.Username,
		Password: cfg.Password,
		DB:       cfg.Database,
		// No connection is used before it is known which life of Redis it leads to.
		OnConnect: r.gen.onConnect,

		Protocol:                 2,
		DisableIdentity:          true, // CVE-2025-29923
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},

		// Everything sent is idempotent (a raise, a token at worst), so one repeat over a
		// fresh connection hides a restart; more would only eat the deadline.
		MaxRetries:            1,
		MinRetryBackoff:       4 * time.Millisecond,
		MaxRetryBackoff:       16 * time.Millisecond,
		DialTimeout:           cfg.Timeout,
		DialerRetries:         1,
		ReadTimeout:           cfg.Timeout,
		WriteTimeout:          cfg.Timeout,
		PoolTimeout:           cfg.Timeout,
		ContextTimeoutEnabled: true,
		PoolSize:              cfg.PoolSize,
		MaxActiveConns:        cfg.PoolSize,
		MaxIdleConns:          cfg.PoolSize,
		ConnMaxIdleTime:       5 * time.Minute,
	}
	if addrs := cfg.addrs(); cfg.Cluster {
		r.cluster = openRedisCluster(options, addrs)
		r.client, r.gen.cluster = r.cluster, r.cluster
	} else {
		r.client = redis.NewClient(options)
	}
	return r, nil
}

// Run watches the generation and gathers the send path's commands until ctx ends.
// Without it Probe, Take and the watcher's promises do not hold.
func (r *Redis) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.gather.run(ctx)
	}()
	r.gen.run(ctx, r)
	<-done
	return nil
}

// Close drops the connections.
func (r *Redis) Close() error { return r.client.Close() }

// Ping says whether Redis answers, of a cluster every master, with what is wrong where it
// does not.
func (r *Redis) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
	if err != nil {
		return fmt.Errorf("ping redis at %s: %w", r.cfg.Addr, cacheError(err))
	}
	return nil
}

// Changed returns a channel that is closed at the next new generation.
func (r *Redis) Changed() <-chan struct{} { return r.gen.changed() }

// Reset sets a new generation: all that Redis holds is completed from MySQL before
// it is trusted again. For operators.
func (r *Redis) Reset(ctx context.Context) error {
	return r.gen.reset(ctx, r, "operator")
}

// op bounds one operation and measures it.
func (r *Redis) op(ctx context.Context, name string) (context.Context, func()) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	return ctx, func() {
		cancel()
		r.metrics.seconds.WithLabelValues(name).Observe(time.Since(start).Seconds())
	}
}

// cacheError marks an error of Redis as im.ErrCache and keeps the cause.
func cacheError(err error) error {
	if err == nil || errors.Is(err, im.ErrCache) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", im.ErrCache, err)
}
