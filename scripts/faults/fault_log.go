package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// logFaults are of the log's readers, and of what they read.
var logFaults = []fault{
	{name: "F19", about: "records that can never be stored are put straight into the log", full: 20, hold: time.Second, inject: poisonLog},
	{name: "F20", about: "workers come and go all the time, in good order and killed", full: 60, hold: churnHold, inject: churn},
}

// parkedIn is the topic of realtime, in which all of it is put.
const parkedIn = "im.realtime"

// neighbour is the most that a record behind poison may be later for it, in seconds; what
// is beyond is said on the line.
const neighbour = 5

// poisonLog puts one of each kind into each partition, and behind it asks how long a
// message takes there. Each must become a dead letter, be counted where an alarm is set,
// and never be seen.
func poisonLog(ctx context.Context, c *cluster) (func(context.Context) error, error) {
	w := c.load.w
	before, err := c.probe(ctx)
	if err != nil {
		return nil, err
	}
	alarm := c.alarm(ctx)
	kafkas := &kafka.Client{Addr: kafka.TCP(strings.Split(c.stores.addr("kafka"), ",")...), Timeout: 10 * time.Second}
	n := (queue.Config{}).WithDefaults().Partitions
	run := "poison-" + random()[:8]
	put := make(map[letter]string)
	for _, u := range w.marks {
		conv := im.DirectConversation(w.marker.id, u)
		all, err := poisons(run, conv, w.marker.id)
		if err != nil {
			return nil, err
		}
		part := queue.Partition(conv, n)
		first, err := produce(ctx, kafkas, part, all)
		if err != nil {
			return nil, err
		}
		for i, p := range all {
			put[letter{part, first + int64(i)}] = p.kind
		}
	}
	c.tally.count("poison", float64(len(put)))
	c.tally.broke(len(w.marks) == n, "only %d of %d partitions have poison", len(w.marks), n)
	after, err := c.probe(ctx)
	if err != nil {
		return nil, err
	}
	for u, d := range after {
		c.tally.sample("neighbour_s", neighbour, max(0, d-before[u]).Seconds())
	}
	return func(ctx context.Context) error {
		if err := c.parked(ctx, put); err != nil {
			return err
		}
		if moved := c.alarm(ctx) - alarm; moved < float64(len(put)) {
			c.tally.add("lost", "the alarm of dead letters has moved by %g for %d", moved, len(put))
		}
		c.tally.atEnd(func(ctx context.Context, _ *ending) error { return c.buried(ctx, run, put) })
		return nil
	}, nil
}

// letter is where a record was put.
type letter struct {
	partition int
	offset    int64
}

// produce puts records into a partition and returns where the first is.
func produce(ctx context.Context, kafkas *kafka.Client, part int, all []poison) (first int64, err error) {
	records := make([]kafka.Record, len(all))
	for i, p := range all {
		records[i] = kafka.Record{Time: time.Now(), Key: kafka.NewBytes([]byte("poison")), Value: kafka.NewBytes(p.value)}
	}
	res, err := kafkas.Produce(ctx, &kafka.ProduceRequest{
		Topic: parkedIn, Partition: part, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return 0, err
	}
	return res.BaseOffset, nil
}

// probe is how long a message takes in each partition until it is stored, by whom it is to.
func (c *cluster) probe(ctx context.Context) (map[im.UserID]time.Duration, error) {
	var mu sync.Mutex
	took := make(map[im.UserID]time.Duration)
	w := c.load.w
	err := parallel(ctx, w.marks, func(u im.UserID) error {
		m := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(u), Content: text("probe")}
		asked := time.Now()
		err := insistently(ctx, func() error {
			s, err := w.marker.http(c.load.base()).Send(ctx, m, true)
			if err == nil && s.State != protocol.StateStored {
				err = errNotStored
			}
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		took[u] = time.Since(asked)
		return err
	})
	return took, err
}

// alarm is what the workers count of records given up, of either kind.
func (c *cluster) alarm(ctx context.Context) (n float64) {
	for _, p := range c.of("jobs") {
		n += p.counter(ctx, `curlew_jobs_messages_total{result="dead"}`) + p.counter(ctx, `curlew_jobs_messages_total{result="dead_unreadable"}`)
	}
	return n
}

// parked waits until each record is a dead letter. What never becomes one is lost.
func (c *cluster) parked(ctx context.Context, put map[letter]string) error {
	missing := ""
	err := insistently(ctx, func() error {
		found, err := c.letters(ctx)
		if err != nil {
			return err
		}
		missing = ""
		for l, kind := range put {
			if found[l] == 0 {
				missing = kind
				return errNotParked
			}
		}
		return nil
	})
	if err != nil && missing != "" && ctx.Err() == nil {
		return nil // buried says which
	}
	return err
}

// letters are the dead letters of the topic and how many there are of each.
func (c *cluster) letters(ctx context.Context) (map[letter]int, error) {
	rows, err := c.stores.admin.QueryContext(ctx, "SELECT partition_no, record_offset, COUNT(*) FROM "+database+".dead WHERE topic = ? GROUP BY 1, 2", parkedIn)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[letter]int)
	for rows.Next() {
		var l letter
		var n int
		if err := rows.Scan(&l.partition, &l.offset, &n); err != nil {
			return nil, err
		}
		found[l] = n
	}
	return found, rows.Err()
}

// buried holds the dead letters to what was put, when the run has ended: each is there
// once, and nobody was ever shown it.
func (c *cluster) buried(ctx context.Context, run string, put map[letter]string) error {
	found, err := c.letters(ctx)
	if err != nil {
		return err
	}
	c.tally.accounted(found, put)
	w := c.load.w
	for _, u := range w.marks {
		conv := im.DirectConversation(w.marker.id, u)
		var n int
		if err := c.stores.admin.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+database+".messages WHERE conversation = ? AND client_msg_id LIKE ?",
			string(conv), run+"%").Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			c.tally.add("phantom", "%d records that can never be stored are in %s", n, conv)
		}
	}
	return nil
}

// accounted holds dead letters to the records that must have become some.
func (t *tally) accounted(found map[letter]int, put map[letter]string) {
	for l, kind := range put {
		switch n := found[l]; {
		case n == 0:
			t.add("lost", "%s at %d of partition %d is no dead letter", kind, l.offset, l.partition)
		case n > 1:
			t.add("dup", "%s at %d of partition %d is %d dead letters", kind, l.offset, l.partition, n)
		}
	}
}
