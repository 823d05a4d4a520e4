package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest/services"
)

// stores are a Redis, a MariaDB and a Kafka of the bench's own, or clusters of the first and
// the last, kept in data/bench between runs; a run has a database and topics of its own, and an empty Redis.
type stores struct {
	services services.Services
	env      map[string]string // as scripts/services says
	database string
	admin    *sql.DB
	redis    redis.UniversalClient
}

// Ports of the bench's stores, beside those of scripts/services: a bench may run while
// the usual ones are in use.
var storePorts = map[string]string{
	"CURLEW_SERVICES_REDIS_PORT": "16479", "CURLEW_SERVICES_MYSQL_PORT": "13406",
	"CURLEW_SERVICES_KAFKA_PORT": "19192", "CURLEW_SERVICES_KAFKA_CONTROLLER_PORT": "19193",
}

// databasePrefix is what the services' own account may create.
const databasePrefix = "curlew_test_bench_"

func openStores(ctx context.Context, root, dir string, cluster bool) (*stores, error) {
	data, up := filepath.Join(dir, "services"), []string{"up"}
	if cluster {
		data, up = filepath.Join(dir, "cluster"), []string{"up", "--cluster"}
	}
	s := &stores{services: services.Services{Root: root, Data: data}}
	for k, v := range storePorts {
		if os.Getenv(k) == "" {
			s.services.Env = append(s.services.Env, k+"="+v)
		}
	}
	_, err := s.services.Run(ctx, up...)
	if err != nil {
		return s, err
	}
	if s.env, err = s.services.Addresses(ctx); err != nil {
		return s, err
	}
	cfg, err := mysql.ParseDSN(s.env["CURLEW_MYSQL_ADMIN_DSN"])
	if err != nil {
		return s, err
	}
	cfg.DBName = ""
	if s.admin, err = sql.Open("mysql", cfg.FormatDSN()); err != nil {
		return s, err
	}
	s.redis = redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:    strings.Split(s.env["CURLEW_REDIS_ADDR"], ","),
		Username: "default", Password: s.env["CURLEW_REDIS_ADMIN_PASSWORD"], DisableIdentity: true,
	})
	return s, s.renew(ctx)
}

// eachRedis calls f for the server, or for each master at the same time.
func (s *stores) eachRedis(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	if c, ok := s.redis.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, f)
	}
	return f(ctx, s.redis.(*redis.Client))
}

// replication of the topics: as many as there are brokers.
func (s *stores) replication() int { return len(strings.Split(s.env["CURLEW_KAFKA_ADDRS"], ",")) }

// restart ends a store in good order and starts it again, with nothing in memory.
func (s *stores) restart(ctx context.Context, store string) error {
	if _, err := s.services.Run(ctx, "down", store); err != nil {
		return err
	}
	_, err := s.services.Run(ctx, "up", store)
	return err
}

// environment is what the engine's processes are told of the stores.
func (s *stores) environment() []string {
	return append(services.Foreign(),
		"CURLEW_REDIS_ADDR="+s.env["CURLEW_REDIS_ADDR"],
		"CURLEW_REDIS_USER="+s.env["CURLEW_REDIS_USER"],
		"CURLEW_REDIS_PASSWORD="+s.env["CURLEW_REDIS_PASSWORD"],
		"CURLEW_MYSQL_DSN="+s.dsn(),
		"CURLEW_MYSQL_ADMIN_DSN="+s.dsn(),
		"CURLEW_KAFKA_ADDRS="+s.env["CURLEW_KAFKA_ADDRS"],
		"CURLEW_KAFKA_REPLICATION="+strconv.Itoa(s.replication()),
	)
}

// dsn is the run's database, as an account that may do what a run does.
func (s *stores) dsn() string {
	cfg, _ := mysql.ParseDSN(s.env["CURLEW_MYSQL_ADMIN_DSN"]) // was parsed before
	cfg.DBName = s.database
	return cfg.FormatDSN()
}

// close drops what the run kept and stops the stores.
func (s *stores) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if s.admin != nil {
		_ = s.drop(ctx) // the next run has others
		s.admin.Close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
	_, err := s.services.Run(ctx, "down")
	return err
}

