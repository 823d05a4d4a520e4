package queue

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// lasting is a broker that can be stopped and started again on its port and data.
type lasting struct {
	t    *testing.T
	dir  string
	addr string
	b    *kfake.Cluster
}

func newLasting(t *testing.T) *lasting {
	l := &lasting{t: t, dir: t.TempDir(), addr: ports.Free(t)}
	l.start()
	t.Cleanup(func() { l.b.Close() })
	return l
}

func (l *lasting) start() {
	l.t.Helper()
	b, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(l.dir), kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, l.addr) }),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		l.t.Fatal(err)
	}
	l.b = b
}

func TestOutage_AcceptedTasksSurviveARestartInOrder(t *testing.T) {
	broker := newLasting(t)
	cfg := quick([]string{broker.addr})
	cfg.ProduceBudget, cfg.ProduceAttempt = time.Second, 500*time.Millisecond
	c := cluster(t, cfg)
	p := NewProducer(c, im.LaneRealtime)
	t.Cleanup(p.Close)
	got := newCollector()
	run(t, NewConsumer(c, im.LaneRealtime, got.handle))

	const convs = 4
	var mu sync.Mutex // guards accepted and failed
	accepted := make(map[im.ClientMsgID]bool)
	failed := 0
	var answered sync.WaitGroup
	next := make([]int, convs)
	produce := func(rounds int) {
		for range rounds {
			for i := range convs {
				task := send(im.DirectConversation(1, im.UserID(2+i)), next[i])
				next[i]++
				answered.Add(1)
				p.Produce(task, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						accepted[task.Send.ClientMsgID] = true
					case errors.Is(err, im.ErrQueue) || errors.Is(err, im.ErrUnknownOutcome):
						failed++
					default:
						t.Errorf("answered %v", err)
					}
					answered.Done()
				})
			}
		}
	}
	for range 3 {
		produce(50)
		broker.b.Close()
		produce(50)
		answered.Wait() // nothing hangs while the broker is away
		broker.start()
		for tries := 0; ; tries++ { // until it accepts again
			before := len(accepted)
			produce(1)
			answered.Wait()
			if len(accepted) > before {
				break
			}
			if tries > 50 {
				t.Fatal("nothing is accepted after the restart")
			}
		}
	}
	if failed == 0 {
		t.Error("nothing failed while the broker was away")
	}
	all := func(g []im.Task) bool {
		seen := make(map[im.ClientMsgID]bool)
		for _, task := range g {
			seen[task.Send.ClientMsgID] = true
		}
		for id := range accepted {
			if !seen[id] {
				return false
			}
		}
		return true
	}
	// The first copy of each task counts, as in the store. Those accepted must be in order.
	last := make(map[im.ConversationID]im.ClientMsgID)
	seen := make(map[im.ClientMsgID]bool)
	for _, task := range got.await(t, "everything accepted", all) {
		id := task.Send.ClientMsgID
		if seen[id] || !accepted[id] {
			continue
		}
		seen[id] = true
		if strings.Compare(string(last[task.Conversation]), string(id)) > 0 {
			t.Errorf("%s: %s after %s", task.Conversation, id, last[task.Conversation])
		}
		last[task.Conversation] = id
	}
}
