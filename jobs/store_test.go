package jobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/storage"
)

// onEachStore runs a test on SQLite, and on MariaDB where there is one: SQLite's
// single writer hides races.
func onEachStore(t *testing.T, f func(t *testing.T, db *storage.DB)) {
	t.Run("sqlite", func(t *testing.T) {
		f(t, openStore(t, storage.DBConfig{Dialect: storage.SQLite, Path: filepath.Join(t.TempDir(), "test.db")}))
	})
	t.Run("mysql", func(t *testing.T) { f(t, openStore(t, mariaDB(t))) })
}

// mariaDB is a database of the test's own.
func mariaDB(t testing.TB) storage.DBConfig {
	t.Helper()
	dsn := os.Getenv("CURLEW_MYSQL_ADMIN_DSN")
	if dsn == "" {
		t.Skip("CURLEW_MYSQL_ADMIN_DSN is not set: not run on MySQL or MariaDB")
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DBName = ""
	admin, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	name := "curlew_jobs_" + strings.ToLower(rand.Text()[:12])
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = admin.Exec("DROP DATABASE " + name)
		_ = admin.Close()
	})
	return storage.DBConfig{Dialect: storage.MySQL, DSN: fmt.Sprintf("%s:%s@%s(%s)/%s", cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, name)}
}

func openStore(t testing.TB, cfg storage.DBConfig) *storage.DB {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if _, _, err := storage.Migrate(t.Context(), cfg, log); err != nil {
		t.Fatal(err)
	}
	db, err := storage.OpenDB(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// onStore is a runner whose record is a real store, and whose Redis is the world's.
func onStore(t testing.TB, cfg Config, w *world, db *storage.DB, cluster *queue.Cluster, steps func(string) error) *Pool {
	t.Helper()
	r, err := NewRunner(cfg, Deps{
		Queue: cluster, Archive: db, Nodes: db, Projector: nowhere{}, Sessions: w, Rooms: w, Bus: nowhere{}, Steps: steps,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.pools[0]
}

// nowhere takes everything and keeps nothing.
type nowhere struct{}

func (nowhere) Project(context.Context, im.Projection) error        { return nil }
func (nowhere) Publish(context.Context, map[im.NodeID][]byte) error { return nil }

// checkStored holds a store against the log: each task once, in order, without holes.
func checkStored(t *testing.T, db *storage.DB, tasks []im.Task) {
	t.Helper()
	order := make(map[im.ConversationID][]im.ClientMsgID)
	for _, task := range tasks {
		order[task.Conversation] = append(order[task.Conversation], task.Send.ClientMsgID)
	}
	for conv, want := range order {
		after := im.Seq(0)
		var last im.MessageID
		n := 0
		for {
			page, err := db.History(t.Context(), im.HistoryQuery{Conversation: conv, After: &after, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.Items {
				switch {
				case n >= len(want):
					t.Fatalf("%s: seq %d is one too many", conv, m.Seq)
				case m.Seq != im.Seq(n+1) || m.ClientMsgID != want[n]:
					t.Fatalf("%s: seq %d is %s, want %d, %s", conv, m.Seq, m.ClientMsgID, n+1, want[n])
				case m.ID <= last:
					t.Fatalf("%s: seq %d has an ID not above the one before", conv, m.Seq)
				}
				last, after = m.ID, m.Seq
				n++
			}
			if !page.HasMoreAfter {
				break
			}
		}
		if n != len(want) {
			t.Fatalf("%s: %d stored, want %d", conv, n, len(want))
		}
		row, err := db.Member(t.Context(), conv, 1)
		if err != nil || row.Read != im.Seq(len(want)) {
			t.Fatalf("%s: the sender's row is %+v, %v", conv, row, err)
		}
	}
}

func TestSecondOwner_OnARealStoreLosesAndDoublesNothing(t *testing.T) {
	onEachStore(t, func(t *testing.T, db *storage.DB) {
		for seed := range uint64(6) {
			w := newWorld(seed)
			l := newLogbook(w, 0)
			l.fetchMax = 30
			var tasks []im.Task
			for n := range 400 {
				// Conversations of this seed's own.
				task := text(im.DirectConversation(1, im.UserID(100+int(seed)*10+n%5)), 1, n)
				tasks = append(tasks, task)
			}
			l.append(tasks...)
			// Two owners at once, of which the first does not know it; each may die anywhere.
			var lives sync.WaitGroup
			for range 4 {
				ctx, cancel := context.WithCancel(context.Background())
				r := onStore(t, quickConfig(), w, db, nil, func(step string) error {
					if w.chance.hits(0.03) {
						cancel()
						return errCrash
					}
					return nil
				})
				assigned := l.join()
				assigned.trust = true
				ended := make(chan struct{})
				lives.Go(func() {
					defer close(ended)
					stop := make(chan struct{})
					go func() {
						defer close(stop)
						_ = l.await(ctx)
						cancel()
					}()
					_ = live(ctx, r, assigned)
					<-stop
				})
				if w.chance.intn(2) == 0 {
					continue
				}
				<-ended
			}
			w.chance.stop()
			limit, done := context.WithTimeout(context.Background(), time.Minute)
			ctx, cancel := context.WithCancel(limit)
			last := l.join()
			last.trust = true
			lives.Go(func() { _ = live(ctx, onStore(t, quickConfig(), w, db, nil, nil), last) })
			if err := l.await(limit); err != nil {
				t.Error(err)
			}
			cancel()
			lives.Wait()
			done()
			checkStored(t, db, tasks)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	})
}

func TestRunner_RebalanceAndRestartOnARealLog(t *testing.T) {
	logs := map[string]func(t *testing.T) []string{
		"kfake": func(t *testing.T) []string {
			broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond),
				kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, "127.0.0.1:0") }),
				kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(broker.Close)
			return broker.ListenAddrs()
		},
		"kafka": func(t *testing.T) []string {
			addrs := os.Getenv("CURLEW_KAFKA_ADDRS")
			if addrs == "" {
				t.Skip("CURLEW_KAFKA_ADDRS is not set: not run on a real broker")
			}
			return strings.Split(addrs, ",")
		},
	}
	for name, addrs := range logs {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, db *storage.DB) { rebalanceAndRestart(t, addrs(t), db) })
		})
	}
}

