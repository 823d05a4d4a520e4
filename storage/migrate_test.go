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
	_, err := db.w.Exec("DELETE FROM goose_db_version WHERE version_id = 3") // died before noting the last one
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
	db := newMySQL(t)
	for _, s := range settings {
		if s.good("nonsense") {
			t.Errorf("%s: anything is good", s.name)
		}
	}
	if got := db.checkMySQL(t.Context()); len(got) > 0 {
		for _, p := range got {
			if p.Fatal || p.Mend == "" {
				t.Errorf("%+v", p)
			}
		}
	}
	if v, err := db.variables(t.Context()); err != nil || v["innodb_flush_log_at_trx_commit"] != "1" {
		t.Errorf("innodb_flush_log_at_trx_commit is %q, %v", v["innodb_flush_log_at_trx_commit"], err)
	}
}
