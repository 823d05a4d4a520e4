package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// One user's limit is one over two nodes and two protocols. What is refused says when
// to come back, and never appears.
func TestLimits_HoldOverNodesAndProtocols(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	const rate, burst = 20, 40
	limited := func(c *configs.Config) { c.Logic.SendPerSecond, c.Logic.SendBurst = rate, burst }
	one, two := startEngine(t, s, limited), startEngine(t, s, limited)
	ada, bob, conv := one.pair(t)
	there := *ada
	there.base, there.socket = two.http, two.socket
	there.http = &client.HTTP{Base: two.http, Token: ada.http.Token}
	phone, tablet := ada.wire("phone"), there.wire("tablet")

	var mu sync.Mutex
	taken, refused := map[string]bool{}, 0
	start := time.Now()
	var wg sync.WaitGroup
	for i, send := range []func(protocol.Send) error{
		func(m protocol.Send) error { return asError(phone.ask("1", protocol.CmdSend, m).Error) },
		func(m protocol.Send) error { return asError(tablet.ask("1", protocol.CmdSend, m).Error) },
		func(m protocol.Send) error { _, err := ada.http.Send(context.Background(), m, false); return err },
		func(m protocol.Send) error { _, err := there.http.Send(context.Background(), m, false); return err },
	} {
		wg.Go(func() {
			for n := range 100 {
				text := fmt.Sprint("way ", i, " message ", n)
				err := send(textTo(bob.id, text))
				mu.Lock()
				var e *protocol.Error
				switch {
				case err == nil:
					taken[text] = true
				case errors.As(err, &e) && e.Code == "rate_limited" && e.Outcome == im.OutcomeRefused && e.Retryable && e.RetryAfterMS > 0:
					refused++
				default:
					t.Errorf("%s: %v", text, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// Each node may have drawn some tokens ahead and not spent them: less is fine.
	if most := burst + rate*(time.Since(start).Seconds()+1); float64(len(taken)) > most {
		t.Errorf("%d of 400 were taken in %s, more than %.0f", len(taken), time.Since(start), most)
	}
	if refused == 0 || len(taken) == 0 {
		t.Errorf("%d taken, %d refused", len(taken), refused)
	}
	devtest.Eventually(t, "what was taken is stored", func() bool { return len(bob.history(conv)) >= len(taken) })
	ms := bob.history(conv)
	for _, m := range ms {
		if !taken[textOf(m)] {
			t.Errorf("%q was refused and is there", textOf(m))
		}
	}
	if len(ms) != len(taken) {
		t.Errorf("%d messages, %d were taken", len(ms), len(taken))
	}
}

func asError(e *protocol.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// A connection that floods is closed with 4529, and others do not notice.
func TestLimits_FloodedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), func(c *configs.Config) {
		c.Connector.MessagesPerSecond, c.Connector.MessageBurst = 20, 40
	})
	ada, bob, conv := e.pair(t)
	phone := bob.connect("phone")
	w := ada.wire("flood")
	for range 2000 {
		w.frame(1, []byte(`{"id":"1","cmd":"ping","data":{}}`))
	}
	if code, reason := w.ends(); code != protocol.CloseRateLimited {
		t.Errorf("closed with %d %s", code, reason)
	}
	ada.connect("phone").say(bob, "still here")
	devtest.Eventually(t, "Bob has it", func() bool { return len(phone.texts(conv)) == 1 })
}

// Records that are no tasks are parked; their neighbours in the partition flow.
func TestWorker_GarbageInTheLogIsParked(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	l.more(50)
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	broker := &kafka.Client{Addr: kafka.TCP(e.cfg.Queue.Brokers...), Transport: transport, Timeout: 10 * time.Second}
	garbage := [][]byte{nil, []byte("hello"), {1}, {1, 0xFF, 0xFF}, {9, 1, 2, 3}, bytes.Repeat([]byte{1}, 60<<10)}
	for p := range e.cfg.Queue.Partitions {
		var records []kafka.Record
		for _, g := range garbage {
			records = append(records, kafka.Record{Key: kafka.NewBytes([]byte("d1-2")), Value: kafka.NewBytes(g)})
		}
		resp, err := broker.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: e.cfg.Queue.Prefix + string(im.LaneRealtime), Partition: p, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(records...),
		})
		if err != nil || resp.Error != nil {
			t.Fatal(err, resp)
		}
	}
	l.more(100)
	l.finish()
	l.check(true)
	want := fmt.Sprintf(`curlew_jobs_messages_total{result="dead_unreadable"} %d`, len(garbage)*e.cfg.Queue.Partitions)
	devtest.Eventually(t, "all of it is parked", func() bool {
		return bytes.Contains(call{method: http.MethodGet, path: "/metrics"}.do(t, e.admin, "").body, []byte(want))
	})
}
