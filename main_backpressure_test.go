package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// The store stands still: what is accepted waits, and past the age it may have sends are
// refused with a time to come back. Then all that was accepted is stored, and nothing else.
func TestBackpressure_PastAnAgeSendsAreOverloadedUntilTheStoreCatchesUp(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	open := make(chan struct{})
	release := sync.OnceFunc(func() { close(open) })
	t.Cleanup(release)
	var shut atomic.Bool
	e := startSteps(t, s, func(step string) error {
		if step == "insert" && shut.Load() {
			<-open
		}
		return nil
	}, func(c *configs.Config) { c.Logic.MaxBacklogAge = 5 * time.Second })
	ann, bob, conv := e.pair(t)
	ann.connect("phone").say(bob, "before")
	said := []string{"before"}
	shut.Store(true)

	var refusal *protocol.Error
	devtest.Eventually(t, "a send is refused", func() bool {
		text := fmt.Sprint("message ", len(said))
		_, err := ann.http.Send(t.Context(), textTo(bob.id, text), false)
		if err == nil {
			said = append(said, text)
			return false
		}
		if !errors.As(err, &refusal) {
			t.Fatalf("%s: %v", text, err)
		}
		return true
	})
	if refusal.Code != "overloaded" || refusal.Outcome != im.OutcomeRefused || !refusal.Retryable || refusal.RetryAfterMS < 2000 {
		t.Errorf("refused with %+v", refusal)
	}
	r := call{method: http.MethodPost, path: "/v1/messages", body: fmt.Sprintf(
		`{"client_msg_id":"refused-0001","to":{"user_id":"%d"},"type":"text","content":{"text":"never"}}`, bob.id),
	}.do(t, e.http, "Bearer "+ann.issue("raw").AccessToken)
	after, _ := strconv.Atoi(r.header.Get("Retry-After"))
	if r.status != http.StatusServiceUnavailable || after < 2 {
		t.Errorf("answered %d, Retry-After %d: %s", r.status, after, r.body)
	}

	release()
	devtest.Eventually(t, "sends are taken again", func() bool {
		_, err := ann.http.Send(t.Context(), textTo(bob.id, "after"), false)
		return err == nil
	})
	said = append(said, "after")
	devtest.Eventually(t, "all is stored", func() bool { return int(bob.row(conv).LastSeq) >= len(said) })
	var stored []string
	for _, m := range bob.history(conv) {
		stored = append(stored, textOf(m))
	}
	equal(t, "what was accepted, in its order", stored, said)
}

// rss is what a process holds of memory, in bytes; 0 where that cannot be seen.
func (c *child) rss() int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10
}

// flat is how much more a process may hold under a fault than under the same load without
// one, in bytes. Its queues are full of what waits for 5 s; what grew without a bound would
// grow by that each time.
const flat = 96 << 20

// crowd is a hundred who ask at once and wait for nobody, beside a load.
type crowd struct {
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex // guards what follows
	codes map[string]int
	worst time.Duration
}

func startCrowd(t *testing.T, base, socket string) *crowd {
	t.Helper()
	c := &crowd{stop: make(chan struct{}), codes: map[string]int{}}
	names := make([]string, 10)
	for i := range names {
		names[i] = fmt.Sprint("crowd", i)
	}
	people := enrol(t, base, socket, names...)
	text := strings.Repeat("x", 1<<10)
	for i := range 100 {
		from, to := people[i%10], people[(i+1+i/10)%10]
		c.done.Go(func() {
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				start, code := time.Now(), "ok"
				if _, err := from.http.Send(context.Background(), textTo(to.id, text), false); err != nil {
					code = "no answer"
					var e *protocol.Error
					if errors.As(err, &e) {
						code = e.Code
					}
				}
				c.mu.Lock()
				c.codes[code]++
				c.worst = max(c.worst, time.Since(start))
				c.mu.Unlock()
			}
		})
	}
	return c
}

func (c *crowd) finish() {
	close(c.stop)
	c.done.Wait()
}

