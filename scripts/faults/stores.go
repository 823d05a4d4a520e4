package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// stores are a Redis, a MariaDB and a Kafka of this run's own.
type stores struct {
	root, data string
	ports      []string          // what scripts/services is told
	env        map[string]string // what it says of their addresses
	appendOnly string            // yes: Redis comes back with what it had logged
	admin      *sql.DB
	redis      *redis.Client // as the administrator
}

const database = "curlew_faults"

func openStores(ctx context.Context, root, data string) (*stores, error) {
	s := &stores{root: root, data: data, env: make(map[string]string), appendOnly: "no"}
	for _, name := range []string{"REDIS", "MYSQL", "KAFKA", "KAFKA_CONTROLLER"} {
		addr, err := ports.Find()
		if err != nil {
			return s, err
		}
		_, port, _ := net.SplitHostPort(addr) // just made
		s.ports = append(s.ports, "CURLEW_SERVICES_"+name+"_PORT="+port)
	}
	// Kafka's jars are what takes long: those that are there already are used.
	if jars := filepath.Join(root, "data", "services", "kafka", "lib"); exists(jars) {
		if err := os.MkdirAll(filepath.Join(data, "kafka"), 0o700); err != nil {
			return s, err
		}
		if err := os.Symlink(jars, filepath.Join(data, "kafka", "lib")); err != nil {
			return s, err
		}
	}
	if err := s.up(ctx); err != nil {
		return s, err
	}
	out, err := s.services(ctx, "env")
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		s.env[k] = strings.Trim(v, "'")
	}
	if s.admin, err = sql.Open("mysql", s.dsn("")); err != nil {
		return s, err
	}
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+database); err != nil {
		return s, err
	}
	s.redis = redis.NewClient(&redis.Options{
		Addr: s.env["CURLEW_REDIS_ADDR"], Username: "default", Password: s.env["CURLEW_REDIS_ADMIN_PASSWORD"],
		DisableIdentity: true, MaxRetries: 5,
	})
	return s, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// services runs scripts/services for our own stores.
func (s *stores) services(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.root, "scripts", "services"), command...)
	cmd.Env = append(foreign(), s.ports...)
	cmd.Env = append(cmd.Env, "CURLEW_SERVICES_DATA="+s.data, "CURLEW_SERVICES_MYSQL_MEMORY=256M",
		"CURLEW_SERVICES_KAFKA_HEAP=256m", "CURLEW_SERVICES_REDIS_MEMORY="+redisMemory, "CURLEW_SERVICES_REDIS_APPENDONLY="+s.appendOnly)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/services %v: %w\n%s", command, err, said.String())
	}
	return string(out), nil
}

// redisMemory is maxmemory where no fault says otherwise.
const redisMemory = "512mb"

// up starts stores, all without a name, and waits until they answer.
func (s *stores) up(ctx context.Context, names ...string) error {
	_, err := s.services(ctx, append([]string{"up"}, names...)...)
	return err
}

// kill, pause and resume are SIGKILL, SIGSTOP and SIGCONT.
func (s *stores) kill(ctx context.Context, name string) error {
	_, err := s.services(ctx, "kill", name)
	return err
}

func (s *stores) pause(ctx context.Context, name string) error {
	_, err := s.services(ctx, "pause", name)
	return err
}

func (s *stores) resume(ctx context.Context, name string) error {
	_, err := s.services(ctx, "resume", name)
	return err
}

// dsn reaches a database, at addr where it is not empty, as an account that may do
// what a run does.
func (s *stores) dsn(addr string) string {
	cfg, err := mysql.ParseDSN(s.env["CURLEW_MYSQL_ADMIN_DSN"])
	if err != nil {
		panic(err) // scripts/services made it
	}
	cfg.DBName = ""
	if addr != "" {
		cfg.Addr, cfg.DBName = addr, database
	}
	return cfg.FormatDSN()
}

// addr is where a store listens: redis, mysql or kafka.
func (s *stores) addr(name string) string {
	switch name {
	case "redis":
		return s.env["CURLEW_REDIS_ADDR"]
	case "mysql":
		cfg, err := mysql.ParseDSN(s.env["CURLEW_MYSQL_ADMIN_DSN"])
		if err != nil {
			panic(err) // scripts/services made it
		}
		return cfg.Addr
	default:
		return s.env["CURLEW_KAFKA_ADDRS"]
	}
}

// environment is what a process of the engine is told of the stores, reached at the
// given addresses.
func (s *stores) environment(redis, mysql, kafka string) []string {
	dsn := s.dsn(mysql)
	return append(foreign(),
		"CURLEW_REDIS_ADDR="+redis,
		"CURLEW_REDIS_USER="+s.env["CURLEW_REDIS_USER"],
		"CURLEW_REDIS_PASSWORD="+s.env["CURLEW_REDIS_PASSWORD"],
		"CURLEW_MYSQL_DSN="+dsn, "CURLEW_MYSQL_ADMIN_DSN="+dsn,
		"CURLEW_KAFKA_ADDRS="+kafka,
	)
}

// foreign is our own environment without what is said to Curlew.
func foreign() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CURLEW_") {
			env = append(env, kv)
		}
	}
	return env
}

// exec runs a statement in our database.
func (s *stores) exec(ctx context.Context, statement string) error {
	conn, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "USE "+database); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, statement)
	return err
}

// lock keeps everybody from inserting into some conversations until the returned function
// is called.
func (s *stores) lock(ctx context.Context, convs []*conv) (unlock func() error, err error) {
	// It must reach past the last row: at READ COMMITTED gaps are not locked.
	tx, err := s.admin.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, err
	}
	for _, c := range convs {
		if _, err := tx.ExecContext(ctx, "SELECT seq FROM "+database+".messages WHERE conversation = ? FOR UPDATE", string(c.id)); err != nil {
			return nil, errors.Join(err, tx.Rollback())
		}
	}
	return tx.Rollback, nil
}

// close ends the stores; their data goes with the folder.
func (s *stores) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.admin != nil {
		s.admin.Close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
	var first error
	for _, name := range []string{"redis", "mysql", "kafka"} { // nothing of theirs is kept
		if err := s.kill(ctx, name); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func random() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}
