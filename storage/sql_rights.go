package storage

import (
	"context"
	"database/sql"
	"slices"
	"strings"
)

// rights are all that the engine needs while it runs; what makes tables is for the
// account of storage.admin_dsn, which `curlew migrate` uses.
var rights = []string{"SELECT", "INSERT", "UPDATE", "DELETE", "USAGE"}

// checkRights names what the account may do beyond rights.
func (db *DB) checkRights(ctx context.Context) []Problem {
	grants, err := db.grants(ctx)
	if err != nil {
		return nil // an account that may not see its own rights has few
	}
	var more []string
	for _, g := range grants {
		for _, right := range excess(g) {
			if !slices.Contains(more, right) {
				more = append(more, right)
			}
		}
	}
	if len(more) == 0 {
		return nil
	}
	slices.Sort(more)
	return []Problem{{What: "mysql: the account of storage.dsn may " + strings.Join(more, ", ") + ", which the engine never does while it runs",
		Mend: "an account with SELECT, INSERT, UPDATE and DELETE on the database in storage.dsn, as in scripts/services.d/accounts.sql; the other in storage.admin_dsn"}}
}

// excess is what a line of SHOW GRANTS gives beyond rights.
func excess(grant string) (more []string) {
	list, _, on := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
	if !on { // a role; what it gives has lines of its own
		return nil
	}
	depth, start := 0, 0
	list += ","
	for i, c := range list {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			right, _, _ := strings.Cut(list[start:i], "(") // of some columns
			if right = strings.ToUpper(strings.TrimSpace(right)); !slices.Contains(rights, right) {
				more = append(more, right)
			}
			start = i + 1
		}
	}
	if strings.HasSuffix(grant, "WITH GRANT OPTION") {
		more = append(more, "GRANT OPTION")
	}
	return more
}

func (db *DB) grants(ctx context.Context) (lines []string, err error) {
	ctx, done := db.begin(ctx, "grants")
	defer done(&err)
	err = queryEach(ctx, db.r, func(rows *sql.Rows) error {
		var line string
		err := rows.Scan(&line)
		lines = append(lines, line)
		return err
	}, "SHOW GRANTS")
	return lines, err
}