// A process as shipped under load, while a store is slow or away: what it holds stays
// within its bounds, whoever asks is answered in time (see load.byHTTP), and afterwards
// all that was accepted is there once. Who does not read is in
// TestFlood_SlowReaderIsClosedAndComesBackExact.
func TestBackpressure_MemoryIsFlatWhateverIsSlowOrAway(t *testing.T) {
	for name, test := range map[string]struct {
		real    bool // needs a server to stand before
		breakIt func(*devtest.Stack)
		met     string // a figure that says the fault is met, and how high
		most    float64
		heal    func(*devtest.Stack)
	}{
		"MySQL is 200 ms away": {true, func(s *devtest.Stack) { s.DB.Slow(200 * time.Millisecond) },
			`curlew_logic_overloaded_total{reason="age"}`, 200, func(s *devtest.Stack) { s.DB.Slow(0) }},
		"Kafka is away": {false, func(s *devtest.Stack) { s.Kafka.Stop() },
			`curlew_logic_sends_refused_total{code="queue_unavailable"}`, 50, func(s *devtest.Stack) { s.Kafka.Start() }},
		"Kafka is frozen": {false, func(s *devtest.Stack) { s.Kafka.Pause() },
			`curlew_logic_sends_refused_total{code="outcome_unknown"}`, 20, func(s *devtest.Stack) { s.Kafka.Resume() }},
	} {
		t.Run(name, func(t *testing.T) {
			if test.real && !devtest.Real() {
				t.Skip("needs MySQL behind a proxy: the addresses of real stores are not set")
			}
			s := devtest.Start(t, devtest.OwnKafka)
			set := map[string]string{
				// A minute's worth of backlog in seconds: small batches, a low bound.
				"logic.max_backlog_age": "5s", "jobs.realtime.batch": "10",
			}
			maps.Copy(set, map[string]string{"logic.send_per_second": "-1", "connector.messages_per_second": "-1"})
			c := newChild(t, s, set)
			c.start()
			l := startLoad(t, c.http(), c.socket())
			many := startCrowd(t, c.http(), c.socket())
			l.more(500)
			before := c.rss()
			peak := before
			test.breakIt(s)
			start := time.Now()
			figure := func() float64 {
				f, _ := strconv.ParseFloat(metric("http://"+c.settings["admin.listen"], test.met), 64)
				return f
			}
			devtest.Eventually(t, test.met, func() bool {
				peak = max(peak, c.rss())
				return figure() >= test.most
			})
			lasted := time.Since(start)
			many.finish()
			peak = max(peak, c.rss())
			test.heal(s)
			l.recovered("after " + name)
			l.more(200)
			l.finish()
			l.check(true)
			const mib = 1 << 20
			t.Logf("%s for %.1f s: the crowd was answered %v, after %.1f s at most; %s %.0f; RSS %.1f MiB before, %+.1f at most, %+.1f after",
				name, lasted.Seconds(), many.codes, many.worst.Seconds(), test.met, figure(),
				float64(before)/mib, float64(peak-before)/mib, float64(c.rss()-before)/mib)
			if many.codes["no answer"] > 0 {
				t.Errorf("%d sends were not answered", many.codes["no answer"])
			}
			if peak-before > flat {
				t.Errorf("it holds %d MiB more", (peak-before)/mib)
			}
		})
	}
}

