package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/curlew-im/curlew/logic/im"
)

// forget removes the log of partition 0 below an offset, as retention does.
func forget(t *testing.T, c *Cluster, below int64) {
	t.Helper()
	admin, err := kgo.NewClient(kgo.SeedBrokers(c.cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	req, topic, part := kmsg.NewPtrDeleteRecordsRequest(), kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Offset = below
	topic.Topic, topic.Partitions = c.Topic(im.LaneRealtime), append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	if code := res.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("delete records: %v", kafka.Error(code))
	}
}

// stand commits an offset of partition 0 for a group without members.
func stand(t *testing.T, c *Cluster, offset int64) {
	t.Helper()
	res, err := c.client.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
		GroupID: c.group(im.LaneRealtime), GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{c.Topic(im.LaneRealtime): {{Partition: 0, Offset: offset}}},
	})
	if err == nil {
		err = res.Topics[c.Topic(im.LaneRealtime)][0].Error
	}
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a fact.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// [Q4] A group whose next record is not in the log stops there, says so, moves nothing, and
// goes on where an operator says.
func TestConsumer_MissingRecordsStopThePartitionUntilAnOperatorResumesIt(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(t *testing.T, c *Cluster) // five records, 0 to 4, are in the log
		stands  int64                          // what is committed, before and after the stop
		resume  int64
		want    []int64 // what is then handed out
	}{
		"retention outran the group": {func(t *testing.T, c *Cluster) { stand(t, c, 1); forget(t, c, 3) }, 1, im.OffsetEarliest, []int64{3, 4}},
		"the broker lost its end":    {func(t *testing.T, c *Cluster) { stand(t, c, 50) }, 50, 2, []int64{2, 3, 4}},
		"nothing was committed, and the log does not begin at its beginning": {
			func(t *testing.T, c *Cluster) { forget(t, c, 4) }, -1, im.OffsetEarliest, []int64{4}},
	} {
		t.Run(name, func(t *testing.T) {
			brokers(t, func(t *testing.T, addrs []string) {
				cfg := quick(addrs)
				cfg.Partitions = 1
				c := cluster(t, cfg)
				p := NewProducer(c, im.LaneRealtime)
				t.Cleanup(p.Close)
				for n := range 5 {
					if err := produceAll(p, []im.Task{send("d1-2", n)})[0]; err != nil {
						t.Fatal(err)
					}
				}
				test.arrange(t, c)
				got, stopped := make(chan int64, 8), make(chan error, 8)
				run(t, NewConsumer(c, im.LaneRealtime, func(ctx context.Context, a *Assignment) {
					for {
						records, err := a.Fetch(ctx)
						if err != nil {
							if ctx.Err() == nil {
								stopped <- err
							}
							<-ctx.Done()
							return
						}
						for _, r := range records {
							got <- r.Offset
						}
						_ = a.Commit(records[len(records)-1].Offset + 1)
					}
				}))
				if err := <-stopped; !errors.Is(err, ErrMissing) {
					t.Fatalf("got %v", err)
				}
				if len(got) > 0 {
					t.Fatalf("handed out %d before it stopped", <-got)
				}
				checkStopped(t, c, test.stands)
				if _, err := c.Resume(t.Context(), im.LaneRealtime, 0, 6); err == nil {
					t.Fatal("resumed beyond the end")
				}
				if _, err := c.Resume(t.Context(), im.LaneRealtime, 1, 0); !errors.Is(err, im.ErrConflict) {
					t.Fatalf("another partition: %v", err)
				}
				at, err := c.Resume(t.Context(), im.LaneRealtime, 0, test.resume)
				if err != nil || at != test.want[0] {
					t.Fatalf("resume: %d, %v", at, err)
				}
				for _, want := range test.want {
					if offset := <-got; offset != want {
						t.Fatalf("handed out %d, want %d", offset, want)
					}
				}
				eventually(t, "all are done from there", func() bool {
					all, err := c.positions(t.Context(), im.LaneRealtime)
					return err == nil && all[0].Committed == 5
				})
				if err := c.Sound(t.Context()); err != nil {
					t.Errorf("after it was resumed: %v", err)
				}
				if _, err := c.Resume(t.Context(), im.LaneRealtime, 0, 0); !errors.Is(err, im.ErrConflict) {
					t.Errorf("resumed while it goes on: %v", err)
				}
			})
		})
	}
}

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

