package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Problem is one thing that is wrong with a dependency or its settings, and how to
// mend it.
type Problem struct {
	What string // "mysql: innodb_flush_log_at_trx_commit is 2"
	Mend string // "SET GLOBAL …"
	// Fatal problems break a promise: production refuses to start with one.
	Fatal bool
}

// Check looks for what `curlew doctor` should name: whether the database answers and
// its schema is ours, and the settings that our promises rest on.
func (db *DB) Check(ctx context.Context) []Problem {
	if err := db.CheckSchema(ctx); err != nil {
		var schema *SchemaError
		if errors.As(err, &schema) {
			return []Problem{{What: db.d.name + ": " + schema.Error(), Mend: "run curlew migrate", Fatal: true}}
		}
		return []Problem{{What: db.d.name + " does not answer: " + err.Error(),
			Mend: "check that it runs, and the address, account and rights in storage.dsn or storage.path", Fatal: true}}
	}
	problems := db.checkClock(ctx)
	if db.d.name == MySQL {
		problems = append(problems, db.checkMySQL(ctx)...)
	}
	return problems
}

// checkClock compares the database's clock, which leases and due times go by, with
// this machine's, which message IDs and tokens go by.
func (db *DB) checkClock(ctx context.Context) []Problem {
	now, err := db.NowMilli(ctx)
	if err != nil {
		return []Problem{{What: "the database's clock cannot be read: " + err.Error(), Mend: "see above", Fatal: true}}
	}
	skew := time.Since(time.UnixMilli(now)).Abs()
	if skew < 2*time.Second {
		return nil
	}
	return []Problem{{What: fmt.Sprintf("this machine's clock and the database's differ by %s", skew.Round(time.Millisecond)),
		Mend: "run an NTP client on both"}}
}

// settings are the server variables that matter. Those that a server does not know
// are passed over.
var settings = []struct {
	name  string
	good  func(value string) bool
	mend  string
	fatal bool
}{
	{"innodb_flush_log_at_trx_commit", is("1"), "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in my.cnf: with another value a crash of the machine loses stored messages", true},
	{"innodb_doublewrite", is("ON", "1"), "innodb_doublewrite = ON in my.cnf: without it a torn page loses data", true},
	{"read_only", is("OFF", "0", "NO"), "point storage.dsn at the primary, or SET GLOBAL read_only = OFF", true},
	{"max_allowed_packet", atLeast(16 << 20), "SET GLOBAL max_allowed_packet = 67108864, and in my.cnf: a batch may be one statement of 8 MiB", true},
	{"max_connections", atLeast(100), "max_connections = 300 in my.cnf: each process opens up to storage.max_open", false},
	{"innodb_buffer_pool_size", atLeast(256 << 20), "innodb_buffer_pool_size = 70 % of the machine's memory in my.cnf", false},
}

func is(values ...string) func(string) bool {
	return func(v string) bool {
		for _, good := range values {
			if v == good {
				return true
			}
		}
		return false
	}
}

func atLeast(n int64) func(string) bool {
	return func(v string) bool {
		have, err := strconv.ParseInt(v, 10, 64)
		return err == nil && have >= n
	}
}

func (db *DB) checkMySQL(ctx context.Context) []Problem {
	values, err := db.variables(ctx)
	if err != nil {
		return []Problem{{What: "mysql: settings cannot be read: " + err.Error(), Mend: "see above", Fatal: true}}
	}
	return append(checkSettings(values), db.checkRights(ctx)...)
}

func checkSettings(values map[string]string) (problems []Problem) {
	for _, s := range settings {
		if v, known := values[s.name]; known && !s.good(v) {
			problems = append(problems, Problem{What: "mysql: " + s.name + " is " + v, Mend: s.mend, Fatal: s.fatal})
		}
	}
	// A replica or a restored backup would lack what the binary log lost.
	if values["log_bin"] == "ON" && values["sync_binlog"] != "1" {
		problems = append(problems, Problem{What: "mysql: sync_binlog is " + values["sync_binlog"] + " with the binary log on",
			Mend: "SET GLOBAL sync_binlog = 1, and in my.cnf", Fatal: true})
	}
	for name, want := range map[string]string{"@@session.sql_mode": "STRICT_ALL_TABLES", "@@session.time_zone": "+00:00"} {
		if got := values[name]; got != want {
			problems = append(problems, Problem{What: "mysql: " + name + " is " + got + " in our own connections",
				Mend: "a proxy between Curlew and the server resets sessions: let it keep what a connection sets", Fatal: true})
		}
	}
	return problems
}

func (db *DB) variables(ctx context.Context) (values map[string]string, err error) {
	ctx, done := db.begin(ctx, "variables")
	defer done(&err)
	values = make(map[string]string)
	err = queryEach(ctx, db.r, func(rows *sql.Rows) error {
		var name, value string
		err := rows.Scan(&name, &value)
		values[name] = value
		return err
	}, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return nil, err
	}
	var mode, zone string
	err = db.r.QueryRowContext(ctx, "SELECT IF(@@session.sql_mode LIKE '%STRICT_ALL_TABLES%', 'STRICT_ALL_TABLES', @@session.sql_mode), @@session.time_zone").
		Scan(&mode, &zone)
	values["@@session.sql_mode"], values["@@session.time_zone"] = mode, zone
	return values, err
}
