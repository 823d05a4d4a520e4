package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/curlew-im/curlew/logic/im"
)

// embedded starts a broker in this process.
func embedded(t testing.TB) *kfake.Cluster {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, "127.0.0.1:0") }),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

// brokers are the broker in this process, and the real one where there is one.
func brokers(t *testing.T, f func(t *testing.T, addrs []string)) {
	t.Run("kfake", func(t *testing.T) { f(t, embedded(t).ListenAddrs()) })
	t.Run("kafka", func(t *testing.T) {
		addrs := os.Getenv("CURLEW_KAFKA_ADDRS")
		if addrs == "" {
			t.Skip("CURLEW_KAFKA_ADDRS is not set: not run on a real broker")
		}
		f(t, strings.Split(addrs, ","))
	})
}

func quick(addrs []string) Config {
	name := "t" + strings.ToLower(rand.Text()) + "."
	replication := 0 // 1
	if len(addrs) > 1 {
		replication = 3 // a cluster of scripts/services
	}
	return Config{
		Replication: replication,
		Brokers:     addrs, Prefix: name, GroupPrefix: name, CreateTopics: true, Partitions: 4,
		Heartbeat: 100 * time.Millisecond, SessionTimeout: 6 * time.Second, JoinBackoff: 20 * time.Millisecond,
		RebalanceTimeout: 2 * time.Second, FetchWait: 50 * time.Millisecond,
	}
}

func cluster(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	c, err := NewCluster(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // a real broker outlives the test
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, _ = c.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: c.topics()})
	})
	return c
}

func send(conv im.ConversationID, n int) im.Task {
	content := []byte(fmt.Sprintf(`{"text":"message %d"}`, n))
	return im.Task{Conversation: conv, Send: &im.SendTask{
		Sender: im.Sender{ID: 1}, ClientMsgID: im.ClientMsgID(fmt.Sprintf("%s-%08d", conv, n)),
		Type: im.TypeText, Content: content, Hash: im.HashContent(im.TypeText, content),
	}}
}

// collector is a handler that keeps what it is given.
type collector struct {
	mu   sync.Mutex
	got  []im.Task
	more chan struct{}
}

func newCollector() *collector { return &collector{more: make(chan struct{}, 1)} }

func (c *collector) handle(ctx context.Context, a *Assignment) {
	for {
		records, err := a.Fetch(ctx)
		if err != nil {
			<-ctx.Done()
			return
		}
		c.mu.Lock()
		for _, r := range records {
			task, err := DecodeTask(r.Value)
			if err != nil {
				panic(err)
			}
			c.got = append(c.got, task)
		}
		c.mu.Unlock()
		select {
		case c.more <- struct{}{}:
		default:
		}
		_ = a.Commit(records[len(records)-1].Offset + 1) // refused after a rebalance, which redelivers
	}
}

// await returns what was collected once enough says so.
func (c *collector) await(t *testing.T, what string, enough func([]im.Task) bool) []im.Task {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		got := slices.Clone(c.got)
		c.mu.Unlock()
		if enough(got) {
			return got
		}
		select {
		case <-c.more:
		case <-deadline:
			t.Fatalf("%s: not within 30 s; got %d", what, len(got))
		}
	}
}

func run(t *testing.T, c *Consumer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("consumer: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// produceAll produces tasks at once and returns their answers in order.
func produceAll(p *Producer, tasks []im.Task) []error {
	errs := make([]error, len(tasks))
	var wg sync.WaitGroup
	wg.Add(len(tasks))
	for i, task := range tasks {
		p.Produce(task, func(err error) { errs[i] = err; wg.Done() })
	}
	wg.Wait()
	return errs
}

func TestQueue_KeepsTheOrderOfEachConversation(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		c := cluster(t, quick(addrs))
		p := NewProducer(c, im.LaneRealtime)
		t.Cleanup(p.Close)
		var tasks []im.Task
		for n := range 500 {
			for conv := range 6 {
				tasks = append(tasks, send(im.DirectConversation(1, im.UserID(2+conv)), n))
			}
		}
		if err := errors.Join(produceAll(p, tasks)...); err != nil {
			t.Fatal(err)
		}
		got := newCollector()
		run(t, NewConsumer(c, im.LaneRealtime, got.handle))
		seen := make(map[im.ConversationID]int)
		for _, task := range got.await(t, "all tasks", func(g []im.Task) bool { return len(g) >= len(tasks) }) {
			want := send(task.Conversation, seen[task.Conversation])
			if task.Send.ClientMsgID != want.Send.ClientMsgID {
				t.Fatalf("%s: got %s, want %s", task.Conversation, task.Send.ClientMsgID, want.Send.ClientMsgID)
			}
			seen[task.Conversation]++
		}
	})
}

