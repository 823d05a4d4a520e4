package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
	leastconn "github.com/curlew-im/curlew/scripts/devtest/balancer"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// talk is people who all write to each other in rounds: the next one begins when the last
// is stored.
type talk struct {
	t       *testing.T
	people  []*person
	devices []*device
	rounds  atomic.Int64 // ended, of all together
	said    []int        // rounds of each
	stop    chan struct{}
	done    sync.WaitGroup
}

// talkers have 105 conversations: enough to spread evenly over a few partitions (of two
// processes, less than 30 % for one happens once in 30,000 runs).
const talkers = 15

func startTalk(t *testing.T, base, socket string) *talk {
	t.Helper()
	var names []string
	for i := range talkers {
		names = append(names, fmt.Sprintf("talker%02d", i))
	}
	k := &talk{t: t, people: enrol(t, base, socket, names...), said: make([]int, talkers), stop: make(chan struct{})}
	for _, p := range k.people {
		k.devices = append(k.devices, p.connect("phone"))
	}
	for i := range k.devices {
		k.done.Go(func() { k.speak(i) })
	}
	return k
}

func (k *talk) speak(i int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for ; ; k.said[i]++ {
		select {
		case <-k.stop:
			return
		default:
		}
		var open []*client.Outgoing
		for j, to := range k.people {
			if j == i {
				continue
			}
			o, err := k.devices[i].SendText(client.ToUser(to.id), fmt.Sprint(k.people[i].name, " ", k.said[i]))
			if err != nil {
				k.t.Error(err)
				return
			}
			open = append(open, o)
		}
		for _, o := range open {
			if _, err := o.Stored(ctx); err != nil {
				k.t.Errorf("%s, round %d: %v", k.people[i].name, k.said[i], err)
				return
			}
		}
		k.rounds.Add(1)
	}
}

// more waits until everybody has, on average, spoken n rounds more.
func (k *talk) more(n int64) {
	k.t.Helper()
	from := k.rounds.Load()
	devtest.Eventually(k.t, fmt.Sprint(n, " more rounds"), func() bool { return k.rounds.Load() >= from+n*talkers })
}

// finish ends the talking and holds what everybody was shown, and what is stored, to what
// was said: all, once, in order.
func (k *talk) finish() {
	k.t.Helper()
	close(k.stop)
	k.done.Wait()
	for i, p := range k.people {
		for j, q := range k.people {
			if i == j {
				continue
			}
			conv := im.DirectConversation(p.id, q.id)
			var want []string
			for n := range k.said[j] {
				want = append(want, fmt.Sprint(q.name, " ", n))
			}
			devtest.Eventually(k.t, fmt.Sprintf("%s was shown all that %s has said", p.name, q.name), func() bool {
				return len(k.devices[i].texts(conv)) >= len(want)
			})
			equal(k.t, fmt.Sprintf("what %s was shown of %s", p.name, q.name), k.devices[i].texts(conv), want)
			if i < j {
				equal(k.t, string(conv), seqsOf(p.history(conv)), sequence(1, im.Seq(k.said[i]+k.said[j])))
			}
		}
	}
	k.t.Logf("%d rounds of %d messages", k.rounds.Load(), talkers-1)
}

// owned is how many partitions of a lane each member of its group has, by the broker's word.
func owned(t *testing.T, cfg *configs.Config, lane im.Lane) (each []int) {
	t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	c := &kafka.Client{Addr: kafka.TCP(cfg.Queue.Brokers...), Timeout: 10 * time.Second, Transport: transport}
	res, err := c.DescribeGroups(t.Context(), &kafka.DescribeGroupsRequest{GroupIDs: []string{cfg.Queue.GroupPrefix + string(lane)}})
	if err != nil {
		return nil // it is asked again
	}
	for _, g := range res.Groups {
		for _, m := range g.Members {
			n := 0
			for _, topic := range m.MemberAssignments.Topics {
				n += len(topic.Partitions)
			}
			each = append(each, n)
		}
	}
	slices.Sort(each)
	return each
}

