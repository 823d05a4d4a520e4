package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// replica is a Redis that follows the run's own, through a link.
type replica struct {
	addr  string
	redis *redis.Client // as the administrator
	link  *link         // to the primary
	cmd   *exec.Cmd
	gone  chan struct{}
}

// replicate starts a replica and waits until it has everything.
func (s *stores) replicate(ctx context.Context) (r *replica, err error) {
	addr, err := ports.Find()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr) // just made
	dir := filepath.Join(s.services.Data, "redis", port)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// By the services' own configuration: once promoted it is theirs.
	cmd := exec.Command("redis-server", filepath.Join(s.services.Data, "redis", "redis.conf"), "--port", port, "--dir", dir,
		"--logfile", filepath.Join(dir, "redis.log"), "--appendonly", "no")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r = &replica{addr: addr, redis: s.redisAt(addr), cmd: cmd, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // killed, by us
		close(r.gone)
	}()
	defer func() {
		if err != nil {
			r.end()
		}
	}()
	if r.link, err = newLink(s.addr("redis")); err != nil {
		return nil, err
	}
	if err := insistently(ctx, func() error { return r.redis.Ping(ctx).Err() }); err != nil {
		return nil, fmt.Errorf("a replica of Redis does not answer: %w", err)
	}
	host, from, _ := net.SplitHostPort(r.link.addr()) // as it listens
	for _, set := range []error{
		s.redis.ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err(),
		r.redis.ConfigSet(ctx, "masterauth", s.env["CURLEW_REDIS_ADMIN_PASSWORD"]).Err(),
		r.redis.Do(ctx, "REPLICAOF", host, from).Err(),
	} {
		if set != nil {
			return nil, set
		}
	}
	return r, insistently(ctx, func() error {
		info, err := r.redis.InfoMap(ctx, "replication").Result()
		if err == nil && info["Replication"]["master_link_status"] != "up" {
			err = errors.New("a replica of Redis has not caught up")
		}
		return err
	})
}

// lose takes the primary away from the replica, with what is on its way.
func (r *replica) lose() {
	r.link.freeze()
	r.link.cut()
	r.link.close()
}

// promote kills the primary and has the replica be the services' Redis in its place.
func (s *stores) promote(ctx context.Context, r *replica) error {
	if err := s.kill(ctx, "redis"); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(r.addr) // as it listens
	dir := filepath.Join(s.services.Data, "redis")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "redis.pid"), []byte(strconv.Itoa(r.cmd.Process.Pid)+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "port"), []byte(port+"\n"), 0o600),
	); err != nil {
		return err
	}
	const name = "CURLEW_SERVICES_REDIS_PORT="
	env := slices.DeleteFunc(slices.Clone(s.services.Env), func(kv string) bool { return strings.HasPrefix(kv, name) })
	s.services.Env = append(env, name+port)
	s.env["CURLEW_REDIS_ADDR"] = r.addr
	s.redis.Close()
	s.redis, s.replica = r.redis, nil
	return nil
}

// end ends a replica that was not promoted.
func (r *replica) end() {
	r.redis.Close()
	if r.link != nil {
		r.link.close()
	}
	_ = r.cmd.Process.Kill() // gone already: as wished
	<-r.gone
}