func (s *stores) processes() (all []process) {
	files, _ := filepath.Glob(filepath.Join(s.services.Data, "*", "*.pid")) // the pattern is right
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(filepath.Base(filepath.Dir(file)), "-") // kafka-2 is a kafka
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			all = append(all, process{kind, pid})
		}
	}
	return all
}

// counters are what the stores count themselves.
func (s *stores) counters(ctx context.Context) map[string]float64 {
	n := make(map[string]float64)
	rows, err := s.admin.QueryContext(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN"+
		" ('Questions', 'Innodb_os_log_fsyncs', 'Innodb_data_fsyncs', 'Bytes_received', 'Bytes_sent', 'Innodb_os_log_written')")
	if err == nil {
		defer rows.Close()
		for rows.Next() {
			var name string
			var value float64
			if rows.Scan(&name, &value) != nil {
				continue
			}
			switch name {
			case "Questions":
				n["mysql_statements"] = value
			case "Innodb_os_log_fsyncs", "Innodb_data_fsyncs":
				n["mysql_fsyncs"] += value
			default:
				n["mysql_bytes"] += value
			}
		}
	}
	for line := range strings.Lines(s.info(ctx, "stats", "commandstats")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case name == "total_commands_processed":
			c, _ := strconv.ParseFloat(value, 64)
			n["redis_commands"] += c
		case name == "cmdstat_publish" || name == "cmdstat_spublish":
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			c, _ := strconv.ParseFloat(calls, 64)
			n["redis_publish"] += c
		}
	}
	return n
}

// info is what all masters say of themselves, one after another.
func (s *stores) info(ctx context.Context, sections ...string) string {
	var mu sync.Mutex // guards all
	var all strings.Builder
	_ = s.eachRedis(ctx, func(ctx context.Context, c *redis.Client) error { // one that is silent counts nothing
		text := c.Info(ctx, sections...).Val()
		mu.Lock()
		defer mu.Unlock()
		all.WriteString(text + "\r\n")
		return nil
	})
	return all.String()
}

func (s *stores) versions(ctx context.Context) map[string]string {
	v := make(map[string]string)
	var version string
	if s.admin.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version) == nil {
		v["mysql"] = version
	}
	for line := range strings.Lines(s.info(ctx, "server")) {
		if _, version, ok := strings.Cut(strings.TrimSpace(line), "redis_version:"); ok {
			v["redis"] = version
		}
	}
	if out, err := s.services.Run(ctx, "status", "kafka"); err == nil {
		f := strings.Fields(out)
		v["kafka"] = f[len(f)-1]
	}
	return v
}

// durability is what the stores' acks mean, as they are set.
func (s *stores) durability(ctx context.Context) map[string]string {
	d := map[string]string{"kafka": "acks=all, one broker, flushed by the system"}
	if n := s.replication(); n > 1 {
		d["kafka"] = fmt.Sprintf("acks=all, %d brokers, min.insync.replicas 2, flushed by the system", n)
	}
	var commit string
	if s.admin.QueryRowContext(ctx, "SELECT @@innodb_flush_log_at_trx_commit").Scan(&commit) == nil {
		d["innodb_flush_log_at_trx_commit"] = commit
	}
	d["redis"] = "a projection: " + strings.Join(s.redisSettings(ctx), ", ")
	return d
}

func (s *stores) redisSettings(ctx context.Context) (set []string) {
	var mu sync.Mutex // guards set and masters
	masters := 0
	_ = s.eachRedis(ctx, func(ctx context.Context, c *redis.Client) error { // one that is silent is not counted
		v := c.ConfigGet(ctx, "appendonly").Val()["appendonly"]
		mu.Lock()
		defer mu.Unlock()
		masters++
		set = []string{"appendonly " + v}
		return nil
	})
	if masters > 1 {
		set = append(set, strconv.Itoa(masters)+" masters")
	}
	return set
}

// fill adds messages of one sender to a conversation, which has one, until it has that
// many rows.
func (s *stores) fill(ctx context.Context, c im.ConversationID, from im.UserID, rows int) error {
	conn, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "USE "+s.database); err != nil {
		return err
	}
	return fill(ctx, conn, "messages", func(yield func(row) bool) {
		for seq := 2; seq <= rows && yield(row{string(c), seq, uint64(from)}); seq++ {
		}
	}, 2000)
}

func random() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}
