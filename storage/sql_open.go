package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"github.com/curlew-im/curlew/logic/im"
)

// DBConfig says where the record is kept. A zero field means the default.
type DBConfig struct {
	// Dialect is "mysql" (also MariaDB) or "sqlite" (default).
	Dialect string
	// DSN reaches MySQL: user:password@tcp(host:3306)/database, without parameters
	// but tls (true, skip-verify or preferred): the engine sets the rest itself. It
	// holds a password: never logged.
	DSN string
	// AdminDSN is the account that may create tables, for migrations only (default:
	// DSN). At run time no DDL is needed.
	AdminDSN string
	// Path is SQLite's file (default data/curlew.db); its directory is created.
	Path string
	// MaxOpen bounds the connections to MySQL, or SQLite's readers (default 32, or 4
	// for SQLite: it reads from this process's own memory).
	MaxOpen int
	// QueryTimeout bounds each call that brings no nearer deadline (default 6 s: a
	// second more than a lock wait, which then ends with its own error).
	QueryTimeout time.Duration
}

const lockWait = 5 * time.Second // innodb_lock_wait_timeout and SQLite's busy_timeout

func (c DBConfig) withDefaults() DBConfig {
	if c.Dialect == "" {
		c.Dialect = SQLite
	}
	if c.Path == "" {
		c.Path = filepath.Join("data", "curlew.db")
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = 32
		if c.Dialect == SQLite {
			c.MaxOpen = 4
		}
	}
	if c.QueryTimeout == 0 {
		c.QueryTimeout = lockWait + time.Second
	}
	if c.AdminDSN == "" {
		c.AdminDSN = c.DSN
	}
	return c
}

// Validate names the field that cannot be used.
func (c DBConfig) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Dialect != MySQL && c.Dialect != SQLite:
		return fmt.Errorf("storage.dialect: %q is neither mysql nor sqlite", c.Dialect)
	case c.MaxOpen < 1:
		return fmt.Errorf("storage.max_open: %d is below 1", c.MaxOpen)
	case c.QueryTimeout < 100*time.Millisecond:
		return fmt.Errorf("storage.query_timeout: %s is below 100ms", c.QueryTimeout)
	}
	if c.Dialect == MySQL {
		if _, err := mysqlConfig(c.DSN); err != nil {
			return fmt.Errorf("storage.dsn: %w", err)
		}
		if _, err := mysqlConfig(c.AdminDSN); err != nil {
			return fmt.Errorf("storage.admin_dsn: %w", err)
		}
	}
	return nil
}

// DB is the record: users, members, messages and what the engine must not forget,
// in MySQL or SQLite. It implements logic.Accounts, logic.Records, jobs.Archive and
// jobs.Nodes. Safe for concurrent use.
type DB struct {
	cfg     DBConfig
	d       *dialect
	w, r    *sql.DB // one pool for MySQL; a single writer and readers for SQLite
	log     *slog.Logger
	metrics dbMetrics
}

// OpenDB makes ready to reach the database. MySQL is not asked for anything yet, so
// that a process starts while it is away; SQLite's file is created where it is not
// there. Migrate and CheckSchema come next.
func OpenDB(ctx context.Context, cfg DBConfig, log *slog.Logger) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	db := &DB{cfg: cfg, log: log, metrics: newDBMetrics()}
	if cfg.Dialect == MySQL {
		db.d = &mysqlDialect
		pool, err := openMySQL(cfg.DSN, cfg.MaxOpen, log)
		if err != nil {
			return nil, err
		}
		db.w, db.r = pool, pool
		return db, nil
	}
	db.d = &sqliteDialect
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("storage.path: %w", err)
	}
	var err error
	if db.w, err = openSQLite(cfg.Path, 1, true); err != nil {
		return nil, err
	}
	if err := db.w.PingContext(ctx); err != nil { // creates the file, before a reader looks for it
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.Path, classify(err)), db.w.Close())
	}
	if db.r, err = openSQLite(cfg.Path, cfg.MaxOpen, false); err != nil {
		return nil, errors.Join(err, db.w.Close())
	}
	return db, nil
}

