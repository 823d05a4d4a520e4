package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// auditing looks at everything, all the time.
func auditing(c *configs.Config) {
	c.Jobs.Audit.Every, c.Jobs.Audit.Users, c.Jobs.Audit.Records = 200*time.Millisecond, 100, 100_000
	c.Jobs.Audit.Settle = 2 * time.Second
}

// drift is what an engine's auditor has found so far, by what it is called.
func (e *engine) drift(t *testing.T) (found []string) {
	t.Helper()
	families, err := e.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := f.GetName(); n != "curlew_audit_drift_total" && n != "curlew_audit_messages_missing_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetCounter().GetValue() > 0 {
				found = append(found, fmt.Sprint(f.GetName(), m.GetLabel(), m.GetCounter().GetValue()))
			}
		}
	}
	return found
}

// behind is the Redis behind the engine's back.
func behind(t *testing.T, s *devtest.Stack) redis.UniversalClient {
	t.Helper()
	set := s.Settings()
	r := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(set["storage.redis.addr"], ","), Username: set["storage.redis.username"], Password: set["storage.redis.password"]})
	t.Cleanup(func() { r.Close() })
	return r
}

// tables is the database behind the engine's back.
func tables(t *testing.T, e *engine) *sql.DB {
	t.Helper()
	driver, dsn := "mysql", e.cfg.Storage.DSN
	if dsn == "" {
		driver, dsn = "sqlite", e.cfg.Storage.Path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// lie makes Redis say that the last seq of a conversation is higher than it is, to p.
func lie(t *testing.T, r redis.UniversalClient, p *person, conv im.ConversationID) {
	t.Helper()
	key := "im:{u" + p.id.String() + "}:state"
	packed, err := r.HGet(t.Context(), key, string(conv)).Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(packed, " ")
	if err := r.HSet(t.Context(), key, string(conv), "77 "+rest).Err(); err != nil {
		t.Fatal(err)
	}
}

// While everybody writes and reads at once both stores move, and nothing is reported.
func TestAudit_ReportsNothingUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, auditing)
	l := startLoad(t, e.http, e.socket)
	devtest.Eventually(t, "three rounds have looked at users and found messages stored", func() bool {
		return counted(e, `curlew_audit_rounds_total{result="done"}`) >= 3 &&
			counted(e, `curlew_audit_users_total{result="alike"}`)+counted(e, `curlew_audit_users_total{result="moving"}`) > 0 &&
			counted(e, `curlew_audit_messages_checked_total{found="stored"}`) > 100
	})
	s.Redis.Flush()
	done := counted(e, `curlew_audit_rounds_total{result="done"}`)
	devtest.Eventually(t, "two more after Redis was emptied", func() bool {
		return counted(e, `curlew_audit_rounds_total{result="done"}`) >= done+2
	})
	l.finish()
	alike := counted(e, `curlew_audit_users_total{result="alike"}`)
	devtest.Eventually(t, "users are alike once nobody says anything", func() bool {
		return counted(e, `curlew_audit_users_total{result="alike"}`) > alike
	})
	if found := e.drift(t); len(found) > 0 {
		t.Errorf("nothing was wrong, and found was %v", found)
	}
}

func TestAudit_MendsARedisThatLies(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, auditing)
	ada, bob, conv := e.pair(t)
	ada.connect("phone").say(bob, "hello")
	devtest.Eventually(t, "Bob has it in his list", func() bool { return bob.row(conv).Unread == 1 })
	lie(t, behind(t, s), bob, conv)
	devtest.Eventually(t, "the lie is found", func() bool { return len(e.drift(t)) > 0 })
	devtest.Eventually(t, "Bob's list is right again", func() bool { return bob.row(conv).LastSeq == 1 && bob.row(conv).Unread == 1 })
	if found := e.drift(t); len(found) != 1 || !strings.Contains(found[0], "last") {
		t.Errorf("found %v", found)
	}
}

func TestAudit_FindsAMessageThatIsGone(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	ada, bob, conv := e.pair(t)
	phone := ada.connect("phone")
	for i := range 3 {
		phone.say(bob, fmt.Sprint("message ", i+1))
	}
	gone, err := tables(t, e).Exec("DELETE FROM messages WHERE conversation = ? AND seq = 2", string(conv))
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := gone.RowsAffected(); n != 1 {
		t.Fatalf("%d messages are gone", n)
	}
	watch := startEngine(t, s, roles(configs.RoleJobs), auditing)
	devtest.Eventually(t, "the message is missed", func() bool { return counted(watch, "curlew_audit_messages_missing_total") == 1 })
	if !s.Logged("neither stored nor dead") {
		t.Error("nobody was told")
	}
}

func TestOperator_RebuildsRedis(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, func(c *configs.Config) { c.Jobs.Audit.Every = -1 })
	curlew := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		c := command(&out)
		c.SetArgs(append(args, "--admin", e.admin))
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, &out)
		}
		return out.String()
	}
	ada, bob, conv := e.pair(t)
	ada.connect("phone").say(bob, "hello")
	devtest.Eventually(t, "Bob has it in his list", func() bool { return bob.row(conv).Unread == 1 })
	r := behind(t, s)
	for _, name := range []string{bob.id.String(), "bob", "@bob"} {
		lie(t, r, bob, conv)
		if said := curlew("rebuild", "redis", "--user", name); !strings.HasPrefix(said, "rebuilt "+name) {
			t.Errorf("it says %q", said)
		}
		if row := bob.row(conv); row.LastSeq != 1 || row.Unread != 1 {
			t.Errorf("after the rebuild of %s: %+v", name, row)
		}
	}
	before := r.HGet(t.Context(), "im:gen", "token").Val()
	curlew("rebuild", "redis", "--all")
	if now := r.HGet(t.Context(), "im:gen", "token").Val(); now == before {
		t.Error("no new generation")
	}
	if said := curlew("rebuild", "redis", "--all", "--now"); !strings.Contains(said, "rebuilt 2 users") {
		t.Errorf("it says %q", said)
	}
	gen := r.HGet(t.Context(), "im:gen", "token").Val()
	for _, p := range []*person{ada, bob} {
		if seal := r.HGet(t.Context(), "im:{u"+p.id.String()+"}:state", "~seal").Val(); seal != gen {
			t.Errorf("%s is sealed under %q, not %q", p.name, seal, gen)
		}
	}
	for _, wrong := range [][]string{
		{"rebuild", "redis"}, {"rebuild", "redis", "--all", "--user", "bob"}, {"rebuild", "redis", "--user", "bob", "--now"}, {"rebuild", "redis", "--user", "nobody"},
	} {
		c := command(&bytes.Buffer{})
		c.SetArgs(append(wrong, "--admin", e.admin))
		if err := c.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
}
