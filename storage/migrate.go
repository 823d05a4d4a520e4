package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/curlew-im/curlew/logic/im"
)

//go:embed migrations/mysql/*.sql migrations/sqlite/*.sql
var migrations embed.FS

// Migrate brings the schema to the version that this program needs, as the admin
// account, and says which versions it went from and to. Several at once are fine:
// one works, the others wait up to a minute. It never goes back.
func Migrate(ctx context.Context, cfg DBConfig, log *slog.Logger) (from, to int64, err error) {
	if err := cfg.Validate(); err != nil {
		return 0, 0, err
	}
	cfg = cfg.withDefaults()
	var pool *sql.DB
	var d *dialect
	if cfg.Dialect == MySQL {
		pool, err = openMySQL(cfg.AdminDSN, 4, log)
		d = &mysqlDialect
	} else {
		db, openErr := OpenDB(ctx, cfg, log)
		if openErr != nil {
			return 0, 0, openErr
		}
		defer db.Close()
		pool, d = db.w, db.d
	}
	if err != nil {
		return 0, 0, err
	}
	defer pool.Close()
	p, err := provider(pool, d)
	if err != nil {
		return 0, 0, err
	}
	if d.name == MySQL {
		unlock, err := lockMigrations(ctx, pool)
		if err != nil {
			return 0, 0, err
		}
		defer unlock()
	}
	if to, err = schemaVersion(d); err != nil {
		return 0, 0, err
	}
	if from, err = readSchema(ctx, pool); err != nil {
		return 0, 0, fmt.Errorf("read the schema version: %w", classify(err))
	}
	if from > to {
		return from, to, newerSchema(from, to)
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		log.Info("schema migrated", "version", r.Source.Version, "dur", r.Duration)
	}
	if err != nil {
		return from, to, fmt.Errorf("migrate the schema: %w", classify(err))
	}
	return from, to, nil
}

func provider(pool *sql.DB, d *dialect) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return nil, err
	}
	name := goose.DialectSQLite3
	if d.name == MySQL {
		name = goose.DialectMySQL
	}
	return goose.NewProvider(name, pool, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

// lockMigrations keeps migrations of one database apart. The lock is its
// connection's and ends with it, so a migration that was killed leaves none behind.
// (goose takes its own only after it has looked at the tables.)
func lockMigrations(ctx context.Context, pool *sql.DB) (unlock func(), err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock migrations: %w", classify(err))
	}
	unlock = func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // not back into the pool: closed, and the lock with it
		_ = conn.Close()
	}
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(LEFT(CONCAT('curlew_migrate_', DATABASE()), 64), 60)").Scan(&got)
	if err == nil && got.Int64 != 1 {
		err = errors.New("another migration has been running for a minute")
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("lock migrations: %w", classify(err))
	}
	return unlock, nil
}

// SchemaError says that the database's schema is not the one this program needs.
type SchemaError struct{ Have, Want int64 }

func (e *SchemaError) Error() string {
	if e.Have > e.Want {
		return newerSchema(e.Have, e.Want).Error()
	}
	return fmt.Sprintf("the database schema is at version %d, this program needs %d: run curlew migrate", e.Have, e.Want)
}

func newerSchema(have, want int64) error {
	return fmt.Errorf("the database schema is at version %d, this program knows only %d: run a newer curlew", have, want)
}

// CheckSchema returns a SchemaError where the schema is older or newer than this
// program's, im.ErrStore while the database is away. A process asks it once at the
// start; while it returns ErrStore the schema is not known and nothing may be served.
func (db *DB) CheckSchema(ctx context.Context) (err error) {
	ctx, done := db.begin(ctx, "schema")
	defer done(&err)
	want, err := schemaVersion(db.d)
	if err != nil {
		return err
	}
	have, err := readSchema(ctx, db.r)
	if err == nil && have != want {
		err = &SchemaError{Have: have, Want: want}
	}
	return err
}

// WaitSchema asks CheckSchema again, each second, while the database is away.
func (db *DB) WaitSchema(ctx context.Context) error {
	for {
		err := db.CheckSchema(ctx)
		if err == nil || !errors.Is(err, im.ErrStore) {
			return err
		}
		db.log.Warn("database away, waiting", "err", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// readSchema is the version of the last migration that was applied, 0 where there
// was none.
func readSchema(ctx context.Context, pool *sql.DB) (have int64, err error) {
	err = pool.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied = ?", true).Scan(&have)
	if missingTable(err) {
		return 0, nil
	}
	return have, err
}

// schemaVersion is the number of the last embedded migration.
func schemaVersion(d *dialect) (int64, error) {
	files, err := fs.Glob(migrations, "migrations/"+d.name+"/*.sql")
	if err != nil {
		return 0, err
	}
	var last int64
	for _, f := range files {
		v, err := goose.NumericComponent(f)
		if err != nil {
			return 0, err
		}
		last = max(last, v)
	}
	return last, nil
}
