package storage

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/curlew-im/curlew/logic/im"
)

func TestClassify_SaysWhatAnErrorMeans(t *testing.T) {
	number := func(n uint16) error { return fmt.Errorf("exec: %w", &mysql.MySQLError{Number: n, Message: "m"}) }
	other := errors.New("other")
	for _, row := range []struct {
		err  error
		want error
	}{
		{number(1205), im.ErrStore}, {number(1213), im.ErrStore}, {number(1020), im.ErrStore}, {number(1040), im.ErrStore},
		{number(2006), im.ErrStore}, {number(2013), im.ErrStore}, {number(1290), im.ErrStore}, {number(1021), im.ErrStore},
		{number(1114), im.ErrStore}, {number(1142), im.ErrStore}, {number(1146), im.ErrStore}, {number(1927), im.ErrStore},
		{number(1406), im.ErrUnstorable}, {number(1366), im.ErrUnstorable}, {number(1264), im.ErrUnstorable},
		{number(1048), im.ErrUnstorable}, {number(1292), im.ErrUnstorable}, {number(3140), im.ErrUnstorable}, {number(1153), im.ErrUnstorable},
		{mysql.ErrPktTooLarge, im.ErrUnstorable},
		{driver.ErrBadConn, im.ErrStore}, {mysql.ErrInvalidConn, im.ErrStore}, {io.ErrUnexpectedEOF, im.ErrStore},
		{&net.OpError{Op: "dial", Err: other}, im.ErrStore}, {context.DeadlineExceeded, im.ErrStore},
		{context.Canceled, context.Canceled}, {other, other}, {number(1064), number(1064)},
	} {
		got := classify(row.err)
		if !errors.Is(got, row.err) {
			t.Errorf("%v lost its cause: %v", row.err, got)
		}
		for _, kind := range []error{im.ErrStore, im.ErrUnstorable} {
			if errors.Is(got, kind) != (row.want == kind) {
				t.Errorf("%v: is %v: %v", row.err, kind, errors.Is(got, kind))
			}
		}
	}
}

func TestDuplicateKey_IsReadFromTheEndOfTheText(t *testing.T) {
	for text, want := range map[string]im.DuplicateKey{
		"Duplicate entry 'd1-2-7' for key 'PRIMARY'":                                               im.DuplicateSeq,
		"Duplicate entry 'd1-2-7' for key 'messages.PRIMARY'":                                      im.DuplicateSeq,
		"Duplicate entry 'x for key 'messages_id'' for key 'messages.messages_client_msg_id'":      im.DuplicateClientMsgID,
		"Duplicate entry '5' for key 'messages_id'":                                                im.DuplicateMessageID,
		"UNIQUE constraint failed: messages.conversation, messages.seq":                            im.DuplicateSeq,
		"UNIQUE constraint failed: messages.conversation, messages.sender, messages.client_msg_id": im.DuplicateClientMsgID,
		"UNIQUE constraint failed: messages.id":                                                    im.DuplicateMessageID,
		"Duplicate entry for something new":                                                        im.DuplicateUnknown,
	} {
		if got := duplicateKey(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestDB_ServerAwayIsErrStoreWithinTheDeadline(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing: a stalled server
	must(t, err)
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, gone.Close())
	for name, addr := range map[string]net.Addr{"stalled": silent.Addr(), "refused": gone.Addr()} {
		db := openTest(t, DBConfig{Dialect: MySQL, DSN: "u:p@tcp(" + addr.String() + ")/curlew", QueryTimeout: 200 * time.Millisecond})
		if err := db.InsertMessages(t.Context(), []im.Message{message("d1-2", 1, 1)}); !errors.Is(err, im.ErrStore) {
			t.Errorf("%s: insert: %v", name, err)
		}
		if _, err := db.UserStates(t.Context(), 1); !errors.Is(err, im.ErrStore) {
			t.Errorf("%s: read: %v", name, err)
		}
		if err := db.CheckSchema(t.Context()); !errors.Is(err, im.ErrStore) {
			t.Errorf("%s: schema: %v", name, err)
		}
		if problems := db.Check(t.Context()); len(problems) != 1 || !problems[0].Fatal {
			t.Errorf("%s: doctor: %+v", name, problems)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Ping(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, im.ErrStore) {
			t.Errorf("%s: cancelled by the caller: %v", name, err)
		}
	}
}

func TestDBConfig_NamesTheBadField(t *testing.T) {
	for _, row := range []struct {
		cfg  DBConfig
		want string
	}{
		{DBConfig{Dialect: "oracle"}, "storage.dialect"},
		{DBConfig{MaxOpen: -1}, "storage.max_open"},
		{DBConfig{QueryTimeout: 1}, "storage.query_timeout"},
		{DBConfig{Dialect: MySQL}, "storage.dsn: empty"},
		{DBConfig{Dialect: MySQL, DSN: "u:p@tcp(h:1)/"}, "storage.dsn: names no database"},
		{DBConfig{Dialect: MySQL, DSN: "u:p@tcp(h:1)/d?charset=latin1"}, "storage.dsn: parameter charset"},
		{DBConfig{Dialect: MySQL, DSN: "u:p@tcp(h:1)/d?sql_mode=''"}, "storage.dsn: parameter sql_mode"},
		{DBConfig{Dialect: MySQL, DSN: "u:p@tcp(h:1)/d", AdminDSN: "nonsense"}, "storage.admin_dsn"},
	} {
		err := row.cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%+v: %v, want %s", row.cfg, err, row.want)
		}
		if _, err := OpenDB(t.Context(), row.cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v was opened", row.cfg)
		}
	}
	for _, good := range []DBConfig{{}, {Dialect: MySQL, DSN: "u:p@tcp(h:1)/d"}, {Dialect: MySQL, DSN: "u:p/w?@tcp(h:1)/d?tls=true"}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}
