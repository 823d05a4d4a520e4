package storage

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var quiet = slog.New(slog.DiscardHandler)

// onEachNewDatabase runs a test on a database without a schema.
func onEachNewDatabase(t *testing.T, test func(t *testing.T, cfg DBConfig)) {
	t.Run(SQLite, func(t *testing.T) {
		test(t, DBConfig{Dialect: SQLite, Path: filepath.Join(t.TempDir(), "dir", "new.db")})
	})
	t.Run(MySQL, func(t *testing.T) { test(t, newMySQLDatabase(t)) })
}

func TestMigrate_FromNothingThenNothingToDo(t *testing.T) {
	onEachNewDatabase(t, func(t *testing.T, cfg DBConfig) {
		db := openTest(t, cfg)
		var schema *SchemaError
		if err := db.CheckSchema(t.Context()); !errors.As(err, &schema) || schema.Have != 0 || !strings.Contains(err.Error(), "run curlew migrate") {
			t.Fatalf("before: %v", err)
		}
		if p := db.Check(t.Context()); len(p) != 1 || p[0].Mend != "run curlew migrate" {
			t.Errorf("doctor before: %+v", p)
		}
		from, to, err := Migrate(t.Context(), cfg, quiet)
		if err != nil || from != 0 || to != schema.Want {
			t.Fatalf("%d to %d, %v", from, to, err)
		}
		if from, to, err := Migrate(t.Context(), cfg, quiet); err != nil || from != to {
			t.Errorf("again: %d to %d, %v", from, to, err)
		}
		must(t, db.CheckSchema(t.Context()))
		must(t, db.WaitSchema(t.Context()))
		for _, p := range db.Check(t.Context()) {
			if p.Fatal {
				t.Errorf("doctor: %+v", p)
			}
		}
		_, err = db.w.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, ?)", true)
		must(t, err)
		if err := db.CheckSchema(t.Context()); !errors.As(err, &schema) || !strings.Contains(err.Error(), "newer curlew") {
			t.Errorf("a newer schema: %v", err)
		}
		if _, _, err := Migrate(t.Context(), cfg, quiet); err == nil {
			t.Error("a newer schema was migrated")
		}
	})
}

func TestMigrate_SeveralAtOnceAreFine(t *testing.T) {
	cfg := newMySQLDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, _, err := Migrate(t.Context(), cfg, quiet); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, openTest(t, cfg).CheckSchema(t.Context()))
}

// DDL commits by itself on MySQL: a migration may have died between two statements.
func TestMigrate_GoesOnAfterACrash(t *testing.T) {
	cfg := newMySQLDatabase(t)
	db := openMigrated(t, cfg)
	_, err := db.w.Exec("DELETE FROM goose_db_version WHERE version_id >= 3") // died before noting the last ones
	must(t, err)
	_, err = db.w.Exec("DROP TABLE node_leases")
	must(t, err)
	must(t, db.NoteDoubt(t.Context(), "kept"))
	_, _, err = Migrate(t.Context(), cfg, quiet)
	must(t, err)
	must(t, db.CheckSchema(t.Context()))
	if _, any, err := db.Doubts(t.Context()); err != nil || !any {
		t.Errorf("the doubt is gone: %v, %v", any, err)
	}
	if _, err := db.AcquireNode(t.Context(), "holder", 1); err != nil {
		t.Errorf("node leases: %v", err)
	}
}

func TestCheck_NamesAWrongSettingAndHowToMendIt(t *testing.T) {
	good := func() map[string]string {
		return map[string]string{"innodb_flush_log_at_trx_commit": "1", "innodb_doublewrite": "ON", "read_only": "OFF",
			"max_allowed_packet": "67108864", "max_connections": "300", "innodb_buffer_pool_size": "1073741824",
			"log_bin": "OFF", "sync_binlog": "0", "@@session.sql_mode": "STRICT_ALL_TABLES", "@@session.time_zone": "+00:00"}
	}
	if p := checkSettings(good()); len(p) != 0 {
		t.Errorf("all is well: %+v", p)
	}
	for name, bad := range map[string]string{"innodb_flush_log_at_trx_commit": "2", "innodb_doublewrite": "OFF", "read_only": "ON",
		"max_allowed_packet": "1048576", "max_connections": "10", "innodb_buffer_pool_size": "134217728", "log_bin": "ON",
		"@@session.sql_mode": "ANSI", "@@session.time_zone": "SYSTEM"} {
		values := good()
		values[name] = bad
		if p := checkSettings(values); len(p) != 1 || !strings.Contains(p[0].What, bad) && name != "log_bin" || p[0].Mend == "" {
			t.Errorf("%s = %s: %+v", name, bad, p)
		}
	}
	db := newMySQL(t)
	v, err := db.variables(t.Context())
	if err != nil || v["innodb_flush_log_at_trx_commit"] != "1" {
		t.Errorf("innodb_flush_log_at_trx_commit is %q, %v", v["innodb_flush_log_at_trx_commit"], err)
	}
}