func TestConsumer_RebalanceLosesNothing(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		c := cluster(t, quick(addrs))
		p := NewProducer(c, im.LaneRealtime)
		t.Cleanup(p.Close)
		got := newCollector()
		run(t, NewConsumer(c, im.LaneRealtime, got.handle))
		want := make(map[im.ClientMsgID]bool)
		round := func(from int) {
			var tasks []im.Task
			for n := range 50 {
				for conv := range 8 {
					task := send(im.DirectConversation(1, im.UserID(2+conv)), from+n)
					want[task.Send.ClientMsgID] = true
					tasks = append(tasks, task)
				}
			}
			if err := errors.Join(produceAll(p, tasks)...); err != nil {
				t.Fatal(err)
			}
		}
		all := func(g []im.Task) bool {
			seen := make(map[im.ClientMsgID]bool)
			for _, task := range g {
				seen[task.Send.ClientMsgID] = true
			}
			return len(seen) == len(want)
		}
		round(0)
		got.await(t, "the first round", all)
		stop := run(t, NewConsumer(c, im.LaneRealtime, got.handle)) // a second member
		round(100)
		got.await(t, "the second round", all)
		stop() // and away again
		round(200)
		got.await(t, "the third round", all)
	})
}

func TestConsumer_RestartGoesOnWhereItCommitted(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		c := cluster(t, quick(addrs))
		p := NewProducer(c, im.LaneRealtime)
		t.Cleanup(p.Close)
		first := newCollector()
		stop := run(t, NewConsumer(c, im.LaneRealtime, first.handle))
		if err := errors.Join(produceAll(p, []im.Task{send("d1-2", 1), send("d1-2", 2)})...); err != nil {
			t.Fatal(err)
		}
		first.await(t, "two tasks", func(g []im.Task) bool { return len(g) == 2 })
		stop()
		_ = produceAll(p, []im.Task{send("d1-2", 3)})
		second := newCollector()
		run(t, NewConsumer(c, im.LaneRealtime, second.handle))
		got := second.await(t, "one task", func(g []im.Task) bool { return len(g) > 0 })
		if got[0].Send.ClientMsgID != send("d1-2", 3).Send.ClientMsgID {
			t.Fatalf("started again at %s", got[0].Send.ClientMsgID)
		}
	})
}

func TestConsumer_APartitionWithoutItsLeaderHoldsUpNoOther(t *testing.T) {
	broker := embedded(t)
	cfg := quick(broker.ListenAddrs())
	c := cluster(t, cfg)
	away := Partition("d1-2", cfg.Partitions)
	other := im.ConversationID("d1-3")
	for n := im.UserID(4); Partition(other, cfg.Partitions) == away; n++ {
		other = im.DirectConversation(1, n)
	}
	var back atomic.Bool
	broker.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		r := req.(*kmsg.ListOffsetsRequest)
		part := r.Topics[0].Partitions[0]
		if back.Load() || int(part.Partition) != away {
			return nil, nil, false
		}
		res := r.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic, answer := kmsg.NewListOffsetsResponseTopic(), kmsg.NewListOffsetsResponseTopicPartition()
		topic.Topic, answer.Partition, answer.ErrorCode = r.Topics[0].Topic, part.Partition, kerr.LeaderNotAvailable.Code
		topic.Partitions = append(topic.Partitions, answer)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	_ = produceAll(p, []im.Task{send("d1-2", 1), send(other, 1)})
	seen := newCollector()
	run(t, NewConsumer(c, im.LaneRealtime, seen.handle))
	got := seen.await(t, "the other's task", func(g []im.Task) bool { return len(g) > 0 })
	if got[0].Conversation != other {
		t.Fatalf("got a task of %s", got[0].Conversation)
	}
	back.Store(true)
	seen.await(t, "both", func(g []im.Task) bool { return len(g) == 2 })
}