func rebalanceAndRestart(t *testing.T, addrs []string, db *storage.DB) {
	prefix := "t" + strings.ToLower(rand.Text()) + "."
	qcfg := queue.Config{
		Brokers: addrs, Prefix: prefix, GroupPrefix: prefix, CreateTopics: true, Partitions: 4,
		Heartbeat: 100 * time.Millisecond, SessionTimeout: 6 * time.Second, JoinBackoff: 20 * time.Millisecond,
		RebalanceTimeout: 5 * time.Second, FetchWait: 50 * time.Millisecond,
	}
	cfg := quickConfig()
	cfg.DrainTimeout = 3 * time.Second
	w := newWorld(1)
	connect := func() *queue.Cluster {
		c, err := queue.NewCluster(qcfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	start := func(steps func(string) error) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		r := onStore(t, cfg, w, db, connect(), steps)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		stop = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
		})
		t.Cleanup(stop)
		return stop
	}
	t.Cleanup(func() { // a real broker outlives the test
		admin := &kafka.Client{Addr: kafka.TCP(addrs...), Timeout: 2 * time.Second}
		_, _ = admin.DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{
			Topics: []string{prefix + "realtime", prefix + "delay", prefix + "retry", prefix + "dead"}})
	})
	producer := queue.NewProducer(connect(), im.LaneRealtime)
	t.Cleanup(producer.Close)
	var tasks []im.Task
	var answered sync.WaitGroup
	produce := func(n int) {
		for range n {
			task := text(im.DirectConversation(1, im.UserID(2+len(tasks)%12)), 1, len(tasks))
			tasks = append(tasks, task)
			answered.Add(1)
			producer.Produce(task, func(err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
				}
				answered.Done()
			})
		}
	}
	first := start(nil)
	produce(300)
	second := start(func(step string) error { // one that dies in the middle, though its process lives on
		if step == "project" {
			return errors.New("crash")
		}
		return nil
	})
	produce(300)
	answered.Wait()
	second()
	third := start(nil)
	produce(300)
	first()
	produce(300)
	third()
	produce(100)
	answered.Wait()
	fourth := start(nil)
	var keys []im.SendKey
	for _, task := range tasks {
		keys = append(keys, im.SendKey{Conversation: task.Conversation, Sender: 1, ClientMsgID: task.Send.ClientMsgID})
	}
	deadline := time.Now().Add(time.Minute)
	for {
		found := 0
		for from := 0; from < len(keys); from += 500 {
			refs, err := db.FindStored(t.Context(), keys[from:min(from+500, len(keys))])
			if err != nil {
				t.Fatal(err)
			}
			found += len(refs)
		}
		if found == len(keys) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d stored within a minute", found, len(keys))
		}
		time.Sleep(10 * time.Millisecond)
	}
	fourth() // cursor moves are written by now at the latest
	checkStored(t, db, tasks)
}

// BenchmarkPipeline is the way from Produce to the committed row and the publish, on
// real stores, with 800 sends under way; Redis is left out.
func BenchmarkPipeline(b *testing.B) {
	addrs := os.Getenv("CURLEW_KAFKA_ADDRS")
	if addrs == "" {
		b.Skip("CURLEW_KAFKA_ADDRS is not set")
	}
	db := openStore(b, mariaDB(b))
	prefix := "t" + strings.ToLower(rand.Text()) + "."
	cluster, err := queue.NewCluster(queue.Config{Brokers: strings.Split(addrs, ","), Prefix: prefix, GroupPrefix: prefix, CreateTopics: true},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	if err := cluster.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	w := newWorld(1)
	for u := im.UserID(1); u <= 200; u++ {
		online(w, u, "phone", "n1")
	}
	r := onStore(b, Config{}, w, db, cluster, nil)
	slots := make(chan struct{}, 800)
	r.deps.Bus = slotBus{slots}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	producer := queue.NewProducer(cluster, im.LaneRealtime)
	n := 0
	for b.Loop() {
		slots <- struct{}{}
		a := im.UserID(1 + 2*(n%100))
		task := text(im.DirectConversation(a, a+1), a, n)
		task.Send.ClientMsgID = im.ClientMsgID(fmt.Sprintf("bench-%012d", n))
		producer.Produce(task, func(err error) {
			if err != nil {
				b.Error(err)
			}
		})
		n++
	}
	cancel()
	<-ended
	producer.Close()
	cluster.Close()
}

// slotBus frees a slot for each stored push.
type slotBus struct{ slots chan struct{} }

func (s slotBus) Publish(_ context.Context, batches map[im.NodeID][]byte) error {
	for _, b := range batches {
		for range bytes.Count(b, []byte(`{"push":"stored"`)) {
			<-s.slots
		}
	}
	return nil
}
