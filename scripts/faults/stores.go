package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/scripts/devtest/ports"
	"github.com/curlew-im/curlew/scripts/devtest/services"
)

// stores are a Redis, a MariaDB and a Kafka of this run's own, or clusters of the first and
// the last.
type stores struct {
	services services.Services
	env      map[string]string // their addresses
	admin    *sql.DB
	redis    *redis.Client        // as the administrator; of a cluster the first master
	masters  *redis.ClusterClient // nil: no cluster
	replica  *replica             // of Redis, while F11 has one that is not promoted
}

const database = "curlew_faults"

func openStores(ctx context.Context, root, data string, clustered bool) (*stores, error) {
	_ = mysql.SetLogger(log.New(io.Discard, "", 0)) // it is to be lost; never nil
	s := &stores{services: services.Services{Root: root, Data: data, Env: []string{
		"CURLEW_SERVICES_MYSQL_MEMORY=256M", "CURLEW_SERVICES_KAFKA_HEAP=256m", "CURLEW_SERVICES_TIMEOUT=240", "CURLEW_SERVICES_REDIS_MEMORY=" + redisMemory,
	}}}
	// Six for a cluster of Redis, and every second of twelve for brokers and controllers.
	first, err := ports.Row(13)
	if err != nil {
		return s, err
	}
	for name, after := range map[string]int{"REDIS": 0, "MYSQL": 6, "KAFKA": 7, "KAFKA_CONTROLLER": 8} {
		s.services.Env = append(s.services.Env, fmt.Sprintf("CURLEW_SERVICES_%s_PORT=%d", name, first+after))
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
	var names []string
	if clustered {
		names = []string{"--cluster"}
	}
	if err := s.up(ctx, names...); err != nil {
		return s, err
	}
	if s.env, err = s.services.Addresses(ctx); err != nil {
		return s, err
	}
	if s.admin, err = sql.Open("mysql", s.dsn("")); err != nil {
		return s, err
	}
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+database); err != nil {
		return s, err
	}
	addrs := strings.Split(s.env["CURLEW_REDIS_ADDR"], ",")
	s.redis = s.redisAt(addrs[0])
	if clustered {
		s.masters = redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: addrs, Username: "default", Password: s.env["CURLEW_REDIS_ADMIN_PASSWORD"], DisableIdentity: true,
		})
	}
	return s, nil
}

// redisAt reaches a Redis with our passwords as its administrator.
func (s *stores) redisAt(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, Username: "default", Password: s.env["CURLEW_REDIS_ADMIN_PASSWORD"],
		DisableIdentity: true, MaxRetries: 5,
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// redisMemory is maxmemory where no fault says otherwise.
const redisMemory = "512mb"

// up starts stores, all without a name, and waits until they answer.
func (s *stores) up(ctx context.Context, names ...string) error {
	_, err := s.services.Run(ctx, append([]string{"up"}, names...)...)
	return err
}

// logged starts a Redis again, with what it had logged where keep says so.
func (s *stores) logged(ctx context.Context, name, keep string) error {
	again := s.services
	again.Env = append(slices.Clone(again.Env), "CURLEW_SERVICES_REDIS_APPENDONLY="+keep)
	_, err := again.Run(ctx, "up", name)
	return err
}

// kill, pause and resume are SIGKILL, SIGSTOP and SIGCONT.
func (s *stores) kill(ctx context.Context, name string) error {
	_, err := s.services.Run(ctx, "kill", name)
	return err
}

func (s *stores) pause(ctx context.Context, name string) error {
	_, err := s.services.Run(ctx, "pause", name)
	return err
}

func (s *stores) resume(ctx context.Context, name string) error {
	_, err := s.services.Run(ctx, "resume", name)
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

// engineDSN reaches our database as the engine does.
func (s *stores) engineDSN() string {
	run, err := mysql.ParseDSN(s.env["CURLEW_MYSQL_DSN"])
	if err != nil {
		panic(err) // scripts/services made it
	}
	run.Addr, run.DBName = s.addr("mysql"), database
	return run.FormatDSN()
}

// environment is what a process of the engine is told of the stores, reached at the
// given addresses.
func (s *stores) environment(redis, record, kafka string) []string {
	run, err := mysql.ParseDSN(s.env["CURLEW_MYSQL_DSN"])
	if err != nil {
		panic(err) // scripts/services made it
	}
	run.Addr, run.DBName = record, database
	return append(services.Foreign(),
		"CURLEW_KAFKA_REPLICATION="+strconv.Itoa(len(strings.Split(kafka, ","))),
		"CURLEW_REDIS_ADDR="+redis,
		"CURLEW_REDIS_USER="+s.env["CURLEW_REDIS_USER"],
		"CURLEW_REDIS_PASSWORD="+s.env["CURLEW_REDIS_PASSWORD"],
		"CURLEW_MYSQL_DSN="+run.FormatDSN(), "CURLEW_MYSQL_ADMIN_DSN="+s.dsn(record),
		"CURLEW_KAFKA_ADDRS="+kafka,
	)
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
// is called. One in which just then a row is being inserted may be left out.
func (s *stores) lock(ctx context.Context, convs []*conv) (unlock func() error, err error) {
	// It must reach past the last row: at READ COMMITTED gaps are not locked.
	tx, err := s.admin.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "SET innodb_lock_wait_timeout = 1"); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	const end = "SELECT seq FROM " + database + ".messages FORCE INDEX (PRIMARY) WHERE conversation = ? ORDER BY seq DESC LIMIT 1 FOR UPDATE"
	for _, c := range convs {
		var seq uint64
		var late *mysql.MySQLError
		if err := tx.QueryRowContext(ctx, end, string(c.id)).Scan(&seq); err != nil && !errors.As(err, &late) && !errors.Is(err, sql.ErrNoRows) {
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
	if s.masters != nil {
		s.masters.Close()
	}
	if s.replica != nil {
		s.replica.end()
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