func TestCluster_AnotherPartitionCountIsRefused(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		cfg := quick(addrs)
		cluster(t, cfg)
		cfg.Partitions = 8
		c, err := NewCluster(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "has 4 partitions, queue.partitions says 8") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestCluster_MissingTopicIsNamed(t *testing.T) {
	cfg := quick(embedded(t).ListenAddrs())
	cfg.CreateTopics = false
	c, err := NewCluster(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "migrate") {
		t.Fatalf("got %v", err)
	}
}

func TestProducer_NeverHandedOverIsRefused(t *testing.T) {
	broker := embedded(t)
	c := cluster(t, quick(broker.ListenAddrs()))
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	if err := produceAll(p, []im.Task{send("d1-2", 1)})[0]; err != nil {
		t.Fatal(err)
	}
	broker.Close()
	c.transport.CloseIdleConnections() // the next request has to dial
	if err := produceAll(p, []im.Task{send("d1-2", 2)})[0]; !errors.Is(err, im.ErrQueue) {
		t.Fatalf("got %v", err)
	}
}

// answerProduce makes the broker answer the next n produce requests with a code,
// without writing.
func answerProduce(broker *kfake.Cluster, n int, code int16) {
	for range n {
		broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			r := req.(*kmsg.ProduceRequest)
			res := r.ResponseKind().(*kmsg.ProduceResponse)
			for _, topic := range r.Topics {
				rt := kmsg.NewProduceResponseTopic()
				rt.Topic = topic.Topic
				for _, part := range topic.Partitions {
					rp := kmsg.NewProduceResponseTopicPartition()
					rp.Partition, rp.ErrorCode = part.Partition, code
					rt.Partitions = append(rt.Partitions, rp)
				}
				res.Topics = append(res.Topics, rt)
			}
			return res, nil, true
		})
	}
}

func TestProducer_LeaderElsewhereIsAskedAgain(t *testing.T) {
	broker := embedded(t)
	c := cluster(t, quick(broker.ListenAddrs()))
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	answerProduce(broker, 2, kerr.NotLeaderForPartition.Code)
	if err := produceAll(p, []im.Task{send("d1-2", 1)})[0]; err != nil {
		t.Fatal(err)
	}
}

func TestProducer_WithoutAWordTheOutcomeIsUnknown(t *testing.T) {
	broker := embedded(t)
	cfg := quick(broker.ListenAddrs())
	cfg.ProduceBudget, cfg.ProduceAttempt = 300*time.Millisecond, 100*time.Millisecond
	c := cluster(t, cfg)
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	hold := make(chan struct{})
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		broker.SleepControl(func() { <-hold })
		return nil, nil, false
	})
	errs := produceAll(p, []im.Task{send("d1-2", 1)})
	close(hold)
	if !errors.Is(errs[0], im.ErrUnknownOutcome) {
		t.Fatalf("got %v", errs[0])
	}
}

func TestProducer_WhatTheBrokerWillNeverTakeIsRefusedAtOnce(t *testing.T) {
	broker := embedded(t)
	c := cluster(t, quick(broker.ListenAddrs()))
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	answerProduce(broker, 1, kerr.TopicAuthorizationFailed.Code)
	errs := produceAll(p, []im.Task{send("d1-2", 1)})
	if !errors.Is(errs[0], im.ErrQueue) || errors.Is(errs[0], im.ErrUnknownOutcome) {
		t.Fatalf("got %v", errs[0])
	}
}

func TestProducer_FullIsOverloaded(t *testing.T) {
	broker := embedded(t)
	cfg := quick(broker.ListenAddrs())
	cfg.WaitingRecords = 3
	c := cluster(t, cfg)
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	hold := make(chan struct{})
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.SleepControl(func() { <-hold })
		return nil, nil, false
	})
	answers := make(chan error, 5)
	for n := range 5 {
		p.Produce(send("d1-2", n), func(err error) { answers <- err })
	}
	for range 2 {
		if err := <-answers; !errors.Is(err, im.ErrOverloaded) {
			t.Fatalf("got %v", err)
		}
	}
	close(hold)
	for range 3 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// [Q3] What waits behind a request without an answer is answered before that is given up.
