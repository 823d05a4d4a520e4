package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/curlew-im/curlew/logic/im"
)

// classify is the one place that decides what a database error means: im.ErrStore
// for what heals by itself or by an operator's hand, im.DuplicateError for a
// violated unique key, im.ErrUnstorable for data that the table refuses and always
// will. The cause stays in the chain. Anything else, a cancelled caller among it,
// is returned as it is.
func classify(err error) error {
	var my *mysql.MySQLError
	var lite *sqlite.Error
	var netErr net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &my):
		return classifyMySQL(my, err)
	case errors.As(err, &lite):
		return classifySQLite(lite, err)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, mysql.ErrPktTooLarge):
		return fmt.Errorf("%w: %w", im.ErrUnstorable, err)
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn),
		errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync), errors.Is(err, mysql.ErrPktSyncMul),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &netErr):
		return fmt.Errorf("%w: %w", im.ErrStore, err)
	}
	return err
}

// classifyMySQL goes by the server's error number. What an operator mends (rights,
// a missing table, a full disk, a read-only server) is ErrStore: parking messages
// for it would lose them.
func classifyMySQL(my *mysql.MySQLError, err error) error {
	switch my.Number {
	case 1022, 1062, 1586: // duplicate key
		return &im.DuplicateError{Key: duplicateKey(my.Message), Cause: err}
	case 1048, 1264, 1265, 1292, 1300, 1364, 1366, 1367, 1406, 1690, 3140, 3141, 3819, 4025, // null, range, charset, length, JSON, check
		1118, 1153, 1301: // row or packet too large
		return fmt.Errorf("%w: %w", im.ErrUnstorable, err)
	case 1205, 3572: // waited for a lock, or did not want to
		return fmt.Errorf("%w: %w: %w", im.ErrStore, im.ErrLocked, err)
	case 1213, 1020, 1412, 1614, 1637, // locks, concurrent change
		1040, 1041, 1037, 1038, 1135, 1203, 1226, 1206, // too many, out of memory
		1021, 1030, 1114, 1016, 1017, 1180, 1194, 1195, 1877, // disk, engine
		1290, 1792, 1836, 3100, // read-only
		1044, 1045, 1049, 1142, 1143, 1146, 1054, 1129, 1130, 1227, 1698, 1820, 1862, // rights, schema
		1053, 1077, 1079, 1158, 1159, 1160, 1161, 1152, 1184, 2006, 2013, 4031, // going away, network
		1317, 1927, 1969, 3024, // interrupted, killed, statement time
		1105, 8022, 8028, 9001, 9002, 9003, 9004, 9005, 9006, 9007: // TiDB and Vitess
		return fmt.Errorf("%w: %w", im.ErrStore, err)
	}
	return err
}

// classifySQLite goes by the extended result code; its low byte is the class.
func classifySQLite(lite *sqlite.Error, err error) error {
	switch lite.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return &im.DuplicateError{Key: duplicateKey(lite.Error()), Cause: err}
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return fmt.Errorf("%w: %w", im.ErrUnstorable, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL,
		sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOLFS:
		return fmt.Errorf("%w: %w", im.ErrStore, err)
	}
	return err
}

// duplicateKey tells which unique key of messages was violated, from the error's
// text: MySQL ends it with the key's name ("… for key 'messages.messages_id'",
// without the table before 8.0.19), SQLite with its columns ("… failed:
// messages.conversation, messages.seq").
func duplicateKey(text string) im.DuplicateKey {
	end := text
	if i := strings.LastIndex(text, "for key "); i >= 0 { // what stands before it is the row's data
		end = text[i:]
	}
	switch {
	case strings.Contains(end, "messages_client_msg_id"), strings.Contains(end, "messages.client_msg_id"):
		return im.DuplicateClientMsgID
	case strings.Contains(end, "messages_id"), strings.Contains(end, "messages.id"):
		return im.DuplicateMessageID
	case strings.Contains(end, "PRIMARY"), strings.Contains(end, "messages.seq"):
		return im.DuplicateSeq
	}
	return im.DuplicateUnknown
}

// violates reports whether err is the violation of the unique key that MySQL calls
// key and SQLite column ("users.handle").
func violates(err error, key, column string) bool {
	var dup *im.DuplicateError
	if !errors.As(classify(err), &dup) {
		return false
	}
	text := dup.Cause.Error()
	if i := strings.LastIndex(text, "for key "); i >= 0 {
		return strings.Contains(text[i:], key)
	}
	return strings.Contains(text, column)
}

// isDeadlock reports an error after which the same transaction may be run again at
// once: the server has rolled all of it back (MySQL 1213).
func isDeadlock(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && my.Number == 1213
}

// missingTable reports a query about a table that does not exist.
func missingTable(err error) bool {
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &my):
		return my.Number == 1146
	case errors.As(err, &lite):
		return lite.Code() == sqlite3.SQLITE_ERROR && strings.Contains(lite.Error(), "no such table")
	}
	return false
}