// shareOf waits until each lane's partitions are shared out so.
func shareOf(t *testing.T, cfg *configs.Config, want ...int) {
	t.Helper()
	for _, lane := range []im.Lane{im.LaneRealtime, im.LaneDelay, im.LaneDead} { // retry is read where a notifier is set
		var got []int
		devtest.Eventually(t, fmt.Sprintf("partitions of %s are shared out as %v", lane, want), func() bool {
			got = owned(t, cfg, lane)
			return slices.Equal(got, want)
		})
	}
}

// counted is a metric of an engine as a number; 0 where there is none yet.
func (e *engine) counted(name string) float64 {
	n, _ := strconv.ParseFloat(metric(e.admin, name), 64)
	return n
}

// shared holds that what was counted since is shared: no process below 30 % of two.
func shared(t *testing.T, what, name string, since map[*engine]float64) {
	t.Helper()
	sum, did := 0.0, make(map[*engine]float64)
	for e, from := range since {
		did[e] = e.counted(name) - from
		sum += did[e]
	}
	for _, n := range did {
		if share := n / sum; share < 0.3 {
			t.Errorf("%s: one process did %.0f of %.0f", what, n, sum)
		}
		t.Logf("%s: %.0f of %.0f", what, n, sum)
	}
}

// A second process of workers joins under load, and has half of the partitions of each lane
// and its part of the work; then the first one goes, and a third comes. Nothing is lost,
// doubled or out of order.
func TestScale_WorkersShareTheWork(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, front())
	const handled = `curlew_queue_fetched_total{lane="realtime"}`
	first := startEngine(t, s, roles(configs.RoleJobs))
	shareOf(t, e.cfg, 4)
	k := startTalk(t, e.http, e.socket)
	k.more(2)
	for range 2 {
		second := startEngine(t, s, roles(configs.RoleJobs))
		shareOf(t, e.cfg, 2, 2)
		k.more(1) // what the first had taken of the others' is done
		since := map[*engine]float64{first: first.counted(handled), second: second.counted(handled)}
		k.more(4)
		shared(t, "records", handled, since)
		first.stop()
		shareOf(t, e.cfg, 4)
		k.more(2)
		first = second
	}
	k.finish()
}

// A second connector joins under load: what is open stays, who comes back goes there, and
// as soon as it has its part of the connections it has its part of the messages. Then the
// first one hands over its clients and goes. Nothing is lost, doubled or out of order.
func TestScale_ConnectorsShareTheClients(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	e := between.engine(t, s, configs.RoleLogic, configs.RoleJobs, configs.RoleAPI)
	inFront, err := leastconn.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inFront.Close)
	connector := func() (*engine, string) {
		at := ports.Free(t)
		c := startEngine(t, s, roles(configs.RoleConnector), func(c *configs.Config) {
			c.Connector.Listen, c.Connector.Upstream.Addresses, c.Connector.DrainTime = at, []string{string(between)}, time.Second
		})
		inFront.Add(at)
		return c, at
	}
	const taken = "curlew_connector_messages_total"
	first, at := connector()
	k := startTalk(t, e.http, "ws://"+inFront.Addr()+"/v1/ws")
	k.more(2)
	for range 2 {
		second, there := connector()
		k.more(1)
		if n := inFront.Connections(); n[at] != talkers || n[there] != 0 {
			t.Errorf("%d and %d connections: what is open stays", n[at], n[there])
		}
		devtest.Eventually(t, "the newcomer has its connections", func() bool {
			if inFront.Connections()[there] >= talkers/2 {
				return true
			}
			inFront.Cut(1)
			return false
		})
		k.more(1) // who was cut off is back
		since := map[*engine]float64{first: first.counted(taken), second: second.counted(taken)}
		k.more(4)
		shared(t, "messages", taken, since)
		first.stop()
		inFront.Remove(at)
		devtest.Eventually(t, "all are with the other", func() bool { return inFront.Connections()[there] == talkers })
		k.more(2)
		first, at = second, there
	}
	k.finish()
}