// checkStopped says that a stopped partition is seen wherever an operator looks, and that
// its offset is where it was.
func checkStopped(t *testing.T, c *Cluster, committed int64) {
	t.Helper()
	eventually(t, "the alarms", func() bool { return c.Sound(t.Context()) != nil })
	if err := c.Sound(t.Context()); !strings.Contains(err.Error(), c.Topic(im.LaneRealtime)+"/0 is stopped") {
		t.Errorf("ready says %v", err)
	}
	if n := gauge(t, c.m.stopped.WithLabelValues("realtime", "0")); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	lag, err := c.Lag(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l := lag[0]; !l.Stopped || !l.Missing || l.Committed != committed || !strings.HasPrefix(l.Owner, "curlew-") {
		t.Errorf("the lag: %+v", l)
	}
}

// [Q4] A hole that the broker does not speak of is found by the offsets.
func TestRead_AHoleStopsWhatCameBeforeIsKept(t *testing.T) {
	log := func(offsets ...int64) protocol.RecordReader {
		var records []protocol.Record
		for _, o := range offsets {
			records = append(records, protocol.Record{Offset: o, Time: time.UnixMilli(1), Value: protocol.NewBytes([]byte("x"))})
		}
		return protocol.NewRecordReader(records...)
	}
	a := &Assignment{next: 5}
	records, err := a.read(log(3, 4, 5, 6, 9))
	if err != nil || len(records) != 2 || a.next != 7 {
		t.Fatalf("before the hole: %d records, next %d, %v", len(records), a.next, err)
	}
	if records, err = a.read(log(9, 10)); !errors.Is(err, ErrMissing) || len(records) != 0 || a.next != 7 {
		t.Fatalf("at the hole: %d records, next %d, %v", len(records), a.next, err)
	}
}

// [Q6] Partitions that somebody adds to the live topic get nothing and change nothing.
func TestConsumer_PartitionsAddedLiveAreLeftAlone(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		c := cluster(t, quick(addrs))
		p := NewProducer(c, im.LaneRealtime)
		t.Cleanup(p.Close)
		got := newCollector()
		var mu sync.Mutex
		owned := map[int]map[int]bool{} // partitions by member
		member := func(m int) Handler {
			return func(ctx context.Context, a *Assignment) {
				mu.Lock()
				if owned[m] == nil {
					owned[m] = map[int]bool{}
				}
				owned[m][a.place.Partition] = true
				mu.Unlock()
				got.handle(ctx, a)
				mu.Lock()
				delete(owned[m], a.place.Partition)
				mu.Unlock()
			}
		}
		run(t, NewConsumer(c, im.LaneRealtime, member(0)))
		const rounds, convs = 200, 16
		acked := 0
		produce := func(from int) {
			for n := from; n < from+rounds; n++ {
				var tasks []im.Task
				for conv := range convs {
					tasks = append(tasks, send(im.DirectConversation(1, im.UserID(2+conv)), n))
				}
				acked += convs
				for len(tasks) > 0 { // again what a busy machine did not hand over in time
					var left []im.Task
					for i, err := range produceAll(p, tasks) {
						if err != nil {
							left = append(left, tasks[i])
						}
					}
					tasks = left
				}
			}
		}
		var load sync.WaitGroup
		load.Go(func() { produce(0) })
		res, err := c.client.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{
			Topics: []kafka.TopicPartitionsConfig{{Name: c.Topic(im.LaneRealtime), Count: 12}},
		})
		if err == nil {
			err = res.Errors[c.Topic(im.LaneRealtime)]
		}
		if err != nil {
			t.Fatal(err)
		}
		load.Wait()
		run(t, NewConsumer(c, im.LaneRealtime, member(1))) // shares out what there is now
		produce(rounds)
		eventually(t, "each member has two of the four", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(owned[0]) == 2 && len(owned[1]) == 2
		})
		tasks := got.await(t, "everything", func(all []im.Task) bool {
			distinct := make(map[im.ClientMsgID]bool, len(all))
			for _, task := range all {
				distinct[task.Send.ClientMsgID] = true
			}
			return len(distinct) == acked
		})
		next := map[im.ConversationID]int{}
		for _, task := range tasks {
			switch want := send(task.Conversation, next[task.Conversation]).Send.ClientMsgID; {
			case task.Send.ClientMsgID == want:
				next[task.Conversation]++
			case task.Send.ClientMsgID > want:
				t.Fatalf("%s: got %s, want %s", task.Conversation, task.Send.ClientMsgID, want)
			}
		}
		for partition := 4; partition < 12; partition++ {
			if end := endOf(t, c, partition); end != 0 {
				t.Errorf("partition %d has %d records", partition, end)
			}
		}
		eventually(t, "the alarm", func() bool {
			if err := c.count(t.Context()); err != nil {
				t.Fatal(err)
			}
			return c.Sound(t.Context()) != nil
		})
		if n := gauge(t, c.m.unpinned.WithLabelValues("realtime")); n != 8 {
			t.Errorf("the metric says %v", n)
		}
	})
}

func endOf(t *testing.T, c *Cluster, partition int) int64 {
	t.Helper()
	topic := c.Topic(im.LaneRealtime)
	res, err := c.client.ListOffsets(t.Context(), &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}},
	})
	if err != nil || res.Topics[topic][0].Error != nil {
		t.Fatal(err, res)
	}
	return res.Topics[topic][0].LastOffset
}

// A member that leaves says goodbye: its partitions are handed over long before its
// session, a minute, times out.
func TestConsumer_WhoLeavesHandsOverAtOnce(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		cfg := quick(addrs)
		shipped := Config{}.WithDefaults()
		cfg.Heartbeat, cfg.SessionTimeout, cfg.RebalanceTimeout, cfg.JoinBackoff = shipped.Heartbeat, time.Minute, shipped.RebalanceTimeout, shipped.JoinBackoff
		c := cluster(t, cfg)
		var mu sync.Mutex
		owned := [2]map[int]bool{{}, {}}
		member := func(m int) Handler {
			return func(ctx context.Context, a *Assignment) {
				mu.Lock()
				owned[m][a.place.Partition] = true
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				delete(owned[m], a.place.Partition)
				mu.Unlock()
			}
		}
		has := func(m, n int) func() bool {
			return func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(owned[m]) == n
			}
		}
		run(t, NewConsumer(c, im.LaneRealtime, member(0)))
		eventually(t, "one has all", has(0, 4))
		start := time.Now()
		leave := run(t, NewConsumer(c, im.LaneRealtime, member(1)))
		eventually(t, "two share", func() bool { return has(0, 2)() && has(1, 2)() })
		joined := time.Since(start)
		start = time.Now()
		leave()
		left := time.Since(start)
		eventually(t, "the other has all", has(0, 4))
		t.Logf("joined after %s; left after %s, handed over after %s, with the shipped heartbeat and timeouts", joined.Round(time.Millisecond), left.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	})
}