func TestProducer_WhatWaitsBehindASilentBrokerIsAnsweredInItsOwnTime(t *testing.T) {
	broker := embedded(t)
	cfg := quick(broker.ListenAddrs())
	cfg.ProduceBudget, cfg.ProduceAttempt, cfg.ProduceInFlight = 1500*time.Millisecond, 1500*time.Millisecond, 1
	c := cluster(t, cfg)
	reached := make(chan struct{}, 1)
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.SleepControl(func() { // the others are answered meanwhile
			select {
			case reached <- struct{}{}:
			default:
			}
			<-silent
		})
		return nil, nil, false
	})
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	other := im.ConversationID("d1-3")
	for n := im.UserID(4); Partition(other, cfg.Partitions) == Partition("d1-2", cfg.Partitions); n++ {
		other = im.DirectConversation(1, n)
	}
	answers := make(chan error, 3)
	answer := func(err error) { answers <- err }
	p.Produce(send("d1-2", 0), answer)
	<-reached
	p.Produce(send("d1-2", 1), answer) // its partition is in the request
	p.Produce(send(other, 1), answer)  // there is no sender
	for range 2 {
		if err := <-answers; !errors.Is(err, im.ErrQueue) {
			t.Fatalf("what was never handed over: %v", err)
		}
	}
	if err := <-answers; !errors.Is(err, im.ErrUnknownOutcome) {
		t.Fatalf("what was: %v", err)
	}
}

func TestProducer_CloseAnswersEverything(t *testing.T) {
	c := cluster(t, quick(embedded(t).ListenAddrs()))
	p := NewProducer(c, im.LaneRealtime)
	answers := make(chan error, 1000)
	for n := range 1000 {
		p.Produce(send(im.DirectConversation(1, im.UserID(2+n%9)), n), func(err error) { answers <- err })
	}
	p.Close()
	p.Close()
	if len(answers) != 1000 {
		t.Fatalf("%d of 1000 answered", len(answers))
	}
	for range 1000 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	p.Produce(send("d1-2", 1), func(err error) { answers <- err })
	if err := <-answers; !errors.Is(err, im.ErrQueue) {
		t.Fatalf("after Close: %v", err)
	}
}

func TestConfig_NamesTheBadField(t *testing.T) {
	for field, cfg := range map[string]Config{
		"queue.brokers":    {},
		"queue.prefix":     {Brokers: []string{"a:1"}, Prefix: "a b"},
		"queue.partitions": {Brokers: []string{"a:1"}, Partitions: -1},
		"queue.retention":  {Brokers: []string{"a:1"}, Retention: time.Hour},
		"queue.heartbeat":  {Brokers: []string{"a:1"}, Heartbeat: 9 * time.Second},
	} {
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := (Config{Brokers: []string{"a:1"}}).Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkProducer(b *testing.B) {
	addrs := os.Getenv("CURLEW_KAFKA_ADDRS")
	for name, list := range map[string][]string{"kfake": embedded(b).ListenAddrs(), "kafka": strings.Split(addrs, ",")} {
		for _, inFlight := range []int{1, 100, 2000} {
			b.Run(fmt.Sprintf("%s/waiting=%d", name, inFlight), func(b *testing.B) {
				if list[0] == "" {
					b.Skip("CURLEW_KAFKA_ADDRS is not set")
				}
				cfg := quick(list)
				cfg.Partitions = 8
				c := cluster(b, cfg)
				p := NewProducer(c, im.LaneRealtime)
				defer p.Close()
				slots := make(chan struct{}, inFlight)
				tasks := make([]im.Task, 64)
				for i := range tasks {
					tasks[i] = send(im.DirectConversation(1, im.UserID(2+i)), i)
				}
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					slots <- struct{}{}
					p.Produce(tasks[n%len(tasks)], func(err error) {
						if err != nil {
							b.Error(err)
						}
						<-slots
					})
					n++
				}
			})
		}
	}
}