// mysqlConfig reads a DSN and refuses the parameters that are ours to set.
func mysqlConfig(dsn string) (*mysql.Config, error) {
	if dsn == "" {
		return nil, errors.New("empty, want user:password@tcp(host:3306)/database")
	}
	given, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	if i := strings.LastIndexByte(dsn, '/'); i >= 0 {
		if _, params, ok := strings.Cut(dsn[i:], "?"); ok {
			values, err := url.ParseQuery(params)
			if err != nil {
				return nil, errors.New("parameters cannot be read")
			}
			for name := range values {
				if name != "tls" {
					return nil, fmt.Errorf("parameter %s is set by the engine itself, leave it out", name)
				}
			}
		}
	}
	if given.DBName == "" {
		return nil, errors.New("names no database")
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = given.User, given.Passwd, given.Net, given.Addr, given.DBName
	cfg.TLSConfig, cfg.TLS, cfg.AllowFallbackToPlaintext = given.TLSConfig, given.TLS, given.AllowFallbackToPlaintext
	cfg.Timeout = 3 * time.Second
	cfg.InterpolateParams = true // one round trip a statement; safe with utf8mb4
	cfg.ClientFoundRows = true   // "rows affected" counts matched ones, as SQLite does
	cfg.Params = map[string]string{
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'",
		"time_zone":                "'+00:00'", // the hour that comes twice in autumn would make UNIX_TIMESTAMP(NOW()) jump
		"innodb_lock_wait_timeout": fmt.Sprint(int(lockWait.Seconds())),
	}
	return cfg, cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin"))
}

func openMySQL(dsn string, maxOpen int, log *slog.Logger) (*sql.DB, error) {
	cfg, err := mysqlConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.Logger = driverLog{log}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(mysqlConnector{c})
	pool.SetMaxOpenConns(maxOpen)
	pool.SetMaxIdleConns(maxOpen)
	pool.SetConnMaxLifetime(30 * time.Minute) // below wait_timeout, and follows a moved address
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return pool, nil
}

// mysqlConnector bounds a connection's handshake, which database/sql runs without a
// deadline, and sets what no variable of one name sets on both MySQL and MariaDB.
type mysqlConnector struct{ driver.Connector }

func (c mysqlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

type driverLog struct{ log *slog.Logger }

func (l driverLog) Print(v ...any) { l.log.Debug("mysql driver", "err", fmt.Sprint(v...)) }

func openSQLite(path string, maxOpen int, write bool) (*sql.DB, error) {
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", lockWait.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)", // a commit that was answered survives a power cut
		"temp_store(MEMORY)",
		"journal_size_limit(67108864)",
		"cache_size(-16384)",
		"wal_autocheckpoint(4000)", // 16 MiB: a sixth less writing than SQLite's 4
	}}
	if write {
		q.Set("_txlock", "immediate") // take the lock before reading, so that no upgrade can fail
	} else {
		q.Add("_pragma", "query_only(1)")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("storage.path: %w", err)
	}
	file := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}
	c, err := sqlite.NewConnector(file.String())
	if err != nil {
		return nil, fmt.Errorf("storage.path: %w", err)
	}
	pool := sql.OpenDB(c)
	pool.SetMaxOpenConns(maxOpen)
	pool.SetMaxIdleConns(maxOpen)
	return pool, nil
}

// Ping asks the database for an answer: im.ErrStore while it is away.
func (db *DB) Ping(ctx context.Context) (err error) {
	ctx, done := db.begin(ctx, "ping")
	defer done(&err)
	return db.r.PingContext(ctx)
}

// NowMilli is the database's own time in Unix milliseconds, the one clock that due
// times and leases go by.
func (db *DB) NowMilli(ctx context.Context) (now int64, err error) {
	ctx, done := db.begin(ctx, "now")
	defer done(&err)
	err = db.r.QueryRowContext(ctx, "SELECT "+db.d.now).Scan(&now)
	return now, err
}

// Close waits for running queries and closes all connections. Twice is fine.
func (db *DB) Close() error {
	if db.w == db.r {
		return db.w.Close()
	}
	return errors.Join(db.r.Close(), db.w.Close()) // the last writer to close folds the log into the file
}

// begin gives one call its deadline; done ends it, measures it and says what its
// error means.
func (db *DB) begin(ctx context.Context, op string) (context.Context, func(*error)) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, db.cfg.QueryTimeout)
	return ctx, func(err *error) {
		cancel()
		if *err != nil {
			*err = classify(*err)
			if !errors.Is(*err, im.ErrNotFound) {
				*err = fmt.Errorf("storage %s: %w", op, *err)
			}
		}
		db.metrics.observe(op, start, *err)
	}
}

// transact runs do in one transaction, again (twice at most) where the server broke
// a deadlock by rolling it back. do must start from nothing each time.
func (db *DB) transact(ctx context.Context, do func(tx *sql.Tx) error) error {
	for try := 0; ; try++ {
		err := db.once(ctx, do)
		if err == nil || try == 2 || !isDeadlock(err) {
			return err
		}
	}
}

func (db *DB) once(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := db.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the first error is the one that says something
		return err
	}
	return tx.Commit()
}

// queryAll runs a query and collects what scan makes of each row.
func queryAll[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// execOne runs a conditional change of one row and says whether it was there.
func execOne(ctx context.Context, q querier, query string, args ...any) (bool, error) {
	res, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}
