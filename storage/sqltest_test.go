package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/curlew-im/curlew/logic/im"
)

const mysqlEnv = "CURLEW_MYSQL_ADMIN_DSN" // any database; tests make and drop their own beside it

// newSQLite is a migrated store in a file of its own.
func newSQLite(t testing.TB) *DB {
	t.Helper()
	return openMigrated(t, DBConfig{Dialect: SQLite, Path: filepath.Join(t.TempDir(), "test.db")})
}

// newMySQL is a migrated store in a database of its own, dropped afterwards.
func newMySQL(t testing.TB) *DB {
	t.Helper()
	return openMigrated(t, newMySQLDatabase(t))
}

func newMySQLDatabase(t testing.TB) DBConfig {
	t.Helper()
	dsn := os.Getenv(mysqlEnv)
	if dsn == "" {
		t.Skipf("%s is not set: not run on MySQL or MariaDB", mysqlEnv)
	}
	cfg, err := mysql.ParseDSN(dsn)
	must(t, err)
	cfg.DBName = ""
	admin, err := sql.Open("mysql", cfg.FormatDSN())
	must(t, err)
	name := "curlew_test_" + strings.ToLower(rand.Text()[:12])
	_, err = admin.Exec("CREATE DATABASE " + name)
	must(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec("DROP DATABASE " + name)
		must(t, err)
		must(t, admin.Close())
	})
	cfg.DBName, cfg.Params = name, nil
	return DBConfig{Dialect: MySQL, DSN: fmt.Sprintf("%s:%s@%s(%s)/%s", cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, name)}
}

func openMigrated(t testing.TB, cfg DBConfig) *DB {
	t.Helper()
	_, _, err := Migrate(t.Context(), cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	return openTest(t, cfg)
}

func openTest(t testing.TB, cfg DBConfig) *DB {
	t.Helper()
	db, err := OpenDB(t.Context(), cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// onEachStore runs the same tests on SQLite and, where there is one, on MariaDB.
func onEachStore(t *testing.T, tests map[string]func(t *testing.T, db *DB)) {
	for name, open := range map[string]func(testing.TB) *DB{SQLite: newSQLite, MySQL: newMySQL} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			for name, test := range tests {
				t.Run(name, func(t *testing.T) { test(t, db) })
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// number gives users, messages and client message IDs that no other test has.
var number atomic.Uint64

func newUser(t testing.TB, db *DB) im.UserID {
	t.Helper()
	p, err := db.CreateUser(context.Background(), im.NewUser{Handle: fmt.Sprintf("user%d", number.Add(1)), Nickname: "Zoë 🐦", PasswordHash: "hash"})
	must(t, err)
	return p.ID
}

// newPair is two users and their conversation, with its rows.
func newPair(t testing.TB, db *DB) (a, b im.UserID, c im.ConversationID) {
	t.Helper()
	a, b = newUser(t, db), newUser(t, db)
	c = im.DirectConversation(a, b)
	must(t, db.EnsureConversations(context.Background(), []im.NewConversation{{ID: c, Members: []im.UserID{a, b}}}))
	return a, b, c
}

// message is a text message as a strand makes it.
func message(c im.ConversationID, seq im.Seq, from im.UserID) im.Message {
	n := number.Add(1)
	content := json.RawMessage(fmt.Sprintf(`{"text":"message %d, it's a \"test\" \\ 🐦 ü"}`, n))
	return im.Message{
		Conversation: c, Seq: seq, ID: im.MessageID(1<<40 + n), ClientMsgID: im.ClientMsgID(fmt.Sprintf("client-%d", n)),
		Sender: im.Sender{ID: from, Handle: "h" + from.String(), Nickname: "Zoë 🐦 \\'\"", Avatar: "https://example.org/a.png"},
		Type:   im.TypeText, Content: content, StoredAt: 1767225600000 + int64(n), Hash: im.HashContent(im.TypeText, content),
	}
}

// fill stores seqs 1 … n, sent in turn.
func fill(t testing.TB, db *DB, c im.ConversationID, n int, from ...im.UserID) []im.Message {
	t.Helper()
	rows := make([]im.Message, n)
	for i := range rows {
		rows[i] = message(c, im.Seq(i+1), from[i%len(from)])
	}
	for start := 0; start < n; start += 500 {
		must(t, db.InsertMessages(context.Background(), rows[start:min(start+500, n)]))
	}
	return rows
}
