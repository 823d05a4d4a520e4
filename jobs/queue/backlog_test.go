package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/curlew-im/curlew/logic/im"
)

func looked(t *testing.T, b *Backlog) {
	t.Helper()
	// A broker does not lead at once what it was given.
	eventually(t, "a look", func() bool { return b.look(t.Context()) == nil })
}

// earlier moves what was seen into the past.
func earlier(b *Backlog, d time.Duration) {
	v := &backlogView{parts: slices.Clone(b.seen.Load().parts)}
	for i := range v.parts {
		v.parts[i].at = v.parts[i].at.Add(-d)
	}
	b.seen.Store(v)
}

func TestBacklog_IsOfTheConversationsPartition(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		c := cluster(t, quick(addrs))
		p := NewProducer(c, im.LaneRealtime)
		t.Cleanup(p.Close)
		b := NewBacklog(c, im.LaneRealtime)
		if got := b.Backlog("d1-2"); got != (im.Backlog{}) {
			t.Fatalf("before it has looked: %+v", got)
		}
		looked(t, b)
		if got := b.Backlog("d1-2"); got != (im.Backlog{}) {
			t.Fatalf("of an empty log: %+v", got)
		}

		// Nobody works: the oldest record's age is what counts, however many follow.
		_ = produceAll(p, []im.Task{send("d1-2", 0)})
		first := time.Now() // it was produced before this
		_ = produceAll(p, []im.Task{send("d1-2", 1), send("d1-2", 2)})
		between := time.Since(first)
		earlier(b, 2*backlogEvery) // the last look is too long ago to say when they came
		looked(t, b)
		if got := b.Backlog("d1-2"); got.Records != 3 || got.Age < between-time.Millisecond { // Kafka's times are of milliseconds
			t.Fatalf("three wait: %+v", got)
		}
		if n := b.seen.Load().parts[Partition("d1-2", 4)].read; n != 0 {
			t.Errorf("the time is of record %d", n)
		}
		other := im.ConversationID("d1-3")
		for n := im.UserID(4); Partition(other, 4) == Partition("d1-2", 4); n++ {
			other = im.DirectConversation(1, n)
		}
		if got := b.Backlog(other); got != (im.Backlog{}) {
			t.Errorf("of a partition where nothing waits: %+v", got)
		}
		if got := b.Least(); got != (im.Backlog{}) {
			t.Errorf("the least: %+v", got)
		}

		// Somebody does.
		got := newCollector()
		run(t, NewConsumer(c, im.LaneRealtime, got.handle))
		got.await(t, "all", func(all []im.Task) bool { return len(all) == 3 })
		eventually(t, "nothing waits", func() bool {
			looked(t, b)
			return b.Backlog("d1-2") == im.Backlog{}
		})
	})
}

// What came since the last look is younger than it: who keeps up is never read.
func TestBacklog_WhoKeepsUpIsNotRead(t *testing.T) {
	broker := embedded(t)
	c := cluster(t, quick(broker.ListenAddrs()))
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	b := NewBacklog(c, im.LaneRealtime)
	looked(t, b)
	broker.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		t.Error("the log was read")
		return nil, nil, false
	})
	_ = produceAll(p, []im.Task{send("d1-2", 0)})
	looked(t, b)
	if got := b.Backlog("d1-2"); got.Records != 1 || got.Age <= 0 {
		t.Fatalf("got %+v", got)
	}
}

func TestBacklog_StandsForAWhileAndThenIsNotKnown(t *testing.T) {
	broker := embedded(t)
	c := cluster(t, quick(broker.ListenAddrs()))
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	_ = produceAll(p, []im.Task{send("d1-2", 0)})
	b := NewBacklog(c, im.LaneRealtime)
	looked(t, b)
	refuse(broker)
	if err := b.look(t.Context()); err == nil {
		t.Fatal("looked, and Kafka is away")
	}
	earlier(b, backlogKnown-backlogEvery)
	if got := b.Backlog("d1-2"); got.Records != 1 {
		t.Fatalf("seen 8 s ago: %+v", got)
	}
	earlier(b, 2*backlogEvery)
	if got := b.Backlog("d1-2"); got != (im.Backlog{}) {
		t.Fatalf("seen 12 s ago: %+v", got)
	}
}

// refuse has the broker answer no question about offsets any more.
func refuse(broker *kfake.Cluster) {
	broker.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		res := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		res.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return res, nil, true
	})
}

// What stands still for want of records is known wherever logic runs, without the owner.
func TestBacklog_SeesAStopTwiceBeforeItSaysSo(t *testing.T) {
	brokers(t, func(t *testing.T, addrs []string) {
		cfg := quick(addrs)
		cfg.Partitions = 1
		c := cluster(t, cfg)
		b := NewBacklog(c, im.LaneRealtime)
		stand(t, c, 50)
		eventually(t, "the first look", func() bool { return b.look(t.Context()) == nil })
		if got := b.Backlog("d1-2"); got.Stopped {
			t.Fatal("stopped at the first look: a new leader may not know its end yet")
		}
		looked(t, b)
		if got := b.Backlog("d1-2"); !got.Stopped || !b.Least().Stopped {
			t.Fatalf("got %+v", got)
		}
		stand(t, c, 0)
		looked(t, b)
		if got := b.Backlog("d1-2"); got.Stopped {
			t.Fatal("stopped after it was mended")
		}
	})
}

func TestBacklog_RunLooksUntilItsEnd(t *testing.T) {
	c := cluster(t, quick(embedded(t).ListenAddrs()))
	b := NewBacklog(c, im.LaneRealtime)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	eventually(t, "a look", func() bool { return b.seen.Load() != nil })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func BenchmarkBacklog(b *testing.B) {
	l := &Backlog{}
	v := &backlogView{parts: make([]backlogPart, 8)}
	for i := range v.parts {
		v.parts[i].at = time.Now().Add(time.Hour)
	}
	l.seen.Store(v)
	b.ReportAllocs()
	for b.Loop() {
		l.Backlog("d1234567-7654321")
	}
}
