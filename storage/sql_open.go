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
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/logic/im/joint"
)

// DB is the record: users, groups, members, messages and what the engine must not
// forget, in MySQL or SQLite. It implements logic.Accounts, logic.Records, logic.Groups,
// jobs.Archive, jobs.Nodes and connector.Directory. Safe for concurrent use.
type DB struct {
	cfg     DBConfig
	d       *dialect
	w, r    *sql.DB // one pool for MySQL; a single writer and readers for SQLite
	log     *slog.Logger
	metrics dbMetrics

	authStates *joint.Call[[]deviceKey, map[deviceKey]im.AuthState]
	profiles   *joint.Call[[]im.UserID, map[im.UserID]im.Profile]
	peers      *joint.Call[[]peerKey, map[peerKey]im.Peer]
}

// joinReads has those who connect, or send, at the same time share what they read of MySQL:
// a herd of them would hold every connection with questions for one row each.
func (db *DB) joinReads() {
	db.authStates = &joint.Call[[]deviceKey, map[deviceKey]im.AuthState]{
		Flights: jointFlights, Room: jointKeys, Timeout: db.cfg.QueryTimeout,
		Weigh: func(keys []deviceKey) int { return len(keys) },
		Join:  func(all [][]deviceKey) []deviceKey { return slices.Concat(all...) },
		Make:  db.readAuthStates,
	}
	db.profiles = joinUsers(db.readProfiles)
	db.peers = &joint.Call[[]peerKey, map[peerKey]im.Peer]{
		Flights: jointFlights, Room: jointKeys, Timeout: db.cfg.QueryTimeout,
		Weigh: func(keys []peerKey) int { return len(keys) },
		Join:  func(all [][]peerKey) []peerKey { return slices.Concat(all...) },
		Make:  db.readPeers,
	}
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
	db.joinReads()
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
