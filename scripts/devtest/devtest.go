// Package devtest gives a test stores of its own that it may break: embedded ones, or
// real ones where CURLEW_REDIS_ADDR, CURLEW_MYSQL_ADMIN_DSN and CURLEW_KAFKA_ADDRS are
// set (eval "$(scripts/services env)").
//
//	         embedded                     real
//	DB       a SQLite file                a database on the shared MariaDB, behind a proxy
//	Redis    miniredis                    a redis-server process of the test's own, or a
//	                                      cluster where the address names several
//	Kafka    kfake with a data folder     topics on the shared broker, or with OwnKafka
//	                                      on a second one that may be killed
package devtest

import (
	"crypto/rand"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/configs"
)

// patience bounds every wait: far above what anything takes on a busy machine of two
// cores with the race detector.
const patience = 60 * time.Second

// ServerKeyID and ServerKeySecret are the server key of every stack's engines.
const (
	ServerKeyID     = "test"
	ServerKeySecret = "a-secret-for-tests-of-over-32-bytes"
)

// Stack is the stores of one test.
type Stack struct {
	Redis Redis
	Kafka Kafka
	// DB can be taken away only where it is a server: nil on SQLite.
	DB *Proxy

	t        testing.TB
	settings map[string]string
	logs     *logs
}

// Option changes what Start starts.
type Option func(*options)

type options struct{ ownKafka bool }

// OwnKafka asks for a broker that may be killed. The real one is shared by the tests
// that ask for it, one after another.
func OwnKafka(o *options) { o.ownKafka = true }

// Real says whether tests run on real stores.
func Real() bool {
	return os.Getenv(redisEnv) != "" && os.Getenv(mysqlEnv) != "" && os.Getenv(kafkaEnv) != ""
}

const (
	redisEnv = "CURLEW_REDIS_ADDR"
	mysqlEnv = "CURLEW_MYSQL_ADMIN_DSN"
	kafkaEnv = "CURLEW_KAFKA_ADDRS"
)

// Start brings stores up that end with the test.
func Start(t testing.TB, opts ...Option) *Stack {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	s := &Stack{t: t, logs: newLogs(t)}
	name := "t" + strings.ToLower(rand.Text()[:12]) // of this test, on what it shares with others
	s.settings = map[string]string{
		"profile":    "dev",
		"api.demo":   "false",
		"log.format": "text",
		// Quick to notice, without taking a busy machine for a dead one.
		"logic.heartbeat":          "2s",
		"connector.renew_interval": "1s",
		"queue.partitions":         "4",
		"queue.session_timeout":    "3s",
		"queue.rebalance_timeout":  "3s",
		"queue.heartbeat":          "500ms",
		"queue.join_backoff":       "100ms",
		"queue.fetch_wait":         "100ms",
		"jobs.drain_timeout":       "2s",
		"queue.prefix":             name + ".",
		"queue.group_prefix":       name + "-",
		"logic.auth.keys_file":     filepath.Join(t.TempDir(), "signing.keys"),
	}
	if Real() {
		s.startMySQL("curlew_test_" + name[1:])
		s.startRedis()
		s.startKafka(o.ownKafka)
	} else {
		s.settings["storage.path"] = filepath.Join(t.TempDir(), "curlew.db")
		s.startMiniredis()
		s.startKfake()
	}
	return s
}

// Settings are what an engine on these stores is told, by dotted path; it listens on
// free ports that its addresses tell.
func (s *Stack) Settings() map[string]string {
	set := maps.Clone(s.settings)
	set["data"] = s.t.TempDir()
	for _, part := range []string{"api", "connector", "admin"} {
		set[part+".listen"] = "127.0.0.1:0"
	}
	return set
}

// Config is Settings for an engine in this process.
func (s *Stack) Config() *configs.Config {
	s.t.Helper()
	cfg, err := configs.Load(configs.Sources{
		Env: []string{configs.EnvName("server_key") + "=" + ServerKeyID + ":" + ServerKeySecret},
		Set: s.Settings(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg
}

// Args are settings as flags of the binary.
func Args(settings map[string]string) []string {
	var args []string
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "--set", key+"="+settings[key])
	}
	return args
}

// Environment is this process's without its stores, and with the server key.
func Environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, configs.EnvPrefix) })
	return append(env, configs.EnvName("server_key")+"="+ServerKeyID+":"+ServerKeySecret)
}

// Logger keeps the last lines and shows them where the test fails.
func (s *Stack) Logger(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(s.logs, nil)).With("engine", name)
}

// LogWriter is where a process of its own writes its log to; see Logger.
func (s *Stack) LogWriter() interface{ Write([]byte) (int, error) } { return s.logs }

// Eventually waits for a fact.
func Eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for wait := 2 * time.Millisecond; !fact(); wait = min(2*wait, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(wait)
	}
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