// The broker has lost the end of its log: the partition stops, is seen wherever an operator
// looks, takes nothing more, and goes on where the operator says.
func TestConsumers_AStoppedPartitionIsSeenAndResumed(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	ann, bob, conv := e.pair(t)
	ann.connect("phone").say(bob, "one")
	e.stop()

	partition := queue.Partition(conv, e.cfg.Queue.Partitions)
	lane := strconv.Itoa(partition)
	stand(t, e.cfg, partition, 1000)
	e = startEngine(t, s)
	ann, bob = ann.elsewhere(e), bob.elsewhere(e)
	topic := e.cfg.Queue.Prefix + string(im.LaneRealtime)
	devtest.Eventually(t, "readiness names it", func() bool {
		r := call{method: http.MethodGet, path: "/ready"}.do(t, e.admin, "")
		return r.status == http.StatusOK && bytes.Contains(r.body, []byte(topic+"/"+lane+" is stopped"))
	})
	devtest.Eventually(t, "the metric says so", func() bool {
		return metric(e.admin, `curlew_queue_partition_stopped{lane="realtime",partition="`+lane+`"}`) == "1"
	})
	var out bytes.Buffer
	operate := func(args ...string) error {
		out.Reset()
		o := &operator{base: e.admin, load: func() (admin.Config, error) { return e.cfg.Admin, nil }, out: &out}
		cmd := o.lagCommand()
		cmd.SetArgs(args)
		return cmd.ExecuteContext(t.Context())
	}
	must(t, operate())
	row := ""
	for line := range strings.Lines(out.String()) {
		if f := strings.Fields(line); len(f) > 7 && f[0] == "realtime" && f[1] == lane {
			row = f[5] + " " + f[7]
		}
	}
	if row != "1000 stopped" {
		t.Errorf("curlew lag says %q:\n%s", row, out.String())
	}
	devtest.Eventually(t, "what is sent there is refused", func() bool {
		_, err := ann.http.Send(t.Context(), textTo(bob.id, "refused or stored later"), false)
		var refused *protocol.Error
		return errors.As(err, &refused) && refused.Code == "overloaded"
	})

	if err := operate("resume", "realtime", strconv.Itoa((partition+1)%e.cfg.Queue.Partitions), "earliest"); err == nil {
		t.Error("resumed a partition that goes on")
	}
	must(t, operate("resume", "realtime", lane, "earliest"))
	again(t, "sends are taken again", func() error {
		_, err := ann.http.Send(context.Background(), textTo(bob.id, "two"), false)
		return err
	})
	devtest.Eventually(t, "it is stored", func() bool {
		h := bob.history(conv)
		return len(h) > 0 && textOf(h[len(h)-1]) == "two"
	})
	if h := bob.history(conv); textOf(h[0]) != "one" || len(h) > 1 && textOf(h[1]) == "one" {
		t.Errorf("what was done already was done again: %v", h)
	}
	devtest.Eventually(t, "all is well", func() bool {
		return bytes.Contains(call{method: http.MethodGet, path: "/ready"}.do(t, e.admin, "").body, []byte(`"status":"ready"`))
	})
}

// stand commits an offset for the workers of a lane, while there are none.
func stand(t *testing.T, cfg *configs.Config, partition int, offset int64) {
	t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	broker := &kafka.Client{Addr: kafka.TCP(cfg.Queue.Brokers...), Transport: transport, Timeout: 10 * time.Second}
	topic := cfg.Queue.Prefix + string(im.LaneRealtime)
	res, err := broker.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
		GroupID: cfg.Queue.GroupPrefix + string(im.LaneRealtime), GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: partition, Offset: offset}}},
	})
	if err == nil {
		err = res.Topics[topic][0].Error
	}
	must(t, err)
}

// A worker that is told to stop finishes what it has, says goodbye, and the other goes on
// where it was: nobody waits for the end of its session, which is a minute away.
func TestConsumers_WhoStopsHandsOverWhatItHas(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	shipped := func(c *configs.Config) {
		c.Queue.SessionTimeout, c.Queue.RebalanceTimeout, c.Queue.Heartbeat, c.Queue.JoinBackoff = time.Minute, 10*time.Second, 2*time.Second, time.Second
	}
	e := startEngine(t, s, shipped)
	other := startEngine(t, s, shipped, roles(configs.RoleJobs))
	l := startLoad(t, e.http, e.socket)
	devtest.Eventually(t, "the other has its part", func() bool { return metric(other.admin, `curlew_queue_fetched_total{lane="realtime"}`) != "" })
	l.more(200)
	start := time.Now()
	other.stop()
	left := time.Since(start)
	// One message into each partition, whoever had it.
	ann := l.people[0]
	for p := range e.cfg.Queue.Partitions {
		to := im.UserID(0)
		for _, q := range l.people[1:] {
			if queue.Partition(im.DirectConversation(ann.id, q.id), e.cfg.Queue.Partitions) == p {
				to = q.id
			}
		}
		if to == 0 {
			continue
		}
		m := textTo(to, fmt.Sprint("into partition ", p))
		devtest.Eventually(t, "it is stored", func() bool {
			sent, err := ann.http.Send(t.Context(), m, true)
			if err == nil && sent.State == protocol.StateStored {
				l.mu.Lock()
				conv := im.DirectConversation(ann.id, to)
				l.said[conv] = append(l.said[conv], &saying{from: ann, text: fmt.Sprint("into partition ", p), res: sent})
				l.mu.Unlock()
				return true
			}
			return false
		})
	}
	t.Logf("stopped after %.1f s; each partition went on after %.1f s at most", left.Seconds(), time.Since(start).Seconds())
	l.more(100)
	l.finish()
	l.check(true)
}
