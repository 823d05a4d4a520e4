package main

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// The engine's accounts at the real stores, which scripts/services makes: what they must
// not do, they cannot. That all works with them is shown by every other test on real
// stores, which run the engine as these accounts (scripts/devtest).

func realStore(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skip(name + " is not set: no real store to ask")
	}
	return value
}

func TestStores_RedisAccountMayNotEmptyOrWatchTheServer(t *testing.T) {
	t.Parallel()
	addr, _, _ := strings.Cut(realStore(t, "CURLEW_REDIS_ADDR"), ",") // all nodes of a cluster have the same accounts
	r := redis.NewClient(&redis.Options{Addr: addr, Username: os.Getenv("CURLEW_REDIS_USER"), Password: os.Getenv("CURLEW_REDIS_PASSWORD"), MaxRetries: -1})
	defer r.Close()
	must(t, r.Ping(t.Context()).Err())
	for _, command := range []string{
		"KEYS im:{none}*", "CONFIG GET maxmemory", "CONFIG SET maxmemory-policy allkeys-lru", "ACL LIST", "ACL WHOAMI", "CLIENT LIST", "CLIENT KILL ID 999999999",
		"FLUSHDB", "FLUSHALL", "SWAPDB 0 1", "SCRIPT FLUSH", "FUNCTION FLUSH", "SAVE", "BGSAVE", "BGREWRITEAOF", "REPLICAOF NO ONE", "MODULE LIST", "SLOWLOG GET", "LATENCY RESET",
		"MIGRATE 127.0.0.1 1 none 0 1", "CLUSTER RESET", "FAILOVER", "MONITOR", "SORT none", "PUBLISH other:channel x",
	} {
		var args []any
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		if err := r.Do(t.Context(), args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%s: %v", command, err)
		}
	}
	nobody := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer nobody.Close()
	if err := nobody.Get(t.Context(), "x").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
}

func TestStores_MySQLAccountMayNotMakeTables(t *testing.T) {
	t.Parallel()
	dsn := realStore(t, "CURLEW_MYSQL_DSN")
	db, err := sql.Open("mysql", dsn)
	must(t, err)
	defer db.Close()
	must(t, db.PingContext(t.Context()))
	for _, statement := range []string{
		"CREATE TABLE curlew_nothing (a INT)", "DROP TABLE curlew_nothing", "ALTER TABLE curlew_nothing ADD COLUMN b INT", "TRUNCATE TABLE curlew_nothing",
		"CREATE INDEX i ON curlew_nothing (a)", "CREATE DATABASE curlew_nothing", "DROP DATABASE curlew_nothing", "CREATE USER x@localhost", "GRANT ALL ON *.* TO CURRENT_USER",
		"SET GLOBAL max_connections = 10", "SELECT user FROM mysql.user", "SELECT 1 INTO OUTFILE '/tmp/curlew_nothing'", "CREATE PROCEDURE p() SELECT 1",
		"CREATE TRIGGER x BEFORE INSERT ON curlew_nothing FOR EACH ROW SET @a = 1", "CREATE VIEW curlew_nothing AS SELECT 1", "FLUSH TABLES", "SHUTDOWN", "KILL 999999999",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		var e *mysql.MySQLError
		// denied for the database, the account, the table, the privilege; and a thread of
		// others', which this account is not shown.
		if !errors.As(err, &e) || e.Number != 1044 && e.Number != 1045 && e.Number != 1142 && e.Number != 1227 && e.Number != 1370 && !(e.Number == 1094 && strings.HasPrefix(statement, "KILL")) {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// The stores of scripts/services listen on this machine alone.
func TestStores_ListenOnLoopback(t *testing.T) {
	t.Parallel()
	realStore(t, "CURLEW_REDIS_ADDR")
	dsn, err := mysql.ParseDSN(realStore(t, "CURLEW_MYSQL_DSN"))
	must(t, err)
	addrs, err := net.InterfaceAddrs()
	must(t, err)
	all := strings.Join([]string{os.Getenv("CURLEW_REDIS_ADDR"), dsn.Addr, realStore(t, "CURLEW_KAFKA_ADDRS")}, ",")
	for store := range strings.SplitSeq(all, ",") {
		host, port, err := net.SplitHostPort(store)
		must(t, err)
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			t.Skipf("%s is no store of scripts/services", store)
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok || n.IP.IsLoopback() || n.IP.To4() == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(n.IP.String(), port))
			cancel()
			if err == nil {
				c.Close()
				t.Errorf("%s is reached by %s", store, n.IP)
			}
		}
	}
}

// `curlew doctor` names accounts that may do more than the engine does, and is content
// with those of scripts/services.
func TestStores_DoctorNamesAnAccountThatMayDoTooMuch(t *testing.T) {
	t.Parallel()
	addr, admin := realStore(t, "CURLEW_REDIS_ADDR"), realStore(t, "CURLEW_MYSQL_ADMIN_DSN")
	examined := func(dsn, user, password string) string {
		cfg, err := configs.Load(configs.Sources{Set: map[string]string{
			"profile": "dev", "data": t.TempDir(), "storage.dsn": dsn, "storage.admin_dsn": admin,
			"storage.redis.addr": addr, "storage.redis.username": user, "storage.redis.password": password,
		}})
		must(t, err)
		var out strings.Builder
		examine(t.Context(), cfg, &out)
		return out.String()
	}
	s := devtest.Start(t) // a database with our schema
	const much = "which the engine never does"
	out := examined(s.Settings()["storage.dsn"], os.Getenv("CURLEW_REDIS_USER"), os.Getenv("CURLEW_REDIS_PASSWORD"))
	if strings.Contains(out, much) {
		t.Errorf("the engine's own accounts: %s", out)
	}
	migrated := startEngine(t, s)
	migrated.stop()
	out = examined(s.Settings()["storage.admin_dsn"], "default", os.Getenv("CURLEW_REDIS_ADMIN_PASSWORD"))
	for _, account := range []string{"mysql: the account of storage.dsn may ", "redis: the account of storage.redis may CONFIG"} {
		if !strings.Contains(out, account) {
			t.Errorf("no %q in %s", account, out)
		}
	}
}
