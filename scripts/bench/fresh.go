package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// fresh has the engine start anew: on an empty database, an empty Redis and topics of
// its own, with these processes and settings. What was kept before is dropped.
func (e *engine) fresh(ctx context.Context, counts map[string]int, extra map[string]string) error {
	e.halt()
	_ = os.Remove(e.keys["logic.auth.keys_file"]) // the next one has another
	if err := e.stores.renew(ctx); err != nil {
		return fmt.Errorf("renew the stores: %w", err)
	}
	return e.open(ctx, counts, extra)
}

// halt stops the processes, the last first.
func (e *engine) halt() {
	for i := len(e.nodes) - 1; i >= 0; i-- {
		_ = e.nodes[i].cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, n := range e.nodes {
		_ = n.cmd.Wait() // told to end
		n.log.Close()
	}
	e.nodes, e.sockets, e.bases = nil, nil, nil
}

// renew goes on with another database, which gives the topics their names too, and an
// empty Redis.
func (s *stores) renew(ctx context.Context) error {
	if err := s.drop(ctx); err != nil {
		return err
	}
	s.database = databasePrefix + random()[:12]
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+s.database); err != nil {
		return err
	}
	return s.eachRedis(ctx, func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() })
}

// drop deletes the database and the topics of the run.
func (s *stores) drop(ctx context.Context) error {
	if s.database == "" {
		return nil
	}
	_, err := s.admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+s.database)
	return errors.Join(err, s.dropTopics(ctx, s.database+"."))
}

// dropTopics deletes the topics whose names begin with prefix.
func (s *stores) dropTopics(ctx context.Context, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := &kafka.Client{Addr: kafka.TCP(strings.Split(s.env["CURLEW_KAFKA_ADDRS"], ",")...)}
	meta, err := c.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return err
	}
	var names []string
	for _, t := range meta.Topics {
		if strings.HasPrefix(t.Name, prefix) {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	res, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: names})
	if err != nil {
		return err
	}
	for _, err := range res.Errors {
		if err != nil {
			return err
		}
	}
	return nil
}
