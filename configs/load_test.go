package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoad_NothingConfiguredIsDev(t *testing.T) {
	c, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	db, redis, kafka := c.Embedded()
	if c.Profile != "dev" || !db || !redis || !kafka || !c.API.Demo || len(c.Roles) != len(Roles) {
		t.Errorf("profile %s, embedded %v %v %v, demo %v, roles %v", c.Profile, db, redis, kafka, c.API.Demo, c.Roles)
	}
}

func TestLoad_ExampleIsValidAndSetsWhatItSays(t *testing.T) {
	c, err := Load(Sources{File: "curlew.example.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Profile != "production" || c.API.Demo || c.Queue.Replication != 3 || c.Logic.Heartbeat != 25*time.Second ||
		c.Storage.Redis.Username != "curlew" || c.Connector.Upstream.Addresses[0] != "127.0.0.1:8095" || len(c.Logic.Auth.ServerKeys) != 0 {
		t.Errorf("the example does not arrive: %+v", c)
	}
}

func TestLoad_LaterSourcesWin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("profile: bench\nlogic:\n  heartbeat: 5s\n  waiters: 5\njobs:\n  realtime:\n    size: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{
		File: file,
		Env: []string{"CURLEW_LOGIC_HEARTBEAT=6s", "CURLEW_JOBS_REALTIME_SIZE=4", "CURLEW_KAFKA_ADDRS=a:1,b:2",
			"CURLEW_SERVER_KEY=k:0123456789012345678901234567890123", "CURLEW_MYSQL_DSN=u:p@tcp(h:1)/d", "CURLEW_ELSE=x", "PATH=/"},
		Set: map[string]string{"jobs.realtime.size": "5", "roles": "logic,jobs", "logic.grpc.listen": "127.0.0.1:3", "storage.redis.addr": "h:4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Logic.Heartbeat != 6*time.Second || c.Logic.Waiters != 5 || c.Jobs.Realtime.Size != 5 ||
		strings.Join(c.Queue.Brokers, " ") != "a:1 b:2" || c.Logic.Auth.ServerKeys[0].ID != "k" || len(c.Roles) != 2 || c.Roles[1] != RoleJobs || c.Storage.Dialect != "mysql" {
		t.Errorf("heartbeat %s, waiters %d, pool %d, brokers %v, keys %v, roles %v",
			c.Logic.Heartbeat, c.Logic.Waiters, c.Jobs.Realtime.Size, c.Queue.Brokers, c.Logic.Auth.ServerKeys, c.Roles)
	}
}

func TestLoad_ConnectorAloneNeedsRedisOnly(t *testing.T) {
	if _, err := Load(Sources{Set: map[string]string{
		"profile": "bench", "roles": "connector", "storage.redis.addr": "h:1", "connector.upstream.addresses": "h:2",
	}}); err != nil {
		t.Error(err)
	}
}

func TestLoad_NamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, want string
		set        map[string]string
	}{
		{"unknown key", "logic.hartbeat", map[string]string{"logic.hartbeat": "5s"}},
		{"unknown profile", "profile", map[string]string{"profile": "prod"}},
		{"unknown role", "roles", map[string]string{"roles": "api,cook"}},
		{"not a duration", "logic.heartbeat", map[string]string{"logic.heartbeat": "soon"}},
		{"out of range", "logic.heartbeat", map[string]string{"logic.heartbeat": "5m"}},
		{"production without stores", "storage.redis.addr", map[string]string{"profile": "production"}},
		{"production without keys", "logic.auth.keys_file", map[string]string{"profile": "production"}},
		{"a role alone on embedded stores", "queue.brokers", map[string]string{"profile": "dev", "roles": "jobs"}},
		{"a database that is none", "storage.dialect", map[string]string{"storage.dialect": "postgres"}},
		{"an address of MySQL for SQLite", "storage.dialect", map[string]string{"storage.dialect": "sqlite", "storage.dsn": "u:p@tcp(h:1)/d"}},
		{"MySQL without an address", "storage.dsn", map[string]string{"storage.dialect": "mysql", "profile": "dev"}},
		{"a DSN with parameters", "storage.dsn", map[string]string{"storage.dsn": "u:p@tcp(h:1)/d?parseTime=true"}},
		{"a pool too small", "storage.redis.pool_size", map[string]string{"storage.redis.addr": "h:1", "storage.redis.pool_size": "1"}},
		{"retention too short", "queue.retention", map[string]string{"queue.brokers": "h:1", "queue.retention": "1h"}},
		{"clients cut off between two pings", "connector.heartbeat", map[string]string{"connector.heartbeat": "5s"}},
		{"demo accounts in public", "api.demo", map[string]string{"profile": "bench", "api.demo": "true"}},
		{"dev for everybody", "api.listen", map[string]string{"profile": "dev", "api.listen": "0.0.0.0:8080"}},
		{"secret too short", "server_keys[0].secret", map[string]string{"logic.auth.server_keys": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := Sources{Set: c.set}
			if c.name == "secret too short" {
				src = Sources{Env: []string{"CURLEW_SERVER_KEY=k:short"}}
			}
			if c.name == "unknown key" {
				c.want = "hartbeat"
			}
			_, err := Load(src)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not name %s", err, c.want)
			}
		})
	}
}

func TestPaths_EachHasAnEnvironmentVariableOfItsOwn(t *testing.T) {
	seen := map[string]string{}
	for _, p := range Paths() {
		if p != strings.ToLower(p) {
			t.Errorf("%s: capitals", p)
		}
		if other, twice := seen[EnvName(p)]; twice {
			t.Errorf("%s and %s share %s", p, other, EnvName(p))
		}
		seen[EnvName(p)] = p
	}
	for name, p := range spoken {
		if seen[EnvName(p)] != p {
			t.Errorf("%s names %s, which is no setting", name, p)
		}
	}
}
