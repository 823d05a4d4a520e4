package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

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
	if err := tx.Commit(); err != nil {
		return &commitError{err}
	}
	return nil
}

// commitError says that a transaction may have been committed all the same; any other
// error of one says that it was not.
type commitError struct{ cause error }

func (e *commitError) Error() string { return "commit: " + e.cause.Error() }
func (e *commitError) Unwrap() error { return e.cause }

// queryAll runs a query and collects what scan makes of each row.
func queryAll[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	err := queryEach(ctx, q, func(rows *sql.Rows) error {
		v, err := scan(rows)
		if err == nil {
			all = append(all, v)
		}
		return err
	}, query, args...)
	return all, err
}

// queryEach runs a query and has scan take each row; the first error of it ends that.
func queryEach(ctx context.Context, q querier, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
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

// insertAll inserts n rows of width values, in statements of insertRows.
func insertAll(ctx context.Context, q querier, head string, width, n int, end string, row func(args []any, i int) []any) error {
	marks := in(width)
	for from := 0; from < n; from += insertRows {
		to := min(from+insertRows, n)
		args := make([]any, 0, width*(to-from))
		for i := from; i < to; i++ {
			args = row(args, i)
		}
		if _, err := q.ExecContext(ctx, repeat(head, marks, ", ", to-from, end), args...); err != nil {
			return err
		}
	}
	return nil
}

// page cuts what was read beyond the limit to see whether there is more.
func page[T any](all []T, limit int) ([]T, bool) {
	if len(all) > limit {
		return all[:limit], true
	}
	return all, false
}

// anyOf makes arguments of a list.
func anyOf[T any](list []T) []any {
	args := make([]any, len(list))
	for i, v := range list {
		args[i] = v
	}
	return args
}
