package storage

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
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
