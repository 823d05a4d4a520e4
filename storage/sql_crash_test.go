package storage

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// TestSQLite_SIGKILLLosesNothingThatWasAnswered runs a writer as a process of its
// own, kills it in the middle, and looks for each batch it had said was stored.
func TestSQLite_SIGKILLLosesNothingThatWasAnswered(t *testing.T) {
	if path := os.Getenv("CURLEW_TEST_WRITER"); path != "" {
		writeUntilKilled(path)
	}
	cfg := DBConfig{Dialect: SQLite, Path: filepath.Join(t.TempDir(), "killed.db")}
	must(t, openMigrated(t, cfg).EnsureConversations(t.Context(), []im.NewConversation{{ID: "d1-2", Members: []im.UserID{1, 2}}}))
	var stored im.Seq
	for round := range 5 {
		writer := exec.Command(os.Args[0], "-test.run=^TestSQLite_SIGKILL")
		writer.Env = append(os.Environ(), "CURLEW_TEST_WRITER="+cfg.Path)
		out, err := writer.StdoutPipe()
		must(t, err)
		must(t, writer.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			seq, err := strconv.ParseUint(strings.TrimPrefix(lines.Text(), "stored "), 10, 64)
			if err != nil {
				t.Fatalf("writer says %q", lines.Text())
			}
			stored = im.Seq(seq)
			if n == 20+round {
				must(t, writer.Process.Kill())
			}
		}
		_ = writer.Wait() // killed
		db := openTest(t, cfg)
		lasts, err := db.Lasts(t.Context(), []im.ConversationID{"d1-2"})
		must(t, err)
		if lasts["d1-2"].Seq < stored || lasts["d1-2"].Seq%7 != 0 {
			t.Fatalf("round %d: last seq %d, the writer had %d answered in batches of 7", round, lasts["d1-2"].Seq, stored)
		}
		var check string
		must(t, db.r.QueryRow("PRAGMA integrity_check").Scan(&check))
		if check != "ok" {
			t.Fatalf("round %d: %s", round, check)
		}
	}
	if stored == 0 {
		t.Fatal("the writer stored nothing")
	}
}

func writeUntilKilled(path string) {
	db, err := OpenDB(context.Background(), DBConfig{Dialect: SQLite, Path: path}, quiet)
	if err != nil {
		panic(err)
	}
	lasts, err := db.Lasts(context.Background(), []im.ConversationID{"d1-2"})
	if err != nil {
		panic(err)
	}
	for seq := lasts["d1-2"].Seq; ; {
		batch := make([]im.Message, 7)
		for i := range batch {
			seq++
			batch[i] = message("d1-2", seq, 1)
			batch[i].ID, batch[i].ClientMsgID = im.MessageID(seq), im.ClientMsgID(fmt.Sprintf("killed-%d", seq))
		}
		if err := db.InsertMessages(context.Background(), batch); err != nil {
			panic(err)
		}
		fmt.Printf("stored %d\n", seq)
	}
}

// TestMySQL_LockedRowAndKilledConnection: what the server does to one statement is
// ErrStore, the next one works, and nothing is half there.
func TestMySQL_LockedRowAndKilledConnection(t *testing.T) {
	db := newMySQL(t)
	a, _, c := newPair(t, db)
	fill(t, db, c, 3, a)
	other, err := db.w.Conn(t.Context())
	must(t, err)
	defer other.Close()
	holder, err := other.BeginTx(t.Context(), nil)
	must(t, err)
	_, err = holder.Exec("INSERT INTO messages ("+messageColumns+") SELECT conversation, 4, 4, sender, 'holder-of-4',"+
		" sender_handle, sender_nickname, sender_avatar, type, content, content_hash, stored_at FROM messages WHERE conversation = ? AND seq = 1", string(c))
	must(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // nearer than the lock wait
	err = db.InsertMessages(ctx, []im.Message{message(c, 4, a)})
	cancel()
	if !errors.Is(err, im.ErrStore) {
		t.Errorf("behind a lock: %v", err)
	}
	var id int64
	must(t, holder.QueryRow("SELECT CONNECTION_ID()").Scan(&id))
	_, err = db.w.Exec(fmt.Sprintf("KILL %d", id)) // its transaction is rolled back
	must(t, err)
	if err := holder.Commit(); err == nil || !errors.Is(classify(err), im.ErrStore) {
		t.Errorf("commit on a killed connection: %v", classify(err))
	}
	// The insert that gave up may still be stored, even now: the server knows of no
	// deadline. The next owner looks again until it is through.
	must(t, storeLikeAStrand(t, db, []im.Message{message(c, 0, a)}, func() im.MessageID { return im.MessageID(1<<41 + number.Add(1)) }))
	page, err := db.History(t.Context(), im.HistoryQuery{Conversation: c, Limit: 10})
	must(t, err)
	for i, m := range page.Items {
		if m.Seq != im.Seq(i+1) || m.ClientMsgID == "holder-of-4" {
			t.Errorf("at %d: seq %d, %s", i, m.Seq, m.ClientMsgID)
		}
	}
}

// TestSQLite_ReadersDoNotWaitForAWriter: a read goes on while a transaction is open.
func TestSQLite_ReadersDoNotWaitForAWriter(t *testing.T) {
	db := newSQLite(t)
	a, _, c := newPair(t, db)
	fill(t, db, c, 3, a)
	must(t, db.once(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM messages"); err != nil {
			return err
		}
		page, err := db.History(t.Context(), im.HistoryQuery{Conversation: c, Limit: 10})
		if err != nil || len(page.Items) != 3 {
			t.Errorf("%d messages, %v", len(page.Items), err)
		}
		return nil
	}))
	if _, err := db.r.Exec("DELETE FROM users"); err == nil {
		t.Error("a reader wrote")
	}
}
