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
	dsn := cfg.User + ":" + cfg.Passwd + "@tcp(" + s.DB.Addr() + ")/" + name
	s.settings["storage.dsn"], s.settings["storage.admin_dsn"] = dsn, dsn
}
