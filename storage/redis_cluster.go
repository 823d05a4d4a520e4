package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// What a Redis Cluster changes, and a single server does not pay for: keys of several
// slots are on several servers, which no pipeline reaches in order and no clock joins.
//
// The generation [S11] stays one token under one key, on one of the masters. Beside it
// stand the lives of all masters, and no connection to a master is used before its life
// is among them: one that is not, since the master was restarted, replaced by a replica
// or has joined, makes a new generation for all. So what is read under a token is
// complete if the token is read after it: a connection that was made meanwhile to
// another life has changed it by then.

// redisCluster is what a client of a cluster has beside its connections.
type redisCluster struct {
	*redis.ClusterClient
	// lives reads and writes the key of the generation for connections that are being
	// made, with connections of its own that are not checked themselves: a token that it
	// has read is trusted by nobody.
	lives *redis.ClusterClient
}

func openRedisCluster(o *redis.Options, addrs []string) *redisCluster {
	cluster := func(poolSize int, onConnect func(context.Context, *redis.Conn) error) *redis.ClusterClient {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: addrs, Username: o.Username, Password: o.Password, OnConnect: onConnect,
			Protocol: o.Protocol, DisableIdentity: o.DisableIdentity, MaintNotificationsConfig: o.MaintNotificationsConfig,
			MaxRedirects: 3, MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
			DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries,
			ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, PoolTimeout: o.PoolTimeout, ContextTimeoutEnabled: true,
			PoolSize: poolSize, MaxActiveConns: poolSize, MaxIdleConns: poolSize, ConnMaxIdleTime: o.ConnMaxIdleTime,
		})
	}
	return &redisCluster{ClusterClient: cluster(o.PoolSize, o.OnConnect), lives: cluster(2, nil)}
}

func (c *redisCluster) Close() error { return errors.Join(c.ClusterClient.Close(), c.lives.Close()) }

// eachMaster calls f for the server, or for every master of a cluster at the same time.
func (r *Redis) eachMaster(ctx context.Context, f func(ctx context.Context, c *redis.Client) error) error {
	if r.cluster == nil {
		return f(ctx, r.client.(*redis.Client))
	}
	return r.cluster.ForEachMaster(ctx, f)
}

// identities are the lives of all servers, sorted.
func (r *Redis) identities(ctx context.Context) (lives []string, err error) {
	var mu sync.Mutex // guards lives
	err = r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		life, err := r.gen.identify(ctx, c)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		lives = append(lives, life)
		return nil
	})
	slices.Sort(lives)
	return lives, err
}

// inOrder executes stages so that who sees what a later one wrote sees what an earlier
// one wrote: in one round trip, on a cluster in one for each.
func (r *Redis) inOrder(ctx context.Context, stages ...[]command) error {
	if r.cluster == nil {
		return r.exec(ctx, slices.Concat(stages...)...)
	}
	for _, cmds := range stages {
		if len(cmds) == 0 {
			continue
		}
		if err := r.exec(ctx, cmds...); err != nil {
			return err
		}
	}
	return nil
}

// vouched reads keys, and the generation that is to vouch for them.
func (r *Redis) vouched(ctx context.Context, token command, reads ...command) error {
	if r.cluster == nil {
		return r.exec(ctx, append([]command{token}, reads...)...)
	}
	return r.inOrder(ctx, reads, []command{token})
}

// instant reads keys of one slot at one instant, and the generation that is to vouch
// for them. Each read is a command that replies with a list of strings.
func (r *Redis) instant(ctx context.Context, token command, reads ...[]any) ([][]string, error) {
	all := make([][]string, len(reads))
	if r.cluster == nil {
		// MULTI written out, because the generation lives in another slot.
		cmds := []command{redis.NewStatusCmd(ctx, "multi")}
		for _, read := range reads {
			cmds = append(cmds, redis.NewStatusCmd(ctx, read...))
		}
		exec := redis.NewSliceCmd(ctx, "exec")
		if err := r.vouched(ctx, token, append(cmds, exec)...); err != nil {
			return nil, err
		}
		for i := range all {
			all[i] = texts(exec, i)
		}
		return all, nil
	}
	if err := r.breaker.allow(); err != nil {
		return nil, err
	}
	cmds := make([]*redis.StringSliceCmd, len(reads))
	_, err := r.cluster.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i, read := range reads {
			cmds[i] = redis.NewStringSliceCmd(ctx, read...)
			_ = p.Process(ctx, cmds[i]) // queued
		}
		return nil
	})
	r.breaker.report(err)
	if err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		all[i] = cmd.Val()
	}
	return all, r.exec(ctx, token)
}

// clock is a reading of Redis's clock in the making: on a cluster of the master that
// keeps the leases of nodes, since masters' clocks differ and what is compared with one
// reading was written under another. What a script on another master compares with its
// own clock lasts 90 s; masters are to keep the same time within a few seconds.
type clock struct{ command }

func (r *Redis) clock(ctx context.Context) clock {
	if r.cluster == nil {
		return clock{redis.NewTimeCmd(ctx, "time")}
	}
	return clock{eval(ctx, clockScript, []string{keyNodes})}
}

// at is the reading; zero where there was no answer.
func (c clock) at() time.Time {
	if cmd, ok := c.command.(*redis.TimeCmd); ok {
		return cmd.Val()
	}
	v, _ := c.command.(*redis.Cmd).StringSlice() // no answer reads as none
	if len(v) != 2 {
		return time.Time{}
	}
	s, err1 := strconv.ParseInt(v[0], 10, 64)
	us, err2 := strconv.ParseInt(v[1], 10, 64)
	if err1 != nil || err2 != nil {
		return time.Time{}
	}
	return time.Unix(s, us*int64(time.Microsecond))
}

// emptied counts how often a master was emptied by a command. On a single server that
// takes the generation along; here it is part of the master's life.
func emptied(info string) string {
	var n int64
	for _, name := range []string{"cmdstat_flushall", "cmdstat_flushdb"} {
		calls, _, _ := strings.Cut(strings.TrimPrefix(infoField(info, name), "calls="), ",")
		v, _ := strconv.ParseInt(calls, 10, 64) // not there: never called
		n += v
	}
	return fmt.Sprintf("emptied %d", n)
}
