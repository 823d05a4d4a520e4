package devtest

import (
	"database/sql"
	"os"

	"github.com/go-sql-driver/mysql"
)

// startMySQL makes a database for the test on the shared server, behind a proxy.
func (s *Stack) startMySQL(name string) {
	s.t.Helper()
	cfg, err := mysql.ParseDSN(os.Getenv(mysqlEnv))
	if err != nil {
		s.t.Fatalf("%s: %v", mysqlEnv, err)
	}
	cfg.DBName = ""
	admin, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if _, err := admin.Exec("DROP DATABASE " + name); err != nil {
			s.t.Error(err)
		}
		admin.Close()
	})
	s.DB = NewProxy(s.t, cfg.Addr)
	at := "@tcp(" + s.DB.Addr() + ")/" + name
	s.settings["storage.admin_dsn"] = cfg.User + ":" + cfg.Passwd + at
	// The engine's own account, where there is one, so that its rights are tested along.
	s.settings["storage.dsn"] = s.settings["storage.admin_dsn"]
	if engine, err := mysql.ParseDSN(os.Getenv("CURLEW_MYSQL_DSN")); err == nil && engine.User != "" {
		s.settings["storage.dsn"] = engine.User + ":" + engine.Passwd + at
	}
}
